"""What idempotency keys come to, in groups: each kind of operation is one statement.

The calls' rules stand in migrations/0006_idempotency.sql; each may be said twice.  Must not know of loops or HTTP.
"""

import datetime
from collections.abc import Sequence
from typing import Any

from antiphon.engine.idempotency import Bound, KeyClaim, Standing
from antiphon.stores.postgres import operations as ops
from antiphon.stores.postgres.operations import columns
from antiphon.stores.postgres.texts import received, sendable
from antiphon.stores.queries import Queries
from antiphon.stores.rows import EXPIRE_BATCH


class Keying:
    """Writes groups; each method is a ``lanes.Write``."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def bind(self, connection: Any, operations: Sequence[ops.BindKey], again: bool) -> list[Any]:  # noqa: ARG002
        """Of a key that comes twice in a group the first counts; None for one that another request is bound to."""
        firsts: dict[tuple[str, str], ops.BindKey] = {}
        for operation in operations:
            firsts.setdefault(operation.claim[:2], operation)
        rows = [(*_names(claim), claim.digest, *_held(claim, span), end) for claim, span, end, _ in firsts.values()]
        found = await connection.fetch(self._queries["bind_keys"], *columns(rows, 6))
        bound = dict(zip(firsts, found, strict=True))
        return [_bound(operation.claim, *bound[operation.claim[:2]]) for operation in operations]

    async def hold(self, connection: Any, operations: Sequence[ops.HoldKeys], again: bool) -> list[Any]:  # noqa: ARG002
        """Those that other attempts hold by now are passed over."""
        rows = [
            (*_names(claim), *_held(claim, operation.seconds)) for operation in operations for claim in operation.claims
        ]
        await connection.execute(self._queries["hold_keys"], *columns(rows, 4))
        return [None] * len(operations)

    async def free(self, connection: Any, operations: Sequence[ops.FreeKeys], again: bool) -> list[Any]:  # noqa: ARG002
        """Likewise."""
        rows = [(*_names(claim), sendable(claim.attempt)) for operation in operations for claim in operation.claims]
        await connection.execute(self._queries["free_keys"], *columns(rows, 3))
        return [None] * len(operations)

    async def expire(self, connection: Any, operations: Sequence[ops.ExpireKeys], again: bool) -> list[Any]:  # noqa: ARG002
        """Whether there may be more that are past their time."""
        now = max(operation.now for operation in operations)
        told = await connection.execute(self._queries["expire_keys"], now, EXPIRE_BATCH)
        return [told == f"DELETE {EXPIRE_BATCH}"] * len(operations)


def _names(claim: KeyClaim) -> tuple[str, str]:
    return sendable(claim.project), sendable(claim.key)


def _held(claim: KeyClaim, seconds: float) -> tuple[str, datetime.timedelta]:
    return sendable(claim.attempt), datetime.timedelta(seconds=seconds)


def _bound(claim: KeyClaim, digest: bytes, response: str, holder: str, stored: bool) -> Bound | None:
    if digest != claim.digest:
        return None
    ours = received(holder) == claim.attempt
    standing = Standing.STORED if stored else Standing.OURS if ours else Standing.RUNNING
    return Bound(received(response), standing)
