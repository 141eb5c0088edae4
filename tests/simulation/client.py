"""Clients: each creates a run and does with it what the weather makes it do.

What it sees is checked where it is seen, against the ledger and against what it saw before.
Must not know how the server works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import msgspec
from tests.simulation.node import ConnectionLost, Node
from tests.simulation.scenario import Scenario, draw

from antiphon.engine.ports.stores import RunName, StoreError
from antiphon.protocol.errors import ApiError
from antiphon.protocol.events import TERMINAL_TYPES, Event
from antiphon.protocol.requests import read_create
from antiphon.protocol.responses import TERMINAL

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What a client lives with and tries again after.
PASSING = (ConnectionLost, StoreError, ApiError)
PROJECT = "p"


class Sight:
    """What one reader saw of a log, over all its connections."""

    def __init__(self, name: RunName, after: int) -> None:
        self.name = name
        self.last = after
        self.events: list[Event] = []
        self.whole = False


class SimulatedReader:
    """``Follower`` of one connection."""

    def __init__(self, world: World, sight: Sight, *, slow: bool) -> None:
        self.last = sight.last
        self.behind = False
        self.ended = False
        #: The connection is closed on the client's side; what is still written to it reaches nobody.
        self.gone = False
        self._world = world
        self._sight = sight
        self._slow = slow
        self._room = asyncio.Event()
        self._room.set()

    def write(self, events: list[Event]) -> None:
        if self.gone:
            return
        ledger, sight = self._world.ledger, self._sight
        events = [event for event in events if event.number > self.last]
        if not events:
            return
        ledger.pushed(sight.name, events)
        for event in events:
            if event.number != sight.last + 1:
                raise ledger.violation(f"I7: a reader of {sight.name.response} was at {sight.last}, got {event.number}")
            sight.last = event.number
        if self.ended:
            raise ledger.violation(f"I7: a reader of {sight.name.response} was written to after its end")
        self.last = sight.last
        sight.events += events
        random = self._world.random
        if self._slow and random.random() < 0.3:
            self.behind = True
            self._room.clear()
            asyncio.get_running_loop().call_later(random.random(), self._go_on)

    def _go_on(self) -> None:
        self.behind = False
        self._room.set()

    def end(self, *, whole: bool) -> None:
        self.ended = True
        sight = self._sight
        if whole and not self.gone:
            sight.whole = True
            if sight.events and sight.events[-1].type not in TERMINAL_TYPES:
                raise self._world.ledger.violation(f"I7: a reader of {sight.name.response} missed the end of its log")

    async def ready(self) -> None:
        await self._room.wait()


class Client:
    """One client and its run."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.sights: list[Sight] = []
        self.names: list[RunName] = []
        self._tries = 0

    async def _node(self) -> Node:
        """A node that serves, drawn anew for every request."""
        while True:
            able = [node for node in self.world.nodes if node.able]
            if able:
                return self.world.random.choice(able)
            await asyncio.sleep(0.1)

    async def live(self) -> None:
        """Everything that it does, to the end of its run."""
        world, random = self.world, self.world.random
        await asyncio.sleep(random.random() * 0.7 * world.weather.seconds)
        name, scenario = await self._create(None)
        self.names.append(name)
        await asyncio.gather(*self._doings(name))
        child = None
        if random.random() < 0.3 and scenario.stored:
            child = await self._continue(name, scenario)
        if random.random() < world.weather.deletes:
            await self._delete(name)  # what a response that continues it needs stays
        if child is not None:
            await child

    def _doings(self, name: RunName) -> list[asyncio.Task[None]]:
        world, random = self.world, self.world.random
        doings = [self._follow(name) for _ in range(random.randrange(world.weather.followers + 1))]
        doings.append(self._poll(name))
        if random.random() < world.weather.cancels:
            doings.append(self.cancel(name, random.random() * random.random() * world.weather.seconds))
        return [world.loop.spawn(world.clients, doing) for doing in doings]

    async def _create(self, previous: tuple[RunName, Scenario] | None) -> tuple[RunName, Scenario]:
        """Until one is acknowledged.  Those that are not may exist as well."""
        world = self.world
        while True:
            self._tries += 1
            scenario = draw(world.random, f"{self.number}.{self._tries}")
            if previous is not None:
                scenario.previous = previous[0].response
                scenario.heard = await world.texts_of(previous[0])
            world.scenarios[scenario.tag] = scenario
            node = await self._node()
            request = read_create(scenario.body())
            try:
                run = await node.ask(lambda: node.runs.create(PROJECT, request))  # noqa: B023 - awaited here
            except PASSING as error:
                if isinstance(error, ApiError) and error.status < 500:
                    raise
                await asyncio.sleep(world.random.random() * 0.5)
                continue
            name = RunName(PROJECT, run.name.response)
            world.tell("client", f"{scenario.tag} is {name.response} at {node.name}")
            if name not in world.ledger.runs:
                raise world.ledger.violation(f"I5: {name.response} was acknowledged before it was durable")
            return name, scenario

    async def _continue(self, name: RunName, scenario: Scenario) -> Awaitable[object] | None:
        """A run behind one that has ended; what is done with it goes on."""
        if scenario.turns[-1].asks or await self.world.status_of(name) not in ("completed", "incomplete"):
            return None
        name, _ = await self._create((name, scenario))
        self.names.append(name)
        return asyncio.gather(*self._doings(name))

    async def _follow(self, name: RunName) -> None:
        """Reads the log to its end, however often it has to connect."""
        world, random = self.world, self.world.random
        await asyncio.sleep(random.random() * random.random() * 2)
        durable = world.ledger.runs[name].durable
        after = random.choice((-1, -1, random.randrange(-1, durable + 1)))
        sight = Sight(name, after)
        self.sights.append(sight)
        while not sight.whole:
            node = await self._node()
            reader = SimulatedReader(world, sight, slow=random.random() < world.weather.slow)
            leave = random.random() * 1.5 if random.random() < world.weather.detaches and not world.calm else None
            try:
                async with asyncio.timeout(leave):
                    await node.ask(lambda: _attach(node, name, reader))  # noqa: B023 - awaited here
            except TimeoutError:
                world.ledger.saw["a reader that came back"] += 1
                world.tell("client", f"leaves {name.response} at {sight.last}")
            except PASSING:
                pass
            finally:
                reader.gone = True
            if not sight.whole:
                await asyncio.sleep(random.random() * 0.3)

    async def _poll(self, name: RunName) -> None:
        """Asks for the response until it has ended; statuses only go forward."""
        world = self.world
        seen = 0
        while True:
            await asyncio.sleep(world.random.random() * 2)
            node = await self._node()
            try:
                stored = await node.ask(lambda: node.runs.read(*name))  # noqa: B023 - awaited here
            except PASSING:
                continue
            if stored is None:
                raise world.ledger.violation(f"{name.response} was acknowledged and is gone")
            status = stored.outcome.status
            rank = _RANKS.get(status, 2)
            if rank < seen and seen == 2:
                raise world.ledger.violation(f"I6: {name.response} had ended and is {status}")
            seen = max(seen, rank)
            if status in TERMINAL:
                return

    async def cancel(self, name: RunName, later: float) -> None:
        """Until it is acknowledged, or the run has ended otherwise."""
        world = self.world
        await asyncio.sleep(later)
        world.ledger.runs[name].asked_to_cancel = True
        while True:
            node = await self._node()
            world.tell("client", f"cancels {name.response} at {node.name}")
            try:
                body = await node.ask(lambda: node.runs.cancel(*name))  # noqa: B023 - awaited here
            except ApiError as error:
                if error.status < 500:
                    if not world.ledger.runs[name].ended:
                        raise world.ledger.violation(f"{name.response} cannot be cancelled: {error}") from error
                    return
            except PASSING:
                pass
            else:
                status = msgspec.json.decode(body)["status"]
                if status != "cancelled":
                    raise world.ledger.violation(f"a cancel of {name.response} was answered with {status}")
                world.ledger.runs[name].cancelled = True
                world.ledger.saw["a cancel that was acknowledged"] += 1
                return
            await asyncio.sleep(world.random.random())

    async def _delete(self, name: RunName) -> None:
        world = self.world
        while True:
            node = await self._node()
            try:
                await node.ask(lambda: node.runs.delete(*name))  # noqa: B023 - awaited here
            except ApiError as error:
                if error.status == 404:
                    return  # an earlier try did it
                if error.status < 500 and error.status != 400:
                    raise
            except PASSING:
                pass
            else:
                return
            await asyncio.sleep(world.random.random())


async def _attach(node: Node, name: RunName, reader: SimulatedReader) -> None:
    """As the web side does: the following is a task that ends with the connection."""
    following = node.runs.follow(*name, reader)
    try:
        await asyncio.wait([following])
    finally:
        if not following.done():
            following.cancel()
    following.result()


_RANKS = {"queued": 0, "in_progress": 1}
