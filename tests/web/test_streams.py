"""Event streams over real sockets: as they come, kept alive, left, stalled, one after another on a connection.

Everything here holds with the transport that is pushed to and with the plain one, on both event loops.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.web.client import PATIENCE_SECONDS, Gone, asked, text_of
from tests.web.conftest import Serve, Serving
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.upstreams.scripted import Accept, Script
from antiphon.web.transport import PushProtocol

Start = Callable[..., Any]


@pytest.fixture(params=[PushProtocol, HttpToolsProtocol], ids=["push", "plain"])
def start(request: pytest.FixtureRequest, serve: Serve) -> Start:
    """Starts a server with one of the two ways to the client."""

    def started(*scripts: Script, **options: Any) -> Any:
        return serve(scripts or None, protocol=request.param, **options)

    return started


async def within(waiting: Any) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await waiting


class Held:
    """A script that stands still, and tells when it was left."""

    def __init__(self, *reads: list[TextDelta]) -> None:
        self.left = asyncio.Event()
        self.standing = asyncio.Event()
        self._reads = reads

    def __iter__(self) -> Iterator[Any]:
        yield from self._reads
        self.standing.set()
        try:
            yield asyncio.Event()
        finally:
            self.left.set()


# --- As they come ---


async def test_text_comes_as_it_is_said(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]])
    async with here.client.streaming() as stream:
        delta = await stream.until("output_text.delta")
        assert delta["delta"] == "Hi"
        gate.set()
        assert await stream.text() == "Hi!"


async def test_everything_that_a_model_says(start: Start) -> None:
    here: Serving = await start(
        [
            [ReasoningDelta("Hm")],
            [TextDelta("Let me look. \u2028\u2029\x85\r\n")],
            [
                CallDelta(0, "call_1", "look", '{"a"'),
                CallDelta(1, "call_2", "look", "{}"),
                CallDelta(0, None, None, ":1}"),
            ],
        ]
    )
    events = await here.client.stream(tools=[{"type": "function", "name": "look"}])

    assert [item["type"] for item in events[-1]["response"]["output"]] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert text_of(events) == "Let me look. \u2028\u2029\x85\r\n"


async def test_a_request_in_many_lines_breaks_no_line_of_the_stream(start: Start) -> None:
    here: Serving = await start()
    body = asked(
        stream=True,
        tools=[{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}],
        tool_choice={"type": "allowed_tools", "tools": [{"type": "function", "name": "look"}]},
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
    )
    async with here.client.followed("POST", "/v1/responses", json.dumps(body, indent=4).encode()) as stream:
        await stream.whole()


async def test_what_came_in_one_read_leaves_in_one_chunk(start: Start) -> None:
    here: Serving = await start([[TextDelta("Hi")] * 20])
    async with here.client.streaming() as stream:
        await stream.until("output_text.delta")
        deltas = [event for event in stream.events if event["type"] == "response.output_text.delta"]
        assert len(deltas) == 20
        await stream.whole()


async def test_a_refused_request_is_an_http_error(start: Start) -> None:
    here: Serving = await start([UpstreamError("Busy.", status=503, retry_after_seconds=2)])
    reply = await here.client.refused(stream=True)

    assert (reply.status, reply.headers["retry-after"], reply.headers["x-should-retry"]) == (503, "2", "true")


async def test_a_failure_after_the_first_event_ends_the_stream(start: Start) -> None:
    here: Serving = await start([Accept(), UpstreamError("Gone.")])
    events = await here.client.stream()

    assert events[-1]["type"] == "response.failed"


async def test_an_upstream_that_takes_its_time_does_not_hold_the_first_event(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([gate, [TextDelta("Hi")]], first_event_seconds=0.01)
    async with here.client.streaming() as stream:
        await stream.until("in_progress")
        gate.set()
        assert await stream.text() == "Hi"


async def test_a_background_stream_live_and_again(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]])
    async with here.client.streaming(background=True) as stream:
        created = await stream.until("created")
        await stream.until("output_text.delta")
        path = f"/v1/responses/{created['response']['id']}?stream=true"
        async with (
            here.client.followed("GET", path) as second,
            here.client.followed("GET", f"{path}&starting_after=4") as third,
        ):
            await second.until("output_text.delta")
            gate.set()
            assert await stream.text() == await second.text() == "Hi!"
            assert await third.whole() == stream.events[5:]
    assert second.raw == stream.raw
    async with here.client.followed("GET", path) as late:
        await late.whole()
    async with here.client.followed("GET", f"{path}&starting_after=999") as beyond:
        assert await beyond.whole() == [] or beyond.raw == b"data: [DONE]\n\n"
    assert late.raw == stream.raw


async def test_cancel_ends_a_background_stream(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with here.client.streaming(background=True) as stream:
        created = await stream.until("created")
        await within(held.standing.wait())
        path = f"/v1/responses/{created['response']['id']}/cancel"
        first, second = await here.client.post(path), await here.client.post(path)
        events = await stream.whole()

    assert first.json == second.json == events[-1]["response"]
    assert first.json["status"] == "cancelled"
    assert held.left.is_set()


# --- Kept alive ---


async def test_a_quiet_stream_is_kept_alive(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]], keepalive_seconds=0.01)
    async with here.client.streaming() as stream:
        await stream.until("output_text.delta")
        number = max(event["sequence_number"] for event in stream.events)
        repeated: list[dict[str, Any]] = []
        while len(repeated) < 3:
            repeated += [event for event in await stream.more() if event["type"] == "response.in_progress"]
        gate.set()
        await stream.whole()

    assert {event["sequence_number"] for event in repeated} == {number}
    assert repeated[0]["response"]["output"] == []
    assert b": keep-alive\n\n" in stream.raw


async def test_before_the_first_events_nothing_is_repeated(start: Start) -> None:
    """A followed stream of which nothing was seen yet gets comments only."""
    here: Serving = await start([[TextDelta("Hi")], asyncio.Event()], keepalive_seconds=0.01)
    gate = asyncio.Event()
    append = here.server.store.append

    async def later(batches: Any) -> list[bool]:
        await gate.wait()
        return await append(batches)

    here.server.store.append = later  # type: ignore[method-assign]
    async with here.client.streaming(background=True) as stream:
        assert await stream.more() == [{"type": "comment"}]
        gate.set()
        await stream.until("output_text.delta")
        await here.client.post(f"/v1/responses/{stream.events[0]['response']['id']}/cancel")
        await stream.whole()


# --- The client leaves ---


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_ends_run_and_upstream(start: Start, streamed: bool) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=streamed))
        await within(held.standing.wait())
        connection.leave()
        await within(held.left.wait())
    await here.idle()


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_with_a_large_body_that_leaves_is_noticed_too(start: Start, streamed: bool) -> None:
    """A body above the server's read-ahead pauses reading; it must go on, or the end is never seen."""
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=streamed, input="x" * 1_000_000))
        await within(held.standing.wait())
        connection.leave()
        await within(held.left.wait())


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_while_an_image_is_fetched_ends_the_fetching(start: Start, streamed: bool) -> None:
    asked_for, hung_up = asyncio.Event(), asyncio.Event()

    async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked_for.set()
        await reader.read()  # until the other side closes; the picture never comes
        hung_up.set()
        writer.close()

    pictures = await asyncio.start_server(site, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{pictures.sockets[0].getsockname()[1]}/picture.png"
    look = [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]
    async with pictures:
        here: Serving = await start(fetch_allowed_hosts=["127.0.0.1"])
        async with here.client.connected() as connection:
            await connection.send("POST", "/v1/responses", asked(stream=streamed, input=look))
            await within(asked_for.wait())
            connection.leave()
            await within(hung_up.wait())
        await here.idle()
    assert here.upstream.requests == []


async def test_a_client_that_closes_its_half_has_left(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=True))
        await within(held.standing.wait())
        connection.writer.write_eof()
        await within(held.left.wait())


