"""Chunks that are like the one before are not parsed again, and nobody can tell."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.deltas import Delta, TextDelta
from antiphon.upstreams.chat_completions.repeats import Repeats
from antiphon.upstreams.chat_completions.stream import Reply

TEXTS = st.one_of(
    st.text(), st.sampled_from([" a", '"', "\\", "\n", "\u2028", "é", "\ud83d\ude00", '"content":"', "", "]}"])
)
CHUNKS = st.one_of(
    TEXTS.map(lambda text: {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}),
    TEXTS.map(lambda text: {"choices": [{"index": 1, "delta": {"content": text}}]}),
    TEXTS.map(lambda text: {"choices": [{"index": 0, "delta": {"reasoning_content": text, "content": text}}]}),
    TEXTS.map(lambda text: {"id": text, "choices": [{"index": 0, "delta": {"content": "hm"}}]}),
    st.just({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
    st.just({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}}]}),
    st.just({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    st.just({"error": {"message": "no"}}),
)


def written(chunk: dict[str, Any], *, spaced: bool, plain: bool) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    text = json.dumps(chunk, separators=separators, ensure_ascii=not plain)
    return b"data: %b\n\n" % text.encode("utf-8", "replace")


def said(pieces: list[bytes]) -> tuple[list[Delta], str | None, bool]:
    reply = Reply()
    deltas = [delta for piece in pieces for delta in reply.feed(piece)]
    return deltas, None if reply.failure is None else reply.failure.message, reply.finished


@given(st.lists(st.tuples(CHUNKS, st.booleans(), st.booleans()), max_size=12), st.booleans())
def test_what_is_heard_does_not_depend_on_what_came_before(
    chunks: list[tuple[dict[str, Any], bool, bool]], double: bool
) -> None:
    events = [written(chunk, spaced=spaced, plain=plain) for chunk, spaced, plain in chunks for _ in range(1 + double)]
    # A piece that ends in the middle of a line is never one whole event, so that everything is parsed.
    halves = [part for event in events for part in (event[:5], event[5:])]

    assert said(events) == said(halves)


def test_a_stream_of_tokens_is_parsed_once() -> None:
    repeats = Repeats()
    head, tail = b'data: {"choices":[{"delta":{"content":"', b'"}}]}\n\n'
    repeats.learn(head + b"one" + tail, "one")

    assert repeats.text(head + b" two" + tail) == " two"
    assert repeats.text(head + b"\\n" + tail) is None
    assert repeats.text(head + b'","x":"' + tail) is None
    assert repeats.text(head + b"\xff" + tail) is None
    assert repeats.text(head + b"two" + tail + head + b"three" + tail) is None


def test_text_that_stands_twice_is_not_learned() -> None:
    repeats = Repeats()
    event = b'data: {"x":{"content":"one"},"choices":[{"delta":{"content":"one"}}]}\n\n'
    repeats.learn(event, "one")

    assert repeats.text(event) is None


def test_a_server_with_something_new_in_every_chunk_is_not_learned_from_for_ever() -> None:
    repeats = Repeats()
    events = [b'data: {"n":%d,"choices":[{"delta":{"content":"one"}}]}\n\n' % n for n in range(20)]
    for event in events:
        assert repeats.text(event) is None
        repeats.learn(event, "one")

    assert repeats.text(events[-1]) is None


def test_a_delta_of_one_token_is_text() -> None:
    event = written({"choices": [{"index": 0, "delta": {"content": "x"}}]}, spaced=False, plain=True)

    assert said([event, event]) == ([TextDelta("x"), TextDelta("x")], None, False)
