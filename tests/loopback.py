"""Servers on loopback, resolvers made of tables, and fetchers that are let through to them."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from antiphon.fetching import Fetched, Fetcher

LOOPBACK = "127.0.0.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Names:
    """A resolver made of a table; each name's answers are used up one by one, the last one stays. It counts."""

    def __init__(self, **table: Sequence[Sequence[str]]) -> None:
        self.table = {name.replace("_", "."): list(answers) for name, answers in table.items()}
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        answers = self.table.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up")


@asynccontextmanager
async def served(handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK) -> AsyncIterator[int]:
    """An aiohttp server whose every path is `handler`; gives its port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A server that reads one request's head and then does what `script` says, HTTP or not; gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        await asyncio.wait_for(server.wait_closed(), 5)


@asynccontextmanager
async def fetcher(**settings: object) -> AsyncIterator[Fetcher]:
    """A fetcher that is closed again and that looks nothing up unless told how."""
    made = Fetcher(**{"resolve": never, "timeout_seconds": 10, **settings})  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=b"hello", content_type="text/plain", charset="iso-8859-1")


def to(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})


async def got(port: int, path: str = "/", **settings: object) -> Fetched:
    async with fetcher(allowed_hosts=[LOOPBACK], **settings) as client:
        return await client.get(f"http://{LOOPBACK}:{port}{path}")
