"""Requests that came with an ``Idempotency-Key``: each is run once; sent again, it joins the run or reads its end.

The key is bound in the store before the run begins.  What left nothing frees its key, so that another try runs anew; so
does what was answered with an error.  Must not know how runs are executed or how they are told.
Rules: design decision 17.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from antiphon.engine.idempotency import KeyClaim, Standing
from antiphon.engine.ports.stores import Store, Stored
from antiphon.engine.ports.world import Clock
from antiphon.protocol.errors import key_reused
from antiphon.protocol.requests import CreateResponse
from antiphon.runs.flushing import PASSING
from antiphon.runs.run import Run

logger = logging.getLogger("antiphon.runs")

#: How long a key is held that nobody renews, because its process is gone, and how often it is renewed meanwhile.
HOLD_SECONDS, RENEWALS = 30.0, 4
#: How often a request asks whether another process is done with its key.
WAIT_SECONDS = 0.5

#: Begins the run of a request under an id that its key has bound.  Raises ``ApiError``.
Begin = Callable[[str, CreateResponse, str], Awaitable[Run]]


class _Attempt:
    """A keyed request that this process runs, from before its key is bound until that is settled."""

    def __init__(self, claim: KeyClaim) -> None:
        self.claim = claim
        self.run: Run | None = None
        loop = asyncio.get_running_loop()
        #: Done when the run has begun, or never will.
        self.begun: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()

    @property
    def lives(self) -> bool:
        """Whether the key stands for its request; what has ended may be about to free it."""
        return not self.begun.done() or (self.run is not None and not self.run.done.done())


class KeyedRuns:
    """The keyed requests of one process."""

    def __init__(self, store: Store, clock: Clock, begin: Begin, hours: int, seconds: float = HOLD_SECONDS) -> None:
        self._store = store
        self._clock = clock
        self._begin = begin
        self._hours = hours
        self._seconds = seconds
        self._attempts: dict[tuple[str, str], _Attempt] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def create(self, project: str, key: str, digest: bytes, request: CreateResponse) -> Run | Stored:
        """The run of the request, new or joined, or the response that it came to.

        A background run that has begun is a stored response.  Raises ``ApiError`` as ``Runs.create`` does, and 422.
        """
        while True:
            attempt = self._attempts.get((project, key))
            if attempt is None:
                claim = KeyClaim(project, key, digest, self._clock.new_id("resp_"))
                found = await self._attempt(_Attempt(claim), request)
            elif attempt.claim.digest != digest and attempt.lives:
                raise key_reused()
            else:
                found = await self._join(attempt)
            if found is not None:
                return found

    async def _join(self, attempt: _Attempt) -> Run | None:
        """The run of another request, unless it has ended or can be joined no more: then this waits for its end."""
        await asyncio.shield(attempt.begun)
        if attempt.run is not None and attempt.run.joinable:
            return attempt.run
        await asyncio.shield(attempt.over)
        return None

    async def _attempt(self, attempt: _Attempt, request: CreateResponse) -> Run | Stored | None:
        """Binds the key and begins the run; None after a while where another process runs it, or its response went."""
        claim = attempt.claim
        self._attempts[claim[:2]] = attempt
        bound = None
        try:
            bound = await self._store.keys.bind(claim, self._seconds, int(self._clock.now()) + self._hours * 3600)
            if bound.standing is Standing.OURS:
                self._renew_always()
                attempt.run = await self._begin(claim.project, request, bound.response)
        finally:
            self._settle_after(attempt, freed=bound is None or bound.standing is Standing.OURS)
        if attempt.run is not None:
            return attempt.run
        if bound.standing is Standing.STORED:
            return await self._store.read(claim.project, bound.response)
        await self._clock.sleep(WAIT_SECONDS)
        return None

    def _settle_after(self, attempt: _Attempt, *, freed: bool) -> None:
        """Once the run has ended, or at once where there is none; a background run is in the store from now on."""
        run = attempt.run
        if run is not None and not run.request.background:
            run.done.add_done_callback(lambda _: self._track(self._settle(attempt, freed=not run.answered)))
        else:
            self._track(self._settle(attempt, freed=freed and run is None))
        attempt.begun.set_result(None)

    def _track(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, attempt: _Attempt, *, freed: bool) -> None:
        """What cannot be written now lapses."""
        keys, run = self._store.keys, attempt.run
        try:
            if run is not None and run.unstored:
                await keys.hold([attempt.claim], 0.0)  # it may be stored all the same: the key stays with it
            elif freed:
                await keys.free([attempt.claim])
        except PASSING as error:
            logger.warning("an idempotency key could not be freed, it will lapse: %s", error)
        finally:
            del self._attempts[attempt.claim[:2]]
            attempt.over.set_result(None)

    def _renew_always(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            held = [attempt.claim for attempt in self._attempts.values()]
            try:
                if held:
                    await self._store.keys.hold(held, self._seconds)
            except PASSING as error:  # the next renewal comes in time, or the hold lapses
                logger.warning("idempotency keys could not be held: %s", error)

    async def close(self) -> None:
        """Settles the keys of runs, all of which have ended."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        ending = [attempt.over for attempt in self._attempts.values() if attempt.run is not None]
        await asyncio.gather(*ending, *self._settling)
