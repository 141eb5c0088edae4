"""Histories that are sent again: what counts as the same item, and which beginnings are looked for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from antiphon.clock import SystemClock
from antiphon.engine import intake, replays
from antiphon.engine.intake import Taken
from antiphon.engine.ports.stores import Beginning
from antiphon.stores.sqlite import SqliteStore

Json = dict[str, Any]

SAID = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "née", "annotations": [], "logprobs": []}],
}
CALL = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "sealed"}


async def taken(items: list[Json], **how: Any) -> list[Taken]:
    store = SqliteStore(None)
    try:
        return await intake.take(msgspec.Raw(json.dumps(items, **how).encode()), "p", store, SystemClock())
    finally:
        await store.close()


def without(item: Json, *names: str) -> Json:
    return {name: value for name, value in item.items() if name not in names}


def canonical(item: Json) -> bytes:
    return replays.canonical(json.dumps(item).encode())


@pytest.mark.parametrize(("stored", "sent"), [
    (SAID, SAID),
    (SAID, without(SAID, "id", "status", "type")),
    (SAID, {"role": "assistant", "content": "née"}),
    (SAID, {"role": "assistant", "content": [{"type": "output_text", "text": "née"}], "id": "mine", "phase": None}),
    (SAID, {**SAID, "status": "incomplete"}),
    (CALL, without(CALL, "id", "status")),
    (CALL, dict(reversed(CALL.items()))),
    (THOUGHT, without(THOUGHT, "id", "summary")),
    (THOUGHT, {**THOUGHT, "status": None, "content": None}),
])  # fmt: skip
@pytest.mark.parametrize("how", [{}, {"ensure_ascii": False, "indent": 1}])
async def test_what_is_the_same_however_it_is_sent(stored: Json, sent: Json, how: Json) -> None:
    [again] = await taken([sent], **how)

    assert replays.canonical(again.body) == canonical(stored)


@pytest.mark.parametrize(("stored", "sent"), [
    (SAID, {**SAID, "content": [{"type": "output_text", "text": "Née"}]}),
    (SAID, {**SAID, "content": [*SAID["content"], *SAID["content"]]}),
    (SAID, {**SAID, "content": [{"type": "refusal", "refusal": "née"}]}),
    (SAID, {**SAID, "content": [{**SAID["content"][0], "annotations": [{"type": "url_citation"}]}]}),
    (SAID, {**SAID, "role": "user"}),
    (SAID, {**SAID, "phase": "commentary"}),
    (SAID, {**SAID, "unknown": 1}),
    (CALL, {**CALL, "call_id": "d"}),
    (CALL, {**CALL, "arguments": "{ }"}),
    (CALL, {**CALL, "name": "g"}),
    (CALL, {**CALL, "type": "custom_tool_call"}),
    (CALL, {**CALL, "status": "incomplete"}),  # which is not shown to models
    (THOUGHT, without(THOUGHT, "encrypted_content")),
    (THOUGHT, {**THOUGHT, "summary": [{"type": "summary_text", "text": "so"}]}),
])  # fmt: skip
def test_what_is_not(stored: Json, sent: Json) -> None:
    assert canonical(stored) != canonical(sent)


@pytest.mark.parametrize("body", [
    b'{"id":"a","type":"x","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"id":"a","type":"x","huge":1e999}',
    b'{"id":"a","type":"x","huge":' + b"9" * 5000 + b"}",
    b'{"id":"a","type":"x","half":"\\ud800"}',
    b'{"id":"a","type":7,"content":{"a":[]},"output":[1,[],null]}',
], ids=["deep", "infinite", "long", "half a character", "other shapes"])  # fmt: skip
def test_no_item_is_too_odd(body: bytes) -> None:
    assert replays.behind(replays.START, [body]) != replays.START


async def test_a_hash_is_that_of_all_items_in_their_order() -> None:
    items = await taken([SAID, CALL, {**CALL, "id": "fc_2", "call_id": "d"}, *[SAID] * 1200])

    bodies = [item.body for item in items]
    hashes = list(replays.roll(replays.START, bodies))

    assert len(set(hashes)) == len(hashes) == len(items)
    assert hashes[-1] == replays.behind(replays.behind(replays.START, bodies[:700]), bodies[700:])
    assert replays.behind(replays.START, bodies[1::-1]) != hashes[1] == replays.behind(replays.START, bodies[:2])
    assert replays.behind(hashes[0], []) == hashes[0]


async def test_the_ids_that_the_client_gave() -> None:
    items = [{"role": "user", "content": "Hi"}, SAID, CALL, SAID]

    given = replays.given_ids(msgspec.Raw(json.dumps(items).encode()), await taken(items))

    assert given == [None, "msg_1", "fc_1", None]  # the last got an id of its own, since ids name one place


def test_beginnings_are_longest_first_and_name_their_last_id() -> None:
    assert replays.beginnings([b"1", b"2", b"3", b"4"], [None, "a", None, "b"]) == [
        Beginning(b"4", "b", 1),
        Beginning(b"3", "a", 2),
        Beginning(b"2", "a", 1),
        Beginning(b"1", None, 0),
    ]


@pytest.mark.parametrize(("given", "agreed"), [
    ([None, None, None], 3),
    (["a", None, "c"], 3),
    (["a", None, "c", "d"], 3),
    ([None, None, "x"], 2),
    (["x", None, "c"], 0),
])  # fmt: skip
def test_ids_agree_up_to_the_first_that_differs(given: list[str | None], agreed: int) -> None:
    assert replays.agreed(["a", "b", "c"], given) == agreed
