"""One tick for all background runs of the process: commits their pending events in one statement.

While the store is away the events wait and the tick becomes slower; the runs go on for as long as they may buffer.
Must not know what an event says.  Rules: design section 2, "Two kinds of run"; docs/log.md.
"""

import asyncio
import logging
from collections.abc import Sequence

from antiphon.engine.ports.stores import Batch, Store, StoreError
from antiphon.protocol.errors import ApiError
from antiphon.runs.log import DurableLog

logger = logging.getLogger("antiphon.runs")

#: What passes: the store's own failure, and what it tells clients while it is away.
PASSING = (StoreError, ApiError, OSError)


class Flusher:
    """Writes ``tick_seconds`` apart; after a failure ``pause_seconds``, twice as long each time up to the longest."""

    def __init__(self, store: Store, tick_seconds: float, pause_seconds: float, longest_seconds: float) -> None:
        self._store = store
        self._tick_seconds = tick_seconds
        self._first_pause = pause_seconds
        self._longest_pause = longest_seconds
        self._failures = 0
        self._waiting: list[DurableLog] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False

    def wake(self, log: DurableLog) -> None:
        """The log has something to write."""
        self._waiting.append(log)
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and self._flushing is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._pause(), self._start)

    def _pause(self) -> float:
        if not self._failures:
            return self._tick_seconds
        return min(self._first_pause * 2.0 ** min(self._failures - 1, 30), self._longest_pause)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushing = asyncio.get_running_loop().create_task(self._flush())
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, flushing: "asyncio.Task[None]") -> None:
        """The boundary: what is no failure of the store is a bug, and must not stop the others' tick."""
        self._flushing = None
        if not flushing.cancelled() and flushing.exception() is not None:
            logger.error("events could not be written", exc_info=flushing.exception())
        if self._waiting:
            self._plan()

    async def _flush(self) -> None:
        # What is sealed is written with its end; the same log may have been woken twice.
        logs = [log for log in dict.fromkeys(self._waiting) if log.pending and not log.sealed]
        self._waiting = []
        taken = [(log, log.take()) for log in logs]
        written: list[bool] | None = None
        try:
            written = await self._write([batch for _, batches in taken for batch in batches])
        except PASSING as error:
            logger.error("events could not be stored and wait: %s", error)
        finally:
            self._failures = self._failures + 1 if written is None else 0
            if written is None:
                self._put_back(taken)
        if written is not None:
            _tell(taken, written)

    async def _write(self, batches: Sequence[Batch]) -> list[bool]:
        return await self._store.append(batches) if batches else []

    def _put_back(self, taken: Sequence[tuple[DurableLog, list[Batch]]]) -> None:
        for log, batches in taken:
            log.put_back(batches)
            self._waiting.append(log)

    async def settle(self) -> None:
        """Waits for a flush under way."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def close(self) -> None:
        """Tries once more to write what is pending; from here on nothing is to be published."""
        await self.settle()
        self._closed = True
        self._start()
        await self.settle()


def _tell(taken: Sequence[tuple[DurableLog, list[Batch]]], written: Sequence[bool]) -> None:
    """``written`` says of each batch, in order, whether it is durable."""
    answers = iter(written)
    for log, batches in taken:
        for batch in batches:
            if next(answers):
                log.committed(batch.events)
            else:
                log.disown()
