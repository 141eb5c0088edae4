"""What a token costs over WebSocket and over SSE: one stream at a time, the two taking turns.

    python -m bench.websocket [--server .venv/bin/antiphon] [--compress]

Knows the Responses API; the time of its own process is no part of any figure.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from websockets.asyncio.client import connect

from bench.processes import cpu_seconds
from bench.stand import Stand, stand

TOKENS, ROUNDS = 1000, 7
#: Tokens come singly, or eight in one write of the model's server.
MODELS = {"singly": f"bench-t{TOKENS}-r250-c1", "by eights": f"bench-t{TOKENS}-r50-c8"}
MARK = b'"response.output_text.delta"'
END = b'"response.completed"'


async def over_sse(port: int, body: bytes) -> int:
    """The tokens of one stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    reply = await reader.read(-1)
    writer.close()
    assert END in reply
    return reply.count(b"data: {" + b'"type":' + MARK)


async def over_websocket(port: int, body: bytes, *, compress: bool) -> int:
    """The tokens of one response on a connection of its own."""
    tokens = 0
    how = "deflate" if compress else None
    async with connect(f"ws://127.0.0.1:{port}/v1/responses", compression=how, max_size=None) as socket:
        await socket.send(b'{"type":"response.create",' + body[1:], text=True)
        while True:
            message = await socket.recv(decode=False)
            tokens += MARK in message[:60]
            if END in message[:60]:
                return tokens


async def measure(standing: Stand, model: str, *, compress: bool) -> dict[str, list[float]]:
    """CPU microseconds per token, one figure per round."""
    side = standing.antiphon
    body = json.dumps({"model": model, "input": "Go.", "stream": True, "store": True}).encode()
    found: dict[str, list[float]] = {"SSE": [], "WebSocket": []}
    for number in range(ROUNDS + 1):
        for name, told in found.items():
            before = cpu_seconds(side.child.pid)
            if name == "SSE":
                tokens = await over_sse(side.port, body)
            else:
                tokens = await over_websocket(side.port, body, compress=compress)
            await asyncio.sleep(0.1)  # what is written behind the last event
            assert tokens == TOKENS, tokens
            if number:  # the first warms up
                told.append((cpu_seconds(side.child.pid) - before) / TOKENS * 1e6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default=str(Path(sys.executable).with_name("antiphon")))
    parser.add_argument("--compress", action="store_true", help="messages are compressed")
    options = parser.parse_args()
    extra = ["--websocket-compression"] if options.compress else []
    begin = time.monotonic()
    with stand(options.server, extra, list(MODELS.values()), with_nginx=False, parent=None) as standing:
        print("| tokens come | SSE, us per token | WebSocket, us per token | ratio |\n|---|---|---|---|")
        for how, model in MODELS.items():
            found = asyncio.run(measure(standing, model, compress=options.compress))
            cells = [f"{statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f})" for one in found.values()]
            ratio = statistics.median(found["WebSocket"]) / statistics.median(found["SSE"])
            print(f"| {how} | {cells[0]} | {cells[1]} | {ratio:.2f} |", flush=True)
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
