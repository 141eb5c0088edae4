"""``engine.ports.Upstream`` over several servers of one dialect, each of which takes so many calls at once.

A call goes to the least busy server, or to the one that has most likely seen its prompt before; behind one that fails
before the first token it goes to another at once.  A server that fails again and again is left out until it is well.
Where all places are taken, calls wait in a line.  Must not know how servers are spoken to.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, Protocol

import msgspec

from antiphon.engine.ports.upstreams import (
    Capabilities,
    Condition,
    Feed,
    ModelInfo,
    ModelRequest,
    Stop,
    Upstream,
    UpstreamError,
)
from antiphon.engine.ports.world import Clock
from antiphon.protocol.requests import CreateResponse
from antiphon.upstreams.calling import is_for_operators, patiently
from antiphon.upstreams.pool.affinity import is_bearable, key_of, score
from antiphon.upstreams.pool.agreement import agreed, joined
from antiphon.upstreams.pool.circuit import Circuit
from antiphon.upstreams.pool.line import Line, Waiter
from antiphon.upstreams.pool.probe import Probe

logger = logging.getLogger("antiphon.upstreams")

#: How long a server that has too much to do is spared where it does not say how long.
BUSY_SECONDS = 1.0
#: The longest wait that a client who finds the line full is told, and how much a new duration counts in the average.
WAIT_MAX_SECONDS, NEWEST_PART = 60.0, 0.2
#: Statuses below 500 that are the server's affair and not the request's: its keys, its patience, its models, its load.
_ITS_OWN = frozenset({401, 403, 404, 408, 429})


class Server(Upstream, Protocol):
    """One of the servers: an upstream with an address."""

    base_url: str

    async def reached(self, path: str) -> None:
        """Asks whether it is well.  Raises ``UpstreamError``."""


class Settings(msgspec.Struct, frozen=True):
    """What an operator may say of a pool; None: a server takes any number of calls."""

    max_concurrent: int | None = None
    queue_max: int = 256
    queue_seconds: float = 60.0
    breaker_failures: int = 3
    breaker_seconds: float = 10.0
    health_path: str = ""
    health_seconds: float = 2.0
    retries: int = 2


class _Member:
    """A server and what is known of it.  ``number``: its place in the list, from 1."""

    def __init__(self, number: int, server: Server, failures_max: int) -> None:
        self.number = number
        self.server = server
        self.seed = server.base_url.encode()
        self.circuit = Circuit(failures_max)
        self.active = 0
        #: The models that it has; None before it was heard.
        self.models: set[str] | None = None
        #: Set while it is to be spared.
        self.spared: asyncio.TimerHandle | None = None
        #: What looks whether it is well again, while its circuit is open.
        self.watch: asyncio.Task[None] | None = None

    def has(self, model: str) -> bool:
        return self.models is None or model in self.models


class _Place(NamedTuple):
    """What a call holds while it runs.  ``probe``: its number, if its server is on probation."""

    member: _Member
    probe: int
    since: float


class _Call:
    """A call that is to be answered by one server or another."""

    def __init__(self, request: ModelRequest, key: bytes | None) -> None:
        self.request = request
        self.key = key
        #: Who has failed it, and where that may have been the request's own fault.
        self.tried: list[_Member] = []
        self.doubted: list[_Place] = []


class _Waiting(Waiter[_Place]):
    """A call in the line: one that others have failed goes first, and however long the line is."""

    def __init__(self, call: _Call, wants: Callable[[], _Place | None]) -> None:
        request = call.request
        again = bool(call.tried)
        counted = not (again or request.standing.patient)
        tier = request.request.service_tier
        super().__init__(request.standing.project, tier, wants, counted=counted, first=again)
        self.call = call


class Pool:
    """See the module.

    ``name`` is what clients are told, empty for none, and ``label`` what operators are; ``seed`` makes the choices
    repeatable that are left to chance.
    """

    def __init__(
        self,
        name: str,
        servers: Sequence[Server],
        clock: Clock,
        settings: Settings,
        *,
        label: str = "",
        seed: int | None = None,
    ) -> None:
        self.label = label or name
        self._called = f"the upstream '{name}'" if name else "the upstream"
        self._settings = settings
        self._clock = clock
        self._members = [_Member(place, one, settings.breaker_failures) for place, one in enumerate(servers, 1)]
        self._limit: float = settings.max_concurrent or math.inf
        self._line: Line[_Waiting] = Line()
        self._random = Random(seed)  # noqa: S311 - it spreads load
        #: Seconds that calls hold their places, as an average of the last ones.
        self._held = 0.0
        self._failovers = 0
        #: The servers that did not tell their models when they were asked last, by address, and why.
        self.silent: dict[str, str] = {}
        self._closed = False
        #: What is known of models, until something new is learnt.
        self._capabilities: dict[str, Capabilities] = {}
        self._having: dict[str, list[_Member]] = {}

    # --- Calls ---

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call; when all servers have failed it, again after a while.  Raises ``UpstreamError``."""
        key = key_of(request) if len(self._members) > 1 else None
        retries = self._settings.retries
        return await patiently(
            lambda: self._round(_Call(request, key), feed), self._clock, retries, lambda _: False, self._log
        )

    def _log(self, error: UpstreamError) -> None:
        """A failure that is told to a client, who hears less of it."""
        if is_for_operators(error):
            logger.warning("upstream %s: %s", self.label, error.detail)

    async def _round(self, call: _Call, feed: Feed) -> Stop:
        """Each server at most once."""
        failure: UpstreamError | None = None
        while True:
            try:
                place = await self._place(call)
            except UpstreamError as error:
                raise failure or error from None
            try:
                return await self._ask(place, call, feed)
            except UpstreamError as error:
                if error.spoke or not _is_ones_own(error):
                    raise
                failure = error

    async def _ask(self, place: _Place, call: _Call, feed: Feed) -> Stop:
        if place.probe:
            feed = Probe(feed, lambda: self._heard(place))
        try:
            stop = await place.member.server.run(call.request, feed)
        except UpstreamError as error:
            self._judge(place, call, error)
            raise
        else:
            self._heard(place)
            for other in call.doubted:
                self._blame(other, "it answered with an error what another server could answer")
            return stop
        finally:
            self._leave(place)

    def _heard(self, place: _Place) -> None:
        """The server has said something of use."""
        if place.member.circuit.succeeded(place.probe):
            logger.info("upstream %s: %s answers again", self.label, place.member.server.base_url)
            self._serve()

    def _judge(self, place: _Place, call: _Call, error: UpstreamError) -> None:
        """What follows from a failure for the server."""
        member = place.member
        call.tried.append(member)
        if not _is_ones_own(error):
            self._heard(place)
        elif error.status == 429:
            self._spare(member, error.retry_after_seconds or BUSY_SECONDS)
        elif error.status == 404:
            if member.models is not None:
                member.models.discard(call.request.model)
                self._learnt()
        elif error.status == 500 and not place.probe:
            call.doubted.append(place)  # the request may be at fault: another server's answer will show it
        else:
            self._blame(place, error.detail)

    # --- Servers that are not well ---

    def _blame(self, place: _Place, why: str) -> None:
        """The server has failed."""
        member, was_closed = place.member, place.member.circuit.is_closed
        if not member.circuit.failed(place.probe) or self._closed:
            return
        if was_closed:
            logger.warning("upstream %s: %s is left out for now: %s", self.label, member.server.base_url, why)
        member.watch = asyncio.get_running_loop().create_task(self._watch(member))
        self._turn_away()

    async def _watch(self, member: _Member) -> None:
        """Lets the server be tried again when it says that it is well; one that never said so, after a time."""
        loop, settings = asyncio.get_running_loop(), self._settings
        until = loop.time() + settings.breaker_seconds
        says_so = bool(settings.health_path) or member.models is not None
        while True:
            await asyncio.sleep(
                settings.health_seconds if says_so else min(settings.health_seconds, until - loop.time())
            )
            if await self._is_well(member) or (not says_so and loop.time() >= until):
                break
        member.circuit.half_open()
        self._serve()

    async def _is_well(self, member: _Member) -> bool:
        try:
            if self._settings.health_path:
                await member.server.reached(self._settings.health_path)
            else:
                self._learn(member, await member.server.models())
        except UpstreamError:
            return False
        return True

    def _spare(self, member: _Member, seconds: float) -> None:
        """The server has too much to do."""

        def over() -> None:
            member.spared = None
            self._serve()

        if member.spared is not None:
            member.spared.cancel()
        member.spared = asyncio.get_running_loop().call_later(seconds, over)

    # --- Places ---

    async def _place(self, call: _Call) -> _Place:
        """A place, when it is the call's turn.  Raises ``UpstreamError``."""
        if not self._able(call):
            raise self._unavailable()
        place = self._find(call)
        if place is None:
            place = await self._wait(_Waiting(call, lambda: self._find(call)))
        self._failovers += bool(call.tried)
        return place

    async def _wait(self, waiting: _Waiting) -> _Place:
        """In the line.  Raises ``UpstreamError`` 429 where it is too long, or takes too long."""
        settings, patient = self._settings, waiting.call.request.standing.patient
        if waiting.counted and self._line.counted >= settings.queue_max:
            raise self._full("Too many requests wait for")
        self._line.join(waiting)
        try:
            await asyncio.wait([waiting.place], timeout=None if patient else settings.queue_seconds)
        except asyncio.CancelledError:
            self._line.leave(waiting)
            if waiting.place.done() and waiting.place.exception() is None:
                self._leave(waiting.place.result())
            raise
        if not waiting.place.done():
            self._line.leave(waiting)
            raise self._full(f"For {settings.queue_seconds:g} seconds there was no room for another request to")
        return waiting.place.result()

    def _able(self, call: _Call) -> list[_Member]:
        """Who may be asked, now or soon."""
        able = [one for one in self._members_with(call.request.model) if not one.circuit.is_open]
        return [one for one in able if one not in call.tried] if call.tried else able

    def _find(self, call: _Call) -> _Place | None:
        """A place that is free now."""
        able = self._able(call)
        ready = [one for one in able if one.spared is None] or able
        free = [one for one in ready if one.active < self._limit and one.circuit.admits]
        return self._take(self._best(free, call.key)) if free else None

    def _best(self, free: Sequence[_Member], key: bytes | None) -> _Member:
        if len(free) == 1:
            return free[0]
        least = min(one.active for one in free)
        if key is None:
            return self._random.choice([one for one in free if one.active == least])
        bearable = [one for one in free if is_bearable(one.active, least)]
        return max(bearable, key=lambda one: score(key, one.seed))

    def _take(self, member: _Member) -> _Place:
        member.active += 1
        return _Place(member, member.circuit.begin(), asyncio.get_running_loop().time())

    def _leave(self, place: _Place) -> None:
        place.member.active -= 1
        place.member.circuit.left(place.probe)
        held = asyncio.get_running_loop().time() - place.since
        self._held += (held - self._held) * (NEWEST_PART if self._held else 1)
        self._serve()

    def _serve(self) -> None:
        """Whatever has become free goes to those who wait."""
        while self._line and any(one.active < self._limit and one.circuit.admits for one in self._members):
            if not self._line.serve():
                break

    def _turn_away(self) -> None:
        """Who waits for servers of which none is left hears it at once."""
        for waiting in list(self._line):
            if not self._able(waiting.call):
                self._line.leave(waiting)
                waiting.place.set_exception(self._unavailable())

    # --- Errors of its own ---

    def _unavailable(self) -> UpstreamError:
        message = f"No server of {self._called} can be used now."
        wait = min(self._settings.health_seconds, self._settings.breaker_seconds)
        return UpstreamError(message, status=503, code="upstream_unreachable", retryable=True, retry_after_seconds=wait)

    def _full(self, what: str) -> UpstreamError:
        """The line that stands now takes about so long to get through all places."""
        places = sum(self._limit for one in self._members if not one.circuit.is_open) or 1
        wait = min(WAIT_MAX_SECONDS, max(1.0, math.ceil(len(self._line) * self._held / places)))
        message = f"{what} {self._called}. Please try again in {wait:g}s."
        return UpstreamError(message, status=429, code="rate_limit_exceeded", retry_after_seconds=wait)

    # --- Models ---

    def _members_with(self, model: str) -> list[_Member]:
        """Those who list a model; all where nobody does, since there are names that no list tells."""
        having = self._having.get(model)
        if having is None:
            having = [one for one in self._members if one.has(model)] or self._members
            self._having[model] = having
        return having

    def available(self, model: str) -> bool:
        """Whether a server could be asked for a model."""
        return any(not one.circuit.is_open for one in self._members_with(model))

    async def count(self, request: ModelRequest) -> int | None:
        """By a server that is well; it needs no place."""
        able = [one for one in self._members_with(request.model) if not one.circuit.is_open]
        if not able:
            raise self._unavailable()
        return await self._best(able, key_of(request)).server.count(request)

    async def models(self) -> list[ModelInfo]:
        """Those of all servers; one that cannot be asked now keeps those that it had."""
        asked = [one for one in self._members if not one.circuit.is_open] or self._members
        told = await asyncio.gather(*(self._told(one) for one in asked))
        lists = [what for what in told if not isinstance(what, UpstreamError)]
        answers = zip(asked, told, strict=True)
        self.silent = {one.server.base_url: what.detail for one, what in answers if isinstance(what, UpstreamError)}
        if not lists:
            raise next(one for one in told if isinstance(one, UpstreamError))
        return joined(lists)

    async def _told(self, member: _Member) -> list[ModelInfo] | UpstreamError:
        try:
            listed = await member.server.models()
        except UpstreamError as error:
            return error
        self._learn(member, listed)
        return listed

    def _learn(self, member: _Member, listed: Sequence[ModelInfo]) -> None:
        member.models = {model.id for model in listed}
        self._learnt()

    def _learnt(self) -> None:
        """Who has which model may have changed."""
        self._capabilities.clear()
        self._having.clear()
        if self._line:
            self._turn_away()
            self._serve()

    def capabilities(self, model: str) -> Capabilities:
        """What all servers that were heard have in common."""
        known = self._capabilities.get(model)
        if known is None:
            having = self._members_with(model)
            heard = [one for one in having if one.models is not None] or having
            known = self._capabilities[model] = agreed([one.server.capabilities(model) for one in heard])
        return known

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:
        return self._members[0].server.unheeded(request, model)

    # --- Seen from outside ---

    def condition(self) -> Condition:
        """How its servers are."""
        left_out = [one.number for one in self._members if one.circuit.is_open]
        active = sum(one.active for one in self._members)
        return Condition(len(self._members), left_out, active, len(self._line), self._failovers)

    async def close(self) -> None:
        """Ends what it does by itself, and every server's connections."""
        self._closed = True
        watches = [one.watch for one in self._members if one.watch is not None]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for one in self._members:
            if one.spared is not None:
                one.spared.cancel()
        await asyncio.gather(*(one.server.close() for one in self._members))


def _is_ones_own(error: UpstreamError) -> bool:
    """Whether it says something of the server, and not of the request alone."""
    return error.status >= 500 or error.status in _ITS_OWN
