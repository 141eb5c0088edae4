"""``engine.coordination.Coordinator`` over NATS JetStream: queue, leases, and word between processes.

While the bus is away, whoever is asked for a run works on it, and readers look into the store.
Must not know what a run does.  Rules: docs/scale.md.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Sequence

from antiphon.coordinators.nats.connection import AWAY, Connection, Msg
from antiphon.coordinators.nats.queue import WorkQueue
from antiphon.coordinators.nats.settings import TIERS, Settings, Subjects, place
from antiphon.coordinators.nats.words import BusNews, Telling
from antiphon.engine.coordination import Offer, Words
from antiphon.engine.ports.stores import RunName
from antiphon.protocol.events import Event

logger = logging.getLogger("antiphon.bus")

#: Extensions of each lease before it would be over.
EXTENSIONS = 4
#: Runs that are asked for in one go: what one node takes no other can.
ASKED_MAX = 4
#: How often the queue is looked at without being stirred, and repaired while it is not whole.
LOOK_SECONDS = 1.0
#: How long a run is left alone that was declined: at first, twice as long each time, and at the longest.
DECLINED_SECONDS, DECLINED_LONGEST_SECONDS = 0.1, 3.0


class Held:
    """A run that this process has claimed, or is about to; without a message the bus was away."""

    def __init__(self, offer: Offer, message: Msg | None) -> None:
        self.offer = offer
        self.message = message


class NatsCoordinator:
    """One process's end of the bus."""

    shared = True

    def __init__(self, settings: Settings, *, choose: random.Random | None = None) -> None:
        self._settings = settings
        self._subjects = Subjects(settings.bus_name)
        self._choose = choose or random.Random()  # noqa: S311 - which tier is asked first
        self._held: dict[RunName, Held] = {}
        self._offered: deque[Offer] = deque()
        self._stirred = asyncio.Event()
        self._connection = Connection(settings.bus, settings.bus_credentials, self._connected)
        self._queue = WorkQueue(self._connection, settings, self._subjects, self._arrived, self._stirred.set)
        self._telling = Telling(self._connection, self._subjects, self._held)
        self._beaten = 0.0
        self._retired = False

    def heed(self, words: Words) -> None:
        self._telling.words = words

    async def start(self) -> None:
        self._beaten = asyncio.get_running_loop().time()
        await self._connection.start()
        self._connection.run(self._beat())

    async def _connected(self) -> None:
        """What is there is found, what is missing is made; what fails is tried again by the beat."""
        try:
            await self._telling.listen()
            if not self._retired:
                await self._queue.prepare(self._connection.jetstream())
        except AWAY as error:
            logger.warning("the bus is there, but its queue is not: %s", error)
        self._stirred.set()

    async def _beat(self) -> None:
        """Extends the leases of everything that is held."""
        loop = asyncio.get_running_loop()
        mended = loop.time()
        while True:
            self._beaten = loop.time()
            for held in self._held.values():
                if held.message is not None:
                    self._queue.extend(held.message)
            broken = self._connection.connected and not self._queue.ready and not self._retired
            if broken and self._beaten > mended + LOOK_SECONDS:
                await self._connected()
                mended = loop.time()
            await asyncio.sleep(self._settings.bus_lease_seconds / EXTENSIONS)

    async def retire(self) -> None:
        self._retired = True
        await self._queue.retire()
        while self._offered:
            await self.give_back(self._offered.popleft().run)

    async def close(self) -> None:
        self._retired = True
        for run in list(self._held):
            await self.give_back(run)
        await self._connection.close()

    # --- Offering ---

    async def submit(self, offer: Offer) -> None:
        if self._connection.connected:
            try:
                await self._queue.publish(offer)
            except AWAY as error:
                logger.warning("%s could not be offered, it runs here: %s", offer.run.response, error)
            else:
                return
        if offer.run not in self._held:
            self._hold(offer, None)

    async def missing(self, runs: Sequence[RunName]) -> list[RunName]:
        if not self._connection.connected:
            return []
        try:
            places = await self._queue.places()
            left = [run for run in runs if place(run) not in places and run not in self._held]
            elsewhere = await self._telling.worked_on(left) if left else set()
        except AWAY as error:
            logger.debug("the queue could not be looked at: %s", error)
            return []
        return [run for run in left if run not in elsewhere]

    # --- Claiming ---

    async def claim(self) -> Offer:
        while True:
            if self._offered:
                return self._offered.popleft()
            self._stirred.clear()
            if len(self._held) < self._settings.runs_max and self._connection.connected and self._queue.ready:
                await self._ask()
            if not self._offered:
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._stirred.wait()
                except TimeoutError:
                    pass  # what was lost on the way is asked for again

    async def _ask(self) -> None:
        """Asks the tiers by their weights for what waits; where nothing does, each for the next that comes."""
        most = min(ASKED_MAX, self._settings.runs_max - len(self._held))
        for tier in self._in_turn():
            if await self._queue.probe(tier, most):
                return
        self._queue.linger()

    def _in_turn(self) -> list[str]:
        """The tiers; each comes first as often as its weight says."""
        weights = {tier: self._settings.tier_weights.get(tier, 1) for tier in TIERS}
        found: list[str] = []
        while weights:
            (tier,) = self._choose.choices(list(weights), list(weights.values()))
            found.append(tier)
            del weights[tier]
        return found

    def _arrived(self, message: Msg, offer: Offer) -> None:
        held = self._held.get(offer.run)
        if held is not None:
            held.message = message  # this process was slow, or the message came twice
            return
        if self._retired:
            self._queue.refuse(message)
            return
        if asyncio.get_running_loop().time() - self._beaten > self._settings.bus_lease_seconds / 2:
            return  # this process was frozen: it may have another owner by now, and comes again if it has none
        self._hold(offer._replace(waited=_age(message)), message)

    def _hold(self, offer: Offer, message: Msg | None) -> None:
        self._held[offer.run] = Held(offer, message)
        self._offered.append(offer)
        self._stirred.set()

    def _let_go(self, run: RunName) -> Held | None:
        self._stirred.set()
        return self._held.pop(run, None)

    async def done(self, run: RunName) -> None:
        held = self._let_go(run)
        if held is not None and held.message is not None:
            self._queue.acknowledge(held.message)

    async def give_back(self, run: RunName) -> None:
        held = self._let_go(run)
        if held is None:
            return
        if held.message is not None:
            self._queue.refuse(held.message)
        elif self._connection.connected:
            try:
                await self._queue.publish(held.offer)
            except AWAY as error:
                logger.warning("%s could not be handed on, somebody will miss it: %s", run.response, error)

    async def decline(self, run: RunName) -> None:
        held = self._let_go(run)
        if held is None:
            return
        if held.message is None:
            self._connection.run(self._offer_again(held.offer))
            return
        times = held.message.metadata.num_delivered - 1
        self._queue.refuse(held.message, min(DECLINED_SECONDS * 2.0 ** min(times, 20), DECLINED_LONGEST_SECONDS))

    async def _offer_again(self, offer: Offer) -> None:
        await asyncio.sleep(DECLINED_LONGEST_SECONDS)
        await self.submit(offer)

    async def lost(self, run: RunName) -> None:
        """The queue is told nothing: the message is the next owner's, or comes again when its lease is over."""
        self._let_go(run)

    # --- Word ---

    async def cancel(self, run: RunName) -> None:
        self._telling.cancel(run)

    async def taken(self, run: RunName, fence: int) -> None:
        self._telling.taken(run, fence)

    def grown(self, run: RunName, events: list[Event]) -> None:
        self._telling.grown(run, events)

    async def news(self, run: RunName) -> BusNews:
        return await self._telling.news(run)


def _age(message: Msg) -> float:
    """Seconds since it was offered, by the bus's clock against ours."""
    offered: float = message.metadata.timestamp.timestamp()
    return max(0.0, time.time() - offered)
