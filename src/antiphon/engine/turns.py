"""The loop: a model turn, its hosted tool calls, again, until done, cancelled or at a limit.

Nothing here asks whether anybody is streaming.  Must not know what a run is stored as.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from antiphon.engine import context
from antiphon.engine.draft import Draft
from antiphon.engine.ports import (
    Clock,
    ContextItem,
    Feed,
    Journal,
    ModelRequest,
    Publish,
    Route,
    Stop,
    ToolCall,
    ToolError,
    ToolResult,
    UpstreamError,
)
from antiphon.engine.toolbox import Hosted, Toolbox, exchange
from antiphon.protocol.items import decode_item
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import InputDetails, Outcome, OutputDetails, ResponseError, Usage

#: Characters a token stands for, where an upstream tells no usage (design decision 13).
CHARS_PER_TOKEN = 4


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one run."""

    model_calls_max: int = 64
    tool_seconds: float = 300
    attachments_max: int = 100


class Plan(msgspec.Struct):
    """Everything that a run needs, decided before it starts."""

    request: CreateResponse
    route: Route
    items: list[ContextItem]
    toolbox: Toolbox
    limits: Limits


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
        self._usage: Usage | None = None
        self._hosted_calls = 0
        #: Whether a tool was run that is not read-only: then the whole must not be tried again unasked.
        self.had_effects = False

    async def run(self) -> Outcome:
        """Runs to the end.  Raises ``UpstreamError`` when the model's side fails."""
        for number in range(self._plan.limits.model_calls_max):
            seen = len(self._draft.fold.items)
            stop = await self._model_turn(first=number == 0)
            self._count(stop, seen)
            cut = stop.reason in _INCOMPLETE
            self._publish(self._draft.end_turn(cut=cut))
            if cut:
                return Outcome("incomplete", incomplete_reason=_INCOMPLETE[stop.reason], usage=self._usage)
            hosted = self._draft.hosted_calls()
            if hosted:
                self._remember(seen)
                await self._run_hosted(hosted)
            if not hosted or self._waits_for_client(seen):
                return Outcome("completed", int(self._clock.now()), usage=self._usage)
        message = f"The run needed more than {self._plan.limits.model_calls_max} model calls."
        return Outcome("failed", error=ResponseError("server_error", message), usage=self._usage)

    async def _model_turn(self, *, first: bool) -> Stop:
        """One model call; with ``truncation: auto`` again without the oldest turns while the window is full.

        Each time twice as many go, so that a long conversation costs few calls.
        """
        plan = self._plan
        before = len(self._draft.fold.items)
        dropped = 1
        while True:
            # A forced choice is forced once: a hosted loop would never end otherwise (reference 5.3).
            box = plan.toolbox
            asked = ModelRequest(plan.route.model, self._items, box.visible, plan.request, box.choice, first)
            try:
                return await plan.route.upstream.run(asked, self._feed)
            except UpstreamError as error:
                full = error.code == "context_length_exceeded" and self._draft.quiet(before)
                if not full or plan.request.truncation != "auto":
                    raise
                shorter = context.drop_oldest_turns(self._items, dropped)
                if shorter is None:
                    raise
                self._items = shorter
                dropped *= 2
            finally:
                self._feed.on_pressure(_nothing, _nothing)  # its connection may serve another run from here on

    def _count(self, stop: Stop, seen: int) -> None:
        usage = stop.usage or self._estimate(seen)
        self._usage = usage if self._usage is None else self._usage.plus(usage)

    def _estimate(self, seen: int) -> Usage:
        read = sum(len(item.body) for item in self._items) // CHARS_PER_TOKEN
        written = sum(len(item.json("completed")) for item in self._draft.fold.items[seen:]) // CHARS_PER_TOKEN
        return Usage(read, InputDetails(), written, OutputDetails(), read + written, estimated=True)

    def _remember(self, seen: int) -> None:
        bodies = [item.body for item in self._draft.fold.items[seen:] if item.body is not None]
        self._items += [ContextItem(decode_item(body), body) for body in bodies]

    def _waits_for_client(self, seen: int) -> bool:
        """A turn may mix hosted and client calls: the hosted ones are run, then the client is asked."""
        return any(item.type == "function_call" for item in self._draft.fold.items[seen:])

    async def _run_hosted(self, calls: list[ToolCall]) -> None:
        for call in calls:
            hosted = self._plan.toolbox.hosted[call.name]
            limit = self._plan.request.max_tool_calls
            if limit is not None and self._hosted_calls >= limit:
                # Reaching the cap is no reason to stop: further calls are ignored (reference 2.4, 9.4).
                call_id = self._clock.new_id("call_")
                text = "The limit of tool calls is reached; answer without."
                self._items += exchange(call_id, call.name, call.arguments, text)
                continue
            self._hosted_calls += 1
            await self._run_one(call._replace(item_id=self._clock.new_id(hosted.tool.item_prefix)), hosted)

    async def _run_one(self, call: ToolCall, hosted: Hosted) -> None:
        tool, draft = hosted.tool, self._draft
        self._publish(draft.open_hosted(tool.item_type, call.item_id, tool.opened(call)))
        result = await self._journal.begin(call)
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


def _nothing() -> None:
    """There is no source to pause between two model calls."""


_INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
