"""The client for URLs named by requests: limits of size and time, and servers that do everything wrong."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Sequence

import pytest
from aiohttp import web
from tests.loopback import LOOPBACK, Script, fetcher, got, scripted, served, to

from antiphon.fetching import TimedOut, TooLarge, Unavailable

# Size


async def test_a_body_of_just_the_limit_is_fetched_and_one_byte_more_is_not() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * int(request.query["n"]))

    async with served(handler) as port:
        assert len((await got(port, "/?n=1000", max_bytes=1000)).body) == 1000
        with pytest.raises(TooLarge, match="larger than 1000 bytes"):
            await got(port, "/?n=1001", max_bytes=1000)


async def test_too_large_a_length_is_refused_before_the_body() -> None:
    async def head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        await reader.read()

    async with scripted(head_only) as port:
        with pytest.raises(TooLarge):
            await got(port, max_bytes=1000)


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with scripted(endless) as port:
        with pytest.raises(TooLarge):
            await got(port, max_bytes=200_000)
    assert sent < 64 * 1024 * 1024


def _members(count: int, size: int) -> bytes:
    return gzip.compress(bytes(size), 9) * count


@pytest.mark.parametrize(
    ("encoding", "make"),
    [
        ("gzip", lambda: _members(1, 100_000_000)),
        ("gzip", lambda: _members(400, 250_000)),
        ("deflate", lambda: zlib.compress(bytes(100_000_000), 9)),
    ],
    ids=["gzip", "gzip-members", "deflate"],
)
async def test_a_bomb_is_counted_as_it_unfolds(encoding: str, make: Callable[[], bytes]) -> None:
    bomb = make()
    assert len(bomb) < 1_000_000

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": encoding})

    async with served(handler) as port:
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge):
                await got(port, max_bytes=1_000_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000


async def test_what_is_honestly_compressed_is_unfolded() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=_members(2, 300_000), headers={"Content-Encoding": "gzip"})

    async with served(handler) as port:
        assert (await got(port, max_bytes=600_000)).body == bytes(600_000)


# Time


async def _stalled_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _stalled_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    await reader.read()


async def _dripping_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _dripping_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("script", [_stalled_head, _stalled_body, _dripping_head, _dripping_body])
async def test_a_slow_server_is_given_up(script: Script) -> None:
    async with scripted(script) as port:
        with pytest.raises(TimedOut, match=r"within 0\.3 seconds"):
            await asyncio.wait_for(got(port, timeout_seconds=0.3), 10)


async def test_the_time_is_for_all_redirects_together() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(0.15)
        return to("/again")

    async with served(handler) as port:
        with pytest.raises(TimedOut):
            await asyncio.wait_for(got(port, timeout_seconds=0.4, max_redirects=1000), 10)


async def test_a_slow_resolver_is_given_up() -> None:
    async def forever(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with fetcher(resolve=forever, timeout_seconds=0.2) as client:
        with pytest.raises(TimedOut):
            await asyncio.wait_for(client.get("http://slow.test/"), 10)


# What servers do wrong


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 429, 500, 503])
async def test_only_success_is_content(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, body=None if status in (204, 304) else b"no")

    async with served(handler) as port:
        if status == 204:
            assert (await got(port)).body == b""
        else:
            with pytest.raises(Unavailable, match=f"HTTP status {status}"):
                await got(port)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"+PONG\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\x01\x02\x03",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
)
async def test_a_server_that_breaks_off_or_speaks_no_http_is_an_error(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with scripted(script) as port:
        with pytest.raises(Unavailable):
            await got(port)


async def test_headers_that_are_not_utf8_do_no_harm() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b'HTTP/1.1 200 OK\r\nContent-Type: text/\xff\r\nContent-Disposition: x; filename="\xe4.txt"\r\n'
        writer.write(head + b"Content-Length: 2\r\n\r\nok")
        await writer.drain()

    async with scripted(script) as port:
        found = await got(port)
    assert (found.filename, found.body) == ("\ufffd.txt", b"ok")
    found.content_type_header.encode()


async def test_a_cancelled_fetch_leaves_no_connection() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        gone.set()

    async with scripted(script) as port, fetcher(allowed_hosts=[LOOPBACK]) as client:
        task = asyncio.create_task(client.get(f"http://{LOOPBACK}:{port}/"))
        await asyncio.wait_for(arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 5)
