"""Takes up background runs that nobody works on: claims one and rebuilds it from its row, log and journal.

A run that cannot be read is ended as failed; it must neither stay in progress nor keep others from being taken up.
Must not know of tasks or readers.  Rules: docs/log.md, "Taking over".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from antiphon.engine.draft import Draft
from antiphon.engine.holding import Holding
from antiphon.engine.ports.stores import Batch, Claim, Record, RunName, Store
from antiphon.engine.ports.world import Clock, Seal
from antiphon.engine.thoughts import Thoughts
from antiphon.protocol.events import Event, lifecycle
from antiphon.protocol.requests import reread
from antiphon.protocol.responses import Outcome, ResponseError, Shell
from antiphon.runs.flushing import PASSING, Flusher
from antiphon.runs.log import DurableLog
from antiphon.runs.run import Run, Taken
from antiphon.runs.settings import Settings

logger = logging.getLogger("antiphon.runs")

R = TypeVar("R")

#: A row that cannot be read so many times, although the store works, never will.
TRIES_MAX = 3

_UNREADABLE = "The server was restarted while it was working on this response, and what it had stored cannot be read."


class Takeovers:
    """Claims runs for this process."""

    def __init__(self, store: Store, clock: Clock, flusher: Flusher, seal: Seal, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._flusher = flusher
        self._seal = seal
        self._settings = settings
        self._closing = False

    async def take(self, name: RunName) -> Run | None:
        """The run, which is this process's from now on; None when there is nothing to go on with.

        While the store is away it tries again, until it is cancelled.
        """
        claim = await self._patiently(lambda: self._store.claim(*name), for_ever=True)
        if claim is None:
            return None
        try:
            return await self._rebuilt(name, claim)
        except Exception:
            if self._closing:
                await self.hand_back([(name, claim.fence)] if claim.attempt <= self._settings.takeovers_max else [])
                return None
            logger.exception("response %s was cut and cannot be read; it ends without output", name.response)
        await self._patiently(lambda: self._end_unread(name, claim), for_ever=True)
        return None

    async def _rebuilt(self, name: RunName, claim: Claim) -> Run | None:
        """The boundary around it is ``take``: whatever is wrong with one run stays with it."""
        begun = await self._patiently(lambda: self._store.begun(*name))
        noted = await self._patiently(lambda: self._store.journal(*name))
        if begun is None:
            return None  # deleted meanwhile
        stored = begun.stored
        request = reread(stored.request, stored.shell, streamed=stored.streamed)
        thoughts = Thoughts.of(request, self._seal, name.project)
        draft = Draft(stored.shell, self._clock, holding=Holding.of(request), thoughts=thoughts)
        while events := await self._patiently(lambda: self._store.events(*name, draft.last)):
            draft.replay(events)
        draft.reopen()
        log = DurableLog(
            name, claim.fence, self._flusher.wake, durable=claim.last, limit=self._settings.run_buffer_bytes
        )
        run = Run(name, request, draft, log)
        run.taken = Taken(claim.attempt, begun.earlier, begun.input, noted)
        return run

    async def forget(self, name: RunName) -> None:
        """Removes a run whose beginning nobody heard of: its client was told that there is none."""
        await self._patiently(lambda: self._store.delete(*name), for_ever=True)

    async def hand_back(self, runs: Sequence[tuple[RunName, int]]) -> None:
        """So that their next claim is no takeover (docs/log.md, I10)."""
        try:
            if runs:
                await self._store.hand_back(runs)
        except PASSING as error:
            logger.warning("%d runs could not be handed back, the next start takes them over: %s", len(runs), error)

    def close(self) -> None:
        """The store is not waited for any more."""
        self._closing = True

    async def _patiently(self, ask: Callable[[], Awaitable[R]], *, for_ever: bool = False) -> R:
        """What the store answers.  Raises a failure that stays although it works, or that comes while closing."""
        pause = self._settings.store_retry_seconds
        failures = 0
        while True:
            try:
                return await ask()
            except PASSING as error:
                logger.error("the store failed while runs are taken up, next try in %.1f s: %s", pause, error)
                failures += not for_ever and await self._works()
                if failures >= TRIES_MAX or self._closing:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._settings.store_retry_longest_seconds)

    async def _works(self) -> bool:
        try:
            await self._store.ping()
        except PASSING:
            return False
        return True

    async def _end_unread(self, name: RunName, claim: Claim) -> None:
        """Ends a run of which only the name and the number of its last event are known."""
        shell = Shell(name.response, int(self._clock.now()), True, b'"metadata":{}', {})
        outcome = Outcome("failed", error=ResponseError("server_error", _UNREADABLE))
        days = self._settings.response_days
        record = Record(
            project=name.project,
            shell=shell,
            outcome=outcome,
            parent=None,
            input=[],
            output=[],
            request=b"{}",
            streamed=False,
            expires_at=int(self._clock.now()) + days * 86400 if days else None,
        )
        last: Event = lifecycle("response.failed", claim.last + 1, shell.snapshot(outcome))
        await self._store.finish(record, claim.fence, [Batch(*name, claim.fence, [last])])
