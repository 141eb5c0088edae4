"""What a request may leave open: null, half characters, parameters without effect; and its limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antiphon.protocol.errors import ApiError, model_not_found
from antiphon.protocol.requests import CreateResponse, read_create
from antiphon.protocol.tools import TOOLS_MAX

Json = dict[str, Any]

FUNCTION = {"type": "function", "name": "look"}


def read(**parameters: Any) -> CreateResponse:
    """The request with these parameters besides the two that every request has."""
    return read_create(json.dumps({"model": "demo", "input": "Hello", **parameters}).encode())


def refusal(body: Json) -> ApiError:
    """What a body is refused with."""
    with pytest.raises(ApiError) as refused:
        read(**body)
    return refused.value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (rb"a\ud83d", "a\ufffd"),
        (rb"\udd84a", "\ufffda"),
        (rb"\uD83E\uDD84 \ud83e", "\U0001f984 \ufffd"),
        (rb"\ud83e\ud83e\udd84", "\ufffd\U0001f984"),
        (rb"\\ud83d", "\\ud83d"),
    ],
)
def test_half_a_surrogate_pair_is_read_as_the_replacement_character(written: bytes, meant: str) -> None:
    request = read_create(b'{"model":"demo","input":"%b","temperature":0.5}' % written)

    assert json.loads(bytes(request.input)) == meant
    assert request.temperature == 0.5
    assert list(read_create(b'{"model":"demo","input":"x","\\udd84":1}').unknown) == ["\ufffd"]


def test_null_is_unset_whatever_its_name() -> None:
    request = read(foo=None, stop=None, declared=None, reasoning={"summary": None, "context": None})

    assert (request.unknown, request.without_effect(), request.declared) == ({}, [], [])


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
        ({"text": {"verbosity": "medium"}}, []),
        ({"reasoning": {"effort": "low"}}, []),
        ({"reasoning": {"summary": "auto", "generate_summary": "auto"}}, []),
        ({"reasoning": {"context": "auto", "mode": "standard"}}, []),
        ({"reasoning": {"context": "all_turns", "mode": "pro"}}, ["reasoning.context", "reasoning.mode"]),
        ({"top_logprobs": 2}, ["top_logprobs"]),
        ({"top_logprobs": 0}, []),
        ({"top_logprobs": 2, "include": ["message.output_text.logprobs"]}, []),
        ({"include": ["reasoning.encrypted_content"]}, []),
    ],
)
def test_what_changes_nothing_is_named(parameters: Json, told: list[str]) -> None:
    assert read(**parameters).without_effect() == told


def test_verbosity_that_is_passed_on_is_not_named() -> None:
    assert read(text={"verbosity": "low"}).without_effect(verbosity=True) == []


def test_reasoning_that_is_passed_on_is_not_named() -> None:
    settings = {"effort": "low", "summary": "auto", "context": "all_turns", "mode": "pro", "novelty": 1}
    assert read(reasoning=settings).without_effect(reasoning=True) == []


def test_a_request_has_a_limit_of_tools() -> None:
    refused = refusal({"tools": [{"type": "function", "name": f"f{number}"} for number in range(TOOLS_MAX + 1)]})

    assert (refused.code, refused.param) == ("array_above_max_length", "tools")
    assert len(read(tools=[{"type": "function", "name": f"f{number}"} for number in range(TOOLS_MAX)]).declared) == 1024


@pytest.mark.parametrize(
    "body",
    [
        {"include": ["x" * 100_000]},
        {"truncation": "x" * 100_000},
        {"tool_choice": "x" * 100_000},
    ],
)
def test_errors_repeat_little_of_what_was_sent(body: Json) -> None:
    assert len(refusal(body).message) < 1000
    assert len(model_not_found("x" * 100_000).message) < 1000