async def test_a_client_that_left_before_the_upstream_accepted(start: Start) -> None:
    held = Held()
    here: Serving = await start(held, first_event_seconds=60)
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=True))
        await within(held.standing.wait())
        connection.leave()
        await within(held.left.wait())
    await here.idle()


async def test_a_client_that_left_while_its_request_was_prepared(start: Start) -> None:
    here: Serving = await start(Held([TextDelta("Hi")]))
    asking, gate = asyncio.Event(), asyncio.Event()
    route = here.server.catalog.route

    async def slowly(name: str) -> Any:
        asking.set()
        await gate.wait()
        return await route(name)

    here.server.catalog.route = slowly  # type: ignore[method-assign]
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=True))
        await within(asking.wait())
        connection.leave()
    await here.unconnected()
    gate.set()
    await here.idle()

    assert here.upstream.cancelled == len(here.upstream.requests)


async def test_a_background_run_goes_on_without_its_client(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]])
    async with here.client.streaming(background=True) as stream:
        created = await stream.until("created")
        await stream.until("output_text.delta")
        stream.connection.leave()
    await here.unconnected()
    gate.set()
    async with here.client.followed("GET", f"/v1/responses/{created['response']['id']}?stream=true") as again:
        assert await again.text() == "Hi!"


# --- A client that does not read ---

