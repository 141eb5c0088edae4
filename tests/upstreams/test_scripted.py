"""The shipped fake upstream does what its script says, and echoes without one."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.upstreams.asking import Json, asked, function, user
from tests.upstreams.servers import Heard, within

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import Capabilities, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.upstreams.scripted import Accept, ScriptedUpstream, Step, behind


async def test_a_script_is_played_step_by_step() -> None:
    heard, gate = Heard(), asyncio.Event()
    call = CallDelta(0, "call_1", "f", "{}")
    upstream = ScriptedUpstream([[Accept(), [ReasoningDelta("Hm")], gate, [TextDelta("a"), call], Stop("length")]])

    running = asyncio.ensure_future(upstream.run(asked(user("Hi")), heard))
    await within(heard.spoken.wait())
    await asyncio.sleep(0)
    assert heard.deltas == [ReasoningDelta("Hm")]
    assert heard.accepted == 1
    gate.set()

    assert await running == Stop("length")
    assert heard.deltas == [ReasoningDelta("Hm"), TextDelta("a"), call]


async def test_a_script_without_an_end_stops() -> None:
    assert await ScriptedUpstream([[]]).run(asked(user("Hi")), Heard()) == Stop("stop")


async def test_a_script_may_fail() -> None:
    heard, error = Heard(), UpstreamError("busy", status=503)

    with pytest.raises(UpstreamError) as caught:
        await ScriptedUpstream([[[TextDelta("a")], error]]).run(asked(user("Hi")), heard)

    assert caught.value is error
    assert heard.deltas == [TextDelta("a")]


async def test_scripts_are_played_in_order_and_requests_kept() -> None:
    upstream = ScriptedUpstream([[[TextDelta("a")]], [[TextDelta("b")]]])
    heard = Heard()
    for text in ("one", "two"):
        await upstream.run(asked(user(text)), heard)

    with pytest.raises(UpstreamError, match="No script is left"):
        await upstream.run(asked(user("three")), heard)

    assert heard.deltas == [TextDelta("a"), TextDelta("b")]
    assert [bytes(request.items[0].view.content) for request in upstream.requests] == [
        b'[{"type": "input_text", "text": "%s"}]' % word for word in (b"one", b"two", b"three")
    ]


async def test_a_request_that_is_kept_does_not_change_with_the_run() -> None:
    upstream = ScriptedUpstream()
    request = asked(user("one"))
    await upstream.run(request, Heard())
    request.items.clear()  # type: ignore[attr-defined]

    assert len(upstream.requests[0].items) == 1


async def test_a_script_may_depend_on_the_request() -> None:
    upstream = ScriptedUpstream(lambda request: [[TextDelta(request.model)]])
    heard = Heard()
    await upstream.run(asked(user("Hi"), model="x"), heard)

    assert heard.deltas == [TextDelta("x")]


async def test_it_stands_still_while_its_reader_is_full() -> None:
    class Full(Heard):
        def __call__(self, deltas: object) -> None:
            super().__call__(deltas)  # type: ignore[arg-type]
            assert self.pause is not None
            self.pause()

    heard = Full()
    upstream = ScriptedUpstream([[[TextDelta("a")], [TextDelta("b")]]])
    running = asyncio.ensure_future(upstream.run(asked(user("Hi")), heard))
    await within(heard.spoken.wait())
    for _ in range(10):
        await asyncio.sleep(0)
    assert heard.deltas == [TextDelta("a")]
    assert heard.resume is not None
    heard.resume()
    await within(running)

    assert heard.deltas == [TextDelta("a"), TextDelta("b")]
    assert upstream.pressure == ["pause", "resume", "pause"]


async def test_calls_that_are_cancelled_are_counted() -> None:
    heard = Heard()
    upstream = ScriptedUpstream([[[TextDelta("a")], asyncio.Event()]])
    running = asyncio.ensure_future(upstream.run(asked(user("Hi")), heard))
    await within(heard.spoken.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert upstream.cancelled == 1


async def test_its_models_and_what_they_take() -> None:
    upstream = ScriptedUpstream(models=["a", "b"], capabilities=Capabilities(images=False))

    assert await upstream.models() == [ModelInfo("a", 0, "antiphon"), ModelInfo("b", 0, "antiphon")]
    assert not upstream.capabilities("a").images
    await upstream.close()
    assert upstream.closed


# --- The echo ---


async def echoed(*items: Json, **parameters: object) -> tuple[list[str], Stop]:
    heard = Heard()
    stop = await ScriptedUpstream().run(asked(*items, **parameters), heard)
    return [delta.text for delta in heard.deltas if isinstance(delta, TextDelta)], stop


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello  there\n", ["You", " said:", " Hello", "  there", "\n"]),
        ("", ["You", " said:", " "]),
        ("né 🦄", ["You", " said:", " né", " 🦄"]),
    ],
)
async def test_the_echo_says_what_the_user_said(text: str, tokens: list[str]) -> None:
    said, stop = await echoed(user("before"), user(text))

    assert said == tokens
    assert stop.reason == "stop"
    assert stop.usage is not None
    assert stop.usage.output_tokens == len(tokens)
    assert stop.usage.total_tokens == stop.usage.input_tokens + len(tokens)


async def test_the_echo_is_cut_by_the_limit_of_tokens() -> None:
    said, stop = await echoed(user(" ".join(map(str, range(100)))), max_output_tokens=16)

    assert len(said) == 16
    assert stop.reason == "length"


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([{"type": "message", "role": "user", "content": "a string"}], "You said: a string"),
        ([user("a"), {"type": "function_call_output", "call_id": "c", "output": "42"}], "You said: 42"),
        ([{"type": "message", "role": "system", "content": "a"}], "You said: "),
        ([], "You said: "),
        (
            [
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "a"},
                        {"type": "input_image", "image_url": "data:,"},
                        {"type": "input_text", "text": "b"},
                    ],
                }
            ],
            "You said: a\nb",
        ),
    ],
)
async def test_what_the_echo_takes_for_the_last_words(items: list[Json], text: str) -> None:
    said, _ = await echoed(*items)

    assert "".join(said) == text


@pytest.mark.parametrize(
    ("choice", "force", "called"),
    [
        ("auto", True, None),
        ("required", True, "f"),
        ("required", False, None),
        ({"type": "function", "name": "g"}, True, "g"),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}, True, "g"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}, True, None),
    ],
)
async def test_the_echo_makes_the_call_that_is_forced(choice: object, force: bool, called: str | None) -> None:
    heard = Heard()
    tools = [function("f"), function("g")]
    await ScriptedUpstream().run(asked(user("Hi"), tools=tools, tool_choice=choice, force_choice=force), heard)

    calls = [delta for delta in heard.deltas if isinstance(delta, CallDelta)]
    assert [(delta.name, delta.arguments) for delta in calls] == ([(called, "{}")] if called else [])
    assert bool(calls) != (TextDelta("You") in heard.deltas)


# --- Replies that were cut ---


def cut(text: str, prefix: str, **parameters: object) -> ModelRequest:
    return msgspec.structs.replace(asked(user(text), **parameters), prefix=prefix)


async def played(upstream: ScriptedUpstream, request: ModelRequest) -> tuple[str, Stop]:
    heard = Heard()
    stop = await upstream.run(request, heard)
    return "".join(delta.text for delta in heard.deltas if isinstance(delta, TextDelta)), stop


async def test_the_echo_goes_on_behind_every_character() -> None:
    whole = "You said: né  🦄\n"
    for at in range(1, len(whole) + 1):
        rest, stop = await played(ScriptedUpstream(), cut("né  🦄\n", whole[:at]))
        assert (whole[:at] + rest, stop.reason) == (whole, "stop")


async def test_the_echo_says_all_of_it_behind_what_it_did_not_say() -> None:
    assert (await played(ScriptedUpstream(), cut("Hi", "I said: ")))[0] == "You said: Hi"


async def test_a_script_is_played_as_it_is() -> None:
    upstream = ScriptedUpstream([[[TextDelta(" b")]]])

    assert (await played(upstream, cut("Hi", "a")))[0] == " b"
    assert upstream.requests[0].prefix == "a"


WHOLE: list[Step] = [
    Accept(),
    [ReasoningDelta("Hm")],
    [TextDelta("On"), TextDelta("ce")],
    asyncio.Event(),
    [TextDelta(" 🦄"), CallDelta(0, "c", "f", "{}")],
    Stop("length"),
]


@pytest.mark.parametrize(
    ("prefix", "left"),
    [
        (None, WHOLE),
        ("O", [[TextDelta("n"), TextDelta("ce")], *WHOLE[3:]]),
        ("On", [[TextDelta("ce")], *WHOLE[3:]]),
        ("Once", WHOLE[3:]),
        ("Once ", [[TextDelta("🦄"), CallDelta(0, "c", "f", "{}")], Stop("length")]),
        ("Once 🦄", [[CallDelta(0, "c", "f", "{}")], Stop("length")]),
    ],
)
def test_what_of_a_script_follows(prefix: str | None, left: list[Step]) -> None:
    assert list(behind(prefix, WHOLE)) == left


@pytest.mark.parametrize("prefix", ["once", "Onc e", "Once 🦄!", "OnceOnce"])
@pytest.mark.parametrize("script", [WHOLE, WHOLE[:-1]], ids=["with an end", "without"])
def test_a_script_that_was_not_played_so_far_tells_it(prefix: str, script: list[Step]) -> None:
    with pytest.raises(UpstreamError, match=r"says|ends before"):
        list(behind(prefix, script))


async def test_the_echo_counts_what_its_usage_tells_and_a_script_nothing() -> None:
    request = cut("Hello there", "You ")
    _, stop = await played(ScriptedUpstream(), request)

    assert stop.usage is not None
    assert await ScriptedUpstream().count(request) == stop.usage.input_tokens
    assert await ScriptedUpstream([[]]).count(request) is None
