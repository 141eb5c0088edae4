"""Starts runs and knows those that are alive: each is a task with a log and an end.

Must not know how a run is executed or how events are sent.  Rules: design section 2, "Two kinds of run"; docs/log.md.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from antiphon.engine import shell
from antiphon.engine.compaction import Compacted
from antiphon.engine.coordination import Coordinator, Offer
from antiphon.engine.draft import Draft
from antiphon.engine.holding import Holding
from antiphon.engine.ports.stores import FIRST_FENCE, Hold, Memory, RunName, Store, Stored
from antiphon.engine.ports.tools import Tool
from antiphon.engine.ports.upstreams import Models, UpstreamError
from antiphon.engine.ports.world import Attachments, Clock, Seal
from antiphon.engine.turns import Plan
from antiphon.protocol.errors import ApiError, invalid, response_not_found, unavailable
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import TERMINAL, UNFINISHED, Outcome
from antiphon.runs.caps import Caps
from antiphon.runs.execution import Execution, as_api_error
from antiphon.runs.flushing import PASSING, Flusher
from antiphon.runs.following import Follower, follow
from antiphon.runs.idempotency import KeyedRuns
from antiphon.runs.leases import Leases
from antiphon.runs.log import DurableLog, LiveLog, SharedLog
from antiphon.runs.planning import Placed, Planner, may_call
from antiphon.runs.run import Run
from antiphon.runs.settings import Settings
from antiphon.runs.takeover import Takeovers
from antiphon.runs.unfinished import Unfinished

logger = logging.getLogger("antiphon.runs")

#: Runs that are rebuilt at once; each holds its whole context meanwhile.
TAKEN_AT_ONCE = 8
#: How long a run whose model is not served here is left to others; then it ends as one whose model is gone.
UNSERVED_SECONDS = 600.0
#: How often a run is asked to end that changes its owner meanwhile, and how long each time.
CANCELS_MAX, CANCEL_SECONDS = 3, 5.0

_NOT_YET = "The end of this response could not be stored yet. Please try again."


class Runs:
    """The runs of one process.  ``on_ended`` hears of the project of each background run that has ended here."""

    def __init__(
        self,
        store: Store,
        models: Models,
        tools: Mapping[str, Tool],
        attachments: Attachments,
        clock: Clock,
        coordinator: Coordinator,
        seal: Seal,
        settings: Settings,
        on_ended: Callable[[str], None] = lambda _project: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._coordinator = coordinator
        self._settings = settings
        self._models = models
        self._planner = Planner(store, models, tools, attachments, clock, seal, settings)
        retry = (settings.store_retry_seconds, settings.store_retry_longest_seconds)
        self._flusher = Flusher(store, settings.flush_seconds, *retry)
        self._leases = Leases(store)
        self._execution = Execution(store, self._planner, clock, self._flusher, self._leases, settings, on_ended)
        self._takeovers = Takeovers(store, clock, self._flusher, seal, settings)
        self._caps = Caps(store, settings.project_runs_max)
        self._keyed = KeyedRuns(store, clock, self._create_keyed, settings.idempotency_hours)
        self._unfinished = Unfinished(store)
        self._background: dict[RunName, Run] = {}
        self._alive: set[Run] = set()
        self._taking: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(TAKEN_AT_ONCE)
        self._claiming: asyncio.Task[None] | None = None
        #: Words to the coordinator that are on their way.
        self._telling: set[asyncio.Task[None]] = set()
        self._closed = False
        #: Background runs are given to other processes; foreground ones go on.
        self._handing_over = False
        coordinator.heed(self)

    async def start(self) -> None:
        """Begins to claim what the coordinator offers."""
        await self._coordinator.start()
        self._claiming = asyncio.get_running_loop().create_task(self._claim())

    # --- New runs ---

    async def create_once(self, project: str, request: CreateResponse, key: str, digest: bytes) -> Run | Stored:
        """Starts a request that came with an idempotency key, joins its run, or finds what it came to.

        ``digest`` tells its body apart from every other.  Raises ``ApiError`` as ``create`` does, and 422 where another
        request came with the key.
        """
        if not request.stored:
            message = "An Idempotency-Key needs 'store' to be true: the response is kept for whoever asks again."
            raise invalid(message, "store", "unsupported_parameter")
        return await self._keyed.create(project, key, digest, request)

    async def create(
        self, project: str, request: CreateResponse, memory: Memory | None = None, keyed: str | None = None
    ) -> Run:
        """Checks what a request refers to and starts it; ``memory`` is its client's.  Raises ``ApiError``.

        ``keyed``: the id that an idempotency key has bound for the response.
        """
        if request.background and not request.stored and self._settings.background_unstored == "refuse":
            raise invalid("Background responses need 'store' to be true.", "background", "unsupported_parameter")
        name = RunName(project, keyed or self._clock.new_id("resp_"))
        hold = None if request.conversation_id is None else Hold(project, request.conversation_id, name.response)
        before = (
            await self._planner.before(project, request, memory) if hold is None else await self._leases.enter(hold)
        )
        try:
            taken = await self._planner.take(project, request)
            plan = await self._planner.plan(project, request, before.bodies, taken)
            placed = await self._planner.placed(project, request, before, taken)
            before = placed.before
            run = self._new(name, plan, placed, shared=keyed is not None)
            run.warnings = self._planner.warnings(plan, taken)
            run.lease = hold
            if self._closed:
                raise unavailable("The server is stopping.")
            if request.background:
                await self._begin(run)
        except BaseException:
            self._planner.release(before)
            await self._leases.leave(hold)
            raise
        if request.background:
            self._planner.release(before)  # its place is written
            self._leases.settled(hold)
            if self._coordinator.shared:
                self._tell(self._offer(run))
                return run
        self._start(run)
        return run

    async def _offer(self, run: Run) -> None:
        """Leaves a new run to whoever claims it, which is no takeover."""
        await self._takeovers.hand_back([(run.name, FIRST_FENCE)])
        await self._coordinator.submit(Offer(run.name, run.request.model or "", run.request.service_tier))

    async def _create_keyed(self, project: str, request: CreateResponse, response: str) -> Run:
        return await self.create(project, request, keyed=response)

    async def _begin(self, run: Run) -> None:
        """Makes a background run durable; one whose client hears of a failure is not to be there, whatever failed."""
        try:
            await self._store.begin(self._execution.record(run, Outcome("queued"), None))
        except PASSING:
            self._track(self._takeovers.forget(run.name))
            raise

    async def plan(self, project: str, request: CreateResponse) -> Plan:
        """What would be asked of the model.  Raises ``ApiError`` as ``create`` does."""
        return await self._planner.plan_alone(project, request)

    async def compact(self, project: str, request: CreateResponse) -> Compacted:
        """What a client can go on from instead of the request's context.  Raises ``ApiError``."""
        try:
            return await self._planner.compact(project, request)
        except UpstreamError as error:
            raise as_api_error(error) from None

    def _new(self, name: RunName, plan: Plan, placed: Placed, *, shared: bool) -> Run:
        request = plan.request
        echo = shell.build(
            request, response_id=name.response, created_at=int(self._clock.now()), model=plan.route.model
        )
        log: LiveLog | DurableLog = SharedLog() if shared and request.stream else LiveLog()
        if request.background:
            log = DurableLog(name, FIRST_FENCE, self._flusher.wake, limit=self._settings.run_buffer_bytes)
        holding = Holding.of(request) if request.background else None
        draft = Draft(echo, self._clock, may_call(plan), holding=holding, thoughts=plan.thoughts)
        run = Run(name, request, draft, log, plan)
        run.before, run.input, run.input_hash = placed
        run.parent = run.before.parent
        return run

    def _start(self, run: Run) -> None:
        """Its task; none any more when the process stops, which hands the run back."""
        self._alive.add(run)
        if isinstance(run.log, DurableLog):
            self._background[run.name] = run
            run.log.on_committed = partial(self._coordinator.grown, run.name)
        if self._closed:
            run.stop()
        run.task = asyncio.get_running_loop().create_task(self._execution.execute(run))
        run.task.add_done_callback(lambda _: self._ended(run))

    def _ended(self, run: Run) -> None:
        """Whatever became of the task, nobody is left waiting and nothing pinned."""
        self._alive.discard(run)
        if self._background.get(run.name) is run:
            del self._background[run.name]
            self._unfinished.forget(run.name)
        elif run.parent is not None and not run.request.background:
            self._store.release(run.parent)
        run.end()
        if run.request.background and not self._closed:
            whole = isinstance(run.log, DurableLog) and run.log.whole
            tell = self._coordinator.done if whole else self._coordinator.give_back
            if run.disowned:
                tell = self._coordinator.lost
            if whole or not self._handing_over:  # otherwise it is given back with all others
                self._tell(tell(run.name))

    def _tell(self, work: Coroutine[Any, Any, None]) -> None:
        telling = asyncio.get_running_loop().create_task(work)
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    # --- Runs that nobody works on ---

    async def _claim(self) -> None:
        while True:
            await self._room.acquire()
            offer = await self._coordinator.claim()
            self._track(self._take_offered(offer)).add_done_callback(lambda _: self._room.release())

    async def _take_offered(self, offer: Offer) -> None:
        if offer.run in self._background:
            return  # it came twice, or is being cancelled here
        try:
            if not self._coordinator.shared:
                await self._take_up(offer.run)
            elif self._caps.is_full(offer.run.project):
                await self._coordinator.decline(offer.run)
            elif offer.waited > UNSERVED_SECONDS or await self._serves(offer.model):
                await self._take_up(offer.run)
            else:
                await self._coordinator.decline(offer.run)
        except Exception:
            self._tell(self._coordinator.lost(offer.run))
            raise

    async def _serves(self, model: str) -> bool:
        """Whether a run that names this model can be worked on here."""
        try:
            if model:
                await self._models.route(model)
        except ApiError:
            return False
        return True

    def _track(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._taking.add(task)
        task.add_done_callback(self._tracked)
        return task

    def _tracked(self, task: "asyncio.Task[None]") -> None:
        self._taking.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a run could not be taken up, the next start tries it again", exc_info=task.exception())

    async def _take_up(self, name: RunName, *, cancel: bool = False) -> None:
        """Claims a run and starts it where its log ends; with ``cancel`` to end it."""
        run = await self._takeovers.take(name)
        if run is None:
            await (self._coordinator.give_back if self._closed else self._coordinator.done)(name)
            return
        if cancel:
            run.cancel()
        elif isinstance(run.log, DurableLog):
            if self._coordinator.shared and not await self._caps.admits(run):
                await self._takeovers.hand_back([(name, run.log.fence)])
                await self._coordinator.decline(name)
                return
            await self._coordinator.taken(name, run.log.fence)
        logger.info("run %s is taken up behind event %d", name.response, run.draft.last)
        self._start(run)

    # --- Background runs, seen from outside ---

    def _log(self, name: RunName) -> DurableLog | None:
        run = self._background.get(name)
        return run.log if run is not None and isinstance(run.log, DurableLog) else None

    def follow(self, project: str, response: str, reader: Follower) -> "asyncio.Task[None]":
        """Feeds a reader with a background run's events, dead or alive, in a task of its own."""
        following = follow(self._store, self._coordinator, self._log, RunName(project, response), reader)
        return asyncio.get_running_loop().create_task(following)

    async def read(self, project: str, response: str) -> Stored | None:
        """A response as it stands; None where there is none.  One that still runs tells what of its log is durable."""
        name = RunName(project, response)
        stored = await self._store.read(*name)
        if stored is not None and stored.outcome.status not in TERMINAL:
            told = await self._unfinished.read(name, stored)
            run = self._background.get(name)
            if told.outcome.status == "queued" and run is not None and run.draft.opened:
                return told._replace(outcome=Outcome("in_progress"))
            if told.outcome.status not in TERMINAL:
                return told
            stored = await self._store.read(*name)  # it has ended in between
        self._unfinished.forget(name)
        return stored

    async def cancel(self, project: str, response: str) -> bytes:
        """Ends a background run.  Cancelling twice returns the same Response (reference 4.4)."""
        name = RunName(project, response)
        stored = await self._store.read(project, response)
        if stored is None:
            raise response_not_found(response)
        if not stored.shell.background:
            raise invalid("Cannot cancel a synchronous response.", None, None)
        for _ in range(CANCELS_MAX):
            if stored is None or stored.outcome.status in TERMINAL:
                break
            await self._cancel(name)
            stored = await self._store.read(project, response)
        if stored is None:
            raise response_not_found(response)
        if stored.outcome.status not in TERMINAL:
            raise unavailable(_NOT_YET)
        if stored.outcome.status != "cancelled":
            raise invalid(f"Cannot cancel a {stored.outcome.status} response.", None, None)
        return stored.snapshot()

    async def _cancel(self, name: RunName) -> None:
        """Who works on it ends it; where nobody does, it is taken over to be ended, which stops any other owner."""
        if name not in self._background:
            await asyncio.wait([self._track(self._take_up(name, cancel=True))], timeout=CANCEL_SECONDS)
        await self._coordinator.cancel(name)
        run = self._background.get(name)
        if run is None:
            return
        await asyncio.wait([run.done, run.stuck], return_when=asyncio.FIRST_COMPLETED)
        if not run.done.done():
            raise unavailable(_NOT_YET)

    # --- What other processes tell (engine.coordination.Words) ---

    def cancelled(self, run: RunName) -> None:
        if run in self._background:
            self._background[run].cancel()

    def taken(self, run: RunName, fence: int) -> None:
        log = self._log(run)
        if log is not None and log.fence < fence:
            log.disown()

    async def delete(self, project: str, response: str) -> None:
        """Raises ``ApiError`` 404, or 400 while the run is alive (reference 4.3)."""
        status = await self._store.status(project, response)
        if status in UNFINISHED:
            raise invalid("Cannot delete an in-flight response.", None, None)
        if not await self._store.delete(project, response):
            raise response_not_found(response)

    # --- The end of the process ---

    async def hand_over(self) -> None:
        """Other processes go on with the background runs from here on; the foreground ones stay.

        Readers of background runs stay as well, and follow them from wherever they go on.
        """
        if not self._coordinator.shared or self._handing_over:
            return
        self._handing_over = True
        if self._claiming is not None:
            self._claiming.cancel()
        await self._coordinator.retire()
        await asyncio.gather(*self._taking, return_exceptions=True)
        runs = list(self._background.values())
        left = [run for run in runs if not run.finishing and not run.disowned and not run.cancelled]
        for run in left:
            if isinstance(run.log, DurableLog):
                run.log.disown()  # which stops it, and sends its readers to where it goes on
        await asyncio.gather(*(run.task for run in runs if run.task is not None), return_exceptions=True)
        logs = [run.log for run in left if isinstance(run.log, DurableLog) and not self._execution.is_hopeless(run)]
        await self._takeovers.hand_back([(log.name, log.fence) for log in logs])
        for run in left:
            await self._coordinator.give_back(run.name)

    async def close(self) -> None:
        """Ends every run; foreground ones leave nothing, background ones are handed back to be taken up."""
        await self.hand_over()
        if self._coordinator.shared:
            await asyncio.gather(*self._telling, return_exceptions=True)
        self._closed = True
        self._execution.close()
        self._takeovers.close()
        ending = [*self._telling, *([] if self._claiming is None else [self._claiming])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.gather(*self._taking, return_exceptions=True)  # what they take is stopped as soon as it starts
        runs = list(self._alive)
        for run in runs:
            run.stop()
        await asyncio.gather(*(run.task for run in runs if run.task is not None), return_exceptions=True)
        await self._flusher.close()
        await self._leases.close()
        logs = [run.log for run in runs if isinstance(run.log, DurableLog) and not self._execution.is_hopeless(run)]
        await self._takeovers.hand_back([(log.name, log.fence) for log in logs if not log.whole and not log.disowned])
        await self._keyed.close()
