"""A small HTTP/1.1 client that pushes: what one read of the socket brings is handed on in one call.

It costs a third of a general client's CPU per chunk, and wakes no task until the end.  Knows nothing of dialects.
No proxies, no redirects, no compression: an upstream is configured by the operator and sits near.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from antiphon.engine.ports.upstreams import UpstreamError

#: Idle connections kept per upstream.
POOL_MAX = 256
#: A reply's header block at the most.
HEADERS_MAX = 64 * 1024
#: A reply that is read as a whole, at the most.
REPLY_MAX = 64 * 1024 * 1024
#: How long a reply may linger after everything that matters has come.
LINGER_SECONDS = 1.0
_VERSION = re.compile(r"/v\d+$")


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds until a connection stands, until the reply begins, and between two reads of it."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 600.0
    idle_seconds: float = 120.0


class Flow(Protocol):
    """What a receiver may do to the reply that feeds it; after the reply's end it does nothing."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def expect_end(self) -> None:
        """All that matters has come; the reply may end soon or be cut."""


class Body:
    """What is sent.  It is let go when the reply begins: no other try follows then, and a reply may last long."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def let_go(self) -> None:
        self.data = b""


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

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.used = False
        self._transport: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.abort()  # bytes that nobody asked for
        else:
            self.exchange.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.exchange is not None:
            self.exchange.lost(exc)

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def sent_everything(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def pause(self, paused: bool) -> None:
        """Stops reading, or goes on."""
        if self._paused is paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Closes at once, which also tells the upstream to stop working."""
        if self._transport is not None:
            self._transport.abort()


