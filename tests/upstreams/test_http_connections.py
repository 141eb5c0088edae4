"""The HTTP client's connections: kept, lost, silent, paused and left."""

from __future__ import annotations

import asyncio

import pytest
from tests.upstreams.servers import Conversation, Kept, chunked, failing, get, replies, reply, serving, within

from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams import http
from antiphon.upstreams.http import Body, HttpClient, Timeouts

QUICK = Timeouts(connect_seconds=0.05, first_byte_seconds=0.05, idle_seconds=0.05)


# --- Connections ---


async def test_a_connection_is_used_again() -> None:
    async with serving(replies(reply(b"a"), chunked(b"b"), reply(b""), reply(b"c"))) as server:
        client = HttpClient(server.url, Timeouts())
        bodies = [bytes((await get(client)).body) for _ in range(4)]
        client.close()

    assert bodies == [b"a", b"b", b"", b"c"]
    assert server.connections == 1
    assert server.asked[0].path == "/v1/models"
    assert server.asked[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    all_here = asyncio.Barrier(5)

    async def talk(conversation: Conversation) -> None:
        while await conversation.request() is not None:
            await all_here.wait()
            await conversation.send(reply(b"%d" % conversation.number))

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        for _ in range(2):
            kept = await asyncio.gather(*(get(client) for _ in range(5)))
            assert sorted(bytes(one.body) for one in kept) == [b"0", b"1", b"2", b"3", b"4"]
        client.close()

    assert server.connections == 5


async def test_what_was_sent_is_let_go_when_the_reply_begins() -> None:
    """A reply can last for an hour, and what was asked may be megabytes."""
    end = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"a", end=False))
        await end.wait()
        await conversation.send(chunked(b"b").partition(b"\r\n\r\n")[2])

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        kept, body = Kept(), Body(b"x" * 1000)
        asking = asyncio.ensure_future(client.send("POST", "/x", {}, body, kept))
        await within(kept.began.wait())
        assert body.data == b""
        end.set()
        await within(asking)
        client.close()

    assert bytes(kept.body) == b"ab"


async def test_more_connections_than_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "POOL_MAX", 1)
    all_here = asyncio.Barrier(3)
    left = asyncio.Semaphore(0)

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await all_here.wait()
        await conversation.send(reply(b""))
        await conversation.closed()
        left.release()

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        await asyncio.gather(*(get(client) for _ in range(3)))
        await within(left.acquire())
        await within(left.acquire())
        assert left.locked()
        client.close()
        await within(left.acquire())


async def test_a_kept_connection_that_was_closed_is_noticed() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(reply(b"%d" % conversation.number))

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        bodies = [bytes((await get(client)).body) for _ in range(3)]
        client.close()

    assert bodies == [b"0", b"1", b"2"]


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_kept_connection_that_closes_on_the_next_request(how: str) -> None:
    """The race of every pool: the server closes while the request is on its way."""

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(reply(b"%d" % conversation.number))
        await conversation.request()
        getattr(conversation, how)()

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        bodies = [bytes((await get(client)).body) for _ in range(3)]
        client.close()

    assert bodies == [b"0", b"1", b"2"]
    assert len(server.asked) == 5


async def test_a_request_that_breaks_the_server_is_not_sent_for_ever() -> None:
    async def talk(conversation: Conversation) -> None:
        asked = await conversation.request()
        if asked is not None and not asked.body:
            await conversation.send(reply(b""))
            await conversation.request()

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        await asyncio.gather(*(get(client) for _ in range(3)))
        with pytest.raises(UpstreamError) as caught:
            await within(client.send("POST", "/x", {}, Body(b"poison"), Kept()))
        client.close()

    assert caught.value.retryable
    assert [asked.body for asked in server.asked].count(b"poison") == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_server_that_closes_every_connection_at_once(how: str) -> None:
    async def talk(conversation: Conversation) -> None:
        getattr(conversation, how)()

    async with serving(talk) as server:
        error = await failing(HttpClient(server.url, Timeouts()))

    assert (error.status, error.retryable) == (502, True)
    assert server.connections == 1


async def test_bytes_that_nobody_asked_for_end_a_kept_connection() -> None:
    told, left = asyncio.Event(), asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(reply(b"%d" % conversation.number))
        if conversation.number == 0:
            await told.wait()
            await conversation.send(reply(b"hello?"))
            await conversation.closed()
            left.set()

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        first = await get(client)
        told.set()
        await within(left.wait())
        second = await get(client)
        client.close()

    assert (bytes(first.body), bytes(second.body)) == (b"0", b"1")


