"""What bounds a WebSocket: slow readers, large messages, age, idleness, waiting requests, the end of the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.web.client import asked, text_of
from tests.web.conftest import Serve, Serving
from tests.web.sockets import Talk, talking
from tests.web.test_streams import OPTIONS, PIECE, PIECES, Held, flood, small_window
from tests.web.test_websocket import within
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed

from antiphon.engine.deltas import TextDelta
from antiphon.web import frames
from antiphon.web.frames import FramesProtocol

Start = Callable[..., Any]


@pytest.fixture(params=[FramesProtocol, WebSocketsSansIOProtocol], ids=["push", "plain"])
def start(request: pytest.FixtureRequest, serve: Serve) -> Start:
    """Starts a server that floods whoever asks for it, with one of the two ways to the client."""

    async def started(**options: Any) -> Serving:
        return await serve(flood, frames_protocol=request.param, **OPTIONS, **options)

    return started


async def slowly(here: Serving) -> Any:
    """A connection that takes little before it is read."""
    made = small_window()
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", here.port))
    return talking(here.port, sock=made, close_timeout=0.1)


async def flooded(here: Serving, talk: Talk, **parameters: Any) -> None:
    await talk.ask(input="flood", **parameters)
    await here.until(lambda: "pause" in here.upstream.pressure)


# --- A client that does not read ---


async def test_a_client_that_does_not_read_pauses_its_upstream_and_no_other(start: Start) -> None:
    here: Serving = await start()
    async with await slowly(here) as slow, talking(here.port) as other:
        await flooded(here, slow)
        unsent = [connection.transport.get_write_buffer_size() for connection in here.web.server_state.connections]
        assert max(unsent) < 400_000, "more is kept than the buffer and one read"
        assert (await other.create())["status"] == "completed"
        assert text_of(await slow.events()) == PIECE * PIECES

    assert "resume" in here.upstream.pressure


async def test_a_client_that_does_not_read_for_too_long_is_dropped(start: Start) -> None:
    here: Serving = await start(client_stall_seconds=0.05)
    async with await slowly(here) as slow:
        await flooded(here, slow)
        await here.idle()
        with pytest.raises(ConnectionClosed):
            await slow.events()

    assert here.upstream.cancelled == 1


async def test_a_client_that_says_it_leaves_and_stays_is_cut_off(serve: Serve) -> None:
    """Its close frame ends the conversation; what it never read is not to be kept for it."""
    here = await serve(flood, **OPTIONS)
    async with await slowly(here) as slow:
        await flooded(here, slow)
        slow.socket.protocol.send_close(1000)
        slow.socket.transport.write(b"".join(slow.socket.protocol.data_to_send()))
        await here.idle()
        await here.unconnected()


class Leaving:
    """The transport of a client that reads what it was sent, and at last no more."""

    def __init__(self, *unsent: int) -> None:
        self._unsent = list(unsent)
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        assert not self.aborted.is_set()
        return self._unsent.pop(0)

    def abort(self) -> None:
        assert not self._unsent, "it was still reading"
        self.aborted.set()


async def test_what_was_sent_before_a_close_may_be_read_to_its_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is looked at, as long as less and less is unsent."""
    monkeypatch.setattr(frames, "CLOSING_SECONDS", 0.001)
    web = (await serve()).web
    connection = FramesProtocol(web.config, web.server_state, {})
    transport = Leaving(900, 600, 300, 0, 0)
    connection.transport = transport  # type: ignore[assignment]
    connection.let_go()
    await within(transport.aborted.wait())


async def test_a_client_that_does_not_read_a_background_response_does_not_hold_it(start: Start) -> None:
    here: Serving = await start(client_stall_seconds=30)
    async with await slowly(here) as slow:
        await slow.ask(input="flood", background=True)
        await here.until(lambda: bool(here.upstream.requests) and not here.server.runs._alive)
        assert text_of(await slow.events()) == PIECE * PIECES


