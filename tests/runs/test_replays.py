"""Clients that send their whole history each time: it is stored once, and nobody can tell but by the ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runs.stage import Json, Make, Stage, failure_of, id_of, texts, within

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.stores import Conversation, Parent, Record, StoreError
from antiphon.engine.ports.upstreams import ModelRequest, Stop
from antiphon.protocol.errors import unavailable
from antiphon.stores.sqlite import SqliteStore
from antiphon.upstreams.scripted import Script

Shape = Callable[[Json], Json]
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}


def user(text: str, **members: Any) -> Json:
    return {"role": "user", "content": text, **members}


def without(item: Json, *names: str) -> Json:
    return {name: value for name, value in item.items() if name not in names}


def as_it_came(item: Json) -> Json:
    return item


def without_ids(item: Json) -> Json:
    return without(item, "id", "status")


def as_plain_text(item: Json) -> Json:
    return {"role": "assistant", "content": item["content"][0]["text"]} if item["type"] == "message" else item


def as_parts_only(item: Json) -> Json:
    """What the AI SDK sends of a message."""
    if item["type"] != "message":
        return without(item, "status")
    text = item["content"][0]["text"]
    return {"role": "assistant", "content": [{"type": "output_text", "text": text}], "id": item["id"]}


def as_reference(item: Json) -> Json:
    return {"type": "item_reference", "id": item["id"]}


def under_own_ids(item: Json) -> Json:
    return {**item, "id": f"mine_{item['id']}"}


def agent(request: ModelRequest) -> Script:
    """Thinks, calls its tool, thinks again and answers."""
    last = request.items[-1].view
    if last.kind == "function_call_output":
        return [[ReasoningDelta("Found."), TextDelta("It is there.")]]
    call = f"call_{len(request.items)}"
    return [[ReasoningDelta("I should look.")], [CallDelta(0, call, "look", '{"at": "it"}')], Stop("tool_calls")]


class Client:
    """Keeps its history itself, and sends all of it in its own shape."""

    def __init__(self, here: Stage, shape: Shape = as_it_came, **parameters: Any) -> None:
        self.here = here
        self.shape = shape
        self.parameters = parameters
        self.history: list[Json] = []
        self.last: Json = {}

    async def say(self, *items: Json, **parameters: Any) -> Json:
        self.history += items
        self.last = await self.here.answer(input=self.history, **{**self.parameters, **parameters})
        self.history += [self.shape(item) for item in self.last["output"]]
        return self.last


class CountedStore(SqliteStore):
    """In memory; tells how many items it has and how much is pinned."""

    def __init__(self) -> None:
        super().__init__(None)
        self.broken = False

    @property
    def items(self) -> int:
        return int(self._reading.execute("SELECT count(*) FROM items").get)

    @property
    def pinned(self) -> int:
        return len(self._pins)

    async def save(self, record: Record) -> None:
        if self.broken:
            raise StoreError("full")
        await super().save(record)

    async def begin(self, record: Record) -> None:
        if self.broken:
            raise unavailable("full")
        await super().begin(record)


@pytest.fixture
def store() -> CountedStore:
    return CountedStore()


@pytest.mark.parametrize("shape", [as_it_came, without_ids, as_plain_text, as_parts_only, as_reference, under_own_ids])
async def test_a_history_is_stored_once(stage: Make, store: CountedStore, shape: Shape) -> None:
    """Whatever it looks like when it comes again; an id of the client's own takes a place of its own."""
    client = Client(stage(echo=lambda _: [[TextDelta("Yes.")]], store=store), shape)
    counts = []
    for number in range(8):
        await client.say(user(f"Question {number}?"))
        counts.append(store.items)

    each = 3 if shape is under_own_ids else 2
    assert counts == [2 + each * number for number in range(8)]
    assert store.pinned == 0
    asked = [texts(request) for request in client.here.upstream.requests]
    assert asked[-1] == [text for number in range(7) for text in (f"Question {number}?", "Yes.")] + ["Question 7?"]
    assert [item.body.count(b"Question") for item in await client.here.inputs(client.last["id"])] == [1, 0] * 7 + [1]


@pytest.mark.parametrize("shape", [as_it_came, without_ids, as_parts_only, as_reference])
async def test_calls_and_thoughts_are_stored_once(stage: Make, store: CountedStore, shape: Shape) -> None:
    parameters = {"tools": [TOOL], "include": ["reasoning.encrypted_content"]}
    client = Client(stage(echo=agent, store=store), shape, **parameters)
    counts = []
    for number in range(3):
        reply = await client.say(user(f"Where is {number}?"))
        call = next(item for item in reply["output"] if item["type"] == "function_call")
        await client.say({"type": "function_call_output", "call_id": call["call_id"], "output": "There."})
        counts.append(store.items)

    kinds = [item["type"] for item in client.last["output"]]
    assert kinds == ["reasoning", "message"]
    assert counts == [6, 12, 18]  # the question, thought and call; the output, thought and answer
    last = client.here.upstream.requests[-1].items
    assert [item.view.kind for item in last[-5:]] == [
        "message", "message", "reasoning", "function_call", "function_call_output",
    ]  # fmt: skip


