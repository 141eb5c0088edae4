"""Playbooks: what an upstream says goes in, the whole list of events comes out, as columns that can be read.

Every play is checked on the way: against both specifications and the laws of a stream, that folding its events gives
its final Response, and that a draft resumed after any of its reads can still be brought to a lawful end.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.specification.conformance import check_response, check_stream

from antiphon.engine import shell
from antiphon.engine.calls import Callee, MayCall
from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.draft import Draft
from antiphon.engine.fold import Fold
from antiphon.engine.ports.stores import Stored
from antiphon.engine.retelling import retold
from antiphon.protocol.events import Event
from antiphon.protocol.requests import read_create
from antiphon.protocol.responses import Outcome, ResponseError, Shell, Usage

Json = dict[str, Any]
#: One read of an upstream: one delta, or several that came together.
Read = Delta | Sequence[Delta]

OUTCOMES = {
    "completed": Outcome("completed", 1760000001, usage=Usage()),
    "length": Outcome("incomplete", incomplete_reason="max_output_tokens", usage=Usage()),
    "content_filter": Outcome("incomplete", incomplete_reason="content_filter", usage=Usage()),
    "failed": Outcome("failed", error=ResponseError("server_error", "The model stopped.")),
    "cancelled": Outcome("cancelled"),
}


class CountingClock:
    """Ids are numbered in the order in which they are asked for."""

    def __init__(self, first: int = 1) -> None:
        self._numbers = itertools.count(first)

    def now(self) -> float:
        return 1760000000.0

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


class Play(NamedTuple):
    """What came of a playbook."""

    events: list[Json]
    response: Json

    @property
    def column(self) -> list[str]:
        """One line per event: what it is, where, and what it brings."""
        return [line_of(event) for event in self.events]


def text(piece: str, logprobs: bytes | None = None) -> TextDelta:
    return TextDelta(piece, logprobs)


def refusal(piece: str) -> RefusalDelta:
    return RefusalDelta(piece)


def reasoning(piece: str) -> ReasoningDelta:
    return ReasoningDelta(piece)


def call(
    key: int, arguments: str = "", name: str | None = None, call_id: str | None = None, *, whole: bool = False
) -> CallDelta:
    """A piece of a call; the first one of a key has the name."""
    return CallDelta(key, call_id, name, arguments, whole)


def shell_of(**parameters: Any) -> Shell:
    """The shell of a request with these parameters."""
    request = read_create(json.dumps({"model": "demo", "input": "Hello", **parameters}).encode())
    return shell.build(request, response_id="resp_1", created_at=1760000000, model="demo")


def play(
    *reads: Read,
    ends: str = "completed",
    background: bool = False,
    allowed: frozenset[str] | None = None,
    parallel: bool = True,
    callees: Mapping[str, Callee] | None = None,
) -> Play:
    """Plays the reads into a draft and ends it as `ends` says."""
    asked = shell_of(background=background)
    draft = Draft(asked, CountingClock(), MayCall(allowed=allowed, parallel=parallel, callees=callees or {}))
    batches = [draft.apply([read] if isinstance(read, tuple) and hasattr(read, "_fields") else read) for read in reads]
    if not draft.opened:
        batches.append(draft.open())
    batches.append(_close(draft, ends))
    terminal, snapshot = draft.end(OUTCOMES[ends])
    events = [*itertools.chain(*batches), terminal]

    decoded = check_lawful(events, snapshot)
    check_stored(draft, decoded[-1]["response"])
    check_resumable(asked, batches)
    if not background:
        check_retold(Stored(asked, OUTCOMES[ends], [item.body for item in draft.output()], b"{}", True), decoded)
    return Play(decoded, decoded[-1]["response"])


def _close(draft: Draft, ends: str) -> list[Event]:
    if ends in ("failed", "cancelled"):
        return draft.abandon()
    return draft.end_turn(cut=ends in ("length", "content_filter"))


def check_lawful(events: list[Event], snapshot: bytes) -> list[Json]:
    """The stream is lawful, and its fold is its final Response."""
    decoded = [json.loads(event.data) for event in events]
    check_stream(decoded)
    for event, told in zip(events, decoded, strict=True):
        assert (event.number, event.type) == (told["sequence_number"], told["type"])
        assert b"\n" not in event.data, "an event is one line of a log and of a stream"
    fold = Fold()
    for told in decoded:
        fold.apply(told)
    final = json.loads(snapshot)
    check_response(final)
    assert fold.response() == final == decoded[-1]["response"]
    return decoded


def check_stored(draft: Draft, final: Json) -> None:
    """What is stored as the output is what the final Response shows."""
    assert [(item.id, json.loads(item.body)) for item in draft.output()] == [
        (item["id"], item) for item in final["output"]
    ]


def check_retold(stored: Stored, decoded: list[Json]) -> None:
    """Told again, each item says what it said, but in one piece, and the end is the same."""
    again = check_lawful(retold(stored), stored.snapshot())
    assert _whole(again) == _whole(decoded)


def _whole(events: list[Json]) -> dict[int | None, list[Json]]:
    """The events of each item, and those of the response, without numbers and with the deltas of a part joined.

    Pictures that were on their way are in no item, so that they cannot be told again.
    """
    items: dict[int | None, list[Json]] = {}
    for event in events:
        if event["type"].endswith(".partial_image"):
            continue
        told = {name: value for name, value in event.items() if name != "sequence_number"}
        mine = items.setdefault(event.get("output_index"), [])
        if event["type"].endswith(".delta") and mine[-1]["type"] == event["type"]:
            mine[-1]["delta"] += event["delta"]
            mine[-1] |= {name: mine[-1][name] + event[name] for name in ("logprobs",) if name in event}
        else:
            mine.append(told)
    return items


def check_resumable(asked: Shell, batches: list[list[Event]]) -> None:
    """After every read a later process can take the log up, close what is open, and end it lawfully."""
    for count in range(len(batches) + 1):
        log = list(itertools.chain(*batches[:count]))
        draft = Draft.resume(asked, ResumingClock(), log)
        rest = [*draft.open(), *draft.abandon()]
        terminal, snapshot = draft.end(OUTCOMES["failed"])
        decoded = check_lawful([*log, *rest, terminal], snapshot)
        check_stored(draft, decoded[-1]["response"])


class ResumingClock(CountingClock):
    """Another process makes other ids."""

    def new_id(self, prefix: str) -> str:
        return super().new_id(f"{prefix}later_")


# --- Events as lines ---


def line_of(event: Json) -> str:
    """An event in a few words: its type without `response.`, its place, and what it brings."""
    kind = event["type"].removeprefix("response.")
    return " ".join([kind, *_place(event), *_brings(event)])


def _place(event: Json) -> list[str]:
    place = [str(event[name]) for name in ("output_index", "content_index", "summary_index") if name in event]
    return [".".join(place)] if place else []


def _brings(event: Json) -> list[str]:
    if "response" in event:
        return [event["response"]["status"]]
    if "item" in event:
        return _item(event["item"])
    if "part" in event:
        return [event["part"]["type"]]
    value = next((event[name] for name in ("delta", "text", "refusal", "arguments", "input") if name in event), None)
    return [] if value is None else [repr(value)]


def _item(item: Json) -> list[str]:
    told = [item["type"], item["id"], item["status"]]
    if "call_id" in item:
        told += [_called(item)]
    return told


def _called(item: Json) -> str:
    name = ".".join(item[key] for key in ("namespace", "name") if key in item)
    said = item.get("arguments", item.get("input", ""))
    return f"{item['call_id']}:{name}({said if isinstance(said, str) else json.dumps(said)})"