async def test_a_response_behind_one_that_was_not_read_is_paused_from_the_start(start: Start) -> None:
    here: Serving = await start()
    async with await slowly(here) as slow:
        await flooded(here, slow)
        await slow.ask(input="flood")
        first, second = await slow.events(), await slow.events()

    assert text_of(first) == text_of(second) == PIECE * PIECES


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"%s"}' % ("odd" * 1000),
        '{"type":"response.steer","previous_response_id":"x","input":"%s"}' % ("x" * 10_000),
    ],
    ids=["errors", "steering"],
)
async def test_answers_to_a_client_that_reads_none_do_not_pile_up(serve: Serve, message: str) -> None:
    here = await serve(client_stall_seconds=0.2, **OPTIONS)
    async with await slowly(here) as slow:
        [connection] = here.web.server_state.connections
        most = 0

        async def shout() -> None:
            nonlocal most
            while True:
                await slow.socket.send(message)
                most = max(most, connection.transport.get_write_buffer_size())

        with pytest.raises(ConnectionClosed):
            await within(shout())

    assert most < 300_000


async def test_pings_of_a_client_that_reads_nothing_are_not_answered(serve: Serve) -> None:
    here = await serve(flood, **OPTIONS)
    async with await slowly(here) as slow:
        await flooded(here, slow)
        [connection] = here.web.server_state.connections
        before = connection.transport.get_write_buffer_size()
        for number in range(500):
            await slow.socket.ping(b"%0100d" % number)
        assert connection.transport.get_write_buffer_size() <= before
        assert text_of(await slow.events()) == PIECE * PIECES


async def test_only_so_many_requests_wait_in_memory(serve: Serve) -> None:
    held = Held([TextDelta("Hi")])
    here = await serve([held], keepalive_seconds=0.05)
    made = small_window()
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", here.port))
    async with talking(here.port, sock=made, close_timeout=0.1) as talk:
        await talk.ask()
        await within(held.standing.wait())
        text = json.dumps({"type": "response.create", **asked(input="x" * 1_000_000)})
        sent: list[int] = []

        async def shout() -> None:
            while True:
                await talk.socket.send(text)
                sent.append(1)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shout(), 1)
        assert len(sent) < 20, "more than four and what the sockets hold"
        talk.socket.transport.abort()
    await within(held.left.wait())


# --- Messages ---


async def test_a_message_in_fragments_is_one(start: Start) -> None:
    here: Serving = await start()
    text = json.dumps({"type": "response.create", **asked(input="日本 " * 50_000)}, ensure_ascii=False)
    async with talking(here.port) as talk:
        await talk.socket.send([text[start : start + 7919] for start in range(0, len(text), 7919)])
        assert (await talk.events())[-1]["type"] == "response.completed"

    assert here.upstream.requests[0].items[0].body.decode().count("日本") == 50_000


