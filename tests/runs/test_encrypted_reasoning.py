"""``include: ["reasoning.encrypted_content"]`` over whole runs, stored and not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.runs.stage import SEALER, Json, Make, failure_of, id_of, within

from antiphon.clock import SystemClock
from antiphon.engine.context import view
from antiphon.engine.deltas import CallDelta, ItemDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.thoughts import Thoughts
from antiphon.protocol.items import text_of_raw
from antiphon.tools.scripted import ScriptedTool
from antiphon.upstreams.scripted import Script

INCLUDE = ["reasoning.encrypted_content"]
THOUGHT: Script = [[ReasoningDelta("Seven "), ReasoningDelta("it is.")], [TextDelta("Seven.")]]
KEPT = ItemDelta(0, "reasoning", {"encrypted_content": b'"kept1.signed"'}, "completed")
SIGNED: Script = [[ItemDelta(0, "reasoning", {}), ReasoningDelta("Seven it is."), KEPT, TextDelta("Seven.")]]
ON: Script = [[TextDelta("Yes.")]]
USER = {"role": "user", "content": "Sure?"}


def thought(asked: ModelRequest) -> list[tuple[str, str | None]]:
    """The reasoning that the upstream is shown."""
    shown = [item.view for item in asked.items if item.view.kind == "reasoning"]
    parts = [(text_of_raw(view.content), view.encrypted_content) for view in shown]
    return [("".join(part.text or "" for part in text if not isinstance(part, str)), kept) for text, kept in parts]


def carried(response: Json) -> list[Json]:
    """The output as a client sends it back that keeps only the sealed form."""
    return [_bare(item) if item["type"] == "reasoning" else item for item in response["output"]]


def _bare(item: Json) -> Json:
    return {"type": "reasoning", "summary": [], "content": None, "encrypted_content": item["encrypted_content"]}


@pytest.mark.parametrize("store", [True, False])
async def test_a_client_that_carries_the_sealed_form_alone_loses_nothing(stage: Make, store: bool) -> None:
    at = stage(SIGNED, ON)
    first = await at.answer(store=store, include=INCLUDE)

    second = await at.answer(store=True, input=[*carried(first), USER])

    assert thought(at.upstream.requests[1]) == [("Seven it is.", "kept1.signed")]
    [kept] = [json.loads(item.body) for item in await at.inputs(second["id"]) if b'"reasoning"' in item.body]
    assert kept["encrypted_content"] == first["output"][0]["encrypted_content"]
    assert kept["content"] is None


async def test_a_stored_chain_shows_the_upstream_what_it_wants_back(stage: Make) -> None:
    at = stage(SIGNED, ON)
    first = await at.answer()

    await at.answer(previous_response_id=first["id"])

    assert thought(at.upstream.requests[1]) == [("Seven it is.", "kept1.signed")]


async def test_without_include_raw_reasoning_is_not_sealed(stage: Make) -> None:
    at = stage(THOUGHT)

    assert "encrypted_content" not in (await at.answer())["output"][0]


async def test_a_background_run_gives_it_too_and_nothing_is_warned_of(stage: Make) -> None:
    at = stage(THOUGHT)
    run = await at.create(background=True, include=INCLUDE)
    follower = at.follow(id_of(run))
    events = await follower.whole()

    final = events[-1]["response"]["output"][0]
    assert final["encrypted_content"].startswith("antph1")
    assert await at.read(id_of(run)) == events[-1]["response"]
    assert run.warnings == []


@pytest.mark.parametrize("project", ["p", "q"])
async def test_what_was_tampered_with_or_is_anothers_is_refused(stage: Make, project: str) -> None:
    at = stage(THOUGHT, ON)
    first = await at.answer(include=INCLUDE)
    items: list[Any] = carried(first)
    if project == "p":
        sealed = items[0]["encrypted_content"]
        items[0]["encrypted_content"] = sealed[:50] + ("A" if sealed[50] != "A" else "B") + sealed[51:]

    error = await failure_of(at.create(project, input=[*items, USER]))

    assert (error.status, error.code, error.param) == (400, "invalid_encrypted_content", None)
    assert "could not be verified" in error.message
    assert len(at.upstream.requests) == 1


async def test_what_another_provider_sealed_is_tolerated(stage: Make) -> None:
    at = stage(ON)

    await at.answer(input=[{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, USER])

    assert thought(at.upstream.requests[0]) == [("", "gAAAA")]


async def test_within_a_run_the_upstream_gets_back_what_it_wants(stage: Make) -> None:
    asks: Script = [[*SIGNED[0][:3], CallDelta(1, "c1", "scripted", "{}")]]
    at = stage(asks, ON, tools={ScriptedTool.declared_type: ScriptedTool(SystemClock())})

    await at.answer(store=False, tools=[{"type": "antiphon:scripted", "name": "scripted", "behaviour": "answer"}])

    assert thought(at.upstream.requests[1]) == [("Seven it is.", "kept1.signed")]


async def test_a_run_that_is_taken_up_seals_on_and_opens_what_it_has_sealed(stage: Make) -> None:
    held = asyncio.Event()
    first = stage([SIGNED[0][:3], held])
    run = await first.create(background=True, include=INCLUDE)
    follower = first.follow(id_of(run))
    await follower.until_type("output_item.done")
    await within(first.runs.close())

    again = stage([[ReasoningDelta("Hm.")], [TextDelta("Seven.")]], store=first.store)
    rest = again.follow(id_of(run))
    await again.recover()
    final = (await rest.whole())[-1]["response"]

    assert thought(again.upstream.requests[0]) == [("Seven it is.", "kept1.signed")]
    items = view(
        json.dumps({**item, "content": []}).encode() for item in final["output"] if item["type"] == "reasoning"
    )
    opened = Thoughts(SEALER, "p").opened_at_once(items)
    texts = [[part.text for part in text_of_raw(item.view.content) if not isinstance(part, str)] for item in opened]
    assert texts == [["Seven it is."], ["Hm."]]
