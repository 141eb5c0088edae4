"""One task that writes in groups over a connection of its own.

Whatever is submitted while a group is on its way is written by the next one.  A lane writes one group at a time, so
what was submitted first is committed first.  Must not know what the operations mean.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from antiphon.protocol.errors import unavailable
from antiphon.stores.postgres.connections import (
    RETRY_AFTER_SECONDS,
    Connections,
    Lost,
    away,
    end,
    pause_after,
    sort_failure,
)

R = TypeVar("R")

#: Operations and bytes of one group at the most.
GROUP_MAX = 128
GROUP_BYTES = 32 << 20
#: Operations and bytes that may wait; what comes on top is told at once that the database does not keep up.
QUEUE_MAX = 20_000
QUEUE_BYTES = 256 << 20


class Operation(Protocol):
    """Something to write; ``size``: about how many bytes it sends."""

    @property
    def size(self) -> int: ...


#: Writes operations of one kind in one transaction.  ``again``: they may have been written before.  The results come in
#: the same order; one that is an exception fails its operation alone.
Write = Callable[[Any, Sequence[Any], bool], Awaitable[Sequence[Any]]]


class _Ticket(Generic[R]):
    """An operation on its way: its future, and when whoever waits gives up."""

    __slots__ = ("deadline", "future", "operation", "size")

    def __init__(self, operation: Operation, future: "asyncio.Future[R]", deadline: float) -> None:
        self.operation = operation
        self.size = operation.size
        self.future = future
        self.deadline = deadline

    def resolve(self, result: Any) -> None:
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class Lane:
    """``kinds`` says how each type of operation is written; in a group the kinds are written in this order."""

    def __init__(self, connections: Connections, kinds: dict[type, Write]) -> None:
        self._connections = connections
        self._kinds = kinds
        self._queue: deque[_Ticket[Any]] = deque()
        self._bytes = 0
        self._draining: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._closed = False
        #: Why the last try failed, if that may pass; None once a group is written.
        self.failure: Lost | None = None

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Queues an operation; the future is resolved after its commit, or raises ``ApiError`` 503.

        Raises ``RuntimeError`` on a closed lane.
        """
        loop = asyncio.get_running_loop()
        ticket: _Ticket[Any] = _Ticket(
            operation, loop.create_future(), loop.time() + self._connections.settings.write_seconds
        )
        if self._closed:
            raise RuntimeError("the store is closed")
        if len(self._queue) >= QUEUE_MAX or self._bytes > QUEUE_BYTES:
            message = "The database does not keep up. Please try again."
            ticket.resolve(unavailable(message, retry_after_seconds=RETRY_AFTER_SECONDS))
            return ticket.future
        self._queue.append(ticket)
        self._bytes += ticket.size
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        return ticket.future

    async def _drain(self) -> None:
        try:
            while self._queue:
                group = self._take()
                for kind, write in self._kinds.items():
                    tickets = [ticket for ticket in group if type(ticket.operation) is kind]
                    if tickets:
                        await self._write(write, tickets, again=False)
        finally:
            self._draining = None

    def _take(self) -> list[_Ticket[Any]]:
        group: list[_Ticket[Any]] = []
        size = 0
        while self._queue and len(group) < GROUP_MAX and size < GROUP_BYTES:
            ticket = self._queue.popleft()
            group.append(ticket)
            size += ticket.size
        self._bytes -= size
        return group

    async def _write(self, write: Write, group: list[_Ticket[Any]], *, again: bool) -> None:
        """Writes a group, again and again while the database is away; an error that stays fails its operation alone."""
        tries = 0
        while group:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connections.connect()
                results = await write(self._connection, [ticket.operation for ticket in group], again)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits, not swallowed
                failure = sort_failure(error)
                if not isinstance(failure, Lost):
                    await self._alone(write, group, failure, again=again)
                    return
                self.failure = failure
                again = again or failure.unknown
                if failure.broken:
                    self._drop()
                pause = pause_after(tries)
                group = _patient(group, asyncio.get_running_loop().time() + pause, failure)
                tries += 1
                if group:
                    await asyncio.sleep(pause)
            else:
                self.failure = None
                for ticket, result in zip(group, results, strict=True):
                    ticket.resolve(result)
                return

    async def _alone(self, write: Write, group: list[_Ticket[Any]], failure: Exception, *, again: bool) -> None:
        """The transaction of the group failed: one each, so that only the bad operation fails."""
        if len(group) == 1:
            group[0].resolve(failure)
            return
        for ticket in group:
            await self._write(write, [ticket], again=again)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def settled(self) -> None:
        """Returns when nothing is queued or on its way."""
        while self._draining is not None:
            await asyncio.wait([self._draining])

    async def close(self) -> None:
        """Writes what is queued, for as long as anybody waits for it, then closes."""
        self._closed = True
        await self.settled()
        if self._connection is not None:
            await end(self._connection)


def _patient(group: list[_Ticket[Any]], until: float, lost: Lost) -> list[_Ticket[Any]]:
    """Those that can still wait until then; the others are told that the database is away."""
    for ticket in group:
        if ticket.deadline <= until:
            ticket.resolve(away(lost))
    return [ticket for ticket in group if ticket.deadline > until]
