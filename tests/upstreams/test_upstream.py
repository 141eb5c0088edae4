"""The dialect over real sockets: what becomes of replies, errors, losses and further tries."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from tests.upstreams.asking import asked, user
from tests.upstreams.recorded_texts import TEXTS
from tests.upstreams.recorded_wholes import WHOLES
from tests.upstreams.recordings import OLLAMA, chunk, said, stream, text
from tests.upstreams.servers import (
    Conversation,
    Heard,
    Talk,
    WaitlessClock,
    chunked,
    replies,
    reply,
    serving,
    within,
)

from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import ModelInfo, Stop, UpstreamError
from antiphon.upstreams import http
from antiphon.upstreams.calling import BACKOFF_MAX_SECONDS
from antiphon.upstreams.chat_completions import ChatCompletions, Options
from antiphon.upstreams.http import Timeouts

HELLO = stream(chunk(OLLAMA, text("Hello")), chunk(OLLAMA, "{}", "stop"))
SSE = chunked(HELLO)
BUSY = reply(b'{"error":{"message":"busy"}}', "503 Service Unavailable", content_type="application/json")


class Asking:
    """An upstream with a clock that does not wait and a feed that keeps what it hears."""

    def __init__(self, url: str, *, stream: bool = True, **options: Any) -> None:
        self.clock = WaitlessClock()
        self.heard = Heard()
        self.upstream = ChatCompletions(url, self.clock, **options)
        self.request = asked(user("Hi"), stream=stream)

    async def run(self) -> Stop:
        try:
            async with asyncio.timeout(5):
                return await self.upstream.run(self.request, self.heard)
        finally:
            await self.upstream.close()

    async def failure(self) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.run()
        return caught.value


async def ask(talk: Talk, **options: Any) -> Asking:
    """Runs against a server; what was asked and heard."""
    async with serving(talk) as server:
        asking = Asking(server.url, **options)
        await asking.run()
    return asking


async def fail(talk: Talk, **options: Any) -> tuple[UpstreamError, Asking, int]:
    """Runs in vain; the error, and how often the server was asked."""
    async with serving(talk) as server:
        asking = Asking(server.url, **options)
        error = await asking.failure()
    return error, asking, len(server.asked)


def closing(*data: bytes) -> Talk:
    """Each connection gets one request's reply, and is closed; further ones get the last reply again."""

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(data[min(conversation.number, len(data) - 1)])

    return talk


# --- The request ---


async def test_the_request_on_the_wire() -> None:
    async with serving(replies(SSE)) as server:
        asking = Asking(server.url, key="sk-test", options={"m": Options(extra_body={"top_k": 1})})
        await asking.run()

    (request,) = server.asked
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body)["top_k"] == 1


@pytest.mark.parametrize("key", ["sk\r\nx: y", "schlüssel", "a\0b"])
def test_a_key_that_no_header_can_hold(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        ChatCompletions("http://127.0.0.1:1/v1", WaitlessClock(), key=key)


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (Options(openai_parameters=True), ("application/pdf",)),
        (Options(openai_parameters=True, files=[]), ()),
        (Options(files=["*"]), ("*",)),
    ],
)
def test_the_files_that_models_take(options: Options, files: tuple[str, ...]) -> None:
    upstream = ChatCompletions("http://127.0.0.1:1/v1", WaitlessClock(), options={"*": options})

    assert upstream.capabilities("m").files == files


def test_the_first_pattern_of_options_wins() -> None:
    first, second = Options(images=False), Options(think="tags")
    upstream = ChatCompletions("http://127.0.0.1:1/v1", WaitlessClock(), options={"llama*": first, "*": second})

    assert upstream.options_for("llama3") is first
    assert upstream.options_for("qwen") is second
    assert not upstream.capabilities("llama3").images
    assert upstream.capabilities("llama3").files == ()
    assert upstream.capabilities("qwen").images


# --- Replies ---


@pytest.mark.parametrize("name", ["openai text with usage", "CRLF", "finish length", "think tags"])
async def test_a_stream(name: str) -> None:
    recording = TEXTS[name]
    pieces = [recording.body[at : at + 7] for at in range(0, len(recording.body), 7)]

    asking = await ask(replies(chunked(*pieces)), options={"*": Options(think=recording.think)})

    assert said(asking.heard.deltas) == recording.said
    assert asking.heard.accepted == 1


@pytest.mark.parametrize("name", WHOLES)
async def test_a_whole_reply(name: str) -> None:
    recording = WHOLES[name]
    talk = replies(reply(recording.body, content_type="application/json; charset=utf-8"))

    asking = await ask(talk, stream=False, options={"*": Options(think=recording.think)})

    assert said(asking.heard.deltas) == recording.said