PIECE, PIECES = "x" * 10_000, 200


def flood(request: ModelRequest) -> Script:
    """Far more than fits into any buffer, or what was asked for."""
    if "flood" not in request.items[-1].body.decode():
        yield [TextDelta("Hi")]
        return
    for _ in range(PIECES):
        yield [TextDelta(PIECE)]


async def flooded(here: Serving, connection: Any) -> None:
    await connection.send("POST", "/v1/responses", asked(stream=True, input="flood"))
    await here.until(lambda: "pause" in here.upstream.pressure)


def small_window() -> socket.socket:
    """A socket that takes little before it is read."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    made.setblocking(False)
    return made


OPTIONS: dict[str, Any] = {"run_buffer_bytes": 100_000, "send_buffer_bytes": 20_000}


async def test_a_client_that_does_not_read_pauses_its_upstream_and_no_other(start: Start, serve: Serve) -> None:
    here: Serving = await _flooding(start)
    made = small_window()
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", here.port))
    async with here.client.connected() as other, _connected(here, made) as slow:
        await flooded(here, slow)
        unsent = [connection.transport.get_write_buffer_size() for connection in here.web.server_state.connections]
        assert max(unsent) < 400_000, "more is kept than the buffer and one read"
        assert (await other.request("POST", "/v1/responses", asked())).json["status"] == "completed"
        slow_reply = await slow.reply("POST", "/v1/responses")

    assert (
        text_of([json.loads(line[6:]) for line in slow_reply.body.split(b"\n") if line[:7] == b"data: {"])
        == PIECE * PIECES
    )
    assert "resume" in here.upstream.pressure


async def test_a_client_that_does_not_read_for_too_long_is_dropped(start: Start) -> None:
    here: Serving = await _flooding(start, client_stall_seconds=0.05)
    made = small_window()
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", here.port))
    async with _connected(here, made) as slow:
        await flooded(here, slow)
        await here.idle()
        with pytest.raises((Gone, AssertionError)):
            await slow.reply("POST", "/v1/responses")

    assert here.upstream.cancelled == 1


async def test_a_client_that_does_not_read_a_background_stream_does_not_hold_it(start: Start) -> None:
    here: Serving = await _flooding(start, client_stall_seconds=30)
    made = small_window()
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", here.port))
    async with _connected(here, made) as slow:
        await slow.send("POST", "/v1/responses", asked(stream=True, background=True, input="flood"))
        await here.until(lambda: bool(here.upstream.requests) and not here.server.runs._alive)
        reply = await slow.reply("POST", "/v1/responses")

    assert reply.body.endswith(b"data: [DONE]\n\n")


async def _flooding(start: Start, **options: Any) -> Serving:
    here: Serving = await start([], **OPTIONS, **options)
    here.upstream._script_of = flood
    return here


def _connected(here: Serving, made: socket.socket) -> Any:
    return here.client.connected(sock=made)


# --- One after another on a connection ---


async def test_a_connection_serves_on_after_a_stream(start: Start) -> None:
    here: Serving = await start()
    async with here.client.connected() as connection:
        for number in range(3):
            await connection.send("POST", "/v1/responses", asked(stream=True, input=str(number)))
            assert (await connection.reply("POST", "/v1/responses")).status == 200
            assert (await connection.request("GET", "/v1/models")).status == 200
            assert (await connection.request("POST", "/v1/responses", asked())).status == 200
        held = Held([TextDelta("Hi")])
        here.upstream._script_of = lambda _: held
        await connection.send("POST", "/v1/responses", asked(stream=True))
        await within(held.standing.wait())
        connection.leave()
        await within(held.left.wait())


async def test_requests_that_do_not_wait_for_replies_are_answered_in_order(start: Start) -> None:
    here: Serving = await start()
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=True, input="one"))
        await connection.send("GET", "/v1/models")
        await connection.send("POST", "/v1/responses", asked(input="two"))
        await connection.send("POST", "/v1/responses", asked(stream=True, input="three"))
        replies = [
            await connection.reply(method, path)
            for method, path in [
                ("POST", "/v1/responses"),
                ("GET", "/v1/models"),
                ("POST", "/v1/responses"),
                ("POST", "/v1/responses"),
            ]
        ]

    assert b'"You said: one"' in replies[0].body
    assert replies[2].json["output"][0]["content"][0]["text"] == "You said: two"
    assert b'"You said: three"' in replies[3].body


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_would_rather_speak_http_2_keeps_its_body(serve: Serve, streamed: bool) -> None:
    """Java's client offers it in its first request."""
    here = await serve()
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
    tricky = "\r\nUpgrade: h2c\r\n"
    async with here.client.connected() as connection:
        for _ in range(2):
            await connection.send("POST", "/v1/responses", asked(stream=streamed, input=f"h2c {tricky}"), offer)
            assert b"You said: h2c" in (await connection.reply("POST", "/v1/responses")).body


