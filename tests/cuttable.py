"""A TCP proxy that can be cut, stalled and taught when to do so: what a network does to a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto

CHUNK_BYTES = 1 << 16


class Verdict(Enum):
    """What becomes of bytes on their way to the server."""

    PASS = auto()
    #: They do not arrive, and the connection breaks.
    CUT = auto()
    #: They arrive, but the connection breaks before anything of the answer comes back.
    CUT_ANSWER = auto()
    #: They arrive, the answer does not, and nobody is told.
    LOSE_ANSWER = auto()


Rule = Callable[[bytes], Verdict]


def once(pattern: bytes, verdict: Verdict) -> Rule:
    """A rule for the first bytes that hold the pattern."""
    left = [verdict]

    def rule(data: bytes) -> Verdict:
        return left.pop() if pattern in data and left else Verdict.PASS

    return rule


class Cuttable:
    """Forwards to `host:port`; listens on a free port of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        #: Whether new connections are taken; otherwise they are dropped at once.
        self.accepting = True
        self.rule: Rule = lambda data: Verdict.PASS
        #: Set when a connection was turned away.
        self.refused = asyncio.Event()
        self.cuts = 0
        self.accepted = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def open(self) -> int:
        """Connections that are alive."""
        return len(self._pairs)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            self.refused.set()
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.wait_for(asyncio.open_connection(*self._target), 5)
        except OSError:
            writer.transport.abort()
            return
        self.accepted += 1
        pair = _Pair(self, (reader, writer), upstream)
        self._pairs.add(pair)
        try:
            await pair.forward()
        finally:
            self._pairs.discard(pair)

    def cut(self) -> None:
        """Breaks every connection."""
        for pair in list(self._pairs):
            self.cut_one(pair)

    def cut_one(self, pair: _Pair) -> None:
        self.cuts += 1
        pair.abort()

    def refuse(self) -> None:
        """Breaks every connection and takes no more."""
        self.accepting = False
        self.cut()

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def flowing(self) -> None:
        await self._flowing.wait()

    async def close(self) -> None:
        self.accepting = False
        self.flow()
        self.cut()
        if self._server is not None:
            self._server.close()
            await asyncio.wait_for(self._server.wait_closed(), 5)


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Pair:
    """One connection of a client with its continuation to the server."""

    def __init__(self, proxy: Cuttable, client: _Stream, server: _Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._answer = Verdict.PASS

    async def forward(self) -> None:
        """Returns when either side has ended."""
        ways = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.abort()

    async def _up(self) -> None:
        while data := await _read(self._client[0]):
            await self._proxy.flowing()
            verdict = self._proxy.rule(data)
            if verdict is Verdict.CUT:
                self._proxy.cut_one(self)
                return
            if verdict is not Verdict.PASS:
                self._answer = verdict
            await _write(self._server[1], data)

    async def _down(self) -> None:
        while data := await _read(self._server[0]):
            await self._proxy.flowing()
            if self._answer is Verdict.CUT_ANSWER:
                self._proxy.cut_one(self)
                return
            if self._answer is Verdict.PASS:
                await _write(self._client[1], data)

    def abort(self) -> None:
        for _, writer in (self._client, self._server):
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Bytes, or none at the end, however that came."""
    with contextlib.suppress(OSError):
        return await reader.read(CHUNK_BYTES)
    return b""


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def cuttable(port: int, host: str = "127.0.0.1") -> AsyncIterator[Cuttable]:
    """A proxy before a server on this machine."""
    proxy = Cuttable(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
