"""Runs: each is a task that goes through the loop of ``engine.turns``, with a log and an end.

One of the two places that catch everything: whatever a run's task raises ends that run, told in the official shape.
Must not know how events are sent.  Rules: design section 2, "Two kinds of run".
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from antiphon.engine import context, intake, shell, toolbox
from antiphon.engine.draft import Draft
from antiphon.engine.ports import (
    Attachments,
    Clock,
    Context,
    Delta,
    Journal,
    Models,
    Parent,
    Record,
    Store,
    Stored,
    StoreError,
    Tool,
    ToolCall,
    ToolResult,
    UpstreamError,
)
from antiphon.engine.turns import Limits, Plan, Turns
from antiphon.protocol.errors import ApiError, invalid, response_not_found, unavailable
from antiphon.protocol.events import Event
from antiphon.protocol.requests import CreateResponse, require_model
from antiphon.protocol.responses import Outcome, ResponseError
from antiphon.runs.endings import Endings
from antiphon.runs.log import DurableLog, Flusher, Follower, LiveLog, follow

logger = logging.getLogger("antiphon.runs")

#: Waiting does not help against these (reference 10).
QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)

#: Request members that the Response does not repeat; they are stored beside it.
_NOT_ECHOED = ("include",)


class Settings(msgspec.Struct, frozen=True):
    """What an operator may change about runs."""

    default_model: str | None = None
    strict_tools: bool = False
    background_unstored: str = "accept"
    first_event_seconds: float = 1.0
    response_days: int = 30
    unstored_seconds: int = 600
    flush_seconds: float = 0.02
    #: Between two tries to store the end of a background run: at first, and at the longest.
    end_retry_seconds: float = 0.5
    end_retry_longest_seconds: float = 30.0
    limits: Limits = Limits()


class NoJournal:
    """Foreground runs end with their client: nothing is ever resumed, so nothing is noted."""

    async def begin(self, call: ToolCall) -> ToolResult | None:  # noqa: ARG002 - the port's signature
        return None

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        pass


class Run:
    """One response on its way."""

    def __init__(
        self, project: str, plan: Plan, draft: Draft, parent: Parent | None, log: LiveLog | DurableLog
    ) -> None:
        self.project = project
        self.plan = plan
        self.draft = draft
        self.parent = parent
        self.log = log
        self.warnings: list[str] = []
        self.input: list[intake.Taken] = []
        self.result: bytes = b""
        self.failure: ApiError | None = None
        self.cancelled = False
        self.done = asyncio.get_running_loop().create_future()
        #: Done with the first try to store its end that failed; the tries go on.
        self.stuck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken: Exception | None = None
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None
        self._held = False
        self._stopping = False
        #: Set when its task runs; a task that is cancelled before would never come to its end.
        self.started = False
        #: Set when its end is being written: from here on nothing stops it.
        self.finishing = False
        self.task: asyncio.Task[None] | None = None

    # --- The feed: an ordinary call down to the client's socket ---

    def __call__(self, deltas: Sequence[Delta]) -> None:
        """What an upstream read.  What goes wrong here fails the run and stops the upstream."""
        if self.broken is not None or self._stopping or self.finishing:
            return  # nobody is to hear of it any more
        try:
            self.publish(self.draft.apply(deltas))
        except Exception as error:  # noqa: BLE001 - the run's boundary: raised again in its task
            self.break_off(error)

    def break_off(self, error: Exception) -> None:
        """Fails the run; the first reason counts.  Its task may be the one that runs now, so it is stopped later."""
        self.broken = self.broken or error
        asyncio.get_running_loop().call_soon(self.stop)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        if self._held and self._resume is not None:
            self._resume()  # a source that is let go must not stay paused
        self._pause, self._resume = pause, resume
        if self._held:
            pause()

    def hold(self) -> None:
        """The reader cannot take more: the upstream is paused."""
        self._held = True
        if self._pause is not None:
            self._pause()

    def go_on(self) -> None:
        """The reader has room again."""
        self._held = False
        if self._resume is not None:
            self._resume()

    def publish(self, events: list[Event]) -> None:
        """Appends to the log."""
        if events:
            self.log.publish(events)
            self._open()

    def check(self) -> None:
        """Raises what went wrong in the feed, or that the run is to stop."""
        if self._stopping:
            raise asyncio.CancelledError
        if self.broken is not None:
            raise self.broken

    # --- Its life, seen from outside ---

    @property
    def has_begun(self) -> bool:
        """Whether anybody may have seen an event of it."""
        return self._opened.done()

    async def opened(self) -> None:
        """Returns with the first event.  Raises ``ApiError`` when the run failed before it."""
        await self._opened
        if self.failure is not None:
            raise self.failure

    async def finished(self) -> bytes:
        """The final Response.  Raises ``ApiError`` when the upstream failed."""
        await asyncio.shield(self.done)
        if self.failure is not None:
            raise self.failure
        return self.result

    def cancel(self) -> None:
        """The client left, or asked for it."""
        self.cancelled = True
        self.stop()

    def stop(self) -> None:
        """Ends the task where it stands, unless it is past stopping."""
        self._stopping = True
        if self.task is not None and self.started and not self.finishing:
            self.task.cancel()

    def end(self) -> None:
        """Whoever waits is told."""
        self._open()
        if not self.done.done():
            self.done.set_result(None)
        self.log.end()

    def end_is_stuck(self) -> None:
        """Its end could not be stored yet."""
        if not self.stuck.done():
            self.stuck.set_result(None)

    def _open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)


class StoreJournal:
    """The journal of one background run."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run

    async def begin(self, call: ToolCall) -> ToolResult | None:
        return await self._store.journal_begin(self._run.project, self._run.draft.shell.id, call)

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        await self._store.journal_complete(self._run.project, self._run.draft.shell.id, call, result)