async def test_what_a_client_does_not_send_again_is_stored_once_as_well(stage: Make, store: CountedStore) -> None:
    """It leaves out what the model thought: its line goes on from what it said itself."""
    client = Client(stage(echo=lambda _: [[ReasoningDelta("Hm.")], [TextDelta("Yes.")]], store=store))
    counts = []
    for number in range(6):
        client.history = [item for item in client.history if item.get("type") != "reasoning"]
        await client.say(user(f"Question {number}?"))
        counts.append(store.items)

    assert counts == [3 + 4 * number for number in range(6)]
    assert len(await client.here.inputs(client.last["id"])) == 11


async def test_an_answer_that_is_asked_for_again(stage: Make, store: CountedStore) -> None:
    client = Client(stage(echo=lambda _: [[TextDelta("Yes.")]], store=store))
    await client.say(user("One?"))
    first = await client.say(user("Two?"))
    client.history = client.history[:3]
    again = await client.say()

    assert store.items == 5
    ids = [[item.id for item in await client.here.inputs(one["id"])] for one in (first, again)]
    assert ids[0] == ids[1]
    later = await client.here.answer(input="Three?", previous_response_id=again["id"])
    assert texts(client.here.upstream.requests[-1]) == ["One?", "Yes.", "Two?", "Yes.", "Three?"]
    await client.here.runs.delete("p", first["id"])
    assert [len(await client.here.inputs(one["id"])) for one in (again, later)] == [3, 5]


async def test_what_is_read_back_is_as_if_nothing_were_shared(stage: Make, store: CountedStore) -> None:
    here = stage(echo=lambda _: [[TextDelta("Yes.")]], store=store)
    first = await Client(here).say(user("One?"))
    client = Client(here, as_it_came)
    client.history = [user("One?"), *first["output"]]
    second = await client.say(user("Two?"))

    assert second["previous_response_id"] is None
    assert await here.read(second["id"]) == second
    listed = [json.loads(item.body) for item in await here.inputs(second["id"])]
    assert [item["content"][0]["text"] for item in listed] == ["One?", "Yes.", "Two?"]
    assert listed[0]["id"] == (await here.inputs(first["id"]))[0].id
    assert listed[1] == first["output"][0]

    await here.runs.delete("p", first["id"])
    assert await here.read(first["id"]) is None
    assert [json.loads(item.body) for item in await here.inputs(second["id"])] == listed
    await here.runs.delete("p", second["id"])
    assert store.items == 0


async def test_ids_that_the_client_gave_stay(stage: Make, store: CountedStore) -> None:
    here = stage(echo=lambda _: [[TextDelta("Yes.")]], store=store)
    client = Client(here, under_own_ids)
    await client.say(user("One?", id="msg_one"))
    said = client.history[1]["id"]
    second = await client.say(user("Two?", id="msg_two"))

    assert [item.id for item in await here.inputs(second["id"])] == ["msg_one", said, "msg_two"]
    await here.answer(input=[{"type": "item_reference", "id": said}, user("And?")])
    assert texts(here.upstream.requests[-1]) == ["Yes.", "And?"]
    other = await Client(here).say(user("One?", id="msg_other"), *client.history[1:2], user("Two?"))
    assert [item.id for item in await here.inputs(other["id"])][:2] == ["msg_other", said]


@pytest.mark.parametrize("shape", [as_it_came, without_ids])
async def test_two_clients_that_hear_the_same(stage: Make, store: CountedStore, shape: Shape) -> None:
    here = stage(echo=lambda _: [[TextDelta("Yes.")]], store=store)
    clients = [Client(here, shape), Client(here, shape)]
    counts = []
    for number in range(5):
        for client in clients:
            await client.say(user(f"Question {number}?"))
        counts.append(store.items)

    ids = [[item.id for item in await here.inputs(client.last["id"])] for client in clients]
    if shape is as_it_came:
        assert counts == [4, 8, 12, 16, 20]
        assert not set(ids[0]) & set(ids[1])
    else:  # one's question is the other's, behind what they both heard
        assert counts == [4, 7, 10, 13, 16]


