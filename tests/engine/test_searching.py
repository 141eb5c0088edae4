"""The search among tools: what is found, in which order, and what the model is told of it."""

from __future__ import annotations

import json

import pytest

from antiphon.engine.searching import FOUND, FOUND_MAX, LISTED_CHARS_MAX, Index, Query, function, read_query, words_of
from antiphon.protocol.tools import Tool


def tool(name: str, description: str | None = None, namespace: str | None = None) -> Tool:
    flat = f"{namespace}__{name}" if namespace else name
    return Tool("function", flat, description, own_name=name, namespace=namespace)


TOOLS = [
    tool("list_invoices", "Lists the invoices of a customer.", "billing"),
    tool("create_invoice", "Creates an invoice.", "billing"),
    tool("sendEmail", "Sends a message to somebody.", "mail"),
    tool("search", "Searches mails by words.", "mail"),
    tool("weather", "Tells the weather of a city."),
    tool("bare"),
]
NAMESPACES = {"billing": "Money that customers owe.", "mail": "Letters."}


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("invoice list", "billing__list_invoices"),
        ("create an invoice", "billing__create_invoice"),
        ("send email", "mail__sendEmail"),
        ("EMAILS", "mail__sendEmail"),
        ("weather in Rome", "weather"),
        ("bare", "bare"),
        ("cities", None),
        ("letters", "mail__search"),
    ],
)
def test_the_best_tool_comes_first(query: str, first: str | None) -> None:
    found = Index(TOOLS, NAMESPACES).best(query, FOUND)

    assert (found[0] if found else None) == first


def test_a_word_in_the_name_counts_more() -> None:
    tools = [tool("notes", "Finds tasks."), tool("tasks", "Finds notes.")]

    assert Index(tools, {}).best("tasks", 2) == ["tasks", "notes"]


def test_rare_words_count_more_than_common_ones() -> None:
    tools = [tool(f"t{number}", "Reads a file.") for number in range(20)] + [tool("t20", "Reads a spreadsheet.")]

    assert Index(tools, {}).best("read the spreadsheet file", 1) == ["t20"]


def test_what_fits_equally_keeps_its_order_and_the_limit_holds() -> None:
    tools = [tool(f"t{number}", "Reads.") for number in range(30)]

    assert Index(tools, {}).best("reads", 3) == ["t0", "t1", "t2"]


@pytest.mark.parametrize("query", ["", "   ", "?!", "unicorn"])
def test_nothing_is_found_where_nothing_fits(query: str) -> None:
    assert Index(TOOLS, NAMESPACES).best(query, FOUND) == []


def test_among_no_tools_nothing_is_found() -> None:
    assert Index([], {}).best("anything", FOUND) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listAllHTTPServers", ["list", "all", "http", "server"]),
        ("get_user-by.id2", ["get", "user", "by", "id2"]),
        ("Über 日本", ["über", "日本"]),
        ("is pass classes", ["is", "pass", "classe"]),
    ],
)
def test_names_are_taken_apart(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ('{"query": "a b"}', Query("a b", FOUND)),
        ('{"query": "a", "limit": 2}', Query("a", 2)),
        ('{"query": "a", "limit": 0}', Query("a", 1)),
        ('{"query": "a", "limit": 999}', Query("a", FOUND_MAX)),
        ('{"query": "a", "limit": true}', Query("a", FOUND)),
        ('{"query": "a", "limit": "3"}', Query("a", FOUND)),
        ('{"keywords": ["a"]}', Query('{"keywords": ["a"]}', FOUND)),
        ("send mail", Query("send mail", FOUND)),
        ('"mail"', Query('"mail"', FOUND)),
        ("{}", Query("{}", FOUND)),
    ],
)
def test_queries_of_any_form(arguments: str, query: Query) -> None:
    assert read_query(arguments) == query


def test_the_model_is_told_what_can_be_found() -> None:
    told = function("tool_search", TOOLS, NAMESPACES)

    assert told.name == "tool_search"
    assert json.loads(bytes(told.parameters))["required"] == ["query"]
    assert (told.description or "").splitlines()[1:] == [
        "- billing: Money that customers owe.",
        "- mail: Letters.",
        "- weather: Tells the weather of a city.",
        "- bare",
    ]


def test_what_the_model_is_told_has_a_limit() -> None:
    tools = [tool(f"t{number}", "x" * 1000) for number in range(1000)]
    description = function("tool_search", tools, {}).description or ""

    assert len(description) < LISTED_CHARS_MAX + 500
    assert description.endswith("- and more")


def test_long_descriptions_cost_little() -> None:
    """Each tool of a namespace is found by the namespace's description too."""
    tools = [tool(f"t{number}", "x " * 100_000, "n") for number in range(1000)]
    spaces = {"n": "letters " * 100_000}

    assert Index(tools, spaces).best("t7 letters", 1)
    assert len(function("tool_search", tools, spaces).description or "") < LISTED_CHARS_MAX
