"""What conversations come to, in groups: who holds them, what is added to them and taken out of them.

The calls' rules stand in migrations/0005_conversations.sql; each may be said twice.  Must not know of loops, futures or
HTTP.
"""

import datetime
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from antiphon.engine.ports.stores import Conversation, Hold, Record
from antiphon.stores.postgres import operations as ops
from antiphon.stores.postgres.operations import columns
from antiphon.stores.postgres.texts import sendable
from antiphon.stores.queries import Queries
from antiphon.stores.rows import CONTINUABLE


class Conversing:
    """Writes groups; each method is a ``lanes.Write``."""

    def __init__(self, queries: Queries, segments_max: int) -> None:
        self._queries = queries
        self._segments_max = segments_max

    async def create(self, connection: Any, operations: Sequence[ops.Converse], again: bool) -> list[Any]:  # noqa: ARG002
        """One that is there already stays as it is."""

        async def one(operation: ops.Converse) -> None:
            id, created, metadata = operation.conversation
            given = _items(operation.items)
            names = (sendable(operation.project), sendable(id))
            await connection.execute(self._queries["create_conversation"], *names, created, metadata, *given)

        return await _each(connection, operations, one)

    async def describe(self, connection: Any, operations: Sequence[ops.Describe], again: bool) -> list[Any]:  # noqa: ARG002
        """The conversations as they are now, or None."""

        async def one(operation: ops.Describe) -> Conversation | None:
            project, id, metadata, _ = operation
            query = self._queries["describe_conversation"]
            created = await connection.fetchval(query, sendable(project), sendable(id), metadata)
            return None if created is None else Conversation(id, created, metadata)

        return await _each(connection, operations, one)

    async def add(self, connection: Any, operations: Sequence[ops.Add], again: bool) -> list[Any]:  # noqa: ARG002
        """1 done, 0 a response holds it, None without the conversation."""

        async def one(operation: ops.Add) -> int | None:
            names = (sendable(operation.project), sendable(operation.conversation), operation.token)
            given = _items(operation.items)
            code: int | None = await connection.fetchval(self._queries["add_items"], *names, *given, self._segments_max)
            return code

        return await _each(connection, operations, one)

    async def take_out(self, connection: Any, operations: Sequence[ops.TakeOut], again: bool) -> list[Any]:  # noqa: ARG002
        """As ``add``; None without the item, too."""

        async def one(operation: ops.TakeOut) -> int | None:
            names = (sendable(operation.project), sendable(operation.conversation), operation.token)
            query = self._queries["take_out"]
            code: int | None = await connection.fetchval(query, *names, sendable(operation.item), self._segments_max)
            return code

        return await _each(connection, operations, one)

    async def forget(self, connection: Any, operations: Sequence[ops.Forget], again: bool) -> list[Any]:
        """True for those that were there.  ``again``: one that is not there any more may have been ours."""

        async def one(operation: ops.Forget) -> bool:
            names = (sendable(operation.project), sendable(operation.conversation))
            return again or bool(await connection.fetchval(self._queries["remove_conversation"], *names))

        return await _each(connection, operations, one)

    async def enter(self, connection: Any, operations: Sequence[ops.Enter], again: bool) -> list[Any]:  # noqa: ARG002
        """1 held, 0 another response holds it, None without the conversation."""
        rows = [(*_names(hold), datetime.timedelta(seconds=seconds)) for hold, seconds, _ in operations]
        return list(await connection.fetchval(self._queries["enter"], *columns(rows, 4)))

    async def renew(self, connection: Any, operations: Sequence[ops.Renew], again: bool) -> list[Any]:  # noqa: ARG002
        """Those that are not there any more are passed over."""
        for operation in operations:
            names = columns([_names(hold) for hold in operation.holds], 3)
            span = datetime.timedelta(seconds=operation.seconds)
            await connection.execute(self._queries["renew_holds"], *names, span)
        return [None] * len(operations)

    async def leave(self, connection: Any, operations: Sequence[ops.Leave], again: bool) -> list[Any]:  # noqa: ARG002
        """Likewise."""
        names = columns([_names(operation.hold) for operation in operations], 3)
        await connection.execute(self._queries["leave"], *names)
        return [None] * len(operations)


async def _each(connection: Any, operations: Sequence[Any], one: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """All in one transaction."""
    if len(operations) == 1:
        return [await one(operations[0])]
    async with connection.transaction():
        return [await one(operation) for operation in operations]


def _items(items: Sequence[Any]) -> tuple[list[str], list[bytes]]:
    return [sendable(item.id) for item in items], [item.body for item in items]


def _names(hold: Hold) -> tuple[str, str, str]:
    return sendable(hold.project), sendable(hold.conversation), sendable(hold.response)


def held_arguments(records: Sequence[Record]) -> list[list[Any]]:
    """Responses that are not to be stored, as the arrays of ``append_held_1``."""
    rows: list[tuple[Any, ...]] = []
    items: list[tuple[Any, ...]] = []
    for place, record in enumerate(records, 1):
        assert record.conversation is not None, "else it would leave nothing"
        assert record.parent is not None, "a conversation has a thread"
        names = (sendable(record.project), sendable(record.shell.id), sendable(record.conversation))
        rows.append((*names, *record.parent, record.outcome.status in CONTINUABLE))
        items += [(place, sendable(item.id), item.body) for item in [*record.input, *record.output]]
    return [*columns(rows, 6), *columns(items, 3)]
