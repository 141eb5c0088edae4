"""The contract of beginnings: where items that a client sends again are found, and how long.

A beginning is named by the ids of its items here; ``hash_of`` makes its hash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.stores.world import Stores, World, item, items, record

from antiphon.engine import replays
from antiphon.engine.ports.stores import Beginning, Seen, Store

Names = Sequence[str]


def hash_of(names: Names) -> bytes:
    return replays.behind(replays.START, [item(name, name).body for name in names])


def beginning(names: Names, given: str | None = None) -> Beginning:
    """With ``given``, the client said the id of that one."""
    return Beginning(hash_of(names), given, 0 if given is None else len(names) - names.index(given))


def beginnings(names: Names) -> list[Beginning]:
    """All of a request with these items, without ids."""
    return [beginning(names[:length]) for length in range(len(names), 0, -1)]


async def say(world: World, turn: str, before: Names = (), previous: str | None = None, **members: object) -> list[str]:
    """A turn whose response can be found again; the ids of its context."""
    given, made = [*before, f"{turn}?"], [*before, f"{turn}?", f"{turn}!"]
    await world.say(previous, turn=turn, input_hash=hash_of(given), full_hash=hash_of(made), **members)
    return made


async def found(world: World, names: Names) -> int:
    """How many of these items are found."""
    seen = await world.store.beginning(world.project, beginnings(names))
    if seen is None:
        return 0
    world.store.release(seen.parent)
    assert len(seen.ids) == len(names) - seen.which
    return len(seen.ids)


async def go_on(world: World, turn: str, seen: Seen, **members: object) -> None:
    """A turn behind what was found, which it lets go."""
    given = {"input": items(f"{turn}?"), "output": items(f"{turn}!"), **members}
    await world.store.save(record(turn, project=world.project, parent=seen.parent, **given))  # type: ignore[arg-type]
    world.store.release(seen.parent)


async def seen_of(world: World, names: Names) -> Seen:
    seen = await world.store.beginning(world.project, beginnings(names))
    assert seen is not None
    return seen


class ReplayContract:
    async def test_the_longest_beginning_is_found(self, store: Store, world: World) -> None:
        one = await say(world, "one")
        two = await say(world, "two", one, "one")

        seen = await seen_of(world, [*two, "three?"])

        assert (seen.which, seen.ids) == (1, ["one?", "one!", "two?", "two!"])
        await go_on(world, "three", seen)
        assert await world.seen("three") == [*two, "three?", "three!"]
        assert await world.inputs("three") == [*two, "three?"]
        assert [await found(world, names) for names in (two, two[:3], one, one[:1], ["x?"])] == [4, 3, 2, 1, 0]

    async def test_an_input_is_found_without_what_was_said_to_it(self, store: Store, world: World) -> None:
        one = await say(world, "one")

        seen = await seen_of(world, ["one?", "other!", "two?"])
        await go_on(world, "two", seen, input=items("other!", "two?"))

        assert await world.seen("two") == ["one?", "other!", "two?", "two!"]
        assert await world.seen("one") == one
        again = await seen_of(world, ["one?"])
        await go_on(world, "again", again, input=[])
        assert await world.seen("again") == ["one?", "again!"]

    async def test_a_context_tells_its_hash(self, store: Store, world: World) -> None:
        one = await say(world, "one")
        await world.say(turn="none")

        contexts = [await store.context("p", name) for name in ("one", "none")]

        assert [context.hash for context in contexts] == [hash_of(one), None]
        for context in contexts:
            world.release(context)

    @pytest.mark.parametrize("status", ["failed", "cancelled", "queued", "in_progress"])
    async def test_what_cannot_be_continued_is_not_found(self, store: Store, world: World, status: str) -> None:
        one = await say(world, "one", status=status)

        assert await found(world, one) == 0

    async def test_neither_what_was_not_to_be_stored(self, store: Store, world: World) -> None:
        hashes = {"input_hash": hash_of(["run?"]), "full_hash": hash_of(["run?", "run!"])}
        await world.finish(await world.begin(turn="run", stored=False, **hashes), **hashes)
        other = await world.begin(turn="kept", input_hash=hash_of(["kept?"]))
        assert await found(world, ["kept?", "kept!"]) == 0
        await world.finish(other, full_hash=hash_of(["kept?", "kept!"]))

        assert await found(world, ["run?", "run!"]) == 0
        assert await found(world, ["kept?", "kept!"]) == 2
        assert await found(world, ["kept?", "other!"]) == 1

    async def test_nor_what_belongs_to_another_project(self, store: Store, world: World) -> None:
        one = await say(world, "one")

        assert await found(World(store, "q"), one) == 0
        assert await found(World(store, "q\x00"), one) == 0

    async def test_nor_what_is_deleted_or_expired(self, store: Store, world: World) -> None:
        one = await say(world, "one", expires_at=5)
        two = await say(world, "two", one, "one")
        other = await say(world, "other")

        assert await store.expire(5) == 1
        assert await store.delete("p", "other")

        assert [await found(world, names) for names in (one, two[:3], two, other)] == [0, 3, 4, 0]
        assert await store.delete("p", "two")
        assert await found(world, two) == 0

    async def test_what_was_found_outlives_its_response(self, store: Store, world: World) -> None:
        one = await say(world, "one")
        two = await say(world, "two", one, "one")
        seen = await seen_of(world, two[:3])
        cut = await seen_of(world, one)

        assert await store.delete("p", "two")
        assert await store.delete("p", "one")

        assert await world.alive([*two, "three?"]) == set(two[:3])
        await go_on(world, "three", seen)
        store.release(cut.parent)
        assert await world.seen("three") == [*two[:3], "three?", "three!"]
        assert await store.delete("p", "three")
        assert await world.alive([*two, "three?", "three!"]) == set()

    async def test_what_was_found_and_given_up_leaves_nothing(self, store: Store, world: World) -> None:
        one = await say(world, "one")
        seen = await seen_of(world, one[:1])
        assert await store.delete("p", "one")
        assert await world.alive(one) == {"one?"}

        store.release(seen.parent)
        await store.append([])
        await world.say(turn="later")

        assert await world.alive(one) == set()

    async def test_shared_items_go_with_the_last_that_needs_them(self, store: Store, world: World) -> None:
        one = await say(world, "one")
        for turn in ("two", "three"):
            await go_on(world, turn, await seen_of(world, one))
        everything = [*one, "two?", "two!", "three?", "three!"]

        alive = []
        for turn in ("one", "two", "three"):
            assert await store.delete("p", turn)
            alive.append(len(await world.alive(everything)))

        assert alive == [6, 4, 0]

    async def test_of_the_same_context_the_one_with_the_ids_that_are_asked_for(
        self, store: Store, world: World
    ) -> None:
        """Two clients said and heard the same; each goes on from what it was told."""
        for turn in ("a", "b"):
            hashes = {"input_hash": hash_of(["x?"]), "full_hash": hash_of(["x?", "x!"])}
            given = {"input": [item(f"{turn}?", "x?")], "output": [item(f"{turn}!", "x!")]}
            await world.say(turn=turn, **given, **hashes)
        context = [Beginning(hash_of(["x?", "x!"]), given, 1) for given in ("a!", "b!", "c!", None)]

        found = [await store.beginning("p", [one]) for one in context]

        assert [seen and seen.ids for seen in found] == [["a?", "a!"], ["b?", "b!"], None, ["b?", "b!"]]
        for seen in found:
            if seen is not None:
                store.release(seen.parent)

    async def test_over_many_forks(self, stores: Stores) -> None:
        store = stores.open(segments_max=3)
        world = World(store)
        names: list[str] = []
        for number in range(8):
            asked = [*names, f"{number}?"]
            seen = await store.beginning("p", beginnings(names)) if names else None
            assert seen is None if not names else seen is not None and seen.ids == names
            given = {"input": items(asked[-1]), "output": items(f"{number}!")}
            hashes = {"input_hash": hash_of(asked), "full_hash": hash_of([*asked, f"{number}!"])}
            if seen is None:
                await world.say(turn=str(number), **given, **hashes)
            else:
                await go_on(world, str(number), seen, **given, **hashes)
            names = asked  # what the model said is not sent again: each turn forks
        assert await world.inputs("7") == names
        await store.close()

    async def test_finding_what_is_being_deleted_gives_all_of_it_or_nothing(self, store: Store, world: World) -> None:
        asked = []
        for number in range(20):
            one = await say(world, f"a{number}")
            asked.append(await say(world, f"b{number}", one, f"a{number}"))

        found, *_ = await asyncio.gather(
            asyncio.gather(*(store.beginning("p", beginnings(names)) for names in asked)),
            *(store.delete("p", f"b{number}") for number in range(20)),
            *(store.delete("p", f"a{number}") for number in range(20)),
        )

        for number, (seen, names) in enumerate(zip(found, asked, strict=True)):
            if seen is not None and seen.ids == names[: len(names) - seen.which]:  # else it was too late
                await go_on(world, f"c{number}", seen)
                assert await world.seen(f"c{number}") == [*seen.ids, f"c{number}?", f"c{number}!"]
            elif seen is not None:
                store.release(seen.parent)

    async def test_what_was_found_is_found_after_a_restart(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with its process, as it says")
        store = stores.open()
        one = await say(World(store), "one")
        await store.close()

        store = stores.open()
        assert await found(World(store), one) == 2
        await store.close()
