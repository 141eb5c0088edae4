"""The loop: a model turn, its hosted tool calls, again, until done, cancelled or at a limit.

It can be taken up where a log ends.  Nothing here asks whether anybody is streaming.  Must not know what a run is
stored as.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec import Raw

from antiphon.engine import compaction, context, window
from antiphon.engine.calls import ASKED, CUSTOM, FUNCTION, SEARCH, format_object
from antiphon.engine.compaction import Compactor
from antiphon.engine.contracts import Contracts
from antiphon.engine.deltas import Delta
from antiphon.engine.draft import Draft
from antiphon.engine.estimates import Measured, Spoken, tokens_of
from antiphon.engine.fold import FoldedItem
from antiphon.engine.forcing import Forcing, Keeper, demanded
from antiphon.engine.narrowing import narrowed
from antiphon.engine.offers import Hosted
from antiphon.engine.ports.tools import Journal, Noted, ToolCall, ToolError, ToolResult
from antiphon.engine.ports.upstreams import ContextItem, Feed, ModelRequest, Route, Standing, Stop, UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.engine.recalling import exchange, found, recall
from antiphon.engine.strictness import Accept, Fail, Native, Strictness
from antiphon.engine.thoughts import Thoughts
from antiphon.engine.toolbox import Toolbox
from antiphon.protocol.events import Event
from antiphon.protocol.items import Item, decode_item
from antiphon.protocol.requests import OUTPUT_TOKENS_MIN, CreateResponse
from antiphon.protocol.responses import Outcome, ResponseError, Usage
from antiphon.protocol.tools import Tool as Declaration
from antiphon.protocol.tools import read_listed

#: Tells events to whoever follows.
Publish: TypeAlias = Callable[[list[Event]], None]


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one run."""

    model_calls_max: int = 64
    tool_seconds: float = 300
    attachments_max: int = 100
    #: A hosted call with effects that a crash interrupted is made again; otherwise the model is told (I8).
    repeat_interrupted_calls: bool = False


class Plan(msgspec.Struct):
    """Everything that a run needs, decided before it starts."""

    request: CreateResponse
    route: Route
    items: list[ContextItem]
    toolbox: Toolbox
    limits: Limits
    #: What the request's ``strict`` promises, and how much of it the upstream sees to.
    contracts: Contracts = Contracts()
    native: Native = Native()
    #: What opens the reasoning that this response has made; None: nothing seals it.
    thoughts: Thoughts | None = None
    #: What makes and reads compaction items; None: the context is never compacted.
    compactor: Compactor | None = None
    project: str = ""


class _Broken(Exception):  # it ends the loop with an outcome
    """The model's reply breaks what was promised, for good."""

    def __init__(self, error: ResponseError) -> None:
        super().__init__(error.message)
        self.error = error


class _Kept:
    """A feed behind a keeper."""

    def __init__(self, feed: Feed, keeper: Keeper) -> None:
        self._feed = feed
        self._keeper = keeper
        self.break_off: Callable[[], object] = _nothing

    def __call__(self, deltas: Sequence[Delta]) -> None:
        if self._keeper.failed is not None:
            return
        told = self._keeper.admit(deltas)
        if told or not deltas:
            self._feed(told)
        if self._keeper.failed is not None:
            self.break_off()

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._feed.on_pressure(pause, resume)


