"""The way to the client's socket that wakes no task: a uvicorn protocol that offers its transport to the app.

Pinned by a contract test: where a uvicorn release changes what this relies on, the app falls back to ``await send``.
Must not know what is sent; what never becomes a request is answered here.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, Protocol, TypeAlias, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.protocol.errors import ApiError
from antiphon.web.flow import Flow

EXTENSION = "antiphon.push"
#: Bytes of a request before its body at the most, and how long they may take to come.
HEAD_MAX, HEAD_SECONDS = 64 << 10, 60.0
#: How long a connection that closes may take to tell so.
CLOSING_SECONDS = 1.0

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


#: Of a WebSocket's handshake: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_H2C = re.compile(rb"\r\nupgrade:(?=[ \t]*h2c[ \t]*\r\n)", re.IGNORECASE)


def _without_h2c(data: bytes) -> bytes:
    """The beginning of a request without the offer to go on in HTTP/2, which Java's client makes in each first one.

    It may be ignored (RFC 9110, 7.8), but the parser would take the body for the other protocol.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _H2C.sub(rb"\r\nx-upgrade:", head + end) + rest


class Watcher(Protocol):
    """Who is told what happens to a client's connection."""

    def paused(self) -> None: ...

    def resumed(self) -> None: ...

    def lost(self) -> None: ...


class PushProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also hands its transport to the app and tells a watcher."""

    #: An instance of more than 30 attributes, those of uvicorn among them, has a dictionary of its own, of 1.3 kB.
    __slots__ = ("_becomes_socket", "_head_bytes", "_head_timer", "watcher", "within_message")

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.watcher: Watcher | None = None
        #: A request is being read.
        self.within_message = False
        #: Whether it becomes a WebSocket; decided when its head is here.
        self._becomes_socket: bool | None = None
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    # --- Requests ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if not self.within_message and b"h2c" in data:
            data = _without_h2c(data)
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX and not self.transport.is_closing():
                self.send_400_response(f"The request's headers are too large: this server takes {HEAD_MAX} bytes.")

    def on_message_begin(self) -> None:
        self.within_message = True
        self._becomes_socket = None
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()
        self.scope["extensions"] = cast("dict[str, dict[object, object]]", {EXTENSION: self})

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.within_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Closes the connection; where no reply has begun that would be torn, it says why in the official shape."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = ApiError(400, msg).body()
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\nx-request-id: req_%b\r\nopenai-version: 2020-10-01\r\n"
                b"openai-processing-ms: 0\r\n\r\n%b" % (len(body), secrets.token_hex(14).encode(), body)
            )
        self.transport.close()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _should_upgrade(self) -> bool:
        if self._becomes_socket is None:
            self._becomes_socket = self._is_handshake()
        return self._becomes_socket

    def _is_handshake(self) -> bool:
        """Only what can become a WebSocket; the app answers everything else (RFC 6455, 4.2.1).

        Nor does one behind a request that is not answered yet: it would get that reply among its frames.
        """
        names = {name: value for name, value in self.headers if name.startswith(b"sec-websocket-")}
        whole = _KEY.fullmatch(names.get(b"sec-websocket-key", b"")) is not None
        return (
            whole
            and names.get(b"sec-websocket-version") == b"13"
            and self.scope["method"] == "GET"
            and (self.cycle is None or self.cycle.response_complete)
            and super()._should_upgrade()
        )

    def _unsupported_upgrade_warning(self) -> None:
        """The app answers with 426; clients try upgrades as a matter of course, so that nothing is to warn of."""

    # --- Writing ---

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.watcher is not None:
            self.watcher.paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.watcher is not None:
            self.watcher.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)
        if self.watcher is not None:
            self.watcher.lost()


class Connection(Flow):
    """The client's side of one request: tells when it is gone or full, and writes a body piece by piece."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__()
        self._receive = receive
        self._send = send
        self._push: PushProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        self._watching: asyncio.Task[None] | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._buffer_max = 1 << 20
        self.started = False

    # --- What happens to it ---

    @cached_property
    def _ended(self) -> asyncio.Event:
        """Most requests are over before anybody waits for it."""
        return asyncio.Event()

    @property
    def has_body(self) -> bool:
        """Whether the whole request has been read from the socket, so that nothing of it is waited for."""
        return self._push is not None and not self._push.within_message

    def watch(self) -> None:
        """From here on ``on_gone`` is called when the client leaves.  The request's body must have been read."""
        if self._push is not None:
            self._push.watcher = self
            # A large body leaves reading paused, and a socket that is not read does not tell that it was closed.
            self._push.flow.resume_reading()
            self.gone = self.gone or self._push.transport.is_closing()
        else:
            self._watching = asyncio.get_running_loop().create_task(self._await_disconnect())

    async def _await_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.lost()

    def lost(self) -> None:
        self._ended.set()
        super().lost()

    # --- Writing ---

    async def start(self, status: int, headers: list[tuple[bytes, bytes]], buffer_max: int) -> None:
        """Sends the head of a reply whose body follows by ``write``."""
        self.started = True
        self._buffer_max = buffer_max
        if self._push is not None:
            self._push.transport.set_write_buffer_limits(high=buffer_max)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    @property
    def unsent(self) -> int:
        if self._push is not None:
            return self._push.transport.get_write_buffer_size()
        return sum(map(len, self._unsent))

    def write(self, data: bytes) -> None:
        """Never waits; what the socket does not take is kept, and ``full`` tells when that is too much."""
        if self.gone:
            return
        if self._push is not None:
            self._push.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            return
        self._unsent.append(data)
        if self.unsent > self._buffer_max:
            self.paused()
        if self._pumping is None:
            self._pumping = asyncio.get_running_loop().create_task(self._pump())

    async def _pump(self) -> None:
        while self._unsent and not self.gone:
            data, self._unsent = b"".join(self._unsent), []
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._pumping = None
        self.resumed()

    async def finish(self) -> None:
        """Ends the body; of a connection that was dropped, it waits for the end."""
        if self._pumping is not None:
            await asyncio.wait([self._pumping])
        if self._push is not None and self._push.transport.is_closing():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), CLOSING_SECONDS)
        elif not self.gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def drop(self) -> None:
        if self._push is not None:
            self._push.transport.abort()
            return
        if self._pumping is not None:
            self._pumping.cancel()  # it waits for the client
        self.lost()

    def release(self) -> None:
        """The request is over; the connection may serve another."""
        self.on_gone = self.on_full = self.on_room = None
        if self._push is not None:
            self._push.watcher = None
        for task in (self._watching, self._pumping):
            if task is not None:
                task.cancel()
