"""What recorded replies say, as events and as the Response that they add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.upstreams import recorded_messages, recorded_responses
from tests.upstreams.sayings import Recording
from tests.upstreams.servers import WaitlessClock

from antiphon.engine.draft import Draft
from antiphon.engine.fold import Fold
from antiphon.protocol.events import Event
from antiphon.protocol.responses import Outcome, Shell
from antiphon.protocol.tools import Tool
from antiphon.upstreams import messages, responses
from antiphon.upstreams.calling import Reader

ALL = [
    *((f"responses: {name}", one) for name, one in recorded_responses.STREAMS.items()),
    *((f"messages: {name}", one) for name, one in recorded_messages.STREAMS.items()),
]


class Counting(WaitlessClock):
    """Ids are counted."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def new_id(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"


def reader(name: str) -> Reader:
    if name.startswith("responses"):
        return responses.stream.Reply("m")
    return messages.stream.Reply("m", [Tool("custom", "apply_patch")])


def told(name: str, recording: Recording, size: int) -> tuple[list[Event], Any]:
    """The events of a reply that is read in pieces of this size, and the final Response."""
    draft = Draft(Shell("resp_1", 0, False, b'"model":"m"'), Counting())
    events, reply = draft.open(), reader(name)
    for at in range(0, len(recording.body), size):
        events += draft.apply(reply.feed(recording.body[at : at + size]))
    events += draft.apply(reply.close())
    cut = reply.stop().reason != "stop"
    events += draft.end_turn(cut=cut)
    last, snapshot = draft.end(Outcome("incomplete" if cut else "completed"))
    return [*events, last], json.loads(snapshot)


@pytest.mark.parametrize("size", [1, 50, 10**9])
@pytest.mark.parametrize(("name", "recording"), ALL, ids=[name for name, _ in ALL])
def test_events_add_up_and_stand_in_their_items(name: str, recording: Recording, size: int) -> None:
    events, final = told(name, recording, size)

    fold, opened, seen = Fold(), set(), 0
    for number, event in enumerate(events):
        data = json.loads(event.data)
        assert (event.number, data["sequence_number"], data["type"]) == (number, number, event.type)
        if event.type == "response.output_item.added":
            assert data["output_index"] == seen
            seen += 1
            opened.add(data["item"]["id"])
        elif event.type == "response.output_item.done":
            opened.remove(data["item"]["id"])
        elif "item_id" in data:
            assert data["item_id"] in opened
        fold.apply(data)
    assert not opened
    assert fold.response() == final