class Exchange:
    """One request and its reply; the ``Flow`` of its receiver.

    It lets go of the connection at the end, so that a reader that catches up later cannot stop or start what the
    connection does for somebody else by then.
    """

    def __init__(self, connection: Connection, receiver: Receiver, timeouts: Timeouts) -> None:
        self._connection: Connection | None = connection
        self._receiver = receiver
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._last_read = self._loop.time()
        self._sent = Body()
        self._headers: dict[str, str] = {}
        self._headers_size = 0
        self._refused: UpstreamError | None = None
        self._body: list[bytes] = []
        self._began = False
        self._headers_done = False
        self._until_close = False
        self._finished = False
        self._keep_alive = False
        self._ending = False
        self._paused = False

    async def run(self, head: bytes, body: Body) -> bool:
        """Sends a request and hands the reply on until its end; whether the connection can be used again."""
        connection = self._connection
        assert connection is not None
        self._sent = body
        connection.exchange = self
        self._receiver.flow = self
        try:
            if connection.closed:
                self.lost(None)
            else:
                self._watch()
                connection.write(head + body.data)
            await self._done
        except BaseException:
            connection.abort()
            raise
        finally:
            connection.exchange = self._connection = None
            if self._timer is not None:
                self._timer.cancel()
        connection.used = True
        connection.pause(False)
        return self._keep_alive and connection.sent_everything and not connection.closed

    # --- What the connection says ---

    def take(self, data: bytes) -> None:
        """What one read brought."""
        self._last_read = self._loop.time()
        if not self._began:
            self._began = True
            self._sent.let_go()
            self._watch()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep_alive = False
            self._hand_on()
            self._give_up(self._refused)
            self._fail(UpstreamError(f"The upstream sent a malformed reply: {error}."))
            return
        self._hand_on()
        if self._finished:
            self._complete()
        elif not self._headers_done:
            self._head_grew(len(data))

    def lost(self, reason: Exception | None) -> None:
        """The connection is gone."""
        assert self._connection is not None
        if not self._began and self._connection.used:
            self._fail(_Stale())
        elif self._ending or (self._headers_done and self._until_close and reason is None):
            self._complete()
        else:
            why = f": {reason}" if reason else ""
            message = f"The connection to the upstream was lost{why}."
            self._fail(UpstreamError(message, code="upstream_cut", retryable=True))

    # --- httptools callbacks ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._headers_done or status < 200:
            self._headers = {}
            return  # 100 Continue and the like, or bytes after the reply
        self._headers_done = True
        chunked = self._headers.get("transfer-encoding", "").lower().endswith("chunked")
        self._until_close = not chunked and "content-length" not in self._headers
        try:
            self._receiver.started(status, self._headers)
        except UpstreamError as error:
            self._refused = error  # the parser makes an error of its own of what its callbacks raise
            raise

    def on_body(self, body: bytes) -> None:
        if not self._finished:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._headers_done:
            # A second reply that nobody asked for: the connection is out of step.
            self._keep_alive = not self._finished and self._parser.should_keep_alive()
            self._finished = True

    # --- What the receiver says ---

    def pause(self) -> None:
        if self._connection is not None:
            self._paused = True
            self._connection.pause(True)

    def resume(self) -> None:
        if self._connection is not None:
            self._paused = False
            self._last_read = self._loop.time()
            self._connection.pause(False)

    def expect_end(self) -> None:
        if self._ending:
            return
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._complete)

    # --- The end ---

    def _hand_on(self) -> None:
        if not self._body or self._done.done():
            return
        chunk = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        try:
            self._receiver.data(chunk)
        except UpstreamError as error:
            self._give_up(error)

    def _head_grew(self, size: int) -> None:
        """Counted by what was read: the parser keeps a header to itself until it is whole."""
        self._headers_size += size
        if self._headers_size > HEADERS_MAX:
            self._give_up(UpstreamError(f"The upstream sent more than {HEADERS_MAX} bytes of headers."))

    def _complete(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        """What goes wrong after a whole reply is nobody's concern."""
        if self._finished or self._ending:
            self._complete()
        else:
            self._give_up(error)

    def _give_up(self, error: Exception | None) -> None:
        if error is not None and not self._done.done():
            self._done.set_exception(error)

    def _watch(self) -> None:
        """One timer per exchange, set anew only when it fires and when the reply begins."""
        if self._timer is not None:
            self._timer.cancel()
        limit = self._timeouts.idle_seconds if self._began else self._timeouts.first_byte_seconds
        left = self._last_read + limit - self._loop.time()
        if left > 0 or self._paused:
            self._timer = self._loop.call_later(limit if self._paused else left, self._watch)
            return
        what = "went silent" if self._began else "did not answer"
        message = f"The upstream {what} for {limit:g} seconds."
        self._fail(UpstreamError(message, status=504, code="upstream_timeout"))


class HttpClient:
    """Requests to one origin, which messages to clients call by its ``name``, if it has one, and never by its URL.

    Raises ``ValueError`` for a URL or a file of certificates that cannot be used.
    """

    def __init__(self, base_url: str, timeouts: Timeouts, *, name: str = "", ca_file: str | None = None) -> None:
        try:
            parts = urlsplit(base_url)
        except ValueError:
            raise ValueError("an upstream's URL cannot be read") from None
        if "@" in (parts.netloc or base_url) or "?" in base_url or "#" in base_url:
            # The URL stands in logs, so that it may hold no secret; nor may this sentence.
            raise ValueError(
                "an upstream's URL has no user, password, query or fragment; give its key with key or key_env"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{base_url}' is no http or https URL")
        if not base_url.isascii() or not base_url.isprintable() or " " in base_url:
            raise ValueError(f"'{base_url}' has characters that a URL cannot have")
        self.base_url = base_url.rstrip("/")
        self.called = f"the upstream '{name}'" if name else "the upstream"
        self._host = parts.hostname
        try:
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ValueError(f"the port of the upstream at '{parts.hostname}' is no number up to 65535") from None
        self._path = parts.path.rstrip("/")
        #: Where paths begin that stand beside the version of the API, not below it.
        self._root = _VERSION.sub("", self._path)
        self._netloc = parts.netloc
        self._tls = _tls(ca_file) if parts.scheme == "https" else None
        self._timeouts = timeouts
        self._idle: list[Connection] = []
        self._closed = False

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body,
        receiver: Receiver,
        *,
        from_root: bool = False,
    ) -> None:
        """One exchange, on a kept connection where there is one.  Raises ``UpstreamError``.

        The path goes on the base URL's; with ``from_root`` the base URL's without its version.
        """
        head = self._head(method, (self._root if from_root else self._path) + path, headers, len(body.data))
        kept = self._kept()
        if kept is not None:
            try:
                return await self._exchange(kept, head, body, receiver)
            except _Stale:
                pass  # closed by the other side while it lay idle: once more, on a fresh one
        return await self._exchange(await self._connect(), head, body, receiver)

    async def _exchange(self, connection: Connection, head: bytes, body: Body, receiver: Receiver) -> None:
        reusable = await Exchange(connection, receiver, self._timeouts).run(head, body)
        if reusable and not self._closed and len(self._idle) < POOL_MAX:
            self._idle.append(connection)
        else:
            connection.abort()

    def _kept(self) -> Connection | None:
        """The connection used last that still stands."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    def _head(self, method: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {length}", "", ""]
        return "\r\n".join(lines).encode("ascii")

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_seconds):
                _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        except TimeoutError:
            within = f"within {self._timeouts.connect_seconds:g} seconds"
            raise UpstreamError(
                f"No connection to {self.called} {within}.",
                detail=f"No connection to {self.base_url} {within}.",
                status=504,
                code="upstream_timeout",
                retryable=True,
            ) from None
        except ssl.SSLError as error:
            raise self._tls_failure(error) from None
        except (OSError, UnicodeError) as error:  # the resolver says UnicodeError for a name that can be none
            what = getattr(error, "strerror", None) or error
            raise UpstreamError(
                f"Cannot connect to {self.called}.",
                detail=f"Cannot connect to {self.base_url}: {what}.",
                code="upstream_unreachable",
                retryable=isinstance(error, OSError),
            ) from None
        return connection

    def _tls_failure(self, error: ssl.SSLError) -> UpstreamError:
        if isinstance(error, ssl.SSLCertVerificationError):
            message = f"The certificate of {self.called} is not trusted."
            why = f"The certificate of {self.base_url} is not trusted: {error.verify_message}. "
            detail = why + "Name the file of its authority with `ca_file`."
        else:
            message = f"No TLS connection to {self.called}."
            detail = f"No TLS connection to {self.base_url}: {error.reason or error}."
        return UpstreamError(message, detail=detail, code="upstream_unreachable")

    def close(self) -> None:
        """Closes idle connections; busy ones end with their exchange."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()


def _tls(ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities, and one more."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"'{ca_file}' is no file of certificates: {error.strerror or error}") from None
    return context
