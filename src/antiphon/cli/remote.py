"""A running server as a client sees it: where it is, what it offers, what it answers.

Must not know what is printed.
"""

import asyncio
from typing import NamedTuple

import msgspec

from antiphon.config import ConfigError
from antiphon.engine.ports.upstreams import ModelInfo, UpstreamError
from antiphon.upstreams.failures import failure_of
from antiphon.upstreams.http import Body, HttpClient, Receiver, Timeouts, Whole
from antiphon.upstreams.listing import ModelList, infos

#: How long a server may take to be connected to, and to say all that it offers.
CONNECT_SECONDS, OFFER_SECONDS = 1.0, 10.0

#: Models named in a message.
SHOWN_MAX = 12


class Offer(NamedTuple):
    """The models, and the one for clients that have no choice of their own; empty: there is none.

    ``ours``: it is Antiphon that offers them.
    """

    models: list[ModelInfo]
    default: str
    ours: bool = True

    def choice(self) -> str:
        """The model of whoever names none: the default, or the only one.  Raises ``ConfigError``."""
        if self.default or len(self.models) == 1:
            return self.default or self.models[0].id
        known = ", ".join(model.id for model in self.models[:SHOWN_MAX]) or "there is none"
        raise ConfigError(f"model: say which one with --model ({known}).")


class Remote:
    """One server.  Raises ``ConfigError`` for a base URL or a key that cannot be used.

    ``timeouts`` are those of responses: a model may be quiet for long before its first token, and between two.
    """

    def __init__(self, base_url: str, key: str | None = None, timeouts: Timeouts = Timeouts(CONNECT_SECONDS)) -> None:  # noqa: B008 - frozen
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigError("api_key: it has characters that a header cannot have.")
        try:
            self._client = HttpClient(base_url, timeouts)
        except ValueError as error:
            raise ConfigError(f"base_url: {error}.") from None
        self.base_url = self._client.base_url
        self.key = key
        self._headers = {"content-type": "application/json", "user-agent": "antiphon"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    async def offer(self) -> Offer:
        """What it offers.  Raises ``UpstreamError``."""
        whole = await self._get("/models")
        try:
            listed = msgspec.json.decode(bytes(whole.body), type=ModelList)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamError(f"{self.base_url} is no server of this API.") from None
        headers = whole.headers
        return Offer(infos(listed, ""), headers.get("x-antiphon-default-model", ""), "x-antiphon-instance" in headers)

    async def catalog(self) -> bytes:
        """The models as coding agents want them described, as JSON.  Raises ``UpstreamError``."""
        return bytes((await self._get("/models?client_version=1")).body)

    async def _get(self, path: str) -> Whole:
        whole = Whole()
        try:
            async with asyncio.timeout(OFFER_SECONDS):
                await self._client.send("GET", path, self._headers, Body(), whole)
        except TimeoutError:
            message = f"{self.base_url} did not answer within {OFFER_SECONDS:g} seconds."
            raise UpstreamError(message, status=504, code="upstream_timeout") from None
        if whole.status != 200:
            raise failure_of(whole.status, bytes(whole.body), whole.headers)
        return whole

    async def respond(self, body: bytes, receiver: Receiver) -> None:
        """One response, handed on as it comes.  Raises ``UpstreamError``."""
        await self._client.send("POST", "/responses", self._headers, Body(body), receiver)

    def close(self) -> None:
        self._client.close()
