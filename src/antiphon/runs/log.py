"""The log of a run: one writer, many readers.

``LiveLog`` pushes at once (foreground); ``DurableLog`` lets no number out before the commit that holds it
(background).  Must not know what an event says or how it is sent.  Rules: docs/log.md.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from antiphon.engine.ports.stores import Batch, Disowned, RunName
from antiphon.protocol.events import TERMINAL_TYPES, Event

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


#: Bytes of events that a foreground run keeps for clients that join it; a longer one can be joined no more.
SHARED_BYTES_MAX = 8 << 20
#: Events handed to a reader before it is asked whether it has room for more.
PIECE_EVENTS = 64


class LiveLog:
    """A foreground run: what is published goes to the one reader, or is kept until it comes."""

    #: Whether another reader would get everything from the beginning.
    joinable = False

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._kept: list[Event] = []
        self._ended = False
        self.whole = False
        #: Told whether the source is to be paused.
        self.on_pressure: Callable[[bool], None] | None = None

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
        self.adapt()

    def adapt(self) -> None:
        """A reader is full, has room again, or has left."""
        self._press(self._reader is not None and self._reader.behind)

    def _press(self, pressed: bool) -> None:
        if self.on_pressure is not None:
            self.on_pressure(pressed)


class SharedLog(LiveLog):
    """A foreground run that several may follow, each from the beginning (design decision 17).

    A reader that is full gets the rest when it has room, and meanwhile holds up nobody: the source is paused when all
    are full, or when the slowest lacks more than ``limit`` bytes.
    """

    def __init__(self, limit: int = SHARED_BYTES_MAX) -> None:
        super().__init__()
        #: How many events each has been handed.
        self._readers: dict[Reader, int] = {}
        #: Events that are not kept any more, and the bytes of those that are.
        self._dropped = 0
        self._kept_bytes = 0
        self._limit = limit
        self.joinable = True

    def publish(self, events: list[Event]) -> None:
        self.whole = events[-1].type in TERMINAL_TYPES
        self._kept += events
        self._kept_bytes += sum(len(event.data) for event in events)
        if self._kept_bytes > self._limit and self._readers:  # the first reader gets everything
            self.joinable = False
        self.adapt()

    def end(self) -> None:
        self._ended = True
        self.adapt()

    def attach(self, reader: Reader) -> None:
        if not self.joinable:
            reader.end(whole=False)  # too much was said while it was on its way
            return
        self._readers[reader] = 0
        self.adapt()

    def adapt(self) -> None:
        for reader in list(self._readers):
            self._feed(reader)
        if not self.joinable:
            self._forget()
        full = bool(self._readers) and all(reader.behind for reader in self._readers)
        self._press(full or (not self.joinable and self._kept_bytes > self._limit))

    def _feed(self, reader: Reader) -> None:
        """As much as it has room for.  Writing may come back here, when the reader is full by it."""
        published = self._dropped + len(self._kept)
        while (at := self._readers.get(reader, published)) < published and not reader.behind:
            piece = self._kept[at - self._dropped : at - self._dropped + PIECE_EVENTS]
            self._readers[reader] = at + len(piece)
            reader.write(piece)
        if self._ended and self._readers.get(reader) == published:
            del self._readers[reader]
            reader.end(whole=self.whole)

    def _forget(self) -> None:
        """What everybody has been handed."""
        had = min(self._readers.values(), default=self._dropped + len(self._kept)) - self._dropped
        self._kept_bytes -= sum(len(event.data) for event in self._kept[:had])
        del self._kept[:had]
        self._dropped += had


class DurableLog:
    """A background run: events wait for the flusher, readers are fed after the commit (docs/log.md, I5).

    A reader that falls behind is let go at its number and reads on from the store; it stalls nobody.
    ``durable`` is the number of the last event in the store, ``limit`` how many bytes may wait for it before the source
    is asked to pause.
    """

    def __init__(
        self,
        name: RunName,
        fence: int,
        wake: Callable[["DurableLog"], None],
        *,
        durable: int = -1,
        limit: int = 1 << 20,
    ) -> None:
        self.name = name
        self.fence = fence
        self.durable = durable
        self.pending: list[Event] = []
        self.ended = False
        self.whole = False
        #: Another process owns the run by now; its log goes on elsewhere.
        self.disowned = False
        #: The end is being written together with what is pending; the flusher leaves it alone.
        self.sealed = False
        #: Told when too much waits to be written, and when it does not any more.
        self.on_pressure: Callable[[bool], None] | None = None
        #: Told what is durable now.
        self.on_committed: Callable[[list[Event]], None] | None = None
        #: Told when another process has taken the run.
        self.on_disowned: Callable[[], None] | None = None
        self._limit = limit
        self._waiting_bytes = 0
        self._pressed = False
        self._published = durable
        self._settling: asyncio.Future[None] | None = None
        self._wake = wake
        self._readers: dict[Reader, asyncio.Future[None]] = {}

    def publish(self, events: list[Event]) -> None:
        """Notes events; they leave after the next flush, those of one call in one transaction (docs/log.md, I4)."""
        if self.disowned:
            return
        if events and not self.pending:
            self._wake(self)
        self.pending += events
        if events:
            self._published = events[-1].number
        self._weigh(sum(len(event.data) for event in events))

    async def settled(self) -> None:
        """Returns when everything that was published is durable; raises ``Disowned``."""
        while self.durable < self._published and not self.ended:
            if self._settling is None or self._settling.done():
                self._settling = asyncio.get_running_loop().create_future()
            await self._settling
        if self.disowned:
            raise Disowned

    def take(self) -> list[Batch]:
        """Everything that is to be written, in batches."""
        batches: list[Batch] = []
        size = BATCH_BYTES_MAX
        for event in self.pending:
            if size + len(event.data) > BATCH_BYTES_MAX:
                batches.append(Batch(*self.name, self.fence, []))
                size = 0
            batches[-1].events.append(event)
            size += len(event.data)
        self.pending = []
        return batches

    def committed(self, events: list[Event]) -> None:
        """The events are durable: readers get them."""
        if not events:
            return
        self.durable = events[-1].number
        self._settle()
        if self.on_committed is not None:
            self.on_committed(events)
        self._weigh(-sum(len(event.data) for event in events))
        for reader in list(self._readers):
            reader.write(events)
            if reader.behind:
                self._let_go(reader)
        if events[-1].type in TERMINAL_TYPES:
            self.whole = True
            self.end()

    def put_back(self, batches: list[Batch]) -> None:
        """They could not be written: no number may be missing, so they come first the next time."""
        self.pending[:0] = [event for batch in batches for event in batch.events]

    def disown(self) -> None:
        """The store has refused its writer (docs/log.md, I2); readers go on from the store."""
        if not self.disowned:
            self.disowned = True
            self.pending = []
            if self.on_disowned is not None:
                self.on_disowned()
            self.end()

    def end(self) -> None:
        """Nothing follows here; whoever still follows is told."""
        self.ended = True
        self._settle()
        for reader in list(self._readers):
            self._let_go(reader)

    def _settle(self) -> None:
        if self._settling is not None and not self._settling.done():
            self._settling.set_result(None)

    def _weigh(self, change: int) -> None:
        self._waiting_bytes += change
        pressed = self._waiting_bytes > self._limit
        if pressed is not self._pressed:
            self._pressed = pressed
            if self.on_pressure is not None:
                self.on_pressure(pressed)

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
