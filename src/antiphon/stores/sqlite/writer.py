"""One thread that owns the writing connection and commits in groups.

Whatever is submitted while a commit runs is written by the next one.  Must not know what the operations mean.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import apsw

from antiphon.stores.sqlite.checkpoints import Checkpoints

logger = logging.getLogger("antiphon.stores")

#: Operations in one transaction at the most, so that one commit's latency is bounded.
GROUP_MAX = 128
#: How long deleted content may stand in the write-ahead log.
ERASE_SECONDS = 5.0
#: When a reader stood in the way of erasing, how long until the next try.
ERASE_AGAIN_SECONDS = 0.5

#: What no single operation is to blame for: trying each of a group alone would fail as well, one after another.
_EVERYBODYS = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
)


class Operation(Protocol):
    """Something to write.  ``durable``: a reply waits for it to be on the disk.  ``removes``: rows go."""

    @property
    def durable(self) -> bool: ...

    @property
    def removes(self) -> bool: ...


class Ticket:
    """An operation on its way, and the future that tells how it went."""

    __slots__ = ("failure", "future", "operation", "result")

    def __init__(self, operation: Operation, future: "asyncio.Future[Any]") -> None:
        self.operation = operation
        self.future = future
        self.result: Any = None
        self.failure: Exception | None = None


Execute = Callable[[Sequence[Any]], list[Any]]


class Writer:
    """Runs ``execute(operations) -> results`` for one group after another.

    The gate is closed while rows go, so that nobody takes hold of one that is about to; with ``exclusive`` during
    every group, because readers share the connection.  ``on_rollback`` is told when what was executed is undone.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        execute: Execute,
        gate: threading.RLock,
        *,
        checkpoints: Checkpoints | None,
        erase_seconds: float,
        exclusive: bool,
        on_rollback: Callable[[], None] | None = None,
    ) -> None:
        self._connection = connection
        self._execute = execute
        self._gate = gate
        self._checkpoints = checkpoints
        self._erase_seconds = erase_seconds
        self._exclusive = exclusive
        self._on_rollback = on_rollback
        #: Why the last transaction failed, if it was no operation's fault; None once one is committed.
        self.failure: Exception | None = None
        self._queue: SimpleQueue[Ticket | None] = SimpleQueue()
        # What an earlier process deleted may still stand in the log that it left.
        self._erase_at: float | None = None if checkpoints is None else time.monotonic()
        self._full: bool | None = None
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Queues an operation; the future is resolved after its commit.

        The queue is as long as there are tasks waiting for it.
        """
        if self.closed:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(Ticket(operation, future))
        return future

    def close(self) -> None:
        """Writes what is queued, erases what was deleted, then ends the thread."""
        self.closed = True
        self._queue.put(None)
        self._thread.join()

    # --- On the thread ---

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._gather()
            if group:
                self._commit(group)
                _resolve(group)
            self._tidy(last=ended)

    def _gather(self) -> tuple[list[Ticket], bool]:
        """What waits, at most a group, and whether it is the last one; nothing when it is time to erase."""
        group: list[Ticket] = []
        wait = None if self._erase_at is None else max(0.0, self._erase_at - time.monotonic())
        with contextlib.suppress(Empty):
            ticket = self._queue.get(timeout=wait)
            while ticket is not None:
                group.append(ticket)
                if len(group) == GROUP_MAX:
                    return group, False
                ticket = self._queue.get_nowait()
            return group, True
        return group, False

    def _tidy(self, *, last: bool) -> None:
        if self._checkpoints is None:
            return
        try:
            if self._erase_at is not None and (last or time.monotonic() >= self._erase_at):
                erased = self._checkpoints.erase()
                self._erase_at = None if erased else time.monotonic() + ERASE_AGAIN_SECONDS
            elif self._checkpoints.due(idle=self._queue.empty()):
                self._checkpoints.move()
        except (apsw.Error, OSError):  # the log stays as it is, and complete
            logger.exception("the write-ahead log could not be moved into the database")
            if self._erase_at is not None:
                self._erase_at = time.monotonic() + ERASE_AGAIN_SECONDS

    def _commit(self, group: list[Ticket]) -> None:
        """One transaction for the group; if it fails, one each, so that a bad operation fails alone."""
        removes = any(ticket.operation.removes for ticket in group)
        with self._gate if removes or self._exclusive else contextlib.nullcontext():
            try:
                self._synchronous(any(ticket.operation.durable for ticket in group))
                self._transact(group)
                self.failure = None
            except Exception as error:  # noqa: BLE001 - handed to whoever waits, not swallowed
                if len(group) > 1 and not isinstance(error, _EVERYBODYS):
                    for ticket in group:
                        self._commit([ticket])
                    return
                if isinstance(error, _EVERYBODYS):
                    self.failure = error
                for ticket in group:
                    ticket.failure = error
        if removes and self._erase_at is None:
            self._erase_at = time.monotonic() + self._erase_seconds

    def _transact(self, group: list[Ticket]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            results = self._execute([ticket.operation for ticket in group])
            execute("COMMIT")
        except BaseException:  # a COMMIT that fails has undone everything as well
            if self._on_rollback is not None:
                self._on_rollback()
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


def _resolve(group: list[Ticket]) -> None:
    """Tells the waiting tasks, waking the loop once."""
    with contextlib.suppress(RuntimeError):  # the loop was closed while the write ran: nobody waits any more
        group[0].future.get_loop().call_soon_threadsafe(_settle, group)


def _settle(group: list[Ticket]) -> None:
    for ticket in group:
        if ticket.future.cancelled():
            continue
        if ticket.failure is not None:
            ticket.future.set_exception(ticket.failure)
        else:
            ticket.future.set_result(ticket.result)
