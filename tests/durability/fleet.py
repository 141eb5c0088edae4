"""Several nodes on one database and one bus, killed, frozen and stopped one after another while runs are under way.

Used by the tests for some seconds and by `scripts/soak_nodes.py` for a thousand runs.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.durability.judging import Verdict
from tests.durability.processes import Child, milliseconds
from tests.durability.storm import MIXTURE, WAYS
from tests.durability.world import READY, World, percentile

#: How long a frozen node stays so, about the length of its leases; how long a dead one stays away.
FROZEN_SECONDS, DEAD_SECONDS = (0.5, 8.0), (0.0, 3.0)
#: Between two strikes.
PAUSE_SECONDS = (0.5, 2.5)
#: The share of runs that a client cancels, and of those that continue another.
CANCELLED, CONTINUED = 0.03, 0.15


class Blow(NamedTuple):
    """What befell a process, and when."""

    kind: str
    process: int
    at: float


class Fleet:
    """The nodes of one world, each at its place."""

    def __init__(self, world: World, rng: random.Random, **settings: Any) -> None:
        self.world = world
        self._rng = rng
        self._settings = settings
        self._kinds = itertools.cycle(itertools.product(MIXTURE, ["words", "prefilled"]))
        self.nodes: dict[int, Child] = {}
        self.blows: list[Blow] = []
        self._struck: set[int] = set()

    # --- Nodes ---

    async def start(self) -> None:
        places = range(len(self.world.listeners))
        for place in places:
            await self.add(place)
        for place in places:
            await self.nodes[place].line(READY)

    async def add(self, place: int, **settings: Any) -> Child:
        node = self.nodes[place] = await self.world.server(place=place, **(self._settings | settings))
        return node

    def _note(self, kind: str, node: Child) -> None:
        self.blows.append(Blow(kind, node.pid, milliseconds()))

    async def kill(self, place: int) -> None:
        node = self.nodes[place]
        self._note("kill", node)
        await self.world.kill(node)
        await asyncio.sleep(self._rng.uniform(*DEAD_SECONDS))  # how long it is away; nothing is waited for
        await (await self.add(place)).line(READY)

    async def freeze(self, place: int) -> None:
        node = self.nodes[place]
        self._note("freeze", node)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(self._rng.uniform(*FROZEN_SECONDS))  # how long it is frozen
        node.signal(signal.SIGCONT)

    async def replace(self, place: int) -> None:
        """As a rolling restart does."""
        node = self.nodes[place]
        self._note("stop", node)
        await self.world.terminate(node)
        await (await self.add(place)).line(READY)

    # --- Many runs, many blows ---

    async def storm(self, runs: int, live: int, *, others: Callable[[], Any] | None = None) -> None:
        """Begins so many runs, about `live` of them at once, while nodes are struck; at least one node is well."""
        striking = asyncio.create_task(self._strike_always(others))
        try:
            while len(self.world.runs) < runs:
                missing = min(live - sum(run.open for run in self.world.runs), runs - len(self.world.runs))
                for _ in range(missing):
                    self._begin()
                await asyncio.sleep(0.1)  # the pace at which clients come
                assert not striking.done(), striking.exception()
        finally:
            striking.cancel()
            await asyncio.gather(striking, return_exceptions=True)
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
        for place, node in self.nodes.items():
            if node.process.returncode is not None:
                await self.add(place)
            await self.nodes[place].line(READY)

    def _begin(self) -> None:
        world, rng = self.world, self._rng
        steps, model = next(self._kinds)
        ended = [run for run in world.runs if run.ended and run.plan.steps in MIXTURE[:2] and not run.cancel_asked]
        previous = rng.choice(ended) if ended and rng.random() < CONTINUED else None
        well = [place for place in self.nodes if place not in self._struck]
        place = rng.choice(well if well and rng.random() < 0.9 else list(self.nodes))
        world.run(*steps, how=rng.choice(WAYS), model=model, previous=previous, server=place)
        if rng.random() < CANCELLED:
            alive = [run for run in world.runs if run.open and run.acknowledged]
            if alive:
                world.followers.cancel(rng.choice(alive))

    async def _strike_always(self, others: Callable[[], Any] | None) -> None:
        kinds = [self.kill, self.freeze, self.kill, self.freeze, self.replace]
        blows: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(self._rng.uniform(*PAUSE_SECONDS))
                for done in [blow for blow in blows if blow.done()]:
                    blows.discard(done)
                    done.result()
                well = [place for place in self.nodes if place not in self._struck]
                if len(well) > 1:
                    blows.add(asyncio.create_task(self._strike(self._rng.choice(kinds), self._rng.choice(well))))
                if others is not None and self._rng.random() < 0.15:
                    await others()
        finally:
            for blow in blows:
                blow.cancel()
            await asyncio.gather(*blows, return_exceptions=True)

    async def _strike(self, blow: Callable[[int], Any], place: int) -> None:
        self._struck.add(place)
        await blow(place)
        self._struck.discard(place)

    # --- Figures ---

    async def settle(self) -> Verdict:
        """What became of all runs; from here on clients are as patient as they are by default."""
        await self.world.ended()
        await self.world.followers.servers(*self.world.urls)
        return await self.world.verdict(self._rng.randrange(len(self.nodes)))

    def takeovers(self) -> dict[str, list[float]]:
        """By what befell the owner: milliseconds from the blow to the claim of the next; `none` where nothing did."""
        found: dict[str, list[float]] = {}
        owners: dict[str, dict[str, Any]] = {}
        for claim in self.world.ledger.claims():
            before = owners.get(claim["run"])
            owners[claim["run"]] = claim
            if before is None or before["process"] == claim["process"]:
                continue
            blows = [blow for blow in self.blows if blow.process == before["process"] and blow.at < claim["at"]]
            blows = [blow for blow in blows if blow.at > before["at"]] or blows
            kind, at = (blows[0].kind, blows[0].at) if blows else ("none", claim["at"])
            found.setdefault(kind, []).append(claim["at"] - max(at, before["at"]))
        return found

    def refused(self) -> int:
        """How often an old owner was told that the run is not its own any more."""
        return sum("has another owner by now" in line for node in self.world.servers for line in node.lines)

    def figures(self, verdict: Verdict) -> str:
        """Some lines for people."""
        acknowledged = [run for run in self.world.runs if run.acknowledged]
        blows = Counter(blow.kind for blow in self.blows)
        head = f"{len(acknowledged)} runs acknowledged of {len(self.world.runs)} over {len(self.nodes)} nodes; "
        head += f"{dict(blows)}; lost {verdict.lost}, doubled {verdict.doubled}; old owners refused {self.refused()}"
        lines = [head]
        for kind, times in sorted(self.takeovers().items()):
            late = sum(took > 5000 for took in times)
            lines.append(
                f"  taken over after {kind}: {len(times)}, p50 {percentile(times, 0.5):.0f} ms, "
                f"p99 {percentile(times, 0.99):.0f} ms, longest {max(times):.0f} ms, over 5 s {late}"
            )
        return "\n".join(lines)
