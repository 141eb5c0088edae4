"""The way to a WebSocket's client: a uvicorn protocol that takes frames without waking a task, and what an app sees.

Pinned by a contract test: where a uvicorn release changes what this relies on, the app falls back to ``await send``.
Must not know what messages say.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN

from antiphon.web.flow import Flow
from antiphon.web.transport import CLOSING_SECONDS, Message, Receive, Scope, Send

EXTENSION = "antiphon.frames"
#: Why a WebSocket is closed (RFC 6455, 7.4.1, and the IANA registry).
NORMAL, GOING_AWAY, NO_TEXT, TOO_BIG, BROKEN, RESTARTING = 1000, 1001, 1007, 1009, 1011, 1012
#: Parts that one message may come in: each costs memory of its own, however little is in it.
FRAGMENTS_MAX = 16_384
#: How long a client whose connection closes may go on reading what it was sent.
LINGER_SECONDS = 60.0


class Watcher(Protocol):
    """Who is told what happens to a client's WebSocket."""

    full: bool

    def paused(self) -> None: ...

    def resumed(self) -> None: ...

    def lost(self) -> None: ...

    def stop(self) -> None: ...


class FramesProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which also takes messages by an ordinary call and tells a watcher."""

    watcher: Watcher | None = None

    def handle_connect(self, event: Handshake) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def handle_ping(self) -> None:
        if self.watcher is not None and self.watcher.full:
            self.conn.data_to_send()  # who reads nothing is not to fill memory with answers
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > FRAGMENTS_MAX:
            self.frames = []
            self.conn.fail(TOO_BIG, f"a message may come in {FRAGMENTS_MAX} fragments")
            self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """A text that is no UTF-8 is the client's failure, of which uvicorn would log a traceback."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(NO_TEXT, "a text message has to be UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def push(self, texts: Sequence[bytes]) -> None:
        """Sends each text as one message, all in one write; nothing once the connection is closing."""
        if self.conn.state is not OPEN:
            return
        for text in texts:
            self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.watcher is not None:
            self.watcher.paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.watcher is not None:
            self.watcher.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.watcher is not None:
            self.watcher.lost()

    def shutdown(self) -> None:
        """The server stops: a response on its way may come to its end."""
        if self.watcher is not None and not self.close_sent:
            self.watcher.stop()
        else:
            super().shutdown()

    def let_go(self) -> None:
        """The app is done with it.  A client that neither reads nor leaves is cut off, whoever said that it closes."""
        self.watcher = None
        self._linger(self.loop.time() + LINGER_SECONDS, None)

    def _linger(self, until: float, unsent: int | None) -> None:
        if self.disconnected:
            return
        left = self.transport.get_write_buffer_size()
        if unsent is None or (left < unsent and self.loop.time() < until):
            self.loop.call_later(CLOSING_SECONDS, self._linger, until, left)
        else:
            self.transport.abort()


class Socket(Flow):
    """One WebSocket: its messages, and texts for its client that are written without waiting."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__()
        self._receive = receive
        self._send = send
        self._push: FramesProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        self._refusable = "websocket.http.response" in scope.get("extensions", {})
        self._pumping: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._buffer_max = 1 << 20
        self._closed = False
        self._ended = asyncio.Event()
        self.accepted = False
        #: The server stops; ``on_stop`` is called when that begins.
        self.stopping = False
        self.on_stop: Callable[[], None] | None = None

    # --- The handshake ---

    async def accept(self, headers: list[tuple[bytes, bytes]], buffer_max: int) -> None:
        """Opens it; ``buffer_max`` bytes may wait for the client before it is ``full``."""
        self._buffer_max = buffer_max
        await self._send({"type": "websocket.accept", "headers": headers})
        self.accepted = True
        if self._push is not None:
            self._push.watcher = self
            self._push.transport.set_write_buffer_limits(high=buffer_max)
            self.gone = self.gone or self._push.transport.is_closing()

    async def refuse(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answers the handshake with an HTTP reply, where the server can; 403 otherwise."""
        if not self._refusable:
            await self._send({"type": "websocket.close"})
            return
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})
        if self._push is not None:
            self._push.handshake_complete = True  # refused, which uvicorn would log as an app that forgot to answer

    # --- What comes ---

    async def receive(self) -> str | bytes | None:
        """The next message, whole: text, or bytes that came as binary.  None: the client left."""
        message: Message = await self._receive()
        if message["type"] == "websocket.disconnect":
            if not self.gone:
                self.lost()
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    def lost(self) -> None:
        self._ended.set()
        super().lost()

    async def left(self) -> None:
        """Returns when nobody is there any more, whether or not what was sent has been received."""
        await self._ended.wait()

    def stop(self) -> None:
        self.stopping = True
        if self.on_stop is not None:
            self.on_stop()

    # --- What goes ---

    @property
    def unsent(self) -> int:
        if self._push is not None:
            return self._push.transport.get_write_buffer_size()
        return sum(map(len, self._unsent))

    def write(self, texts: Sequence[bytes]) -> None:
        """Each text as one message.  Never waits; ``full`` tells when too much is unsent."""
        if self.gone or self._closed:
            return
        if self._push is not None:
            self._push.push(texts)
            return
        self._unsent += texts
        if self.unsent > self._buffer_max:
            self.paused()
        if self._pumping is None:
            self._pumping = asyncio.get_running_loop().create_task(self._pump())

    async def _pump(self) -> None:
        with contextlib.suppress(OSError):  # it left; ``receive`` tells so
            while self._unsent and not self.gone:
                texts, self._unsent = self._unsent, []
                for text in texts:
                    await self._send({"type": "websocket.send", "text": text.decode()})
        self._pumping = None
        self.resumed()

    async def close(self, code: int, reason: str = "") -> None:
        """Behind what was written; at once where the client does not read."""
        if self.gone or self._closed:
            return
        if self.full:
            self.drop()
            return
        self._closed = True
        if self._pumping is not None:
            await asyncio.wait([self._pumping])
        with contextlib.suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def drop(self) -> None:
        self._closed = True
        if self._push is not None:
            self._push.transport.abort()
            return
        if self._pumping is not None:
            self._pumping.cancel()  # it waits for the client
        self.lost()

    def release(self) -> None:
        """The conversation is over."""
        self.on_gone = self.on_full = self.on_room = self.on_stop = None
        if self._push is not None:
            self._push.let_go()
        if self._pumping is not None:
            self._pumping.cancel()


def options(*, message_max: int, ping_seconds: float, compression: bool) -> dict[str, Any]:
    """What uvicorn is to be told about WebSockets.

    No pong is waited for: a client that works on an event reads none of what follows, and is well.  A message of more
    than ``message_max`` bytes, compressed or not, closes the connection with 1009.
    """
    return {
        "ws": FramesProtocol,
        "ws_max_size": message_max,
        "ws_ping_interval": ping_seconds,
        "ws_ping_timeout": None,
        "ws_per_message_deflate": compression,
    }
