"""Reasoning that clients carry sealed: what is sealed, what the model's side sees of it, what is tampered with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.engine.playbook import CountingClock

from antiphon.engine.context import view
from antiphon.engine.deltas import Delta, ItemDelta, PartEnd, ReasoningDelta, SummaryDelta, TextDelta
from antiphon.engine.draft import Draft
from antiphon.engine.ports.upstreams import ContextItem
from antiphon.engine.thoughts import Thoughts
from antiphon.protocol.errors import ApiError
from antiphon.protocol.items import text_of_raw
from antiphon.protocol.responses import Shell
from antiphon.sealing import Sealer

SEALER = Sealer([b"a key of tests, of 32 bytes or more"])
SMALL = Sealer([b"a key of tests, of 32 bytes or more"], sealed_max_bytes=1000)
Json = dict[str, Any]


def thoughts(project: str = "p", *, wanted: bool = True, as_summary: bool = False, sealer: Sealer = SEALER) -> Thoughts:
    return Thoughts(sealer, project, wanted=wanted, as_summary=as_summary)


def said(*deltas: Delta, cut: bool = False, **how: bool) -> tuple[Json, list[Json]]:
    """The reasoning item that comes of it, and all events."""
    draft = Draft(Shell("resp_1", 0, False, b'"model":"m"'), CountingClock(), thoughts=thoughts(**how))
    events = draft.open() + draft.apply(deltas) + draft.end_turn(cut=cut)
    return json.loads(draft.output()[0].body), [json.loads(event.data) for event in events]


def stored(*items: Json) -> list[ContextItem]:
    return view(json.dumps(item).encode() for item in items)


def reasoning(encrypted: str | None, **members: Any) -> Json:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted, **members}


def shown(item: ContextItem) -> tuple[list[str | None], str | None]:
    """What the model's side sees: the raw text part by part, and what its upstream has kept."""
    parts = text_of_raw(item.view.content)
    return [] if isinstance(parts, str) else [part.text for part in parts], item.view.encrypted_content


KEPT = ItemDelta(0, "reasoning", {"encrypted_content": b'"kept1.abc"'}, "completed")


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([ReasoningDelta("Hm, "), ReasoningDelta("so.")], (["Hm, so."], None)),
        ([ItemDelta(0, "reasoning", {}), ReasoningDelta("Hm"), KEPT], (["Hm"], "kept1.abc")),
        ([ItemDelta(0, "reasoning", {}), SummaryDelta("Sum"), KEPT], ([], "kept1.abc")),
        ([KEPT], ([], "kept1.abc")),
        ([ItemDelta(0, "reasoning", {})], ([], None)),
    ],
)
async def test_what_was_thought_comes_back(deltas: list[Delta], expected: Any, cut: bool) -> None:
    item, events = said(*deltas, TextDelta("Yes"), cut=cut)

    sealed = item["encrypted_content"]
    [opened] = await thoughts().opened(stored(reasoning(sealed)))

    assert shown(opened) == expected
    assert json.loads(opened.body)["encrypted_content"] == sealed
    [done] = [event for event in events if event.get("item", {}).get("encrypted_content")]
    assert (done["type"], done["item"]) == ("response.output_item.done", item)


def test_without_include_only_what_the_upstream_wants_back_is_sealed() -> None:
    plain, _ = said(ReasoningDelta("Hm"), wanted=False)
    kept, _ = said(ItemDelta(0, "reasoning", {}), ReasoningDelta("Hm"), KEPT, wanted=False)

    assert "encrypted_content" not in plain
    assert "kept1" not in kept["encrypted_content"]
    assert shown(thoughts().opened_at_once(stored({**kept, "content": []}))[0]) == ([], "kept1.abc")


def test_more_than_can_be_sealed_stays_open() -> None:
    draft = Draft(Shell("resp_1", 0, False, b'"model":"m"'), CountingClock(), thoughts=thoughts(sealer=SMALL))
    draft.apply([ReasoningDelta("Hm" * 1000)])
    draft.end_turn(cut=False)

    item = json.loads(draft.output()[0].body)
    assert (item["content"][0]["text"], "encrypted_content" in item) == ("Hm" * 1000, False)


