"""A background response that still runs is fetched with what it has said: all that is durable, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.runs.stage import Make, Stage, id_of, within
from tests.runs.test_background import GatedStore, start
from tests.specification.conformance import check_response

from antiphon.engine.deltas import ReasoningDelta, TextDelta
from antiphon.engine.ports.stores import RunName, Stored
from antiphon.protocol.events import Event
from antiphon.runs.unfinished import Unfinished
from antiphon.stores.sqlite import SqliteStore

Json = dict[str, Any]


class WatchedStore(SqliteStore):
    """Notes behind which numbers logs are read, and holds their readers at a gate."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[int] = []
        self.asking, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        self.asked.append(after)
        self.asking.set()
        await self.gate.wait()
        return await super().events(project, response, after)


async def fetched(here: Stage, response: str) -> Json:
    """The Response as a client gets it, checked."""
    stored = await within(here.runs.read("p", response))
    assert stored is not None
    body: Json = json.loads(stored.snapshot())
    check_response(body)
    return body


def said(response: Json) -> list[tuple[str, str, str]]:
    """Of each item its type, its status, and its text."""
    return [
        (item["type"], item["status"], item["content"][0]["text"] if item.get("content") else "")
        for item in response["output"]
    ]


async def test_finished_items_and_the_open_one_are_told(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[ReasoningDelta("Hm.")], [TextDelta("Once ")], [TextDelta("upon")], gate, [TextDelta(" a time.")]])
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until(lambda reader: "Once upon" in reader.text())

    told = await fetched(here, id_of(run))
    assert (told["status"], told["usage"], told["completed_at"]) == ("in_progress", None, None)
    assert said(told) == [("reasoning", "completed", "Hm."), ("message", "in_progress", "Once upon")]

    gate.set()
    await follower.whole()
    whole = await fetched(here, id_of(run))
    assert said(whole)[1] == ("message", "completed", "Once upon a time.")
    assert [item["id"] for item in whole["output"]] == [item["id"] for item in told["output"]]
    assert whole["output"][0] == told["output"][0]


async def test_another_process_tells_the_same(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Once")], gate])
    other = stage(store=here.store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")

    assert said(await fetched(other, id_of(run))) == [("message", "in_progress", "Once")]
    assert await fetched(other, id_of(run)) == await fetched(here, id_of(run))

    gate.set()
    await follower.whole()
    assert await fetched(other, id_of(run)) == await fetched(here, id_of(run))


async def test_what_is_not_durable_is_not_told(stage: Make) -> None:
    """I5."""
    store, gate = GatedStore(), asyncio.Event()
    here = stage([[TextDelta("Once")], gate, [TextDelta(" upon")], asyncio.Event()], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")

    store.append_gate.clear()
    store.appending.clear()
    gate.set()
    await within(store.appending.wait())
    assert said(await fetched(here, id_of(run))) == [("message", "in_progress", "Once")]

    store.append_gate.set()
    await follower.until(lambda reader: reader.text() == "Once upon")
    assert said(await fetched(here, id_of(run))) == [("message", "in_progress", "Once upon")]


async def test_asking_again_reads_what_is_new_and_an_ended_one_is_not_folded(stage: Make) -> None:
    store, gate = WatchedStore(), asyncio.Event()
    here = stage([[TextDelta("Once")], gate], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")
    await fetched(here, id_of(run))

    store.asked.clear()
    await fetched(here, id_of(run))
    assert store.asked == [follower.last]

    gate.set()
    await follower.whole()
    store.asked.clear()
    await fetched(here, id_of(run))
    assert store.asked == []


async def test_one_that_ends_while_it_is_read_is_told_as_ended(stage: Make) -> None:
    store, gate = WatchedStore(), asyncio.Event()
    here = stage([[TextDelta("Once")], gate], store=store)
    run = await start(here)
    store.gate.clear()
    store.asking.clear()
    reading = asyncio.ensure_future(fetched(here, id_of(run)))
    await within(store.asking.wait())
    gate.set()
    await within(run.done)
    store.gate.set()

    told = await reading
    assert (told["status"], said(told)) == ("completed", [("message", "completed", "Once")])
    assert told["usage"] is not None


async def test_no_more_is_kept_than_may_be(stage: Make) -> None:
    """A log that is not kept is read from its beginning; what is told stays the same."""
    store = WatchedStore()
    here = stage(echo=lambda _asked: [[TextDelta("Once")], asyncio.Event()], store=store)
    runs = [await start(here) for _ in range(2)]
    for run in runs:
        await here.follow(id_of(run)).until_type("output_text.delta")
    names = [RunName("p", id_of(run)) for run in runs]
    size = sum([len(event.data) for event in await store.events(*names[0], -1)])
    unfinished = Unfinished(store, kept_bytes_max=size + size // 2)

    async def told(name: RunName) -> Stored:
        begun = await store.read(*name)
        assert begun is not None
        return await within(unfinished.read(name, begun))

    first = [(await told(name)).output for name in names]
    store.asked.clear()
    assert [(await told(name)).output for name in names[::-1]] == first[::-1]
    assert store.asked[0] > 0  # the one that was asked for last
    assert store.asked[1] == -1
