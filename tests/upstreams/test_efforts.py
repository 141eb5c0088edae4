"""Efforts that a model does not know become the nearest that it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.upstreams.asking import asked
from tests.upstreams.test_responses_request import body_of

from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.chat_completions.request import encode, form_of
from antiphon.upstreams.efforts import clamped


@pytest.mark.parametrize(
    ("effort", "known", "expected"),
    [
        ("high", ["low", "high"], "high"),
        ("max", ["high", "low"], "high"),
        ("medium", ["high", "low"], "low"),
        ("minimal", ["none", "low", "medium"], "low"),
        ("none", ["low", "medium"], "low"),
        ("low", ["none"], "none"),
        ("low", [], "low"),
        ("low", ["turbo"], "low"),
        (None, ["low"], None),
    ],
)
def test_the_next_lower_effort_stands_for_one_that_is_not_known(
    effort: str | None, known: list[str], expected: str | None
) -> None:
    assert clamped(effort, known) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "high"), ({"openai_parameters": True}, "xhigh"), ({"efforts": ["low"]}, "low"), ({"efforts": []}, "xhigh")],
)
def test_what_a_chat_completions_model_is_told(options: Any, expected: str) -> None:
    body = json.loads(encode(form_of(asked(reasoning={"effort": "xhigh"}), Options(**options), stream=False)))

    assert body["reasoning_effort"] == expected


def test_the_rest_of_reasoning_stays_as_it_was_said() -> None:
    reasoning = {"effort": "max", "summary": "auto", "novelty": 1}

    assert body_of(asked(reasoning=reasoning))["reasoning"] == reasoning
    assert body_of(asked(reasoning=reasoning), efforts=["low", "high"])["reasoning"] == {**reasoning, "effort": "high"}
