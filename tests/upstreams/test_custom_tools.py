"""Custom tools as functions with one string: how they are shown, and how the string comes back out of arguments."""

from __future__ import annotations

import json
import random

import pytest

from antiphon.protocol.tools import Tool
from antiphon.upstreams.custom_tools import (
    InputReader,
    aliases_of,
    arguments_of,
    customs_of,
    description_of,
    parameters_of,
)


def read(*pieces: str) -> list[str]:
    """What each piece adds to the input, and what is left at the end."""
    reader = InputReader()
    return [*(reader.feed(piece) for piece in pieces), reader.rest()]


def test_the_string_comes_as_it_is_said() -> None:
    assert read('{"in', 'put": "*** Be', "gin", '\\n"}') == ["", "*** Be", "gin", "\n", ""]


@pytest.mark.parametrize(
    "text", ["", "plain", 'say "hi"\\\n\t\b\f\r/', "é 日本 🦄", "\x00\x1f\u2028", '{"input": "x"}', "}" * 300]
)
def test_any_text_comes_back_however_it_is_cut(text: str) -> None:
    for arguments in (arguments_of(text), json.dumps({"input": text}), json.dumps({"input": text}, ensure_ascii=False)):
        assert "".join(read(arguments)) == text
        assert "".join(read(*arguments)) == text
        for cut in range(len(arguments)):
            assert "".join(read(arguments[:cut], arguments[cut:])) == text


@pytest.mark.parametrize("seed", range(60))
def test_any_text_in_any_pieces(seed: int) -> None:
    dice = random.Random(seed)
    text = "".join(dice.choice(["a", '"', "\\", "\n", "é", "🦄", "u00", "{", "}"]) for _ in range(dice.randrange(400)))
    arguments = json.dumps({"input": text}, ensure_ascii=dice.random() < 0.5, indent=dice.choice([None, 2]))
    pieces = []
    while arguments:
        size = dice.randrange(1, 9)
        pieces.append(arguments[:size])
        arguments = arguments[size:]

    assert "".join(read(*pieces)) == text


def test_it_says_when_the_string_is_over() -> None:
    reader = InputReader()
    reader.feed('{"input":"a')
    assert not reader.whole

    reader.feed('"')

    assert reader.whole
    assert reader.feed(', "more": 1}') == ""
    assert reader.rest() == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"half', "half"),
        ('{"input":"half\\', "half"),
        ('{"input":"half\\u00', "half"),
        ('{"input":"half\\ud83e', "half"),
        ('{"input":"', ""),
    ],
)
def test_of_what_was_cut_the_whole_characters_are_kept(arguments: str, text: str) -> None:
    assert "".join(read(arguments)) == "".join(read(*arguments)) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"two\nlines\tand a tab"}', "two\nlines\tand a tab"),
        ('{"input":"a\\d+\\."}', "a\\d+\\."),
        ('{"input":"\\ud83e"}', "\ufffd"),
        ('{"input":"\\udd84x"}', "\ufffdx"),
        ('{"input":"\\ud83e\\u0041"}', "\ufffdA"),
        ('{"input":"\\ud83e\\ud83e\\udd84"}', "\ufffd🦄"),
        ('{"input":"\\uZZZZ"}', "\\uZZZZ"),
        (' {\n "input" : "x" }', "x"),
    ],
)
def test_json_that_is_not_quite_right_is_read_all_the_same(arguments: str, text: str) -> None:
    assert "".join(read(arguments)) == "".join(read(*arguments)) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("*** Begin Patch\n+x", "*** Begin Patch\n+x"),
        ('"a string"', "a string"),
        ('{"patch":"x"}', "x"),
        ('{"mode":1,"input":"x"}', "x"),
        ('{"a":"x","b":"y"}', '{"a":"x","b":"y"}'),
        ('{"input":{"a":1}}', '{"a":1}'),
        ("[1]", "[1]"),
        ("{}", ""),
        ("", ""),
        ('{"a', '{"a'),
        ("x" * 1000, "x" * 1000),
    ],
)
def test_arguments_of_another_form_are_held_back_and_searched_for_the_input(arguments: str, text: str) -> None:
    *early, rest = read(*arguments)

    assert (set(early) | {""}, rest) == ({""}, text)


def test_long_arguments_of_another_form_are_read_in_linear_time() -> None:
    reader = InputReader()
    for _ in range(200_000):
        reader.feed("x")

    assert len(reader.rest()) == 200_000


# --- How a tool is shown ---


def test_a_tool_without_a_grammar() -> None:
    tool = Tool("custom", "patch", "Patches files.")

    assert description_of(tool) == "Patches files."
    assert description_of(Tool("custom", "patch")) == ""
    schema = parameters_of(tool)
    assert (schema["required"], schema["properties"]["input"]["type"]) == (["input"], "string")


def test_the_model_is_told_the_grammar() -> None:
    lark = Tool("custom", "patch", "Patches files.", grammar=("lark", "start: X"))
    regex = Tool("custom", "date", grammar=("regex", r"\d+"))

    assert description_of(lark) == "Patches files.\n\nThe input must match a Lark grammar:\nstart: X"
    assert description_of(regex) == "The input must match a regular expression:\n\\d+"
    assert "grammar" in parameters_of(lark)["properties"]["input"]["description"]


# --- Names ---


def tool(name: str, namespace: str | None = None, own: str | None = None, kind: str = "function") -> Tool:
    return Tool(kind, name, own_name=own or name, namespace=namespace)


def test_garbled_names_that_can_mean_one_tool_only() -> None:
    aliases = aliases_of([tool("crm__list", "crm", "list"), tool("shop__list", "shop", "list"), tool("look")])

    assert aliases["crm.list"] == aliases["crm:list"] == aliases["crm/list"] == aliases["crm_list"] == "crm__list"
    assert aliases["shop.list"] == "shop__list"
    assert "list" not in aliases
    assert "look" not in aliases


def test_a_name_without_its_namespace_is_the_only_tool_of_that_name() -> None:
    assert aliases_of([tool("crm__list", "crm", "list")])["list"] == "crm__list"
    assert "list" not in aliases_of([tool("crm__list", "crm", "list"), tool("list")])


def test_without_namespaces_nothing_is_put_right() -> None:
    assert aliases_of([tool("a"), tool("b")]) == {}


def test_custom_tools_by_name() -> None:
    assert customs_of([tool("a"), tool("b", kind="custom")]) == {"b"}
