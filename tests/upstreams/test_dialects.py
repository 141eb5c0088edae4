"""The Responses and the messages dialect over real sockets: what they ask for, and what becomes of the replies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, TypeAlias

import pytest
from tests.upstreams import recorded_messages, recorded_responses
from tests.upstreams.asking import asked, function, user
from tests.upstreams.recordings import said
from tests.upstreams.servers import Conversation, Heard, Server, Talk, WaitlessClock, chunked, replies, reply, serving

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import Capabilities, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.upstreams import calling, http, messages, responses
from antiphon.upstreams.http import Timeouts
from antiphon.upstreams.messages import Messages
from antiphon.upstreams.opaque import wrapped
from antiphon.upstreams.responses import Responses
from antiphon.upstreams.responses.request import Sealed

Dialect: TypeAlias = type[Responses] | type[Messages]

KEY = "sk-test-0123456789"


class Told(NamedTuple):
    """How a dialect is spoken: where it is asked, and a reply that says hello in two pieces."""

    path: str
    count_path: str
    hello: bytes
    begun: bytes
    unfinished: bytes


_R, _M = recorded_responses, recorded_messages
_R_HELLO = _R.said_message("Hel", "lo")
DIALECTS: dict[Dialect, Told] = {
    Responses: Told(
        "/v1/responses",
        "/v1/responses/input_tokens",
        _R.stream(*_R_HELLO, _R.completed()),
        _R.stream(),
        _R.stream(*_R_HELLO),
    ),
    Messages: Told(
        "/v1/messages",
        "/v1/messages/count_tokens",
        _M.stream(_M.start(), *_M.text(0, "Hel", "lo"), *_M.end()),
        _M.stream(_M.start(), _M.PING),
        _M.stream(_M.start(), *_M.text(0, "Hel", "lo")),
    ),
}
both = pytest.mark.parametrize("dialect", DIALECTS)


class Asking:
    """An upstream with a clock that does not wait and a feed that keeps what it hears."""

    def __init__(self, dialect: Dialect, server: Server, **settings: Any) -> None:
        self.server = server
        self.clock = WaitlessClock()
        self.heard = Heard()
        self.upstream = dialect(server.url, self.clock, name="here", **settings)

    @property
    def said(self) -> Any:
        """Texts and calls, without what else there is to items."""
        return said(one for one in self.heard.deltas if isinstance(one, TextDelta | ReasoningDelta | CallDelta))

    def body(self, number: int = -1) -> Any:
        return json.loads(self.server.asked[number].body)

    async def run(self, request: ModelRequest | None = None) -> Stop:
        try:
            async with asyncio.timeout(5):
                return await self.upstream.run(request or asked(user("Hi"), stream=True), self.heard)
        finally:
            await self.upstream.close()

    async def failure(self, request: ModelRequest | None = None) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.run(request)
        return caught.value


async def fail(dialect: Dialect, talk: Talk, **settings: Any) -> tuple[UpstreamError, Asking]:
    async with serving(talk) as server:
        asking = Asking(dialect, server, **settings)
        return await asking.failure(), asking


def refusal(body: Any, status: str, **headers: str) -> bytes:
    return reply(json.dumps(body).encode(), status, content_type="application/json", **headers)


# --- Both ---


@both
async def test_a_stream_in_pieces(dialect: Dialect) -> None:
    hello = DIALECTS[dialect].hello
    pieces = [hello[at : at + 7] for at in range(0, len(hello), 7)]

    async with serving(replies(chunked(*pieces))) as server:
        asking = Asking(dialect, server)
        stop = await asking.run()

    (request,) = server.asked
    assert asking.said == [("text", "Hello")]
    assert asking.heard.accepted == 1
    assert (stop.reason, stop.usage is not None) == ("stop", True)
    assert (request.method, request.path) == ("POST", DIALECTS[dialect].path)
    assert request.headers["content-type"] == "application/json"


@both
async def test_a_server_that_lingers_after_the_end(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(DIALECTS[dialect].hello, end=False))
        await conversation.closed()

    async with serving(talk) as server:
        asking = Asking(dialect, server)
        await asking.run()

    assert asking.said == [("text", "Hello")]


@both
async def test_a_passing_failure_before_the_first_token_is_tried_again(dialect: Dialect) -> None:
    busy = refusal({"error": {"type": "overloaded_error", "message": "Overloaded"}}, "529 Overloaded")
    told = DIALECTS[dialect]

    async with serving(replies(busy, chunked(told.begun), chunked(told.hello))) as server:
        asking = Asking(dialect, server)
        await asking.run()

    assert asking.said == [("text", "Hello")]
    assert len(asking.clock.slept) == 2


@both
async def test_after_the_first_token_there_is_no_other_try(dialect: Dialect) -> None:
    error, asking = await fail(dialect, replies(chunked(DIALECTS[dialect].unfinished)))

    assert (error.code, error.retryable) == ("upstream_cut", False)
    assert asking.said == [("text", "Hello")]
    assert len(asking.server.asked) == 1


@both
async def test_a_rate_limit_says_how_long_to_wait(dialect: Dialect) -> None:
    body = {"error": {"type": "rate_limit_error", "message": "Slow down."}}
    short, long = (refusal(body, "429 Too Many Requests", retry_after=seconds) for seconds in ("3", "60"))

    error, asking = await fail(dialect, replies(short, long))

    assert asking.clock.slept == [3.0]
    assert (error.status, error.code, error.retry_after_seconds) == (429, "rate_limit_exceeded", 60.0)


@both
@pytest.mark.parametrize(("said", "tries"), [("true", 3), ("false", 1)])
async def test_the_provider_knows_whether_another_try_helps(dialect: Dialect, said: str, tries: int) -> None:
    status = "409 Conflict" if said == "true" else "500 Internal Server Error"

    _, asking = await fail(dialect, replies(refusal({}, status, x_should_retry=said)))

    assert len(asking.server.asked) == tries


@both
@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}. You can find your API key at https://platform.openai.com/.",
        "Incorrect API key provided: sk-test-********6789. You can find your API key elsewhere.",
    ],
)
async def test_no_error_repeats_the_key(dialect: Dialect, message: str) -> None:
    body = {"error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": message}}
    talk = replies(refusal(body, "401 Unauthorized"))

    error, asking = await fail(dialect, talk, key=KEY)

    assert asking.server.asked[0].headers.keys() & {"authorization", "x-api-key"}
    assert "Incorrect API key provided: [key]" in error.message
    for text in (error.message, str(error), repr(error)):
        assert "6789" not in text


@both
async def test_no_error_of_a_list_or_a_count_repeats_the_key(dialect: Dialect) -> None:
    async with serving(replies(refusal({"error": f"{KEY} is wrong"}, "403 Forbidden"))) as server:
        asking = Asking(dialect, server, key=KEY)
        for ask in (asking.upstream.models(), asking.upstream.count(asked(user("Hi")))):
            with pytest.raises(UpstreamError, match=r"^\[key\] is wrong$"):
                await ask
        await asking.upstream.close()


@both
@pytest.mark.parametrize("key", ["sk\r\nx: y", "schlüssel"])
def test_a_key_that_no_header_can_hold(dialect: Dialect, key: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        dialect("http://127.0.0.1:1/v1", WaitlessClock(), key=key)

    assert key not in str(caught.value)


@both
async def test_cancelling_a_run_closes_its_request_at_once(dialect: Dialect) -> None:
    left = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(DIALECTS[dialect].unfinished, end=False))
        await conversation.closed()
        left.set()

    async with serving(talk) as server:
        asking = Asking(dialect, server)
        running = asyncio.ensure_future(asking.run())
        async with asyncio.timeout(5):
            await asking.heard.spoken.wait()
            running.cancel()
            await left.wait()
        with pytest.raises(asyncio.CancelledError):
            await running


@both
async def test_a_silent_server_is_given_up(dialect: Dialect) -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(chunked(DIALECTS[dialect].begun, end=False))
        await conversation.closed()

    error, _ = await fail(dialect, talk, timeouts=Timeouts(idle_seconds=0.05), retries=0)

    assert (error.status, error.code) == (504, "upstream_timeout")


# --- Counts ---


@both
@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (reply(b'{"object":"response.input_tokens","input_tokens":14}'), 14),
        (reply(b"{}"), None),
        (reply(b"", "404 Not Found"), None),
        (reply(b"", "405 Method Not Allowed"), None),
    ],
)
async def test_a_count(dialect: Dialect, data: bytes, tokens: int | None) -> None:
    request = asked(user("Hi"), instructions="Be brief.", tools=[function("f")], temperature=1, max_output_tokens=50)

    async with serving(replies(data)) as server:
        asking = Asking(dialect, server, key=KEY)
        assert await asking.upstream.count(request) == tokens
        await asking.upstream.close()

    prompt = {"input", "instructions"} if dialect is Responses else {"messages", "system"}
    assert server.asked[0].path == DIALECTS[dialect].count_path
    assert asking.body().keys() == {"model", "tools", *prompt}


@both
@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (reply(b"nonsense"), 502, "malformed count"),
        (reply(b'{"input_tokens":"x"}'), 502, "malformed count"),
        (refusal({"error": {"message": "busy"}}, "503 Service Unavailable"), 503, "busy"),
    ],
)
async def test_a_count_that_fails(dialect: Dialect, data: bytes, status: int, message: str) -> None:
    async with serving(replies(data)) as server:
        asking = Asking(dialect, server)
        with pytest.raises(UpstreamError, match=message) as caught:
            await asking.upstream.count(asked(user("Hi")))
        await asking.upstream.close()

    assert caught.value.status == status


@both
async def test_a_count_that_does_not_come(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "COUNT_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.closed()

    async with serving(talk) as server:
        asking = Asking(dialect, server)
        with pytest.raises(UpstreamError, match="did not count the tokens"):
            await asking.upstream.count(asked(user("Hi")))
        await asking.upstream.close()


# --- Responses ---


async def test_the_request_of_responses() -> None:
    async with serving(replies(chunked(DIALECTS[Responses].hello))) as server:
        asking = Asking(Responses, server, key=KEY, options={"m": responses.Options(extra_body={"top_k": 1})})
        await asking.run(asked(user("Hi"), background=True))

    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert (asking.body()["top_k"], asking.body()["stream"], asking.body()["store"]) == (1, True, False)
    assert "background" not in asking.body()


async def test_a_whole_reply_of_responses() -> None:
    body = json.dumps(_R.response(output=[_R.message(_R.text_part("Hello")), _R.CALL])).encode()

    async with serving(replies(reply(body, content_type="application/json"))) as server:
        asking = Asking(Responses, server)
        stop = await asking.run(asked(user("Hi")))

    assert asking.said == [("text", "Hello"), ("call", *_R.WEATHER[1:4])]
    assert stop.usage is not None
    assert asking.body()["stream"] is False


OWN = {
    "type": "reasoning",
    "id": "rs_ours",
    "summary": [],
    "encrypted_content": wrapped("responses/here", Sealed("rs_theirs", "gAAAA")),
}
REFUSALS = {
    "the code": {"code": "invalid_encrypted_content", "message": "No."},
    "the words": {"message": "The encrypted content gAAA...AAAA could not be verified.", "code": None},
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_reasoning_that_is_refused_is_left_out_of_a_second_try(name: str) -> None:
    refused = refusal({"error": {"type": "invalid_request_error", "param": None, **REFUSALS[name]}}, "400 Bad Request")

    async with serving(replies(refused, chunked(DIALECTS[Responses].hello))) as server:
        asking = Asking(Responses, server)
        await asking.run(asked(OWN, user("Hi"), stream=True))

    first, second = asking.body(0)["input"], asking.body(1)["input"]
    assert first[0] == {"type": "reasoning", "id": "rs_theirs", "summary": [], "encrypted_content": "gAAAA"}
    assert second == first[1:]
    assert (asking.said, asking.clock.slept) == ([("text", "Hello")], [])


@pytest.mark.parametrize("items", [[OWN, user("Hi")], [user("Hi")]])
async def test_a_refusal_that_stays(items: list[Any]) -> None:
    refused = refusal({"error": REFUSALS["the code"]}, "400 Bad Request")

    async with serving(replies(refused)) as server:
        error = await Asking(Responses, server).failure(asked(*items, stream=True))

    assert error.code == "invalid_encrypted_content"
    assert len(server.asked) == len(items)


async def test_an_error_names_the_parameter_as_the_client_calls_it() -> None:
    body = {"error": {"message": "Bad.", "type": "invalid_request_error", "param": "tools[0].type", "code": "x"}}

    error, _ = await fail(Responses, replies(refusal(body, "400 Bad Request")))

    assert (error.status, error.code, error.param) == (400, "x", "tools[0].type")


async def test_models_of_a_responses_server() -> None:
    listed = reply(b'{"data":[{"id":"a","created":5,"owned_by":"openai"},{"id":"b"}]}')
    async with serving(replies(listed)) as server:
        asking = Asking(Responses, server, instance="mine")
        assert await asking.upstream.models() == [ModelInfo("a", 5, "openai"), ModelInfo("b", 0, "here")]
        await asking.upstream.close()

    assert server.asked[0].headers["x-antiphon-instance"] == "mine"


@both
async def test_a_server_is_not_its_own_upstream(dialect: Dialect) -> None:
    async with serving(replies(reply(b"{}", x_antiphon_instance="mine"))) as server:
        asking = Asking(dialect, server, instance="mine")
        with pytest.raises(UpstreamError, match="is this server itself"):
            await asking.upstream.models()
        await asking.upstream.close()


# --- Messages ---


async def test_the_request_of_messages() -> None:
    options = {"m": messages.Options(version="2030-01-01", beta=["a", "b"])}
    async with serving(replies(chunked(DIALECTS[Messages].hello))) as server:
        asking = Asking(Messages, server, key=KEY, options=options)
        await asking.run(asked(user("Hi")))

    headers = server.asked[0].headers
    assert (headers["x-api-key"], headers["anthropic-version"], headers["anthropic-beta"]) == (KEY, "2030-01-01", "a,b")
    assert "authorization" not in headers
    assert asking.body()["stream"] is True


async def test_a_whole_reply_of_messages() -> None:
    body, _ = recorded_messages.WHOLES["all kinds of blocks"]

    async with serving(replies(reply(json.dumps(body).encode(), content_type="application/json"))) as server:
        asking = Asking(Messages, server)
        await asking.run()

    assert [one[0] for one in asking.said] == ["reasoning", "text", "call", "call", "call"]


async def test_a_reply_that_is_gone_on_with() -> None:
    hello = _M.stream(_M.start(), *_M.text(0, " ", "wor", "ld"), *_M.end())
    request = asked(user("Hi"), stream=True)
    request.prefix = "Hello "

    async with serving(replies(chunked(hello))) as server:
        asking = Asking(Messages, server, options={"*": messages.Options(prefill=True)})
        await asking.run(request)

    assert asking.body()["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}
    assert asking.said == [("text", "world")]


PAGES = [
    {
        "data": [{"type": "model", "id": "claude-b", "display_name": "B", "created_at": "2025-02-19T00:00:00Z"}],
        "has_more": True,
        "first_id": "claude-b",
        "last_id": "claude-b",
    },
    {
        "data": [{"id": "claude-a", "created_at": "soon"}, {"id": "x", "created": 5, "owned_by": "vllm"}],
        "has_more": False,
        "last_id": "x",
    },
]


async def test_models_of_a_messages_server() -> None:
    async with serving(replies(*(reply(json.dumps(page).encode()) for page in PAGES))) as server:
        asking = Asking(Messages, server, key=KEY)
        listed = await asking.upstream.models()
        await asking.upstream.close()

    assert listed == [
        ModelInfo("claude-b", 1739923200, "here"),
        ModelInfo("claude-a", 0, "here"),
        ModelInfo("x", 5, "vllm"),
    ]
    assert [request.path for request in server.asked] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=claude-b",
    ]
    assert server.asked[0].headers["anthropic-version"] == "2023-06-01"


async def test_a_list_without_end() -> None:
    async with serving(replies(reply(json.dumps(PAGES[0]).encode()))) as server:
        asking = Asking(Messages, server)
        assert len(await asking.upstream.models()) == messages.upstream.PAGES_MAX
        await asking.upstream.close()


# --- What models take ---


STRICT = {"strict_text": True, "strict_functions": True, "strict_inputs": True, "forced_calls": True}
TOLD = {"verbosity": True, "reasoning": True, "cache_retention": True, "foreign_tools": ("*",), "foreign_items": True}


def test_capabilities() -> None:
    clock = WaitlessClock()
    told = {"small*": responses.Options(images=False, files=[])}
    spoken = Responses("http://127.0.0.1:1/v1", clock, options=told)
    assert spoken.capabilities("gpt-5.5") == Capabilities(images=True, files=("*",), **TOLD, **STRICT)
    assert spoken.capabilities("small-1") == Capabilities(images=False, files=(), **TOLD, **STRICT)

    old = {"claude-3*": messages.Options(prefill=True, files=["application/*"], forced_calls=False)}
    written = Messages("http://127.0.0.1:1/v1", clock, options=old)
    assert written.capabilities("claude-opus-4-8") == Capabilities(
        files=("application/pdf",), strict_text=True, forced_calls=True
    )
    assert written.capabilities("claude-3-7-sonnet") == Capabilities(
        files=("application/*",), prefill=True, strict_text=True
    )


@pytest.fixture(autouse=True)
async def no_complaints(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Nothing that happens here is an error of the event loop."""
    yield
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR]
