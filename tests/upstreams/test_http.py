"""The HTTP client against servers that say exact bytes: right ones, cut ones, wrong ones, and none."""

from __future__ import annotations

import asyncio

import pytest
from tests.upstreams.servers import Kept, chunked, failing, get, replies, reply, serving

from antiphon.upstreams import http
from antiphon.upstreams.http import Body, Connection, Exchange, HttpClient, Timeouts

# --- Replies, cut anywhere ---

BODY = b'{"a":1}\r\n\r\n0\r\n\r\n'
GOOD = {
    "with a length": (reply(BODY), True),
    "in one chunk": (chunked(BODY), True),
    "in chunks": (chunked(*(BODY[at : at + 1] for at in range(len(BODY)))), True),
    "in chunks with extensions and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7;a=b\r\n%b\r\n009\r\n%b\r\n0\r\nX-T: 1\r\n\r\n"
        % (BODY[:7], BODY[7:]),
        True,
    ),
    "after 100 Continue": (b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + reply(BODY), True),
    "after early hints": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + chunked(BODY), True),
    "and the server closes": (reply(BODY, connection="close"), False),
    "of HTTP/1.0": (reply(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    "names in any case": (reply(BODY).replace(b"content-length", b"Content-LENGTH"), True),
}
UNTIL_CLOSE = {
    "nothing said of its length": b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n" + BODY,
    "of HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "not chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n" + BODY,
}


class NoTransport(asyncio.Transport):
    """Where bytes go that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def replay(pieces: list[bytes], *, eof: bool = False) -> tuple[Kept, bool]:
    """An exchange whose reply arrives in these reads; and whether the connection can be used again."""
    connection, kept = Connection(), Kept()
    connection.connection_made(NoTransport())
    running = asyncio.ensure_future(Exchange(connection, kept, Timeouts()).run(b"GET / HTTP/1.1\r\n\r\n", Body()))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    if eof:
        connection.connection_lost(None)
    async with asyncio.timeout(1):
        return kept, await running


@pytest.mark.parametrize("name", GOOD)
async def test_a_reply_is_the_same_wherever_it_is_cut(name: str) -> None:
    data, reusable = GOOD[name]
    ways = [[data], [data[at : at + 1] for at in range(len(data))]]
    ways += [[data[:at], data[at:]] for at in range(1, len(data))]

    for pieces in ways:
        kept, again = await replay(pieces)

        assert (kept.status, bytes(kept.body), again) == (200, BODY, reusable)
        assert "x-early" not in kept.headers
        assert "link" not in kept.headers


@pytest.mark.parametrize("name", UNTIL_CLOSE)
async def test_a_reply_that_ends_with_its_connection(name: str) -> None:
    data = UNTIL_CLOSE[name]
    for at in range(1, len(data)):
        kept, again = await replay([data[:at], data[at:]], eof=True)

        assert (kept.status, bytes(kept.body), again) == (200, BODY, False)


async def test_one_read_is_handed_on_in_one_piece() -> None:
    data = chunked(b"a", b"b", b"c")

    kept, _ = await replay([data])

    assert kept.chunks == [b"abc"]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_a_reply_without_a_body(data: bytes) -> None:
    kept, again = await replay([data])

    assert (bytes(kept.body), again) == (b"", True)


@pytest.mark.parametrize("rest", [b"X", reply(b"second"), b"\x00" * 10])
async def test_what_follows_a_whole_reply_is_nobodys_concern(rest: bytes) -> None:
    for pieces in ([reply(BODY) + rest], [reply(BODY), rest]):
        kept, again = await replay(pieces)

        assert (kept.status, bytes(kept.body), again) == (200, BODY, False)


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a page": b"<html></html>",
    "a bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "a bad length": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "a bad header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n\x00",
    "NULs": b"\x00" * 100,
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_reply(name: str) -> None:
    async with serving(replies(MALFORMED[name])) as server:
        error = await failing(HttpClient(server.url, Timeouts()))

    assert "malformed" in error.message
    assert (error.status, error.retryable) == (502, False)


async def test_headers_that_are_too_large() -> None:
    many = b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (number, b"y" * 1000) for number in range(100))
    for data in (many, b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n"):
        async with serving(replies(data)) as server:
            error = await failing(HttpClient(server.url, Timeouts()))

        assert f"{http.HEADERS_MAX} bytes of headers" in error.message


async def test_a_reply_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REPLY_MAX", 10)
    async with serving(replies(reply(b"x" * 11))) as server:
        error = await failing(HttpClient(server.url, Timeouts()))

    assert "too large" in error.message


# --- URLs ---


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://a/v1",
        "http://",
        "http:///v1",
        "http://a:port/v1",
        "http://a:99999/v1",
        "http://a/v1\r\nx: y",
        "http://a/v 1",
        "http://ä/v1",
        "http://[::1/v1",
    ],
)
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        HttpClient(url, Timeouts())


@pytest.mark.parametrize(
    "url",
    [
        "http://u:SECRET@a/v1",
        "http://SECRET@a/v1",
        "http://a/v1?api-key=SECRET",
        "http://a/v1#SECRET",
        "http://u:SECRET/v1",
        "http://u:SECRET@[a/v1",
        "ftp://u:SECRET@a/v1",
        "u:SECRET@a/v1",
        "http://u:SECRET\u2100@a/v1",
    ],
)
def test_a_url_with_a_secret_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refused:
        HttpClient(url, Timeouts())

    assert "SECRET" not in str(refused.value)


async def test_a_url_with_a_slash() -> None:
    async with serving(replies(reply(b"{}"))) as server:
        await get(HttpClient(f"{server.url}/", Timeouts()))

    assert server.asked[0].path == "/v1/models"
