"""The reader that brings the events of a run to a client: at its pace, and with a sign of life while it is quiet.

Must not know how events are made or what they look like on the wire.  Keep-alive: design decision 8.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from antiphon.protocol.events import Event, lifecycle
from antiphon.protocol.responses import Outcome, Shell
from antiphon.web.flow import Flow


class Outlet(Protocol):
    """A client, in the form that it takes events in."""

    @property
    def flow(self) -> Flow:
        """The way to it."""

    def write(self, events: list[Event]) -> None:
        """Sends events, each whole.  Never waits."""

    def end(self, *, whole: bool) -> None:
        """Nothing follows.  Not ``whole``: the client must see that something is missing."""

    def keep_alive(self, repeated: Event | None) -> None:
        """A sign of life, with an event that may be repeated."""


class EventReader:
    """Follows one run for one client.

    ``on_full`` and ``on_room`` tell the log that the client reads too slowly; a client that has not caught up after
    ``stall_seconds`` is dropped.
    """

    def __init__(
        self,
        outlet: Outlet,
        shell: Shell,
        *,
        after: int = -1,
        keepalive_seconds: float,
        stall_seconds: float,
        on_full: Callable[[], None] | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self.last = after
        #: The last number that this reader was sent; ``last`` may be beyond the end of the log at first.
        self._sent = -1
        self._outlet = outlet
        self._flow = outlet.flow
        self._shell = shell
        self._keepalive_seconds = keepalive_seconds
        self._stall_seconds = stall_seconds
        self._on_full = on_full
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._written_at = self._loop.time()
        self._quiet = self._loop.call_later(keepalive_seconds, self._keep_alive)
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._ended = self._loop.create_future()
        self._flow.on_full = self._full
        self._flow.on_room = self._room
        if self._flow.full:  # with what came before on this connection
            self._full()

    # --- A reader of a log ---

    def write(self, events: list[Event]) -> None:
        if events[0].number <= self.last:
            events = [event for event in events if event.number > self.last]
            if not events:
                return
        self.last = self._sent = events[-1].number
        self._written_at = self._loop.time()
        self._outlet.write(events)

    def end(self, *, whole: bool) -> None:
        self._outlet.end(whole=whole)
        self.stop()

    @property
    def behind(self) -> bool:
        return self._flow.full and not self._flow.gone

    async def ready(self) -> None:
        await self._flow.room()

    # --- Its life ---

    async def finished(self) -> None:
        """Returns when the run ended or the client left."""
        await self._ended

    def stop(self) -> None:
        """Nothing more will be written; the way to the client may have another reader now."""
        if self._ended.done():
            return
        self._quiet.cancel()
        if self._stall is not None:
            self._stall.cancel()
        self._flow.on_full = self._flow.on_room = None
        self._ended.set_result(None)

    def _full(self) -> None:
        self._watch_stall()
        if self._on_full is not None:
            self._on_full()

    def _room(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        if self._on_room is not None:
            self._on_room()

    def _watch_stall(self) -> None:
        self._unsent = self._flow.unsent
        self._stall = self._loop.call_later(self._stall_seconds, self._stalled)

    def _stalled(self) -> None:
        """A client that reads slowly is not one that does not read at all."""
        if self._flow.unsent < self._unsent:
            self._watch_stall()
        else:
            self._flow.drop()

    def _keep_alive(self) -> None:
        """Repeats ``response.in_progress`` with the last number: the one form that every client accepts and that
        resets Codex's timer."""
        quiet = self._loop.time() - self._written_at
        if self.behind:
            quiet = 0.0  # it has enough to read
        elif quiet >= self._keepalive_seconds - 0.01:
            self._written_at = self._loop.time()
            quiet = 0.0
            self._outlet.keep_alive(self._repeated())
        self._quiet = self._loop.call_later(max(0.01, self._keepalive_seconds - quiet), self._keep_alive)

    def _repeated(self) -> Event | None:
        """Nothing before this reader was sent a number: it would tell of an event that it never saw."""
        if self._sent < 1:
            return None
        return lifecycle("response.in_progress", self._sent, self._shell.snapshot(Outcome("in_progress")))
