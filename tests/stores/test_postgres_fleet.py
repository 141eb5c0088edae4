"""Several stores on one database, as several processes would have them: races, pins, and what one believes of another.

None of them shares anything with the others but the database.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import random
from typing import Any

import pytest
from tests.stores.contract_removal import TOOLS, Life, agrees
from tests.stores.postgres_fleet import blocked, opened
from tests.stores.postgres_server import PostgresServer
from tests.stores.world import PATIENCE_SECONDS, World, items, record, within

from antiphon.engine.ports.stores import Context, Parent, Store
from antiphon.protocol.errors import ApiError
from antiphon.stores.postgres import groups, operations, schema
from antiphon.stores.queries import Queries

QUERIES = Queries(schema.PACKAGE, "queries.sql")


async def test_continuations_of_one_response_never_interleave(worlds: list[World], admin: Any) -> None:
    """Of those that continue the newest response one stays on its thread, the others fork; nobody sees a mixture."""
    await worlds[0].say(turn="root", output=[])
    line, previous = ["root?"], "root"
    for step in range(8):
        turns = [f"{step}.{number}" for number in range(12)]
        await within(
            asyncio.gather(*(worlds[number % 3].say(previous, turn=turn) for number, turn in enumerate(turns)))
        )
        for number, turn in enumerate(turns):
            assert await worlds[(number + 1) % 3].seen(turn) == [*line, f"{turn}?", f"{turn}!"]
        threads = await admin.fetch(
            "SELECT thread, count(*) FROM antiphon.responses WHERE id LIKE $1 GROUP BY thread", f"{step}.%"
        )
        assert len(threads) == 12
        previous = turns[step]
        line += [f"{previous}?", f"{previous}!"]


async def test_a_deletion_elsewhere_leaves_what_is_pinned(worlds: list[World], admin: Any) -> None:
    mine, other, third = worlds
    await mine.say(turn="one")
    await other.say("one", turn="two")
    context = await mine.pin("two")
    assert await other.store.delete("p", "two")
    assert await third.store.delete("p", "one")
    assert await other.alive(["one?", "two!"]) == {"one?", "two!"}

    await mine.store.save(record("three", parent=context.parent, input=items("three?")))
    mine.release(context)
    await mine.store.append([])

    assert await third.seen("three") == ["one?", "one!", "two?", "two!", "three?"]
    assert await third.store.delete("p", "three")
    for table in ("threads", "items", "responses", "pins"):
        assert await admin.fetchval(f"SELECT count(*) FROM antiphon.{table}") == 0


async def test_what_only_a_pin_held_goes_with_it(worlds: list[World]) -> None:
    mine, other, _ = worlds
    await mine.say(turn="one")
    context = await mine.pin("one")
    assert await other.store.delete("p", "one")
    assert await other.alive(["one?"]) == {"one?"}

    mine.release(context)
    await mine.store.append([])

    assert await other.alive(["one?"]) == set()


async def test_pins_and_deletions_at_once(worlds: list[World], admin: Any) -> None:
    """A context that was read can be continued, or the response was gone before: nothing in between."""
    names = [f"r{number}" for number in range(60)]
    for name in names:
        await worlds[0].say(turn=name)

    async def go_on(world: World, name: str) -> bool:
        try:
            await world.say(name, turn=f"{name}.next")
        except ApiError as error:
            return error.code != "previous_response_not_found"
        return True

    results = await within(
        asyncio.gather(
            *(go_on(worlds[number % 2], name) for number, name in enumerate(names)),
            *(worlds[2].store.delete("p", name) for name in names),
        )
    )

    assert all(results[60:])
    for name, went_on in zip(names, results[:60], strict=True):
        if went_on:
            assert await worlds[2].seen(f"{name}.next") == [f"{name}{mark}" for mark in ("?", "!", ".next?", ".next!")]
    for world in worlds:
        await world.store.append([])
    await worlds[0].store.expire(0)
    alive = {name for name, went_on in zip(names, results[:60], strict=True) if went_on}
    assert await worlds[0].alive(f"{name}?" for name in names) == {f"{name}?" for name in alive}
    assert await admin.fetchval("SELECT count(*) FROM antiphon.threads") == len(alive)


async def test_a_pin_lapses_with_its_process(worlds: list[World], admin: Any) -> None:
    dead, other, _ = worlds
    await dead.say(turn="one", expires_at=5)
    context = await dead.pin("one")
    assert await other.store.expire(5) == 1
    assert await other.alive(["one?"]) == {"one?"}

    await admin.execute("UPDATE antiphon.pins SET until = now()")
    assert await other.store.expire(5) == 0

    assert await other.alive(["one?"]) == set()
    with pytest.raises(LookupError):
        await dead.store.save(record("late", parent=context.parent, input=items("late?")))
    assert await other.store.read("p", "late") is None
    dead.release(context)


async def test_pins_of_long_runs_are_renewed(database_url: str, admin: Any) -> None:
    store = await opened(database_url, pin_seconds=0.4)
    world = World(store)
    await world.say(turn="one")
    context = await world.pin("one")
    first = await admin.fetchval("SELECT until FROM antiphon.pins")

    async with asyncio.timeout(PATIENCE_SECONDS):
        while await admin.fetchval("SELECT until FROM antiphon.pins") == first:
            await admin.execute("SELECT pg_sleep(0.05)")

    world.release(context)
    await store.close()
    assert await admin.fetchval("SELECT count(*) FROM antiphon.pins") == 0


async def test_a_large_part_that_another_deleted_is_sent_again(worlds: list[World], admin: Any) -> None:
    mine, other, _ = worlds
    await mine.say(turn="one", large={"tools": TOOLS})
    assert await other.store.delete("p", "one")
    assert await admin.fetchval("SELECT count(*) FROM antiphon.blob_bytes") == 0

    await mine.say(turn="two", large={"tools": TOOLS})
    await other.say(turn="three", large={"tools": TOOLS})

    assert await admin.fetchval("SELECT uses FROM antiphon.blobs") == 2
    for turn in ("two", "three"):
        stored = await other.store.read("p", turn)
        assert stored is not None
        assert stored.shell.large == {"tools": TOOLS}


async def test_large_parts_come_and_go_everywhere_at_once(worlds: list[World], admin: Any) -> None:
    async def live(world: World, name: str) -> None:
        for number in range(12):
            turn = f"{name}{number}"
            await world.say(turn=turn, large={"tools": TOOLS, "text": TOOLS[:-1] + b" ]"})
            stored = await world.store.read("p", turn)
            assert stored is not None
            assert stored.shell.large["tools"] == TOOLS
            assert await world.store.delete("p", turn)

    await within(asyncio.gather(*(live(worlds[number % 3], f"w{number}.") for number in range(6))))

    for table in ("blobs", "blob_bytes"):
        assert await admin.fetchval(f"SELECT count(*) FROM antiphon.{table}") == 0


async def test_groups_over_the_same_rows_never_wait_in_a_circle(worlds: list[World], postgres: PostgresServer) -> None:
    """Each store goes through the same threads and runs in an order of its own."""
    chance = random.Random(1)
    names = [f"r{number}" for number in range(40)]
    await asyncio.gather(*(worlds[0].say(turn=name, large={"tools": TOOLS}) for name in names))
    runs = [await worlds[0].begin(name, turn=f"{name}.run", large={"text": TOOLS}) for name in names]
    parents = {name: [await world.pin(name) for world in worlds] for name in names}

    for step in range(4):
        waiting = []
        for number, world in enumerate(worlds):
            for name in chance.sample(names, len(names)):
                new = record(f"{name}.{step}.{number}", parent=parents[name][number].parent, large={"tools": TOOLS})
                waiting.append(world.store.save(new))
            waiting += [world.finish(run) for run in chance.sample(runs, len(runs))]
            if step > 1:
                doomed = [f"{name}.{step - 2}.{number}" for name in chance.sample(names, len(names))]
                waiting += [worlds[number - 1].store.delete("p", response) for response in doomed]
        await within(asyncio.gather(*waiting))

    for name in names:
        for world, context in zip(worlds, parents[name], strict=True):
            world.release(context)
    assert not [line for line in postgres.log if "deadlock" in line]


# --- One in the middle of its transaction, the other comes ---


def writes() -> groups.Groups:
    return groups.Groups(QUERIES, 1, groups.SEGMENTS_MAX)


async def test_who_reads_what_is_being_deleted_waits_and_finds_nothing(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    world = worlds[0]
    await world.say(turn="one")
    async with slow.transaction():
        assert await writes().delete(slow, [operations.Delete("p", "one")], False) == [True]
        reading = asyncio.ensure_future(world.refusal(world.store.context("p", "one")))
        await blocked(admin, reading)

    assert (await within(reading)).code == "previous_response_not_found"


async def test_who_reads_while_the_end_is_cut_off_waits_and_finds_nothing(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    """The thread stays, for the sake of an earlier response."""
    world = worlds[0]
    await world.say(turn="one")
    await world.say("one", turn="two")
    async with slow.transaction():
        assert await writes().delete(slow, [operations.Delete("p", "two")], False) == [True]
        reading = asyncio.ensure_future(world.refusal(world.store.context("p", "two")))
        await blocked(admin, reading)

    assert (await within(reading)).code == "previous_response_not_found"
    assert await world.seen("one") == ["one?", "one!"]


async def test_who_deletes_what_is_being_pinned_waits_and_leaves_it(worlds: list[World], admin: Any, slow: Any) -> None:
    world = worlds[0]
    await world.say(turn="one")
    async with slow.transaction():
        assert await slow.fetch(QUERIES["context"], "p", "one", 1, 1, datetime.timedelta(minutes=1))
        deleting = asyncio.ensure_future(world.store.delete("p", "one"))
        await blocked(admin, deleting)

    assert await within(deleting)
    assert await world.alive(["one?", "one!"]) == {"one?", "one!"}


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_who_deletes_what_is_being_continued_waits_and_leaves_it(
    worlds: list[World], admin: Any, slow: Any, status: str
) -> None:
    """On its thread, or on a fork of it."""
    world = worlds[0]
    await world.say(turn="one")
    context = await world.pin("one")
    world.release(context)
    await world.store.append([])
    new = record("two", parent=context.parent, input=items("two?"), status=status)
    async with slow.transaction():
        assert await writes().save(slow, [operations.Save(new)], False) == [None]
        deleting = asyncio.ensure_future(world.store.delete("p", "one"))
        await blocked(admin, deleting)

    assert await within(deleting)
    assert await world.inputs("two") == ["one?", "one!", "two?"]


async def test_who_continues_what_is_being_continued_waits_and_forks(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    world = worlds[0]
    await world.say(turn="one")
    context = await world.pin("one")
    async with slow.transaction():
        new = record("two", parent=context.parent, input=items("two?"))
        assert await writes().save(slow, [operations.Save(new)], False) == [None]
        saving = asyncio.ensure_future(world.store.save(record("three", parent=context.parent, input=items("3?"))))
        await blocked(admin, saving)
    await within(saving)
    world.release(context)

    assert await world.inputs("two") == ["one?", "one!", "two?"]
    assert await world.inputs("three") == ["one?", "one!", "3?"]
    assert len(await admin.fetch("SELECT FROM antiphon.threads")) == 2


async def test_who_uses_a_large_part_that_is_being_deleted_waits_and_sends_it(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    world = worlds[0]
    await world.say(turn="one", large={"tools": TOOLS})
    async with slow.transaction():
        assert await writes().delete(slow, [operations.Delete("p", "one")], False) == [True]
        saving = asyncio.ensure_future(world.say(turn="two", large={"tools": TOOLS}))
        await blocked(admin, saving)
    await within(saving)

    stored = await world.store.read("p", "two")
    assert stored is not None
    assert stored.shell.large == {"tools": TOOLS}


class Fleet:
    """One store in front, another behind each call; a pin is given back where it was taken."""

    def __init__(self, worlds: list[World], chance: random.Random) -> None:
        self._stores: list[Store] = [world.store for world in worlds]
        self._chance = chance
        self._pinned: collections.defaultdict[Parent, list[Store]] = collections.defaultdict(list)

    async def context(self, project: str, response: str) -> Context:
        store = self._chance.choice(self._stores)
        context = await store.context(project, response)
        assert context.parent is not None
        self._pinned[context.parent].append(store)
        return context

    def release(self, parent: Parent) -> None:
        self._pinned[parent].pop().release(parent)

    async def append(self, batches: Any) -> None:
        for store in self._stores:
            await store.append(batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chance.choice(self._stores), name)


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_life_over_several_stores(
    postgres: PostgresServer, worlds: list[World], admin: Any, seed: int
) -> None:
    chance = random.Random(seed)
    fleet: Any = Fleet(worlds, chance)
    life = Life(World(fleet), chance)
    for step in range(1, 101):
        await life.step()
        if step % 25 == 0:
            await agrees(life.world, life.model)
    await life.end()

    await worlds[0].store.expire(0)
    for table in ("threads", "items", "responses", "blobs", "blob_bytes", "pins"):
        assert await admin.fetchval(f"SELECT count(*) FROM antiphon.{table}") == 0, table
    assert not [line for line in postgres.log if "deadlock" in line]
