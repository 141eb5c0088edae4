"""What processes tell one another of runs: events, who has taken one, which are to be cancelled, who works on what.

Nothing of it is kept by the bus, and each word may get lost.  Must not know the queue.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence

import msgspec

from antiphon.coordinators.nats.connection import AWAY, Connection, Msg, Subscription
from antiphon.coordinators.nats.settings import Subjects
from antiphon.engine.coordination import Words, following
from antiphon.engine.ports.stores import RunName
from antiphon.protocol.events import Event

#: How long a reader waits for word before it looks into the store, and while the bus is away.
NEWS_SECONDS, AWAY_SECONDS = 1.0, 0.25
#: Events that a reader may have before it reads them; then it looks into the store.
EVENTS_MAX = 2048
#: Bytes of events in one word; a longer one only says that there are some.
WORD_BYTES_MAX = 512 << 10
#: How long the answers to who works on a run are waited for.
WHO_SECONDS = 0.5
#: Runs that one question names.
ASKED_MAX = 2000

_events = msgspec.msgpack.Decoder(list[Event])
_names = msgspec.json.Decoder(list[RunName])


class BusNews:
    """``engine.coordination.News`` of one run for one reader."""

    def __init__(self, connection: Connection, closed: Callable[["BusNews"], None]) -> None:
        self._connection = connection
        self._closed = closed
        self._heard: list[Event] = []
        self._missed = False
        self._woken = asyncio.Event()
        self.subscription: Subscription | None = None

    def hear(self, message: Msg) -> None:
        """Takes a word; too much of it is as if it had been missed."""
        events = _events.decode(message.data)
        if not events or len(self._heard) + len(events) > EVENTS_MAX:
            self._heard, self._missed = [], True
        else:
            self._heard += events
        self._woken.set()

    def look(self) -> None:
        """There may be events that were not told."""
        self._missed = True
        self._woken.set()

    async def next(self, after: int) -> list[Event]:
        heard = self.subscription is not None and self._connection.connected
        try:
            async with asyncio.timeout(NEWS_SECONDS if heard else AWAY_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return []
        self._woken.clear()
        events, self._heard = self._heard, []
        missed, self._missed = self._missed, False
        return [] if missed else following(events, after)

    async def close(self) -> None:
        self._closed(self)
        if self.subscription is not None:
            with contextlib.suppress(*AWAY):  # with the connection it is gone
                await self.subscription.unsubscribe()


class Telling:
    """``held`` are the runs that this process works on."""

    def __init__(self, connection: Connection, subjects: Subjects, held: Collection[RunName]) -> None:
        self._connection = connection
        self._subjects = subjects
        self._held = held
        self.words: Words | None = None
        self._listening = False
        self._news: set[BusNews] = set()

    async def listen(self) -> None:
        """After a connect; what was subscribed to before is so again.  Raises ``AWAY``."""
        if not self._listening:
            await self._connection.listen(self._subjects.cancelled, self._cancelled)
            await self._connection.listen(self._subjects.taken, self._taken)
            await self._connection.listen(self._subjects.who, self._asked)
            self._listening = True
        for news in self._news:
            news.look()

    # --- Heard ---

    def _cancelled(self, message: Msg) -> None:
        for run in _names.decode(message.data):
            if self.words is not None:
                self.words.cancelled(run)

    def _taken(self, message: Msg) -> None:
        run, fence = msgspec.json.decode(message.data, type=tuple[RunName, int])
        if self.words is not None:
            self.words.taken(run, fence)

    def _asked(self, message: Msg) -> None:
        mine = [run for run in _names.decode(message.data) if run in self._held]
        if mine:
            self._connection.tell(message.reply, msgspec.json.encode(mine))

    # --- Told ---

    def cancel(self, run: RunName) -> None:
        self._connection.tell(self._subjects.cancelled, msgspec.json.encode([run]))

    def taken(self, run: RunName, fence: int) -> None:
        self._connection.tell(self._subjects.taken, msgspec.json.encode((run, fence)))

    def grown(self, run: RunName, events: list[Event]) -> None:
        data = msgspec.msgpack.encode(events)
        if len(data) > WORD_BYTES_MAX:
            data = msgspec.msgpack.encode([])
        self._connection.tell(self._subjects.live(run), data)

    async def news(self, run: RunName) -> BusNews:
        """Returns when the bus knows that it is listened to, or is away."""
        news = BusNews(self._connection, self._news.discard)
        self._news.add(news)
        if self._connection.connected:
            try:
                news.subscription = await self._connection.listen(self._subjects.live(run), news.hear)
                await self._connection.reached()
            except AWAY:
                pass  # the reader looks into the store meanwhile
        return news

    async def worked_on(self, runs: Sequence[RunName]) -> set[RunName]:
        """Those of the runs that a process says it works on.  Raises ``AWAY``."""
        found: set[RunName] = set()
        inbox = self._connection.new_inbox()
        answers = await self._connection.listen(inbox, lambda message: found.update(_names.decode(message.data)))
        try:
            for first in range(0, len(runs), ASKED_MAX):
                asked = msgspec.json.encode(runs[first : first + ASKED_MAX])
                self._connection.tell(self._subjects.who, asked, inbox)
            await asyncio.sleep(WHO_SECONDS)
        finally:
            await answers.unsubscribe()
        return found