class Turns:
    """One run of the loop over a plan."""

    def __init__(self, plan: Plan, draft: Draft, feed: Feed, publish: Publish, clock: Clock, journal: Journal) -> None:
        self._plan = plan
        self._draft = draft
        self._feed = feed
        self._publish = publish
        self._clock = clock
        self._journal = journal
        self._items = list(plan.items)
        #: What was wrong with the last attempt of this turn; the attempts that fail are nobody's history.
        self._pleas: list[ContextItem] = []
        #: The tools that this attempt only asks about.
        self._narrowed: Sequence[Declaration] = ()
        #: Whether the call that ``tool_choice`` demands was made; it is forced once, or a loop would never end (5.3).
        self._forced = False
        self._usage: Usage | None = None
        #: The last model call, and what is heard of its reply.
        self._last: ModelRequest | None = None
        self._heard: Measured | None = None
        self._hosted_calls = 0
        #: Whether a tool was run that is not read-only: then the whole must not be tried again unasked.
        self.had_effects = False

    async def resume(self, noted: Sequence[Noted]) -> None:
        """Takes the run up where its log ends; ``noted`` are its hosted calls (docs/log.md, "Taking over")."""
        done = {item.id for item in self._draft.fold.items if item.body is not None}
        hosted = {one.call.item_id for one in noted}
        self._publish(self._draft.settle(turn_over=not hosted <= done, hosted=hosted))
        if self._draft.fold.items:
            self._usage = self._told_so_far()
        calls = {one.call.item_id: one for one in noted}
        told: list[ContextItem] = []
        for item in self._draft.fold.items:
            one = calls.pop(item.id, None) if item.body is not None else None
            if one is not None and one.result is not None:
                told += exchange(item.id, one.call.name, one.call.arguments, one.result.for_model)
            elif item.body is not None:
                told.append(ContextItem(decode_item(item.body), item.body))
        searched = self._load_again(told)
        self._hosted_calls = len(noted) + searched
        self._items += recall(told, self._plan.toolbox, self._plan.thoughts)
        if self._plan.compactor is not None:
            self._items = self._plan.compactor.seen(self._items, len(self._items)).items
        if not self._draft.cut and not calls and told and told[-1].view.kind == "message":
            self._items += context.asked_for_more()
        for one in calls.values():
            await self._take_up(one)

    def _load_again(self, items: Sequence[ContextItem]) -> int:
        """What searches of this run have found can be called; how many searches there were."""
        outputs = [item.view for item in items if item.view.kind == "tool_search_output"]
        for view in outputs:
            self._plan.toolbox.load_listed(read_listed(view.tools, "tools"))
        return len(outputs)

    async def _take_up(self, one: Noted) -> None:
        """A call that was begun and whose item is not done."""
        hosted = self._plan.toolbox.hosted.get(one.call.name)
        if hosted is None:  # the operator has taken the tool away
            if self._draft.has(one.call.item_id):
                self._publish(self._draft.close_hosted(one.call.item_id, _INTERRUPTED.members, "failed"))
            self._items += exchange(one.call.item_id, one.call.name, one.call.arguments, _INTERRUPTED.for_model)
            return
        again = hosted.tool.read_only or self._plan.limits.repeat_interrupted_calls
        result = one.result
        if result is None and not again:
            self.had_effects = True
            result = _INTERRUPTED
            await self._journal.complete(one.call, result)
        await self._make(one.call, hosted, result)

    async def run(self) -> Outcome:
        """Runs to the end.  Raises ``UpstreamError`` when the model's side fails."""
        try:
            return await self._run()
        except _Broken as broken:
            return Outcome("failed", error=broken.error, usage=self._usage)

    async def _run(self) -> Outcome:
        if not self._plan.request.generate:
            self._usage = Usage()
            return self._completed()
        if self._waits_for_client(0):
            return self._completed()  # the log was cut behind the calls that the client is to answer
        if self._plan.request.compacts_now:
            if not self._draft.fold.items:
                await self._compact()
            return self._completed()
        for _ in range(self._plan.limits.model_calls_max):
            await self._compact_when_due()
            # An item that is open was cut, and this model call goes on with it.
            seen = sum(item.body is not None for item in self._draft.fold.items)
            stop = await self._kept_turn()
            self._count(stop)
            cut = stop.reason in _INCOMPLETE
            self._publish(self._draft.end_turn(cut=cut))
            hosted = [] if cut else self._draft.hosted_calls()
            if hosted:
                self._remember(seen)
                await self._run_hosted(hosted)
            if cut:
                return Outcome("incomplete", incomplete_reason=_INCOMPLETE[stop.reason], usage=self._usage)
            if not hosted or self._waits_for_client(seen):
                return self._completed()
        message = f"The run needed more than {self._plan.limits.model_calls_max} model calls."
        return Outcome("failed", error=ResponseError("server_error", message), usage=self._usage)

    def _completed(self) -> Outcome:
        return Outcome("completed", int(self._clock.now()), usage=self._usage)

    async def _kept_turn(self) -> Stop:
        """A model turn that keeps what is promised of it: asked again while it breaks that (design decision 14)."""
        keeper = self._keeper()
        if keeper is None:
            return await self._model_turn()
        while True:
            stop = await self._checked_call(keeper)
            verdict = await keeper.done(stop.reason)
            if isinstance(verdict, Fail):
                self._count(stop)
                raise _Broken(verdict.error)
            if isinstance(verdict, Accept):
                self._pleas, self._narrowed, self._forced = [], (), True
                if verdict.deltas:
                    self._feed(verdict.deltas)
                return stop
            self._count(stop)
            self._pleas, self._narrowed = verdict.messages, verdict.narrowed

    def _keeper(self) -> Keeper | None:
        """Who sees to it that the next turn is as promised; None: nothing is promised of it."""
        plan, tools = self._plan, demanded(self._asked(self._items))
        if not tools and not plan.contracts.any:
            return None
        forcing = Forcing(tools, native=plan.native.calls) if tools else None
        return Keeper(Strictness(plan.contracts, plan.native), forcing)

    async def _checked_call(self, keeper: Keeper) -> Stop:
        """One model call through the keeper, who may break it off."""
        kept = _Kept(self._feed, keeper)
        calling = asyncio.ensure_future(self._model_turn(kept))
        kept.break_off = calling.cancel
        try:
            return await calling
        except asyncio.CancelledError:
            if keeper.failed is None:
                raise
            return Stop("stop")

    async def _model_turn(self, feed: Feed | None = None) -> Stop:
        """One model call; where the window is full and the context may be compacted, once more after that."""
        before, auto = len(self._draft.fold.items), self._plan.request.truncation == "auto"
        compacts = bool(self._plan.request.context_management) and self._may_compact()
        try:
            return await self._model_call(feed, drop=auto and not compacts)
        except UpstreamError as error:
            if not compacts or error.code != window.FULL or not self._draft.quiet(before):
                raise
            if self._split().freed:
                await self._compact()
            elif not auto:
                raise
        return await self._model_call(feed, drop=auto)

    async def _model_call(self, feed: Feed | None, *, drop: bool) -> Stop:
        before = len(self._draft.fold.items)
        self._heard = Measured(feed or self._feed)
        try:
            stop, items = await window.answered(
                self._items,
                self._ask,
                self._plan.route,
                self._heard,
                drop=drop,
                quiet=lambda: self._draft.quiet(before),
            )
        finally:
            self._feed.on_pressure(_nothing, _nothing)  # its connection may serve another run from here on
        self._items = list(items)
        return stop

    def _ask(self, items: Sequence[ContextItem]) -> ModelRequest:
        self._last = self._asked(items)
        return self._last

    def _asked(self, items: Sequence[ContextItem]) -> ModelRequest:
        """The next model call."""
        plan, box = self._plan, self._plan.toolbox
        force = not self._forced and all(item.type in _SPEECH for item in self._draft.fold.items)
        items = [*items, *self._pleas]
        asked = ModelRequest(plan.route.model, items, box.visible, plan.request, box.choice, force)
        asked.standing = self._standing()
        if self._narrowed:
            return narrowed(asked, self._narrowed)
        said = self._draft.cut
        if said:
            asked.request = _with_less_to_say(plan.request, said)
            if plan.route.upstream.capabilities(plan.route.model).prefill:
                asked.prefix = said
            else:
                asked.items = [*items, *context.asked_to_go_on(said)]
        return asked

    def _standing(self) -> Standing:
        """A run in the background, or that has begun to answer, cannot be told to come again."""
        patient = bool(self._plan.request.background or self._draft.fold.items)
        return Standing(self._plan.project, patient)

    # --- A context that grows too long ---

    def _may_compact(self) -> bool:
        """Nothing is put between the two halves of an item that was cut."""
        return self._plan.compactor is not None and all(item.body is not None for item in self._draft.fold.items)

    def _split(self) -> compaction.Split:
        return compaction.split(self._items, compaction.room_of(self._plan.route, self._plan.request))

    async def _compact_when_due(self) -> None:
        plan = self._plan
        if not plan.request.context_management or not self._may_compact():
            return
        if await compaction.is_due(self._items, self._asked, plan.route, plan.request):
            await self._compact()

    async def _compact(self) -> None:
        """A compaction item joins the output, and stands for what was said before it."""
        compactor = self._plan.compactor
        assert compactor is not None
        made = await compaction.summarize(self._items, self._plan.route, self._plan.request, self._standing())
        self._add(made.usage)
        content = compactor.sealed(made.text, self._split())
        item_id = self._clock.new_id(compaction.PREFIX)
        events = self._draft.open()
        self._publish(events + self._whole_item(compaction.KIND, item_id, {"encrypted_content": content}))
        item = Item(type=compaction.KIND, id=item_id, encrypted_content=content)
        self._items = compactor.seen([*self._items, ContextItem(item, b"")]).items

    def _count(self, stop: Stop) -> None:
        """Adds what the last model call took, as it was asked and heard."""
        assert self._last is not None
        assert self._heard is not None
        self._add(self._heard.spoken.usage(stop.usage, self._last))

    def _add(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.plus(usage)

    def _told_so_far(self) -> Usage:
        """What a run that is taken up has taken before: what the model's side told of it is not in the log."""
        spoken = Spoken()
        for item in self._draft.fold.items:
            spoken.read(decode_item(item.json("completed")))
        return spoken.usage(None, self._asked(self._items))

    def _remember(self, seen: int) -> None:
        items = [item for item in self._draft.fold.items[seen:] if item.type != compaction.KIND]  # it is heeded already
        bodies = [item.body for item in items if item.body is not None]
        made = [ContextItem(decode_item(body), body) for body in bodies]
        self._items += recall(made, self._plan.toolbox, self._plan.thoughts)

    def _waits_for_client(self, seen: int) -> bool:
        """A turn may mix hosted and client calls: the hosted ones are run, then the client is asked."""
        items = self._draft.fold.items[seen:]
        answered = {item.fixed.get("call_id") for item in items if item.type.endswith("_output")}
        return any(_is_for_client(item) and item.fixed.get("call_id") not in answered for item in items)

    async def _run_hosted(self, calls: list[ToolCall]) -> None:
        for call in calls:
            limit = self._plan.request.max_tool_calls
            if limit is not None and self._hosted_calls >= limit:
                # Reaching the cap is no reason to stop: further calls are ignored (reference 2.4, 9.4).
                call_id = self._clock.new_id("call_")
                text = "The limit of tool calls is reached; answer without."
                self._items += exchange(call_id, call.name, call.arguments, text)
                continue
            self._hosted_calls += 1
            if call.name == self._plan.toolbox.search:
                self._search(call)
                continue
            hosted = self._plan.toolbox.hosted[call.name]
            await self._run_one(call._replace(item_id=self._clock.new_id(hosted.tool.item_prefix)), hosted)

    def _search(self, call: ToolCall) -> None:
        """A tool search is told with what it found, so that no log ends between the two, and needs no journal."""
        result = self._plan.toolbox.find(call.arguments)
        call_id = self._clock.new_id("tsc_")
        whole = {"call_id": None, "execution": "server"}
        arguments = Raw(format_object(call.arguments))
        events = self._whole_item("tool_search_call", call_id, {**whole, "arguments": arguments})
        output_id = self._clock.new_id("tso_")
        events += self._whole_item("tool_search_output", output_id, {**whole, "tools": Raw(result.tools)})
        self._publish(events)
        self._items += exchange(call_id, call.name, call.arguments, found(result.names))

    def _whole_item(self, item_type: str, item_id: str, members: Mapping[str, object]) -> list[Event]:
        opened = self._draft.open_hosted(item_type, item_id, members)
        return opened + self._draft.close_hosted(item_id, {}, "completed")

    async def _run_one(self, call: ToolCall, hosted: Hosted) -> None:
        await self._journal.begin(call)
        await self._make(call, hosted, None)

    async def _make(self, call: ToolCall, hosted: Hosted, result: ToolResult | None) -> None:
        """A call whose intent is durable; ``result``: what is known already."""
        tool, draft = hosted.tool, self._draft
        if not draft.has(call.item_id):
            self._publish(draft.open_hosted(tool.item_type, call.item_id, tool.opened(call)))
        if result is None:
            self.had_effects = self.had_effects or not tool.read_only
            result = await self._call(call, hosted)
            await self._journal.complete(call, result)
        status = "completed" if result.completed else "failed"
        self._publish(draft.close_hosted(call.item_id, result.members, status))
        self._items += exchange(call.item_id, call.name, call.arguments, result.for_model)

    async def _call(self, call: ToolCall, hosted: Hosted) -> ToolResult:
        def progress(suffix: str) -> None:
            self._publish(self._draft.progress_hosted(call.item_id, suffix))

        try:
            async with asyncio.timeout(self._plan.limits.tool_seconds):
                return await hosted.tool.run(call, hosted.declaration, progress)
        except ToolError as error:
            return ToolResult({"error": str(error)}, f"The tool failed: {error}", completed=False)
        except TimeoutError:
            text = f"The tool did not answer within {self._plan.limits.tool_seconds:g} seconds."
            return ToolResult({"error": text}, text, completed=False)


def _is_for_client(item: FoldedItem) -> bool:
    """A call that the client answers (reference 7), unless its output is there; a search may be this server's own."""
    return item.type in _CLIENT_CALLS or (item.type == SEARCH.item_type and item.fixed.get("execution") == _CLIENT)


_CLIENT_CALLS, _CLIENT = ASKED | {FUNCTION.item_type, CUSTOM.item_type}, b'"client"'


#: Items that are no calls.
_SPEECH = ("message", "reasoning", compaction.KIND)


def _nothing() -> None:
    """There is no source to pause between two model calls."""


def _with_less_to_say(request: CreateResponse, said: str) -> CreateResponse:
    """What was said counts against the limit of the whole."""
    if request.max_output_tokens is None:
        return request
    rest = max(OUTPUT_TOKENS_MIN, request.max_output_tokens - tokens_of(said))
    return msgspec.structs.replace(request, max_output_tokens=rest)


_INTERRUPTED = ToolResult(
    {"error": "The call was interrupted, its outcome is unknown."},
    "The call was interrupted: it may or may not have taken effect, its outcome is unknown.",
    completed=False,
)
_INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
