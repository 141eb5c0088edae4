"""Writes the ends of background runs, again and again while the store fails.

Whoever asks for such a run must find it ended as soon as the store works again, not only after a restart.
Must not know what a run is or how it came to its end.  Rules: design section 2, "Two kinds of run".
"""

import asyncio
import logging
from collections.abc import Callable

from antiphon.engine.ports import Batch, Record, Store, StoreError
from antiphon.protocol.errors import ApiError
from antiphon.runs.log import DurableLog

logger = logging.getLogger("antiphon.runs")

#: What passes: the store's own failure, and what it tells clients while it is away.
PASSING = (StoreError, ApiError, OSError)


class Endings:
    """Ends that are on their way to the store; ``first`` and ``longest`` are the seconds between two tries."""

    def __init__(self, store: Store, first: float, longest: float) -> None:
        self._store = store
        self._first = first
        self._longest = longest
        self._closing = asyncio.Event()

    async def write(self, record: Record, log: DurableLog, on_stuck: Callable[[], None]) -> None:
        """Returns when the end and everything before it are durable; ``on_stuck`` hears of each try that fails.

        Raises what the last try raised once ``close`` was called.
        """
        batches = log.take_all()  # out of the flusher's reach: the terminal event and the status are one transaction
        pause = self._first
        while True:
            try:
                return await self._try(record, log, batches)
            except PASSING as error:
                if self._closing.is_set():
                    raise
                logger.error("the end of %s could not be stored, next try in %.1f s: %s", log.response, pause, error)
            on_stuck()
            await self._rest(pause)
            pause = min(2 * pause, self._longest)
            await self._catch_up(log, batches)

    async def _try(self, record: Record, log: DurableLog, batches: list[Batch]) -> None:
        while len(batches) > 1:
            await self._store.append(batches[:1])
            log.committed(batches.pop(0).events)
        await self._store.finish(record, batches[0])
        log.committed(batches[0].events)

    async def _catch_up(self, log: DurableLog, batches: list[Batch]) -> None:
        """A write whose outcome nobody heard may have been made: what is durable is not written again."""
        try:
            while events := await self._store.events(log.project, log.response, log.durable):
                log.committed(events)
        except PASSING as error:
            logger.debug("the log of %s cannot be read yet: %s", log.response, error)
        for place, batch in enumerate(batches):
            batches[place] = batch._replace(events=[event for event in batch.events if event.number > log.durable])

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    def close(self) -> None:
        """Each end that waits is tried once more, then given up: the next start settles it."""
        self._closing.set()
