"""One seed: a database, nodes that come and go, clients, and what goes wrong; then the checks.

``simulate(seed)`` raises what is wrong with it.  The same seed is the same world, event by event.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import NamedTuple
from unittest.mock import patch

import msgspec
from tests.simulation import checks, hosted, weather
from tests.simulation.bus import Bus
from tests.simulation.client import PROJECT, Client
from tests.simulation.database import Database
from tests.simulation.ledger import Attempt, Ledger
from tests.simulation.link import STRAGGLE_SECONDS, Link
from tests.simulation.loop import OWNER, SimulatedLoop
from tests.simulation.node import SEALER, Node, draw_settings
from tests.simulation.receivers import Receiver, subscribe
from tests.simulation.scenario import Scenario, SimulatedModel, text_of

from antiphon.engine.ports.stores import RunName
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.runs import following, log
from antiphon.stores import rows
from antiphon.stores.sqlite import store

#: Everything comes to rest in so many virtual seconds after the last fault.
REST_SECONDS = 400.0
#: Everything is told so soon after that: the longest pause behind the failures that a seed can have.
TOLD_SECONDS = 1000.0
NODES_MAX = 14
#: Nodes that are alive at once.
ALIVE_MAX = 3


#: What may befall a node.
STRIKES = ("crash", "power", "freeze", "stop", "cancel", "intruder")


class Strike(NamedTuple):
    """The one thing that goes wrong: what befalls the first node before its handle number ``at``."""

    kind: str
    at: int


class World:
    """Everything that there is in one seed.  With a ``strike`` nothing else goes wrong; ``struck`` once it came."""

    def __init__(self, seed: int, *, trace: Callable[[str], None] | None = None, strike: Strike | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loop = SimulatedLoop(self.random)
        self.weather = weather.draw(self.random) if strike is None else weather.Weather("a strike", cancels=0.0)
        self.strike = strike
        self.struck = False
        self.database = Database(self.loop)
        self.ledger = Ledger(self.loop.fail)
        self.settings = draw_settings(self.random)
        self.repeats = self.ledger.repeats = self.settings.limits.repeat_interrupted_calls
        self.scenarios: dict[str, Scenario] = {}
        self.attempts: dict[int, Attempt] = {}
        self.nodes: list[Node] = []
        self.clients = self.loop.process("clients")
        self.everyone: list[Client] = []
        self.calm = False
        self.bus = Bus(self) if self.random.random() < 0.4 else None
        #: Somebody hears of the ends of runs by webhook.
        self.hooked = self.random.random() < 0.5
        self._trace = trace
        self._ids = 0

    # --- Telling ---

    def tell(self, who: str, what: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.loop.time():10.4f} {who:8} {what}")

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    def digest(self) -> str:
        """What happened, in short: equal for equal seeds."""
        said = hashlib.sha256()
        for truth in self.ledger.runs.values():
            said.update(b"\n".join(truth.events))
        return f"{self.loop.handles} {self.loop.time():.6f} {self.database.commits} {said.hexdigest()}"

    # --- Nodes ---

    def add_node(self) -> Node | None:
        """A new node, on its way up."""
        alive = [node for node in self.nodes if node.process.alive]
        if len(self.nodes) >= NODES_MAX and not self.calm:
            return None
        if len(alive) >= ALIVE_MAX and not self.calm:
            return None
        process = self.loop.process(f"node{len(self.nodes)}")
        link = Link(
            self.loop,
            lambda: self.database,
            self.ledger,
            self.weather,
            process,
            lambda why: self.crash(node, why),
            self.tell if self._trace is not None else None,
        )
        model = SimulatedModel(self.random, self.ledger, self.scenarios, self)
        tools = hosted.registry(self.random, self.ledger)
        join = self.bus.join if self.bus is not None else None
        receiver = Receiver(self.random, self.ledger, self.weather, PROJECT)
        node = Node(self.loop, process, link, model, tools, self.new_id, self.random, self.settings, receiver, join)
        self.nodes.append(node)
        self.tell(node.name, "starts")
        self.loop.spawn(process, node.start())
        return node

    def crash(self, node: Node, why: str) -> None:
        if not node.process.alive:
            return
        self.tell(node.name, f"crashes {why}")
        self.ledger.saw["a crash"] += 1
        self.loop.kill(node.process)
        node.serving = False
        if self.bus is not None:
            self.bus.left(node.process)
        self.loop.call_soon(node.cut_connections, context=self.clients.context)
        self.loop.call_later(self.random.random() * 2, self._restart, context=self.loop.world.context)

    def _restart(self) -> None:
        """The supervisor sees to it that somebody serves; at last also that somebody takes up what a stop left."""
        if self.calm or not any(node.process.alive for node in self.nodes):
            self.add_node()

    async def stop(self, node: Node) -> None:
        """A graceful stop, and a kill when it takes too long."""
        self.tell(node.name, "stops")
        stopping = self.loop.spawn(node.process, node.stop())
        await asyncio.wait([stopping], timeout=60)
        if not stopping.done() and node.process.alive and self.calm and not node.process.frozen:
            raise self.ledger.violation(f"{node.name} did not stop within 60 s")
        if stopping.done() and not stopping.cancelled() and stopping.exception() is not None:
            self.tell(node.name, f"could not stop: {stopping.exception()!r}")
        self.crash(node, "at its end")

    # --- What goes wrong ---

    async def _every(self, chance: Callable[[], float], do: Callable[[Node], Awaitable[None]]) -> None:
        """Does it to some node, so often per second."""
        while not self.calm:
            rate = chance()
            if not rate:
                return
            await asyncio.sleep(self.random.expovariate(rate))
            alive = [node for node in self.nodes if node.process.alive and not node.process.frozen]
            if alive and not self.calm:
                self.loop.spawn(self.loop.world, do(self.random.choice(alive)))  # type: ignore[arg-type]

    async def _crash_somehow(self, node: Node) -> None:
        dice = self.random.random()
        if dice < 0.1:
            await self._power_cut()
        elif dice < 0.6:
            node.process.fuse = self.random.randrange(400)
            node.process.on_fuse = lambda: self.crash(node, "on its way")
        else:
            self.crash(node, "")

    async def _freeze(self, node: Node) -> None:
        seconds = self.random.choice((0.1, 1.0, 5.0, 30.0)) * self.random.random()
        self.tell(node.name, f"freezes for {seconds:.3f} s")
        node.process.frozen = True
        if self.random.random() < 0.7:
            self.add_node()
        self.loop.call_later(seconds, self._thaw, node, context=self.loop.world.context)

    def _thaw(self, node: Node) -> None:
        if node.process.frozen:
            self.tell(node.name, "thaws")
            self.ledger.saw["a node that thaws"] += 1
            node.process.frozen = False

    async def _stop_somehow(self, node: Node) -> None:
        if self.random.random() < 0.5:
            self.add_node()
        await self.stop(node)

    async def _intrude(self, _node: Node) -> None:
        self.add_node()

    async def _compact(self) -> None:
        """Logs are packed at any time."""
        while True:
            await asyncio.sleep(self.random.random() * 3)
            self.loop.spawn(self.loop.world, self.database.compact(self.random.randrange(1, 4)))

    def _strike(self, node: Node) -> None:
        assert self.strike is not None
        self.struck = True
        self.tell(node.name, f"is struck: {self.strike.kind}")
        blow = {
            "crash": lambda: self._die(node),
            "power": self._power_cut,
            "freeze": lambda: self._freeze(node),
            "stop": lambda: self._stop_somehow(node),
            "cancel": self._cancel_all,
            "intruder": lambda: self._intrude(node),
        }[self.strike.kind]
        self.loop.spawn(self.loop.world, blow())

    async def _die(self, node: Node) -> None:
        self.crash(node, "where it stands")

    async def _power_cut(self) -> None:
        for node in list(self.nodes):
            self.crash(node, "with all others")
        self.database = Database(self.loop, self.database)

    async def _cancel_all(self) -> None:
        for client in self.everyone:
            for name in client.names:
                self.loop.spawn(self.clients, client.cancel(name, 0.0))

    # --- The course of a seed ---

    async def _course(self) -> None:
        if self.hooked:
            await subscribe(self.database, SEALER, PROJECT)
        first = self.add_node()
        assert first is not None
        if self.strike is not None:
            first.process.fuse = self.strike.at
            first.process.on_fuse = lambda: self._strike(first)
        for number in range(self.random.choice((1, 1, 2, 3))):
            client = Client(self, number)
            self.everyone.append(client)
        lives = [self.loop.spawn(self.clients, client.live()) for client in self.everyone]
        now = self.weather
        for chance, do in (
            (lambda: now.crashes, self._crash_somehow),
            (lambda: now.freezes, self._freeze),
            (lambda: now.stops, self._stop_somehow),
            (lambda: now.intruders, self._intrude),
        ):
            self.loop.spawn(self.loop.world, self._every(chance, do))
        self.loop.spawn(self.loop.world, self._compact())
        await asyncio.sleep(self.weather.seconds)
        self._calm()
        await self._rest(lives)
        await self._settle()
        await checks.check(self)

    def _calm(self) -> None:
        self.tell("world", "is calm from now on")
        self.calm = True
        self.weather.calm()
        for node in self.nodes:
            if self.strike is None:
                node.process.fuse = None
            self._thaw(node)
        self.add_node()

    async def _rest(self, lives: list[asyncio.Task[None]]) -> None:
        done, pending = await asyncio.wait(lives, timeout=REST_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        for task in lives:
            if task in done and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]
        if pending:
            left = [truth.tag for truth in self.ledger.runs.values() if not truth.ended]
            raise self.ledger.violation(f"no rest after {REST_SECONDS} s; runs that have not ended: {left}")

    async def _settle(self) -> None:
        """Writes that were under way arrive; then a last start takes up what nobody knows of."""
        await asyncio.sleep(STRAGGLE_SECONDS + 5)
        if await self.database.unfinished():
            self.add_node()
            await asyncio.sleep(REST_SECONDS / 2)
        left = [self.ledger.runs[name].tag for name in await self.database.unfinished()]
        if left:
            raise self.ledger.violation(f"runs that nobody ends: {left}")
        if self.hooked:
            await self._all_told()

    async def _all_told(self) -> None:
        """Deliveries that failed are tried again, by whoever is there."""
        until = self.loop.time() + TOLD_SECONDS
        while untold := checks.untold(self.ledger):
            if self.loop.time() > until:
                raise self.ledger.violation(f"webhooks: nobody hears of {untold}")
            if not any(node.able for node in self.nodes):
                self.add_node()
            await asyncio.sleep(5.0)

    # --- What the models are asked ---

    def asked(self, scenario: Scenario, turn: int, request: ModelRequest) -> Attempt:
        """A model call begins; what it is asked must agree with what is durable."""
        truth = self.ledger.by_tag[scenario.tag][0]
        attempt = Attempt(scenario.tag, len(self.attempts) + 1, turn, said_so_far(request))
        self.attempts[attempt.number] = attempt
        process = OWNER.get()
        self.ledger.latest[scenario.tag, process] = attempt
        self.tell(process.name, f"asks for turn {turn} of {scenario.tag}, attempt {attempt.number}")
        if truth.alone(process):
            checks.check_request(self.ledger, truth, scenario, request, attempt)
        truth.asked_since_claim = True
        return attempt

    # --- What clients look up ---

    async def texts_of(self, name: RunName) -> list[str]:
        """What the messages of a response say."""
        stored = await self.database.read(*name)
        assert stored is not None
        items = [msgspec.json.decode(body) for body in stored.output]
        return [
            "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
            for item in items
            if item["type"] == "message"
        ]

    async def status_of(self, name: RunName) -> str:
        stored = await self.database.read(*name)
        return "" if stored is None else stored.outcome.status


def said_so_far(request: ModelRequest) -> str | None:
    """What the model is to go on with: told as its prefix, or as its last words before it is asked to go on."""
    if request.prefix is not None:
        return request.prefix
    last = request.items[-1].view if request.items else None
    if last is None or last.kind != "message" or last.role != "user" or "[tag:" in text_of(last.content):
        return None
    if request.items[-2].body:
        return None  # an item of its log, whole: the model is asked for what it was about to do
    return text_of(request.items[-2].view.content)


@contextlib.contextmanager
def small_pages(random: Random) -> Iterator[None]:
    """Limits that logs of a few dozen events reach, so that what lies behind them is gone through."""
    with contextlib.ExitStack() as changed:
        for module, name, small in (
            (log, "BATCH_BYTES_MAX", 1500),
            (following, "EVENTS_MAX", 3),
            (store, "EVENT_BATCHES_MAX", 4),
            (store, "EVENT_BYTES_MAX", 3000),
            (store, "_COMMIT_BYTES", 1500),
            (rows, "PACK_BYTES", 4000),
        ):
            if random.random() < 0.4:
                changed.enter_context(patch.object(module, name, small))
        yield


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """What the processes of a world log is no news: faults are what it is made of."""
    told = logging.getLogger("antiphon")
    before = told.level
    told.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        told.setLevel(before)


def simulate(seed: int, *, trace: Callable[[str], None] | None = None, strike: Strike | None = None) -> World:
    """Runs the world of a seed to its end.  Raises ``Violation``, ``Livelock``, ``Stuck`` or what went wrong."""
    world = World(seed, trace=trace, strike=strike)
    try:
        with small_pages(world.random), unheard():
            world.loop.run(world._course())
    finally:
        world.loop.close()
        world.database.dispose()
    return world
