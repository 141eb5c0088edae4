"""A small HTTP client on raw sockets that checks everything that it is answered.

Each reply has the headers that every reply has; each JSON body and each event stream is what both specifications say;
each event is whole in its chunk.  A test cannot forget to check.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from openai.types.webhooks import (
    DeletedWebhookEndpoint,
    WebhookEndpoint,
    WebhookEndpointList,
    WebhookEndpointTestResult,
    WebhookEndpointWithSecret,
    WebhookEventTypeList,
)
from tests.specification.conformance import (
    check_compaction,
    check_conversation,
    check_deleted,
    check_error,
    check_event,
    check_item,
    check_item_list,
    check_model,
    check_model_list,
    check_openai,
    check_response,
    check_stream,
    parse_sse,
    without_keepalives,
)

Json = dict[str, Any]

#: No test waits longer for anything.
PATIENCE_SECONDS = 10


class Head(NamedTuple):
    """The status line and the headers of a reply; names are in lower case."""

    status: int
    headers: dict[str, str]


class Reply(NamedTuple):
    """A whole reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        decoded: Json = json.loads(self.body)
        return decoded

    @property
    def error(self) -> Json:
        told: Json = self.json["error"]
        return told


class Gone(Exception):
    """The server closed the connection in the middle of a reply."""


class Connection:
    """One connection; requests may follow one another on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> None:
        self.reader = reader
        self.writer = writer
        self._headers = headers

    async def send(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> None:
        """Sends a request.  A body that is no bytes is sent as JSON; a header of None is left out."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given: dict[str, str | None] = dict(self._headers)
        if body is not None:
            given |= {"content-type": "application/json", "content-length": str(len(content))}
        elif method in ("POST", "DELETE"):
            given |= {"content-length": "0"}
        given |= headers or {}
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items() if v is not None), "", ""]
        await self.send_raw("\r\n".join(lines).encode("latin-1") + content)

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.writer.drain()

    async def head(self) -> Head:
        """The next head; interim ones are passed over."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                head = await _read(self.reader.readuntil(b"\r\n\r\n"))
                status_line, *lines = head.decode("latin-1").split("\r\n")
                pairs = [line.partition(": ") for line in lines if line]
                names = [name.lower() for name, _, _ in pairs]
                assert len(set(names)) == len(names), f"a header twice: {names}"
                status = int(status_line.split(" ")[1])
                if status >= 200:
                    return Head(status, {name.lower(): value for name, _, value in pairs})

    async def chunk(self) -> bytes:
        """The next piece of a chunked body; empty at its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            size = int(await _read(self.reader.readuntil(b"\r\n")), 16)
            data = await _read(self.reader.readexactly(size + 2))
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def reply(self, method: str, target: str) -> Reply:
        """The next reply, which answers this request."""
        head = await self.head()
        body = b""
        if head.headers.get("transfer-encoding") == "chunked":
            pieces = [piece async for piece in self._chunks()]
            body = b"".join(pieces)
        elif method != "HEAD" and head.status != 204:
            async with asyncio.timeout(PATIENCE_SECONDS):
                body = await _read(self.reader.readexactly(int(head.headers["content-length"])))
        reply = Reply(head.status, head.headers, body)
        check_reply(method, target, reply)
        return reply

    async def _chunks(self) -> AsyncIterator[bytes]:
        while piece := await self.chunk():
            check_chunk(piece)
            yield piece

    async def request(self, method: str, target: str, body: Any = None, **headers: str | None) -> Reply:
        """A request and its reply."""
        await self.send(method, target, body, _named(headers))
        return await self.reply(method, target)

    def leave(self) -> None:
        """Closes the connection as a process that was killed does."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.transport.abort()

    async def at_end(self) -> bool:
        """Whether the server closes the connection without another word."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


async def _read(reading: Any) -> bytes:
    try:
        data: bytes = await reading
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Gone from error
    return data


