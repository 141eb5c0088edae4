"""Delivers the outbox: tells webhook endpoints of background runs that have ended, until they have heard.

Any number of processes may do so on one database; the store says who tries what.  An event is told at least once, and
with the same id each time.  Must not know how HTTP is spoken.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable

import msgspec

from antiphon.engine.ports.world import Clock, Seal
from antiphon.engine.webhooks import Delivery, Fate, Post, Undelivered, Verdict, Webhooks
from antiphon.protocol import webhooks as bodies
from antiphon.runs.flushing import PASSING
from antiphon.runs.signing import SigningSecrets, headers

logger = logging.getLogger("antiphon.webhooks")

#: How often the outbox is looked at when nobody says that there is something in it.
POLL_SECONDS = 2.0
#: Deliveries to one endpoint at once from which on no further ones are claimed, and how many are claimed together: one
#: that does not answer leaves room for the others.
EACH_MAX = 4
#: How long a claim outlives the time that an attempt may take: nobody else tries the same meanwhile.
LEASE_MARGIN_SECONDS = 30.0
#: The pause behind the first try, doubled behind each further one up to the longest; each is stretched by up to half.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 6 * 3600.0
#: Between two tries to note how a delivery went.
NOTE_AGAIN_SECONDS = 1.0

_DELIVERED, _GONE = range(200, 300), 410


class Settings(msgspec.Struct, frozen=True):
    """What an operator may change about webhooks; times are in seconds unless their names say otherwise."""

    webhook_seconds: float = 15.0
    webhook_deliveries_max: int = 64
    webhook_retry_hours: float = 72.0
    webhook_dead_days: float = 7.0


class Deliverer:
    """The deliveries of one process.  ``dice``: a number from 0 to 1, for pauses."""

    def __init__(
        self,
        webhooks: Webhooks,
        post: Post,
        seal: Seal,
        clock: Clock,
        settings: Settings,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._webhooks = webhooks
        self._post = post
        self._seal = seal
        self._clock = clock
        self._settings = settings
        self._dice = dice
        self._projects: frozenset[str] = frozenset()
        self._news = asyncio.Event()
        #: The endpoint of each delivery on its way, and those whose outcome is being noted.
        self._sending: dict[asyncio.Task[None], str] = {}
        self._noting: set[asyncio.Task[None]] = set()
        #: There was more than could be claimed.
        self._more = False
        self._closing = False
        self._working: asyncio.Task[None] | None = None
        #: Deliveries that this process has given up.
        self.dead = 0

    def start(self) -> None:
        """Begins to deliver."""
        self._working = asyncio.get_running_loop().create_task(self._work())
        self._working.add_done_callback(_report)

    def ended(self, project: str) -> None:
        """A background run has ended.  Nothing is asked of the store where nobody hears of it."""
        if project in self._projects:
            self._news.set()

    async def close(self) -> None:
        """Claims nothing more; what is on its way is cut off, and due again at once."""
        self._closing = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        sending = list(self._sending)
        for task in sending:
            if task not in self._noting:
                task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    async def test(self, project: str, secrets_sealed: str, url: str, event_type: str) -> int:
        """Sends a sample to a client's endpoint, once; the status of the reply.  Raises ``Undelivered``."""
        now = int(self._clock.now())
        id = self._clock.new_id("evt_")
        body = bodies.event(id, event_type, now, self._clock.new_id("resp_"))
        return await self._send(project, secrets_sealed, url, id, body, static=False)

    # --- The loop ---

    async def _work(self) -> None:
        away = False
        while True:
            self._news.clear()
            try:
                await self._round()
                away = False
            except PASSING as error:  # the store may be back the next time
                if not away:
                    logger.warning("the outbox cannot be read: %s", error)
                away = True
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        """Claims as much as there is room for."""
        room = self._settings.webhook_deliveries_max - len(self._sending)
        self._projects = await self._webhooks.projects()
        if room <= 0 or not self._projects:
            return
        counts = Counter(self._sending.values())
        busy = [endpoint for endpoint, count in counts.items() if count >= EACH_MAX]
        lease = self._settings.webhook_seconds + LEASE_MARGIN_SECONDS
        claimed = await self._webhooks.claim(room, EACH_MAX, lease, busy)
        for delivery in claimed:
            task = asyncio.get_running_loop().create_task(self._deliver(delivery))
            self._sending[task] = delivery.endpoint
            task.add_done_callback(self._sent)
        full = any(count >= EACH_MAX for count in Counter(self._sending.values()).values())
        self._more = full or len(claimed) == room

    def _sent(self, task: "asyncio.Task[None]") -> None:
        del self._sending[task]
        self._noting.discard(task)
        if self._more:
            self._news.set()
        _report(task)

    # --- One delivery ---

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            verdict = await self._tried(delivery)
        except asyncio.CancelledError:  # the process stops: another one need not wait for the claim to end
            verdict = Verdict(delivery.row, delivery.attempt, Fate.AGAIN)
        task = asyncio.current_task()
        assert task is not None
        self._noting.add(task)
        await self._note(verdict)

    async def _tried(self, delivery: Delivery) -> Verdict:
        """Sends it and says how that went."""
        id = bodies.event_id(delivery.response)
        body = bodies.event(id, delivery.type, delivery.created_at, delivery.response)
        try:
            status = await self._send(
                delivery.project, delivery.secrets, delivery.url, id, body, static=delivery.static
            )  # fmt: skip
        except Undelivered as error:
            return self._failed(delivery, str(error))
        if status in _DELIVERED:
            return Verdict(delivery.row, delivery.attempt, Fate.DELIVERED)
        if status == _GONE and not delivery.static:
            return self._buried(delivery, Fate.GONE, "it answered 410 and is disabled")
        return self._failed(delivery, f"it answered {status}")

    async def _send(self, project: str, sealed: str, url: str, id: str, body: bytes, *, static: bool) -> int:
        now = int(self._clock.now())
        keys = SigningSecrets.opened(sealed, self._seal, project).valid(now)
        try:
            async with asyncio.timeout(self._settings.webhook_seconds):
                return await self._post.post(url, body, headers(id, body, now, keys), static=static)
        except TimeoutError:
            raise Undelivered("The URL did not answer in time.") from None

    def _failed(self, delivery: Delivery, why: str) -> Verdict:
        """Another try later, or none any more."""
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(delivery.attempt - 1, 30), LONGEST_PAUSE_SECONDS)
        pause *= 1 + self._dice() / 2
        if delivery.age + pause > self._settings.webhook_retry_hours * 3600:
            return self._buried(delivery, Fate.DEAD, why)
        logger.info(
            "%s was not told to %s in try %d, next in %.0f s: %s",
            delivery.response, delivery.endpoint, delivery.attempt, pause, why,
        )  # fmt: skip
        return Verdict(delivery.row, delivery.attempt, Fate.AGAIN, pause)

    def _buried(self, delivery: Delivery, fate: Fate, why: str) -> Verdict:
        self.dead += 1
        logger.error(
            "%s is not told to %s any more, after %d tries: %s",
            delivery.response, delivery.endpoint, delivery.attempt, why,
        )  # fmt: skip
        return Verdict(delivery.row, delivery.attempt, fate, self._settings.webhook_dead_days * 86400)

    async def _note(self, verdict: Verdict) -> None:
        """Again while the store is away: what is not noted is told once more."""
        while True:
            try:
                await self._webhooks.settle([verdict])
                return
            except PASSING as error:
                logger.warning("how a delivery went could not be noted: %s", error)
            if self._closing:
                return
            await self._clock.sleep(NOTE_AGAIN_SECONDS)


def _report(task: "asyncio.Task[None]") -> None:
    """What a task raised that nobody waits for; what it had claimed is due again when the claim ends."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("webhooks are not delivered as they should be", exc_info=task.exception())
