"""Grammars and regular expressions of custom tools: what they take, what stops a text, and what is refused."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from antiphon.engine import contracts
from antiphon.engine.contracts import Compiler, GrammarContract
from antiphon.engine.grammars import CHECK_SECONDS_MAX, DEFINITION_CHARS_MAX
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import read_create

Json = dict[str, Any]
PARAM = "tools[0].format.definition"
CALC = """
start: expr
expr: term (SP? ("+" | "-") SP? term)*
term: NUMBER | "(" expr ")"
SP: " "
%import common.NUMBER
"""
PATCH = """
start: begin hunk+ end
begin: "*** Begin Patch" LF
end: "*** End Patch" LF?
hunk: "*** Update File: " /(.+)/ LF line+
line: ("+" | "-" | " ") /(.*)/ LF
%import common.LF
"""
PATCHED = "*** Begin Patch\n*** Update File: a.py\n-old\n+new ä\n*** End Patch"


def grammar(syntax: str, definition: str) -> GrammarContract:
    return GrammarContract(syntax, definition, "tool", PARAM)


def taken(contract: GrammarContract, text: str) -> tuple[str, bool]:
    checker = contract.checker()
    for at, character in enumerate(text):
        if not checker.feed(character):
            assert checker.reason
            return text[:at], False
    return text, checker.complete


@pytest.mark.parametrize(
    ("syntax", "definition", "text", "as_far_as", "whole"),
    [
        ("lark", CALC, "1 + (2-3)", "1 + (2-3)", True),
        ("lark", CALC, "1 +", "1 +", False),
        ("lark", CALC, "1 + )", "1 + ", False),
        ("lark", PATCH, PATCHED, PATCHED, True),
        ("lark", PATCH, PATCHED + "\n", PATCHED + "\n", True),
        ("lark", PATCH, PATCHED + "\n\n", PATCHED + "\n", False),
        ("lark", PATCH, "```\n" + PATCHED, "", False),
        ("regex", r"[a-z]+@[a-z]+\.(com|org)", "me@example.org", "me@example.org", True),
        ("regex", r"[a-z]+@[a-z]+\.(com|org)", "me@example.net", "me@example.", False),
        ("regex", r"^\d{4}-\d{2}$", "2024-12", "2024-12", True),
        ("regex", r"^\d{4}-\d{2}$", "2024-123", "2024-12", False),
        ("regex", "ä+", "ää", "ää", True),
        ("regex", "ä+", "aä", "", False),
        ("regex", "a*", "", "", True),
    ],
)
def test_texts(syntax: str, definition: str, text: str, as_far_as: str, whole: bool) -> None:
    contract = grammar(syntax, definition)

    assert taken(contract, text) == (as_far_as, whole)
    assert (contract.errors(text) == []) is whole


def test_every_beginning_of_a_text_that_matches_is_taken_however_it_is_cut() -> None:
    contract = grammar("lark", PATCH)
    for size in range(1, len(PATCHED) + 1):
        checker = contract.checker()
        for at in range(0, len(PATCHED), size):
            assert not checker.complete
            assert checker.feed(PATCHED[at : at + size])
        assert checker.complete


def test_a_text_that_is_broken_stays_so() -> None:
    checker = grammar("regex", "ab").checker()

    assert not checker.feed("ac")
    assert not checker.feed("b")
    assert checker.reason == "The text does not match the grammar from its byte 1 on."


def test_texts_do_not_see_one_another() -> None:
    contract = grammar("lark", CALC)
    one, two = contract.checker(), contract.checker()
    one.feed("(1")
    two.feed("2")

    assert (one.complete, two.complete) == (False, True)
    assert (one.feed(")"), two.feed(")")) == (True, False)


BAD = {
    "unclosed group": ("regex", "(a|b", "unclosed group"),
    "look-ahead": ("regex", "(?=a)b", "look-around"),
    "back reference": ("regex", r"(a)\1", "backreferences are not supported"),
    "word boundary": ("regex", r"\bfoo", "lookarounds not supported"),
    "no text at all": ("regex", r"[^\x00-\x{10ffff}]", "it matches no text."),
    "nothing": ("lark", "", "Empty grammar"),
    "no start": ("lark", 'foo: "a"', "no start rule found"),
    "unknown rule": ("lark", "start: foo", 'unknown name: "foo"'),
    "open string": ("lark", 'start: "a', "lexer error"),
    "never ends": ("lark", "start: start", "it matches no text."),
    "unknown import": ("lark", "%import .etc.passwd\nstart: passwd", "Unknown common regex"),
    "a schema from elsewhere": ("lark", 'start: %json {"$ref":"http://127.0.0.1:9/x"}', "not present in a registry"),
    "a schema from a file": ("lark", 'start: %json {"$ref":"file:///etc/hostname"}', "not present in a registry"),
    "tokens of a model": ("lark", "start: a\na[max_tokens=3]: /x+/", "'max_tokens' is not supported."),
    "too long": ("regex", "a" * (DEFINITION_CHARS_MAX + 1), "the limit is 65536."),
    "nested too deeply": ("lark", "start: " + "(" * 2_000 + '"a"' + ")" * 2_000, "too deeply nested"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_definition_that_cannot_be_used_is_the_clients_error(name: str) -> None:
    syntax, definition, reason = BAD[name]
    begun = time.thread_time()

    with pytest.raises(ApiError) as refused:
        grammar(syntax, definition)

    error = refused.value
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", PARAM)
    assert error.message.startswith("Invalid grammar for tool 'tool': ")
    assert reason in error.message
    assert len(error.message) < 500
    assert time.thread_time() - begun < 1


BOMBS = {
    "ambiguous": ("lark", 'start: s\ns: s s | "a"'),
    "very ambiguous": ("lark", 'start: s\ns: s s s | s s | "a" | "aa" | ""'),
    "right recursion": ("lark", 'start: "a" start | "a"'),
    "counted thrice": ("regex", "((a{1,100}){1,100}){1,100}"),
    "counted letters": ("regex", r"(\p{L}{1,200}){1,200}"),
    "optional many": ("regex", "(a?){500}a{500}"),
    "many states": ("regex", "([ab]*a[ab]{60}){1,30}c"),
    "nested stars": ("regex", "(a*)*b"),
    "blank lines": ("lark", "\n" * 60_000 + 'start: "a"+'),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_makes_checking_slow_ends_within_the_limits(name: str) -> None:
    begun = time.thread_time()

    checker = grammar(*BOMBS[name]).checker()
    checker.feed("a" * 20_000)

    assert time.thread_time() - begun < CHECK_SECONDS_MAX + 1


def test_recursion_to_the_right_has_room_for_a_usual_text() -> None:
    assert taken(grammar("lark", 'start: line start | line\nline: /[a-z]+/ "\\n"'), "some\n" * 200) == (
        "some\n" * 200,
        True,
    )


# --- Of a request ---


def request(**members: Any) -> Any:
    return read_create(json.dumps({"model": "m", "input": "x", **members}).encode())


async def compiled(compiler: Compiler, asked: Any) -> contracts.Contracts:
    return await compiler.contracts(asked, asked.declared)


def custom(form: Any, name: str = "calc") -> Json:
    return {"type": "custom", "name": name, "format": form}


def closed(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


async def refused(**members: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        await compiled(Compiler(), request(**members))
    return error.value


async def test_a_request_without_promises() -> None:
    found = await compiled(
        Compiler(),
        request(
            tools=[
                {"type": "function", "name": "f"},
                {"type": "function", "name": "g", "parameters": {"type": "object"}, "strict": False},
                {"type": "function", "name": "h", "parameters": None, "strict": True},
                {"type": "custom", "name": "c"},
                custom({"type": "text"}, "d"),
                {"type": "web_search"},
            ],
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}}},
        ),
    )

    assert found == contracts.Contracts()


async def test_all_promises_of_a_request() -> None:
    found = await compiled(
        Compiler(),
        request(
            tools=[
                {"type": "function", "name": "f", "parameters": closed({"a": {"type": "integer"}}), "strict": True},
                custom({"type": "grammar", "syntax": "lark", "definition": CALC}),
                custom({"type": "grammar", "syntax": "regex", "definition": "[0-9]+"}, "digits"),
            ],
            text={"format": {"type": "json_schema", "name": "n", "schema": closed({}), "strict": True}},
        ),
    )

    assert found.text is not None
    assert (found.text.name, found.text.errors("{}")) == ("JSON schema", [])
    assert found.functions["f"].errors('{"a":1}') == []
    assert found.inputs["calc"].errors("1+2") == []
    assert (found.inputs["digits"].name, found.inputs["digits"].errors("12")) == ("grammar (regex)", [])
    assert json.loads(found.text.definition) == closed({})


@pytest.mark.parametrize(
    ("form", "param", "code"),
    [
        ({"type": "grammar", "syntax": "lark", "definition": "start: x"}, ".definition", "invalid_value"),
        ({"type": "grammar", "syntax": "regex", "definition": "("}, ".definition", "invalid_value"),
        ({"type": "grammar", "syntax": "gbnf", "definition": "x"}, ".syntax", "invalid_value"),
        ({"type": "grammar", "definition": "x"}, ".syntax", "missing_required_parameter"),
        ({"type": "grammar", "syntax": "lark"}, ".definition", "missing_required_parameter"),
        ({"type": "json"}, ".type", "invalid_value"),
        ({}, ".type", "missing_required_parameter"),
        ({"type": "grammar", "syntax": "lark", "definition": 1}, ".definition", "invalid_type"),
        ("lark", "", "invalid_type"),
    ],
)
async def test_a_custom_tool_that_is_wrong(form: Any, param: str, code: str) -> None:
    error = await refused(tools=[{"type": "web_search"}, custom(form)])

    assert (error.status, error.param, error.code) == (400, f"tools[1].format{param}", code)


async def test_a_strict_function_that_is_not() -> None:
    function = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True}
    error = await refused(tools=[{"type": "function", "name": "e"}, function])

    assert (error.param, error.code) == ("tools[1].parameters", "invalid_function_parameters")
    assert error.message.startswith("Invalid schema for function 'f': In context=(), 'additionalProperties'")


async def test_a_reply_format_that_is_not_strict() -> None:
    error = await refused(
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}, "strict": True}}
    )

    assert (error.param, error.code) == ("text.format.schema", "invalid_json_schema")


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"type": "any"}, "In context=(), 'any' is not valid under any of the given schemas."),
        ({"properties": {"a": 1}}, "In context=('properties',), 1 is not of type 'boolean', 'object'."),
        ({"type": "object", "required": True}, "In context=(), True is not of type 'array'."),
        ({"$id": "Parameters Schema"}, None),
        ({"$schema": "urn:mine", "type": "object"}, None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "definitions": {}}, None),
        ({"$ref": "https://example.com/elsewhere"}, None),
        ({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, None),
    ],
)  # fmt: skip
async def test_without_strict_a_schema_need_only_be_one(parameters: Json, problem: str | None) -> None:
    tools = [{"type": "function", "name": "f", "parameters": parameters}]
    if problem is None:
        assert (await compiled(Compiler(), request(tools=tools))).functions == {}
    else:
        error = await refused(tools=tools)
        assert error.message == f"Invalid schema for function 'f': {problem}"
        assert error.code == "invalid_function_parameters"


async def test_a_definition_is_compiled_once_and_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler()
    first = await compiled(compiler, request(tools=[custom({"type": "grammar", "syntax": "regex", "definition": "a"})]))
    again = await compiled(compiler, request(tools=[custom({"type": "grammar", "syntax": "regex", "definition": "a"})]))
    assert again.inputs["calc"] is first.inputs["calc"]

    monkeypatch.setattr(contracts, "CACHED_MAX", 3)
    for digit in "1234":
        form = {"type": "grammar", "syntax": "regex", "definition": digit}
        await compiled(compiler, request(tools=[custom(form)]))
    late = await compiled(compiler, request(tools=[custom({"type": "grammar", "syntax": "regex", "definition": "a"})]))

    assert late.inputs["calc"] is not first.inputs["calc"]
    assert late.inputs["calc"].errors("a") == []


async def test_the_loop_goes_on_while_a_large_schema_is_compiled() -> None:
    schema = closed({f"p{at}": {"type": "string", "enum": [f"a{at}"]} for at in range(900)})
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    asked = request(text={"format": form})
    work = asyncio.create_task(compiled(Compiler(), asked))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1

    assert (await work).text is not None
    assert turns > 20  # compiled on the loop itself it takes one


async def test_a_request_of_many_definitions_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "COMPILE_SECONDS_MAX", -1.0)
    error = await refused(tools=[custom({"type": "grammar", "syntax": "regex", "definition": "a"})])

    assert (error.status, error.param) == (400, "tools")
    assert threading.active_count() < 50
