"""Events to the bytes of an event stream, and the reader that writes them to a client.

LF only, each event whole in one write, ``data: [DONE]`` at the end, a keep-alive while it is quiet.
Must not know how events are made.  Wire rules: reference 8; keep-alive: design decision 8; obfuscation: decision 16.
"""

import asyncio
from collections.abc import Callable
from hashlib import blake2b

from antiphon.protocol.events import Event, lifecycle
from antiphon.protocol.responses import Outcome, Shell
from antiphon.web.transport import Connection

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"


def encode(events: list[Event]) -> bytes:
    """The events as they go over the wire."""
    if len(events) == 1:
        event = events[0]
        return b"event: %b\ndata: %b\n\n" % (event.type.encode(), event.data)
    return b"".join([b"event: %b\ndata: %b\n\n" % (event.type.encode(), event.data) for event in events])


#: The events that carry ``obfuscation``, and the bytes of each from the name of its delta on that are not the delta.
_PADDED = {
    "response.output_text.delta": len(b'"delta":"","logprobs":[]}'),
    **dict.fromkeys(
        (
            "response.refusal.delta",
            "response.reasoning_text.delta",
            "response.reasoning.delta",
            "response.reasoning_summary_text.delta",
            "response.function_call_arguments.delta",
            "response.custom_tool_call_input.delta",
            "response.mcp_call_arguments.delta",
            "response.code_interpreter_call_code.delta",
            "response.shell_call_command.delta",
        ),
        len(b'"delta":""}'),
    ),
}
#: What is quantised: a delta and its obfuscation together are a multiple of so many bytes long, and nearly every token
#: then has one length.  So does the official API, as streams recorded of it show; it counts characters, and what can be
#: seen of an encrypted stream is bytes.
QUANTUM = 16


class Padding:
    """Hides from whoever sees the lengths of packets how long the deltas of one response are.

    ``obfuscation`` is a keyed hash of the response and the event's number, cut to length: it is no part of the log, and
    yet the same whenever and by whichever node an event is read.  ``key``: at most 64 bytes.
    """

    def __init__(self, key: bytes, response_id: str) -> None:
        self._begun = blake2b(response_id.encode(), key=key, digest_size=QUANTUM // 2)

    def encode(self, events: list[Event]) -> bytes:
        """The events as they go over the wire, padded."""
        blocks = []
        for number, kind, data in events:
            fixed = _PADDED.get(kind)
            if fixed is not None:
                data = self._padded(number, data, fixed)
            blocks.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        return b"".join(blocks)

    def _padded(self, number: int, data: bytes, fixed: int) -> bytes:
        short = (data.find(b'"delta":"') + fixed - len(data)) % QUANTUM
        chance = self._begun.copy()
        chance.update(b"/%d" % number)
        return b'%b,"obfuscation":"%b"}' % (data[:-1], chance.hexdigest()[:short].encode())


class SseReader:
    """Follows one run for one client.

    ``on_full`` and ``on_room`` tell the run that the client reads too slowly; a client that has not caught up after
    ``stall_seconds`` is dropped.  ``padding``: what it asked to have its events padded with.
    """

    def __init__(
        self,
        connection: Connection,
        shell: Shell,
        *,
        after: int = -1,
        keepalive_seconds: float,
        stall_seconds: float,
        padding: Padding | None = None,
        on_full: Callable[[], None] | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self._encode = encode if padding is None else padding.encode
        self.last = after
        #: The last number that this reader was sent; ``last`` may be beyond the end of the log at first.
        self._sent = -1
        self._connection = connection
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
        connection.on_full = self._full
        connection.on_room = self._room

    # --- A reader of a log ---

    def write(self, events: list[Event]) -> None:
        if events[0].number <= self.last:
            events = [event for event in events if event.number > self.last]
            if not events:
                return
        self.last = self._sent = events[-1].number
        self._written_at = self._loop.time()
        self._connection.write(self._encode(events))

    def end(self, *, whole: bool) -> None:
        if whole:
            self._connection.write(DONE)
        else:
            self._connection.drop()  # clients must see that something is missing
        self.stop()

    @property
    def behind(self) -> bool:
        return self._connection.full

    async def ready(self) -> None:
        await self._connection.room()

    # --- Its life ---

    async def finished(self) -> None:
        """Returns when the run ended or the client left."""
        await self._ended

    def stop(self) -> None:
        """Nothing more will be written."""
        self._quiet.cancel()
        if self._stall is not None:
            self._stall.cancel()
        if not self._ended.done():
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
        self._unsent = self._connection.unsent
        self._stall = self._loop.call_later(self._stall_seconds, self._stalled)

    def _stalled(self) -> None:
        """A client that reads slowly is not one that does not read at all."""
        if self._connection.unsent < self._unsent:
            self._watch_stall()
        else:
            self._connection.drop()

    def _keep_alive(self) -> None:
        """Repeats ``response.in_progress`` with the last number: the one form that every client accepts and that
        resets Codex's timer; the comment is for proxies."""
        quiet = self._loop.time() - self._written_at
        if self.behind:
            quiet = 0.0  # it has enough to read
        elif quiet >= self._keepalive_seconds - 0.01:
            self._written_at = self._loop.time()
            quiet = 0.0
            self._connection.write(_COMMENT + self._repeated())
        self._quiet = self._loop.call_later(max(0.01, self._keepalive_seconds - quiet), self._keep_alive)

    def _repeated(self) -> bytes:
        """Nothing before this reader was sent a number: it would tell of an event that it never saw."""
        if self._sent < 1:
            return b""
        snapshot = self._shell.snapshot(Outcome("in_progress"))
        return encode([lifecycle("response.in_progress", self._sent, snapshot)])
