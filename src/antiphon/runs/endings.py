"""Writes the ends of background runs, again and again while the store fails.

Whoever asks for such a run must find it ended as soon as the store works again, not only after a restart.
Must not know what a run is or how it came to its end.  Rule: docs/log.md, I6.
"""

import asyncio
import logging
from collections.abc import Callable

from antiphon.engine.ports.stores import Record, Store
from antiphon.runs.flushing import PASSING
from antiphon.runs.log import DurableLog

logger = logging.getLogger("antiphon.runs")


class Endings:
    """Ends that are on their way to the store; ``first`` and ``longest`` are the seconds between two tries."""

    def __init__(self, store: Store, first: float, longest: float) -> None:
        self._store = store
        self._first = first
        self._longest = longest
        self._closing = asyncio.Event()

    async def write(self, record: Record, log: DurableLog, on_stuck: Callable[[], None]) -> None:
        """Returns when the end and everything before it are durable, or the run turns out to be another's.

        ``on_stuck`` hears of each try that fails.  Raises what the last try raised once ``close`` was called.
        """
        batches = log.take()
        pause = self._first
        while True:
            try:
                ended = await self._store.finish(record, log.fence, batches)
                break
            except PASSING as error:
                if self._closing.is_set():
                    raise
                logger.error("the end of %s could not be stored, next try in %.1f s: %s", log.name, pause, error)
            on_stuck()
            await self._rest(pause)
            pause = min(2 * pause, self._longest)
        if ended:
            log.committed([event for batch in batches for event in batch.events])
        else:
            log.disown()

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    def close(self) -> None:
        """Each end that waits is tried once more, then given up: the next start settles it."""
        self._closing.set()
