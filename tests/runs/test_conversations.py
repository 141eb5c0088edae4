"""Runs in conversations: what they see, what they leave, how long they hold them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.runs.stage import Make, Stage, failure_of, id_of, texts, within

from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.stores import Conversation, Hold
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import Page
from antiphon.runs.leases import Leases
from antiphon.stores.sqlite import SqliteStore


async def opened(here: Stage) -> None:
    await here.store.conversations.create("p", Conversation("conv_1", 1, b"{}"), [])


async def kinds(store: SqliteStore) -> list[bytes]:
    """Who said the items of the conversation, oldest first."""
    listing = await store.conversations.items("p", "conv_1", Page(100, "asc"))
    assert listing is not None
    return [body.split(b'"role":"')[1].split(b'"')[0] for _, body in listing.items]


async def free(store: SqliteStore) -> bool:
    """Whether another response may come in; it leaves again."""
    hold = Hold("p", "conv_1", "resp_other")
    try:
        context = await store.conversations.enter(hold, 60)
    except ApiError as error:
        if error.code != "conversation_locked":
            raise
        return False
    await store.conversations.leave(hold)
    assert context.parent is not None
    store.release(context.parent)
    return True


@pytest.mark.parametrize("stored", [True, False])
async def test_turns_see_what_was_said(stage: Make, stored: bool) -> None:
    here = stage([[TextDelta("one")]], [[TextDelta("two")]])
    await opened(here)
    for said in ("Hello", "Again"):
        response = await here.answer(input=said, conversation="conv_1", store=stored)
        assert response["conversation"] == {"id": "conv_1"}
        assert response["previous_response_id"] is None

    assert texts(here.upstream.requests[-1]) == ["Hello", "one", "Again"]
    assert await kinds(here.store) == [b"user", b"assistant"] * 2
    assert await free(here.store)


async def test_a_run_holds_its_conversation(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("one")], gate])
    await opened(here)
    _, follower = await here.stream(conversation="conv_1")
    await follower.until_type("output_text.delta")

    refused = await failure_of(here.create(conversation={"id": "conv_1"}))
    assert (refused.status, refused.code, refused.param) == (400, "conversation_locked", "conversation")
    gate.set()
    await follower.whole()
    assert await kinds(here.store) == [b"user", b"assistant"]
    assert await free(here.store)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("reads", [[], [[TextDelta("half")]]])
async def test_a_failure_leaves_nothing_in_it(stage: Make, stored: bool, reads: Any) -> None:
    here = stage([*reads, UpstreamError("no")])
    await opened(here)
    run, _ = await here.stream(conversation="conv_1", store=stored)
    await within(run.done)

    assert await kinds(here.store) == []
    assert await free(here.store)


@pytest.mark.parametrize("parameters", [
    {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
    {"input": None},
    {"tools": [{"type": "web_search"}]},
])  # fmt: skip
async def test_a_request_that_is_refused_frees_it(stage: Make, parameters: dict[str, Any]) -> None:
    here = stage()
    await opened(here)
    refused = await failure_of(here.create(conversation="conv_1", **parameters))
    assert refused.status == 400
    assert await free(here.store)


async def test_a_client_that_leaves_frees_it(stage: Make) -> None:
    here = stage([[TextDelta("one")], asyncio.Event()])
    await opened(here)
    run, follower = await here.stream(conversation="conv_1")
    await follower.until_type("output_text.delta")
    run.cancel()
    await within(run.done)
    assert await kinds(here.store) == []
    assert await free(here.store)


async def test_a_stop_frees_it(tmp_path: Path) -> None:
    here = Stage([[TextDelta("one")], asyncio.Event()], store=SqliteStore(tmp_path / "state.db"))
    await opened(here)
    _, follower = await here.stream(conversation="conv_1")
    await follower.until_type("output_text.delta")
    await within(here.runs.close())
    assert await free(here.store)
    await here.store.close()


@pytest.mark.parametrize("stored", [True, False])
async def test_a_background_run_holds_it_over_a_takeover(tmp_path: Path, stored: bool) -> None:
    here = Stage([[TextDelta("Once upon")], asyncio.Event()], store=SqliteStore(tmp_path / "state.db"))
    await opened(here)
    run = await here.create(conversation="conv_1", background=True, stream=True, store=stored)
    await here.follow(id_of(run)).until_type("output_text.delta")
    assert not await free(here.store)
    await here.close()

    here = Stage([[TextDelta(" a time.")]], store=SqliteStore(tmp_path / "state.db"), prefill=True)
    assert not await free(here.store)
    await here.recover()
    await here.follow(id_of(run)).whole()
    response = await here.read(id_of(run))

    assert response is not None
    assert (response["status"], response["conversation"]) == ("completed", {"id": "conv_1"})
    assert response["output"][0]["content"][0]["text"] == "Once upon a time."
    assert await kinds(here.store) == [b"user", b"assistant"]
    assert await free(here.store)
    await here.close()


async def test_a_cancelled_run_frees_it(stage: Make) -> None:
    here = stage([[TextDelta("one")], asyncio.Event()])
    await opened(here)
    run = await here.create(conversation="conv_1", background=True, stream=True)
    await here.follow(id_of(run)).until_type("output_text.delta")
    await within(here.runs.cancel("p", id_of(run)))
    assert await kinds(here.store) == []
    assert await free(here.store)


async def test_holds_are_renewed(stage: Make) -> None:
    """Those of a living process outlast what each is given."""
    here = stage()
    await opened(here)
    seconds = 1.0
    leases = Leases(here.store, seconds)
    hold = Hold("p", "conv_1", "resp_1")
    context = await leases.enter(hold)
    for _ in range(6):
        assert not await free(here.store)
        await here.clock.sleep(seconds / 4)
    await leases.leave(hold)
    assert await free(here.store)
    assert context.parent is not None
    here.store.release(context.parent)
    await leases.close()


async def test_who_is_cut_off_while_it_enters_leaves(stage: Make) -> None:
    here = stage()
    await opened(here)
    leases = Leases(here.store)
    entering = asyncio.get_running_loop().create_task(leases.enter(Hold("p", "conv_1", "resp_1")))
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    await within(leases.close())
    assert await free(here.store)
