"""Posts to webhook receivers: ``engine.webhooks.Post`` through ``fetching``.

Must not know what is posted.
"""

from collections.abc import Mapping

from antiphon.engine.webhooks import Undelivered
from antiphon.fetching import Fetcher, FetchError


class Poster:
    """Clients' receivers are reached within the rules for URLs of requests, the operator's at their own hosts too."""

    def __init__(self, clients: Fetcher, operators: Fetcher) -> None:
        self._clients = clients
        self._operators = operators

    def check(self, url: str) -> None:
        try:
            self._clients.check(url)
        except FetchError as error:
            raise Undelivered(error.message) from None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, static: bool) -> int:
        try:
            return await (self._operators if static else self._clients).post(url, body, headers)
        except FetchError as error:
            raise Undelivered(error.message) from None

    async def close(self) -> None:
        """Ends the connections."""
        await self._clients.close()
        await self._operators.close()
