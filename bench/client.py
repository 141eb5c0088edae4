"""A cheap load: opens connections, sends requests, drains the replies, counts what is in them.

Own process: reads one `Load` as JSON from standard input and prints one `Result` as JSON.
Knows HTTP and the marks it counts, nothing else.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import cast

import httptools
import msgspec
import uvloop

CONNECTING_MAX = 64  # connections that are being opened at once


class Load(msgspec.Struct, kw_only=True):
    """`requests` requests in all over `connections` connections, the paths taken in turn, within `deadline_seconds`.

    With `hold` nothing is awaited to its end: once every reply has brought its first bytes the result is printed, and
    the streams stay open until standard input closes.
    """

    port: int
    method: str = "POST"
    paths: list[str]
    body: str = ""
    connections: int
    requests: int
    token_mark: str = 'response.output_text.delta"'  # once in the data of each token's event
    end_mark: str = 'response.completed"'  # once in every reply that came to its end; empty: any 200 counts
    deadline_seconds: float = 120.0
    hold: bool = False


class Result(msgspec.Struct, kw_only=True):
    """`failure` tells of the first reply that was not 200, lacked the end mark or never ended; it ends the run."""

    completed: int = 0
    failure: str = ""
    tokens: int = 0
    body_bytes: int = 0
    reads: int = 0  # socket reads that brought bytes
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    durations: list[float] = []


class Mark:
    """Counts a byte string in a stream of pieces, also where it lies across two of them."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.count = 0
        self._kept = b""

    def feed(self, piece: bytes) -> None:
        seen = self._kept + piece
        self.count += seen.count(self.text)
        self._kept = seen[-len(self.text) + 1 :]

    def reset(self) -> int:
        """The count so far; starts anew."""
        count, self.count, self._kept = self.count, 0, b""
        return count


@dataclass
class Run:
    load: Load
    result: Result
    everything: "asyncio.Future[None]"
    sent: int = 0
    begun: int = 0

    def next_request(self) -> bytes | None:
        """The next request's bytes; None when all are sent."""
        load = self.load
        if self.sent >= load.requests:
            return None
        path = load.paths[self.sent % len(load.paths)]
        self.sent += 1
        body = load.body.encode()
        head = f"{load.method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\naccept: */*\r\n"
        if load.method != "GET":
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    def failed(self, reason: str) -> None:
        self.result.failure = self.result.failure or reason[:2000]
        self.check()

    def check(self) -> None:
        reached = self.begun if self.load.hold else self.result.completed
        if (reached >= self.load.requests or self.result.failure) and not self.everything.done():
            self.everything.set_result(None)


class Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._tokens = Mark(run.load.token_mark.encode())
        self._ends = Mark(run.load.end_mark.encode())
        self._started = 0.0
        self._busy = False
        self._begun = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass of it

    def start(self) -> None:
        request = self._run.next_request()
        self._busy = request is not None
        if request is None:
            return
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._started = time.monotonic()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._run.result.reads += 1
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._tail = repr(error).encode()
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        self._run.result.body_bytes += len(body)
        self._tail = body
        self._tokens.feed(body)
        if self._ends.text:
            self._ends.feed(body)
        if not self._begun:
            self._begun = True
            self._run.begun += 1
            if self._run.load.hold:
                self._run.check()

    def on_message_complete(self) -> None:
        result, status = self._run.result, self._parser.get_status_code()
        result.durations.append(time.monotonic() - self._started)
        result.tokens += self._tokens.reset()
        ends = self._ends.reset()
        if status == 200 and (ends or not self._ends.text):
            result.completed += 1
            self._run.check()
        else:
            self._run.failed(f"{status}: {self._tail.decode(errors='replace')}")
        if self._parser.should_keep_alive():
            self.start()
        else:
            self._busy = False
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy and not self._run.everything.done():
            self._busy = False
            self._run.failed(f"connection lost ({exc}) after: {self._tail.decode(errors='replace')}")


async def perform(load: Load) -> tuple[Result, list[Connection]]:
    """Opens all connections first, then starts them all; a reply that has not ended at the deadline is a failure."""
    loop = asyncio.get_running_loop()
    run = Run(load, Result(), loop.create_future())
    connections: list[Connection] = []
    for first in range(0, load.connections, CONNECTING_MAX):
        batch = min(CONNECTING_MAX, load.connections - first)
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Connection(run), "127.0.0.1", load.port) for _ in range(batch))
        )
        connections += [protocol for _, protocol in made]
    begin = time.monotonic()
    for connection in connections:
        connection.start()
    try:
        await asyncio.wait_for(run.everything, load.deadline_seconds)
    except TimeoutError:
        run.result.failure = f"{load.requests - run.result.completed} replies unfinished at the deadline"
    run.result.seconds = time.monotonic() - begin
    run.result.cpu_seconds = time.process_time()
    return run.result, connections


async def serve(load: Load) -> None:
    result, connections = await perform(load)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    sys.stdout.flush()
    if load.hold and connections:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    uvloop.run(serve(msgspec.json.decode(sys.stdin.readline(), type=Load)))


if __name__ == "__main__":
    main()