def _named(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Stream:
    """An event stream as it comes."""

    def __init__(self, connection: Connection, head: Head, target: str) -> None:
        self.connection = connection
        self.head = head
        self.raw = b""
        self.events: list[Json] = []
        self._target = target

    async def more(self) -> list[Json]:
        """The events of the next chunk, keep-alives among them; none at the end of the stream."""
        piece = await self.connection.chunk()
        if not piece:
            check_reply("GET", self._target, Reply(self.head.status, self.head.headers, self.raw))
            return []
        check_chunk(piece)
        self.raw += piece
        data = [block.rpartition("data: ")[2] for block in piece.decode().split("\n\n")]
        new = [json.loads(text) for text in data if text.startswith("{")]
        self.events += new
        return new or [{"type": "comment"}] if b"data:" not in piece else new or [{"type": "done"}]

    async def until(self, kind: str) -> Json:
        """The next event of this type, without `response.`; everything before it was read."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event["type"] == f"response.{kind}":
                    return event
            seen = len(self.events)
            assert await self.more(), f"the stream ended without {kind}"

    async def whole(self) -> list[Json]:
        """All events to the end, checked."""
        while await self.more():
            pass
        return self.events

    async def text(self) -> str:
        return text_of(await self.whole())


class Client:
    """Requests to one server with the same headers."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self.port = port
        self.headers = {"host": f"127.0.0.1:{port}", "accept": "application/json"} | dict(headers or {})

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[Connection]:
        """A connection that is closed at the end."""
        place = {} if "sock" in options else {"host": "127.0.0.1", "port": self.port}
        reader, writer = await asyncio.open_connection(**place, **options)
        connection = Connection(reader, writer, self.headers)
        try:
            yield connection
        finally:
            await connection.close()

    async def request(self, method: str, target: str, body: Any = None, **headers: str | None) -> Reply:
        """A request on a connection of its own, and the checked reply; `_` in names of headers is `-`."""
        async with self.connected() as connection:
            return await connection.request(method, target, body, **headers)

    async def get(self, target: str, **headers: str | None) -> Reply:
        return await self.request("GET", target, **headers)

    async def post(self, target: str, body: Any = None, **headers: str | None) -> Reply:
        return await self.request("POST", target, body, **headers)

    async def create(self, **parameters: Any) -> Json:
        """A response that was made; anything but 200 fails."""
        reply = await self.post("/v1/responses", asked(**parameters))
        assert reply.status == 200, reply.body
        return reply.json

    async def refused(self, **parameters: Any) -> Reply:
        """The reply to a request that was not served."""
        reply = await self.post("/v1/responses", asked(**parameters))
        assert reply.status >= 400, reply.body
        return reply

    @asynccontextmanager
    async def streaming(self, **parameters: Any) -> AsyncIterator[Stream]:
        """A response as it is made."""
        async with self.followed("POST", "/v1/responses", asked(stream=True, **parameters)) as stream:
            yield stream

    @asynccontextmanager
    async def followed(self, method: str, target: str, body: Any = None, **options: Any) -> AsyncIterator[Stream]:
        """An event stream."""
        async with self.connected(**options) as connection:
            await connection.send(method, target, body)
            head = await connection.head()
            assert head.status == 200, (head, await connection.reader.read(1000))
            yield Stream(connection, head, target)

    async def stream(self, **parameters: Any) -> list[Json]:
        """All events of a response, checked."""
        async with self.streaming(**parameters) as stream:
            return await stream.whole()


def asked(**parameters: Any) -> Json:
    """The body of a request."""
    return {"model": "demo", "input": "Hello"} | parameters


def text_of(events: list[Json]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


# --- What every reply is ---

RESPONSE = r"/v1/responses/[^/]+"


def check_reply(method: str, target: str, reply: Reply) -> None:
    """Raises AssertionError unless the reply is what this endpoint may answer."""
    path, _, query = target.partition("?")
    check_headers(reply)
    if reply.status == 204 or method == "HEAD":
        assert reply.body == b""
    elif reply.headers["content-type"].startswith("text/event-stream"):
        check_events(reply, partial="starting_after" in query)
    elif reply.status >= 400:
        check_failure(reply)
    else:
        check_body(method, path, reply.json)


def check_headers(reply: Reply) -> None:
    headers = reply.headers
    assert re.fullmatch(r"req_[0-9A-Za-z]{24,}", headers["x-request-id"]), headers
    assert headers["openai-version"] == "2020-10-01"
    assert headers["openai-processing-ms"].isdigit()
    if reply.status != 204:
        assert headers["content-type"] in ("application/json", "text/event-stream; charset=utf-8")
    if reply.status == 429 or reply.status >= 500:
        assert headers["x-should-retry"] in ("true", "false")


def check_failure(reply: Reply) -> None:
    assert reply.status != 409, "the SDKs send it again"
    if "error" in reply.json or reply.status != 503:
        check_error(reply.json)


def check_body(method: str, path: str, body: Json) -> None:
    if path.startswith("/v1/webhook_"):
        check_webhooks(method, path, body)
    elif re.fullmatch(r"/v1/conversations/[^/]+/items", path):
        check_item_list(body, conversation=True)
    elif re.fullmatch(r"/v1/conversations/[^/]+/items/[^/]+", path) and method == "GET":
        check_item(body)
    elif path.startswith("/v1/conversations") and (method != "DELETE" or "/items/" in path):
        check_conversation(body)
    elif method == "DELETE":
        check_deleted(body)
    elif path == "/v1/models":
        check_model_list(body)
    elif path.startswith("/v1/models/"):
        check_model(body)
    elif path.endswith("/input_items"):
        check_item_list(body)
    elif path == "/v1/responses/input_tokens":
        check_openai("TokenCountsResource", body)
    elif path == "/v1/responses/compact":
        check_compaction(body)
    elif re.fullmatch(rf"/v1/responses|{RESPONSE}|{RESPONSE}/cancel", path):
        check_response(body)
    else:
        assert path in ("/health", "/ready", "/openapi.json"), path


def check_webhooks(method: str, path: str, body: Json) -> None:
    """No published document has these, so that they are held against the types of the official SDK."""
    kind = {
        "webhook_endpoint": WebhookEndpointWithSecret if "signing_secret" in body else WebhookEndpoint,
        "webhook_endpoint.deleted": DeletedWebhookEndpoint,
        "webhook_endpoint.test": WebhookEndpointTestResult,
        "list": WebhookEventTypeList if path.endswith("event_types") else WebhookEndpointList,
    }[body["object"]]
    parsed = kind.model_validate(body, strict=True)
    assert set(parsed.model_extra or ()) <= {"disabled_at"}
    secret = (path == "/v1/webhook_endpoints" and method == "POST") or path.endswith("/rotate_secret")
    assert ("signing_secret" in body) == secret


def check_chunk(piece: bytes) -> None:
    """Each event stays whole in its chunk: some readers lose one that is cut (reference 8)."""
    if piece[:1] in (b"e", b":", b"d"):
        assert piece.endswith(b"\n\n"), piece[-80:]


def check_events(reply: Reply, *, partial: bool) -> None:
    headers = reply.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    events = parse_sse(reply.body)
    if not partial:
        check_stream(events)
        return
    kept = without_keepalives(events)
    for event in kept:
        check_event(event)
    numbers = [event["sequence_number"] for event in kept]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
