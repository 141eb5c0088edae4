"""Word between nodes, as a queue with leases would carry it: late, lost or twice, but again until it is heeded.

A run stays queued until whoever claimed it says that it is done; a node that is dead or frozen for too long loses it to
another.  Must not know what a run is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.loop import Process

from antiphon.engine.ports.stores import RunName

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedClock
    from tests.simulation.world import World

#: How long a node that holds a run may be silent, and how often the database is asked for runs that got lost.
LEASE_SECONDS = 2.0
LOOK_SECONDS = 20.0
NEWS_SECONDS = 0.5


class Bus:
    """The words that are on their way."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ends: list[BusEnd] = []
        #: Runs that are offered or held, and who holds them.
        self._held: dict[RunName, BusEnd | None] = {}
        loop = world.loop
        loop.call_later(LOOK_SECONDS, self._look, context=loop.world.context)

    def join(self, clock: SimulatedClock, process: Process) -> BusEnd:
        """A node's end of the bus."""
        end = BusEnd(self, process)
        self._ends.append(end)
        return end

    def left(self, process: Process) -> None:
        """The node is dead: what it held is offered again when its lease is over."""
        for name, holder in list(self._held.items()):
            if holder is not None and holder.process is process:
                self._later(LEASE_SECONDS * self._world.random.random(), self._offer, name)

    def _later(self, seconds: float, do: Callable[..., None], *arguments: object) -> None:
        loop = self._world.loop
        loop.call_later(seconds, do, *arguments, context=loop.world.context)

    def _look(self) -> None:
        self._world.loop.spawn(self._world.loop.world, self._look_for_lost())
        self._later(LOOK_SECONDS, self._look)

    async def _look_for_lost(self) -> None:
        for name in await self._world.database.unfinished():
            holder = self._held.get(name)
            owner = self._world.ledger.runs[name].owner
            if not (owner.alive and not owner.frozen) and not (holder and holder.process.alive):
                self._offer(name)

    def _offer(self, name: RunName) -> None:
        """To a node that listens; while none does, again a little later."""
        random = self._world.random
        able = [end for end in self._ends if end.process.alive and not end.process.frozen]
        if not able:
            self._later(1.0, self._offer, name)
            return
        end = random.choice(able)
        self._held[name] = end
        self._say(end, end.offered.put_nowait, name)
        self._later(LEASE_SECONDS, self._check, name, end)

    def _check(self, name: RunName, end: BusEnd) -> None:
        """Whether the lease is kept."""
        if self._held.get(name) is not end:
            return
        if end.process.alive and not end.process.frozen:
            self._later(LEASE_SECONDS, self._check, name, end)
        else:
            self._offer(name)

    def _say(self, end: BusEnd, tell: Callable[..., None], *arguments: object) -> None:
        """A word to one node, in its own process."""
        random, weather, loop = self._world.random, self._world.weather, self._world.loop
        for _ in range(2 if random.random() < weather.doubled else 1):
            loop.call_later(random.random() * 0.05, tell, *arguments, context=end.process.context)

    # --- What the ends ask ---

    def submit(self, name: RunName) -> None:
        if name not in self._held or self._world.random.random() < self._world.weather.doubled:
            self._later(self._world.random.random() * 0.05, self._offer, name)
            self._held.setdefault(name, None)

    def done(self, name: RunName) -> None:
        self._held.pop(name, None)

    def cancel(self, name: RunName) -> None:
        for end in self._ends:
            if self._world.random.random() >= self._world.weather.lost:
                self._say(end, end.told, name)


class BusEnd:
    """``engine.coordination.Coordinator``."""

    def __init__(self, bus: Bus, process: Process) -> None:
        self.process = process
        self.offered: asyncio.Queue[RunName] = asyncio.Queue()
        self._bus = bus
        self._told: Callable[[RunName], None] | None = None

    def told(self, name: RunName) -> None:
        if self._told is not None:
            self._told(name)

    async def submit(self, run: RunName) -> None:
        self._bus.submit(run)

    async def claim(self) -> RunName:
        return await self.offered.get()

    async def lost(self, run: RunName) -> None:
        await self.done(run)

    async def done(self, run: RunName) -> None:
        self._bus.done(run)

    def on_cancel(self, told: Callable[[RunName], None]) -> None:
        self._told = told

    async def cancel(self, run: RunName) -> None:
        self._bus.cancel(run)

    async def news(self, run: RunName) -> None:
        await asyncio.sleep(self._bus._world.random.random() * NEWS_SECONDS)
