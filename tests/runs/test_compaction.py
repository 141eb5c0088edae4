"""Compaction through the life of runs: chains, conversations, restarts, background, and what facts survive it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runs.stage import Json, Make, checked, failure_of, id_of, texts, types_of, within

from antiphon.engine.compaction import Compacted
from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.stores import Conversation, StoredItem
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.protocol.requests import read_compact
from antiphon.stores.sqlite import SqliteStore
from antiphon.upstreams.scripted import Script

TRIGGER: Json = {"type": "compaction_trigger"}
MANAGED: Json = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
LONG = "word " * 2000
FACTS = {
    "name": "Ann",
    "decision": "Friday, because Bob is away on Thursday",
    "task": "buy the cake",
    "result": "order 4711 was shipped",
}
TALK: list[Json] = [
    {"role": "user", "content": f"My name is {FACTS['name']}."},
    {"role": "assistant", "content": f"So we meet on {FACTS['decision']}. You still have to {FACTS['task']}. {LONG}"},
    {"role": "user", "content": "Where is my order?"},
    {"type": "function_call", "call_id": "c1", "name": "track", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": FACTS["result"]},
    {"role": "assistant", "content": "On its way."},
]


def attentive(asked: ModelRequest) -> Script:
    """A model that summarizes by the facts that it sees, and otherwise says which of them it knows."""
    heard = "\n".join(texts(asked))
    known = [fact for fact in FACTS.values() if fact in heard]
    yield [TextDelta("; ".join(known) if "write a summary" in heard else f"I know {len(known)}: {'; '.join(known)}")]


def forgetful(asked: ModelRequest) -> Script:
    """The same model, whose summaries say nothing."""
    yield from [[TextDelta("Nothing.")]] if "write a summary" in "\n".join(texts(asked)) else attentive(asked)


def said(response: Json) -> str:
    text: str = response["output"][-1]["content"][0]["text"]
    return text


async def compact(here: Any, project: str = "p", **parameters: Any) -> Compacted:
    body = read_compact(json.dumps({"model": "demo", **parameters}).encode())
    made: Compacted = await within(here.runs.compact(project, body))
    return made


# --- Facts survive, in each of the three ways ---


async def by_endpoint(here: Any) -> Json:
    output = [json.loads(item) for item in (await compact(here, input=TALK)).output]
    return {"input": [*output, {"role": "user", "content": "What do you know?"}]}


async def by_trigger(here: Any) -> Json:
    made = await here.answer(input=[*TALK, TRIGGER])
    assert [item["type"] for item in made["output"]] == ["compaction"]
    return {"input": "What do you know?", "previous_response_id": made["id"]}


async def by_management(here: Any) -> Json:
    return {"input": [*TALK, {"role": "user", "content": "What do you know?"}], **MANAGED}


WAYS = [by_endpoint, by_trigger, by_management]


@pytest.mark.parametrize("way", WAYS)
async def test_names_decisions_tasks_and_results_survive(stage: Make, way: Callable[[Any], Any]) -> None:
    here = stage(echo=attentive)
    response = await here.answer(**await way(here))

    assert said(response) == f"I know 4: {'; '.join(FACTS.values())}"
    assert LONG not in "".join(texts(here.upstream.requests[-1]))


@pytest.mark.parametrize("way", WAYS)
async def test_what_the_summary_leaves_out_is_gone_but_for_the_users_words(
    stage: Make, way: Callable[[Any], Any]
) -> None:
    here = stage(echo=forgetful)

    assert said(await here.answer(**await way(here))) == "I know 1: Ann"


# --- Where the items come from ---


async def test_the_reply_of_compact_ends_in_its_one_item_and_stores_nothing(stage: Make) -> None:
    here = stage(echo=attentive)
    made = await compact(here, input=TALK)

    output = [json.loads(item) for item in made.output]
    assert [(item["type"], item.get("role")) for item in output] == [
        ("message", "user"),
        ("message", "user"),
        ("compaction", None),
    ]
    assert made.usage.total_tokens > 0
    assert await here.store.item("p", output[-1]["id"]) is None


async def test_a_stored_chain_is_compacted_and_let_go(stage: Make) -> None:
    here = stage(echo=attentive)
    first = await here.answer(input=TALK)
    made = await compact(here, previous_response_id=first["id"], input="One more thing.")

    assert [json.loads(item)["type"] for item in made.output] == ["message"] * 3 + ["compaction"]
    await here.runs.delete("p", first["id"])


async def test_a_trigger_is_no_item(stage: Make) -> None:
    here = stage(echo=attentive)
    made = await here.answer(input=[*TALK, TRIGGER])

    listed = [json.loads(item.body)["type"] for item in await here.inputs(made["id"])]
    assert "compaction_trigger" not in listed
    again = await here.answer(previous_response_id=made["id"], input=[{"role": "user", "content": "b"}, TRIGGER])
    assert [item["type"] for item in again["output"]] == ["compaction"]
    assert said(await here.answer(previous_response_id=again["id"], input="And?")).startswith("I know 4")


async def test_a_trigger_elsewhere_than_at_the_end_is_refused(stage: Make) -> None:
    here = stage()

    error = await failure_of(here.answer(input=[TRIGGER, {"role": "user", "content": "a"}]))

    assert (error.status, error.code, error.param) == (400, "invalid_value", "input[0]")


async def test_a_conversation_goes_on_from_its_compaction(stage: Make) -> None:
    here = stage(echo=attentive)
    await here.store.conversations.create("p", *conversation())
    await here.answer(conversation="conv_1", input=[*TALK, TRIGGER])
    response = await here.answer(conversation="conv_1", input="What do you know?")

    assert said(response).startswith("I know 4")
    assert LONG not in "".join(texts(here.upstream.requests[-1]))


def conversation() -> tuple[Any, list[StoredItem]]:
    return Conversation("conv_1", 1, b"{}"), []


async def test_sealed_content_of_a_client_that_was_changed_is_refused(stage: Make) -> None:
    here = stage(echo=attentive)
    made = await here.answer(input=[*TALK, TRIGGER], store=False)
    item = made["output"][0]
    changed = {**item, "encrypted_content": item["encrypted_content"][:-4] + "AAAA"}

    error = await failure_of(here.answer(input=[changed, {"role": "user", "content": "a"}]))

    assert (error.status, error.code, error.param) == (400, "invalid_encrypted_content", None)
    assert "could not be verified" in error.message
    foreign = await failure_of(here.answer(project="q", input=[item, {"role": "user", "content": "a"}]))
    assert foreign.code == "invalid_encrypted_content"


async def test_another_providers_item_is_carried_and_named(stage: Make) -> None:
    here = stage(echo=attentive)
    foreign = {"type": "compaction", "id": "cmp_x", "encrypted_content": "gAAAAforeign"}
    run = await here.create(input=[*TALK, foreign, {"role": "user", "content": "a"}])
    await within(run.finished())

    assert run.warnings == [f"input[{len(TALK)}]"]
    assert said(json.loads(run.result)).startswith("I know 3")  # an output is no text of a message
    ours = (await here.answer(input=[*TALK, TRIGGER]))["output"][0]
    assert (await here.create(input=[ours, {"role": "user", "content": "a"}])).warnings == []


async def test_another_providers_item_is_summarized_by_whoever_reads_it(stage: Make) -> None:
    here = stage(echo=attentive)
    foreign = {"type": "compaction", "id": "cmp_x", "encrypted_content": "gAAAAforeign"}

    made = await compact(here, input=[foreign, TALK[0]])

    assert [json.loads(item)["type"] for item in made.output] == ["message", "compaction"]
    assert [item.view.kind for item in here.upstream.requests[-1].items] == ["compaction", "message", "message"]


async def test_the_place_of_a_bad_image_is_that_in_the_request(stage: Make) -> None:
    here = stage(echo=attentive)
    ours = (await here.answer(input=[*TALK, TRIGGER]))["output"][0]
    image = {"type": "input_image", "file_id": "file_none"}

    error = await failure_of(here.answer(input=[*TALK, ours, {"role": "user", "content": [image]}]))

    assert error.param == f"input[{len(TALK) + 1}].content[0].file_id"


# --- Failures ---


async def test_a_model_that_cannot_summarize_is_an_upstream_error(stage: Make) -> None:
    here = stage([UpstreamError("It broke.")], [UpstreamError("It broke.")])

    assert (await failure_of(compact(here, input=TALK))).status == 502
    assert (await failure_of(here.answer(input=[*TALK, TRIGGER]))).status == 502


async def test_a_client_that_leaves_ends_the_summary(stage: Make) -> None:
    here = stage([asyncio.Event()])
    run = await here.create(input=[*TALK, TRIGGER])
    async with asyncio.timeout(5):
        while not here.upstream.requests:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    run.cancel()
    await within(run.finished())

    assert here.upstream.cancelled == 1


# --- Background runs and restarts ---


async def test_a_background_run_publishes_the_item_whole(stage: Make) -> None:
    here = stage(echo=attentive)
    run = await here.create(background=True, stream=True, **await by_management(here))
    events = checked(await here.follow(id_of(run)).whole())

    assert types_of(events)[3:5] == ["output_item.added", "output_item.done"]
    assert events[3]["item"]["encrypted_content"] == events[4]["item"]["encrypted_content"]
    assert events[-1]["response"]["output"][-1]["content"][0]["text"].startswith("I know 4")


async def test_sealed_content_is_valid_after_a_restart(stage: Make, tmp_path: Path) -> None:
    before = stage(echo=attentive, store=SqliteStore(tmp_path / "a.db"))
    chained = await by_trigger(before)
    carried = await by_endpoint(before)
    await before.close()
    here = stage(echo=attentive, store=SqliteStore(tmp_path / "a.db"))

    assert said(await here.answer(**chained)).startswith("I know 4")
    assert said(await here.answer(**carried)).startswith("I know 4")


@pytest.mark.parametrize("way", ["trigger", "management"])
async def test_a_run_that_a_restart_cut_while_it_summarized_is_taken_up(stage: Make, tmp_path: Path, way: str) -> None:
    before = stage([asyncio.Event()], store=SqliteStore(tmp_path / "a.db"))
    parameters = await by_management(before) if way == "management" else {"input": [*TALK, TRIGGER]}
    run = await before.create(background=True, stream=True, **parameters)
    async with asyncio.timeout(5):
        while not before.upstream.requests:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    await before.close()
    here = stage(echo=attentive, store=SqliteStore(tmp_path / "a.db"))
    await here.recover()
    events = checked(await here.follow(id_of(run)).whole())

    kinds = [item["type"] for item in events[-1]["response"]["output"]]
    assert kinds == (["compaction"] if way == "trigger" else ["compaction", "message"])
    assert events[-1]["type"] == "response.completed"
