"""The log of a run: one writer, many readers.

``LiveLog`` pushes at once (foreground); ``DurableLog`` lets no number out before the commit that holds it
(background).  Must not know what an event says or how it is sent.  Rules: design section 2, "Two kinds of run".
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from antiphon.engine.ports import Batch, Store
from antiphon.protocol.events import TERMINAL_TYPES, Event


class Reader(Protocol):
    """Somebody who follows a run: an SSE stream, a WebSocket, a test."""

    def write(self, events: list[Event]) -> None:
        """Takes events, in order; those that it has already had are passed over.  Never waits."""

    def end(self) -> None:
        """Nothing follows."""

    @property
    def behind(self) -> bool:
        """More is unsent than the reader may hold."""


class LiveLog:
    """A foreground run: what is published goes to the one reader, or is kept until it comes."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._kept: list[Event] = []
        self._ended = False

    def publish(self, events: list[Event]) -> None:
        if self._reader is not None:
            self._reader.write(events)
        else:
            self._kept += events

    def end(self) -> None:
        self._ended = True
        if self._reader is not None:
            self._reader.end()

    def attach(self, reader: Reader) -> None:
        """Hands over what was kept; from here on the reader is pushed to."""
        self._reader = reader
        kept, self._kept = self._kept, []
        if kept:
            reader.write(kept)
        if self._ended:
            reader.end()


class DurableLog:
    """A background run: events wait for the flusher, readers are fed after the commit.

    A reader that falls behind is let go at its number and reads on from the store; it stalls nobody.
    """

    def __init__(self, project: str, response: str, wake: Callable[["DurableLog"], None]) -> None:
        self.project = project
        self.response = response
        self.pending: list[Event] = []
        self.durable = -1
        self.ended = False
        self._wake = wake
        self._readers: dict[Reader, asyncio.Future[None]] = {}

    def publish(self, events: list[Event]) -> None:
        """Notes events; they leave after the next flush."""
        if events and not self.pending:
            self._wake(self)
        self.pending += events

    def take(self) -> Batch:
        """What is to be written now."""
        events, self.pending = self.pending, []
        return Batch(self.project, self.response, events)

    def committed(self, events: list[Event]) -> None:
        """The events are durable: readers get them."""
        if not events:
            return
        self.durable = events[-1].number
        for reader in list(self._readers):
            reader.write(events)
            if reader.behind:
                self._let_go(reader)
        if events[-1].type in TERMINAL_TYPES:
            self.end()

    def end(self) -> None:
        """The run is over; whoever still follows is told."""
        self.ended = True
        for reader in list(self._readers):
            self._let_go(reader)

    def _let_go(self, reader: Reader) -> None:
        waiting = self._readers.pop(reader)
        if not waiting.done():
            waiting.set_result(None)

    async def live(self, reader: Reader, after: int) -> bool:
        """Pushes to the reader from ``after`` on until it falls behind or the run ends.

        False at once when the reader has to catch up from the store first.
        """
        if self.ended or after < self.durable:
            return False
        waiting = self._readers[reader] = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            self._readers.pop(reader, None)
        return True


class Follower(Reader, Protocol):
    """A reader that tells where it stands and when it can take more."""

    last: int

    async def ready(self) -> None:
        """Returns when there is room again."""


async def follow(store: Store, log: DurableLog | None, project: str, response: str, reader: Follower) -> None:
    """Feeds a reader with a background run's events after ``reader.last``, from the store and then live."""
    while True:
        await reader.ready()
        durable_before = log.durable if log is not None else None
        events = await store.events(project, response, reader.last)
        if events:
            reader.write(events)
            if events[-1].type in TERMINAL_TYPES:
                break
        elif log is None or (log.ended and durable_before == log.durable):
            break
        if log is not None:
            await log.live(reader, reader.last)
    reader.end()


class Flusher:
    """One tick for all background runs of the process: commits their pending events in one statement."""

    def __init__(self, store: Store, tick_seconds: float) -> None:
        self._store = store
        self._tick_seconds = tick_seconds
        self._waiting: list[DurableLog] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def wake(self, log: DurableLog) -> None:
        """The log has something to write."""
        self._waiting.append(log)
        if self._timer is None and self._flushing is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        logs, self._waiting = self._waiting, []
        batches = [log.take() for log in logs]
        try:
            await self._store.append(batches)
        finally:
            self._flushing = None
        for log, batch in zip(logs, batches, strict=True):
            log.committed(batch.events)
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._start)

    async def settle(self) -> None:
        """Waits for a flush under way."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
