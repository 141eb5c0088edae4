"""What is posted to URLs that requests name: the same rules as for what is fetched, and one hop."""

import asyncio
from contextlib import suppress

import pytest
from aiohttp import web
from tests.loopback import LOOPBACK, Names, fetcher, scripted, served
from tests.test_fetching import connections

from antiphon.fetching import FetchError, Forbidden, TimedOut

__all__ = ["connections"]


async def test_a_post_is_one_hop_and_its_status_is_all_that_counts() -> None:
    seen: list[tuple[str, bytes, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.path, await request.read(), request.headers.get("webhook-id")))
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with served(handler) as port, fetcher(allowed_hosts=[LOOPBACK]) as client:
        assert await client.post(f"http://{LOOPBACK}:{port}/a?b=c", b"body", {"webhook-id": "evt_1"}) == 302
    assert seen == [("/a", b"body", "evt_1")]


async def test_a_reply_without_end_is_not_waited_for() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b"x" * 65536)
        return answer

    async with served(endless) as port, fetcher(allowed_hosts=[LOOPBACK]) as client:
        assert await client.post(f"http://{LOOPBACK}:{port}/", b"", {}) == 200


async def test_who_never_answers_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(silent) as port, fetcher(allowed_hosts=[LOOPBACK], timeout_seconds=0.2) as client:
        with pytest.raises(TimedOut):
            await client.post(f"http://{LOOPBACK}:{port}/", b"", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "localhost", "inside.test"])
async def test_nothing_is_posted_to_where_nothing_is_fetched_from(host: str, connections: list[object]) -> None:
    names = Names(inside_test=[["10.0.0.1"]])
    async with fetcher(resolve=names) as client:
        with pytest.raises(Forbidden):
            await client.post(f"http://{host}/", b"", {})
        if host != "inside.test":
            with pytest.raises(Forbidden):
                client.check(f"http://{host}/")
            assert names.asked == []
    assert connections == []


async def test_a_check_looks_nothing_up() -> None:
    async with fetcher() as client:
        client.check("https://anything.test/path?query")
        for url in ("ftp://anything.test/", "https://user@anything.test/", "https://anything.test:8443/", "nothing"):
            with pytest.raises(FetchError):
                client.check(url)
