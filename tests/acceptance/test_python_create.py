"""The Python SDK creates responses: text, parameters, images, files, structured output and how a reply may end."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel
from tests.acceptance import files
from tests.acceptance.behaviours import STORY
from tests.acceptance.chat_server import ChatControl


def test_a_prompt_is_answered_with_text_and_usage(client: OpenAI) -> None:
    response = client.responses.create(model="gpt-4.1", input="Tell me a three sentence bedtime story about a unicorn.")

    assert response.output_text == STORY
    assert response.status == "completed"
    assert response.model == "story"
    assert response.usage is not None
    assert response.usage.output_tokens > 0


def test_a_reply_carries_a_request_id_and_the_time_it_took(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model="echo", input="hello")

    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_what_a_request_says_is_echoed(client: OpenAI) -> None:
    said: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 100,
        "metadata": {"who": "me", "why": "because"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "cache",
        "safety_identifier": "someone",
        "temperature": 0.5,
        "top_p": 0.75,
        "truncation": "auto",
        "user": "me",
    }

    response = client.responses.create(model="echo", input="hello", **said)

    assert {name: getattr(response, name) for name in said} == said
    assert client.responses.retrieve(response.id).to_dict() == response.to_dict()


def test_sampling_parameters_reach_the_model(client: OpenAI, chat: ChatControl) -> None:
    client.responses.create(
        model="echo",
        input="sampled hello",
        temperature=0.25,
        top_p=0.5,
        max_output_tokens=64,
        reasoning={"effort": "low"},
    )

    [asked] = chat.asked("sampled hello")
    assert asked["temperature"] == 0.25
    assert asked["top_p"] == 0.5
    assert asked["max_tokens"] == 64
    assert asked["reasoning_effort"] == "low"


def test_instructions_and_system_and_developer_messages_reach_the_model(client: OpenAI) -> None:
    response = client.responses.create(
        model="system",
        instructions="From instructions.",
        input=[
            {"role": "developer", "content": "From a developer."},
            {"role": "system", "content": [{"type": "input_text", "text": "From the system."}]},
            {"role": "user", "content": "What were you told?"},
        ],
    )

    for source in ("From instructions.", "From a developer.", "From the system."):
        assert source in response.output_text


def test_a_conversation_may_be_sent_as_items(client: OpenAI) -> None:
    response = client.responses.create(
        model="memory",
        input=[
            {"role": "user", "content": "My name is Alice."},
            {"type": "message", "role": "assistant", "content": "Hello Alice."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is my name?"}]},
        ],
    )

    assert response.output_text == "Your name is Alice."


def test_an_image_reaches_the_model(client: OpenAI, chat: ChatControl) -> None:
    url = files.data_url("image/png", files.png(255, 0, 0))

    response = client.responses.create(
        model="echo",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is on this image?"},
                    {"type": "input_image", "image_url": url, "detail": "low"},
                ],
            }
        ],
    )

    assert response.output_text.startswith("What is on this image? [image/png of ")
    [asked] = chat.asked("What is on this image?")
    assert asked["messages"][-1]["content"][1] == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        ("note.txt", "text/plain", "The code word is café.".encode()),
        ("note.md", "text/markdown", "# Note\n\nThe code word is café.\n".encode()),
        ("note.docx", DOCX, files.docx("A letter.", "The code word is café.")),
        ("note.pdf", "application/pdf", files.pdf("The code word is caf\\351.")),
    ],
)
def test_the_text_of_a_file_reaches_the_model(client: OpenAI, name: str, kind: str, data: bytes) -> None:
    response = client.responses.create(
        model="echo",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_file", "filename": name, "file_data": files.data_url(kind, data)},
                    {"type": "input_text", "text": "What is the code word?"},
                ],
            }
        ],
    )

    assert "The code word is café." in response.output_text
    assert name in response.output_text
    assert response.output_text.endswith("What is the code word?")


class Ingredient(BaseModel):
    name: str
    grams: int


class Recipe(BaseModel):
    title: str
    ingredients: list[Ingredient]
    vegetarian: bool


def test_a_reply_is_parsed_into_a_model(client: OpenAI, chat: ChatControl) -> None:
    response = client.responses.parse(model="structured", input="A recipe with 250 grams of flour", text_format=Recipe)

    assert response.output_parsed == Recipe(
        title="flour", ingredients=[Ingredient(name="flour", grams=250)], vegetarian=True
    )
    [asked] = chat.asked("A recipe with 250 grams of flour")
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"


def test_a_json_object_may_be_asked_for(client: OpenAI, chat: ChatControl) -> None:
    response = client.responses.create(
        model="structured", input="Some json please", text={"format": {"type": "json_object"}}
    )

    assert response.output_text == "{}"
    assert chat.asked("Some json please")[0]["response_format"] == {"type": "json_object"}


def test_reasoning_becomes_an_item_of_its_own(client: OpenAI) -> None:
    response = client.responses.create(model="thinker", input="hello")

    reasoning, message = response.output
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert reasoning.content[0].text == "They said 'hello'."
    assert message.type == "message"
    assert response.output_text == "I have thought about it."


def test_a_refusal_is_told_as_one(client: OpenAI) -> None:
    response = client.responses.create(model="refuser", input="Say something bad.")

    assert response.status == "completed"
    [message] = response.output
    assert message.type == "message"
    [part] = message.content
    assert part.type == "refusal"
    assert part.refusal == "I will not say that."


@pytest.mark.parametrize(
    ("model", "limit", "reason", "text"),
    [
        ("echo", 16, "max_output_tokens", " ".join(["word"] * 16)),
        ("filtered", None, "content_filter", "This much is fine"),
    ],
)
def test_a_reply_that_was_cut_is_incomplete(
    client: OpenAI, model: str, limit: int | None, reason: str, text: str
) -> None:
    response = client.responses.create(model=model, input=" ".join(["word"] * 20), max_output_tokens=limit)

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    assert response.output_text == text
    assert response.output[-1].status == "incomplete"  # type: ignore[union-attr]


def test_log_probabilities_come_when_they_are_included(client: OpenAI) -> None:
    response = client.responses.create(
        model="echo", input="one two", include=["message.output_text.logprobs"], top_logprobs=1
    )

    [message] = response.output
    assert message.type == "message"
    [part] = message.content
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert [entry.token for entry in part.logprobs] == ["one", " two"]
    assert part.logprobs[0].top_logprobs[0].logprob == -0.25


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]

    assert {"echo", "story", "gpt-4.1"} <= set(names)
    assert client.models.retrieve("gpt-4.1").id == "gpt-4.1"
    assert client.models.retrieve("echo").owned_by == "tests"
