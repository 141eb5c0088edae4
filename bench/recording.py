"""Talks to the server under test one request at a time, and records a reply for nginx to forward.

Knows the HTTP surface and where a token's event ends, nothing of the load.
"""

import re
import socket
from dataclasses import dataclass, field

import httptools
import msgspec

from bench.upstream import Recording

TOKEN = re.compile(r"response\.output_text\.delta\"")
MADE_BY_EACH_HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "date", "server"}


@dataclass
class Reply:
    """One reply; `pieces` are the HTTP chunks as the server cut them (one piece where it sent a content-length)."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def recorded(self) -> Recording:
        """The reply cut at its tokens: events that came in one chunk with a token stay with it, tokens are single."""
        headers = [(k, v) for k, v in self.headers if k.lower() not in MADE_BY_EACH_HOP]
        recording = Recording(headers, "", [], "")
        for piece in (p.decode() for p in self.pieces):
            *closed, rest = re.split(r"(?<=\n\n)", piece) if TOKEN.search(piece) else [piece]
            pending = ""
            for event in closed:
                pending += event
                if TOKEN.search(event):
                    recording.tokens.append(pending)
                    pending = ""
            if recording.tokens:
                recording.tail += pending + rest
            else:
                recording.head += pending + rest
        return recording


class Caller:
    """A keep-alive connection for one request after the other; every wait on the socket is bounded."""

    def __init__(self, port: int, seconds: float = 120.0) -> None:
        self._host = f"127.0.0.1:{port}"
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, path: str, body: object = None) -> Reply:
        """Raises RuntimeError unless the reply is a whole 200."""
        payload = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\n"
        if payload:
            head += f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + payload)
        collector = Collector()
        parser = httptools.HttpResponseParser(collector)
        while not collector.complete:
            data = self._socket.recv(1 << 18)
            if not data:
                raise RuntimeError(f"{method} {path}: the connection ended inside the reply")
            parser.feed_data(data)
        collector.reply.status = parser.get_status_code()
        if collector.reply.status != 200:
            raise RuntimeError(f"{method} {path}: {collector.reply.status} {collector.reply.body[:1000]!r}")
        return collector.reply


class Collector:
    """httptools' callbacks for one reply."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.complete = False
        self._piece = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.reply.headers.append((name.decode(), value.decode()))

    def on_body(self, body: bytes) -> None:
        self._piece += body

    def on_chunk_complete(self) -> None:
        if self._piece:
            self.reply.pieces.append(self._piece)
            self._piece = b""

    def on_message_complete(self) -> None:
        self.on_chunk_complete()
        self.complete = True
