"""The journal of hosted calls: kept in the store for background runs, not at all for others.

Must not know what a call does.  Rule: docs/log.md, I8.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from antiphon.engine.ports.stores import Store
from antiphon.engine.ports.tools import ToolCall, ToolResult
from antiphon.runs.flushing import PASSING
from antiphon.runs.log import DurableLog

logger = logging.getLogger("antiphon.runs")


class NoJournal:
    """Foreground runs end with their client: nothing is ever taken up, so nothing is noted."""

    async def begin(self, call: ToolCall) -> None:
        pass

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        pass


class StoreJournal:
    """The journal of one background run; while the store is away, the run waits here.

    ``first`` and ``longest`` are the seconds between two tries; a note that was written already is not written twice.
    A call is begun when everything that the log says before it is durable: whoever takes the run over must not find a
    call behind half a text.
    """

    def __init__(self, store: Store, log: DurableLog, first: float, longest: float) -> None:
        self._store = store
        self._log = log
        self._name = log.name
        self._fence = log.fence
        self._first = first
        self._longest = longest

    async def begin(self, call: ToolCall) -> None:
        await self._log.settled()
        await self._note(lambda: self._store.journal_begin(*self._name, self._fence, call))

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        await self._note(lambda: self._store.journal_complete(*self._name, self._fence, call, result))

    async def _note(self, write: Callable[[], Awaitable[None]]) -> None:
        pause = self._first
        while True:
            try:
                return await write()
            except PASSING as error:
                logger.error("a call of %s could not be noted, next try in %.1f s: %s", self._name, pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._longest)
