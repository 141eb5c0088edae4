"""``engine.coordination.Coordinator`` for one process: whoever offers a run is the one who takes it.

There are no leases, because nobody else is there to take a run away; a second process on the same database is refused
by the store's fence, never by this.
"""

import asyncio
from collections.abc import Sequence

from antiphon.engine.coordination import Offer, Words
from antiphon.engine.ports.stores import RunName
from antiphon.engine.ports.world import Clock
from antiphon.protocol.events import Event

#: How often the log of a run is looked at that this process does not work on.
NEWS_SECONDS = 0.25
#: How long a run is left alone that was taken from this process.
LOST_SECONDS = 60.0


class LocalNews:
    """No word comes here: whoever waits looks again."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    async def next(self, after: int) -> list[Event]:  # noqa: ARG002
        await self._clock.sleep(self._seconds)
        return []

    async def close(self) -> None:
        """Nothing is kept."""


class LocalCoordinator:
    """A queue in memory; what is in it at a crash is offered again by the next start."""

    shared = False

    def __init__(self, clock: Clock, *, news_seconds: float = NEWS_SECONDS, lost_seconds: float = LOST_SECONDS) -> None:
        self._clock = clock
        self._lost_seconds = lost_seconds
        self._news_seconds = news_seconds
        self._offered: asyncio.Queue[Offer] = asyncio.Queue()
        self._words: Words | None = None

    def heed(self, words: Words) -> None:
        self._words = words

    async def start(self) -> None:
        """There is nobody to listen to."""

    async def retire(self) -> None:
        """There are no others."""

    async def close(self) -> None:
        """Nothing is kept of what was claimed."""

    async def missing(self, runs: Sequence[RunName]) -> list[RunName]:
        """All: this is asked before this process works on any."""
        return list(runs)

    async def submit(self, offer: Offer) -> None:
        self._offered.put_nowait(offer)

    async def claim(self) -> Offer:
        return await self._offered.get()

    async def done(self, run: RunName) -> None:
        """Nothing is kept of what was claimed."""

    async def give_back(self, run: RunName) -> None:
        """The next start takes it up."""

    async def decline(self, run: RunName) -> None:
        """There is nobody else, so it is asked again a little later."""
        await self._clock.sleep(self._news_seconds)
        await self.submit(Offer(run))

    async def lost(self, run: RunName) -> None:
        """No other process works here, so it was a claim that came from the grave, and the run is offered again.

        Not at once: if there is another process after all, it gets a while to end the run.
        """
        await self._clock.sleep(self._lost_seconds)
        await self.submit(Offer(run))

    async def cancel(self, run: RunName) -> None:
        if self._words is not None:
            self._words.cancelled(run)

    async def taken(self, run: RunName, fence: int) -> None:
        """There is nobody to tell."""

    def grown(self, run: RunName, events: list[Event]) -> None:
        """Readers here are fed by the run's log."""

    async def news(self, run: RunName) -> LocalNews:  # noqa: ARG002
        return LocalNews(self._clock, self._news_seconds)