async def test_a_server_that_does_not_stream_although_asked() -> None:
    asking = await ask(replies(reply(WHOLES["openai"].body, content_type="application/json")))

    assert said(asking.heard.deltas) == [("text", "Hello")]


async def test_a_server_that_streams_although_not_asked() -> None:
    asking = await ask(replies(SSE), stream=False)

    assert said(asking.heard.deltas) == [("text", "Hello")]


async def test_a_stream_that_does_not_say_what_it_is() -> None:
    asking = await ask(closing(b"HTTP/1.1 200 OK\r\n\r\n" + HELLO))

    assert said(asking.heard.deltas) == [("text", "Hello")]


async def test_the_upstream_accepts_before_it_speaks() -> None:
    go = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(end=False))
        await go.wait()
        await conversation.send(SSE.partition(b"\r\n\r\n")[2])

    async with serving(talk) as server:
        asking = Asking(server.url)
        running = asyncio.ensure_future(asking.run())
        await within(asking.heard.taken.wait())
        assert not asking.heard.deltas
        go.set()
        await running

    assert asking.heard.deltas == [TextDelta("Hello")]


async def test_a_server_that_lingers_after_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(HELLO, end=False))
        await conversation.closed()

    assert said((await ask(talk)).heard.deltas) == [("text", "Hello")]


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_server_that_vanishes_after_the_finish_reason(how: str) -> None:
    """No [DONE], no last chunk: the model had said that it was done."""

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(HELLO.replace(b"data: [DONE]\n\n", b""), end=False))
        await asking.heard.spoken.wait()
        getattr(conversation, how)()

    async with serving(talk) as server:
        asking = Asking(server.url)
        stop = await asking.run()

    assert (stop, len(server.asked)) == (Stop("stop"), 1)


async def test_a_server_that_goes_silent_after_the_finish_reason() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(HELLO.replace(b"data: [DONE]\n\n", b""), end=False))
        await conversation.closed()

    assert said((await ask(talk, timeouts=Timeouts(idle_seconds=0.05))).heard.deltas) == [("text", "Hello")]


# --- Replies that are none ---

NOT_ANSWERS = {
    "a page": (reply(b"<!doctype html>", content_type="text/html"), "page"),
    "a page of another kind": (reply(b"<html/>", content_type="application/xhtml+xml; charset=utf-8"), "answer"),
    "compressed": (reply(b"\x1f\x8b", content_type="text/event-stream", content_encoding="gzip"), "compresses"),
    "an empty stream": (chunked(), "no answer"),
    "an empty object": (reply(b"{}", content_type="application/json"), "no answer"),
    "no JSON": (reply(b"Hello", content_type="application/json"), "malformed"),
    "an error that says it is well": (reply(b'{"error":"out of memory"}', content_type="application/json"), "memory"),
    "a redirect": (reply(b"", "307 Temporary Redirect", location="http://127.0.0.1:1/"), "redirects to"),
    "nothing": (reply(b"", "204 No Content"), "answer"),
}


@pytest.mark.parametrize("name", NOT_ANSWERS)
async def test_a_reply_that_is_no_answer(name: str) -> None:
    data, message = NOT_ANSWERS[name]

    error, asking, _ = await fail(replies(data), retries=0)

    assert message in error.message
    assert error.status in (500, 502)
    assert not asking.heard.deltas


