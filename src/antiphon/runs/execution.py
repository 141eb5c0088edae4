"""The task of a run: through the loop of ``engine.turns`` to its end.

One of the two places that catch everything: whatever the task raises ends the run, told in the official shape.
Must not know who waits for it or how events are sent.  Rules: design section 2, "Two kinds of run"; docs/log.md.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from antiphon.engine import context, replays
from antiphon.engine.ports.stores import Disowned, Record, Store, StoredItem, StoreError
from antiphon.engine.ports.tools import Journal
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.engine.shell import build
from antiphon.engine.turns import Plan, Turns
from antiphon.protocol.errors import ApiError, unavailable
from antiphon.protocol.events import Event
from antiphon.protocol.requests import kept
from antiphon.protocol.responses import TERMINAL, Outcome, ResponseError
from antiphon.runs.endings import Endings
from antiphon.runs.flushing import Flusher
from antiphon.runs.journal import NoJournal, StoreJournal
from antiphon.runs.leases import Leases
from antiphon.runs.log import DurableLog, LiveLog
from antiphon.runs.planning import Planner, may_call
from antiphon.runs.run import Run
from antiphon.runs.settings import Settings

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


#: Statuses below 500 that are the model's side's affair: another model may do better.
_MODELS_AFFAIR = frozenset({401, 403, 404, 408, 429})


class Execution:
    """Executes runs."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        clock: Clock,
        flusher: Flusher,
        leases: Leases,
        settings: Settings,
        on_ended: Callable[[str], None],
    ) -> None:
        self._store = store
        self._planner = planner
        self._clock = clock
        self._flusher = flusher
        self._leases = leases
        self._settings = settings
        self._on_ended = on_ended
        self._endings = Endings(store, settings.store_retry_seconds, settings.store_retry_longest_seconds)

    def close(self) -> None:
        """Ends that wait for the store are tried once more."""
        self._endings.close()

    async def execute(self, run: Run) -> None:
        """The boundary: everything that ends a run ends here."""
        run.started = True
        opener = self._opener(run)
        try:
            outcome = await self._outcome(run)
            run.finishing = True
            if outcome is not None and not run.disowned:
                await self._finish(run, outcome)
        except Exception as error:
            logger.exception("run %s could not be finished", run.name)
            self._finish_unstored(run, error)
        finally:
            if opener is not None:
                opener.cancel()
            run.finishing = True
            await self._leases.leave(run.lease)

    def _opener(self, run: Run) -> asyncio.TimerHandle | None:
        """The first events leave when the upstream accepts, or after a while anyway; at once in the background."""
        if run.request.background and not self.is_hopeless(run):
            run.publish(run.draft.open())
        if not run.request.stream:
            return None
        wait = self._settings.first_event_seconds
        return asyncio.get_running_loop().call_later(wait, lambda: run.publish(run.draft.open()))

    def is_hopeless(self, run: Run) -> bool:
        """It was taken over too often without progress, and is to end without any (docs/log.md, I10)."""
        return run.taken is not None and run.taken.attempt > self._settings.takeovers_max

    async def _outcome(self, run: Run) -> Outcome | None:
        """How the run ended; None when it is to leave nothing, or goes on elsewhere."""
        turns = None
        try:
            run.check()
            turns = await self._turns(run)
            while True:
                try:
                    outcome = await turns.run()
                    break
                except UpstreamError as error:
                    if not self._may_fall_back(run, error):
                        raise
                turns = await self._fallen_back(run)
            run.check()
            return outcome
        except asyncio.CancelledError:
            return self._stopped(run)
        except Disowned:
            self._disown(run)
            return None
        except UpstreamError as error:
            failure = as_api_error(error)
            if turns is not None and turns.had_effects:
                failure.headers = (("x-should-retry", "false"),)
            return self._failed(run, failure, ResponseError(error.code, error.message))
        except ApiError as error:  # what the request refers to is not there any more
            return self._failed(run, error, ResponseError(error.code or "server_error", error.message))
        except Exception as error:  # noqa: BLE001 - the run's boundary
            run.break_off(error)
            return self._stopped(run)

    async def _turns(self, run: Run) -> Turns:
        """The loop, standing where the run stands."""
        if run.plan is None:
            run.plan = await self._plan_again(run)
        turns = Turns(run.plan, run.draft, run, run.publish, self._clock, self._journal(run))
        if run.taken is not None:
            await turns.resume(run.taken.noted)
        return turns

    async def _plan_again(self, run: Run) -> Plan:
        taken = run.taken
        assert taken is not None, "only a run that was taken over has no plan"
        if self.is_hopeless(run):
            message = f"The run was taken over {self._settings.takeovers_max} times and did not get on."
            raise ApiError(500, message, type="server_error", code="server_error")
        plan = await self._planner.plan_again(run.name.project, run.request, taken.earlier, taken.input)
        run.draft.may_call = may_call(plan)
        return plan

    def _may_fall_back(self, run: Run, error: UpstreamError) -> bool:
        """To another model, while nothing was said; the row of a background run names its model from the beginning."""
        if run.plan is None or not run.plan.route.fallbacks or run.request.background:
            return False
        return not (error.spoke or run.draft.fold.items) and (error.status >= 500 or error.status in _MODELS_AFFAIR)

    async def _fallen_back(self, run: Run) -> Turns:
        """The loop over a plan for the next model, which the Response names from here on."""
        assert run.plan is not None
        run.check()
        ahead, *rest = run.plan.route.fallbacks
        route = ahead._replace(fallbacks=tuple(rest))
        project, request = run.name.project, run.request
        plan = run.plan = await self._planner.plan(project, request, run.before.bodies, run.input, route)
        shell = run.draft.shell
        run.draft.shell = build(request, response_id=shell.id, created_at=shell.created_at, model=route.model)
        run.draft.may_call = may_call(plan)
        run.warnings = self._planner.warnings(plan, run.input)
        return Turns(plan, run.draft, run, run.publish, self._clock, self._journal(run))

    def _disown(self, run: Run) -> None:
        logger.warning("run %s has another owner by now", run.name)
        if isinstance(run.log, DurableLog):
            run.log.disown()

    def _stopped(self, run: Run) -> Outcome | None:
        """The run was stopped: by its client, by a bug, by its next owner, or because the server stops."""
        if run.disowned:
            return None
        if run.cancelled:
            return Outcome("cancelled") if run.request.background else None
        if run.broken is None:
            run.failure = unavailable("The server is stopping.")
            return None
        logger.error("run %s failed", run.name, exc_info=run.broken)
        message = "The server had an error while processing your request."
        failure = ApiError(500, message, type="server_error", code="server_error")
        return self._failed(run, failure, ResponseError("server_error", message))

    def _failed(self, run: Run, failure: ApiError, error: ResponseError) -> Outcome | None:
        """A failure before the first event is an HTTP error and leaves nothing; later the response is a failed one."""
        run.failure = failure
        if not run.has_begun and not run.request.background:
            return None
        return Outcome("failed", error=error)

    def _journal(self, run: Run) -> Journal:
        if not isinstance(run.log, DurableLog):
            return NoJournal()
        settings = self._settings
        return StoreJournal(self._store, run.log, settings.store_retry_seconds, settings.store_retry_longest_seconds)

    # --- The end ---

    async def _finish(self, run: Run, outcome: Outcome) -> None:
        """Stores the response, then lets the terminal event out: nothing acknowledged is ever lost."""
        if isinstance(run.log, DurableLog):
            run.log.sealed = True  # before the last events: they are one transaction with the end (docs/log.md, I6)
        run.publish(run.draft.open())
        if outcome.status in ("failed", "cancelled"):
            run.publish(run.draft.abandon())
        terminal, snapshot = run.draft.end(outcome)
        run.outcome = outcome
        if isinstance(run.log, DurableLog):
            await self._finish_background(run, run.log, outcome, terminal)
        else:
            if run.request.stored or run.lease is not None:
                await self._store.save(self.record(run, outcome, self._expiry(run)))
                self._leases.settled(run.lease)
            run.publish([terminal])
        run.result = snapshot

    async def _finish_background(self, run: Run, log: DurableLog, outcome: Outcome, terminal: Event) -> None:
        await self._flusher.settle()  # what was made first is written first
        log.publish([terminal])
        await self._endings.write(self.record(run, outcome, self._expiry(run)), log, run.end_is_stuck)
        self._on_ended(run.name.project)

    def _finish_unstored(self, run: Run, error: Exception) -> None:
        """The end could not be written: who follows live is told so; a background run is taken up by the next start."""
        run.unstored = True
        message = "The response could not be stored."
        unknown = ApiError(500, message, type="server_error", code="server_error")
        run.failure = unavailable(message) if isinstance(error, StoreError) else unknown
        if isinstance(error, ApiError):
            run.failure = error
        if isinstance(run.log, LiveLog) and not run.log.whole:
            terminal, _ = run.draft.end(Outcome("failed", error=ResponseError("server_error", message)))
            run.publish([terminal])

    def _expiry(self, run: Run) -> int | None:
        now = int(self._clock.now())
        if not run.request.stored:
            return now + self._settings.unstored_seconds
        days = self._settings.response_days
        return now + days * 86400 if days else None

    def record(self, run: Run, outcome: Outcome, expires_at: int | None) -> Record:
        """The run as it is written, with the items before it that nothing else has written."""
        unwritten = [] if run.before.in_store else context.stored(run.before.bodies)
        output = run.draft.output()
        input_hash, full_hash = _hashes(run, output, outcome)
        return Record(
            project=run.name.project,
            shell=run.draft.shell,
            outcome=outcome,
            parent=run.parent,
            input=[*unwritten, *(item.stored() for item in run.input)],
            output=output,
            request=kept(run.request),
            streamed=bool(run.request.stream),
            expires_at=expires_at,
            stored=run.request.stored,
            conversation=run.request.conversation_id,
            input_hash=input_hash,
            full_hash=full_hash,
        )


def _hashes(run: Run, output: Sequence[StoredItem], outcome: Outcome) -> tuple[bytes | None, bytes | None]:
    """The hashes behind its input and its output; None where no later request may go on, or not yet."""
    given = run.input_hash
    if given is None or outcome.status in ("failed", "cancelled"):
        return None, None
    return given, replays.behind(given, [item.body for item in output]) if outcome.status in TERMINAL else None


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
