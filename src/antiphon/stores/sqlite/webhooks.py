"""``engine.webhooks.Webhooks`` over SQLite: a face of the store.

Must not know how endpoints and the outbox are written.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from antiphon.engine.webhooks import Changes, Delivery, Endpoint, Verdict
from antiphon.stores.sqlite import operations
from antiphon.stores.sqlite.statements import Row
from antiphon.stores.sqlite.writer import Operation

_types = msgspec.json.Decoder(tuple[str, ...])


class _Store(Protocol):
    """The store as it is seen from here."""

    def _rows(self, name: str, **bindings: Any) -> list[Any]: ...
    async def _write(self, operation: Operation) -> Any: ...


class SqliteWebhooks:
    """The webhook endpoints of one store, and its outbox."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    async def create(self, project: str, endpoint: Endpoint, most: int) -> bool:
        return bool(await self._store._write(operations.CreateEndpoint(project, endpoint, most)))

    async def read(self, project: str, endpoint: str) -> Endpoint | None:
        rows = self._store._rows("endpoints", project=project, id=endpoint)
        return _endpoint(rows[0]) if rows else None

    async def all(self, project: str) -> list[Endpoint]:
        return [_endpoint(row) for row in self._store._rows("endpoints", project=project, id=None)]

    async def change(self, project: str, endpoint: str, changes: Changes) -> Endpoint | None:
        row: Row | None = await self._store._write(operations.ChangeEndpoint(project, endpoint, changes))
        return None if row is None else _endpoint(row)

    async def delete(self, project: str, endpoint: str) -> bool:
        return bool(await self._store._write(operations.DeleteEndpoint(project, endpoint)))

    async def configure(self, endpoints: Sequence[tuple[str, Endpoint]]) -> None:
        await self._store._write(operations.Configure(endpoints))

    async def projects(self) -> frozenset[str]:
        return frozenset(project for (project,) in self._store._rows("projects_with_endpoints"))

    async def claim(self, most: int, each: int, seconds: float, busy: Sequence[str]) -> list[Delivery]:
        """Nothing is written while nothing is due."""
        if not self._store._rows("outbox_due"):
            return []
        claimed: list[Delivery] = await self._store._write(operations.ClaimDeliveries(most, each, seconds, busy))
        return claimed

    async def settle(self, verdicts: Sequence[Verdict]) -> None:
        await self._store._write(operations.Settle(verdicts))


def _endpoint(row: Row) -> Endpoint:
    id, name, url, event_types, secrets, created, updated, disabled = row
    return Endpoint(id, name, url, _types.decode(event_types), secrets, created, updated, disabled)
