"""A request as handlers see it, and a reply as they give it.

Must not know of routes.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qs

from antiphon.protocol.errors import ApiError, invalid
from antiphon.web.transport import Connection, Message, Receive, Scope, Send

WARNINGS = b"x-antiphon-warnings"
T = TypeVar("T")

JSON = (b"content-type", b"application/json")
QUERY_FIELDS_MAX = 100
#: Names in the header of warnings, and characters of each: clients take 8 KiB of a header at the most.
WARNINGS_MAX = 50
WARNING_MAX = 80
#: How long the next piece of a body may take.
BODY_IDLE_SECONDS = 60.0
_UNPRINTABLE = re.compile(r"[^ -~]|,")


#: The boundary around one piece of work that is named by a request's id: what went wrong, as clients are told.
Guard: TypeAlias = Callable[[str, Awaitable[None]], Awaitable[ApiError | None]]


class Reply(NamedTuple):
    """A whole reply."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Head:
    """What stands before the body of a request, and what is known of it."""

    def __init__(self, scope: Scope, request_id: str) -> None:
        self.path: str = scope["path"]
        self.id = request_id
        self.project = ""
        self.warnings: list[str] = []
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.cors: list[tuple[bytes, bytes]] = []
        self.began = time.perf_counter()

    def reply_headers(self) -> list[tuple[bytes, bytes]]:
        """What every reply carries (reference 1.3)."""
        took = int((time.perf_counter() - self.began) * 1000)
        headers = [
            (b"x-request-id", self.id.encode()),
            (b"openai-version", b"2020-10-01"),
            (b"openai-processing-ms", b"%d" % took),
            *self.cors,
        ]
        if self.warnings:
            headers.append((WARNINGS, told_warnings(self.warnings)))
        return headers


class Request(Head):
    """One HTTP request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        super().__init__(scope, request_id)
        self.method: str = scope["method"]
        self.params: dict[str, str] = {}
        self.connection = Connection(scope, receive, send)
        self._query: bytes = scope["query_string"]
        self._receive = receive
        self._scope = scope

    def forget_head(self) -> None:
        """A reply may last for an hour, and clients send kilobytes of headers."""
        self.headers = {}
        self._scope["headers"].clear()

    @property
    def query(self) -> dict[str, list[str]]:
        """Query parameters, each with all its values."""
        if not self._query:
            return {}
        try:
            return parse_qs(self._query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        except ValueError:
            raise invalid(f"Too many query parameters: expected at most {QUERY_FIELDS_MAX}.", None) from None

    async def json(self, limit: int) -> bytes:
        """The body.  Raises ``ApiError`` 413 or 415."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = f"Unsupported content type: '{kind}'. This API accepts 'application/json' only."
            raise ApiError(415, message, code="unsupported_content_type")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            message = f"Unsupported content encoding: '{self.headers['content-encoding']}'. Send the body as it is."
            raise ApiError(415, message, code="unsupported_content_encoding")
        length = self.headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        return await self._read(limit)

    async def json_or_nothing(self, limit: int) -> bytes:
        """The body, where there is one; without one, as with curl, no type is needed either."""
        nothing = self.headers.get("content-length", "0") == "0" and "transfer-encoding" not in self.headers
        return b"" if nothing else await self.json(limit)

    async def _read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                raise _too_large(limit)
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _next(self) -> Message:
        if self.connection.has_body:
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_IDLE_SECONDS):
                return await self._receive()
        except TimeoutError:
            message = f"The request's body did not come within {BODY_IDLE_SECONDS:g} seconds."
            raise ApiError(408, message, code="request_timeout", headers=(("connection", "close"),)) from None


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; it ends when the client leaves.  Raises ``ClientGone`` then."""
    task = asyncio.ensure_future(work)
    request.connection.on_gone = lambda: _cancel(task)
    request.connection.watch()
    try:
        return await task
    except asyncio.CancelledError:
        task.cancel()
        if request.connection.gone:
            raise ClientGone from None
        raise


def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()


def told_warnings(names: Sequence[str]) -> bytes:
    """The names on one line.  They are the client's: nothing of them may end the header or overflow it."""
    told = [_UNPRINTABLE.sub("?", name)[:WARNING_MAX] for name in names[:WARNINGS_MAX]]
    if len(names) > WARNINGS_MAX:
        told.append("...")
    return ", ".join(told).encode("ascii")


class ClientGone(Exception):
    """Nobody is there to be answered."""


def _too_large(limit: int) -> ApiError:
    message = f"The request body is too large: this server takes {limit} bytes at the most."
    return ApiError(413, message, code="request_too_large")
