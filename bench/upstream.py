"""A fake model server: POST /v1/chat/completions as vLLM answers it, GET /v1/models, and GET /replay/MODEL.

The last plays a recorded reply with the timing of that model. Own process. Knows nothing of Antiphon.

A model's name says how it behaves: `bench-t256-r20-c1` gives 256 tokens, 20 writes a second, 1 token in each write;
`r0` writes as fast as the other side reads. Streams start spread over one interval, so that they do not tick together.
"""

import argparse
import asyncio
import itertools
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop

from bench.pacing import Pacer

NAME = re.compile(r"bench-t(\d+)-r(\d+(?:\.\d+)?)-c([1-9]\d*)")
BODY_BYTES_MAX = 64 << 20
STREAMS_MAX = 10_000
WORDS = ("the", "unicorn", "forest", "night", "under", "a", "silver", "star", "slept", "until", "morning", "came")
STAMP = b'"id":"chatcmpl-5f0c2b7d94e64a1f8a3c7be1","object":"chat.completion%s","created":1764000000,"model":"%s"'
CHUNK = b'data: {%s,"choices":[{"index":0,"delta":{%s},"logprobs":null,"finish_reason":%s}]}\n\n'


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None


class Recording(msgspec.Struct):
    """A reply of the server under test: what came before the first token, with each token, and after the last."""

    headers: list[tuple[str, str]]
    head: str
    tokens: list[str]
    tail: str


@dataclass(frozen=True)
class Behaviour:
    tokens: int
    interval_seconds: float
    tokens_per_write: int


def behaviour(model: str) -> Behaviour | None:
    """What the name asks for; None where it is not one of this server's names."""
    match = NAME.fullmatch(model)
    if match is None:
        return None
    rate = float(match[2])
    return Behaviour(int(match[1]), 1 / rate if rate else 0.0, int(match[3]))


