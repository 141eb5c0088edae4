"""Replies of Responses servers, cut at every byte: the same deltas, the same end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.upstreams.recorded_failures import ERROR, FAILURES
from tests.upstreams.recorded_responses import (
    CALL,
    CITATION,
    COUNTED,
    CUSTOM,
    HELLO,
    KEPT,
    LOGPROBS,
    MESSAGE_BEGINS,
    MESSAGE_ENDS,
    PATCH,
    ROLE,
    SEARCH,
    SECRET,
    STREAMS,
    WEATHER,
    WHOLE_PART,
    added,
    call_events,
    completed,
    done,
    event,
    message,
    reasoning,
    response,
    said_message,
    stream,
    summaries,
    text_part,
)
from tests.upstreams.sayings import MAKER, NO_EVENTS, Recording, check_everywhere, failure_everywhere, read, told

from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.tools import Tool
from antiphon.upstreams import events
from antiphon.upstreams.responses.stream import Reply


def reader() -> Reply:
    return Reply(MAKER)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_the_same_wherever_it_is_cut(name: str) -> None:
    check_everywhere(reader, STREAMS[name])


WHOLES: dict[str, tuple[dict[str, Any], Recording]] = {
    "text with logprobs": (
        response(output=[message(text_part("Hé", [CITATION], LOGPROBS))]),
        Recording(
            b"",
            [MESSAGE_BEGINS, ("text", "Hé", LOGPROBS), ("annotation", CITATION), WHOLE_PART, MESSAGE_ENDS],
            usage=COUNTED,
        ),
    ),
    "all kinds of items": (
        response(
            output=[
                reasoning(summaries("One", "Two"), encrypted_content=SECRET),
                SEARCH,
                message({"type": "refusal", "refusal": "No."}, phase="final_answer"),
                CALL,
                CUSTOM,
            ]
        ),
        Recording(
            b"",
            [
                ("item", 0, "reasoning", {}, None),
                ("summary", "One"),
                WHOLE_PART,
                ("summary", "Two"),
                WHOLE_PART,
                ("item", 0, "reasoning", KEPT, "completed"),
                ("item", 1, "web_search_call", {"action": SEARCH["action"]}, None),
                ("event", 1, "response.web_search_call.in_progress", {}),
                ("event", 1, "response.web_search_call.searching", {}),
                ("event", 1, "response.web_search_call.completed", {}),
                ("item", 1, "web_search_call", {"action": SEARCH["action"]}, "completed"),
                ("item", 2, "message", {**ROLE, "phase": "final_answer"}, None),
                ("refusal", "No."),
                WHOLE_PART,
                ("item", 2, "message", {**ROLE, "phase": "final_answer"}, "completed"),
                WEATHER,
                PATCH,
            ],
            usage=COUNTED,
        ),
    ),
    "incomplete": (
        response("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=None),
        Recording(b"", [], "length"),
    ),
}


@pytest.mark.parametrize("name", WHOLES)
def test_a_reply_that_is_not_streamed(name: str) -> None:
    body, recording = WHOLES[name]
    reply = reader()

    assert told(reply.whole(json.dumps(body).encode())) == recording.told
    assert reply.stop() == recording.stop


def test_a_name_that_the_model_garbled() -> None:
    tool = Tool("function", "agents__spawn", own_name="spawn", namespace="agents")
    reply = Reply(MAKER, [tool])

    said = reply.feed(stream(*call_events({**CALL, "name": "agents.spawn"}, "{}"), completed()))

    assert told(said) == [("call", CALL["call_id"], "agents__spawn", "{}", True)]


# --- What is no answer ---


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_stands_after_what_was_said(name: str) -> None:
    last, (status, code, said, param, retryable, wait) = FAILURES[name]
    body = stream(*said_message("so far")[:3], last, event("response.failed", response=response("failed", error=ERROR)))

    for error in failure_everywhere(reader, body, [MESSAGE_BEGINS, ("text", "so far")]):
        assert (error.status, error.code, error.param) == (status, code, param)
        assert (error.retryable, error.retry_after_seconds) == (retryable, wait)
        assert said in error.message


@pytest.mark.parametrize(
    "body",
    [
        b'event: error\ndata: {"response": "Overloaded"}\n\n',
        b'data: {"error": {"message": "Overloaded"}}\n\n',
        b'data: {"error": "Overloaded"}\n\n',
    ],
)
def test_an_error_of_another_form(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="Overloaded"):
        read(reader, [stream(), body])


def test_a_stream_that_is_cut_before_its_end_raises() -> None:
    body = stream(*said_message("Hello 漢 ça va?"), completed())
    end = len(body.rstrip())

    for at in range(end):
        with pytest.raises(UpstreamError) as caught:
            read(reader, [body[:at]])
        assert caught.value.status == 502
    assert read(reader, [body[:end]])[0] == HELLO


@pytest.mark.parametrize("body", [b"", b"\n\n", b": nothing\n\n", b"data: [DONE]\n\n", stream()])
def test_a_stream_without_an_answer_may_be_tried_again(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="no answer") as caught:
        read(reader, [body])

    assert caught.value.retryable


@pytest.mark.parametrize(
    "data",
    [
        *NO_EVENTS,
        '{"type":"response.output_item.added","output_index":0}',
        '{"type":"response.output_item.added","output_index":0,"item":[]}',
        '{"type":"response.completed","response":5}',
        '{"type":"response.completed","response":{"status":"completed","output":{}}}',
        '{"type":"response.completed","response":{"status":"completed","output":[{"type":"message","content":{}}]}}',
    ],
)
def test_a_malformed_event_raises(data: str) -> None:
    with pytest.raises(UpstreamError, match="malformed"):
        read(reader, [f"data: {data}\n\n".encode(), stream(completed())])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "malformed"),
        (b"<html>", "malformed"),
        (b"{}", "no answer"),
        (b'{"error":null}', "no answer"),
        (b'{"error":{"message":"Overloaded"}}', "Overloaded"),
        (json.dumps(response("failed", error=ERROR)).encode(), "You exceeded it"),
        (json.dumps(response("in_progress")).encode(), "status 'in_progress'"),
        (json.dumps(response(output=[{**CALL, "name": None}])).encode(), "without a name"),
    ],
)
def test_a_whole_reply_that_is_no_answer_raises(body: bytes, message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        reader().whole(body)


def test_what_comes_after_the_end_is_not_read() -> None:
    reply = reader()
    said = reply.feed(stream(*said_message("Hello 漢 ça va?"), completed(), event("error", error=ERROR)))

    assert told([*said, *reply.close()]) == HELLO
    assert reply.failure is None


# --- Sizes ---


def test_ten_megabytes_of_arguments_in_many_reads() -> None:
    arguments = '{"a":"' + "x" * 10_000_000 + '"}'
    body = stream(added(0, {**CALL, "arguments": ""}), done(0, {**CALL, "arguments": arguments}), completed())

    said, _ = read(reader, (body[at : at + 65536] for at in range(0, len(body), 65536)))

    assert said == [("call", CALL["call_id"], "get_weather", arguments, True)]


@pytest.mark.parametrize("line", [b"x" * 2**20, b"data: " + b"x" * 2**20 + b"\n"])
def test_an_event_without_end_is_given_up(line: bytes) -> None:
    reply = reader()
    for _ in range(events.LINE_MAX // 2**20 - 1):
        reply.feed(line)
    assert reply.failure is None

    reply.feed(line)
    reply.feed(line)

    assert reply.failure is not None
    assert "too long" in reply.failure.message
