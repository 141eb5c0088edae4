"""One response on its way: the feed of its upstream, what is known of it, who waits for it.

Must not know how a run is begun, executed or ended.  Rules: design section 2.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from antiphon.engine import intake
from antiphon.engine.deltas import Delta
from antiphon.engine.draft import Draft
from antiphon.engine.ports.stores import Context, Hold, Parent, RunName
from antiphon.engine.ports.tools import Noted
from antiphon.engine.turns import Plan
from antiphon.protocol.errors import ApiError
from antiphon.protocol.events import Event
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import Outcome
from antiphon.runs.log import DurableLog, LiveLog


class Taken(NamedTuple):
    """What a run that was begun elsewhere goes on from (``ports.Claim``, ``ports.Begun``)."""

    attempt: int
    earlier: list[bytes]
    input: list[bytes]
    noted: list[Noted]


class Run:
    """One response on its way.  ``plan`` is missing until a run that was taken over has made one."""

    def __init__(
        self, name: RunName, request: CreateResponse, draft: Draft, log: LiveLog | DurableLog, plan: Plan | None = None
    ) -> None:
        self.name = name
        self.request = request
        self.draft = draft
        self.log = log
        self.plan = plan
        self.taken: Taken | None = None
        #: What it continues.  Of a run that was taken over the place alone is known.
        self.before = Context(None, [])
        self.parent: Parent | None = None
        #: Its hold on the conversation that it runs in, from the request on that began it.
        self.lease: Hold | None = None
        self.warnings: list[str] = []
        #: What is new of its request; and the rolling hash behind that, None where nobody is to find it: it is not to
        #: be stored, was taken over, or goes on from a conversation or from what is in no store.
        self.input: list[intake.Taken] = []
        self.input_hash: bytes | None = None
        self.result: bytes = b""
        #: What it came to, once that is settled; None for a run that leaves nothing.
        self.outcome: Outcome | None = None
        self.failure: ApiError | None = None
        #: Its end could not be stored, or nobody heard whether it was.
        self.unstored = False
        self.cancelled = False
        self.done = asyncio.get_running_loop().create_future()
        #: Done with the first try to store its end that failed; the tries go on.
        self.stuck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken: Exception | None = None
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None
        #: Its readers, or the store, cannot take more now.
        self._held = False
        #: Who waits for it; it is cancelled when the last has left.
        self._clients: set[Hashable] = set()
        self._stopping = False
        #: Set when its task runs; a task that is cancelled before would never come to its end.
        self.started = False
        #: Set when its end is being written: from here on nothing stops it.
        self.finishing = False
        self.task: asyncio.Task[None] | None = None
        log.on_pressure = lambda pressed: self.hold() if pressed else self.go_on()
        if isinstance(log, DurableLog):
            log.on_disowned = self.stop

    @property
    def disowned(self) -> bool:
        """Another process goes on with it, or has ended it."""
        return isinstance(self.log, DurableLog) and self.log.disowned

    # --- The feed: an ordinary call down to the client's socket ---

    def __call__(self, deltas: Sequence[Delta]) -> None:
        """What an upstream read.  What goes wrong here fails the run and stops the upstream."""
        if self.broken is not None or self._stopping or self.finishing:
            return  # nobody is to hear of it any more
        try:
            self.publish(self.draft.apply(deltas))
        except Exception as error:  # noqa: BLE001 - the run's boundary: raised again in its task
            self.break_off(error)

    def break_off(self, error: Exception) -> None:
        """Fails the run; the first reason counts.  Its task may be the one that runs now, so it is stopped later."""
        self.broken = self.broken or error
        asyncio.get_running_loop().call_soon(self.stop)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        if self._held and self._resume is not None:
            self._resume()  # a source that is let go must not stay paused
        self._pause, self._resume = pause, resume
        if self._held:
            pause()

    def hold(self) -> None:
        """Readers, or the store, cannot take more: the upstream is paused."""
        if not self._held:
            self._held = True
            if self._pause is not None:
                self._pause()

    def go_on(self) -> None:
        """There is room again."""
        if self._held:
            self._held = False
            if self._resume is not None:
                self._resume()

    def publish(self, events: list[Event]) -> None:
        """Appends to the log."""
        if events:
            self.log.publish(events)
            self._open()

    def history(self) -> list[bytes]:
        """The items that a response which continues this one begins with."""
        return [*self.before.bodies, *(item.body for item in self.input), *(item.body for item in self.draft.output())]

    def check(self) -> None:
        """Raises what went wrong in the feed, or that the run is to stop."""
        if self._stopping:
            raise asyncio.CancelledError
        if self.broken is not None:
            raise self.broken

    # --- Its life, seen from outside ---

    @property
    def has_begun(self) -> bool:
        """Whether anybody may have seen an event of it."""
        return self._opened.done()

    async def opened(self) -> None:
        """Returns with the first event.  Raises ``ApiError`` when the run failed before it."""
        await self._opened
        if self.failure is not None:
            raise self.failure

    async def finished(self) -> bytes:
        """The final Response.  Raises ``ApiError`` when the upstream failed."""
        await asyncio.shield(self.done)
        if self.failure is not None:
            raise self.failure
        return self.result

    @property
    def joinable(self) -> bool:
        """Whether another client would be told all of a foreground run that the first is told."""
        told = isinstance(self.log, LiveLog) and (self.log.joinable or not self.request.stream)
        return told and not self._stopping and not self.done.done()

    @property
    def answered(self) -> bool:
        """Whether who waited was told what is stored, and not that it failed."""
        return bool(self.result) and (self.failure is None or self.request.stream is True)

    def join(self, who: Hashable) -> None:
        """A client waits for it."""
        self._clients.add(who)

    def leave(self, who: Hashable) -> None:
        """A client has left, and nobody waits for it to read; saying so twice changes nothing."""
        self._clients.discard(who)
        if isinstance(self.log, LiveLog):
            self.log.adapt()
        if not self._clients:
            self.cancel()

    def cancel(self) -> None:
        """Its clients have left, or one asked for it."""
        self.cancelled = True
        self.stop()

    def stop(self) -> None:
        """Ends the task where it stands, unless it is past stopping."""
        self._stopping = True
        if self.task is not None and self.started and not self.finishing:
            self.task.cancel()

    def end(self) -> None:
        """Whoever waits is told."""
        self._open()
        if not self.done.done():
            self.done.set_result(None)
        self.log.end()

    def end_is_stuck(self) -> None:
        """Its end could not be stored yet."""
        if not self.stuck.done():
            self.stuck.set_result(None)

    def _open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)