async def test_a_connection_whose_request_was_not_read_is_not_used_again() -> None:
    """A server may refuse a large body before it has read it."""
    done = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        if conversation.number == 0:
            await conversation.send(reply(b"too large", "413 Content Too Large"))
            await done.wait()
        else:
            await conversation.request()
            await conversation.send(reply(b"ok"))

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        kept = Kept()
        await within(client.send("POST", "/x", {}, Body(b"x" * 20_000_000), kept))
        second = await get(client)
        done.set()
        client.close()

    assert (kept.status, bytes(kept.body), bytes(second.body)) == (413, b"too large", b"ok")
    assert server.connections == 2


async def test_a_connection_that_is_busy_at_the_close_ends_with_its_exchange() -> None:
    here, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        here.set()
        await go.wait()
        await conversation.send(reply(b"ok"))
        await conversation.closed()
        ended.set()

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        asking = asyncio.ensure_future(get(client))
        await within(here.wait())
        client.close()
        go.set()
        assert bytes((await asking).body) == b"ok"
        await within(ended.wait())


# --- Losses ---

SHORT = {
    "before the reply": b"",
    "in the status": b"HTTP/1.1 2",
    "in the headers": b"HTTP/1.1 200 OK\r\ncontent-le",
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "before the body": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    "in the body": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcd",
    "in a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    "before the last chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    "in the last chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("name", SHORT)
async def test_a_connection_that_is_lost(name: str, how: str) -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(SHORT[name])
        getattr(conversation, how)()

    async with serving(talk) as server:
        error = await failing(HttpClient(server.url, Timeouts()))

    assert "connection to the upstream was lost" in error.message
    assert (error.status, error.code, error.retryable) == (502, "upstream_cut", True)


async def test_a_reset_is_no_end_of_a_reply_without_length() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await begun.wait()
        conversation.reset()

    kept = Kept()
    begun = kept.began
    async with serving(talk) as server:
        error = await failing(HttpClient(server.url, Timeouts()), kept)

    assert error.code == "upstream_cut"
    assert bytes(kept.body) == b"abc"


async def test_nobody_listens() -> None:
    async with serving(replies(b"")) as server:
        pass

    error = await failing(HttpClient(server.url, Timeouts()))

    assert (error.status, error.code, error.retryable) == (502, "upstream_unreachable", True)
    assert error.message == "Cannot connect to the upstream."
    assert server.url in error.detail


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".test"])
async def test_a_name_that_leads_nowhere(host: str) -> None:
    error = await failing(HttpClient(f"http://{host}:1/v1", Timeouts()))

    assert (error.status, error.code) == (502, "upstream_unreachable")


# --- Silence ---


async def test_a_server_that_does_not_answer() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.closed()

    async with serving(talk) as server:
        error = await failing(HttpClient(server.url, QUICK))

    assert error.message == "The upstream did not answer for 0.05 seconds."
    assert (error.status, error.code, error.retryable) == (504, "upstream_timeout", False)


@pytest.mark.parametrize("said", [b"HTTP/1.1 200", chunked(b"a", end=False), chunked(end=False)])
async def test_a_server_that_goes_silent(said: bytes) -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(said)
        await conversation.closed()

    async with serving(talk) as server:
        error = await failing(HttpClient(server.url, QUICK))

    assert error.message == "The upstream went silent for 0.05 seconds."
    assert (error.status, error.code) == (504, "upstream_timeout")


async def test_a_server_that_speaks_now_and_then_is_not_silent() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"", end=False)[: -len(b"0\r\n\r\n")])
        for _ in range(10):
            await conversation.send(b"1\r\na\r\n")
            await asyncio.sleep(0.1)  # longer in all than the client waits for silence
        await conversation.send(b"0\r\n\r\n")

    async with serving(talk) as server:
        kept = await get(HttpClient(server.url, Timeouts(idle_seconds=0.5)))

    assert bytes(kept.body) == b"a" * 10


# --- The flow ---


async def test_a_paused_reply_is_not_read_and_goes_on_where_it_stood() -> None:
    block = b"x" * 65536
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\r\n\r\n")
        stopped.set_result(await conversation.blocked(block))

    class Pausing(Kept):
        def started(self, status: int, headers: object) -> None:
            self.flow.pause()

    async with serving(talk) as server:
        kept = Pausing()
        asking = asyncio.ensure_future(get(HttpClient(server.url, Timeouts(idle_seconds=0.05)), kept))
        async with asyncio.timeout(5):
            sent = await stopped

        # A read or two had happened; the rest is in the system's buffers, and silence while paused is no silence.
        assert len(kept.body) <= 2**20
        assert sent < 32 * 2**20
        assert not asking.done()

        kept.flow.resume()
        await asking

    assert len(kept.body) == sent


