"""Some hundreds of requests that nobody wrote; `scripts/conformance_cases.py` sends as many as it is told."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.properties import run_cases, target, valid_creates
from tests.conformance.schema_values import Values, spoilt
from tests.specification.conformance import check_openai

CASES = 400


def test_no_request_breaks_the_server_and_valid_ones_are_refused_for_listed_reasons() -> None:
    with target() as server:
        run_cases(server, CASES, seeded=True)

        assert server.answered.total() >= CASES
        assert server.answered[200, None] > CASES // 10


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(valid_creates())
def test_what_is_called_valid_is_valid_by_the_official_document(body: object) -> None:
    check_openai("CreateResponse", json.loads(json.dumps(body)))


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_spoilt_value_is_another_one(data: st.DataObject) -> None:
    whole = Values({}).of({"type": "object", "properties": {"a": {"const": "b"}}, "required": ["a"]})

    assert data.draw(spoilt(whole)) != {"a": "b"}
