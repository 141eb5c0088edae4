"""The contract of owners: who may write to a background run, and what whoever may not is told.

Invariants: docs/log.md.  The property test compares a store with ``RunModel`` while many owners write at once.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from tests.stores.world import CALL, World, batch, items, record

from antiphon.engine.ports.stores import FIRST_FENCE, Claim, Disowned, RunName, Store
from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult

RESULT = ToolResult({}, "It is so.")


class OwnerContract:
    async def test_a_claim_refuses_everybody_before_it(self, store: Store, world: World) -> None:
        """I2: appends, ends and notes of the old owner change nothing; those of the new one count."""
        begun = await world.begin(turn="run")
        assert await world.append("run", 0, 1)
        await store.journal_begin("p", "run", FIRST_FENCE, CALL)

        claim = await store.claim("p", "run")
        assert claim == Claim(FIRST_FENCE + 1, 1, 1)
        assert not await world.append("run", 2)
        assert not await world.append("run", 0, 1)  # not even what is durable already: it is to stop
        assert not await world.append("run", 7)  # a gap is the least of its worries
        assert not await world.append("run")
        assert not await world.finish(begun, "failed", 2)
        for call in (CALL, CALL._replace(item_id="ws_2")):
            with pytest.raises(Disowned):
                await store.journal_begin("p", "run", FIRST_FENCE, call)
        with pytest.raises(Disowned):
            await store.journal_complete("p", "run", FIRST_FENCE, CALL, RESULT)
        await store.hand_back([(RunName("p", "run"), FIRST_FENCE)])

        assert await store.journal("p", "run") == [Noted(CALL, None)]
        assert await world.append("run", 2, fence=claim.fence)
        await store.journal_complete("p", "run", claim.fence, CALL, RESULT)
        assert await world.finish(begun, first_number=3, fence=claim.fence)
        assert await world.numbers("run") == [0, 1, 2, 3]
        assert await store.journal("p", "run") == [Noted(CALL, RESULT)]
        assert await world.outputs("run") == ["run!"]

    async def test_runs_that_have_an_owner_are_counted(self, store: Store, world: World) -> None:
        """Of one project; those that were handed back, or have ended, have none."""
        begun = [await world.begin(turn=f"run {number}") for number in range(4)]
        await World(store, "other").begin(turn="another's")
        await store.hand_back([(RunName("p", "run 1"), FIRST_FENCE), (RunName("p", "run 2"), FIRST_FENCE)])
        await store.claim("p", "run 2")
        assert await world.finish(begun[3])

        assert await store.working("p") == 2
        assert await store.working("other") == 1
        assert await store.working("nobody's") == 0

    async def test_nobody_writes_with_a_fence_that_is_not_given_yet(self, store: Store, world: World) -> None:
        begun = await world.begin(turn="run")

        assert not await world.append("run", 0, fence=FIRST_FENCE + 1)
        assert not await world.append("run", 0, fence=0)
        assert not await world.finish(begun, fence=FIRST_FENCE + 1)
        with pytest.raises(Disowned):
            await store.journal_begin("p", "run", FIRST_FENCE + 1, CALL)
        assert await world.append("run", 0)

    async def test_owners_of_different_fences_write_in_one_call(self, store: Store, world: World) -> None:
        for turn in ("old", "new"):
            await world.begin(turn=turn)
        claim = await store.claim("p", "new")
        assert claim is not None

        batches = [batch("new", 0), batch("new", 0, fence=claim.fence), batch("old", 0), batch("old", 1, fence=2)]
        assert await store.append([*batches, batch("new", 1, fence=claim.fence), batch("old", 1)]) == [
            False, True, True, False, True, True,
        ]  # fmt: skip

        assert await world.numbers("new") == await world.numbers("old") == [0, 1]

    async def test_attempts_are_counted_since_the_log_grew(self, store: Store, world: World) -> None:
        """I10: takeovers without a new event add up, one event makes the next takeover the first again."""
        begun = await world.begin(turn="run")
        claim = Claim(0, 0, 0)

        async def attempt() -> int:
            nonlocal claim
            found = await store.claim("p", "run")
            assert found is not None
            claim = found
            return claim.attempt

        assert [await attempt() for _ in range(4)] == [1, 2, 3, 4]
        assert claim == Claim(FIRST_FENCE + 4, -1, 4)
        assert await world.append("run", 0, 1, fence=claim.fence)
        assert [await attempt() for _ in range(2)] == [1, 2]
        assert claim == Claim(FIRST_FENCE + 6, 1, 2)
        assert await world.append("run", 1, fence=claim.fence)  # repeated: nothing grew
        assert await attempt() == 3
        assert await world.append("run", 1, 2, fence=claim.fence)  # overlapping: it grew
        assert await attempt() == 1
        assert await world.finish(begun, first_number=3, fence=claim.fence)

    async def test_handing_back_is_no_takeover(self, store: Store, world: World) -> None:
        """I10: and it forgets those before it."""
        await world.begin(turn="run")
        await world.begin(turn="other")

        async def claim(name: str = "run") -> Claim:
            found = await store.claim("p", name)
            assert found is not None
            return found

        name = RunName("p", "run")
        await store.hand_back([(name, FIRST_FENCE)])
        assert await claim() == Claim(2, -1, 0)
        assert (await claim()).attempt == 1
        mine = await claim()
        assert mine.attempt == 2
        await store.hand_back([(name, mine.fence - 1), (RunName("p", "nowhere"), 1)])  # not the owner's
        mine = await claim()
        assert mine.attempt == 3
        await store.hand_back([(name, mine.fence), (RunName("p", "other"), FIRST_FENCE)])
        await store.hand_back([(name, mine.fence)])
        assert await world.append("run", 0, fence=mine.fence)  # what was on its way still counts
        mine = await claim()
        assert (mine.attempt, mine.last) == (0, 0)
        assert (await claim("other")).attempt == 0
        assert [(await claim()).attempt for _ in range(2)] == [1, 2]
        await store.hand_back([])

    async def test_handing_back_many(self, store: Store, world: World) -> None:
        names = [f"r{index}" for index in range(30)]
        for name in names:
            await world.begin(turn=name)
        fences = [FIRST_FENCE if index % 3 else FIRST_FENCE + 1 for index in range(30)]

        await store.hand_back([(RunName("p", name), fence) for name, fence in zip(names, fences, strict=True)])

        claims = await asyncio.gather(*(store.claim("p", name) for name in names))
        assert [claim and claim.attempt for claim in claims] == [0 if index % 3 else 1 for index in range(30)]

    async def test_what_has_ended_or_is_gone_cannot_be_claimed(self, store: Store, world: World) -> None:
        ended = await world.begin(turn="ended")
        await world.begin(turn="gone")
        assert await world.finish(ended, "cancelled")
        assert await store.delete("p", "gone")

        for name in ("ended", "gone", "nowhere"):
            assert await store.claim("p", name) is None
            await store.hand_back([(RunName("p", name), FIRST_FENCE)])

        assert await world.finish(ended, "cancelled")  # asking for it took nothing from its owner

    async def test_an_end_is_repeated_by_its_owner_alone(self, store: Store, world: World) -> None:
        """I6: an owner that has not heard that it was done asks again; one that was robbed is told so."""
        begun = await world.begin(turn="run")
        claims = [await store.claim("p", "run") for _ in range(2)]
        older, owner = [claim.fence for claim in claims if claim is not None]

        assert await world.finish(begun, fence=owner)
        for _ in range(2):
            assert await world.finish(begun, fence=owner)
            assert not await world.finish(begun, "failed", 1, fence=older)
            assert not await world.finish(begun, "failed", 1, fence=FIRST_FENCE)
            assert not await world.finish(begun, "failed", 1, fence=owner + 1)

        assert await world.numbers("run") == [0]
        stored = await store.read("p", "run")
        assert stored is not None
        assert stored.outcome.status == "completed"

    async def test_many_claim_at_once_and_one_of_them_owns(self, store: Store, world: World) -> None:
        begun = await world.begin(turn="run")

        claims = await asyncio.gather(*(store.claim("p", "run") for _ in range(10)))

        fences = [claim.fence for claim in claims if claim is not None]
        assert sorted(fences) == list(range(2, 12))
        assert sorted(claim.attempt for claim in claims if claim is not None) == list(range(1, 11))
        ends = await asyncio.gather(*(world.finish(begun, fence=fence, output=items(f"{fence}!")) for fence in fences))
        assert [fence for fence, ended in zip(fences, ends, strict=True) if ended] == [11]
        assert await world.outputs("run") == ["11!"]
        assert await world.numbers("run") == [0]

    async def test_a_deleted_run_is_nobodys(self, store: Store, world: World) -> None:
        begun = await world.begin(turn="run")
        claim = await store.claim("p", "run")
        assert claim is not None
        assert await world.append("run", 0, fence=claim.fence)

        assert await store.delete("p", "run")

        assert not await world.append("run", 1, fence=claim.fence)
        assert not await world.finish(begun, first_number=1, fence=claim.fence)
        with pytest.raises(Disowned):
            await store.journal_begin("p", "run", claim.fence, CALL)
        await world.begin(turn="run")  # the same name again is another run
        assert not await world.append("run", 0, fence=claim.fence)
        assert await world.numbers("run") == []
        assert await store.claim("p", "run") == Claim(2, -1, 1)

    @pytest.mark.parametrize("seed", range(4))
    async def test_owners_at_once_agree_with_the_model(self, store: Store, world: World, seed: int) -> None:
        """Whatever is asked for at once has the results of some order, and the log is that of the same order."""
        chance = random.Random(seed)
        race = Race(world, chance)
        for _ in range(60):
            await race.burst()
        assert race.refused > 40
        assert race.written > 40


# --- A model of one run, and many owners that write to many runs at once ---


class Step(NamedTuple):
    """Something that is asked of a run; ``numbers`` are those of its events."""

    kind: str
    fence: int = 0
    numbers: tuple[int, ...] = ()
    call: str = ""


class RunModel:
    """What a run must be, in plain Python."""

    def __init__(self) -> None:
        self.fence, self.last, self.attempt, self.progress = FIRST_FENCE, -1, 0, -1
        self.handed_back = self.ended = self.gone = False
        self.calls: dict[str, bool] = {}

    def do(self, step: Step) -> Any:
        """What the store has to answer; changes the model as the store has to change."""
        return getattr(self, f"_{step.kind}")(step)

    @property
    def key(self) -> tuple[Any, ...]:
        state = {**vars(self), "calls": tuple(self.calls.items())}
        return tuple(state.values())

    def _owned(self, step: Step) -> bool:
        return not self.gone and not self.ended and step.fence == self.fence

    def _append(self, step: Step) -> Any:
        if not self._owned(step):
            return False
        if step.numbers and step.numbers[0] > self.last + 1:
            return ValueError
        self.last = max(self.last, *step.numbers, -1)
        return True

    def _finish(self, step: Step) -> Any:
        if self.ended and not self.gone and step.fence == self.fence:
            return True
        written = self._append(step)
        self.ended = self.ended or written is True
        return written

    def _claim(self, step: Step) -> Any:
        if self.gone or self.ended:
            return None
        self.fence += 1
        self.attempt = 0 if self.handed_back else 1 if self.last > self.progress else self.attempt + 1
        self.handed_back, self.progress = False, self.last
        return Claim(self.fence, self.last, self.attempt)

    def _hand_back(self, step: Step) -> None:
        self.handed_back = self.handed_back or self._owned(step)

    def _intent(self, step: Step) -> Any:
        if not self._owned(step):
            return Disowned
        self.calls.setdefault(step.call, False)
        return None

    def _result(self, step: Step) -> Any:
        if not self._owned(step):
            return Disowned
        if step.call in self.calls:
            self.calls[step.call] = True
        return None

    def _delete(self, step: Step) -> bool:
        was, self.gone = not self.gone, True
        return was


class Race:
    """Bursts of steps of owners old and new on a few runs; each run has all the models that explain what was seen."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._runs: dict[str, list[RunModel]] = {}
        self.refused = self.written = 0

    async def burst(self) -> None:
        """One to four steps on each of up to four runs, all at once."""
        while sum(not models[0].ended and not models[0].gone for models in self._runs.values()) < 4:
            name = f"r{len(self._runs)}"
            await self._world.begin(turn=name)
            self._runs[name] = [RunModel()]
        names = self._chance.sample(list(self._runs)[-6:], 4)
        asked = [
            (name, self._step(self._runs[name][0])) for name in names for _ in range(self._chance.choice([1, 2, 4]))
        ]
        self._chance.shuffle(asked)
        answers = await asyncio.gather(*(self._ask(name, step) for name, step in asked))
        for name in names:
            mine = [(step, answer) for (named, step), answer in zip(asked, answers, strict=True) if named == name]
            self._runs[name] = self._explained(self._runs[name], mine)
            assert self._runs[name], (name, mine)
            await self._check(name)
        self.refused += sum(answer in (False, Disowned, ValueError) for answer in answers)
        self.written += sum(answer is True for answer in answers)

    def _step(self, model: RunModel) -> Step:
        chance = self._chance
        weights = {"append": 10, "finish": 1, "claim": 3, "hand_back": 2, "intent": 3, "result": 3, "delete": 0.3}
        [kind] = chance.choices(list(weights), list(weights.values()))
        fence = model.fence + chance.choice([0, 0, 0, 0, -1, 1])
        first = max(0, model.last + 1 + chance.choice([0, 0, 0, 1, -1, -2]))
        length = chance.choice([0, 1, 1, 2, 3]) if kind == "append" else 1
        return Step(kind, fence, tuple(range(first, first + length)), f"ws_{chance.randrange(3)}")

    async def _ask(self, name: str, step: Step) -> Any:
        store, call = self._world.store, ToolCall(step.call, "web_search", "{}")
        try:
            match step.kind:
                case "append":
                    return await self._world.append(name, *step.numbers, fence=step.fence)
                case "finish":
                    return await self._world.finish(record(name), first_number=step.numbers[0], fence=step.fence)
                case "claim":
                    return await store.claim("p", name)
                case "hand_back":
                    return await store.hand_back([(RunName("p", name), step.fence)])
                case "intent":
                    return await store.journal_begin("p", name, step.fence, call)
                case "result":
                    return await store.journal_complete("p", name, step.fence, call, RESULT)
            return await store.delete("p", name)
        except (Disowned, ValueError) as error:
            return type(error)

    def _explained(self, models: Sequence[RunModel], seen: Sequence[tuple[Step, Any]]) -> list[RunModel]:
        """The models after every order of the steps that has these answers."""
        found: dict[Any, RunModel] = {}
        for model, order in itertools.product(models, itertools.permutations(seen)):
            after = copy.deepcopy(model)
            if all(after.do(step) == answer for step, answer in order):
                found.setdefault(after.key, after)
        return list(found.values())

    async def _check(self, name: str) -> None:
        """What can be read belongs to one of the models; the others were not so."""
        store = self._world.store
        numbers = await self._world.numbers(name)
        noted = {one.call.item_id: one.result is not None for one in await store.journal("p", name)}
        unfinished = RunName("p", name) in await store.unfinished()
        self._runs[name] = [model for model in self._runs[name] if (
            numbers == ([] if model.gone else list(range(model.last + 1)))
            and list(noted.items()) == ([] if model.gone else list(model.calls.items()))
            and unfinished == (not model.gone and not model.ended)
        )]  # fmt: skip
        assert self._runs[name], (name, numbers, noted, unfinished)
