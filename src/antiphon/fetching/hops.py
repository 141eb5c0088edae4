"""One request to one judged address, by aiohttp.  Loaded with the first URL that is fetched: the library is large."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
from aiohttp import ClientResponse as Answer
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from antiphon.addresses import Admission, literal
from antiphon.fetching.outcomes import Unavailable, forbidden

__all__ = ("Answer", "Hops", "Resolve")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port in, all addresses of the host out, as text; `OSError` when there are none."""

MAX_CONNECTIONS = 64
MAX_ADDRESSES_TRIED = 8
#: More than one slow name can take: of one webhook endpoint four deliveries may be looking it up.
RESOLVER_THREADS = 16


class _SystemResolver:
    """The system's getaddrinfo, in threads of its own: slow names must not fill the loop's shared pool."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="antiphon-resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))

    @staticmethod
    def _look_up(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _JudgingResolver(AbstractResolver):
    """The resolver aiohttp connects by: it returns addresses that were admitted, or raises."""

    def __init__(self, resolve: Resolve, admission: Admission) -> None:
        self._resolve = resolve
        self._admission = admission

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolve(host, port)
        if not found:
            raise OSError(f"no address for {host}")
        # One bad address condemns the host: a name that mixes both wants the good one checked and the bad one used.
        checked = [self._judged(host, port, text) for text in found]
        usable = [result for result in checked if family in (socket.AF_UNSPEC, result["family"])]
        return usable[:MAX_ADDRESSES_TRIED]

    def _judged(self, host: str, port: int, text: str) -> ResolveResult:
        address = literal(text)
        if address is None or not (self._admission.trusts(host, port) or self._admission.admits(address, port)):
            raise forbidden(host)
        return {
            "hostname": host,
            "host": str(address),
            "port": port,
            "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
            "proto": socket.IPPROTO_TCP,
            "flags": socket.AI_NUMERICHOST,
        }

    async def close(self) -> None:
        """Nothing to free: what it asks belongs to the fetcher."""


class Hops:
    """Connects to what `admission` lets through; `resolve` and `ssl_context` are the `Fetcher`'s."""

    def __init__(self, admission: Admission, resolve: Resolve | None, ssl_context: ssl.SSLContext | None) -> None:
        self._system = _SystemResolver()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_JudgingResolver(resolve or self._system, admission),
                use_dns_cache=False,
                force_close=True,
                limit=MAX_CONNECTIONS,
                ssl=ssl_context or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )

    def get(self, url: URL, headers: dict[str, str]) -> AbstractAsyncContextManager[Answer]:
        """What one URL answers.  Raises `FetchError`, also for what goes wrong while the answer is read."""
        return self._asked("GET", url, headers, None)

    def post(self, url: URL, body: bytes, headers: dict[str, str]) -> AbstractAsyncContextManager[Answer]:
        """Likewise, to what is posted to it."""
        return self._asked("POST", url, headers, body)

    @asynccontextmanager
    async def _asked(self, method: str, url: URL, headers: dict[str, str], body: bytes | None) -> AsyncIterator[Answer]:
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:  # fmt: skip
                yield answer
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(_reason(error)) from error

    async def close(self) -> None:
        await self._session.close()
        self._system.close()


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "The host of the URL does not exist."
    if isinstance(error, aiohttp.ClientSSLError):
        return "The host of the URL has no valid certificate."
    if isinstance(error, aiohttp.ClientConnectorError):
        return "The host of the URL does not accept connections."
    return "The host of the URL broke off or sent what is not HTTP."