async def test_the_time_of_a_pause_is_no_silence() -> None:
    go = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"a", end=False))
        await go.wait()
        await asyncio.sleep(0.2)  # less than the client waits for, counted from the end of the pause
        await conversation.send(b"1\r\nb\r\n0\r\n\r\n")

    async with serving(talk) as server:
        kept = Kept()
        asking = asyncio.ensure_future(get(HttpClient(server.url, Timeouts(idle_seconds=0.3)), kept))
        await within(kept.began.wait())
        kept.flow.pause()
        await asyncio.sleep(0.45)
        kept.flow.resume()
        go.set()
        await asking

    assert bytes(kept.body) == b"ab"


async def test_pausing_a_reply_that_is_over_stops_nobody_else() -> None:
    async with serving(replies(reply(b"a"))) as server:
        client = HttpClient(server.url, Timeouts())
        first = await get(client)
        first.flow.pause()
        second = await get(client)
        second.flow.pause()
        first.flow.resume()
        third = await get(client)
        third.flow.expect_end()
        fourth = await get(client)
        client.close()

    assert bytes(fourth.body) == b"a"
    assert server.connections == 1


async def test_a_reply_that_ends_while_paused_leaves_the_connection_open() -> None:
    class Pausing(Kept):
        def data(self, chunk: bytes) -> None:
            super().data(chunk)
            self.flow.pause()

    async with serving(replies(reply(b"a"))) as server:
        client = HttpClient(server.url, Timeouts(first_byte_seconds=1))
        for _ in range(3):
            assert bytes((await get(client, Pausing())).body) == b"a"
        client.close()

    assert server.connections == 1


class Ending(Kept):
    """Has what it wants with the first byte."""

    def data(self, chunk: bytes) -> None:
        super().data(chunk)
        self.flow.expect_end()


async def test_a_server_that_lingers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)
    left = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"all", end=False))
        await conversation.closed()
        left.set()

    async with serving(talk) as server:
        client = HttpClient(server.url, Timeouts())
        assert bytes((await get(client, Ending())).body) == b"all"
        await within(left.wait())
        client.close()


async def test_a_server_that_talks_on_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(end=False))
        while True:
            await conversation.send(b"1\r\na\r\n")
            await asyncio.sleep(0.001)

    async with serving(talk) as server:
        kept = await get(HttpClient(server.url, Timeouts()), Ending())

    assert bytes(kept.body).startswith(b"a")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_server_that_closes_when_all_was_said(how: str) -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"all", end=False))
        await begun.wait()
        getattr(conversation, how)()

    kept = Ending()
    begun = kept.began
    async with serving(talk) as server:
        await get(HttpClient(server.url, Timeouts()), kept)

    assert bytes(kept.body) == b"all"


# --- Leaving ---


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", chunked(b"a", end=False)])
async def test_who_is_cancelled_hangs_up_at_once(said: bytes) -> None:
    here = asyncio.Event()
    left: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(said)
        here.set()
        await conversation.closed()
        left.set_result(asyncio.get_running_loop().time())

    async with serving(talk) as server:
        asking = asyncio.ensure_future(get(HttpClient(server.url, Timeouts())))
        await within(here.wait())
        cancelled = asyncio.get_running_loop().time()
        asking.cancel()
        async with asyncio.timeout(5):
            assert await left - cancelled < 0.1
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_who_is_cancelled_while_paused_hangs_up_too() -> None:
    left = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"a", end=False))
        await conversation.closed()
        left.set()

    async with serving(talk) as server:
        kept = Kept()
        asking = asyncio.ensure_future(get(HttpClient(server.url, Timeouts()), kept))
        await within(kept.began.wait())
        kept.flow.pause()
        asking.cancel()
        await within(left.wait())
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_receiver_that_gives_up_hangs_up() -> None:
    left = asyncio.Event()

    class GivingUp(Kept):
        def data(self, chunk: bytes) -> None:
            raise UpstreamError("enough")

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(b"a", end=False))
        await conversation.closed()
        left.set()

    async with serving(talk) as server:
        error = await failing(HttpClient(server.url, Timeouts()), GivingUp())
        await within(left.wait())

    assert error.message == "enough"
