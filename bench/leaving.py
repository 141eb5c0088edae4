"""How long after its client has left a model's server sees its connection closed: clients one by one, and at once.

    python -m bench.leaving [--server .venv/bin/antiphon]

Model server and clients are this process, so that one clock times both. Knows the Responses API.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

from bench.processes import allow_many_files
from bench.stand import start_antiphon

MODEL = "quiet"
SINGLY, ROUNDS, TOGETHER = 200, 5, 100
SECONDS = 30.0
LIST = b'{"object":"list","data":[{"id":"%b","object":"model","created":1,"owned_by":"bench"}]}' % MODEL.encode()
LISTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(LIST), LIST)
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
BEGUN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n"


class Upstream(asyncio.Protocol):
    """Says one word and notes when it is left."""

    left: "asyncio.Queue[float]"

    def __init__(self) -> None:
        self._speaks = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self._transport.write(LISTED)
        elif data.startswith(b"POST"):
            self._speaks = True
            self._transport.write(BEGUN % (len(EVENT), EVENT))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._speaks:
            self.left.put_nowait(time.perf_counter())


async def opened(port: int) -> asyncio.StreamWriter:
    """A stream whose first token has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"%b","input":"Go.","stream":true}' % MODEL.encode()
    head = b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readuntil(b'"response.output_text.delta"')
    return writer


async def leave(port: int, count: int) -> list[float]:
    """Milliseconds until each of so many streams, which are left at once, is closed behind the server."""
    writers = [await opened(port) for _ in range(count)]
    began = time.perf_counter()
    for writer in writers:
        writer.transport.abort()
    async with asyncio.timeout(SECONDS):
        return [(await Upstream.left.get() - began) * 1000 for _ in range(count)]


async def measure(server: str, folder: Path) -> None:
    Upstream.left = asyncio.Queue()
    listener = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    side = await asyncio.to_thread(start_antiphon, server, ["--no-demo-model"], folder, port)
    try:
        await leave(side.port, 10)  # warms up
        alone = [(await leave(side.port, 1))[0] for _ in range(SINGLY)]
        together = [took for _ in range(ROUNDS) for took in await leave(side.port, TOGETHER)]
    finally:
        await asyncio.to_thread(side.child.stop)
        listener.close()
    print("| clients that leave | median ms | 95 of 100 within | longest |\n|---|---:|---:|---:|")
    for how, times in (("one", alone), (f"{TOGETHER} at once", together)):
        most = statistics.quantiles(times, n=20)[-1]
        print(f"| {how} | {statistics.median(times):.2f} | {most:.2f} | {max(times):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=str(Path(sys.executable).with_name("antiphon")))
    allow_many_files()
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as name:
        asyncio.run(measure(parser.parse_args().server, Path(name)))


if __name__ == "__main__":
    main()
