"""``engine.idempotency.Keys`` over SQLite: a face of the store.

Must not know how keys are written.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from antiphon.engine.idempotency import Bound, KeyClaim
from antiphon.protocol.errors import key_reused
from antiphon.stores.sqlite import operations
from antiphon.stores.sqlite.writer import Operation


class _Store(Protocol):
    """The store as it is seen from here."""

    async def _write(self, operation: Operation) -> Any: ...


class SqliteKeys:
    """The idempotency keys of one store."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    async def bind(self, claim: KeyClaim, seconds: float, expires_at: int) -> Bound:
        bound: Bound | None = await self._store._write(operations.BindKey(claim, seconds, expires_at))
        if bound is None:
            raise key_reused()
        return bound

    async def hold(self, claims: Sequence[KeyClaim], seconds: float) -> None:
        await self._store._write(operations.HoldKeys(claims, seconds))

    async def free(self, claims: Sequence[KeyClaim]) -> None:
        await self._store._write(operations.FreeKeys(claims))
