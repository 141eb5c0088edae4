"""Replies of the Messages API, cut at every byte: the same deltas, the same end."""

from __future__ import annotations

import json

import pytest
from tests.upstreams.recorded_messages import (
    FAILURES,
    PING,
    STREAMS,
    WHOLES,
    end,
    error,
    event,
    start,
    stream,
    text,
    tool_use,
)
from tests.upstreams.sayings import MAKER, NO_EVENTS, check_everywhere, failure_everywhere, read, told

from antiphon.engine.deltas import ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.tools import Tool
from antiphon.upstreams.messages.stream import Continuation, Reply

CUSTOM = Tool("custom", "apply_patch")


def reader() -> Reply:
    return Reply(MAKER, [CUSTOM])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_the_same_wherever_it_is_cut(name: str) -> None:
    check_everywhere(reader, STREAMS[name])


@pytest.mark.parametrize("name", WHOLES)
def test_a_reply_that_is_not_streamed(name: str) -> None:
    body, recording = WHOLES[name]
    reply = reader()

    assert told(reply.whole(json.dumps(body, separators=(",", ": ")).encode())) == recording.told
    assert reply.stop() == recording.stop


def test_a_name_that_the_model_garbled() -> None:
    reply = Reply(MAKER, [Tool("custom", "agents__spawn", own_name="spawn", namespace="agents")])

    said = reply.feed(stream(start(), *tool_use(0, "agents.spawn", '{"input":"x"}'), *end()))

    assert told(said)[0][2:] == ("agents__spawn", "x", True)


# --- What is no answer ---


@pytest.mark.parametrize("kind", FAILURES)
def test_an_error_in_the_stream_stands_after_what_was_said(kind: str) -> None:
    body = stream(start(), PING, *text(0, "so far")[:2], error(kind, "Overloaded"), *end())

    for failure in failure_everywhere(reader, body, [("text", "so far")]):
        assert (failure.status, failure.code, failure.retryable) == FAILURES[kind]
        assert failure.message == "Overloaded"


@pytest.mark.parametrize(
    "body",
    [
        b'event: error\ndata: {"message": "Overloaded"}\n\n',
        b'data: {"error": {"message": "Overloaded"}}\n\n',
        b'data: {"type": "error", "message": "Overloaded"}\n\n',
    ],
)
def test_an_error_of_another_form(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="Overloaded"):
        read(reader, [stream(start()), body])


def test_a_stream_that_is_cut_before_its_end_raises() -> None:
    body = stream(start(), *text(0, "Hello"), *end())
    finish = body.index(b"event: message_stop") - 1

    for at in range(finish - 1):
        with pytest.raises(UpstreamError) as caught:
            read(reader, [body[:at]])
        assert caught.value.status == 502
    assert read(reader, [body[:finish]])[0] == [("text", "Hello")]


@pytest.mark.parametrize("body", [b"", b"\n\n", stream(PING), b": nothing\n\n", stream(event("message_stop"))])
def test_a_stream_without_an_answer_may_be_tried_again(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="no answer") as caught:
        read(reader, [body])

    assert caught.value.retryable


@pytest.mark.parametrize(
    "data",
    [
        *NO_EVENTS,
        '{"type":"content_block_start","index":"x","content_block":{"type":"text"}}',
        '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":5}}',
        '{"type":"content_block_delta","index":0,"delta":[]}',
        '{"type":"message_delta","usage":5}',
    ],
)
def test_a_malformed_event_raises(data: str) -> None:
    with pytest.raises(UpstreamError, match="malformed"):
        read(reader, [f"data: {data}\n\n".encode(), stream(start(), *end())])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "malformed"),
        (b"<html>", "malformed"),
        (b"[]", "malformed"),
        (b"{}", "no answer"),
        (b'{"type":"message"}', "no answer"),
        (json.dumps(error("overloaded_error", "Overloaded")).encode(), "Overloaded"),
        (b'{"type":"message","content":[{"type":"tool_use","id":"x","input":{}}]}', "without a name"),
    ],
)
def test_a_whole_reply_that_is_no_answer_raises(body: bytes, message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        reader().whole(body)


def test_what_comes_after_the_end_is_not_read() -> None:
    reply = reader()
    said = reply.feed(stream(start(), *text(0, "Hello"), *end(), error("api_error", "!")))

    assert told([*said, *reply.close()]) == [("text", "Hello")]
    assert reply.failure is None


# --- Going on ---


@pytest.mark.parametrize(
    ("said", "pieces", "rest"),
    [
        ("so ", [" far"], "far"),
        ("so ", ["far"], "far"),
        ("so", [" far"], " far"),
        ("so\n\n", ["\n", "\n", "\nfar"], "\nfar"),
        ("so\n\n", ["\nfar\n"], "far\n"),
        ("so \n", ["  far"], " far"),
        ("   ", ["   far"], "far"),
    ],
)
def test_white_space_that_was_not_sent_is_not_said_twice(said: str, pieces: list[str], rest: str) -> None:
    going_on = Continuation(said)
    new = [one for piece in pieces for one in going_on.take([TextDelta(piece)])]

    assert "".join(one.text for one in new if isinstance(one, TextDelta)) == rest
    assert all(one.text for one in new if isinstance(one, TextDelta))


def test_only_text_goes_on() -> None:
    deltas = [ReasoningDelta(" Hm"), TextDelta(" far")]

    assert Continuation("so ").take(deltas) == [ReasoningDelta(" Hm"), TextDelta("far")]
