"""Obfuscation: who gets it, that it hides the lengths of deltas, and that it is the same whenever an event is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.specification.conformance import check_event
from tests.web.client import Json, asked, text_of
from tests.web.conftest import Serve, Serving
from tests.web.test_sse import Memory, reader_of

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.protocol.events import DeltaTemplate, Event, Place, item_event, placed
from antiphon.web import sse

KEY = b"k" * 32
SCRIPT = [
    [ReasoningDelta("Hm, a door.")],
    [TextDelta("A"), TextDelta(' door and a window \u00e9\n"')],
    [CallDelta(0, "call_1", "look", "{}")],
]
ON, OFF = {"include_obfuscation": True}, {"include_obfuscation": False}


def padding(response: str = "resp_1", key: bytes = KEY) -> sse.Padding:
    return sse.Padding(key, response)


def text_delta(delta: str, number: int = 4) -> Event:
    return DeltaTemplate("response.output_text.delta", Place("msg_1", 0, "content_index", 0), logprobs=True).event(
        number, delta
    )


def call_delta(delta: str, number: int = 4) -> Event:
    return DeltaTemplate("response.function_call_arguments.delta", Place("fc_1", 0)).event(number, delta)


def sent(event: Event, by: sse.Padding | None = None) -> Json:
    told: Json = json.loads((by or padding()).encode([event]).partition(b"data: ")[2])
    return told


# Deltas and lengths of obfuscation as they were recorded of the official API.
RECORDED = [
    (text_delta, "Greetings", 7),
    (text_delta, ",", 15),
    (text_delta, " weather", 8),
    (text_delta, " locations", 6),
    (text_delta, "**What I did:** searched", 8),
    (text_delta, " for nearby ramen shops and checked", 13),
    (call_delta, "{", 15),
    (call_delta, "location", 8),
]


@pytest.mark.parametrize(("make", "delta", "length"), RECORDED)
def test_it_is_as_long_as_the_official_one(make: Any, delta: str, length: int) -> None:
    assert len(sent(make(delta))["obfuscation"]) == length


def test_a_delta_that_fills_the_quantum_has_an_empty_one() -> None:
    assert sent(call_delta("0123456789abcdef"))["obfuscation"] == ""


@pytest.mark.parametrize("make", [text_delta, call_delta])
def test_what_goes_over_the_wire_is_quantised_in_bytes(make: Any) -> None:
    deltas = ["a", "hello", "0123456789abcdef", "\u00e9", "\u2028", '"', "\\n\n", "\U0001f600", '","obfuscation":"x"}']
    lengths = {len(padding().encode([make(delta)])) for delta in deltas}

    assert len(lengths) <= 2
    assert max(lengths) - min(lengths) in (0, 16)


@pytest.mark.parametrize("kind", sorted(sse._PADDED))
def test_every_delta_of_text_carries_it_and_nothing_else_changes(kind: str) -> None:
    place = Place("item_1", 0)
    event = placed(kind, 7, place, delta=b'"it says \\"delta\\":\\" and }"')
    told = sent(event)
    filled = told.pop("obfuscation")

    assert told == json.loads(event.data)
    assert set(filled) <= set("0123456789abcdef")


def test_logprobs_are_quantised_with_their_delta() -> None:
    template = DeltaTemplate("response.output_text.delta", Place("msg_1", 0, "content_index", 0), logprobs=True)
    lengths = {
        len(padding().encode([template.event_with_logprobs(4, delta, b'[{"token":"%b"}]' % delta.encode())])) % 16
        for delta in ("a", "ab", "abcdefg")
    }

    assert len(lengths) == 1


def test_other_events_are_as_they_were() -> None:
    events = [item_event("response.output_item.done", 3, 0, b'{"delta":"x"}'), Event(4, "response.x.delta", b"{}")]

    assert padding().encode(events) == sse.encode(events)


def test_it_depends_on_the_key_the_response_and_the_number_alone() -> None:
    def first(event: Event, by: sse.Padding) -> str:
        told: str = sent(event, by)["obfuscation"]
        return told

    same = {first(text_delta(","), padding()), first(text_delta(","), padding()), first(text_delta(";"), padding())}
    others = {
        first(text_delta(",", number=5), padding()),
        first(text_delta(","), padding("resp_2")),
        first(text_delta(","), padding(key=b"o" * 32)),
    }

    assert len(same) == 1
    assert len(same | others) == 4


async def test_a_reader_that_did_not_ask_gets_none() -> None:
    silent, asking = Memory(), Memory()
    readers = [reader_of(silent), reader_of(asking, padding=padding())]
    for reader in readers:
        reader.write([text_delta("Hi")])
        reader.stop()

    assert silent.written == [sse.encode([text_delta("Hi")])]
    assert asking.written == [padding().encode([text_delta("Hi")])]


# --- Over HTTP ---


def filled(events: list[Json]) -> dict[int, str]:
    """What the deltas were padded with, by number; all of them are, or none is."""
    deltas = [event for event in events if event["type"].endswith(".delta")]
    assert {event["type"] for event in events if "obfuscation" in event} <= {event["type"] for event in deltas}
    padded = {event["sequence_number"]: event["obfuscation"] for event in deltas if "obfuscation" in event}
    assert len(padded) in (0, len(deltas))
    return padded


def without(events: list[Json]) -> list[Json]:
    return [{name: value for name, value in event.items() if name != "obfuscation"} for event in events]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize(("options", "expected"), [(None, None), ({}, None), (ON, True), (OFF, False)])
async def test_who_gets_it(serve: Serve, background: bool, default: bool, options: Any, expected: bool | None) -> None:
    here = await serve_padded(serve, default)
    given = {} if options is None else {"stream_options": options}
    events = await here.client.stream(background=background, **given)

    assert bool(filled(events)) is (default if expected is None else expected)
    assert text_of(events) == 'A door and a window \u00e9\n"'
    for event in events:
        check_event(event)


async def serve_padded(serve: Serve, default: bool) -> Serving:
    here = await serve([SCRIPT])
    for route in here.server.app.routes:
        handlers = getattr(route.handler, "__self__", None)
        if hasattr(handlers, "obfuscation_key"):
            settings = handlers._settings
            handlers._settings = type(settings)(obfuscation_default=default)
    return here


async def test_it_is_not_in_the_log_and_the_same_on_each_read(serve: Serve) -> None:
    here = await serve([SCRIPT])
    first = await here.client.stream(background=True, stream_options=ON)
    path = f"/v1/responses/{first[0]['response']['id']}?stream=true"
    reads = []
    for query in ("", "&include_obfuscation=false", "&include_obfuscation=true", "&include_obfuscation=true"):
        async with here.client.followed("GET", path + query) as stream:
            reads.append(await stream.whole())
    silent, refusing, asking, again = reads
    number = next(iter(filled(first)))
    async with here.client.followed("GET", f"{path}&include_obfuscation=true&starting_after={number}") as stream:
        later = await stream.whole()

    assert filled(first) == filled(asking) == filled(again) != {}
    assert filled(silent) == filled(refusing) == {}
    assert silent == refusing == without(asking) == without(first)
    assert filled(later) == {at: text for at, text in filled(first).items() if at > number}


async def test_asking_for_it_is_no_warning_and_asking_oddly_is_refused(serve: Serve) -> None:
    here = await serve([SCRIPT])
    async with here.client.followed("POST", "/v1/responses", asked(stream=True, stream_options=ON)) as stream:
        await stream.whole()
        assert "x-antiphon-warnings" not in stream.head.headers
    made = await here.client.create(background=True)
    reply = await here.client.get(f"/v1/responses/{made['id']}?include_obfuscation=perhaps")

    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "include_obfuscation", "invalid_type")
