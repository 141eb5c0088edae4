"""The Python SDK meets errors: each as its typed exception, retried only where another try may help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai import OpenAI
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.conftest import KEY, OTHER_KEY, TIMEOUT_SECONDS
from tests.acceptance.serving import Served


@pytest.fixture
def impatient(client: OpenAI) -> OpenAI:
    """The SDK without retries of its own."""
    return client.with_options(max_retries=0)


@pytest.mark.parametrize(
    ("said", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"max_output_tokens": 5}, "max_output_tokens", "integer_below_min_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"truncation": "sometimes"}, "truncation", "invalid_value"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"previous_response_id": "resp_nobody"}, "previous_response_id", "previous_response_not_found"),
        ({"extra_body": {"max_tokens": 5}}, "max_tokens", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", None),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, None, None),
    ],
)
def test_a_bad_request_names_what_is_wrong(
    impatient: OpenAI, said: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        impatient.responses.create(**{"model": "echo", "input": "hello", **said})

    error = raised.value
    assert error.type == "invalid_request_error"
    assert error.request_id is not None
    assert error.request_id.startswith("req_")
    if param is not None:
        assert error.param == param
    if code is not None:
        assert error.code == code


def test_an_unknown_model_is_not_found(impatient: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model") as raised:
        impatient.responses.create(model="no-such-model", input="hello")

    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        impatient.models.retrieve("no-such-model")


def test_an_unknown_response_is_not_found(impatient: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Response with id 'resp_nobody' not found"):
        impatient.responses.retrieve("resp_nobody")


def test_a_file_id_is_not_found(impatient: OpenAI) -> None:
    part: Any = {"type": "input_file", "file_id": "file-123"}

    with pytest.raises(openai.NotFoundError, match="file-123"):
        impatient.responses.create(model="echo", input=[{"role": "user", "content": [part]}])


def test_an_input_that_is_too_long_is_a_bad_request(impatient: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        impatient.responses.create(model="too-long", input="hello")

    assert raised.value.code == "context_length_exceeded"
    assert raised.value.param == "input"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [
        ("limited", openai.RateLimitError, 429),
        ("broken", openai.InternalServerError, 500),
        ("overloaded", openai.InternalServerError, 503),
        ("locked", openai.InternalServerError, 502),
    ],
)
def test_a_model_that_fails_before_it_speaks_is_told_by_its_class(
    impatient: OpenAI, model: str, kind: type[openai.APIStatusError], status: int, stream: Any
) -> None:
    with pytest.raises(kind) as raised:
        impatient.responses.create(model=model, input="hello", stream=stream)

    assert raised.value.status_code == status


def test_a_rate_limit_says_when_to_come_back(impatient: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        impatient.responses.create(model="limited", input="hello")

    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.response.headers["retry-after"] == "1"
    assert raised.value.response.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("model", ["failing", "breaking"])
def test_a_model_that_fails_in_the_middle_of_a_whole_reply_is_a_server_error(impatient: OpenAI, model: str) -> None:
    with pytest.raises(openai.InternalServerError):
        impatient.responses.create(model=model, input="hello")


@pytest.mark.parametrize(
    ("model", "tries"), [("overloaded", 2), ("limited", 2), ("too-long", 1), ("locked", 1), ("echo", 1)]
)
def test_the_sdk_tries_again_only_where_that_may_help(
    client: OpenAI, chat: ChatControl, model: str, tries: int
) -> None:
    said = f"try {uuid4().hex}"
    try:
        client.with_options(max_retries=1).responses.create(model=model, input=said)
    except openai.APIStatusError:
        assert model != "echo"

    assert len(chat.asked(said)) == tries


def test_a_passing_failure_is_not_seen_by_the_user(client: OpenAI) -> None:
    said = f"again {uuid4().hex}"

    assert client.responses.create(model="flaky", input=said).output_text == said


def test_a_passing_failure_is_tried_again_by_the_server_itself(guarded_client: OpenAI, chat: ChatControl) -> None:
    said = f"again {uuid4().hex}"

    response = guarded_client.with_options(max_retries=0).responses.create(model="flaky", input=said)

    assert response.output_text == said
    assert len(chat.asked(said)) == 2


# --- With keys ---


@pytest.fixture
def guarded_client(guarded: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=guarded.base_url, api_key=KEY, timeout=TIMEOUT_SECONDS) as openai_client:
        yield openai_client


def test_a_wrong_key_is_an_authentication_error(guarded_client: OpenAI) -> None:
    wrong = guarded_client.with_options(api_key="sk-wrong-0123456789", max_retries=0)

    for call in (wrong.models.list, lambda: wrong.responses.create(model="x", input="x")):
        with pytest.raises(openai.AuthenticationError) as raised:
            call()
        assert raised.value.code == "invalid_api_key"
        assert "0123456" not in raised.value.message


def test_a_right_key_and_any_model_name_work(guarded_client: OpenAI) -> None:
    assert guarded_client.responses.create(model="anything", input="A story, please.").output_text.startswith("A small")


def test_projects_do_not_see_each_other(guarded_client: OpenAI) -> None:
    other = guarded_client.with_options(api_key=OTHER_KEY, max_retries=0)
    mine = guarded_client.responses.create(model="echo", input="mine")

    for call in (other.responses.retrieve, other.responses.delete, other.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            call(mine.id)
    with pytest.raises(openai.NotFoundError):
        other.responses.input_items.list(mine.id)
    with pytest.raises(openai.BadRequestError) as raised:
        other.responses.create(model="echo", input="yours?", previous_response_id=mine.id)
    assert raised.value.code == "previous_response_not_found"
    assert guarded_client.responses.retrieve(mine.id).output_text == "mine"
