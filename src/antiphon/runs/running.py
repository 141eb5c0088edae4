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
    Tool,
    ToolCall,
    ToolResult,
    UpstreamError,
)
from antiphon.engine.turns import Limits, Plan, Turns
from antiphon.protocol.errors import ApiError, invalid, response_not_found
from antiphon.protocol.events import Event
from antiphon.protocol.requests import CreateResponse, require_model
from antiphon.protocol.responses import Outcome, ResponseError
from antiphon.runs.log import DurableLog, Flusher, Follower, LiveLog, follow

logger = logging.getLogger("antiphon.runs")

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
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken: Exception | None = None
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None
        self._held = False
        self.task: asyncio.Task[None] | None = None

    # --- The feed: an ordinary call down to the client's socket ---

    def __call__(self, deltas: Sequence[Delta]) -> None:
        """What an upstream read.  What goes wrong here fails the run and stops the upstream."""
        if self._broken is not None:
            return
        try:
            self.publish(self.draft.apply(deltas))
        except Exception as error:  # noqa: BLE001 - the run's boundary: raised again in its task
            self._broken = error
            self.stop()

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
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
        """Raises what went wrong in the feed."""
        if self._broken is not None:
            raise self._broken

    # --- Its life, seen from outside ---

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
        """Ends the task where it stands."""
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """Whoever waits is told."""
        self._open()
        if not self.done.done():
            self.done.set_result(None)
        self.log.end()

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
        self._background: dict[tuple[str, str], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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
        self._start(run)
        return run

    async def _prepare(self, project: str, request: CreateResponse, name: str, before: Context) -> Run:
        route = await self._models.route(name)
        taken = await intake.take(request.input, project, self._store, self._clock)
        items = [*context.view(before.bodies), *taken]
        context.check_pairs(items)
        box = toolbox.sort(request, self._tools, strict=self._settings.strict_tools)
        takes = route.upstream.capabilities(route.model)
        items = await context.readable(items, len(before.bodies), takes, self._attachments)
        items = toolbox.recall(items, self._tools)
        plan = Plan(request, route, items, box, self._settings.limits)
        response_id = self._clock.new_id("resp_")
        echo = shell.build(request, response_id=response_id, created_at=int(self._clock.now()), model=route.model)
        log: LiveLog | DurableLog = LiveLog()
        if request.background:
            log = DurableLog(project, response_id, self._flusher.wake)
        run = Run(project, plan, Draft(echo, self._clock, frozenset(box.hosted)), before.parent, log)
        run.warnings = [*request.unknown, *request.without_effect(), *box.left_out]
        run.input = taken
        return run

    def _start(self, run: Run) -> None:
        run.task = asyncio.get_running_loop().create_task(self._execute(run))
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)
        if run.plan.request.background:
            self._background[run.project, run.draft.shell.id] = run

    # --- The run's task ---

    async def _execute(self, run: Run) -> None:
        """The boundary: everything that ends a run ends here."""
        opener = self._opener(run)
        try:
            outcome = await self._outcome(run)
            if outcome is not None:
                await self._finish(run, outcome)
        except Exception:
            logger.exception("run %s could not be finished", run.draft.shell.id)
            run.failure = run.failure or ApiError(500, "The response could not be stored.", type="server_error")
        finally:
            opener.cancel()
            self._background.pop((run.project, run.draft.shell.id), None)
            if not run.plan.request.background:
                self._release(run.parent)
            run.end()

    def _opener(self, run: Run) -> asyncio.TimerHandle:
        """The first events leave when the upstream accepts, or after a while anyway; at once in the background."""
        wait = 0 if run.plan.request.background else self._settings.first_event_seconds
        loop = asyncio.get_running_loop()
        streamed = run.plan.request.stream or run.plan.request.background
        return loop.call_later(wait, lambda: run.publish(run.draft.open()) if streamed else None)

    async def _outcome(self, run: Run) -> Outcome | None:
        """How the run ended; None when it is to leave nothing."""
        journal = self._journal(run)
        turns = Turns(run.plan, run.draft, run, run.publish, self._clock, journal)
        try:
            outcome = await turns.run()
            run.check()
            return outcome
        except asyncio.CancelledError:
            if run.cancelled:
                return Outcome("cancelled") if run.plan.request.background else None
            return self._broken(run) if run._broken is not None else None
        except UpstreamError as error:
            run.failure = as_api_error(error)
            if not run.draft.opened:
                return None
            return Outcome("failed", error=ResponseError(error.code, error.message))
        except Exception:
            logger.exception("run %s failed", run.draft.shell.id)
            return self._broken(run)

    def _journal(self, run: Run) -> Journal:
        return StoreJournal(self._store, run) if run.plan.request.background else NoJournal()

    def _broken(self, run: Run) -> Outcome:
        message = "The server had an error while processing your request."
        if run._broken is not None:
            logger.error("run %s failed in its feed", run.draft.shell.id, exc_info=run._broken)
        run.failure = ApiError(500, message, type="server_error", code="server_error")
        return Outcome("failed", error=ResponseError("server_error", message))

    async def _finish(self, run: Run, outcome: Outcome) -> None:
        """Stores the response, then lets the terminal event out: nothing acknowledged is ever lost."""
        if outcome.status in ("failed", "cancelled"):
            run.publish(run.draft.abandon())
        elif not run.draft.opened:
            run.publish(run.draft.open())
        terminal, snapshot = run.draft.end(outcome)
        if isinstance(run.log, DurableLog):
            await self._finish_background(run, run.log, outcome, terminal)
        else:
            if run.plan.request.stored:
                await self._store.save(self._record(run, outcome, self._expiry(run)))
            run.publish([terminal])
        run.result = snapshot

    async def _finish_background(self, run: Run, log: DurableLog, outcome: Outcome, terminal: Event) -> None:
        log.publish([terminal])
        batch = log.take()
        await self._store.finish(self._record(run, outcome, self._expiry(run)), batch)
        log.committed(batch.events)

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

    async def cancel(self, project: str, response: str) -> bytes:
        """Ends a background run.  Cancelling twice returns the same Response (reference 4.4)."""
        run = self._background.get((project, response))
        if run is not None:
            run.cancel()
            await asyncio.shield(run.done)
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
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._flusher.settle()


def as_api_error(error: UpstreamError) -> ApiError:
    """An upstream's failure as the reply's error (design decision 10)."""
    status = error.status
    if status in (401, 403):
        message = f"The upstream refused this server's credentials: {error.message}"
        return ApiError(502, message, type="server_error", code=error.code, headers=(("x-should-retry", "false"),))
    if status < 500 and status != 429:
        status = status if status in (400, 404, 413, 415, 422) else 400
        return ApiError(status, error.message, code=error.code, param=error.param)
    kind = "rate_limit_error" if status == 429 else "server_error"
    headers = [("x-should-retry", "true")]
    if error.retry_after_seconds is not None:
        headers.append(("retry-after", str(max(1, round(error.retry_after_seconds)))))
    return ApiError(status, error.message, type=kind, code=error.code, headers=tuple(headers))
