"""The Python SDK and compaction: `responses.compact`, `context_management`, and the trigger as Codex sends it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.acceptance.chat_server import ChatControl

LONG = "word " * 2000
FACTS = "<Ann> <Friday because Bob is away> <buy the cake> <order 4711 was shipped>"
#: A name, a decision with its reason, an open task, and what a tool returned.
TALK: Any = [
    {"role": "user", "content": "My name is <Ann>."},
    {"role": "assistant", "content": f"We meet <Friday because Bob is away>. You have yet to <buy the cake>. {LONG}"},
    {"role": "user", "content": "Where is my order?"},
    {"type": "function_call", "call_id": "c1", "name": "track", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "<order 4711 was shipped>"},
    {"role": "assistant", "content": "On its way."},
]
QUESTION: Any = {"role": "user", "content": "What do you know?"}
MANAGED: Any = [{"type": "compaction", "compact_threshold": 1000}]
TRIGGER: Any = {"type": "compaction_trigger"}


def test_the_output_of_compact_is_the_next_input(client: OpenAI, chat: ChatControl) -> None:
    made = client.responses.compact(model="scribe", input=TALK, instructions="Be brief.")

    assert made.object == "response.compaction"
    assert [item.type for item in made.output] == ["message", "message", "compaction"]
    assert made.usage.total_tokens > 0
    following: Any = [item.to_dict(warnings=False) for item in made.output]
    answer = client.responses.create(model="scribe", input=[*following, {"role": "user", "content": "Compacted?"}])
    assert answer.output_text == f"I know {FACTS}"
    [asked] = chat.asked("Compacted?")
    assert LONG not in str(asked["messages"])


def test_compact_goes_on_from_a_stored_response(client: OpenAI) -> None:
    first = client.responses.create(model="scribe", input=TALK)
    made = client.responses.compact(model="scribe", previous_response_id=first.id)
    following: Any = [item.to_dict(warnings=False) for item in made.output]

    answer = client.responses.create(model="scribe", input=[*following, QUESTION])

    assert answer.output_text.startswith(f"I know {FACTS}")
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="scribe", input="And?", previous_response_id=made.id)
    assert raised.value.code == "previous_response_not_found"


def test_a_run_manages_its_context(client: OpenAI) -> None:
    events = list(
        client.responses.create(model="scribe", input=[*TALK, QUESTION], context_management=MANAGED, stream=True)
    )
    final: Any = events[-1]

    assert [item.type for item in final.response.output] == ["compaction", "message"]
    assert final.response.output_text == f"I know {FACTS}"
    assert "response.compaction.compacting" not in [event.type for event in events]
    chained = client.responses.create(model="scribe", input="And now?", previous_response_id=final.response.id)
    assert chained.output_text == f"I know {FACTS}"


def test_the_trigger_as_codex_sends_it(client: OpenAI) -> None:
    with client.responses.create(model="scribe", input=[*TALK, TRIGGER], store=False, stream=True) as stream:
        final: Any = list(stream)[-1]

    [item] = final.response.output
    assert (final.type, final.response.status, item.type) == ("response.completed", "completed", "compaction")
    # It sends back the item and the words of the user, without ids.
    words: Any = [said for said in TALK if said.get("role") == "user"]
    answer = client.responses.create(model="scribe", input=[*words, item.to_dict(), QUESTION], store=False)
    assert answer.output_text == f"I know {FACTS}"


def test_the_trigger_in_a_background_run(client: OpenAI) -> None:
    made = client.responses.create(model="scribe", input=[*TALK, TRIGGER], background=True)
    with client.responses.create(model="scribe", input=[*TALK, TRIGGER], background=True, stream=True) as stream:
        final: Any = list(stream)[-1]

    assert made.status in ("queued", "in_progress")
    assert [item.type for item in final.response.output] == ["compaction"]
    assert [item.type for item in client.responses.input_items.list(final.response.id)][:1] == ["message"]


def test_what_was_tampered_with_is_refused(client: OpenAI) -> None:
    item: Any = client.responses.compact(model="scribe", input=TALK).output[-1].to_dict()
    item["encrypted_content"] = item["encrypted_content"][:-6] + "AAAAAA"

    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="scribe", input=[item, QUESTION])

    assert (raised.value.code, raised.value.param) == ("invalid_encrypted_content", None)


def test_another_providers_item_is_tolerated(client: OpenAI) -> None:
    foreign: Any = {"type": "compaction", "encrypted_content": "gAAAAABpM0Yj"}
    reply = client.responses.with_raw_response.create(model="scribe", input=[*TALK, foreign, QUESTION])

    assert reply.parse().output_text == f"I know {FACTS}"
    assert reply.headers["x-antiphon-warnings"] == f"input[{len(TALK)}]"


def test_a_threshold_that_is_too_small_is_refused(client: OpenAI) -> None:
    small: Any = [{"type": "compaction", "compact_threshold": 999}]
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="scribe", input="a", context_management=small)

    assert (raised.value.code, raised.value.param) == (
        "integer_below_min_value",
        "context_management[0].compact_threshold",
    )
