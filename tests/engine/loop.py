"""Whole runs of the loop over the shipped fakes, with every event checked on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.engine.playbook import CountingClock, check_lawful, check_stored

from antiphon.engine import shell, toolbox
from antiphon.engine.compaction import Compactor
from antiphon.engine.context import configured, view
from antiphon.engine.deltas import CallDelta, Delta, TextDelta
from antiphon.engine.draft import Draft
from antiphon.engine.holding import Holding
from antiphon.engine.ports.tools import Noted, Tool, ToolCall, ToolResult
from antiphon.engine.ports.upstreams import Capabilities, ContextItem, ModelRequest, Route
from antiphon.engine.recalling import recall
from antiphon.engine.turns import Limits, Plan, Turns
from antiphon.protocol.events import Event
from antiphon.protocol.requests import read_create
from antiphon.protocol.responses import Outcome
from antiphon.sealing import Sealer
from antiphon.tools.scripted import ScriptedTool
from antiphon.upstreams.scripted import Script, ScriptedUpstream

Json = dict[str, Any]


SEALER = Sealer([b"a key of tests, of 32 bytes or more"])


class Notes:
    """A journal in memory: calls begun, and the results of those completed, by the id of their item."""

    def __init__(self) -> None:
        self.completed: dict[str, ToolResult] = {}
        self.begun: list[ToolCall] = []

    def noted(self) -> list[Noted]:
        """What a takeover finds."""
        return [Noted(call, self.completed.get(call.item_id)) for call in self.begun]

    async def begin(self, call: ToolCall) -> None:
        self.begun.append(call)

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        self.completed[call.item_id] = result


class Loop:
    """One request on its way through the loop: what the model is to say, what it saw, what came of it."""

    def __init__(
        self,
        *scripts: Script,
        tools: Sequence[Json] = ({"type": "antiphon:scripted"},),
        limits: Limits = Limits(),  # noqa: B008 - frozen
        journal: Notes | None = None,
        earlier: Sequence[Json] = (),
        after: Sequence[list[Event]] | None = None,
        read_only: bool = True,
        prefill: bool = False,
        **parameters: Any,
    ) -> None:
        self.clock = CountingClock(1 if after is None else 1000)
        self.tool = ScriptedTool(self.clock, read_only=read_only)
        self.upstream = ScriptedUpstream(scripts, capabilities=Capabilities(prefill=prefill))
        self.journal = journal or Notes()
        self.published: list[list[Event]] = [list(events) for events in after or ()]
        self._taken_over = after is not None
        self.events: list[Json] = []
        self.response: Json = {}
        registry: dict[str, Tool] = {ScriptedTool.declared_type: self.tool}
        body = {"model": "m", "input": "unused", "tools": list(tools), **parameters}
        request = read_create(json.dumps(body).encode())
        context_items = view(json.dumps(item).encode() for item in [*earlier, USER])
        request = configured(request, context_items)
        box = toolbox.sort(request, registry, strict=False, items=context_items, earlier=len(earlier))
        items = recall(context_items, box)
        compactor = Compactor(SEALER, "p")
        plan = Plan(request, Route(self.upstream, "m"), items, box, limits, compactor=compactor)
        echo = shell.build(request, response_id="resp_1", created_at=1760000000, model="m")
        may_call = box.may_call(parallel=request.parallel_tool_calls is not False)
        self.draft = Draft(echo, self.clock, may_call)
        if request.background:
            self.draft = Draft(echo, self.clock, self.draft.may_call, holding=Holding.of(request))
        self._turns = Turns(plan, self.draft, self, self.published.append, self.clock, self.journal)

    # --- The feed ---

    def __call__(self, deltas: Sequence[Delta]) -> None:
        self.published.append(self.draft.apply(deltas))

    def on_pressure(self, pause: object, resume: object) -> None:
        pass

    # --- The run ---

    async def run(self) -> Outcome:
        """To the end; the events and the Response are lawful, and the Response is what the events fold to."""
        if self._taken_over:
            self.draft.replay([event for batch in self.published for event in batch])
            self.draft.reopen()
            await self._turns.resume(self.journal.noted())
        outcome = await self._turns.run()
        self.published.append(self.draft.abandon() if outcome.status == "failed" else [])
        terminal, snapshot = self.draft.end(outcome)
        self.events = check_lawful([event for batch in self.published for event in batch] + [terminal], snapshot)
        self.response = json.loads(snapshot)
        check_stored(self.draft, self.response)
        return outcome

    @property
    def output(self) -> list[str]:
        """The output items in a few words."""
        return [item_in_words(item) for item in self.response["output"]]

    @property
    def seen(self) -> list[list[str]]:
        """What the model saw in each call, in a few words."""
        return [[seen_in_words(item) for item in request.items] for request in self.upstream.requests]

    @property
    def requests(self) -> list[ModelRequest]:
        return self.upstream.requests


USER: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


def call(key: int, name: str = "scripted", arguments: str = "{}", call_id: str = "call_m") -> CallDelta:
    """A whole call, as a model asks for it."""
    return CallDelta(key, call_id, name, arguments)


def says(*deltas: Delta | str) -> list[Sequence[Delta]]:
    """A script in which everything comes in one read; strings are text."""
    return [[TextDelta(delta) if isinstance(delta, str) else delta for delta in deltas]]


def item_in_words(item: Json) -> str:
    if item["type"] == "message":
        return f"message {item['content'][0]['text']!r}"
    if item["type"] == "compaction":
        return "compaction"
    told = item.get("output", item.get("error", ""))
    return f"{item['type']} {item['name']}({item['arguments']}) {item['status']} {told}".rstrip()


def seen_in_words(item: ContextItem) -> str:
    kind = item.view.kind
    if kind == "function_call":
        return f"call {item.view.call_id} {item.view.name}({item.view.arguments})"
    if kind == "function_call_output":
        return f"output {item.view.call_id} {json.loads(bytes(item.view.output))}"
    return f"{item.view.role} {json.loads(bytes(item.view.content))[0]['text']}"
