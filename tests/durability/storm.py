"""Kills, one after another, while many runs are under way: at random moments and at every named point of the store.

Used by the tests for a minute and by `scripts/soak_durability.py` for as long as one likes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator

from tests.durability.following import How
from tests.durability.judging import Verdict
from tests.durability.plans import ASK, LOOKUP, PAY, Answer, Call, Say, Step, Think
from tests.durability.processes import Child
from tests.durability.world import World, percentile

#: Runs that are under way at each kill.
LIVE = 20
#: At the least so many are new in a round, so that beginnings are killed as well.
FRESH = 3
#: How long a point may stay unreached before the server is killed from outside.
POINT_SECONDS = 8.0
#: The longest wait for a random moment.
MOMENT_SECONDS = 0.3

#: Where the server kills itself, and at which time at the latest.
POINTS: list[tuple[str, int]] = [
    ("before begin", 3),
    ("after begin", 3),
    ("after claim", 12),
    ("after begun", 12),
    ("before append", 6),
    ("after append", 12),
    ("after append", 3),
    ("before journal_begin", 2),
    ("after journal_begin", 2),
    ("before journal_complete", 2),
    ("after journal_complete", 2),
    ("before finish", 2),
    ("after finish", 2),
    ("before compact", 3),
    ("after compact", 2),
]

MIXTURE: list[list[Step]] = [
    [Say(60)],
    [Say(160)],
    [Think(20), Say(60)],
    [Say(15), Call(LOOKUP), Say(40), Call(PAY), Say(15)],
    [Call(PAY), Say(30), Call(LOOKUP), Say(30)],
    [Say(40), Call(ASK)],
    [Answer(20)],
]
#: The share of runs that continue one that has ended.
CONTINUED = 0.2
WAYS: list[How] = ["stream", "stream", "leave", "stream", "poll"]


class Storm:
    """Kills of one world's server."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._points = self._shuffled()
        self._kinds = itertools.cycle(itertools.product(MIXTURE, ["words", "prefilled"]))
        #: How often the server died at each point; and how often one was not reached.
        self.reached: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()

    def _shuffled(self) -> Iterator[tuple[str, int]]:
        while True:
            yield from self._rng.sample(POINTS, len(POINTS))

    async def kill(self, times: int) -> None:
        """So many kills.  Every other one comes only after all runs have grown, so that none runs out of takeovers."""
        for number in range(times):
            if number % 2 == 0:
                await self._at_random_moment()
            elif number % 6 == 1:
                await self._while_starting()
            else:
                await self._at_point()

    async def settle(self) -> Verdict:
        """What became of all runs; they are read twice, the second time from packed logs."""
        server = await self._world.server()
        await self._world.verdict()
        await self._world.kill(server)
        await self._world.packed()
        await self._world.server()
        return await self._world.verdict()

    def _refill(self) -> None:
        world = self._world
        missing = LIVE - sum(run.open for run in world.runs)
        # The model looks whether the text that is continued is whole; so it must be nothing but text.
        ended = [run for run in world.runs if run.ended and run.plan.steps in MIXTURE[:2] and not run.cancel_asked]
        for _ in range(max(missing, FRESH)):
            steps, model = next(self._kinds)
            previous = self._rng.choice(ended) if ended and self._rng.random() < CONTINUED else None
            world.run(*steps, how=self._rng.choice(WAYS), model=model, previous=previous)

    async def _at_random_moment(self) -> None:
        older = [run for run in self._world.runs if run.open and run.acknowledged]
        server = await self._world.server()
        self._refill()
        await self._world.got_on(server, older)
        await asyncio.sleep(self._rng.uniform(0, MOMENT_SECONDS))  # the moment of the kill, nothing is waited for
        self._cancel_one()
        await self._world.kill(server)
        self.reached["at a random moment"] += 1

    def _cancel_one(self) -> None:
        """Sometimes a client cancels just when the server dies: both outcomes are right, if they last."""
        candidates = [run for run in self._world.runs if run.open and run.acknowledged]
        if candidates and self._rng.random() < 0.3:
            self._world.followers.cancel(self._rng.choice(candidates))

    async def _while_starting(self) -> None:
        server = await self._world.server()
        self._refill()
        await asyncio.sleep(self._rng.uniform(0, 1))
        await self._world.kill(server)
        self.reached["while starting"] += 1

    async def _at_point(self) -> None:
        point, latest = next(self._points)
        server = await self._world.server(point, self._rng.randint(1, latest))
        self._refill()
        if await self._dies(server):
            self.reached[point] += 1
        else:
            await self._world.kill(server)
            self.missed[point] += 1

    async def _dies(self, server: Child) -> bool:
        try:
            await self._world.killed(server, POINT_SECONDS)
        except TimeoutError:
            return False
        return True

    def takeovers(self) -> list[int]:
        """How often each run was taken over."""
        return sorted(Counter(claim["run"] for claim in self._world.ledger.claims()).values())

    def figures(self, verdict: Verdict) -> str:
        """One line for people."""
        world, recoveries = self._world, self._world.recoveries()
        acknowledged = [run for run in world.runs if run.acknowledged]
        moments = ", ".join(f"{count} {name}" for name, count in sorted(self.reached.items()))
        return (
            f"{len(world.kills)} kills, {len(acknowledged)} runs, {sum(self.takeovers())} takeovers: "
            f"lost {verdict.lost}, doubled {verdict.doubled}; recovery p50 {percentile(recoveries, 0.5):.0f} ms, "
            f"p99 {percentile(recoveries, 0.99):.0f} ms of {len(recoveries)}; {moments}; missed {dict(self.missed)}"
        )