@pytest.mark.parametrize("how", ["unstored", "failed", "project", "deleted", "conversation"])
async def test_what_is_never_shared(stage: Make, store: CountedStore, how: str) -> None:
    def script(request: ModelRequest) -> Script:
        fails = how == "failed" and len(request.items) == 1
        return [[TextDelta("Yes.")], ValueError("broken")] if fails else [[TextDelta("Yes.")]]  # type: ignore[list-item]

    here = stage(echo=script, store=store)
    text = "Hello?"
    if how == "failed":
        run, follower = await here.stream(input=[user(text)])
        await within(follower.ended)
        assert run.outcome is not None
        assert run.outcome.status == "failed"
    else:
        conversation = Conversation("conv_1", 1, b"{}")
        await store.conversations.create("p", conversation, [])
        inside = {"conversation": conversation.id} if how == "conversation" else {}
        project = "other" if how == "project" else "p"
        first = await here.answer(project, input=[user(text)], store=how != "unstored", **inside)
        if how == "deleted":
            await here.runs.delete("p", first["id"])
    before = store.items
    said = {"role": "assistant", "content": "Yes."}

    second = await here.answer(input=[user(text), said, user("More?")])

    assert store.items - before == 4
    assert len(await here.inputs(second["id"])) == 3


async def test_nothing_is_looked_for_where_nothing_can_be_shared(stage: Make, store: CountedStore) -> None:
    here = stage(echo=lambda _: [[TextDelta("Yes.")]], store=store)
    first = await here.answer(input=[user("One?")])
    history = [user("One?"), *first["output"]]
    asked: list[int] = []
    plain = store.beginning

    async def beginning(project: str, beginnings: Any) -> Any:
        asked.append(len(beginnings))
        return await plain(project, beginnings)

    store.beginning = beginning  # type: ignore[method-assign]
    await here.answer(input="One?")
    await here.answer(input=[user("One?")])
    await here.answer(input=history, store=False)
    await here.answer(input=[user("Two?"), user("Three?")], previous_response_id=first["id"])
    assert asked == []

    await here.answer(input=[*history, user("Two?")])
    assert asked == [3]


async def test_a_background_run_shares_as_well(stage: Make, store: CountedStore) -> None:
    here = stage(echo=lambda _: [[TextDelta("Yes.")]], store=store)
    client = Client(here, without_ids)
    first = await client.say(user("One?"))
    run = await here.create(input=[*client.history, user("Two?")], background=True)
    await within(run.done)
    client.history = [*client.history, user("Two?"), {"role": "assistant", "content": "Yes."}]
    third = await client.say(user("Three?"))

    assert store.items == 6
    assert store.pinned == 0
    begun = await store.begun("p", id_of(run))
    assert begun is not None
    assert [len(begun.earlier), len(begun.input)] == [2, 1]
    for one in (first["id"], id_of(run)):
        await here.runs.delete("p", one)
    assert store.items == 6
    assert len(await here.inputs(third["id"])) == 5


async def test_a_run_that_is_taken_up_sees_what_was_sent(tmp_path: Path) -> None:
    """What it shares comes from the store then."""
    history = [user("One?"), {"role": "assistant", "content": "Yes."}, user("Two?")]
    here = Stage([[TextDelta("Yes.")]], [asyncio.Event()], store=SqliteStore(tmp_path / "state.db"))
    await here.answer(input=history[:1])
    run = await here.create(input=history, background=True, stream=True)
    await here.follow(id_of(run)).until(lambda self: len(self.events) >= 2)
    while len(here.upstream.requests) < 2:  # noqa: ASYNC110 - the model tells nobody that it was asked
        await asyncio.sleep(0)
    assert run.parent == Parent(1, 2)
    await here.close()

    later = Stage([[TextDelta("Yes.")]], store=SqliteStore(tmp_path / "state.db"))
    await later.recover()
    await within(later.follow(id_of(run)).whole())

    assert [texts(stage.upstream.requests[-1]) for stage in (here, later)] == [["One?", "Yes.", "Two?"]] * 2
    assert len(await later.inputs(id_of(run))) == 3
    await later.close()


async def test_what_fails_lets_go(stage: Make, store: CountedStore) -> None:
    here = stage(echo=lambda _: [[TextDelta("Yes.")]], store=store)
    client = Client(here)
    await client.say(user("One?"))
    client.history.append(user("Two?"))

    store.broken = True
    failure = await failure_of((await here.create(input=client.history)).finished())
    background = await failure_of(here.create(input=client.history, background=True))
    store.broken = False

    assert [failure.status, background.status] == [503, 503]
    assert store.pinned == 0
    await client.say()
    assert store.items == 4


async def test_a_deletion_meanwhile_takes_nothing_away(stage: Make, store: CountedStore) -> None:
    """The run has pinned what it goes on from."""
    gate = asyncio.Event()
    here = stage([[TextDelta("Yes.")]], [[TextDelta("It")], gate, [TextDelta(" is.")]], store=store)
    client = Client(here)
    first = await client.say(user("One?"))
    run = await here.create(input=[*client.history, user("Two?")], stream=True)
    assert run.parent == Parent(1, 2)
    await here.runs.delete("p", first["id"])
    gate.set()
    await within(run.done)

    assert [json.loads(item.body)["content"][0]["text"] for item in await here.inputs(id_of(run))] == [
        "One?", "Yes.", "Two?",
    ]  # fmt: skip
    assert (store.items, store.pinned) == (4, 0)