def texts(item: Json) -> tuple[list[str], list[str]]:
    """What an item shows: its summary and its raw text."""
    summary, content = ([part["text"] for part in item[name]] for name in ("summary", "content"))
    return summary, content


THOUGHT, THOUGHT_DONE = ItemDelta(0, "reasoning", {}), ItemDelta(0, "reasoning", {}, "completed")


@pytest.mark.parametrize(
    ("deltas", "shows"),
    [
        ([ReasoningDelta("Hm, "), ReasoningDelta("so.")], (["Hm, so."], [])),
        ([THOUGHT, ReasoningDelta("Hm"), PartEnd(), ReasoningDelta("So"), THOUGHT_DONE], (["Hm", "So"], [])),
        ([THOUGHT, SummaryDelta("Sum"), PartEnd(), ReasoningDelta("Hm"), THOUGHT_DONE], (["Sum"], ["Hm"])),
    ],
)
def test_raw_reasoning_is_the_summary_that_was_asked_for_unless_there_is_one(deltas: list[Delta], shows: Any) -> None:
    item, events = said(*deltas, as_summary=True)

    assert texts(item) == shows
    raw = [event["delta"] for event in events if event["type"] == "response.reasoning_text.delta"]
    assert "".join(raw) == "".join(shows[1])


async def test_what_is_told_as_summary_is_sealed_as_what_it_is() -> None:
    item, _ = said(ReasoningDelta("Hm"), as_summary=True)

    [opened] = await thoughts().opened(stored(reasoning(item["encrypted_content"])))

    assert (texts(item), shown(opened)) == ((["Hm"], []), (["Hm"], None))


async def test_text_that_a_client_sends_along_stays() -> None:
    item, _ = said(ReasoningDelta("Hm"), KEPT)

    content = [{"type": "reasoning_text", "text": "Mine"}]
    items = stored(*(reasoning(item["encrypted_content"], content=given) for given in (content, None, [])))

    assert [shown(one)[0] for one in await thoughts().opened(items)] == [["Mine"], ["Hm"], ["Hm"]]


@pytest.mark.parametrize("foreign", ["gAAAAABm", "kept1.abc", "", None])
async def test_what_other_providers_sealed_is_left_alone(foreign: str | None) -> None:
    items = stored(reasoning(foreign), {"type": "message", "role": "user", "content": "Hi"})

    assert await thoughts().opened(items) == items


def spoilt() -> dict[str, str]:
    item, _ = said(ReasoningDelta("Hm"))
    sealed: str = item["encrypted_content"]
    other = "A" if sealed[60] != "A" else "B"
    return {
        "changed": sealed[:60] + other + sealed[61:],
        "cut": sealed[:-4],
        "another project's": SEALER.seal(b'{"texts":[]}', project="q", purpose="reasoning"),
        "another purpose's": SEALER.seal(b'{"texts":[]}', project="p", purpose="compaction"),
        "no reasoning": SEALER.seal(b'{"texts":3}', project="p", purpose="reasoning"),
        "another key's": Sealer([b"another key of tests, of 32 bytes"]).seal(b"{}", project="p", purpose="reasoning"),
    }


@pytest.mark.parametrize("how", spoilt())
async def test_what_was_tampered_with_is_refused_in_a_request_and_passed_over_in_the_store(how: str) -> None:
    items = stored(reasoning(spoilt()[how]))

    with pytest.raises(ApiError) as refused:
        await thoughts().opened(items)
    earlier = await thoughts().opened(items, earlier=1)

    assert (refused.value.status, refused.value.code) == (400, "invalid_encrypted_content")
    assert refused.value.param is None
    assert [shown(one) for one in [*earlier, *thoughts().opened_at_once(items)]] == [([], None)] * 2


async def test_what_comes_from_the_store_is_known_by_its_place_wherever_it_stands() -> None:
    """A compaction puts the turn that the model is in behind the request's own item."""
    bad, good = reasoning(spoilt()["changed"]), {"type": "message", "role": "user", "content": "Hi"}
    items = stored(good, bad)

    assert len(await thoughts().opened(items, earlier=1, places=[1, 0])) == 2
    with pytest.raises(ApiError):
        await thoughts().opened(items, earlier=1, places=[0, 1])
