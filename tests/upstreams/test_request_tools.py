"""Custom tools and namespaces as chat completions are asked for them, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.upstreams.asking import Json, asked, body_of, function, user
from tests.upstreams.recordings import OLLAMA, OPENAI, call, calls, chunk, piece, stream, text

from antiphon.engine.deltas import CallDelta, Delta
from antiphon.protocol.tools import Tool
from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.chat_completions.stream import Reply

PATCH: Json = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'},
}
CRM: Json = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [function("list"), PATCH]}


def body(*items: Json, **more: Any) -> Json:
    decoded: Json = json.loads(body_of(asked(*items, **more), Options(), stream=True))
    return decoded


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    (tool,) = body(user("a"), tools=[PATCH])["tools"]

    assert (tool["type"], tool["function"]["name"]) == ("function", "apply_patch")
    assert tool["function"]["description"] == 'Edits files.\n\nThe input must match a Lark grammar:\nstart: "a"'
    schema = tool["function"]["parameters"]
    assert (schema["required"], schema["additionalProperties"]) == (["input"], False)
    assert schema["properties"]["input"]["type"] == "string"


def test_tools_in_namespaces_have_flat_names() -> None:
    built = body(user("a"), tools=[CRM])

    assert [tool["function"]["name"] for tool in built["tools"]] == ["crm__list", "crm__apply_patch"]
    assert built["tools"][0]["function"]["description"] == "[crm: Customers.]"


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "custom", "name": "apply_patch"}, "crm__apply_patch"),
        ({"type": "function", "name": "list", "namespace": "crm"}, "crm__list"),
    ],
)
def test_such_a_tool_may_be_forced(choice: Json, name: str) -> None:
    built = body(user("a"), tools=[CRM], tool_choice=choice)

    assert built["tool_choice"] == {"type": "function", "function": {"name": name}}


def test_only_those_that_are_allowed_are_offered() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "apply_patch"}]}
    built = body(user("a"), tools=[function("f"), CRM], tool_choice=choice)

    assert [tool["function"]["name"] for tool in built["tools"]] == ["crm__apply_patch"]
    assert built["tool_choice"] == "required"


def test_the_words_of_every_turn_are_the_same() -> None:
    """Prefix caches of upstreams live on this."""
    turn = [
        user("a"),
        {"type": "custom_tool_call", "call_id": "c1", "namespace": "crm", "name": "apply_patch", "input": 'é "x"\n'},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "ok"}]},
    ]

    short, longer = body(*turn, tools=[CRM]), body(*turn, user("b"), tools=[CRM])
    assert longer["messages"][:3] == short["messages"]
    assert longer["tools"] == short["tools"]
    assert short["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "crm__apply_patch", "arguments": '{"input":"é \\"x\\"\\n"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]


def test_a_tool_search_is_a_call_with_a_result() -> None:
    items = [
        user("a"),
        {"type": "tool_search_call", "id": "t", "call_id": "c1", "execution": "client", "arguments": {"words": 1.50}},
        {"type": "tool_search_output", "call_id": "c1", "tools": [CRM]},
        {"type": "additional_tools", "role": "developer", "tools": [function("more")]},
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
    ]
    built = body(*items, tools=[{"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}])

    assert [tool["function"]["name"] for tool in built["tools"]] == [
        "tool_search",
        "crm__list",
        "crm__apply_patch",
        "more",
    ]
    assert [message["role"] for message in built["messages"]] == ["user", "assistant", "tool"]
    assert built["messages"][1]["tool_calls"][0]["function"] == {"name": "tool_search", "arguments": '{"words": 1.5}'}
    assert "crm__list, crm__apply_patch" in built["messages"][2]["content"]


# --- What comes back ---

SEEN = [
    Tool("function", "look", own_name="look"),
    Tool("custom", "crm__apply_patch", own_name="apply_patch", namespace="crm"),
    Tool("function", "crm__list", own_name="list", namespace="crm"),
]


def said(body: bytes, at: int | None = None) -> list[CallDelta]:
    reply = Reply(tools=SEEN)
    pieces = [body] if at is None else [body[index : index + at] for index in range(0, len(body), at)]
    deltas: list[Delta] = [delta for one in pieces for delta in reply.feed(one)]
    return [delta for delta in [*deltas, *reply.close()] if isinstance(delta, CallDelta)]


def joined(deltas: list[CallDelta]) -> dict[int, tuple[str | None, str, bool]]:
    """Of each call its name, what was said, and whether it is known to be whole."""
    told: dict[int, tuple[str | None, str, bool]] = {}
    for delta in deltas:
        name, before, whole = told.get(delta.key, (delta.name, "", False))
        told[delta.key] = (name, before + delta.arguments, whole or delta.whole)
    return told


STREAMED = stream(
    chunk(OPENAI, call(0, "c1", "crm__apply_patch", "")),
    chunk(OPENAI, call(0, None, None, '{"inp')),
    chunk(OPENAI, call(0, None, None, 'ut":"*** Be')),
    chunk(OPENAI, calls(piece(1, "c2", "look", '{"a"'))),
    chunk(OPENAI, call(0, None, None, 'gin\\n"}')),
    chunk(OPENAI, call(1, None, None, ":1}")),
    chunk(OPENAI, "{}", "tool_calls"),
)


@pytest.mark.parametrize("at", [None, 1, 7])
def test_the_input_comes_out_of_the_arguments(at: int | None) -> None:
    assert joined(said(STREAMED, at)) == {
        0: ("crm__apply_patch", "*** Begin\n", True),
        1: ("look", '{"a":1}', False),
    }


def test_the_input_is_told_while_it_comes() -> None:
    pieces = [delta.arguments for delta in said(STREAMED) if delta.key == 0]

    assert pieces == ["", "", "*** Be", "gin\n"]


@pytest.mark.parametrize("name", ["apply_patch", "crm.apply_patch", "crm_apply_patch", "crm/apply_patch"])
def test_a_name_that_the_model_garbled_is_put_right(name: str) -> None:
    body = stream(chunk(OLLAMA, call(0, "c1", name, '{"input":"x"}')), chunk(OLLAMA, "{}", "tool_calls"))

    assert joined(said(body)) == {0: ("crm__apply_patch", "x", True)}


def test_input_without_json_around_it_is_told_at_the_end() -> None:
    body = stream(
        chunk(OPENAI, call(0, "c1", "crm__apply_patch", "*** Begin")),
        chunk(OPENAI, call(0, None, None, " Patch")),
        chunk(OPENAI, "{}", "tool_calls"),
    )

    assert [delta.arguments for delta in said(body)] == ["", "", "*** Begin Patch"]
    assert joined(said(body))[0] == ("crm__apply_patch", "*** Begin Patch", True)


def test_input_that_was_cut_is_not_whole() -> None:
    body = stream(chunk(OPENAI, call(0, "c1", "crm__apply_patch", '{"input":"hal')), chunk(OPENAI, "{}", "length"))

    assert joined(said(body)) == {0: ("crm__apply_patch", "hal", False)}


def test_an_object_instead_of_a_string_of_arguments() -> None:
    """Some servers send the arguments themselves."""
    body = stream(chunk(OLLAMA, call(0, "c1", "crm__apply_patch", {"input": "x"})), chunk(OLLAMA, "{}", "tool_calls"))

    assert joined(said(body)) == {0: ("crm__apply_patch", "x", True)}


def test_a_reply_that_is_not_streamed() -> None:
    message = {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "crm__apply_patch", "arguments": '{"input":"x"}'}},
            {"id": "c2", "type": "function", "function": {"name": "apply_patch", "arguments": "raw"}},
        ],
    }
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()

    reply = Reply(tools=SEEN)
    deltas = [delta for delta in reply.whole(body) if isinstance(delta, CallDelta)]

    assert joined(deltas) == {0: ("crm__apply_patch", "x", True), 1: ("crm__apply_patch", "raw", True)}


def test_text_beside_a_call_is_text() -> None:
    body = stream(
        chunk(OPENAI, text("I patch.")),
        chunk(OPENAI, call(0, "c1", "crm__apply_patch", '{"input":""}')),
        chunk(OPENAI, "{}", "tool_calls"),
    )

    assert joined(said(body)) == {0: ("crm__apply_patch", "", True)}