async def test_a_message_in_too_many_fragments_closes_the_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fragments may be empty, so that no number of bytes bounds them."""
    monkeypatch.setattr(frames, "FRAGMENTS_MAX", 100)
    here = await serve()
    async with talking(here.port) as talk:
        assert (await talk.create())["status"] == "completed"
        with contextlib.suppress(ConnectionClosed):
            await talk.say(["{", *[""] * 200, "}"])
        assert await talk.closed() == (1009, "a message may come in 100 fragments")
    await here.idle()


@pytest.mark.parametrize("fragments", [1, 100])
@pytest.mark.parametrize("compressed", [True, False])
async def test_a_message_that_is_too_large_closes_the_connection(
    start: Start, fragments: int, compressed: bool
) -> None:
    here: Serving = await start(body_max_bytes=100_000, websocket_compression=compressed)
    text = json.dumps({"type": "response.create", **asked(input="x" * 100_000)})
    async with talking(here.port, compression="deflate" if compressed else None) as talk:
        size = len(text) // fragments + 1
        try:
            await talk.socket.send([text[start : start + size] for start in range(0, len(text), size)])
        except ConnectionClosed:
            assert fragments > 1
        assert (await talk.closed())[0] == 1009
    await here.idle()


async def test_messages_are_compressed_where_both_want_it(start: Start) -> None:
    for wanted in (True, False):
        here: Serving = await start(websocket_compression=wanted)
        async with talking(here.port, compression="deflate") as talk:
            assert [type(one).__name__ for one in talk.socket.protocol.extensions] == ["PerMessageDeflate"] * wanted
            assert (await talk.create(input="日本"))["status"] == "completed"


@pytest.mark.parametrize("sent", [b"\xff\xfe", [b"\xe6\x97", b"\xa5\xff"]], ids=["whole", "in fragments"])
async def test_text_that_is_not_utf_8_closes_the_connection_and_is_nothing_to_tell(
    serve: Serve, sent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    here = await serve()
    async with talking(here.port) as talk:
        await talk.socket.send(sent, text=True)
        assert (await talk.closed())[0] == 1007
    await here.idle()

    assert caplog.messages == []


async def test_a_sign_may_be_cut_by_fragments(serve: Serve) -> None:
    here = await serve()
    message = json.dumps({"type": "response.create", **asked(input="日本")}, ensure_ascii=False).encode()
    async with talking(here.port) as talk:
        at = message.index("日".encode()) + 1
        await talk.socket.send([message[:at], message[at:]], text=True)
        assert (await talk.events())[-1]["type"] == "response.completed"


async def test_pings_are_answered_and_sent(serve: Serve) -> None:
    here = await serve(keepalive_seconds=0.01)
    async with talking(here.port) as talk:
        await within(await talk.socket.ping())
        [connection] = here.web.server_state.connections
        await here.until(lambda: connection.last_ping_rtt > 0)  # type: ignore[attr-defined]


# --- Age and idleness ---


async def test_a_connection_that_is_too_old_ends_behind_its_response(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start(websocket_seconds=0.2)
    here.upstream._script_of = lambda _: iter([[TextDelta("Hi")], gate])
    async with talking(here.port) as talk:
        await talk.ask()
        await talk.ask()
        await within(asyncio.sleep(0.3))
        gate.set()
        await talk.events()
        told = await talk.error()
        assert (await talk.closed())[0] == 1000

    assert (told["status"], told["error"]["code"]) == (400, "websocket_connection_limit_reached")
    assert len(here.upstream.requests) == 1


async def test_the_limit_is_told_in_minutes(start: Start) -> None:
    here: Serving = await start(websocket_seconds=0.06)
    async with talking(here.port) as talk:
        told = await talk.error()
        assert (await talk.closed())[0] == 1000

    assert told["error"]["message"] == (
        "Responses websocket connection limit reached (0.001 minutes). Create a new websocket connection to continue."
    )
    await here.idle()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start(websocket_idle_seconds=0.1)
    here.upstream._script_of = lambda _: iter([[TextDelta("Hi")], gate])
    async with talking(here.port) as busy:
        await busy.ask()
        async with talking(here.port) as idle:
            assert (await idle.closed())[0] == 1001
        gate.set()
        await busy.events()
        assert (await busy.closed())[0] == 1001
    await here.idle()


# --- The server stops ---


async def test_a_stop_lets_a_response_end_and_closes_idle_connections(serve: Serve) -> None:
    gate = asyncio.Event()
    here = await serve([[[TextDelta("Hi")], gate, [TextDelta("!")]]])
    async with talking(here.port) as busy, talking(here.port) as idle:
        await busy.ask()
        told = [await busy.hear() for _ in range(5)]
        for connection in list(here.web.server_state.connections):
            connection.shutdown()
        assert (await idle.closed())[0] == 1012
        await busy.ask()
        gate.set()
        while told[-1]["type"] != "response.completed":
            told.append(await busy.hear())
        assert (await busy.closed())[0] == 1012

    assert text_of(told) == "Hi!"
    assert len(here.upstream.requests) == 1


async def test_a_response_whose_time_is_over_ends_with_its_connection(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start()
    here.upstream._script_of = lambda _: held
    async with talking(here.port) as talk:
        await talk.ask()
        await within(held.standing.wait())
        for task in list(here.web.server_state.tasks):
            task.cancel()
        for _ in range(5):
            await talk.hear()
        assert (await talk.closed())[0] == 1012
        await within(held.left.wait())
    await here.idle()


async def test_a_response_that_the_end_of_the_runs_cuts_off_is_told_so(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start()
    here.upstream._script_of = lambda _: held
    async with talking(here.port) as talk:
        await talk.ask()
        for _ in range(5):
            await talk.hear()
        await here.server.runs.close()
        told = await talk.error()

    assert (told["status"], told["error"]["message"]) == (503, "The server is stopping.")


# --- Memory ---


async def test_a_long_talk_keeps_only_what_its_newest_response_needs(serve: Serve) -> None:
    here = await serve()
    memories: list[Any] = []
    async with talking(here.port) as talk:
        for number in range(20):
            await talk.create(store=False, input=f"{number}" + "x" * 10_000)
        memories = list(_memories())

    [memory] = memories
    assert sum(map(len, memory._bodies)) < 30_000


def _memories() -> Iterator[Any]:
    import gc

    from antiphon.web.websocket import ConnectionMemory

    gc.collect()  # what is left of talks before
    yield from (one for one in gc.get_objects() if isinstance(one, ConnectionMemory))