async def test_a_client_that_wants_to_close_is_closed_after_the_stream(start: Start) -> None:
    here: Serving = await start()
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=True), {"connection": "close"})
        reply = await connection.reply("POST", "/v1/responses")
        assert reply.headers["connection"] == "close"
        assert await connection.at_end()


# --- The end of the server ---


async def test_a_stop_cuts_streams_so_that_clients_see_it(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with here.client.streaming() as stream:
        await stream.until("output_text.delta")
        await within(held.standing.wait())
        await here.server.runs.close()
        with pytest.raises(Gone):
            await stream.whole()

    assert held.left.is_set()


async def test_a_store_that_fails_is_told_in_the_stream(start: Start) -> None:
    here: Serving = await start()

    async def full(*_: Any) -> None:
        raise OSError("disk full")

    here.server.store.save = full  # type: ignore[method-assign]
    events = await here.client.stream()

    assert (events[-1]["type"], events[-1]["response"]["error"]["code"]) == ("response.failed", "server_error")


async def test_a_log_that_cannot_be_read_cuts_the_stream(start: Start) -> None:
    here: Serving = await start()
    made = await here.client.create(background=True, stream=False)
    await here.idle()
    async with here.client.streaming(background=True) as stream:
        await stream.whole()

    async def broken(*_: Any) -> None:
        raise OSError("disk gone")

    here.server.store.events = broken  # type: ignore[method-assign]
    path = f"/v1/responses/{stream.events[0]['response']['id']}?stream=true"
    async with here.client.followed("GET", path) as cut:
        with pytest.raises(Gone):
            await cut.whole()
    await here.idle()
    assert made["background"] is True
