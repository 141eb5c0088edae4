"""A small HTTP/1.1 client that pushes: what one read of the socket brings is handed on in one call.

It costs a third of a general client's CPU per chunk, and wakes no task until the end.  Knows nothing of dialects.
No proxies, no redirects, no compression: an upstream is configured by the operator and sits near.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from antiphon.engine.ports import UpstreamError

#: Idle connections kept per upstream.
POOL_MAX = 256
#: A reply's header block at the most.
HEADERS_MAX = 64 * 1024
#: A reply that is read as a whole, at the most.
REPLY_MAX = 64 * 1024 * 1024
#: How long a reply may linger after everything that matters has come.
LINGER_SECONDS = 1.0


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds until a connection stands, until the reply begins, and between two reads of it."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 600.0
    idle_seconds: float = 120.0


class Flow(Protocol):
    """What a receiver may do to the connection that feeds it."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def expect_end(self) -> None:
        """All that matters has come; the reply may end soon or be cut."""


class Receiver:
    """Takes a reply as it comes.  Raises ``UpstreamError`` to give up on it."""

    #: Set before the reply begins.
    flow: Flow

    def started(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers (names in lower case) are here."""
        raise NotImplementedError

    def data(self, chunk: bytes) -> None:
        """Everything of the body that one read brought."""
        raise NotImplementedError


class Whole(Receiver):
    """Keeps a reply until it is complete, up to ``REPLY_MAX`` bytes."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = bytearray()

    def started(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers

    def data(self, chunk: bytes) -> None:
        self.body += chunk
        if len(self.body) > REPLY_MAX:
            raise UpstreamError("The upstream's reply is too large.")


class _Stale(Exception):
    """A kept connection turned out to be closed; nothing of a reply had come."""


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[str, str] = {}
        self._headers_size = 0
        self._body: list[bytes] = []
        self._began = False
        self._headers_done = False
        self._finished = False
        self._until_close = False
        self._ending = False
        self._paused = False
        self._last_read = 0.0
        self.used = False

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._last_read = self._loop.time()
        if self._parser is None:
            self.abort()  # bytes that nobody asked for
            return
        self._began = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError(f"The upstream sent a malformed reply: {error}."))
        self._hand_on()
        if self._finished and not self._until_close:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if not self._began and self.used:
            self._fail(_Stale())
        elif self._ending or (self._until_close and self._headers_done):
            self._complete()
        else:
            reason = f": {exc}" if exc else ""
            message = f"The connection to the upstream was lost{reason}."
            self._fail(UpstreamError(message, retryable=not self._began))

    # --- httptools callbacks ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers_size += len(name) + len(value)
        if self._headers_size > HEADERS_MAX:
            raise httptools.HttpParserError("headers too large")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._parser.get_status_code() < 200:
            return  # 100 Continue and the like
        self._headers_done = True
        self._until_close = "content-length" not in self._headers and "transfer-encoding" not in self._headers
        if self._receiver is not None and self._parser is not None:
            self._receiver.started(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._finished = True

    # --- An exchange ---

    async def exchange(self, request: bytes, receiver: Receiver) -> None:
        """Sends a request and hands the reply to the receiver; returns at its end."""
        assert self._transport is not None
        self._receiver = receiver
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._headers_size, self._body = {}, 0, []
        self._began = self._headers_done = self._finished = self._until_close = self._ending = False
        self._done = self._loop.create_future()
        self._last_read = self._loop.time()
        if self._transport.is_closing():
            raise _Stale
        self._watch()
        self._transport.write(request)
        try:
            await self._done
        except BaseException:
            self.abort()
            raise
        finally:
            self._receiver = None
            if self._timer is not None:
                self._timer.cancel()
        self.used = True

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        if self._transport is None or self._transport.is_closing() or self._until_close or self._parser is None:
            return False
        return bool(self._finished and self._parser.should_keep_alive())

    def rest(self) -> None:
        """Goes to the pool: from here on nothing is expected."""
        self._parser = None

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._last_read = self._loop.time()
            self._transport.resume_reading()

    def expect_end(self) -> None:
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._complete)

    def abort(self) -> None:
        """Closes at once, which also tells the upstream to stop working."""
        if self._transport is not None:
            self._transport.abort()

    def _hand_on(self) -> None:
        if self._body and self._receiver is not None:
            chunk = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = []
            try:
                self._receiver.data(chunk)
            except UpstreamError as error:
                self._fail(error)

    def _complete(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def _watch(self) -> None:
        """One timer per exchange, set anew only when it fires."""
        limit = self._timeouts.idle_seconds if self._began else self._timeouts.first_byte_seconds
        left = self._last_read + limit - self._loop.time()
        if left > 0 or self._paused:
            self._timer = self._loop.call_later(limit if self._paused else left, self._watch)
            return
        what = "went silent" if self._began else "did not answer"
        message = f"The upstream {what} for {limit:g} seconds."
        self._fail(UpstreamError(message, status=504, code="upstream_timeout"))


class HttpClient:
    """Requests to one origin."""

    def __init__(self, base_url: str, timeouts: Timeouts) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{base_url}' is no http or https URL")
        self.base_url = base_url.rstrip("/")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path.rstrip("/")
        self._netloc = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeouts = timeouts
        self._idle: list[Connection] = []

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes, receiver: Receiver) -> None:
        """One exchange, on a kept connection where there is one.  Raises ``UpstreamError``."""
        request = self._encode(method, path, headers, body)
        while True:
            connection = self._idle.pop() if self._idle else await self._connect()
            receiver.flow = connection
            try:
                await connection.exchange(request, receiver)
            except _Stale:
                continue
            if connection.reusable and len(self._idle) < POOL_MAX:
                connection.rest()
                self._idle.append(connection)
            else:
                connection.abort()
            return

    def _encode(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [f"{method} {self._path}{path} HTTP/1.1", f"host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + body

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._timeouts), self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            message = f"No connection to {self.base_url} within {self._timeouts.connect_seconds:g} seconds."
            raise UpstreamError(message, status=504, code="upstream_timeout", retryable=True) from None
        except OSError as error:
            message = f"Cannot connect to {self.base_url}: {error.strerror or error}."
            raise UpstreamError(message, status=502, code="upstream_unreachable", retryable=True) from None
        return connection

    def close(self) -> None:
        """Closes idle connections; busy ones end with their exchange."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
