"""A reply that was cut and goes on in place: what servers are asked, and what is taken from their replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.upstreams.asking import Json, asked, body_of, function, user
from tests.upstreams.recordings import LLAMA, VLLM, call, chunk, said, stream, text
from tests.upstreams.servers import Conversation, Heard, Server, Talk, WaitlessClock, chunked, replies, reply, serving

from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.upstreams.chat_completions import ChatCompletions, Options
from antiphon.upstreams.chat_completions.continuing import TOKEN_CHARS_MAX, Continuation

SAID = "Once upon a time, a unicorn lived in a "
assert len(SAID) > TOKEN_CHARS_MAX


def cut(*items: Json, prefix: str = SAID, **parameters: Any) -> ModelRequest:
    """A request whose reply was cut."""
    return msgspec.structs.replace(asked(*items or [user("Hi")], **parameters), prefix=prefix)


# --- The request ---


def body(request: ModelRequest, options: Options | None = None) -> Json:
    decoded: Json = json.loads(body_of(request, options or Options(), stream=True))
    return decoded


def test_the_request_to_vllm_and_llama_cpp() -> None:
    assert body(cut(instructions="Be kind.", temperature=0.5)) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": SAID},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def test_without_a_prefix_nothing_of_it_is_sent() -> None:
    assert not body(asked(user("Hi"))).keys() & {"continue_final_message", "add_generation_prompt"}


CALL: Json = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT: Json = {"type": "function_call_output", "call_id": "c", "output": "42"}
THOUGHT: Json = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
BEFORE: Json = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well."}]}
PICTURE: Json = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}

LAST: dict[str, tuple[list[Json], Options, Json]] = {
    "behind a tool's result": ([user("a"), CALL, OUTPUT], Options(), {"content": SAID}),
    "what it thought of this reply is no replay": ([user("a"), THOUGHT], Options(), {"reasoning_content": "Hm."}),
    "thoughts are told once": (
        [user("a"), THOUGHT],
        Options(replay_reasoning=True),
        {"reasoning_content": "Hm.", "content": SAID},
    ),
    "older thoughts stay away": ([user("a"), THOUGHT, BEFORE, user("b")], Options(), {"content": SAID}),
    "a message of the same reply": ([user("a"), BEFORE], Options(), {"content": f"Well.\n{SAID}"}),
    "instructions that are folded": (
        [user("a"), {"type": "message", "role": "system", "content": "Rule"}],
        Options(fold_system=True),
        {"content": SAID},
    ),
    "a picture of a tool's": (
        [user("a"), CALL, {**OUTPUT, "output": [PICTURE]}],
        Options(),
        {"content": SAID},
    ),
}


@pytest.mark.parametrize("name", LAST)
def test_the_reply_comes_last(name: str) -> None:
    items, options, expected = LAST[name]

    *earlier, last = body(cut(*items), options)["messages"]

    assert last == {"role": "assistant", "content": SAID, **expected}
    assert not any(message.get("content") == SAID for message in earlier)
    assert not any("reasoning_content" in message for message in earlier)


def test_tools_and_a_token_limit_are_sent_as_ever() -> None:
    built = body(cut(tools=[function("f")], max_output_tokens=32))

    assert [tool["function"]["name"] for tool in built["tools"]] == ["f"]
    assert built["max_tokens"] == 32


# --- The reply ---


def taken(*deltas: Delta, server: str | None = None, before: str = SAID) -> list[Delta]:
    continuation = Continuation(before, server)
    return [one for delta in deltas for one in continuation.take([delta])]


@pytest.mark.parametrize("server", [None, "llamacpp", "vllm"])
@pytest.mark.parametrize(
    "texts", [["green", " garden"], [" ", "green"], ["\n"], [SAID[:5], SAID[5:]], ["O", SAID], [SAID[1:]], []]
)
def test_what_follows_is_handed_on_as_it_is(server: str | None, texts: list[str]) -> None:
    """Also where the model says the same once more: only a whole repetition at once is none of its own."""
    assert taken(*map(TextDelta, texts), server=server) == list(map(TextDelta, texts))


@pytest.mark.parametrize("server", [None, "llamacpp"])
@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ([f"{SAID}green", " garden"], ["green", " garden"]),
        ([SAID, "green"], ["green"]),
        ([SAID + SAID, SAID], [SAID, SAID]),
        ([SAID], []),
    ],
)
def test_a_repetition_is_taken_off_once(server: str | None, texts: list[str], left: list[str]) -> None:
    assert taken(*map(TextDelta, texts), server=server) == list(map(TextDelta, left))


def test_a_token_that_says_the_same_again_is_no_repetition() -> None:
    laugh = [TextDelta("ha"), TextDelta("ha")]

    assert taken(*laugh, before="ha") == laugh
    assert taken(TextDelta("-" * TOKEN_CHARS_MAX), before="-" * TOKEN_CHARS_MAX) == [TextDelta("-" * TOKEN_CHARS_MAX)]


def test_vllm_repeats_nothing_so_that_nothing_is_taken_off() -> None:
    assert taken(TextDelta(f"{SAID}green"), server="vllm") == [TextDelta(f"{SAID}green")]


def test_logprobs_stay_with_what_is_left() -> None:
    assert taken(TextDelta(f"{SAID}green", b"[1]")) == [TextDelta("green", b"[1]")]


def test_text_that_a_server_takes_for_thoughts_is_text() -> None:
    """Parsers for models that always think wait for a closing tag, which stood before the text."""
    deltas = [ReasoningDelta("green"), ReasoningDelta(" garden"), CallDelta(0, "c", "f", "{}")]

    assert taken(*deltas, server="vllm") == [TextDelta("green"), TextDelta(" garden"), deltas[2]]
    assert taken(*deltas, server="llamacpp") == deltas


def test_thoughts_behind_text_are_thoughts() -> None:
    deltas = [TextDelta("green"), ReasoningDelta("And now?"), TextDelta(" garden")]

    assert taken(*deltas, server="vllm") == deltas


# --- Both over a socket ---

PREFILLED = {"continue_final_message": True, "add_generation_prompt": False}


class Asking:
    """One request whose reply was cut, to a server that names itself first."""

    def __init__(self, heard: Heard, bodies: Sequence[Json]) -> None:
        self.heard = heard
        self.bodies = bodies


async def go_on(talk: Talk, request: ModelRequest | None = None, server: str | None = "vllm", **options: Any) -> Asking:
    heard = Heard()
    async with serving(talk) as here:
        upstream = ChatCompletions(here.url, WaitlessClock(), server=server, options={"*": Options(**options)})
        try:
            await upstream.run(request or cut(stream=True), heard)
        finally:
            await upstream.close()
        return Asking(heard, _bodies(here))


def _bodies(server: Server) -> list[Json]:
    return [json.loads(one.body) for one in server.asked]


def sse(server: str, *deltas: str) -> bytes:
    return chunked(stream(*(chunk(server, delta) for delta in deltas), chunk(server, "{}", "stop")))


async def test_what_vllm_says() -> None:
    asking = await go_on(replies(sse(VLLM, '{"role":"assistant","content":""}', text("green"), text(" garden"))))

    assert said(asking.heard.deltas) == [("text", "green garden")]
    assert asking.bodies[0]["messages"][-1] == {"role": "assistant", "content": SAID}
    assert PREFILLED.items() <= asking.bodies[0].items()


async def test_an_echo_of_llama_cpp_is_found_however_its_bytes_are_cut() -> None:
    data = stream(chunk(LLAMA, text(f"{SAID}green")), chunk(LLAMA, text(" garden")), chunk(LLAMA, "{}", "stop"))
    pieces = [data[at : at + 5] for at in range(0, len(data), 5)]

    asking = await go_on(replies(chunked(*pieces)), server="llamacpp")

    assert said(asking.heard.deltas) == [("text", "green garden")]


async def test_a_reply_that_is_nothing_but_an_echo_says_nothing() -> None:
    asking = await go_on(replies(sse(LLAMA, text(SAID))), server="llamacpp")

    assert asking.heard.deltas == []
    assert asking.heard.accepted == 1


async def test_a_stream_is_asked_for_whatever_the_client_wants() -> None:
    """llama.cpp repeats what was said in replies that it does not stream."""
    whole = {"choices": [{"index": 0, "message": {"content": f"{SAID}green"}, "finish_reason": "stop"}]}
    asking = await go_on(
        replies(reply(json.dumps(whole).encode(), content_type="application/json")), cut(), server="llamacpp"
    )

    assert asking.bodies[0]["stream"] is True
    assert said(asking.heard.deltas) == [("text", "green")]


async def test_the_text_goes_on_behind_any_thinking_block() -> None:
    asking = await go_on(replies(sse(VLLM, text("<think>"), text(" is a tag."))), think="open")

    assert said(asking.heard.deltas) == [("text", "<think> is a tag.")]


async def test_calls_come_as_ever() -> None:
    asking = await go_on(replies(sse(VLLM, text("Look: "), call(0, "c", "f", "{}"))))

    assert said(asking.heard.deltas) == [("text", "Look: "), ("call", "c", "f", "{}")]


REFUSAL = reply(
    b'{"error":{"code":400,"message":"Assistant response prefill is incompatible with enable_thinking.",'
    b'"type":"invalid_request_error"}}',
    "400 Bad Request",
    content_type="application/json",
)


async def test_an_older_llama_cpp_is_asked_again_without_thinking() -> None:
    kwargs = {"custom": 1, "enable_thinking": True}
    asking = await go_on(
        replies(REFUSAL, sse(LLAMA, text("green"))), server="llamacpp", extra_body={"chat_template_kwargs": kwargs}
    )

    first, second = asking.bodies
    assert said(asking.heard.deltas) == [("text", "green")]
    assert first["chat_template_kwargs"] == kwargs
    assert second == {**first, "chat_template_kwargs": {"custom": 1, "enable_thinking": False}}


async def test_it_is_asked_so_once() -> None:
    with pytest.raises(UpstreamError, match="incompatible with enable_thinking") as raised:
        await go_on(replies(REFUSAL), server="llamacpp")

    assert raised.value.status == 400


async def test_without_a_prefix_that_refusal_is_an_error_like_others() -> None:
    asked_for: list[int] = []

    async def talk(conversation: Conversation) -> None:
        while await conversation.request() is not None:
            asked_for.append(1)
            await conversation.send(REFUSAL)

    with pytest.raises(UpstreamError):
        await go_on(talk, asked(user("Hi"), stream=True))

    assert len(asked_for) == 1


# --- Who can ---


def listing(**owners: str | None) -> bytes:
    listed = [{"id": name.replace("__", "/"), "object": "model", "owned_by": owner} for name, owner in owners.items()]
    return reply(json.dumps({"object": "list", "data": listed}).encode())


@pytest.mark.parametrize(
    ("owners", "model", "can"),
    [
        ({"a": "vllm"}, "a", True),
        ({"a": "llamacpp"}, "a", True),
        ({"a": "openai"}, "a", False),
        ({"a": "library"}, "a", False),
        ({"a": None}, "a", False),
        ({"a": "vllm", "b": "somebody"}, "a", True),
        ({"a": "vllm", "b": "somebody"}, "b", False),
        ({"a": "vllm", "b": "somebody"}, "c", False),
        ({"a": "llamacpp"}, "a-name-that-it-does-not-list", True),
        ({}, "a", False),
        ({"openai__gpt-oss-120b": "vllm"}, "openai/gpt-oss-120b", False),
        ({"openai__gpt-oss-120b": "llamacpp"}, "openai/gpt-oss-120b", True),
    ],
)
async def test_the_list_of_models_tells(owners: dict[str, str | None], model: str, can: bool) -> None:
    async with serving(replies(listing(**owners))) as server:
        upstream = ChatCompletions(server.url, WaitlessClock())
        before = upstream.capabilities(model).prefill
        await upstream.models()
        await upstream.close()

    assert not before, "a list that was never fetched tells nothing"
    assert upstream.capabilities(model).prefill is can


async def test_a_list_that_cannot_be_fetched_again_is_still_believed() -> None:
    async with serving(replies(listing(a="vllm"), reply(b"", "503 Service Unavailable"))) as server:
        upstream = ChatCompletions(server.url, WaitlessClock())
        await upstream.models()
        with pytest.raises(UpstreamError):
            await upstream.models()
        await upstream.close()

    assert upstream.capabilities("a").prefill


@pytest.mark.parametrize(("owner", "option"), [("vllm", False), ("openai", True)])
async def test_the_operators_word_counts_more(owner: str, option: bool) -> None:
    async with serving(replies(listing(a=owner))) as server:
        upstream = ChatCompletions(server.url, WaitlessClock(), options={"a": Options(prefill=option)})
        await upstream.models()
        await upstream.close()

    assert upstream.capabilities("a").prefill is option
