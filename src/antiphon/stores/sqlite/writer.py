"""One thread that owns the writing connection and commits in groups.

Whatever is submitted while a commit runs is written by the next one.  Must not know what the operations mean.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import apsw

R = TypeVar("R")

#: Operations in one transaction at the most, so that one commit's latency is bounded.
GROUP_MAX = 128
#: How long deleted content may stand in the write-ahead log.
ERASE_SECONDS = 5.0


class Operation(Protocol):
    """Something to write.  ``durable``: a reply waits for it to be on the disk."""

    @property
    def durable(self) -> bool: ...


class Ticket(Generic[R]):
    """An operation on its way, and the future that tells how it went."""

    __slots__ = ("failure", "future", "operation", "result")

    def __init__(self, operation: Operation, future: "asyncio.Future[R]") -> None:
        self.operation = operation
        self.future = future
        self.result: R | None = None
        self.failure: Exception | None = None


Execute = Callable[[apsw.Connection, list[Any]], list[Any]]


class Writer:
    """Runs ``execute(connection, operations) -> results`` for one group after another."""

    def __init__(self, connection: apsw.Connection, execute: Execute, gate: threading.RLock) -> None:
        self._connection = connection
        self._execute = execute
        self._gate = gate
        self._queue: SimpleQueue[Ticket[Any] | None] = SimpleQueue()
        self._erase_at: float | None = None
        self._full: bool | None = None
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Queues an operation; the future is resolved after its commit."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(Ticket(operation, future))
        return future

    def erase_soon(self) -> None:
        """Content was deleted: the write-ahead log is emptied within ``ERASE_SECONDS``."""
        if self._erase_at is None:
            self._erase_at = time.monotonic() + ERASE_SECONDS

    def close(self) -> None:
        """Writes what is queued, then ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._next()) is not None:
            group = [first]
            with contextlib.suppress(Empty):
                while len(group) < GROUP_MAX:
                    ticket = self._queue.get_nowait()
                    if ticket is None:
                        self._queue.put(None)
                        break
                    group.append(ticket)
            self._commit(group)
            _resolve(group)
        self._erase()

    def _next(self) -> Ticket[Any] | None:
        while True:
            wait = None if self._erase_at is None else max(0.0, self._erase_at - time.monotonic())
            try:
                return self._queue.get(timeout=wait)
            except Empty:
                self._erase()

    def _erase(self) -> None:
        if self._erase_at is not None:
            self._erase_at = None
            with self._gate:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _commit(self, group: list[Ticket[Any]]) -> None:
        """One transaction for the group; if it fails, one each, so that a bad operation fails alone."""
        with self._gate:
            self._synchronous(any(ticket.operation.durable for ticket in group))
            try:
                self._transact(group)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits, not swallowed
                if len(group) == 1:
                    group[0].failure = error
                    return
                for ticket in group:
                    self._commit([ticket])

    def _transact(self, group: list[Ticket[Any]]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            results = self._execute(self._connection, [ticket.operation for ticket in group])
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        for ticket, result in zip(group, results, strict=True):
            ticket.result = result

    def _synchronous(self, full: bool) -> None:
        """FULL where a reply or a terminal event waits, NORMAL otherwise (design section 3)."""
        if full is not self._full:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            self._full = full


def _resolve(group: list[Ticket[Any]]) -> None:
    """Tells the waiting tasks, waking each loop once."""
    with contextlib.suppress(RuntimeError):  # the loop was closed while the write ran: nobody waits any more
        group[0].future.get_loop().call_soon_threadsafe(_settle, group)


def _settle(group: list[Ticket[Any]]) -> None:
    for ticket in group:
        if ticket.future.cancelled():
            continue
        if ticket.failure is not None:
            ticket.future.set_exception(ticket.failure)
        else:
            ticket.future.set_result(ticket.result)
