"""``engine.webhooks.Webhooks`` over PostgreSQL: a face of the store.

Each call is one statement, or a few that may be said twice.  The rules stand in migrations/0007_webhooks.sql.
"""

import datetime
from collections.abc import Sequence
from typing import Any, Protocol

from antiphon.engine.webhooks import Changes, Delivery, Endpoint, Fate, Verdict
from antiphon.stores.postgres import operations as ops
from antiphon.stores.postgres.operations import columns
from antiphon.stores.postgres.texts import received, sendable
from antiphon.stores.rows import EXPIRE_BATCH


class _Store(Protocol):
    """The store as it is seen from here."""

    async def _rows(self, name: str, *arguments: Any) -> list[Any]: ...


class PostgresWebhooks:
    """The webhook endpoints of one store, and its outbox."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    async def create(self, project: str, endpoint: Endpoint, most: int) -> bool:
        row = _row(project, endpoint)
        return bool(await self._store._rows("create_endpoint", *row[:4], list(endpoint.event_types), *row[5:], most))

    async def read(self, project: str, endpoint: str) -> Endpoint | None:
        rows = await self._store._rows("endpoints", sendable(project), sendable(endpoint))
        return _endpoint(rows[0]) if rows else None

    async def all(self, project: str) -> list[Endpoint]:
        return [_endpoint(row) for row in await self._store._rows("endpoints", sendable(project), None)]

    async def change(self, project: str, endpoint: str, changes: Changes) -> Endpoint | None:
        name, url = (None if text is None else sendable(text) for text in (changes.name, changes.url))
        types = None if changes.event_types is None else list(changes.event_types)
        before, after = changes.secrets or (None, None)
        rows = await self._store._rows(
            "change_endpoint", sendable(project), sendable(endpoint), name, url, types, before, after,
            changes.updated_at,
        )  # fmt: skip
        return _endpoint(rows[0]) if rows else None

    async def delete(self, project: str, endpoint: str) -> bool:
        [(removed,)] = await self._store._rows("delete_endpoint", sendable(project), sendable(endpoint))
        return bool(removed)

    async def configure(self, endpoints: Sequence[tuple[str, Endpoint]]) -> None:
        rows = [_row(project, endpoint) for project, endpoint in endpoints]
        await self._store._rows("configure_endpoints", *columns(rows, 8))
        await self._store._rows("remove_other_static_endpoints", [endpoint.id for _, endpoint in endpoints])

    async def projects(self) -> frozenset[str]:
        rows = await self._store._rows("projects_with_endpoints")
        return frozenset(received(project) for (project,) in rows)

    async def claim(self, most: int, each: int, seconds: float, busy: Sequence[str]) -> list[Delivery]:
        lease = datetime.timedelta(seconds=seconds)
        rows = await self._store._rows("claim_outbox", most, each, lease, list(busy))
        return sorted(_delivery(row) for row in rows)

    async def settle(self, verdicts: Sequence[Verdict]) -> None:
        """What is said twice is the same: a row that was tried again since has another number of attempts."""
        delivered = [verdict.row for verdict in verdicts if verdict.fate is Fate.DELIVERED]
        if delivered:
            await self._store._rows("delivered", delivered)
        for name, fate in (("try_outbox_again", Fate.AGAIN), ("bury_outbox", Fate.DEAD)):
            rows = [
                (verdict.row, verdict.attempt, datetime.timedelta(seconds=verdict.seconds))
                for verdict in verdicts
                if verdict.fate is fate
            ]
            if rows:
                await self._store._rows(name, *columns(rows, 3))
        gone = [(verdict.row, verdict.seconds) for verdict in verdicts if verdict.fate is Fate.GONE]
        if gone:
            await self._store._rows("disable_endpoints", *columns(gone, 2))


async def expire_outbox(
    query: str,
    connection: Any,
    operations: Sequence[ops.ExpireOutbox],
    again: bool,  # noqa: ARG001
) -> list[Any]:
    """A ``lanes.Write``: whether there may be more rows that have been dead for long enough."""
    told = await connection.execute(query, max(operation.now for operation in operations), EXPIRE_BATCH)
    return [told == f"DELETE {EXPIRE_BATCH}"] * len(operations)


def _row(project: str, endpoint: Endpoint) -> tuple[Any, ...]:
    return (
        sendable(project), sendable(endpoint.id), sendable(endpoint.name), sendable(endpoint.url),
        " ".join(endpoint.event_types), endpoint.secrets, endpoint.created_at, endpoint.updated_at,
    )  # fmt: skip


def _endpoint(row: Any) -> Endpoint:
    id, name, url, event_types, secrets, created, updated, disabled = row
    return Endpoint(
        received(id), received(name), received(url), tuple(event_types), secrets, created, updated, disabled
    )  # fmt: skip


def _delivery(row: Any) -> Delivery:
    number, attempt, age, project, id, static, url, secrets, response, type, created = row
    return Delivery(
        number, attempt, age, received(project), received(id), static, received(url), secrets, received(response),
        type, created,
    )  # fmt: skip
