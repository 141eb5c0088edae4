"""A reply of the real engine with the bundled model, cut and gone on with: nothing is said twice, nothing is lost."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.upstreams.asking import Json, asked, function, user
from tests.upstreams.embedded_engine import MODEL, STORY, Heard, run, within
from tests.upstreams.gguf_files import BUNDLED, with_template

from antiphon.clock import SystemClock
from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import Stop
from antiphon.upstreams.chat_completions import ChatCompletions
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.embedded.upstream import Embedded

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd")

POEM = "Write a poem about the sea."
WEATHER = function("get_weather", parameters={"type": "object", "properties": {"location": {"type": "string"}}})


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Embedded]:
    made = Embedded({MODEL: BUNDLED}, SystemClock(), Settings(engine_slots=1))
    yield made
    await within(made.close())


async def go_on(upstream: Embedded, prefix: str, *items: Json, **parameters: Any) -> tuple[list[str], Stop]:
    """What comes behind a prefix, greedily; nothing but text may come."""
    heard = Heard()
    request = asked(*items, model=MODEL, temperature=0.0, **parameters)
    stop = await within(upstream.run(msgspec.structs.replace(request, prefix=prefix), heard))
    texts = [delta.text for delta in heard.deltas if isinstance(delta, TextDelta)]
    assert len(texts) == len(heard.deltas)
    assert stop.usage is not None
    assert len(texts) <= stop.usage.output_tokens <= len(texts) + 1, "a token is said once, and the last may be the end"
    return texts, stop


def borders(texts: list[str]) -> list[tuple[str, str]]:
    """Everything so far and everything that follows, behind each delta."""
    return [("".join(texts[:at]), "".join(texts[at:])) for at in range(1, len(texts) + 1)]


def kind_of(before: str, after: str) -> str:
    """What is special about the place."""
    if not after:
        return "at the end"
    if before[-1] == "\n":
        return "after a line break"
    if before[-1] == " ":
        return "after a space"
    if before[-1].isalpha() and after[0].isalpha():
        return "in a word"
    return "between words"


async def test_a_reply_that_is_cut_behind_any_delta_goes_on_where_it_ends(upstream: Embedded) -> None:
    kinds: set[str] = set()
    for question in (STORY, POEM):
        whole, _ = await run(upstream, user(question), temperature=0.0)
        texts = [delta.text for delta in whole.deltas if isinstance(delta, TextDelta)]
        for before, after in borders(texts):
            rest, stop = await go_on(upstream, before, user(question))
            assert ("".join(rest), stop.reason) == (after, "stop"), repr(before)
            kinds.add(kind_of(before, after))

    assert kinds == {"at the end", "after a line break", "after a space", "in a word", "between words"}


@pytest.mark.parametrize("beginning", ["Grüße, 日本 🦄! ", "naïve café — ", "👩‍👩‍👧", "e\u0301\n\n"])
async def test_text_of_any_script_before_the_cut(upstream: Embedded, beginning: str) -> None:
    """The model would not say it itself, but goes on with it always in the same way."""
    texts, _ = await go_on(upstream, beginning, user(STORY), max_output_tokens=32)
    assert texts

    for before, after in borders(texts)[:-1:5]:
        rest, _ = await go_on(upstream, beginning + before, user(STORY), max_output_tokens=32)
        assert "".join(rest).startswith(after)
        assert not "".join(rest).startswith(beginning)


async def test_a_model_that_repeats_itself_is_not_taken_for_an_echo(upstream: Embedded) -> None:
    said = "Once upon a time, a unicorn " + "li" * 40
    texts, _ = await go_on(upstream, said, user(STORY), max_output_tokens=16)

    assert "".join(texts).startswith("li" * 8)


@pytest.mark.parametrize(
    "parameters",
    [
        {"tools": [WEATHER]},
        {"instructions": "You are kind."},
        {"reasoning": {"effort": "high"}},
        {"stream": True},
        {"max_output_tokens": 24},
    ],
    ids=lambda one: next(iter(one)),
)
async def test_whatever_else_was_asked_for(upstream: Embedded, parameters: dict[str, Any]) -> None:
    whole, stop = await run(upstream, user(STORY), temperature=0.0, **parameters)
    texts = [delta.text for delta in whole.deltas if isinstance(delta, TextDelta)]
    for before, after in borders(texts)[::9]:
        rest, _ = await go_on(upstream, before, user(STORY), **parameters)
        joined = "".join(rest)
        assert joined == after if stop.reason == "stop" else joined.startswith(after)


async def test_logprobs_are_those_of_what_follows(upstream: Embedded) -> None:
    whole, _ = await run(upstream, user(STORY), temperature=0.0)
    before = whole.text[: whole.text.index(",")]
    heard = Heard()
    include = ["message.output_text.logprobs"]
    request = asked(user(STORY), model=MODEL, temperature=0.0, include=include, stream=True)
    await within(upstream.run(msgspec.structs.replace(request, prefix=before), heard))

    deltas = [delta for delta in heard.deltas if isinstance(delta, TextDelta)]
    tokens = [token for delta in deltas for token in msgspec.json.decode(delta.logprobs or b"[]")]
    assert before + "".join(token["token"] for token in tokens) == whole.text


THINKING = (
    "{%- for m in messages %}{{- '<|' + m.role + '|>' }}"
    "{%- if m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>' }}{%- endif %}"
    "{{- m.content + '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think></think>' }}{%- endif %}{%- endif %}"
)


@pytest.mark.parametrize("thought", [None, "A unicorn, then."])
async def test_a_template_that_makes_the_model_think_is_no_obstacle(tmp_path: Path, thought: str | None) -> None:
    file = tmp_path / "thinking.gguf"
    file.write_bytes(with_template(THINKING))
    upstream = Embedded({MODEL: file}, SystemClock(), Settings(engine_slots=1))
    content = [{"type": "reasoning_text", "text": thought}]
    items = [user(STORY), *([{"type": "reasoning", "summary": [], "content": content}] if thought else [])]
    try:
        texts, first = await go_on(upstream, "Once upon a time,", *items, max_output_tokens=24)
        before, after = borders(texts)[len(texts) // 2]
        rest, _ = await go_on(upstream, "Once upon a time," + before, *items, max_output_tokens=24)
        alone, without = await go_on(upstream, "Once upon a time,", user(STORY), max_output_tokens=24)
    finally:
        await within(upstream.close())

    assert "".join(rest).startswith(after)
    assert alone
    assert first.usage is not None
    assert without.usage is not None
    assert (first.usage.input_tokens > without.usage.input_tokens) is (thought is not None)


async def test_every_model_of_the_engine_can(upstream: Embedded) -> None:
    assert upstream.capabilities(MODEL).prefill


async def test_such_a_server_says_what_it_is_to_whoever_does_not_know_it(upstream: Embedded) -> None:
    whole, _ = await run(upstream, user(STORY), temperature=0.0)
    running = upstream._engines[MODEL]._running
    assert running is not None
    key = running.dialect._caller._headers["authorization"].removeprefix("Bearer ")
    stranger = ChatCompletions(f"{running.child.address}/v1", SystemClock(), key=key)
    knew = stranger.capabilities(MODEL).prefill
    await within(stranger.models())
    heard = Heard()
    request = asked(user(STORY), model=MODEL, temperature=0.0)
    await within(stranger.run(msgspec.structs.replace(request, prefix=whole.text[: whole.text.index(",")]), heard))
    await stranger.close()

    assert (knew, stranger.capabilities(MODEL).prefill) == (False, True)
    assert heard.text == whole.text[whole.text.index(",") :]
