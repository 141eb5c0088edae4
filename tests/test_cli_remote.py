"""A running server as commands see it: how long it may take, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from tests.engines import app

from antiphon.cli import remote
from antiphon.cli.asking import Answer
from antiphon.cli.remote import Remote
from antiphon.engine.ports.upstreams import UpstreamError

END = b'data: {"type":"response.completed","response":{"id":"resp_1","model":"m","status":"completed"}}\n\n'


@asynccontextmanager
async def server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Remote]:
    runner = web.AppRunner(app(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made = Remote(f"http://{host}:{port}/v1")
    try:
        yield made
    finally:
        made.close()
        await runner.cleanup()


async def test_a_model_may_be_quiet_for_longer_than_a_list_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "OFFER_SECONDS", 0.01)

    async def slow(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        await reply.write(b": quiet\n\n")
        await asyncio.sleep(0.2)
        await reply.write(END)
        return reply

    async with server(slow) as made:
        answer = Answer(lambda _: None)
        await made.respond(b"{}", answer)

    assert answer.end().id == "resp_1"


async def test_a_list_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte of it comes."""
    monkeypatch.setattr(remote, "OFFER_SECONDS", 0.2)

    async def drip(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(b" ")
            await asyncio.sleep(0.01)

    async with server(drip) as made:
        with pytest.raises(UpstreamError, match="did not answer within"):
            async with asyncio.timeout(10):
                await made.offer()
