"""Follows a URL to its content, hop by hop, and judges each; or posts to it, which is one hop."""

import asyncio
import re
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from email.message import Message
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from yarl import URL

from antiphon.addresses import Admission, literal, normal_host
from antiphon.fetching.outcomes import BadUrl, Fetched, Forbidden, TimedOut, TooLarge, Unavailable, WrongType, forbidden

if TYPE_CHECKING:
    from antiphon.fetching.hops import Answer, Hops, Resolve

T = TypeVar("T")

_HOPS = "antiphon.fetching.hops"
USUAL_PORTS = (80, 443)
MAX_URL_CHARS = 8192
MAX_FILENAME_CHARS = 200

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNDECLARED = frozenset({"application/octet-stream", "binary/octet-stream", "application/x-download"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
# Checked before yarl sees the text: what a URL's authority may look like, with no user, no zone and nothing encoded.
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<whole>[^/?#]*)")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:@%\s]+)(?::[0-9]{0,5})?\Z")
_URI_CHARS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*\Z")


class Fetcher:
    """Gets URLs, or posts to them, within the rules; one per process, made anywhere and used in one event loop.

    `allowed_hosts` are the operator's exceptions (`host`, `*.domain`, address or CIDR, each with an optional `:port`):
    what matches may be private and at any port. `max_bytes` counts decoded bytes; `timeout_seconds` is for the whole of
    one `get` or `post`, redirects and lookups included; `ports` are those that public hosts may be reached at, all if
    empty. `resolve` replaces the system's resolver and `ssl_context` its certificates. `ValueError` for a malformed
    exception.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Sequence[str] = (),
        max_bytes: int = 20 * 1024 * 1024,
        timeout_seconds: float = 20,
        max_redirects: int = 5,
        ports: Sequence[int] = USUAL_PORTS,
        resolve: "Resolve | None" = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._admission = Admission(allowed_hosts, ports)
        self._max_bytes = max_bytes
        self._timeout = timeout_seconds
        self._max_redirects = max_redirects
        self._resolve = resolve
        self._ssl = ssl_context
        self._hops: Hops | None = None
        self._closed = False

    async def get(self, url: str, *, accept: Sequence[str] = ()) -> Fetched:
        """What `url` leads to, or a `FetchError`.

        `accept` are media types or patterns (`image/*`): they are asked for, and an answer that declares itself to be
        something else is refused; one that declares nothing in particular (octet-stream) is let through.
        """
        return await self._in_time(self._follow(_parsed(url), tuple(pattern.lower() for pattern in accept)))

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status that `url` itself answers with, or a `FetchError`: no redirect is followed, no content is read."""
        return await self._in_time(self._posted(_parsed(url), body, headers))

    def check(self, url: str) -> None:
        """A `BadUrl` or `Forbidden` for what is refused without looking its host up."""
        self._admitted(_parsed(url))

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError:
            raise TimedOut(f"The URL did not answer within {self._timeout:g} seconds.") from None

    async def _posted(self, url: URL, body: bytes, headers: Mapping[str, str]) -> int:
        url = self._admitted(url)
        sent = {"User-Agent": "antiphon", "Accept-Encoding": "identity", **headers}
        async with (await self._opened()).post(url, body, sent) as answer:
            return answer.status

    async def close(self) -> None:
        """Close the connections; a `get` after this is a `RuntimeError`."""
        self._closed = True
        if self._hops is not None:
            await self._hops.close()
            self._hops = None

    async def _follow(self, url: URL, accept: tuple[str, ...]) -> Fetched:
        for _ in range(self._max_redirects + 1):
            url = self._admitted(url)
            async with (await self._opened()).get(url, _headers(accept)) as answer:
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
            raise forbidden(host)
        return url.with_host(host).with_fragment(None)

    async def _opened(self) -> "Hops":
        if self._hops is None:
            await asyncio.to_thread(import_module, _HOPS)  # others go on meanwhile
        if self._closed:
            raise RuntimeError("the fetcher is closed")
        if self._hops is None:
            from antiphon.fetching.hops import Hops

            self._hops = Hops(self._admission, self._resolve, self._ssl)
        return self._hops

    async def _received(self, url: URL, answer: "Answer", accept: tuple[str, ...]) -> Fetched:
        if not 200 <= answer.status < 300:
            raise Unavailable(f"The URL answered with HTTP status {answer.status}.")
        declared = _printable(answer.headers.get("Content-Type", "")).strip()
        content_type = declared.partition(";")[0].strip().lower() or "application/octet-stream"
        if accept and content_type not in _UNDECLARED and not any(fnmatchcase(content_type, one) for one in accept):
            raise WrongType(f"The URL answered with content of type {content_type[:100]!r}, not {' or '.join(accept)}.")
        filename = _filename(answer.headers.get("Content-Disposition"), url)
        return Fetched(str(url), content_type, declared, filename, await self._body(answer))

    async def _body(self, answer: "Answer") -> bytes:
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
