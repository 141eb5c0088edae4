"""The log of a run: one writer, many readers.

``LiveLog`` pushes at once (foreground); ``DurableLog`` lets no number out before the commit that holds it
(background).  Must not know what an event says or how it is sent.  Rules: design section 2, "Two kinds of run".
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from antiphon.engine.ports import Batch, Store
from antiphon.protocol.events import TERMINAL_TYPES, Event
from antiphon.protocol.responses import TERMINAL

logger = logging.getLogger("antiphon.runs")

#: Events handed to a reader that catches up, before it is asked whether it has room for more.
EVENTS_MAX = 256
#: Bytes of one batch, unless a single event is larger: what readers load at once is a page of whole batches.
BATCH_BYTES_MAX = 256 << 10


class Reader(Protocol):
    """Somebody who follows a run: an SSE stream, a WebSocket, a test."""

    def write(self, events: list[Event]) -> None:
        """Takes events, in order; those that it has already had are passed over.  Never waits."""

    def end(self, *, whole: bool) -> None:
        """Nothing follows.  Not ``whole``: the run has no terminal event, so the reader's stream must look broken."""

    @property
    def behind(self) -> bool:
        """More is unsent than the reader may hold."""


class LiveLog:
    """A foreground run: what is published goes to the one reader, or is kept until it comes."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._kept: list[Event] = []
        self._ended = False
        self.whole = False

    def publish(self, events: list[Event]) -> None:
        self.whole = events[-1].type in TERMINAL_TYPES
        if self._reader is not None:
            self._reader.write(events)
        else:
            self._kept += events

    def end(self) -> None:
        self._ended = True
        if self._reader is not None:
            self._reader.end(whole=self.whole)

    def attach(self, reader: Reader) -> None:
        """Hands over what was kept; from here on the reader is pushed to."""
        self._reader = reader
        kept, self._kept = self._kept, []
        if kept:
            reader.write(kept)
        if self._ended:
            reader.end(whole=self.whole)


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
        self.whole = False
        #: Told when events could not be written; they are pending again.
        self.on_lost: Callable[[], None] | None = None
        self._wake = wake
        self._readers: dict[Reader, asyncio.Future[None]] = {}

    def publish(self, events: list[Event]) -> None:
        """Notes events; they leave after the next flush."""
        if events and not self.pending:
            self._wake(self)
        self.pending += events

    def take(self) -> Batch:
        """What is to be written next: as many events as a batch may hold."""
        events, size = self.pending, 0
        self.pending = []
        for place, event in enumerate(events):
            size += len(event.data)
            if size > BATCH_BYTES_MAX and place:
                events, self.pending = events[:place], events[place:]
                break
        return Batch(self.project, self.response, events)

    def take_all(self) -> list[Batch]:
        """Everything that is to be written, in batches."""
        batches = []
        while self.pending:
            batches.append(self.take())
        return batches

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
            self.whole = True
            self.end()

    def lost(self, events: list[Event]) -> None:
        """The events could not be written: the end of the run will try again, since no number may be missing."""
        self.pending[:0] = events
        if self.on_lost is not None:
            self.on_lost()

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
        await asyncio.sleep(0)  # a long log must not keep others waiting; a store may answer without a pause
        for start in range(0, len(events), EVENTS_MAX):
            await reader.ready()
            reader.write(events[start : start + EVENTS_MAX])
        if events and events[-1].type in TERMINAL_TYPES:
            return reader.end(whole=True)
        if not events and log is None:
            return reader.end(whole=await _is_over(store, project, response))
        if log is not None:
            if not events and log.ended and durable_before == log.durable:
                return reader.end(whole=log.whole)
            await log.live(reader, reader.last)


async def _is_over(store: Store, project: str, response: str) -> bool:
    stored = await store.read(project, response)
    return stored is not None and stored.outcome.status in TERMINAL


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
        self._flushing.add_done_callback(_told)

    async def _flush(self) -> None:
        logs = [log for log in self._waiting if log.pending]  # a run that ended meanwhile wrote the rest itself
        self._waiting = []
        taken = [(log, batch) for log in logs for batch in log.take_all()]
        batches = [batch for _, batch in taken]
        written = False
        try:
            if batches:
                await self._store.append(batches)
            written = True
        finally:
            self._flushing = None
            # What was taken last is given back first, so that the order stays.
            for log, batch in taken if written else reversed(taken):
                if written:
                    log.committed(batch.events)
                else:
                    log.lost(batch.events)
            if self._waiting and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._start)

    async def settle(self) -> None:
        """Waits for a flush under way."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def close(self) -> None:
        """Writes what is pending; from here on nothing is to be published."""
        while self._waiting or self._flushing is not None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._flushing is None:
                self._start()
            assert self._flushing is not None
            await asyncio.wait([self._flushing])
        if self._timer is not None:
            self._timer.cancel()


def _told(flushing: "asyncio.Task[None]") -> None:
    if not flushing.cancelled() and flushing.exception() is not None:
        logger.error("events could not be written", exc_info=flushing.exception())
