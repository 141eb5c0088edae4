"""The conversations that runs of this process hold: entered, renewed by one statement for all, and left.

A process that is gone renews nothing, and its holds lapse.  Must not know of runs or of what a conversation holds.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from antiphon.engine.ports.stores import Context, Hold, Store
from antiphon.protocol.errors import ApiError
from antiphon.runs.flushing import PASSING

logger = logging.getLogger("antiphon.runs")

#: How long a hold outlives its process, and how often the holds of a living one are renewed meanwhile.
LEASE_SECONDS, RENEWALS = 30.0, 4


class Leases:
    """The holds of one process."""

    def __init__(self, store: Store, seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self._held: set[Hold] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter(self, hold: Hold) -> Context:
        """What a response in the conversation sees.  Raises ``ApiError`` 404, or 400 ``conversation_locked``."""
        self._held.add(hold)
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        try:
            return await self._store.conversations.enter(hold, self._seconds)
        except ApiError as refused:
            if refused.status < 500:
                self._held.discard(hold)
            else:
                self._leave_later(hold)
            raise
        except BaseException:
            self._leave_later(hold)  # it may have been written all the same
            raise

    def settled(self, hold: Hold | None) -> None:
        """What was written ends the hold, or keeps it for a background run."""
        if hold is not None:
            self._held.discard(hold)

    async def leave(self, hold: Hold | None) -> None:
        """The response left nothing, so that the next one may come at once.  Nothing for what is settled."""
        if hold in self._held:
            await asyncio.shield(self._leave_later(hold))

    def _leave_later(self, hold: Hold) -> "asyncio.Task[None]":
        self._held.discard(hold)
        leaving = asyncio.get_running_loop().create_task(self._patient(self._store.conversations.leave(hold)))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return leaving

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            if self._held:
                await self._patient(self._store.conversations.renew(list(self._held), self._seconds))

    async def _patient(self, asked: Coroutine[Any, Any, None]) -> None:
        try:
            await asked
        except PASSING as error:  # the next renewal comes in time, or the hold lapses
            logger.warning("holds on conversations could not be written: %s", error)

    async def close(self) -> None:
        """Ends what is held."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        for hold in list(self._held):
            self._leave_later(hold)
        if self._leaving:
            await asyncio.wait(self._leaving)
