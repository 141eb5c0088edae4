"""The one client for URLs that a request names: images, files, and whatever else is fetched on a client's word.

Such a URL is an attacker's choice of where this server connects to. So each hop is taken apart, its host resolved once,
every address judged by `addresses`, and the connection made to a judged address: aiohttp asks the resolver given to it
and connects to what that returns, so there is no second lookup for a name to change its mind in. Redirects are followed
here, hop by hop, never by aiohttp. It must not know the web layer, the stores or the engine; its errors carry a
sentence that may be shown to the client, and the caller decides what they become.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from fnmatch import fnmatchcase

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from antiphon.addresses import Admission, literal, normal_host

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port in, all addresses of the host out, as text; `OSError` when there are none."""

USUAL_PORTS = (80, 443)
MAX_URL_CHARS = 8192
MAX_FILENAME_CHARS = 200
MAX_CONNECTIONS = 64
MAX_ADDRESSES_TRIED = 8
RESOLVER_THREADS = 4

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNDECLARED = frozenset({"application/octet-stream", "binary/octet-stream", "application/x-download"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
# Checked before yarl sees the text: what a URL's authority may look like, with no user, no zone and nothing encoded.
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<whole>[^/?#]*)")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:@%\s]+)(?::[0-9]{0,5})?\Z")
_URI_CHARS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*\Z")


class FetchError(Exception):
    """A URL could not be fetched. `message` is one sentence for the client; it holds neither addresses nor the URL."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadUrl(FetchError):
    """The URL itself is malformed or of a kind that is never fetched."""


class Forbidden(FetchError):
    """The URL, or one that it redirects to, leads to a host, address or port that requests may not name."""


class TooLarge(FetchError):
    """The content is larger than the limit, as declared or as received."""


class TimedOut(FetchError):
    """The content did not arrive in time."""


class Unavailable(FetchError):
    """The host does not exist, does not answer, answers with an error status, or breaks off."""


class WrongType(FetchError):
    """The content is of a type that the caller did not ask for."""


@dataclass(frozen=True)
class Fetched:
    """What a URL led to.

    `url` is the last hop's, without a fragment. `content_type` is lower case and without parameters,
    `application/octet-stream` if the server named none; `content_type_header` is what it sent, with the charset.
    `filename` is a bare name without folders, from Content-Disposition or else the path. `body` is decoded.
    """

    url: str
    content_type: str
    content_type_header: str
    filename: str | None
    body: bytes


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
            raise _forbidden(host)
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


class Fetcher:
    """Gets URLs within the rules; one per process, made anywhere and used in one event loop.

    `allowed_hosts` are the operator's exceptions (`host`, `*.domain`, address or CIDR, each with an optional `:port`):
    what matches may be private and at any port. `max_bytes` counts decoded bytes; `timeout_seconds` is for the whole of
    one `get`, redirects and lookups included; `ports` are those that public hosts may be reached at, all if empty.
    `resolve` replaces the system's resolver and `ssl_context` its certificates. `ValueError` for a malformed exception.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Sequence[str] = (),
        max_bytes: int = 20 * 1024 * 1024,
        timeout_seconds: float = 20,
        max_redirects: int = 5,
        ports: Sequence[int] = USUAL_PORTS,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._admission = Admission(allowed_hosts, ports)
        self._max_bytes = max_bytes
        self._timeout = timeout_seconds
        self._max_redirects = max_redirects
        self._system = _SystemResolver()
        self._resolver = _JudgingResolver(resolve or self._system, self._admission)
        self._ssl = ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def get(self, url: str, *, accept: Sequence[str] = ()) -> Fetched:
        """What `url` leads to, or a `FetchError`.

        `accept` are media types or patterns (`image/*`): they are asked for, and an answer that declares itself to be
        something else is refused; one that declares nothing in particular (octet-stream) is let through.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._follow(_parsed(url), tuple(pattern.lower() for pattern in accept))
        except TimeoutError:
            raise TimedOut(f"The URL did not answer within {self._timeout:g} seconds.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(_reason(error)) from error

    async def close(self) -> None:
        """Close the connections; a `get` after this is a `RuntimeError`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._system.close()

    async def _follow(self, url: URL, accept: tuple[str, ...]) -> Fetched:
        for _ in range(self._max_redirects + 1):
            url = self._admitted(url)
            async with self._opened().get(url, headers=_headers(accept), allow_redirects=False) as answer:
                if answer.status not in _REDIRECTS:
                    return await self._received(url, answer, accept)
                url = _redirected(url, answer.headers.get("Location"))
        raise Unavailable(f"The URL redirects more than {self._max_redirects} times.")

    def _admitted(self, url: URL) -> URL:
        """`url` with its host in the one spelling that is checked and connected to."""
        host, port = _host_of(url), url.port or 0
        address = literal(host)
        # aiohttp does not put addresses before the resolver, so they are judged here.
        if not (self._admission.admits(address, port) if address else self._admission.may_ask(host, port)):
            raise _forbidden(host)
        return url.with_host(host).with_fragment(None)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the fetcher is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    use_dns_cache=False,
                    force_close=True,
                    limit=MAX_CONNECTIONS,
                    ssl=self._ssl or True,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def _received(self, url: URL, answer: aiohttp.ClientResponse, accept: tuple[str, ...]) -> Fetched:
        if not 200 <= answer.status < 300:
            raise Unavailable(f"The URL answered with HTTP status {answer.status}.")
        declared = _printable(answer.headers.get("Content-Type", "")).strip()
        content_type = declared.partition(";")[0].strip().lower() or "application/octet-stream"
        if accept and content_type not in _UNDECLARED and not any(fnmatchcase(content_type, one) for one in accept):
            raise WrongType(f"The URL answered with content of type {content_type[:100]!r}, not {' or '.join(accept)}.")
        filename = _filename(answer.headers.get("Content-Disposition"), url)
        return Fetched(str(url), content_type, declared, filename, await self._body(answer))

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        if (answer.content_length or 0) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        # aiohttp inflates in bounded steps and pauses the socket meanwhile, so what is counted here is all there is.
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The content of the URL is larger than {self._max_bytes} bytes.")


def _parsed(text: str) -> URL:
    """A URL as given: what is encoded stays byte for byte (signed URLs), only what may not be there is quoted."""
    text = text.strip(" ")
    if len(text) > MAX_URL_CHARS:
        raise BadUrl(f"The URL is longer than {MAX_URL_CHARS} characters.")
    if _UNSENDABLE.search(text):
        raise BadUrl("The URL holds control characters or backslashes.")
    authority = _AUTHORITY.match(text)
    if authority and "@" in authority["whole"]:
        raise BadUrl("The URL must not hold a user name or password.")
    if authority and not _HOST_AND_PORT.match(authority["whole"]):
        raise BadUrl("The URL names no valid host.")
    try:
        url = URL(text, encoded=_URI_CHARS.match(text) is not None)
        _ = url.port  # an encoded URL is found wrong only when its parts are asked for
    except ValueError as error:
        raise BadUrl("The URL is malformed.") from error
    return url


def _host_of(url: URL) -> str:
    if url.scheme not in ("http", "https"):
        raise BadUrl("Only http and https URLs can be fetched.")
    if not url.raw_host or not url.port:
        raise BadUrl("The URL names no host.")
    try:
        return normal_host(url.raw_host)
    except ValueError as error:
        raise BadUrl(f"The host of the URL {error}.") from error


def _redirected(url: URL, location: str | None) -> URL:
    if not location:
        raise Unavailable("The URL redirects without saying where to.")
    # aiohttp gives bytes that are not UTF-8 as lone surrogates; in a URL they are those bytes, percent-encoded.
    target = url.join(_parsed(_NOT_UTF8.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location)))
    if url.scheme == "https" and target.scheme == "http":
        raise Forbidden("The URL redirects from https to http.")
    return target


def _headers(accept: tuple[str, ...]) -> dict[str, str]:
    # br and zstd would be offered by aiohttp where their packages happen to be installed; these two are everywhere.
    return {"Accept": ", ".join(accept) or "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "antiphon"}


def _forbidden(host: str) -> Forbidden:
    return Forbidden(f"The host {host!r} cannot be fetched from: it is not a public host at a usual port.")


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "The host of the URL does not exist."
    if isinstance(error, aiohttp.ClientSSLError):
        return "The host of the URL has no valid certificate."
    if isinstance(error, aiohttp.ClientConnectorError):
        return "The host of the URL does not accept connections."
    return "The host of the URL broke off or sent what is not HTTP."


def _printable(header: str) -> str:
    # Bytes that are not UTF-8, again as lone surrogates, could be encoded by nothing after this.
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _filename(disposition: str | None, url: URL) -> str | None:
    named = None
    if disposition:
        message = Message()
        message["Content-Disposition"] = _printable(disposition)
        named = message.get_filename()
    return _bare(named or "") or _bare(url.name)


def _bare(name: str) -> str | None:
    name = _CONTROL.sub("", re.split(r"[/\\]", name)[-1]).strip()
    return None if name in ("", ".", "..") else name[-MAX_FILENAME_CHARS:]