def word(number: int) -> bytes:
    return b" " + WORDS[number * 7 % len(WORDS)].encode()


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def reply(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    return head + body


def usage(request_bytes: int, tokens: int) -> bytes:
    counts = (request_bytes // 4, tokens, request_bytes // 4 + tokens)
    return b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % counts


@cache
def stream_writes(model: str) -> tuple[bytes, ...]:
    """The response head with the role chunk, then the tokens as they are written; each SSE event is an HTTP chunk."""
    how = behaviour(model)
    assert how is not None
    stamp = STAMP % (b".chunk", model.encode())
    tokens = [chunk(CHUNK % (stamp, b'"content":"%s"' % word(i), b"null")) for i in range(how.tokens)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    role = chunk(CHUNK % (stamp, b'"role":"assistant","content":""', b"null"))
    size = how.tokens_per_write
    return (head + role, *(b"".join(tokens[i : i + size]) for i in range(0, len(tokens), size)))


def stream_end(model: str, request_bytes: int, with_usage: bool) -> bytes:
    how = behaviour(model)
    assert how is not None
    stamp = STAMP % (b".chunk", model.encode())
    end = chunk(CHUNK % (stamp, b"", b'"stop"'))
    if with_usage:
        end += chunk(b'data: {%s,"choices":[],%s}\n\n' % (stamp, usage(request_bytes, how.tokens)))
    return end + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def whole_reply(model: str, request_bytes: int) -> bytes:
    how = behaviour(model)
    assert how is not None
    text = b"".join(word(i) for i in range(how.tokens))
    choice = b'{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}' % text
    body = b'{%s,"choices":[%s],%s}' % (STAMP % (b"", model.encode()), choice, usage(request_bytes, how.tokens))
    return reply(b"200 OK", body)


@cache
def replay_writes(path: Path) -> tuple[bytes, ...]:
    """A recording as this server writes it: its own headers and bytes, cut where the server under test cut them."""
    recording = msgspec.json.decode(path.read_bytes(), type=Recording)
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in recording.headers)
    first = recording.head.encode()
    if not recording.tokens:
        return (head + b"content-length: %d\r\n\r\n" % len(first) + first,)
    how = behaviour(path.stem)
    size = how.tokens_per_write if how else 1
    groups = ["".join(recording.tokens[i : i + size]) for i in range(0, len(recording.tokens), size)]
    opening = head + b"transfer-encoding: chunked\r\n\r\n" + (chunk(first) if first else b"")
    return (opening, *(chunk(g.encode()) for g in groups), chunk(recording.tail.encode()) + b"0\r\n\r\n")


@dataclass
class Server:
    loop: asyncio.AbstractEventLoop
    pacer: Pacer
    models: Sequence[str]
    replays: Path
    phases: "itertools.count[int]"
    open_streams: int = 0


class Connection(asyncio.Protocol):
    """One client. Requests on it come one after the other; the stream that is playing is `_writes` from `_next` on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._body = bytearray()
        self._url = b""
        self._writes: tuple[bytes, ...] = ()
        self._next = 0
        self._interval = 0.0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass of it
        self._parser = httptools.HttpRequestParser(self)
        self._server.open_streams += 1
        if self._server.open_streams > STREAMS_MAX:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._server.open_streams -= 1
        self._writes = ()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writes and not self._interval:
            self._flood()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._transport.abort()

    def on_message_complete(self) -> None:
        url, body = self._url.decode(), bytes(self._body)
        self._url = b""
        self._body.clear()
        if url == "/v1/chat/completions":
            self._complete(body)
        elif url.startswith("/replay/"):
            self._replay(url.removeprefix("/replay/"))
        elif url == "/v1/models":
            shared = {"object": "model", "created": 1764000000, "owned_by": "bench"}
            entries = [{"id": model, **shared} for model in self._server.models]
            self._transport.write(reply(b"200 OK", msgspec.json.encode({"object": "list", "data": entries})))
        else:
            self._transport.write(reply(b"404 Not Found", b'{"error":{"message":"not found"}}'))

    def _complete(self, body: bytes) -> None:
        try:
            request = msgspec.json.decode(body, type=ChatRequest)
        except msgspec.MsgspecError as error:
            self._transport.write(reply(b"400 Bad Request", msgspec.json.encode({"error": {"message": str(error)}})))
            return
        how = behaviour(request.model)
        if how is None:
            self._transport.write(reply(b"404 Not Found", b'{"error":{"message":"unknown model"}}'))
        elif request.stream:
            with_usage = request.stream_options is not None and request.stream_options.include_usage
            end = stream_end(request.model, len(body), with_usage)
            self._play((*stream_writes(request.model), end), how.interval_seconds)
        else:
            self._play((b"", whole_reply(request.model, len(body))), how.interval_seconds * how.tokens, 1.0)

    def _replay(self, name: str) -> None:
        path = self._server.replays / f"{name}.json"
        if "/" in name or not path.is_file():
            self._transport.write(reply(b"404 Not Found", b'{"error":{"message":"no such recording"}}'))
            return
        how = behaviour(name)
        self._play(replay_writes(path), how.interval_seconds if how else 0.0)

    def _play(self, writes: tuple[bytes, ...], interval_seconds: float, phase: float | None = None) -> None:
        """The first write leaves at once, the second after a share of the interval, the others an interval apart."""
        self._writes, self._next, self._interval = writes, 0, interval_seconds
        if not interval_seconds:
            self._flood()
        elif self.step() is not None:
            if phase is None:  # steps of the golden ratio spread any number of streams evenly
                phase = next(self._server.phases) * 0.6180339887 % 1
            self._server.pacer.add(self, interval_seconds * phase)

    def _flood(self) -> None:
        if self.step() is not None and not self._paused:
            self._server.loop.call_soon(self._flood)

    def step(self) -> float | None:
        if self._next >= len(self._writes):
            return None
        self._transport.write(self._writes[self._next])
        self._next += 1
        if self._next < len(self._writes):
            return self._interval
        self._writes = ()
        return None


async def serve(port: int, models: Sequence[str], replays: Path) -> None:
    loop = asyncio.get_running_loop()
    server = Server(loop, Pacer(loop), models, replays, itertools.count())
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    await stop.wait()
    listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", action="append", default=[], help="a name for GET /v1/models; may be repeated")
    parser.add_argument("--replays", type=Path, default=Path(), help="folder of recordings, one MODEL.json each")
    options = parser.parse_args()
    unknown = [m for m in options.model if behaviour(m) is None]
    if unknown:
        parser.error(f"not a bench model name: {unknown[0]}")
    uvloop.run(serve(options.port, options.model, options.replays))


if __name__ == "__main__":
    main()
