"""What readers of replies say, in a normal form that does not depend on where the bytes were cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from antiphon.engine.deltas import (
    AnnotationDelta,
    CallDelta,
    ItemDelta,
    ItemEvent,
    PartEnd,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
)
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.upstreams.calling import Reader
from antiphon.upstreams.opaque import unwrapped

MAKER = "the/maker"

Told = tuple[Any, ...]


class Recording(NamedTuple):
    """Bytes of a reply, what they say, why the model stopped, and the usage.

    That is: input, of it cached and written to the cache, output, and of that reasoning.
    """

    body: bytes
    told: list[Told]
    reason: str = "stop"
    usage: tuple[int, int, int, int, int] | None = None

    @property
    def stop(self) -> Stop:
        if self.usage is None:
            return Stop(self.reason)
        read, cached, stored, written, thought = self.usage
        usage = Usage(read, InputDetails(cached, stored), written, OutputDetails(thought), read + written)
        return Stop(self.reason, usage)


_TEXTS = {TextDelta: "text", RefusalDelta: "refusal", ReasoningDelta: "reasoning", SummaryDelta: "summary"}


def told(said: Iterable[object]) -> list[Told]:
    """Runs of the same text as one, the pieces of a call at the place of its first, JSON as values."""
    found: list[list[Any]] = []
    calls: dict[int, list[Any]] = {}
    for one in said:
        if isinstance(one, TextDelta | RefusalDelta | ReasoningDelta | SummaryDelta):
            _join(found, one)
        elif isinstance(one, CallDelta):
            if one.key not in calls:
                calls[one.key] = ["call", one.call_id, one.name, "", False]
                found.append(calls[one.key])
            else:
                assert one.call_id is None
                assert one.name is None
            calls[one.key][3] += one.arguments
            calls[one.key][4] |= one.whole
        else:
            found.append(_other(one))
    return [tuple(one) for one in found]


def _join(found: list[list[Any]], one: TextDelta | RefusalDelta | ReasoningDelta | SummaryDelta) -> None:
    kind = _TEXTS[type(one)]
    if not found or found[-1][0] != kind:
        found.append([kind, ""])
    found[-1][1] += one.text
    if isinstance(one, TextDelta) and one.logprobs is not None:
        found[-1][2:] = [[*(found[-1][2] if len(found[-1]) > 2 else []), *json.loads(one.logprobs)]]


def _other(one: object) -> list[Any]:
    if isinstance(one, PartEnd):
        return ["part is whole"]
    if isinstance(one, AnnotationDelta):
        return ["annotation", json.loads(one.annotation)]
    if isinstance(one, ItemEvent):
        return ["event", one.key, one.type, _values(one.members)]
    assert isinstance(one, ItemDelta)
    return ["item", one.key, one.type, _values(one.members), one.status]


def _values(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Members as values; what is to be sent back unread is shown as what was wrapped."""
    values = {name: json.loads(raw) for name, raw in members.items()}
    if "encrypted_content" in values:
        values["encrypted_content"] = unwrapped(MAKER, values["encrypted_content"], dict[str, Any])
    return values


#: Data that no event has.
NO_EVENTS = ("{", "[]", "1", "nonsense", '{"type":5}', '{"x":' + "[" * 100_000)


class MakeReader(Protocol):
    """Makes a reader of a reply."""

    def __call__(self) -> Reader: ...


def read(make: MakeReader, pieces: Iterable[bytes]) -> tuple[list[Told], Stop]:
    """What a stream says that arrives in these pieces.  Raises ``UpstreamError``."""
    reader = make()
    said: list[object] = []
    for one in pieces:
        said += reader.feed(one)
        if reader.failure is not None:
            raise reader.failure
    said += reader.close()
    return told(said), reader.stop()


def check_everywhere(make: MakeReader, recording: Recording) -> None:
    """The reply says the same at once, byte by byte, and cut in two at each place."""
    body = recording.body
    cuts = [[body], [body[at : at + 1] for at in range(len(body))]]
    for pieces in [*cuts, *([body[:at], body[at:]] for at in range(1, len(body)))]:
        assert read(make, pieces) == (recording.told, recording.stop)


def failure_everywhere(make: MakeReader, body: bytes, so_far: list[Told]) -> list[UpstreamError]:
    """What was said before a stream failed, and how it did, cut in two at each place."""
    failures = []
    for at in range(1, len(body)):
        reader = make()
        said = [*reader.feed(body[:at])]
        if reader.failure is None:
            said += reader.feed(body[at:])
        assert reader.failure is not None
        assert told(said) == so_far
        failures.append(reader.failure)
    return failures
