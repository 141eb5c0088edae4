"""Word between nodes, as a queue with leases would carry it: late, lost or twice, but again until it is heeded.

A run stays queued until whoever claimed it says that it is done; a node that is dead or frozen for too long loses it to
another.  Must not know what a run is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.loop import Process

from antiphon.engine.coordination import Offer, Words, following
from antiphon.engine.ports.stores import RunName
from antiphon.protocol.events import Event

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
            if holder is None or not holder.process.alive:
                self._offer(name)

    def _offer(self, name: RunName) -> None:
        """To a node that listens; while none does, again a little later."""
        random = self._world.random
        able = [end for end in self._ends if end.process.alive and not end.process.frozen and not end.retired]
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
        if self._world.random.random() < self._world.weather.lost:
            return  # whoever looks into the database finds it
        if name not in self._held or self._world.random.random() < self._world.weather.doubled:
            self._later(self._world.random.random() * 0.05, self._offer, name)
            self._held.setdefault(name, None)

    def done(self, name: RunName) -> None:
        self._held.pop(name, None)

    def give_back(self, name: RunName, end: BusEnd) -> None:
        if self._held.get(name) is end:
            self._later(self._world.random.random() * 0.05, self._offer, name)

    def tell(self, word: Callable[[BusEnd], Callable[..., None]], *arguments: object) -> None:
        """A word to all nodes, which some do not hear."""
        for end in self._ends:
            if self._world.random.random() >= self._world.weather.lost:
                self._say(end, word(end), *arguments)


class BusEnd:
    """``engine.coordination.Coordinator``."""

    shared = True

    def __init__(self, bus: Bus, process: Process) -> None:
        self.process = process
        self.offered: asyncio.Queue[RunName] = asyncio.Queue()
        self._bus = bus
        self.retired = False
        self._words: Words | None = None
        #: In the order in which they asked: an order by address would be another world each time.
        self._news: dict[SimulatedNews, None] = {}

    def heed(self, words: Words) -> None:
        self._words = words

    # --- Heard ---

    def cancelled(self, name: RunName) -> None:
        if self._words is not None:
            self._words.cancelled(name)

    def was_taken(self, name: RunName, fence: int) -> None:
        if self._words is not None:
            self._words.taken(name, fence)

    def heard(self, name: RunName, events: list[Event]) -> None:
        for news in self._news:
            if news.run == name:
                news.hear(events)

    # --- The port ---

    async def start(self) -> None:
        """It hears from the beginning."""

    async def retire(self) -> None:
        self.retired = True
        while not self.offered.empty():
            await self.give_back(self.offered.get_nowait())

    async def close(self) -> None:
        """What it holds is offered again when its lease is over."""

    async def missing(self, runs: Sequence[RunName]) -> list[RunName]:
        raise AssertionError("the bus itself looks for lost runs")

    async def submit(self, offer: Offer) -> None:
        self._bus.submit(offer.run)

    async def claim(self) -> Offer:
        return Offer(await self.offered.get())

    async def give_back(self, run: RunName) -> None:
        self._bus.give_back(run, self)

    async def decline(self, run: RunName) -> None:
        raise AssertionError("every node serves every model")

    async def lost(self, run: RunName) -> None:
        await self.done(run)

    async def done(self, run: RunName) -> None:
        self._bus.done(run)

    async def cancel(self, run: RunName) -> None:
        self._bus.tell(lambda end: end.cancelled, run)

    async def taken(self, run: RunName, fence: int) -> None:
        self._bus.tell(lambda end: end.was_taken, run, fence)

    def grown(self, run: RunName, events: list[Event]) -> None:
        self._bus.tell(lambda end: end.heard, run, events)

    async def news(self, run: RunName) -> SimulatedNews:
        news = SimulatedNews(run, self._bus._world.random, lambda gone: self._news.pop(gone, None))
        self._news[news] = None
        return news


class SimulatedNews:
    """Events as they are told: late, twice, in any order, or never."""

    def __init__(self, run: RunName, random: Random, closed: Callable[[SimulatedNews], None]) -> None:
        self.run = run
        self._random = random
        self._closed = closed
        self._heard: list[Event] = []
        self._woken = asyncio.Event()

    def hear(self, events: list[Event]) -> None:
        self._heard += events
        self._woken.set()

    async def next(self, after: int) -> list[Event]:
        try:
            await asyncio.wait_for(self._woken.wait(), self._random.random() * NEWS_SECONDS)
        except TimeoutError:
            return []
        self._woken.clear()
        heard, self._heard = self._heard, []
        return following(heard, after)

    async def close(self) -> None:
        self._closed(self)
