"""``engine.coordination.Coordinator`` for one process: whoever offers a run is the one who takes it.

There are no leases, because nobody else is there to take a run away; a second process on the same database is refused
by the store's fence, never by this.
"""

import asyncio
from collections.abc import Callable

from antiphon.engine.ports.stores import RunName
from antiphon.engine.ports.world import Clock

#: How often the log of a run is looked at that this process does not work on.
NEWS_SECONDS = 0.25
#: How long a run is left alone that was taken from this process.
LOST_SECONDS = 60.0


class LocalCoordinator:
    """A queue in memory; what is in it at a crash is offered again by the next start."""

    def __init__(self, clock: Clock, *, news_seconds: float = NEWS_SECONDS, lost_seconds: float = LOST_SECONDS) -> None:
        self._clock = clock
        self._lost_seconds = lost_seconds
        self._news_seconds = news_seconds
        self._offered: asyncio.Queue[RunName] = asyncio.Queue()
        self._told: Callable[[RunName], None] | None = None

    async def submit(self, run: RunName) -> None:
        self._offered.put_nowait(run)

    async def claim(self) -> RunName:
        return await self._offered.get()

    async def done(self, run: RunName) -> None:
        """Nothing is kept of what was claimed."""

    async def lost(self, run: RunName) -> None:
        """No other process works here, so it was a claim that came from the grave, and the run is offered again.

        Not at once: if there is another process after all, it gets a while to end the run.
        """
        await self._clock.sleep(self._lost_seconds)
        await self.submit(run)

    def on_cancel(self, told: Callable[[RunName], None]) -> None:
        self._told = told

    async def cancel(self, run: RunName) -> None:
        if self._told is not None:
            self._told(run)

    async def news(self, run: RunName) -> None:  # noqa: ARG002 - no word comes here: whoever waits looks again
        await self._clock.sleep(self._news_seconds)
