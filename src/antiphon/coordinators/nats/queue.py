"""The work queue on JetStream: one message per run that is not ended, one consumer per tier.

A message that nobody acknowledges is delivered again when its lease is over (ack wait); whoever holds one extends it
(in-progress acks).  A stream takes one message per subject, so that offering a run twice changes nothing.
Must not know who works on what here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from nats.js import JetStreamContext, api
from nats.js import errors as failures

from antiphon.coordinators.nats.connection import ANSWER_SECONDS, AWAY, Connection, Msg, Subscription
from antiphon.coordinators.nats.settings import TIERS, Settings, Subjects, tier_of
from antiphon.engine.coordination import Offer
from antiphon.engine.ports.stores import RunName

logger = logging.getLogger("antiphon.bus")

#: How long a pull that waits for work is good for, as a share of a lease: that of a frozen node is over before the
#: leases of its runs are, so that none of them comes to it again.
PULL_SHARE = 0.7
#: Error codes of JetStream: the subject has its message already; there is no such stream or consumer.
TAKEN_CODE = 10077
#: A page of subjects, which is the server's own limit, and how many are read at the most.
PAGES_MAX = 20


class Offered(msgspec.Struct):
    """What a message says."""

    project: str
    response: str
    model: str
    tier: str | None = None


class Door:
    """An inbox, and the one request for messages whose answer is awaited there."""

    def __init__(self) -> None:
        self.inbox = ""
        self.subscription: Subscription | None = None
        #: When the request is not good any more, and how many messages it may still bring.
        self.until = 0.0
        self.left = 0
        self.came = 0
        #: Done with the last of the answer.
        self.answered: asyncio.Future[None] | None = None

    def answer(self, *, came: bool) -> None:
        """One more message, or that there is none."""
        self.came += came
        self.left = self.left - 1 if came else 0
        if self.left > 0:
            return
        self.until = 0.0
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(None)


class WorkQueue:
    """``arrived`` is called with each message and what it offers, ``stirred`` when it is time to ask again."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        subjects: Subjects,
        arrived: Callable[[Msg, Offer], None],
        stirred: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._subjects = subjects
        self._arrived = arrived
        self._stirred = stirred
        #: Where messages come in that wait already, and those that each tier is asked for in advance.
        self._probing = Door()
        self._lingering = {tier: Door() for tier in TIERS}
        #: Whether the stream and its consumers are there, as far as is known.
        self.ready = False

    # --- Making it ---

    async def prepare(self, context: JetStreamContext) -> None:
        """Makes what is missing of the stream and its consumers.  Raises ``AWAY``."""
        for door in (self._probing, *self._lingering.values()):
            door.until = 0.0
            if door.subscription is None:
                door.inbox = self._connection.new_inbox()
                door.subscription = await self._connection.listen(door.inbox, partial(self._heard, door))
        await self._make_stream(context)
        for tier in TIERS:
            await context.add_consumer(
                self._subjects.stream,
                durable_name=tier,
                filter_subject=self._subjects.tier(tier),
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=self._settings.bus_lease_seconds,
                max_deliver=-1,
                max_ack_pending=-1,
                max_waiting=10_000,
            )
        self.ready = True

    async def _make_stream(self, context: JetStreamContext) -> None:
        config = api.StreamConfig(
            name=self._subjects.stream,
            subjects=[self._subjects.all_runs],
            retention=api.RetentionPolicy.WORK_QUEUE,
            discard=api.DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=1,
            storage=api.StorageType.FILE,
            num_replicas=self._settings.bus_replicas,
            max_msg_size=1 << 16,
        )
        try:
            await context.add_stream(config)
        except failures.BadRequestError:  # it is there with other settings
            await context.update_stream(config)

    # --- Offering ---

    async def publish(self, offer: Offer) -> None:
        """Durable on return, unless it was there already.  Raises ``AWAY``."""
        run = offer.run
        data = msgspec.json.encode(Offered(run.project, run.response, offer.model, offer.tier))
        answer = await self._connection.ask(self._subjects.offer(run, tier_of(offer.tier)), data)
        error = msgspec.json.decode(answer, type=_Answer).error
        if error is not None and error.err_code != TAKEN_CODE:
            self.ready = False
            raise failures.APIError(code=error.code, err_code=error.err_code, description=error.description)

    async def places(self) -> set[str]:
        """Of every run that is offered or held, its ``settings.place``.  Raises ``AWAY``."""
        found: set[str] = set()
        for _ in range(PAGES_MAX):
            asked = msgspec.json.encode({"subjects_filter": self._subjects.all_runs, "offset": len(found)})
            answer = await self._connection.ask(f"$JS.API.STREAM.INFO.{self._subjects.stream}", asked)
            info = msgspec.json.decode(answer, type=_Info)
            if info.error is not None:
                self.ready = False
                error = info.error
                raise failures.APIError(code=error.code, err_code=error.err_code, description=error.description)
            page = info.state.subjects or {}
            found.update(self._subjects.place_in(subject) for subject in page)
            if not page or len(found) >= info.total:
                break
        return found

    # --- Taking ---

    async def probe(self, tier: str, most: int) -> bool:
        """Takes so many messages of the tier that wait; whether there was any."""
        self._probing.answered = asyncio.get_running_loop().create_future()
        self._pull(self._probing, tier, {"batch": most, "no_wait": True}, ANSWER_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._probing.answered
        return self._probing.came > 0

    def linger(self) -> None:
        """Asks each tier for the next message, once it comes."""
        now = asyncio.get_running_loop().time()
        for tier, door in self._lingering.items():
            if door.until < now:
                seconds = PULL_SHARE * self._settings.bus_lease_seconds
                self._pull(door, tier, {"batch": 1, "expires": int(seconds * 1e9)}, seconds + ANSWER_SECONDS)

    async def retire(self) -> None:
        """Asks for nothing more; pulls that wait end with their inbox."""
        self.ready = False
        for door in (self._probing, *self._lingering.values()):
            if door.subscription is not None:
                with contextlib.suppress(*AWAY):  # with the connection it is gone
                    await door.subscription.unsubscribe()

    def _pull(self, door: Door, tier: str, asked: dict[str, Any], seconds: float) -> None:
        door.until = asyncio.get_running_loop().time() + seconds
        door.left, door.came = asked["batch"], 0
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._subjects.stream}.{tier}"
        self._connection.tell(subject, msgspec.json.encode(asked), door.inbox)

    def _heard(self, door: Door, message: Msg) -> None:
        """A message, or why there is none."""
        status = (message.headers or {}).get("Status")
        door.answer(came=status is None)
        if status is None:
            self._take(message)
            return
        if status not in ("404", "408"):  # nothing is there, or not yet
            self.ready = False
        if door is not self._probing:
            self._stirred()

    def _take(self, message: Msg) -> None:
        try:
            said = msgspec.json.decode(message.data, type=Offered)
        except msgspec.MsgspecError:
            logger.error("the queue holds a message that offers nothing; it is removed")
            self._connection.tell(message.reply, b"+TERM")
            return
        self._arrived(message, Offer(RunName(said.project, said.response), said.model, said.tier))

    # --- What becomes of a message ---

    def extend(self, message: Msg) -> None:
        """It is worked on: the lease begins anew."""
        self._connection.tell(message.reply, b"+WPI")

    def acknowledge(self, message: Msg) -> None:
        """The run has ended; a word that is lost makes somebody look, and acknowledge again."""
        self._connection.tell(message.reply, b"+ACK")

    def refuse(self, message: Msg, seconds: float = 0.0) -> None:
        """Somebody is to be asked, so much later at the earliest."""
        delay = b' {"delay":%d}' % int(seconds * 1e9) if seconds else b""
        self._connection.tell(message.reply, b"-NAK" + delay)


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None


class _State(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    error: _Error | None = None
    state: _State = msgspec.field(default_factory=_State)
    total: int = 0