async def test_an_endless_error_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(b"HTTP/1.1 500 Oops\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            await conversation.send(b"x" * 65536)

    error, _, _ = await fail(talk, retries=0)

    assert (error.status, error.message) == (500, "x" * 2000)


async def test_a_whole_reply_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.upstreams.calling.REPLY_MAX", 100)

    error, _, asked_times = await fail(replies(reply(WHOLES["openai"].body, content_type="application/json")))

    assert "too large" in error.message
    assert asked_times == 1


async def test_an_error_in_the_stream_after_text_is_not_tried_again() -> None:
    body = stream(chunk(OLLAMA, text("so far")), '{"error":{"message":"out of memory","code":503}}')

    error, asking, asked_times = await fail(replies(chunked(body)))

    assert (error.message, error.status, error.retryable) == ("out of memory", 503, False)
    assert said(asking.heard.deltas) == [("text", "so far")]
    assert asked_times == 1


# --- Further tries ---


@pytest.mark.parametrize(
    "failures",
    [
        [BUSY],
        [BUSY, BUSY],
        [reply(b"", "500 Internal Server Error")],
        [reply(b"", "502 Bad Gateway"), reply(b"", "504 Gateway Timeout")],
        [reply(b"", "429 Too Many Requests")],
        [b""],
        [b"HTTP/1.1 200 OK\r\ncontent-le"],
        [chunked(end=False)],
        [chunked(b": processing\n\n", end=False)],
        [chunked(stream('{"error":{"message":"busy"}}'))],
        [chunked(b"data: ")],
    ],
)
async def test_a_passing_failure_before_the_first_token_is_tried_again(failures: list[bytes]) -> None:
    asking = await ask(closing(*failures, SSE))

    assert said(asking.heard.deltas) == [("text", "Hello")]
    assert len(asking.clock.slept) == len(failures)
    for attempt, seconds in enumerate(asking.clock.slept):
        assert 0.125 * 2**attempt <= seconds <= 0.25 * 2**attempt


async def test_tries_have_an_end() -> None:
    error, asking, asked_times = await fail(replies(BUSY), retries=3)

    assert (error.status, error.message) == (503, "busy")
    assert (asked_times, len(asking.clock.slept)) == (4, 3)


async def test_a_wait_does_not_grow_for_ever() -> None:
    _, asking, _ = await fail(replies(BUSY), retries=10)

    assert max(asking.clock.slept) <= BACKOFF_MAX_SECONDS


@pytest.mark.parametrize(
    "data",
    [
        reply(b'{"error":{"message":"bad"}}', "400 Bad Request"),
        reply(b"", "401 Unauthorized"),
        reply(b"", "404 Not Found"),
        reply(b'{"error":{"code":"insufficient_quota"}}', "429 Too Many Requests"),
        reply(b'{"error":{"message":"context size exceeded"}}', "500 Internal Server Error"),
        reply(b"", "501 Not Implemented"),
        b"SSH-2.0\r\n",
    ],
)
async def test_a_failure_that_stays_is_not_tried_again(data: bytes) -> None:
    error, asking, asked_times = await fail(replies(data))

    assert not error.retryable
    assert (asked_times, asking.clock.slept) == (1, [])


@pytest.mark.parametrize(("seconds", "slept"), [("2", [2.0]), ("0", [0.0]), ("8", [8.0])])
async def test_the_upstream_says_how_long_to_wait(seconds: str, slept: list[float]) -> None:
    asking = await ask(replies(reply(b"", "429 Too Many Requests", retry_after=seconds), SSE))

    assert asking.clock.slept == slept


async def test_who_is_told_to_wait_for_long_tells_its_client() -> None:
    talk = replies(reply(b'{"error":{"message":"slow down"}}', "429 Too Many Requests", retry_after="60"))

    error, asking, asked_times = await fail(talk)

    assert (error.status, error.code, error.retry_after_seconds) == (429, "rate_limit_exceeded", 60.0)
    assert (asked_times, asking.clock.slept) == (1, [])


@pytest.mark.parametrize("end", ["", ": ping\n\n", 'data: {"error":{"message":"busy","code":503}}\n\n', "data: {\n\n"])
async def test_after_the_first_token_there_is_no_other_try(end: str) -> None:
    body = stream(chunk(OLLAMA, text("so far")), done=False) + end.encode()

    error, asking, asked_times = await fail(closing(chunked(body, end=False)))

    assert not error.retryable
    assert said(asking.heard.deltas) == [("text", "so far")]
    assert (asked_times, asking.clock.slept) == (1, [])


async def test_a_whole_reply_that_was_cut_is_tried_again() -> None:
    whole = reply(WHOLES["openai"].body, content_type="application/json")

    asking = await ask(closing(whole[:-5], whole), stream=False)

    assert said(asking.heard.deltas) == [("text", "Hello")]


async def test_nobody_listens_and_then_somebody_does() -> None:
    """A server that is being restarted."""
    async with serving(replies(SSE)) as server:
        pass
    asking = Asking(server.url)

    class Restarting(WaitlessClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            self.listening = await asyncio.start_server(talk, "127.0.0.1", server.port)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        await writer.drain()
        writer.close()

    clock = Restarting()
    asking.upstream = ChatCompletions(server.url, clock)
    await asking.run()
    clock.listening.close()

    assert said(asking.heard.deltas) == [("text", "Hello")]
    assert len(clock.slept) == 1


async def test_cancelling_during_a_wait_ends_the_run() -> None:
    waiting = asyncio.Event()

    class Endless(WaitlessClock):
        async def sleep(self, seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

    async with serving(replies(BUSY)) as server:
        asking = Asking(server.url)
        asking.upstream = ChatCompletions(server.url, Endless())
        running = asyncio.ensure_future(asking.run())
        await within(waiting.wait())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert len(server.asked) == 1


# --- Pressure and leaving ---


async def test_a_slow_reader_holds_the_upstream() -> None:
    line = stream(chunk(OLLAMA, text("x" * 60_000)), done=False)
    part = b"%x\r\n%b\r\n" % (len(line), line)
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(end=False))
        stopped.set_result(await conversation.blocked(part) // len(part))
        await conversation.send(SSE.partition(b"\r\n\r\n")[2])

    class Slow(Heard):
        def __call__(self, deltas: Any) -> None:
            super().__call__(deltas)
            if self.deltas and len(self.deltas) < 3:
                assert self.pause is not None
                self.pause()

    async with serving(talk) as server:
        asking = Asking(server.url, timeouts=Timeouts(idle_seconds=0.1))
        asking.heard = slow = Slow()
        running = asyncio.ensure_future(asking.run())
        async with asyncio.timeout(5):
            sent = await stopped
        heard = sum(len(delta.text) for delta in slow.deltas if isinstance(delta, TextDelta))
        assert heard <= 2**20
        slow.__class__ = Heard  # from here on it is quick
        assert slow.resume is not None
        slow.resume()
        await running

    assert said(slow.deltas) == [("text", "x" * 60_000 * sent + "Hello")]


async def test_cancelling_a_run_closes_its_request_at_once() -> None:
    left: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(stream(chunk(OLLAMA, text("so far")), done=False), end=False))
        await conversation.closed()
        left.set_result(asyncio.get_running_loop().time())

    async with serving(talk) as server:
        asking = Asking(server.url)
        running = asyncio.ensure_future(asking.run())
        await within(asking.heard.spoken.wait())
        cancelled = asyncio.get_running_loop().time()
        running.cancel()
        async with asyncio.timeout(5):
            assert await left - cancelled < 0.1
        with pytest.raises(asyncio.CancelledError):
            await running

    assert len(server.asked) == 1


# --- Lists of models ---


async def models(data: bytes, **options: Any) -> list[ModelInfo]:
    async with serving(replies(data)) as server:
        upstream = ChatCompletions(server.url, WaitlessClock(), name="here", **options)
        try:
            async with asyncio.timeout(5):
                return await upstream.models()
        finally:
            await upstream.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"object": "list", "data": [{"id": "a", "object": "model", "created": 5, "owned_by": "vllm", "root": "x"}]},
            [ModelInfo("a", 5, "vllm")],
        ),
        ({"data": [{"id": "a"}, {"id": "b", "created": None, "owned_by": None}]}, [("a", 0), ("b", 0)]),
        ({"data": [{"id": "a", "created": 5.5, "owned_by": ""}]}, [("a", 5)]),
        ({"models": [], "object": "list", "data": None}, []),
        ({}, []),
        ({"data": [{"id": "a", "max_model_len": 32768}]}, [ModelInfo("a", 0, "here", 32768)]),
        ({"data": [{"id": "a", "context_length": 8192}]}, [ModelInfo("a", 0, "here", 8192)]),
        ({"data": [{"id": "a", "meta": {"n_ctx": 4096, "n_ctx_train": 131072}}]}, [ModelInfo("a", 0, "here", 4096)]),
        ({"data": [{"id": "a", "meta": {"n_ctx_train": 131072}}]}, [ModelInfo("a", 0, "here", 131072)]),
        ({"data": [{"id": "a", "max_model_len": "long", "context_length": 0, "meta": []}]}, [("a", 0)]),
    ],
)
async def test_a_list_of_models(body: Any, expected: list[Any]) -> None:
    listed = await models(reply(json.dumps(body).encode()))

    wanted = [one if isinstance(one, ModelInfo) else ModelInfo(*one, "here") for one in expected]
    assert listed == wanted


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (reply(b"nonsense"), "malformed list of models"),
        (reply(b"[]"), "malformed list of models"),
        (reply(b'{"data":[{"name":"a"}]}'), "malformed list of models"),
        (reply(b"[" * 100_000), "malformed list of models"),
        (reply(b'{"error":{"message":"no key"}}', "401 Unauthorized"), "no key"),
        (reply(b"", "302 Found", location="/login"), "redirects to /login"),
        (reply(b"{}", x_antiphon_instance="mine"), "is this server itself"),
    ],
)
async def test_a_list_of_models_that_is_none(data: bytes, message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        await models(data, instance="mine")


async def test_another_server_of_this_kind_is_welcome() -> None:
    listed = await models(reply(b'{"data":[{"id":"a"}]}', x_antiphon_instance="theirs"), instance="mine")

    assert listed == [ModelInfo("a", 0, "here")]


async def test_a_list_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.upstreams.calling.MODELS_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.closed()

    async with serving(talk) as server:
        with pytest.raises(UpstreamError, match="did not list its models"):
            await ChatCompletions(server.url, WaitlessClock()).models()


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Any:
    """Nothing that happens here is an error of the event loop."""
    yield
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR]
