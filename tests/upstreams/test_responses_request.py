"""Model requests as the Responses dialect sends them: whole, stateless, and as the client wrote them where we need not
understand it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.upstreams.asking import asked, function, user

from antiphon.engine.ports.upstreams import ContextItem, ModelRequest
from antiphon.protocol.items import decode_item
from antiphon.protocol.tools import Tool, ToolChoice
from antiphon.upstreams.opaque import wrapped
from antiphon.upstreams.responses.options import Options
from antiphon.upstreams.responses.request import Sealed, counted, form_of

Json = dict[str, Any]

MAKER = "responses/here"


def body_of(request: ModelRequest, *, stream: bool = False, sealed: bool = True, **options: Any) -> Json:
    form = form_of(request, Options(**options), MAKER, stream=stream, sealed=sealed)
    body = json.loads(msgspec.json.encode(form))
    assert isinstance(body, dict)
    return body


def sent(*items: Json, sealed: bool = True, **options: Any) -> list[Json]:
    """The input that these items of the context become."""
    found = body_of(asked(*items), sealed=sealed, **options)["input"]
    assert isinstance(found, list)
    return found


def test_a_request_keeps_no_state_on_the_other_side() -> None:
    body = body_of(asked(user("Hi"), store=True, metadata={"a": "b"}, previous_response_id="resp_1"))

    assert body == {
        "model": "m",
        "input": [user("Hi")],
        "store": False,
        "stream": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_a_stream_is_not_padded_twice() -> None:
    body = body_of(asked(user("Hi"), stream=True, stream_options={"include_obfuscation": True}), stream=True)

    assert body["stream"] is True
    assert body["stream_options"] == {"include_obfuscation": False}


PARAMETERS: Json = {
    "instructions": "Be brief.",
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "top_logprobs": 2,
    "truncation": "auto",
    "service_tier": "flex",
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "reasoning": {"effort": "high", "summary": "auto", "context": "all_turns", "novelty": 1},
    "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
}


def test_parameters_go_through_with_all_that_is_in_them() -> None:
    body = body_of(asked(user("Hi"), **PARAMETERS))

    assert {name: body[name] for name in PARAMETERS} == PARAMETERS


def test_parameters_of_which_nobody_has_heard() -> None:
    body = body_of(asked(user("Hi"), client_metadata={"a": [1]}, novelty=True))

    assert (body["client_metadata"], body["novelty"]) == ({"a": [1]}, True)


def test_what_the_operator_adds_wins() -> None:
    body = body_of(asked(user("Hi"), temperature=1), stream=True, extra_body={"temperature": 0, "stream_options": None})

    assert (body["temperature"], body["stream_options"]) == (0, None)


@pytest.mark.parametrize(
    ("include", "encrypted", "expected"),
    [
        (["message.output_text.logprobs"], True, ["message.output_text.logprobs", "reasoning.encrypted_content"]),
        (["reasoning.encrypted_content"], True, ["reasoning.encrypted_content"]),
        (["reasoning.encrypted_content"], False, None),
    ],
)
def test_what_is_included(include: list[str], encrypted: bool, expected: list[str] | None) -> None:
    body = body_of(asked(user("Hi"), include=include), encrypted_reasoning=encrypted)

    assert body.get("include") == expected


# --- Items ---


def test_a_history_goes_back_as_it_is_stored() -> None:
    items = [
        {**user("Hi"), "id": "msg_1", "novelty": {"a": 1}},
        {
            "id": "msg_2",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [{"type": "output_text", "text": "Yes", "annotations": [], "logprobs": []}],
        },
        {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
        {"id": "fco_1", "type": "function_call_output", "call_id": "c", "output": "1", "status": "completed"},
        {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"id": "n_1", "type": "novelty", "status": "completed", "content": {"deep": [1.10]}},
    ]

    assert sent(*items) == items


def test_items_that_have_no_status_where_they_are_sent() -> None:
    call = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "c", "name": "p", "input": "x"}
    output = {"id": "ctco_1", "type": "custom_tool_call_output", "call_id": "c", "output": "y"}

    assert sent({**call, "status": "completed"}, {**output, "status": "completed"}) == [call, output]


@pytest.mark.parametrize(
    ("kind", "item_id", "expected"),
    [
        ("message", "msg_1", "msg_1"),
        ("message", "chatcmpl-1", "msg_chatcmpl-1"),
        ("message", "x" * 100, "msg_" + "x" * 60),
        ("function_call_output", "fc_1", "fc_1"),
    ],
)
def test_ids_begin_as_those_of_their_type(kind: str, item_id: str, expected: str) -> None:
    (item,) = sent({"type": kind, "id": item_id, "role": "user", "content": "Hi", "output": "1", "call_id": "c"})

    assert item["id"] == expected


def test_items_that_the_engine_shows_have_no_id() -> None:
    request = asked(user("Hi"))
    call = decode_item(b'{"id":"x","type":"function_call","call_id":"c","name":"f","arguments":"{}"}')
    output = decode_item(b'{"id":"y","type":"function_call_output","call_id":"c","output":"1"}')
    request.items = [ContextItem(call, b""), ContextItem(output, b"")]

    assert body_of(request)["input"] == [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ]


def test_images_go_as_the_engine_fetched_them_and_nothing_else_changes() -> None:
    item = {"id": "msg_1", "type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "u"}]}
    request = asked(item)
    fetched = [{"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": None, "text": None}]
    view = msgspec.structs.replace(request.items[0].view, content=msgspec.Raw(json.dumps(fetched).encode()))
    request.items = [ContextItem(view, request.items[0].body)]

    (shown,) = body_of(request)["input"]

    assert shown == {**item, "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}


def test_a_call_of_a_namespace_is_called_as_the_model_knows_it() -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "namespace": "n", "arguments": "{}"}
    tools = [{"type": "namespace", "name": "n", "description": "All.", "tools": [function("f")]}]

    body = body_of(asked(item, tools=tools, tool_choice={"type": "function", "name": "f"}))

    assert body["input"] == [{"type": "function_call", "id": "fc_1", "call_id": "c", "name": "n__f", "arguments": "{}"}]
    assert body["tools"] == [{"type": "function", "name": "n__f", "description": "[n: All.]"}]
    assert body["tool_choice"] == {"type": "function", "name": "n__f"}


def test_a_tool_search_of_the_client_is_a_call() -> None:
    search = {"type": "tool_search_call", "id": "tsc_1", "call_id": "c", "execution": "client", "arguments": {"q": 1}}
    output = {"type": "tool_search_output", "id": "tso_1", "call_id": "c", "execution": "client"}
    tools = [{"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": {}}]

    body = body_of(asked(search, {**output, "tools": [function("f")]}, tools=tools))

    assert body["input"] == [
        {"type": "function_call", "call_id": "c", "name": "tool_search", "arguments": '{"q": 1}'},
        {"type": "function_call_output", "call_id": "c", "output": "These tools can be called from now on: f."},
    ]
    assert [tool["type"] for tool in body["tools"]] == ["function", "function"]


@pytest.mark.parametrize(
    "kind", ["additional_tools", "tool_search_call", "tool_search_output", "configuration_update", "compaction_trigger"]
)
def test_what_the_engine_has_heeded_is_not_said_again(kind: str) -> None:
    assert sent({"type": kind, "id": "x_1", "tools": []}, user("Hi")) == [user("Hi")]


# --- Encrypted content ---


def reasoning(encrypted: str | None = None, **members: Any) -> Json:
    item = {"id": "rs_ours", "type": "reasoning", "status": "completed", "summary": [], **members}
    return {**item, "encrypted_content": encrypted} if encrypted is not None else item


OWN = wrapped(MAKER, Sealed("rs_theirs", "gAAAA"))
OTHERS = wrapped("responses/there", Sealed("rs_theirs", "gAAAA"))


def test_reasoning_goes_back_under_the_id_that_it_is_bound_to() -> None:
    thought = reasoning(OWN, content=[{"type": "reasoning_text", "text": "Hm"}], summary=[{"type": "summary_text"}])

    assert sent(thought, user("Hi"))[0] == {
        "id": "rs_theirs",
        "type": "reasoning",
        "summary": [{"type": "summary_text"}],
        "encrypted_content": "gAAAA",
    }


def test_reasoning_that_a_client_has_from_the_provider_itself() -> None:
    (thought,) = sent(reasoning("gAAAA-foreign"))

    assert thought == {"id": "rs_ours", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA-foreign"}


@pytest.mark.parametrize(
    "encrypted", [None, "", OTHERS, OWN[:-4], OWN + "!", "kept1.", "antph1AAAA", wrapped(MAKER, {"id": 5})]
)
def test_reasoning_that_nobody_there_can_read(encrypted: str | None) -> None:
    thought = reasoning(encrypted, content=[{"type": "reasoning_text", "text": "Hm"}])

    assert sent(thought, user("Hi")) == [user("Hi")]
    (shown, _) = sent(thought, user("Hi"), replay_reasoning=True)
    assert shown == {
        "id": "rs_ours",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm"}],
    }


def test_reasoning_that_was_refused_is_left_out() -> None:
    assert sent(reasoning(OWN), reasoning("gAAAA-foreign"), user("Hi"), sealed=False) == [user("Hi")]


def test_a_compaction_of_the_upstream() -> None:
    item = {"id": "cmp_ours", "type": "compaction", "status": "completed"}
    own = wrapped(MAKER, Sealed("cmp_theirs", "gAAAA"))

    assert sent({**item, "encrypted_content": own}, sealed=False) == [
        {"id": "cmp_theirs", "type": "compaction", "encrypted_content": "gAAAA"}
    ]
    assert sent({**item, "encrypted_content": OTHERS}, user("Hi")) == [user("Hi")]


# --- Tools ---


def with_tools(*tools: Tool, choice: ToolChoice = ToolChoice(), force: bool = True) -> Json:  # noqa: B008 - frozen
    request = asked(user("Hi"))
    request.tools, request.choice, request.force_choice = tools, choice, force
    return body_of(request)


def declared(raw: Json, **seen: Any) -> Tool:
    """A tool as the engine shows it, and as its client declared it."""
    return Tool(raw["type"], raw=json.dumps(raw).encode(), **{"name": raw.get("name"), **seen})


F = function("f", parameters={"type": "object"}, strict=None, novelty=1, defer_loading=True)
CUSTOM = {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "regex", "definition": "a+"}}
MCP = {"type": "mcp", "server_label": "d", "server_url": "https://d.example/", "authorization": "secret"}


def test_tools_go_as_they_were_declared_under_the_name_that_the_model_sees() -> None:
    tools = with_tools(declared(F, name="n__f", description="[n: all] F"), declared(CUSTOM), declared(MCP))["tools"]

    shown = {"type": "function", "name": "n__f", "parameters": {"type": "object"}, "strict": None, "novelty": 1}
    assert tools == [{**shown, "description": "[n: all] F"}, CUSTOM, MCP]


def test_tools_that_the_engine_made() -> None:
    hosted = Tool("function", "search", "Searches.", msgspec.Raw(b'{"type":"object"}'))
    searching = declared({"type": "tool_search", "execution": "client"}, name="tool_search")
    searching = msgspec.structs.replace(searching, type="function", parameters=msgspec.Raw(b"{}"))

    assert with_tools(hosted, searching)["tools"] == [
        {
            "type": "function",
            "parameters": {"type": "object"},
            "strict": False,
            "name": "search",
            "description": "Searches.",
        },
        {"type": "function", "parameters": {}, "strict": False, "name": "tool_search"},
    ]


ALL = (declared(F), declared(CUSTOM), declared(MCP))
NAMED = ToolChoice("required", "function", names=("f",))
ALLOWED = ToolChoice("required", "allowed_tools", names=("f", "p", "gone"))


@pytest.mark.parametrize(
    ("choice", "force", "expected"),
    [
        (ToolChoice(), True, None),
        (ToolChoice("none"), True, "none"),
        (ToolChoice("required"), True, "required"),
        (ToolChoice("required"), False, None),
        (NAMED, True, {"type": "function", "name": "f"}),
        (NAMED, False, None),
        (ToolChoice("required", "custom", names=("p",)), True, {"type": "custom", "name": "p"}),
        (
            ALLOWED,
            True,
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "p"}],
            },
        ),
        (
            ALLOWED,
            False,
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "p"}],
            },
        ),
        (
            ToolChoice("required", "mcp", echo=b'{"type":"mcp","server_label":"d"}'),
            True,
            {"type": "mcp", "server_label": "d"},
        ),
        (ToolChoice("required", "mcp", echo=b'{"type":"mcp","server_label":"d"}'), False, None),
    ],
)
def test_what_the_model_must_call(choice: ToolChoice, force: bool, expected: Any) -> None:
    assert with_tools(*ALL, choice=choice, force=force).get("tool_choice") == expected


def test_without_tools_there_is_no_choice() -> None:
    assert with_tools(choice=ToolChoice("none")).keys() & {"tools", "tool_choice"} == set()


def test_what_tokens_are_counted_of() -> None:
    form = form_of(asked(user("Hi"), **PARAMETERS), Options(), MAKER, stream=False)

    assert counted(form).keys() == {
        *("model", "input", "instructions", "text", "reasoning", "parallel_tool_calls", "truncation")
    }


def test_the_same_request_gives_the_same_bytes() -> None:
    forms = [form_of(asked(user("Hi"), **PARAMETERS, novelty=1), Options(), MAKER, stream=True) for _ in range(2)]

    assert msgspec.json.encode(forms[0]) == msgspec.json.encode(forms[1])


# --- Tools of the provider ---

WEB: Json = {"type": "web_search", "search_context_size": "low"}
MCP: Json = {"type": "mcp", "server_label": "deep", "server_url": "https://a.example", "authorization": "secret"}
TOOLS = [function("f"), WEB, MCP]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("required", "required"),
        ({"type": "web_search"}, {"type": "web_search"}),
        ({"type": "mcp", "server_label": "deep", "name": "x"}, {"type": "mcp", "server_label": "deep", "name": "x"}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [WEB, {"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
            },
        ),
    ],
)
def test_tools_of_the_provider_are_declared_and_chosen_in_the_clients_words(choice: Any, told: Any) -> None:
    body = body_of(asked(user("Hi"), tools=TOOLS, tool_choice=choice, foreign=["*"]))

    assert body["tools"][1:] == [WEB, MCP]
    assert body["tool_choice"] == told
