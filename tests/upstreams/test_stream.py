"""Recorded replies of real servers, cut at every byte: the same deltas, the same end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from tests.upstreams.recorded_calls import CALLS
from tests.upstreams.recorded_texts import TEXTS
from tests.upstreams.recorded_wholes import WHOLES
from tests.upstreams.recordings import OLLAMA, VLLM, Recording, call, calls, chunk, piece, said, stream, text

from antiphon.engine.deltas import Delta
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.upstreams.chat_completions import stream as streams
from antiphon.upstreams.chat_completions.stream import Reply

STREAMS = {**TEXTS, **CALLS}


def read(pieces: Iterable[bytes], think: str = "off") -> tuple[list[Delta], Stop]:
    """What a stream says that arrives in these pieces."""
    reply = Reply(think)
    deltas: list[Delta] = []
    for one in pieces:
        deltas += reply.feed(one)
        if reply.failure is not None:
            raise reply.failure
    deltas += reply.close()
    return deltas, reply.stop()


def check(recording: Recording, pieces: Iterable[bytes]) -> None:
    deltas, stop = read(pieces, recording.think)
    assert said(deltas) == recording.said
    assert stop == expected_stop(recording)


def expected_stop(recording: Recording) -> Stop:
    if recording.usage is None:
        return Stop(recording.reason)
    read_, cached, written, thought = recording.usage
    usage = Usage(read_, InputDetails(cached), written, OutputDetails(thought), read_ + written)
    return Stop(recording.reason, usage)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_the_same_wherever_it_is_cut(name: str) -> None:
    recording = STREAMS[name]
    body = recording.body

    check(recording, [body])
    check(recording, [body[at : at + 1] for at in range(len(body))])
    for at in range(1, len(body)):
        check(recording, [body[:at], body[at:]])


@pytest.mark.parametrize("name", WHOLES)
def test_a_reply_that_is_not_streamed(name: str) -> None:
    recording = WHOLES[name]
    reply = Reply(recording.think)

    assert said(reply.whole(recording.body)) == recording.said
    assert reply.stop() == expected_stop(recording)


def test_the_first_piece_of_a_call_has_its_name_and_no_other() -> None:
    for recording in STREAMS.values():
        deltas, _ = read([recording.body], recording.think)
        calls = [delta for delta in deltas if hasattr(delta, "key")]
        for _, pieces in itertools.groupby(sorted(calls, key=lambda delta: delta.key), key=lambda delta: delta.key):
            names = [delta.name for delta in pieces]
            assert names[0]
            assert not any(names[1:])


# --- What is no answer ---

FAILURES = {
    "openai": ('data: {"error":{"message":"Overloaded","type":"server_error","param":null,"code":null}}', 500),
    "vllm": ('data: {"error":{"object":"error","message":"Overloaded","type":"InternalServerError","code":503}}', 503),
    "old vllm": (
        'data: {"object":"error","message":"Overloaded","type":"BadRequestError","param":null,"code":400}',
        400,
    ),
    "llama.cpp": ('data: {"error":{"code":500,"message":"Overloaded","type":"server_error"}}', 500),
    "old llama.cpp": ('error: {"code":503,"message":"Overloaded","type":"unavailable_error"}', 503),
    "ollama": ('data: {"error":{"message":"Overloaded","type":"api_error","param":null,"code":null}}', 500),
    "old ollama": ('{"error":"Overloaded"}', 500),
    "lm studio": ('event: error\ndata: {"error":{"message":"Overloaded"}}', 500),
    "an event of its own": ('event: error\ndata: {"message":"Overloaded","code":529}', 529),
    "a string": ('data: {"error":"Overloaded"}', 500),
    "a reason": (f"data: {chunk(OLLAMA, '{}', 'error')}", 502),
    "an abort": (f"data: {chunk(VLLM, '{}', 'abort')}", 502),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_in_the_stream_stands_after_what_was_said(name: str) -> None:
    line, status = FAILURES[name]
    head = stream(chunk(OLLAMA, text("so far")), done=False)
    body = head + line.encode() + b"\n\ndata: [DONE]\n\n"

    for at in range(1, len(body)):
        reply = Reply()
        deltas = reply.feed(body[:at])
        if reply.failure is None:
            deltas += reply.feed(body[at:])

        assert said(deltas) == [("text", "so far")]
        assert reply.failure is not None
        assert reply.failure.status == status
        assert "Overloaded" in reply.failure.message or "stopped with the reason" in reply.failure.message


def test_a_stream_that_is_cut_before_its_end_raises() -> None:
    body = stream(chunk(VLLM, text("one")), chunk(VLLM, text(" two")), chunk(VLLM, "{}", "stop"))
    end = body.index(b'"stop"') + len('"stop","stop_reason":null}],"prompt_token_ids":null}')

    for at in range(end):
        with pytest.raises(UpstreamError) as caught:
            read([body[:at]])
        assert caught.value.status == 502
    check(Recording(body, [("text", "one two")]), [body[:end]])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b": nothing\n\n",
        b"data: [DONE]\n\n",
        b'data: {"choices":[]}\n\ndata: [DONE]\n\n',
        b'data: {"type":"ping"}\n\ndata: [DONE]\n\n',
    ],
)
def test_a_stream_without_an_answer_raises(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="no answer"):
        read([body])


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        "1",
        "nonsense",
        '{"choices":{}}',
        '{"choices":[{"delta":"x"}]}',
        '{"choices":[{"delta":{"content":5}}]}',
        '{"choices":[{"delta":{"tool_calls":[5]}}]}',
        '{"x":' + "[" * 100_000,
        "[" * 100_000,
    ],
)
def test_a_malformed_chunk_raises(data: str) -> None:
    with pytest.raises(UpstreamError, match="malformed"):
        read([f"data: {data}\n\n".encode()])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"<html>", "malformed"),
        (b"[]", "malformed"),
        (b"{}", "no answer"),
        (b'{"choices":[]}', "no answer"),
        (b'{"choices":null,"usage":{"prompt_tokens":1}}', "no answer"),
        (b'{"error":{"message":"Overloaded"}}', "Overloaded"),
        (b'{"error":"Overloaded"}', "Overloaded"),
        (b'{"object":"error","message":"Overloaded","code":503}', "Overloaded"),
        (b'{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}', "without a name"),
    ],
)
def test_a_whole_reply_that_is_no_answer_raises(body: bytes, message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        Reply().whole(body)


def test_a_call_that_is_never_named_raises() -> None:
    with pytest.raises(UpstreamError, match="without a name"):
        read([stream(chunk(OLLAMA, call(0, "call_1", None, "{}"), "tool_calls"))])


# --- Sizes ---


def test_ten_megabytes_of_arguments_in_one_line_and_in_many_reads() -> None:
    arguments = '{"a":"' + "x" * 10_000_000 + '"}'
    body = stream(chunk(OLLAMA, call(0, "call_1", "f", arguments), "tool_calls"))

    deltas, _ = read(body[at : at + 65536] for at in range(0, len(body), 65536))

    assert said(deltas) == [("call", "call_1", "f", arguments)]


def test_ten_megabytes_of_arguments_in_many_lines() -> None:
    pieces = [chunk(OLLAMA, call(0, arguments="x" * 1000)) for _ in range(10_000)]
    body = stream(chunk(OLLAMA, call(0, "call_1", "f", '{"a":"')), *pieces, chunk(OLLAMA, call(0, arguments='"}')))

    deltas, _ = read(body[at : at + 65536] for at in range(0, len(body), 65536))

    assert said(deltas) == [("call", "call_1", "f", '{"a":"' + "x" * 10_000_000 + '"}')]


def test_a_thousand_parallel_calls() -> None:
    heads = [chunk(OLLAMA, call(number, f"call_{number}", "f", "")) for number in range(1000)]
    rests = [
        chunk(OLLAMA, calls(*(piece(number, arguments=part) for number in range(1000)))) for part in ('{"a"', ": 1}")
    ]

    deltas, _ = read([stream(*heads, *rests, chunk(OLLAMA, "{}", "tool_calls"))])

    assert said(deltas) == [("call", f"call_{number}", "f", '{"a": 1}') for number in range(1000)]


def test_what_comes_after_done_is_not_kept() -> None:
    reply = Reply()
    deltas = reply.feed(stream(chunk(OLLAMA, text("x"), "stop")))
    for _ in range(2 * streams.LINE_MAX // 2**20):
        reply.feed(b"x" * 2**20)

    assert said(deltas + reply.close()) == [("text", "x")]
    assert reply.failure is None


def test_a_line_without_end_is_given_up() -> None:
    reply = Reply()
    for _ in range(streams.LINE_MAX // 2**20):
        reply.feed(b"x" * 2**20)
    assert reply.failure is None

    reply.feed(b"x")

    assert reply.failure is not None
    assert "too long" in reply.failure.message
