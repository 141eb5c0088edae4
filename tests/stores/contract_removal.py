"""The contract of deletion and expiry: what is needed stays whole, what is not needed is gone.

The property test compares a store with ``world.Model`` after each step of a random life.
"""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from tests.stores.world import CALL, Model, Stores, World, item, items, record

from antiphon.engine.ports.stores import FIRST_FENCE, Context, Record, Store
from antiphon.protocol.errors import ApiError

TOOLS = b"[" + b"1," * 400 + b"1]"


class RemovalContract:
    async def test_a_deleted_response_is_gone_and_its_descendants_go_on(self, store: Store, world: World) -> None:
        await world.say(turn="one")
        await world.say("one", turn="two")
        await world.say("two", turn="three")

        assert await store.delete("p", "two")

        assert await store.read("p", "two") is None
        assert await world.inputs("two") is None
        assert (await world.refusal(store.context("p", "two"))).code == "previous_response_not_found"
        assert not await store.delete("p", "two")
        assert await world.seen("three") == ["one?", "one!", "two?", "two!", "three?", "three!"]
        assert await world.inputs("three") == ["one?", "one!", "two?", "two!", "three?"]
        assert await world.alive(["two?", "two!"]) == {"two?", "two!"}

    async def test_items_go_with_the_last_that_needs_them(self, store: Store, world: World) -> None:
        for previous, turn in ((None, "a"), ("a", "b"), ("b", "c"), ("b", "d")):
            await world.say(previous, turn=turn)
        names = [f"{turn}{mark}" for turn in "abcd" for mark in "?!"]

        remaining = []
        for turn in "bacd":
            assert await store.delete("p", turn)
            remaining.append("".join(sorted({name[0] for name in await world.alive(names)})))

        assert remaining == ["abcd", "abcd", "abd", ""]

    @pytest.mark.parametrize("order", list(itertools.permutations("abcx"))[::3])
    async def test_any_order_of_deleting_leaves_nothing(
        self, store: Store, world: World, order: tuple[str, ...]
    ) -> None:
        model = Model()
        for previous, turn in ((None, "a"), ("a", "b"), ("b", "c"), ("a", "x")):
            await world.say(previous, turn=turn)
            model.add(turn, previous, [f"{turn}?"], [f"{turn}!"], "completed")
        for turn in order:
            assert await store.delete("p", turn)
            model.alive.discard(turn)
            await agrees(world, model)
        assert await world.alive(model.everything()) == set()

    async def test_deleting_at_once_what_hangs_together(self, store: Store, world: World) -> None:
        turns = [str(number) for number in range(30)]
        for number in range(30):
            await world.say(str(number // 2 - 1) if number > 1 else None, turn=str(number))

        gone = await asyncio.gather(*(store.delete("p", turn) for turn in [*turns, *turns]))

        assert gone == [True] * 30 + [False] * 30
        assert await world.alive(f"{turn}?" for turn in turns) == set()

    async def test_deletes_and_saves_at_once(self, store: Store, world: World) -> None:
        for number in range(10):
            await world.say(turn=f"old{number}")
            await world.say(f"old{number}", turn=f"mid{number}")
        contexts = [await world.pin(f"mid{number}") for number in range(10)]
        news = [
            record(f"new{number}", parent=context.parent, input=items(f"new{number}?"))
            for number, context in enumerate(contexts)
        ]

        await asyncio.gather(
            *(store.delete("p", f"old{number}") for number in range(10)),
            *map(store.save, news),
            *(store.delete("p", f"mid{number}") for number in range(0, 10, 2)),
        )
        for context in contexts:
            world.release(context)

        for n in range(10):
            mine = [f"{turn}{n}{mark}" for turn in ("old", "mid") for mark in "?!"]
            assert await world.seen(f"new{n}") == [*mine, f"new{n}?"]

    async def test_asking_for_what_is_being_deleted_gives_all_of_it_or_nothing(
        self, store: Store, world: World
    ) -> None:
        for number in range(20):
            await world.say(turn=f"r{number}", input=items(*(f"{number}.{n}" for n in range(20))), output=[])

        async def ask(number: int) -> int:
            try:
                context = await store.context("p", f"r{number}")
            except ApiError as error:
                return 0 if error.code == "previous_response_not_found" else -1
            await store.save(record(f"after{number}", parent=context.parent, input=items(f"after{number}?")))
            world.release(context)
            assert len(await world.seen(f"after{number}")) == 21
            return len(context.bodies)

        asked = [task for n in range(20) for task in (store.delete("p", f"r{n}"), ask(n))]
        results = await asyncio.gather(*asked)

        assert set(results[1::2]) <= {0, 20}

    async def test_a_pinned_context_outlives_its_response(self, store: Store, world: World) -> None:
        await world.say(turn="one")
        await world.say("one", turn="two")
        context = await world.pin("two")
        assert await store.delete("p", "two")
        assert await store.delete("p", "one")
        assert await world.alive(["one?", "two!"]) == {"one?", "two!"}

        await store.save(record("three", parent=context.parent, input=items("three?")))
        world.release(context)

        assert await world.seen("three") == ["one?", "one!", "two?", "two!", "three?"]
        assert await store.delete("p", "three")
        assert await world.alive(["one?", "two!", "three?"]) == set()

    async def test_a_pin_given_up_leaves_nothing_behind(self, store: Store, world: World) -> None:
        await world.say(turn="one")
        await world.say("one", turn="two")
        first, second, third = [await world.pin(turn) for turn in ("two", "two", "one")]
        assert await store.delete("p", "one")
        assert await store.delete("p", "two")

        world.release(first)
        await settled(store)
        assert await world.alive(["one?", "two?"]) == {"one?", "two?"}
        world.release(second)
        await settled(store)
        assert await world.alive(["one?", "two?"]) == {"one?"}
        world.release(third)
        await settled(store)
        assert await world.alive(["one?", "two?"]) == set()

    async def test_a_pin_on_a_fork_keeps_the_line_below_it(self, store: Store, world: World) -> None:
        await world.say(turn="one")
        await world.say("one", turn="taken")
        await world.say("one", turn="fork")
        context = await world.pin("fork")
        for turn in ("one", "taken", "fork"):
            assert await store.delete("p", turn)
        assert await world.alive(["one?", "taken?", "fork?"]) == {"one?", "fork?"}

        await store.begin(record("run", parent=context.parent, input=items("run?"), status="queued"))
        world.release(context)
        assert await world.inputs("run") == ["one?", "one!", "fork?", "fork!", "run?"]
        assert await store.delete("p", "run")
        assert await world.alive(["one?", "fork?", "run?"]) == set()

    async def test_what_takes_the_place_of_what_was_deleted_is_not_mixed_up_with_it(
        self, store: Store, world: World
    ) -> None:
        await world.say(turn="one")
        context = await world.pin("one")
        await world.say("one", turn="two")
        assert await store.delete("p", "two")
        await store.save(record("other", parent=context.parent, input=items("other?")))
        world.release(context)
        await world.say("one", turn="more")

        assert await world.seen("other") == ["one?", "one!", "other?"]
        assert await world.seen("more") == ["one?", "one!", "more?", "more!"]

    async def test_large_parts_live_until_their_last_use(self, store: Store, world: World) -> None:
        for turn in "abc":
            await world.say(turn=turn, large={"tools": TOOLS, "text": TOOLS if turn == "c" else b"{}"})

        for turn in "abc":
            assert await store.delete("p", turn)
            for other in "abc"[1 + "abc".index(turn) :]:
                stored = await store.read("p", other)
                assert stored is not None
                assert stored.shell.large["tools"] == TOOLS
        await world.say(turn="d", large={"tools": TOOLS})
        stored = await store.read("p", "d")
        assert stored is not None
        assert stored.shell.large["tools"] == TOOLS

    async def test_large_parts_of_a_write_that_failed_do_not_count(self, store: Store, world: World) -> None:
        await world.say(turn="taken")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await store.save(record("taken", large={"tools": TOOLS}))
        await world.say(turn="a", large={"tools": TOOLS})
        assert await store.delete("p", "taken")

        stored = await store.read("p", "a")
        assert stored is not None
        assert stored.shell.large["tools"] == TOOLS

    async def test_large_parts_of_many_at_once(self, store: Store) -> None:
        parts = [b'"' + bytes([65 + number % 7]) * 1000 + b'"' for number in range(60)]
        await asyncio.gather(*(store.save(record(f"r{n}", large={"tools": part})) for n, part in enumerate(parts)))
        await asyncio.gather(*(store.delete("p", f"r{number}") for number in range(0, 60, 2)))

        for number in range(1, 60, 2):
            stored = await store.read("p", f"r{number}")
            assert stored is not None
            assert stored.shell.large["tools"] == parts[number]

    async def test_a_deleted_run_takes_its_events_with_it(self, store: Store, world: World) -> None:
        begun = await world.begin(turn="run")
        assert await world.append("run", 0)
        await store.journal_begin("p", "run", FIRST_FENCE, CALL)
        assert await world.finish(begun, first_number=1)

        assert await store.delete("p", "run")

        assert await world.numbers("run") == []
        assert await store.journal("p", "run") == []
        assert await world.alive(["run?", "run!"]) == set()

    async def test_expiry_removes_what_is_past_its_time(self, store: Store, world: World) -> None:
        await world.say(turn="one", expires_at=100)
        await world.say("one", turn="two", expires_at=200)
        await world.say("two", turn="ever")
        running = await world.begin(turn="running")

        assert [await store.expire(now) for now in (99, 100, 100, 250)] == [0, 1, 0, 1]

        assert await store.read("p", "one") is None
        assert await world.seen("ever") == ["one?", "one!", "two?", "two!", "ever?", "ever!"]
        assert await world.finish(running, expires_at=300)
        assert await store.expire(300) == 1

    async def test_expiry_comes_in_batches(self, store: Store, world: World) -> None:
        records = [record(f"r{number}", input=items(f"{number}?"), expires_at=1) for number in range(450)]
        await asyncio.gather(*map(store.save, records))
        await world.say(turn="stays")

        assert await store.expire(1) == 450

        assert await world.alive([*(f"{number}?" for number in range(450)), "stays?"]) == {"stays?"}

    async def test_expiry_spans_projects_and_spares_what_is_pinned(self, store: Store, world: World) -> None:
        other = World(store, "q")
        await world.say(turn="one", expires_at=1)
        await other.say(turn="one", expires_at=1)
        context = await world.pin("one")

        assert await store.expire(1) == 2

        assert await world.alive(["one?"]) == {"one?"}
        assert await other.alive(["one?"]) == set()
        world.release(context)
        await settled(store)
        assert await world.alive(["one?"]) == set()

    async def test_a_random_life_agrees_with_the_model(self, stores: Stores) -> None:
        store = stores.open(segments_max=4)
        life = Life(World(store), random.Random(1))
        for _ in range(130):
            await life.step()
            await agrees(life.world, life.model)
        await life.end()
        assert await life.world.alive(life.model.everything()) == set()
        await store.close()


async def settled(store: Store) -> None:
    """A release is queued; what is written after it comes after it."""
    await store.append([])


async def agrees(world: World, model: Model) -> None:
    """The store shows exactly what the model says."""
    for response in model.parents:
        if response not in model.alive:
            assert await world.inputs(response) is None
            continue
        assert await world.inputs(response) == model.before(response), response
        assert await world.outputs(response) == model.outputs[response], response
    for response in model.continuable():
        assert await world.seen(response) == model.context(response), response
    assert await world.alive(model.everything()) == model.needed()


class Life:
    """Random turns, races, failures, background runs, pins, deletions and expiries."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.model = Model()
        self._chance = chance
        self._pins: list[tuple[str, Context]] = []
        self._runs: list[Record] = []

    async def step(self) -> None:
        """One thing happens; late in life more is deleted than said."""
        aging = len(self.model.parents) > 50
        weights = [6, 3, 2, 3, 2, 3, 8 if aging else 3, 1]
        steps = [self._turn, self._race, self._begin, self._finish, self._pin, self._unpin, self._delete, self._expire]
        await self._chance.choices(steps, weights)[0]()

    def _previous(self) -> str | None:
        known = self.model.continuable()
        return self._chance.choice(known[-6:]) if known and self._chance.random() < 0.9 else None

    def _new(self, context: Context, status: str) -> Record:
        response = self.world.name()
        inputs = [f"{response}?{number}" for number in range(self._chance.choice([0, 1, 1, 2, 5]))]
        outputs = [f"{response}!{number}" for number in range(self._chance.choice([0, 1, 1, 3]))]
        if status == "queued":
            outputs = []
        large = {"tools": b"[%b]" % (b"%d" % self._chance.randrange(3) * 300)}
        return record(
            response, parent=context.parent, input=items(*inputs), output=items(*outputs), status=status, large=large
        )

    def _note(self, new: Record, previous: str | None) -> None:
        inputs, outputs = [one.id for one in new.input], [one.id for one in new.output]
        self.model.add(new.shell.id, previous, inputs, outputs, new.outcome.status)

    async def _turn(self) -> None:
        previous = self._previous()
        context = await self.world.pin(previous)
        status = self._chance.choice(["completed", "completed", "completed", "incomplete", "failed"])
        new = self._new(context, status)
        await self.world.store.save(new)
        self.world.release(context)
        self._note(new, previous)

    async def _race(self) -> None:
        previous = self._previous()
        contexts = [await self.world.pin(previous) for _ in range(3)]
        news = [self._new(context, "completed") for context in contexts]
        await asyncio.gather(*map(self.world.store.save, news))
        for context, new in zip(contexts, news, strict=True):
            self.world.release(context)
            self._note(new, previous)

    async def _begin(self) -> None:
        previous = self._previous()
        context = await self.world.pin(previous)
        new = self._new(context, "queued")
        await self.world.store.begin(new)
        self.world.release(context)
        self._note(new, previous)
        self._runs.append(new)

    async def _finish(self) -> None:
        if self._runs:
            begun = self._runs.pop(self._chance.randrange(len(self._runs)))
            response, status = begun.shell.id, self._chance.choice(["completed", "failed", "cancelled"])
            ended = await self.world.finish(begun, status)
            assert ended == (response in self.model.alive)
            if ended:
                self.model.outputs[response] = [f"{response}!"]
                self.model.statuses[response] = status

    async def _pin(self) -> None:
        previous = self._previous()
        if previous is not None and len(self._pins) < 4:
            self._pins.append((previous, await self.world.pin(previous)))
            self.model.pinned.append(previous)

    async def _unpin(self) -> None:
        """A pinned context is continued or given up, whatever became of its response."""
        if not self._pins:
            return
        previous, context = self._pins.pop(self._chance.randrange(len(self._pins)))
        if self._chance.random() < 0.6:
            new = self._new(context, "completed")
            await self.world.store.save(new)
            self._note(new, previous)
        self.world.release(context)
        self.model.pinned.remove(previous)
        await settled(self.world.store)

    async def _delete(self) -> None:
        doomed = self._chance.sample(
            sorted(self.model.alive), min(len(self.model.alive), self._chance.choice([1, 1, 4]))
        )
        gone = await asyncio.gather(*(self.world.store.delete("p", response) for response in doomed))
        assert all(gone)
        self.model.alive -= set(doomed)

    async def _expire(self) -> None:
        await self.world.say(turn=(response := self.world.name()), expires_at=1, input=[item(f"{response}?")])
        self.model.add(response, None, [f"{response}?"], [f"{response}!"], "completed")
        assert await self.world.store.expire(1) == 1
        self.model.alive.discard(response)

    async def end(self) -> None:
        """Everything is let go of and deleted, in a random order."""
        while self._pins:
            await self._unpin()
        doomed = sorted(self.model.alive)
        self._chance.shuffle(doomed)
        for response in doomed:
            assert await self.world.store.delete("p", response)
            self.model.alive.discard(response)
