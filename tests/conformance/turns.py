"""Turns that nobody wrote, of what plain schemas hardly ever hit, each gone on from: hypothesis strategies and the law.

Tools of every kind with choices of every form, compaction in each of its ways with items of its own, foreign and spoilt
ones, calls and their outputs, before a model that obeys, ignores, or does both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st
from tests.acceptance.behaviours import instance

from antiphon.engine.deltas import CallDelta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest, Stop, UpstreamError
from antiphon.upstreams.scripted import Script, echo

Json = dict[str, Any]

#: What stands for sealed content until there is a server that seals: `Target.filled` puts it in.
OWN, SPOILT, FOREIGN = "@own", "@spoilt", "gAAAAforeign"
TRIGGER: Json = {"type": "compaction_trigger"}
PLACE: Json = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}


# --- What the model does ---


def _call(request: ModelRequest, index: int = 0, key: int = 0) -> CallDelta:
    tool = request.tools[index % len(request.tools)]
    if tool.type == "custom":
        return CallDelta(key, None, tool.name, "a", whole=True)
    schema = msgspec.json.decode(tool.parameters) or {}
    try:
        arguments = msgspec.json.encode(instance(schema, "Rome")).decode()
    except (KeyError, TypeError, AttributeError, IndexError):
        arguments = "{}"
    return CallDelta(key, None, tool.name, arguments)


def _obeys(request: ModelRequest) -> Script:
    """Calls a tool if there is one and it has not called yet; fills a schema that it is asked for."""
    form = request.request.text.format if request.request.text is not None else None
    if form is not None and form.name:
        return [[TextDelta('{"place":"Rome"}')]]
    answered = request.items and request.items[-1].view.kind.endswith("_output")
    return echo(request) if answered or not request.tools else [[_call(request)]]


def _talks_and_calls(request: ModelRequest) -> Script:
    script = _obeys(request)
    return [[TextDelta("Well. ")], *script]


def _calls_all(request: ModelRequest) -> Script:
    if not request.tools:
        return echo(request)
    return [[_call(request, number, number) for number in range(min(4, len(request.tools)))]]


PLAYS: dict[str, Callable[[ModelRequest], Script]] = {
    "echo": echo,
    "obeys": _obeys,
    "talks and calls": _talks_and_calls,
    "calls all": _calls_all,
    "calls another": lambda _: [[CallDelta(0, "call_x", "nobody", "{}")]],
    "is cut": lambda request: [*([[_call(request)]] if request.tools else []), [TextDelta("Once")], Stop("length")],
    "is cut in a call": lambda _: [[CallDelta(0, "call_c", "look", '{"pl')], Stop("length")],
    "says nothing": lambda _: [[]],
    "refuses": lambda _: [[RefusalDelta("No.")]],
    "thinks": lambda request: [[ReasoningDelta("Hm.")], *_obeys(request)],
    "breaks": lambda _: [[TextDelta("Once")], UpstreamError("It broke.")],
    "is full": lambda _: [UpstreamError("Too long.", status=400, code="context_length_exceeded", param="input")],
}


def played(request: ModelRequest) -> Script:
    """The play that the request's user names, or else the echo; a summary's request names nobody."""
    return PLAYS.get(request.request.user or "", echo)(request)


# --- What is asked ---

FUNCTIONS: list[Json] = [
    {"type": "function", "name": "look"},
    {"type": "function", "name": "look", "parameters": PLACE, "strict": True},
    {"type": "function", "name": "book", "parameters": PLACE, "strict": False, "description": "Books."},
    {"type": "function", "name": "loose", "parameters": {"type": "object", "properties": {"a": {}}}, "strict": None},
    {"type": "function", "name": "later", "parameters": PLACE, "defer_loading": True},
]
CUSTOMS: list[Json] = [
    {"type": "custom", "name": "patch"},
    {"type": "custom", "name": "regex", "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}},
    {"type": "custom", "name": "lark", "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a"+'}},
    {"type": "custom", "name": "wrong", "format": {"type": "grammar", "syntax": "lark", "definition": "start: ("}},
]
OTHERS: list[Json] = [
    {"type": "tool_search"},
    {"type": "tool_search", "execution": "client", "description": "Searches.", "parameters": PLACE},
    {"type": "web_search"},
    {"type": "mcp", "server_label": "deep", "server_url": "https://mcp.example", "headers": {"a": "secret"}},
    {"type": "apply_patch"},
    {"type": "image_generation"},
]
TOOLS = [
    *FUNCTIONS,
    *CUSTOMS,
    *OTHERS,
    {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [FUNCTIONS[1], CUSTOMS[1]]},
    {"type": "namespace", "name": "hr", "description": "People.", "tools": [FUNCTIONS[4]]},
]
#: What a choice may name; the first ones only in a list of allowed tools.
ALLOWABLE: list[Json] = [
    {"type": "namespace", "name": "crm"},
    {"type": "tool_search"},
    {"type": "web_search"},
]
PICKS: list[Json] = [
    *({"type": tool["type"], "name": tool["name"]} for tool in (*FUNCTIONS, *CUSTOMS)),
    {"type": "function", "name": "look", "namespace": "crm"},
    {"type": "function", "name": "nobody"},
    {"type": "apply_patch"},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "deep"},
    {"type": "mcp", "server_label": "other", "name": "a"},
]


def _mode(*modes: str) -> st.SearchStrategy[str]:
    return st.sampled_from(modes)


def choices(tools: list[Json]) -> st.SearchStrategy[Any]:
    """``tool_choice`` in every form, most often of what there is."""
    own = [pick for tool in tools for pick in _picks_of(tool)] or PICKS
    listed = st.sampled_from(own) | st.sampled_from(own) | st.sampled_from([*ALLOWABLE, *PICKS])
    picks = st.lists(listed, min_size=1, max_size=3)
    allowed = st.fixed_dictionaries(
        {"type": st.just("allowed_tools"), "tools": picks}, optional={"mode": _mode("auto", "required")}
    )
    one = st.sampled_from([pick for pick in own if pick in PICKS] or PICKS)
    return st.none() | _mode("none", "auto", "required", "required") | one | allowed


def _picks_of(tool: Json) -> list[Json]:
    if tool["type"] == "namespace":
        inner = [{"type": one["type"], "name": one["name"], "namespace": tool["name"]} for one in tool["tools"]]
        return [{"type": "namespace", "name": tool["name"]}, *inner]
    return [{key: tool[key] for key in ("type", "name", "server_label") if key in tool}]


MESSAGES: list[Json] = [
    {"role": "user", "content": "Hello"},
    {"role": "user", "content": "word " * 1500},
    {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "Be kind."},
    {"role": "assistant", "content": "Certainly. " * 600},
    {"role": "assistant", "status": "incomplete", "content": [{"type": "refusal", "refusal": "No."}]},
    {"type": "reasoning", "summary": []},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "content": None},
    {"type": "configuration_update", "reasoning": {"effort": "low"}},
    {"type": "additional_tools", "role": "developer", "tools": [FUNCTIONS[2], CUSTOMS[0]]},
    {"type": "tool_search_output", "call_id": None, "tools": [FUNCTIONS[4]]},
    {"type": "agent_message", "content": [{"type": "input_text", "text": "Agent here."}], "author": "a"},
    {"type": "agent_message", "content": [{"type": "encrypted_content", "encrypted_content": "Psst."}]},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "a"}},
    {"type": "antiphon:new", "id": "new_1", "value": 1},
]
CALLS: list[list[Json]] = [
    [
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"place":"Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain. " * 400},
    ],
    [
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "a"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "b"}]},
    ],
    [
        {"type": "function_call", "call_id": "c3", "name": "look", "namespace": "crm", "arguments": "{}"},
        {"type": "message", "role": "user", "content": "Wait."},
        {"type": "function_call_output", "call_id": "c3", "output": ""},
    ],
    [{"type": "function_call", "call_id": "c4", "name": "gone", "arguments": "{", "status": "incomplete"}],
]
COMPACTIONS: list[list[Json]] = [
    [{"type": "compaction", "encrypted_content": content}] for content in (OWN, OWN, FOREIGN, "")
]
#: What is refused wherever it stands, or but at the end.
WRONG: list[list[Json]] = [[TRIGGER], [{"type": "compaction", "encrypted_content": SPOILT}]]


@st.composite
def inputs(draw: Any) -> list[Json]:
    """Items of every kind, calls with their outputs, and a compaction or its trigger wherever it falls."""
    common = [*([message] for message in MESSAGES), *CALLS, *COMPACTIONS]
    pieces = st.sampled_from(common * 4 + WRONG)
    items = [item for piece in draw(st.lists(pieces, max_size=6)) for item in piece]
    ends = st.sampled_from([[MESSAGES[0]], [MESSAGES[1]], [MESSAGES[0], TRIGGER], [CALLS[0][0]], []])
    return [*items, *draw(ends)]


_MANAGED = [{"type": "compaction"}, {"type": "compaction", "compact_threshold": 1000}, {"type": "other"}]
_FORMS: list[Json] = [
    {"format": {"type": "json_schema", "name": "a", "schema": PLACE, "strict": True}},
    {"format": {"type": "json_schema", "name": "a", "schema": PLACE}},
    {"format": {"type": "json_object"}},
]
#: Metadata of a request that is sent twice under one Idempotency-Key.
KEYED = {"sent": "twice"}
#: Members of a create besides input and tools.
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "background": st.booleans(),
    "context_management": st.lists(st.sampled_from(_MANAGED[:2]), min_size=1, max_size=2) | st.just(_MANAGED[2:]),
    "conversation": st.just("@conversation"),
    "include": st.just(["reasoning.encrypted_content"]),
    "instructions": st.just("Be brief."),
    "max_output_tokens": st.sampled_from([16, 100]),
    "max_tool_calls": st.just(1),
    "metadata": st.just(KEYED),
    "parallel_tool_calls": st.booleans(),
    "previous_response_id": st.just("@previous"),
    "store": st.booleans(),
    "text": st.sampled_from(_FORMS),
    "truncation": _mode("auto", "disabled"),
}


@st.composite
def turns(draw: Any) -> Json:
    """Bodies of creates."""
    tools = draw(st.lists(st.sampled_from(TOOLS), max_size=4, unique_by=lambda tool: (tool["type"], tool.get("name"))))
    asked = {
        "input": inputs(),
        "user": st.sampled_from(sorted(PLAYS)),
        "stream": st.booleans(),
        "tools": st.just(tools),
        "tool_choice": choices(tools),
    }
    body: Json = draw(st.fixed_dictionaries(asked, optional=OPTIONS).map(_bounded))
    return body


def _bounded(body: Json) -> Json:
    """At most four of the options, as every one more is one more reason to refuse the whole."""
    given = [name for name in body if name in OPTIONS]
    return {name: value for name, value in body.items() if name not in given[4:]}


def answers(output: list[Json]) -> list[Json]:
    """What a client sends for the calls of an output."""
    kinds = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
    calls = [item for item in output if item["type"] in kinds and item.get("status") != "incomplete"]
    made: list[Json] = [{"type": kinds[one["type"]], "call_id": one["call_id"], "output": "Done."} for one in calls]
    return [*made, *(_found(item) for item in output if _asks_client(item))]


def _asks_client(item: Json) -> bool:
    return item["type"] == "tool_search_call" and item["execution"] == "client"


def _found(item: Json) -> Json:
    return {"type": "tool_search_output", "call_id": item["call_id"], "tools": [FUNCTIONS[2]]}
