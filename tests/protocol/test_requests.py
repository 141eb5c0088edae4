"""Every parameter of a request: what is taken, and what is refused with which words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.specification.conformance import check_error

from antiphon.engine import shell
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import (
    INCLUDABLE,
    CreateResponse,
    kept,
    read_create,
    read_include,
    read_page,
    reread,
    truth,
    whole_number,
)

Json = dict[str, Any]

FUNCTION = {"type": "function", "name": "look"}
SCHEMA = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}


def read(**parameters: Any) -> CreateResponse:
    """The request with these parameters besides the two that every request has."""
    return read_create(json.dumps({"model": "demo", "input": "Hello", **parameters}).encode())


def refusal(body: Json | bytes) -> ApiError:
    """What a body is refused with, which is always in the official shape."""
    given = body if isinstance(body, bytes) else json.dumps({"model": "demo", "input": "Hello", **body}).encode()
    with pytest.raises(ApiError) as refused:
        read_create(given)
    check_error(json.loads(refused.value.body()))
    return refused.value


BELOW = r"below minimum value\. Expected a value >= {}, but got {} instead"
ABOVE = r"above maximum value\. Expected a value <= {}, but got {} instead"

# What is added to a good request; the code, the param and the message that it is refused with.
REFUSED: list[tuple[Json, str | None, str | None, str]] = [
    # Ranges
    ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens", BELOW.format(16, 15)),
    ({"max_output_tokens": -1}, "integer_below_min_value", "max_output_tokens", BELOW.format(16, -1)),
    ({"max_output_tokens": 2**31 + 1}, "integer_above_max_value", "max_output_tokens", "above maximum"),
    ({"max_output_tokens": 10**30}, "integer_above_max_value", "max_output_tokens", "above maximum"),
    ({"max_tool_calls": 0}, "integer_below_min_value", "max_tool_calls", BELOW.format(1, 0)),
    ({"temperature": -0.1}, "decimal_below_min_value", "temperature", BELOW.format(0, r"-0\.1")),
    ({"temperature": 2.1}, "decimal_above_max_value", "temperature", ABOVE.format(2, r"2\.1")),
    ({"temperature": 1e300}, "decimal_above_max_value", "temperature", "above maximum"),
    ({"top_p": -0.5}, "decimal_below_min_value", "top_p", BELOW.format(0, r"-0\.5")),
    ({"top_p": 1.01}, "decimal_above_max_value", "top_p", ABOVE.format(1, r"1\.01")),
    ({"presence_penalty": -3}, "decimal_below_min_value", "presence_penalty", BELOW.format(-2, -3)),
    ({"presence_penalty": 3}, "decimal_above_max_value", "presence_penalty", ABOVE.format(2, 3)),
    ({"frequency_penalty": -3}, "decimal_below_min_value", "frequency_penalty", BELOW.format(-2, -3)),
    ({"frequency_penalty": 3}, "decimal_above_max_value", "frequency_penalty", ABOVE.format(2, 3)),
    ({"top_logprobs": -1}, "integer_below_min_value", "top_logprobs", BELOW.format(0, -1)),
    ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs", ABOVE.format(20, 21)),
    # Sizes
    ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "metadata", "at most 16.*got 17"),
    ({"metadata": {"k" * 65: ""}}, "string_above_max_length", "metadata", "maximum length 64"),
    ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k", "maximum length 512"),
    ({"safety_identifier": "x" * 129}, "string_above_max_length", "safety_identifier", "maximum length 128"),
    ({"input": "x" * 10_485_761}, "string_above_max_length", "input", "maximum length 10485760"),
    ({"input": []}, "empty_array", "input", "empty array"),
    ({"tools": [{**FUNCTION, "name": "x" * 65}]}, "string_above_max_length", r"tools[0].name", "maximum length 64"),
    # Types
    ({"model": 5}, "invalid_type", "model", "'model': expected a string, but got an integer"),
    ({"input": 5}, "invalid_type", "input", "a string or an array of input items"),
    ({"input": {}}, "invalid_type", "input", "a string or an array"),
    ({"input": True}, "invalid_type", "input", "a string or an array"),
    ({"instructions": ["x"]}, "invalid_type", "instructions", "expected a string, but got an array"),
    ({"previous_response_id": 1}, "invalid_type", "previous_response_id", "expected a string"),
    ({"store": "yes"}, "invalid_type", "store", "expected a boolean, but got a string"),
    ({"store": 1}, "invalid_type", "store", "expected a boolean, but got an integer"),
    ({"background": "true"}, "invalid_type", "background", "expected a boolean"),
    ({"stream": "true"}, "invalid_type", "stream", "expected a boolean, but got a string"),
    ({"stream_options": True}, "invalid_type", "stream_options", "expected an object, but got a boolean"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": 1}},
        "invalid_type",
        "stream_options.include_obfuscation",
        "expected a boolean",
    ),
    ({"include": "x"}, "invalid_type", "include", "expected an array"),
    ({"include": [1]}, "invalid_type", "include[0]", "expected a string"),
    ({"max_output_tokens": "16"}, "invalid_type", "max_output_tokens", "expected an integer, but got a string"),
    ({"max_output_tokens": 16.5}, "invalid_type", "max_output_tokens", "expected an integer, but got a decimal"),
    ({"max_tool_calls": "1"}, "invalid_type", "max_tool_calls", "expected an integer"),
    ({"metadata": []}, "invalid_type", "metadata", "expected an object"),
    ({"metadata": {"k": 1}}, "invalid_type", "metadata", "expected a string, but got an integer"),
    ({"metadata": {"k": None}}, "invalid_type", "metadata", "expected a string, but got null"),
    ({"parallel_tool_calls": 0}, "invalid_type", "parallel_tool_calls", "expected a boolean"),
    ({"temperature": "1"}, "invalid_type", "temperature", "expected a decimal, but got a string"),
    ({"temperature": True}, "invalid_type", "temperature", "expected a decimal, but got a boolean"),
    ({"top_p": "1"}, "invalid_type", "top_p", "expected a decimal"),
    ({"presence_penalty": "1"}, "invalid_type", "presence_penalty", "expected a decimal"),
    ({"frequency_penalty": []}, "invalid_type", "frequency_penalty", "expected a decimal"),
    ({"top_logprobs": 1.5}, "invalid_type", "top_logprobs", "expected an integer"),
    ({"reasoning": "high"}, "invalid_type", "reasoning", "expected an object"),
    ({"reasoning": {"effort": 3}}, "invalid_type", "reasoning.effort", "expected a string"),
    ({"text": "json"}, "invalid_type", "text", "expected an object"),
    ({"text": {"format": "json"}}, "invalid_type", "text.format", "expected an object"),
    ({"text": {"verbosity": 1}}, "invalid_type", "text.verbosity", "expected a string"),
    ({"text": {"format": {**SCHEMA, "schema": "x"}}}, "invalid_type", "text.format.schema", "expected an object"),
    ({"text": {"format": {**SCHEMA, "schema": None}}}, "invalid_type", "text.format.schema", "expected an object"),
    ({"text": {"format": {**SCHEMA, "strict": 1}}}, "invalid_type", "text.format.strict", "expected a boolean"),
    ({"tools": {}}, "invalid_type", "tools", "expected an array"),
    ({"tools": ["look"]}, "invalid_type", "tools[0]", "expected an object, but got a string"),
    ({"tools": [FUNCTION, {**FUNCTION, "name": 1}]}, "invalid_type", "tools[1].name", "expected a string"),
    ({"tools": [{**FUNCTION, "parameters": []}]}, "invalid_type", "tools[0].parameters", "expected an object"),
    ({"tools": [{**FUNCTION, "strict": "yes"}]}, "invalid_type", "tools[0].strict", "expected a boolean"),
    ({"tools": [{**FUNCTION, "description": 1}]}, "invalid_type", "tools[0].description", "expected a string"),
    ({"tool_choice": 1}, "invalid_type", "tool_choice", "expected an object"),
    ({"tool_choice": {"type": 1}}, "invalid_type", "tool_choice.type", "expected a string"),
    ({"truncation": True}, "invalid_type", "truncation", "expected a string"),
    ({"service_tier": 1}, "invalid_type", "service_tier", "expected a string"),
    ({"user": 1}, "invalid_type", "user", "expected a string"),
    ({"safety_identifier": {}}, "invalid_type", "safety_identifier", "expected a string"),
    ({"prompt_cache_key": 1}, "invalid_type", "prompt_cache_key", "expected a string"),
    ({"prompt_cache_retention": 1}, "invalid_type", "prompt_cache_retention", "expected a string"),
    # Enumerations
    ({"include": ["x"]}, "invalid_value", "include[0]", "Invalid value: 'x'. Supported values are: 'file_search_call"),
    ({"include": [INCLUDABLE[0], ""]}, "invalid_value", "include[1]", "Invalid value: ''"),
    ({"truncation": "on"}, "invalid_value", "truncation", "'auto', 'disabled'"),
    ({"service_tier": "best"}, "invalid_value", "service_tier", "'auto', 'default', 'flex'"),
    ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort", "'none', 'minimal', 'low'"),
    ({"reasoning": {"summary": "long"}}, "invalid_value", "reasoning.summary", "'auto', 'concise', 'detailed'"),
    ({"reasoning": {"generate_summary": "x"}}, "invalid_value", "reasoning.generate_summary", "'auto'"),
    ({"text": {"verbosity": "loud"}}, "invalid_value", "text.verbosity", "'low', 'medium', 'high'"),
    (
        {"text": {"format": {"type": "xml"}}},
        "invalid_value",
        "text.format.type",
        "'text', 'json_object', 'json_schema'",
    ),
    ({"prompt_cache_retention": "1h"}, "invalid_value", "prompt_cache_retention", "'in_memory', '24h'"),
    ({"tool_choice": "always"}, "invalid_value", "tool_choice", "'none', 'auto', 'required'"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "mode": "none", "tools": [FUNCTION]}},
        "invalid_value",
        "tool_choice.mode",
        "'auto', 'required'",
    ),
    # What is missing
    ({"model": None, "input": None}, "missing_required_parameter", "input", "Missing required parameter: 'input'"),
    ({"text": {"format": {}}}, "missing_required_parameter", "text.format.type", "Missing required parameter"),
    (
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        "missing_required_parameter",
        "text.format.name",
        "'text.format.name'",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "x"}}},
        "missing_required_parameter",
        "text.format.schema",
        "'text.format.schema'",
    ),
    ({"tools": [{}]}, "missing_required_parameter", "tools[0].type", "'tools\\[0\\].type'"),
    ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name", "tools"),
    ({"tool_choice": {}}, "missing_required_parameter", "tool_choice.type", "tool_choice.type"),
    ({"tool_choice": {"type": "function"}}, "missing_required_parameter", "tool_choice.name", "tool_choice.name"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}},
        "missing_required_parameter",
        "tool_choice.tools",
        "tool_choice.tools",
    ),
    # Names
    ({"tools": [{**FUNCTION, "name": "a b"}]}, "invalid_value", "tools[0].name", "does not match pattern"),
    ({"tools": [{**FUNCTION, "name": ""}]}, "invalid_value", "tools[0].name", "does not match pattern"),
    ({"tools": [{**FUNCTION, "name": "look\n"}]}, "invalid_value", "tools[0].name", "does not match pattern"),
    ({"text": {"format": {**SCHEMA, "name": "a.b"}}}, "invalid_value", "text.format.name", "does not match pattern"),
    ({"tools": [FUNCTION, FUNCTION]}, "invalid_value", "tools", "Duplicate tool name: 'look'"),
    # Conflicts
    (
        {"previous_response_id": "resp_1", "conversation": "conv_1"},
        "mutually_exclusive_parameters",
        "previous_response_id",
        "Mutually exclusive parameters: 'previous_response_id' and 'conversation'",
    ),
    ({"conversation": 1}, "invalid_type", "conversation", "expected one of a string or an object"),
    ({"conversation": {"id": 1}}, "invalid_type", "conversation.id", "expected a string"),
    ({"conversation": {}}, "missing_required_parameter", "conversation.id", "'conversation.id'"),
    ({"stream_options": {}}, "invalid_value", "stream_options", "only allowed when 'stream' is enabled"),
    ({"stream": False, "stream_options": {}}, "invalid_value", "stream_options", "only allowed"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "tools": []}},
        "empty_array",
        "tool_choice.tools",
        "empty array",
    ),
    # Other APIs' parameters, and documented ones that this server does not have
    ({"messages": []}, "unsupported_parameter", "messages", "has moved to 'input'"),
    ({"max_tokens": 5}, "unsupported_parameter", "max_tokens", "has moved to 'max_output_tokens'"),
    ({"max_completion_tokens": 5}, "unsupported_parameter", "max_completion_tokens", "'max_output_tokens'"),
    ({"response_format": {}}, "unsupported_parameter", "response_format", "has moved to 'text.format'"),
    ({"functions": []}, "unsupported_parameter", "functions", "has moved to 'tools'"),
    ({"function_call": "auto"}, "unsupported_parameter", "function_call", "has moved to 'tool_choice'"),
    ({"n": 1}, "unsupported_parameter", "n", "Unsupported parameter: 'n'"),
    ({"stop": "x"}, "unsupported_parameter", "stop", "Unsupported parameter: 'stop'"),
    ({"seed": 0}, "unsupported_parameter", "seed", "Unsupported parameter: 'seed'"),
    ({"moderation": {"model": "x"}}, "unsupported_parameter", "moderation", "does not moderate"),
]


@pytest.mark.parametrize(
    ("added", "code", "param", "message"),
    REFUSED,
    ids=[f"{param}-{code}-{n}" for n, (_, code, param, _) in enumerate(REFUSED)],
)
def test_what_is_wrong_is_refused_by_name(added: Json, code: str, param: str, message: str) -> None:
    error = refusal(added)

    assert (error.status, error.type, error.code, error.param) == (400, "invalid_request_error", code, param)
    assert re.search(message, error.message)


def test_the_first_thing_wrong_is_told() -> None:
    """Types and ranges come before conflicts (reference 3.2)."""
    both = {"previous_response_id": "resp_1", "conversation": "conv_1"}

    assert refusal({**both, "temperature": 3}).param == "temperature"
    assert refusal({**both, "tools": [{"type": "function"}]}).param == "tools[0].name"
    assert refusal({"seed": 1, "temperature": 3}).param == "seed"


OPTIONAL = [
    "instructions",
    "previous_response_id",
    "conversation",
    "store",
    "background",
    "stream",
    "stream_options",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "reasoning",
    "text",
    "tools",
    "tool_choice",
    "truncation",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt",
    "moderation",
    "messages",
    "seed",
]


def echo_of(request: CreateResponse) -> Json:
    made = shell.build(request, response_id="resp_1", created_at=0, model="demo")
    echoed: Json = json.loads(b"{" + made.tail + b"}")
    return echoed


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_means_unset(name: str) -> None:
    assert echo_of(read(**{name: None})) == echo_of(read())


def test_null_inside_objects_means_unset() -> None:
    request = read(
        reasoning={"effort": None, "summary": None},
        text={"format": None, "verbosity": None},
        tools=[{**FUNCTION, "parameters": None, "strict": None, "description": None}],
        stream=True,
        stream_options={"include_obfuscation": None},
    )

    echoed = echo_of(request)
    assert echoed["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert echoed["tools"] == [{**FUNCTION, "parameters": None, "strict": False, "description": None}]


@pytest.mark.parametrize("name", ["include", "tools", "metadata", "text", "reasoning"])
def test_empty_collections_are_taken(name: str) -> None:
    empty: Any = [] if name in ("include", "tools") else {}

    assert echo_of(read(**{name: empty})) == echo_of(read())


EDGES: list[Json] = [
    {"max_output_tokens": 16},
    {"max_tool_calls": 1},
    *({"temperature": value} for value in (0, 2, 2.0, 0.7)),
    *({"top_p": value} for value in (0, 1)),
    *({"presence_penalty": value} for value in (-2, 2)),
    *({"frequency_penalty": value} for value in (-2.0, 2)),
    *({"top_logprobs": value} for value in (0, 20)),
    {"metadata": {"k" * 64: "v" * 512} | {str(n): "" for n in range(15)}},
    {"safety_identifier": "x" * 128},
    *({"truncation": value} for value in ("auto", "disabled")),
    *({"service_tier": value} for value in ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")),
    *({"reasoning": {"effort": value}} for value in ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    *({"reasoning": {"summary": value}} for value in ("auto", "concise", "detailed")),
    *({"text": {"verbosity": value}} for value in ("low", "medium", "high")),
    {"text": {"format": {"type": "text"}}},
    {"text": {"format": {"type": "json_object"}}},
    {"text": {"format": {**SCHEMA, "strict": True, "description": "An answer"}}},
    {"include": list(INCLUDABLE)},
    *({"prompt_cache_retention": value} for value in ("in_memory", "in-memory", "24h")),
    {"user": "me", "prompt_cache_key": "k", "instructions": ""},
    {"tools": [{**FUNCTION, "name": "x" * 64}]},
    {"input": "x" * 10_485_760},
    {"input": ""},
    {"input": None, "previous_response_id": "resp_1"},
    {"input": [], "previous_response_id": "resp_1"},
]


@pytest.mark.parametrize("added", EDGES, ids=[f"{next(iter(added))}-{n}" for n, added in enumerate(EDGES)])
def test_values_at_the_edge_are_taken_and_echoed(added: Json) -> None:
    echoed = echo_of(read(**added))

    for name, value in added.items():
        if name in echoed and not isinstance(value, dict) and name not in ("service_tier", "tools"):
            assert echoed[name] == value
    assert echoed["service_tier"] == "default"


CHOICES: list[tuple[Any, str, Any]] = [
    ("none", "none", "none"),
    ("auto", "auto", "auto"),
    ("required", "required", "required"),
    ({"type": "function", "name": "look"}, "required", {"type": "function", "name": "look"}),
    (
        {"type": "allowed_tools", "tools": [{"type": "function", "name": "look"}]},
        "auto",
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
    ),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
        "required",
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
    ),
]


@pytest.mark.parametrize(("given", "mode", "echoed"), CHOICES)
def test_tool_choice_in_each_of_its_forms(given: Any, mode: str, echoed: Any) -> None:
    request = read(tools=[FUNCTION], tool_choice=given)

    assert request.choice.mode == mode
    assert echo_of(request)["tool_choice"] == echoed


def test_unknown_fields_are_carried_and_named() -> None:
    request = read(client_metadata={"a": [1, {"b": None}]}, zzz=1, reasoning={"effort": "low", "context": "auto"})

    assert {name: json.loads(bytes(value)) for name, value in request.unknown.items()} == {
        "client_metadata": {"a": [1, {"b": None}]},
        "zzz": 1,
    }
    assert echo_of(request)["reasoning"] == {"effort": "low", "summary": None, "context": "auto"}


@pytest.mark.parametrize("name", ["unknown", "declared", "choice", "raw_reasoning", "raw_text"])
def test_names_of_our_own_are_unknown_fields_like_others(name: str) -> None:
    request = read(**{name: "x"}, tools=[FUNCTION])

    assert list(request.unknown) == [name]
    assert [tool.name for tool in request.declared] == ["look"]


def test_secrets_of_tools_are_not_echoed() -> None:
    server = {"type": "mcp", "server_label": "x", "authorization": "secret-1", "headers": {"a": "secret-2"}}

    assert "secret" not in json.dumps(echo_of(read(tools=[server])))


@pytest.mark.parametrize(
    ("given", "echoed"), [(None, {}), (False, {"defer_loading": False}), (True, {"defer_loading": True})]
)
def test_a_null_for_defer_loading_is_not_echoed_as_no_published_document_has_it(given: Any, echoed: Json) -> None:
    custom = {"type": "custom", "name": "write", "defer_loading": given}
    server = {"type": "mcp", "server_label": "x", "defer_loading": given}
    inside = {"type": "function", "name": "see", "strict": None, "defer_loading": given}
    space = {"type": "namespace", "name": "n", "description": "d", "tools": [inside]}

    tools = echo_of(read(tools=[{**FUNCTION, "defer_loading": given}, custom, server, space]))["tools"]

    for tool in (*tools[:3], tools[3]["tools"][0]):
        assert {name: value for name, value in tool.items() if name == "defer_loading"} == echoed
    assert tools[3]["tools"][0] == {"type": "function", "name": "see", "strict": None, **echoed}


def test_a_body_in_many_lines_gives_a_response_in_one() -> None:
    body = {
        "model": "demo",
        "input": [{"role": "user", "content": "two\nlines"}],
        "tools": [{**FUNCTION, "parameters": {"type": "object", "description": "two\nlines"}}],
        "tool_choice": {"type": "function", "name": "look"},
        "text": {"format": SCHEMA},
        "reasoning": {"effort": "low", "context": {"a": 1}},
    }
    made = [
        shell.build(read_create(text.replace("\n", end).encode()), response_id="resp_1", created_at=0, model="demo")
        for text in (json.dumps(body), json.dumps(body, indent=2))
        for end in ("\n", "\r\n")
    ]

    assert all(json.loads(b"{" + one.tail + b"}") == json.loads(b"{" + made[0].tail + b"}") for one in made)
    assert not set(b"\r\n") & set(b"".join(one.tail for one in made))


# --- Hostile bodies ---

HOSTILE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "truncated"),
    ("space", b" \n ", "truncated"),
    ("no JSON", b"hello", "malformed"),
    ("a list", b"[]", "expected a JSON object"),
    ("a string", b'"x"', "expected a JSON object"),
    ("null", b"null", "expected a JSON object"),
    ("cut", b'{"model":"demo","input":"He', "truncated"),
    ("two values", b'{"model":"demo","input":"x"} {}', "trailing"),
    ("a byte order mark", b'\xef\xbb\xbf{"model":"demo","input":"x"}', "malformed"),
    ("UTF-16", '{"model":"demo","input":"x"}'.encode("utf-16"), "decode|malformed"),
    ("NaN", b'{"model":"demo","input":"x","temperature":NaN}', "malformed"),
    ("NaN in an unknown field", b'{"model":"demo","input":"x","x":[NaN]}', "malformed"),
    ("Infinity", b'{"model":"demo","input":"x","temperature":-Infinity}', "malformed"),
    ("an octal number", b'{"model":"demo","input":"x","x":010}', "malformed"),
    ("a trailing comma", b'{"model":"demo","input":"x",}', "malformed"),
    ("a comment", b'{"model":"demo" /* x */,"input":"x"}', "malformed"),
    ("single quotes", b"{'model':'demo'}", "malformed"),
    ("a raw line break in a string", b'{"model":"demo","input":"a\nb"}', "malformed"),
    ("bad UTF-8 in the input", b'{"model":"demo","input":"\xff"}', "decode"),
    ("bad UTF-8 in an unknown field", b'{"model":"demo","input":"x","x":"\xc3\x28"}', "decode"),
    ("bad UTF-8 in an item", b'{"model":"demo","input":[{"type":"x","id":"1","x":"\xff"}]}', "decode"),
    ("an overlong form", b'{"model":"demo","input":"\xc0\xaf"}', "decode"),
    ("a surrogate in UTF-8", b'{"model":"demo","input":"\xed\xa0\x80"}', "decode"),
    ("half a pair and no number", b'{"model":"demo","input":"\\ud83e","x":NaN}', "malformed|truncated|invalid"),
    ("deep lists", b'{"model":"demo","input":"x","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "too deeply"),
    ("deep objects", b'{"model":"demo","input":"x","x":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}", "too deeply"),
    (
        "deep tools",
        b'{"model":"demo","input":"x","tools":[{"type":"function","name":"f","parameters":'
        + b'{"a":' * 920
        + b"1"
        + b"}" * 920
        + b"}]}",
        "too deeply",
    ),
]


@pytest.mark.parametrize(("body", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_body_that_is_no_json_object_is_refused(body: bytes, message: str) -> None:
    error = refusal(body)

    assert (error.status, error.param) == (400, None)
    assert re.search(message, error.message)


def test_huge_numbers_are_refused_where_they_mean_something_and_carried_where_not() -> None:
    digits = b"9" * 5000

    assert refusal(b'{"model":"demo","input":"x","max_output_tokens":' + digits + b"}").param == "max_output_tokens"
    assert refusal(b'{"model":"demo","input":"x","temperature":1e999}').param == "temperature"
    carried = read_create(b'{"model":"demo","input":"x","big":' + digits + b"}")
    assert bytes(carried.unknown["big"]) == digits


def test_of_a_field_given_twice_the_last_counts_everywhere() -> None:
    request = read_create(b'{"model":"a","model":"demo","input":"x","z":1,"z":2,"text":{},"text":{"verbosity":"low"}}')

    assert (request.model, bytes(request.unknown["z"])) == ("demo", b"2")
    assert echo_of(request)["text"]["verbosity"] == "low"


def test_a_seed_given_twice_cannot_slip_through() -> None:
    assert refusal(b'{"model":"demo","input":"x","seed":null,"seed":5}').param == "seed"


def test_many_items_are_no_deep_nesting() -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}] * 2000

    assert read(input=items).model == "demo"


# --- Query parameters ---


def test_a_page_with_nothing_asked() -> None:
    page = read_page({})

    assert (page.limit, page.order, page.after, page.before) == (20, "desc", None, None)


def test_a_page_with_everything_asked() -> None:
    page = read_page(
        {"limit": ["100"], "order": ["asc"], "after": ["a"], "before": ["b"], "include[]": [INCLUDABLE[0]]}
    )

    assert (page.limit, page.order, page.after, page.before) == (100, "asc", "a", "b")


QUERIES: list[tuple[str, str, str, str]] = [
    ("limit", "0", "integer_below_min_value", r"Expected a value >= 1, but got 0"),
    ("limit", "101", "integer_above_max_value", r"Expected a value <= 100, but got 101"),
    ("limit", "-5", "integer_below_min_value", "below minimum"),
    ("limit", "ten", "invalid_type", "expected an integer, but got 'ten'"),
    ("limit", "1.5", "invalid_type", "expected an integer"),
    ("limit", "--5", "invalid_type", "expected an integer"),
    ("limit", "-", "invalid_type", "expected an integer"),
    ("limit", "+5", "invalid_type", "expected an integer"),
    ("limit", " 5", "invalid_type", "expected an integer"),
    ("limit", "\u0665", "invalid_type", "expected an integer"),
    ("limit", "9" * 29, "integer_above_max_value", "above maximum"),
    ("limit", "9" * 5000, "invalid_type", "expected an integer"),
    ("order", "up", "invalid_value", "'asc', 'desc'"),
    ("include[]", "x", "invalid_value", "Supported values"),
    ("include", f"{INCLUDABLE[0]},x", "invalid_value", "Supported values"),
]


@pytest.mark.parametrize(("name", "value", "code", "message"), QUERIES)
def test_a_page_that_cannot_be(name: str, value: str, code: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_page({name: [value]})

    assert (refused.value.status, refused.value.code) == (400, code)
    assert (refused.value.param or "").partition("[")[0] == name.removesuffix("[]")
    assert re.search(message, refused.value.message)


def test_includes_in_every_encoding() -> None:
    first, second, third = INCLUDABLE[:3]

    assert read_include({"include[]": [first, second], "include": [third]}) == [first, second, third]
    assert read_include({"include": [f"{first},{second}"]}) == [first, second]
    assert read_include({}) == []


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("True", True), ("false", False), ("0", False), ("", False)]
)
def test_booleans_of_the_query(text: str, value: bool) -> None:
    assert truth({"stream": [text]}, "stream") is value


def test_a_boolean_that_is_none() -> None:
    with pytest.raises(ApiError, match="expected a boolean, but got 'yes'"):
        truth({"stream": ["yes"]}, "stream")


@pytest.mark.parametrize("text", ["0", "-1", "7", str(2**62)])
def test_whole_numbers_of_the_query(text: str) -> None:
    assert whole_number({"starting_after": ["1", text]}, "starting_after") == int(text)


@pytest.mark.parametrize("options", [{"prewarm": True}, {"prewarm": True, "ttl": "30m"}, {"prewarm": False}])
def test_a_background_request_that_is_taken_up_is_still_there_to_prewarm(options: dict[str, Any]) -> None:
    request = read(background=True, prompt_cache_options=options)
    echo = shell.build(request, response_id="resp_1", created_at=0, model="m")

    again = reread(kept(request), echo, streamed=False)

    assert again.generate is request.generate is not options["prewarm"]
    assert again.unknown == request.unknown
