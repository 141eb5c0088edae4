"""``engine.idempotency.Keys`` over PostgreSQL: a face of the store.

Must not know how keys are written.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from antiphon.engine.idempotency import Bound, KeyClaim
from antiphon.protocol.errors import key_reused
from antiphon.stores.postgres import operations
from antiphon.stores.postgres.lanes import Operation


class _Store(Protocol):
    """The store as it is seen from here."""

    async def _do(self, operation: Operation) -> Any: ...


class PostgresKeys:
    """The idempotency keys of one store."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    async def bind(self, claim: KeyClaim, seconds: float, expires_at: int) -> Bound:
        bound: Bound | None = await self._store._do(operations.BindKey(claim, seconds, expires_at))
        if bound is None:
            raise key_reused()
        return bound

    async def hold(self, claims: Sequence[KeyClaim], seconds: float) -> None:
        await self._store._do(operations.HoldKeys(claims, seconds))

    async def free(self, claims: Sequence[KeyClaim]) -> None:
        await self._store._do(operations.FreeKeys(claims))