class Runs:
    """Starts runs and knows those that are alive."""

    def __init__(
        self,
        store: Store,
        models: Models,
        tools: Mapping[str, Tool],
        attachments: Attachments,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._store = store
        self._models = models
        self._tools = tools
        self._attachments = attachments
        self._clock = clock
        self._settings = settings
        self._flusher = Flusher(store, settings.flush_seconds)
        self._endings = Endings(store, settings.end_retry_seconds, settings.end_retry_longest_seconds)
        self._background: dict[tuple[str, str], Run] = {}
        self._alive: set[Run] = set()

    async def create(self, project: str, request: CreateResponse) -> Run:
        """Checks what a request refers to and starts it.  Raises ``ApiError``."""
        if request.background and not request.stored and self._settings.background_unstored == "refuse":
            raise invalid("Background responses need 'store' to be true.", "background", "unsupported_parameter")
        name = require_model(request, self._settings.default_model)
        before = Context(None, [])
        if request.previous_response_id is not None:
            before = await self._store.context(project, request.previous_response_id)
        try:
            run = await self._prepare(project, request, name, before)
            if request.background:
                await self._store.begin(self._record(run, Outcome("queued"), None))
        except BaseException:
            self._release(before.parent)
            raise
        if request.background:
            self._release(before.parent)  # its place is written
        self._start(run)
        return run

    async def _prepare(self, project: str, request: CreateResponse, name: str, before: Context) -> Run:
        route = await self._models.route(name)
        taken = await intake.take(request.input, project, self._store, self._clock)
        earlier = context.without_cut_calls(context.view(before.bodies))
        items = [*earlier, *taken]
        context.check_pairs(items)
        box = toolbox.sort(request, self._tools, strict=self._settings.strict_tools)
        takes = route.upstream.capabilities(route.model)
        at_most = self._settings.limits.attachments_max
        items = await context.readable(items, len(earlier), takes, self._attachments, at_most)
        items = toolbox.recall(items, self._tools)
        plan = Plan(request, route, items, box, self._settings.limits)
        response_id = self._clock.new_id("resp_")
        echo = shell.build(request, response_id=response_id, created_at=int(self._clock.now()), model=route.model)
        log: LiveLog | DurableLog = LiveLog()
        if request.background:
            log = DurableLog(project, response_id, self._flusher.wake)
        draft = Draft(
            echo,
            self._clock,
            frozenset(box.hosted),
            allowed=box.allowed,
            parallel=request.parallel_tool_calls is not False,
        )
        run = Run(project, plan, draft, before.parent, log)
        if isinstance(log, DurableLog):
            log.on_lost = lambda: run.break_off(OSError("events of the run could not be written"))
        unseen = toolbox.unseen(taken, self._tools)
        run.warnings = [*request.unknown, *request.without_effect(verbosity=takes.verbosity), *box.left_out, *unseen]
        run.input = taken
        return run

    def _start(self, run: Run) -> None:
        run.task = asyncio.get_running_loop().create_task(self._execute(run))
        run.task.add_done_callback(lambda _: self._ended(run))
        self._alive.add(run)
        if run.plan.request.background:
            self._background[run.project, run.draft.shell.id] = run

    def _ended(self, run: Run) -> None:
        """Whatever became of the task, nobody is left waiting and nothing pinned."""
        self._alive.discard(run)
        if run.plan.request.background:
            self._background.pop((run.project, run.draft.shell.id), None)
        else:
            self._release(run.parent)
        run.end()

    # --- The run's task ---

    async def _execute(self, run: Run) -> None:
        """The boundary: everything that ends a run ends here."""
        run.started = True
        opener = self._opener(run)
        try:
            outcome = await self._outcome(run)
            run.finishing = True
            if outcome is not None:
                await self._finish(run, outcome)
        except Exception as error:
            logger.exception("run %s could not be finished", run.draft.shell.id)
            self._finish_unstored(run, error)
        finally:
            opener.cancel()

    def _opener(self, run: Run) -> asyncio.TimerHandle:
        """The first events leave when the upstream accepts, or after a while anyway; at once in the background."""
        if run.plan.request.background:
            run.publish(run.draft.open())
        wait, streamed = self._settings.first_event_seconds, run.plan.request.stream
        loop = asyncio.get_running_loop()
        return loop.call_later(wait, lambda: run.publish(run.draft.open()) if streamed else None)

    async def _outcome(self, run: Run) -> Outcome | None:
        """How the run ended; None when it is to leave nothing."""
        journal = self._journal(run)
        turns = Turns(run.plan, run.draft, run, run.publish, self._clock, journal)
        try:
            run.check()
            outcome = await turns.run()
            run.check()
            return outcome
        except asyncio.CancelledError:
            return self._stopped(run)
        except UpstreamError as error:
            failure = as_api_error(error)
            if turns.had_effects:
                failure.headers = (("x-should-retry", "false"),)
            return self._failed(run, failure, ResponseError(error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the run's boundary
            run.break_off(error)
            return self._stopped(run)

    def _stopped(self, run: Run) -> Outcome | None:
        """The run was stopped: by its client, by a bug, or because the server stops."""
        if run.cancelled:
            return Outcome("cancelled") if run.plan.request.background else None
        if run.broken is None:
            run.failure = unavailable("The server is stopping.")
            return None
        logger.error("run %s failed", run.draft.shell.id, exc_info=run.broken)
        message = "The server had an error while processing your request."
        failure = ApiError(500, message, type="server_error", code="server_error")
        return self._failed(run, failure, ResponseError("server_error", message))

    def _failed(self, run: Run, failure: ApiError, error: ResponseError) -> Outcome | None:
        """A failure before the first event is an HTTP error and leaves nothing; later the response is a failed one."""
        run.failure = failure
        if not run.has_begun and not run.plan.request.background:
            return None
        return Outcome("failed", error=error)

    def _journal(self, run: Run) -> Journal:
        return StoreJournal(self._store, run) if run.plan.request.background else NoJournal()

    async def _finish(self, run: Run, outcome: Outcome) -> None:
        """Stores the response, then lets the terminal event out: nothing acknowledged is ever lost."""
        run.publish(run.draft.open())
        if outcome.status in ("failed", "cancelled"):
            run.publish(run.draft.abandon())
        terminal, snapshot = run.draft.end(outcome)
        if isinstance(run.log, DurableLog):
            await self._finish_background(run, run.log, outcome, terminal)
        else:
            if run.plan.request.stored:
                await self._store.save(self._record(run, outcome, self._expiry(run)))
            run.publish([terminal])
        run.result = snapshot

    def _finish_unstored(self, run: Run, error: Exception) -> None:
        """The end could not be written: who follows live is told so; a background run is settled at the next start."""
        message = "The response could not be stored."
        unknown = ApiError(500, message, type="server_error", code="server_error")
        run.failure = unavailable(message) if isinstance(error, StoreError) else unknown
        if isinstance(error, ApiError):
            run.failure = error
        if isinstance(run.log, LiveLog) and not run.log.whole:
            terminal, _ = run.draft.end(Outcome("failed", error=ResponseError("server_error", message)))
            run.publish([terminal])

    async def _finish_background(self, run: Run, log: DurableLog, outcome: Outcome, terminal: Event) -> None:
        await self._flusher.settle()  # what was made first is written first
        log.publish([terminal])
        await self._endings.write(self._record(run, outcome, self._expiry(run)), log, run.end_is_stuck)

    def _expiry(self, run: Run) -> int | None:
        now = int(self._clock.now())
        if not run.plan.request.stored:
            return now + self._settings.unstored_seconds
        days = self._settings.response_days
        return now + days * 86400 if days else None

    def _record(self, run: Run, outcome: Outcome, expires_at: int | None) -> Record:
        request = run.plan.request
        beside = {name: getattr(request, name) for name in _NOT_ECHOED if getattr(request, name) is not None}
        return Record(
            project=run.project,
            shell=run.draft.shell,
            outcome=outcome,
            parent=run.parent,
            input=[item.stored() for item in run.input],
            output=run.draft.output(),
            request=msgspec.json.encode({**beside, **request.unknown}),
            streamed=bool(request.stream),
            expires_at=expires_at,
            stored=request.stored,
        )

    def _release(self, parent: Parent | None) -> None:
        if parent is not None:
            self._store.release(parent)

    # --- Background runs, seen from outside ---

    def _log(self, project: str, response: str) -> DurableLog | None:
        run = self._background.get((project, response))
        return run.log if run is not None and isinstance(run.log, DurableLog) else None

    def follow(self, project: str, response: str, reader: Follower) -> asyncio.Task[None]:
        """Feeds a reader with a background run's events, dead or alive, in a task of its own."""
        following = follow(self._store, self._log(project, response), project, response, reader)
        return asyncio.get_running_loop().create_task(following)

    async def read(self, project: str, response: str) -> Stored | None:
        """A response as it stands; None where there is none.  What the store holds as queued may be running here."""
        stored = await self._store.read(project, response)
        run = self._background.get((project, response))
        if stored is None or stored.outcome.status != "queued" or run is None or not run.draft.opened:
            return stored
        return stored._replace(outcome=Outcome("in_progress"))

    async def cancel(self, project: str, response: str) -> bytes:
        """Ends a background run.  Cancelling twice returns the same Response (reference 4.4)."""
        run = self._background.get((project, response))
        if run is not None:
            run.cancel()
            await asyncio.wait([run.done, run.stuck], return_when=asyncio.FIRST_COMPLETED)
            if not run.done.done():
                raise unavailable("The end of this response could not be stored yet. Please try again.")
        stored = await self._store.read(project, response)
        if stored is None:
            raise response_not_found(response)
        if not stored.shell.background:
            raise invalid("Cannot cancel a synchronous response.", None, None)
        if stored.outcome.status != "cancelled":
            raise invalid(f"Cannot cancel a {stored.outcome.status} response.", None, None)
        return stored.snapshot()

    async def delete(self, project: str, response: str) -> None:
        """Raises ``ApiError`` 404, or 400 while the run is alive (reference 4.3)."""
        if (project, response) in self._background:
            raise invalid("Cannot delete an in-flight response.", None, None)
        if not await self._store.delete(project, response):
            raise response_not_found(response)

    async def close(self) -> None:
        """Ends every run; foreground ones leave nothing, background ones are settled at the next start."""
        self._endings.close()
        tasks = []
        for run in list(self._alive):
            run.stop()
            tasks.append(run.task)
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        await self._flusher.close()


def as_api_error(error: UpstreamError) -> ApiError:
    """An upstream's failure as the reply's error (design decision 10)."""
    status = error.status
    if status in (401, 403):
        message = f"The upstream refused this server's credentials: {error.message}"
        return ApiError(502, message, type="server_error", code=error.code, headers=(("x-should-retry", "false"),))
    if status < 500 and status != 429:
        status = status if status in (400, 404, 413, 415, 422) else 400
        return ApiError(status, error.message, code=error.code, param=error.param)
    spent = error.code in QUOTA_CODES
    kind = "server_error" if status != 429 else "insufficient_quota" if spent else "rate_limit_error"
    headers = [("x-should-retry", "false" if spent else "true")]
    if error.retry_after_seconds is not None:
        headers.append(("retry-after", str(max(1, round(error.retry_after_seconds)))))
    return ApiError(status, error.message, type=kind, code=error.code, headers=tuple(headers))
