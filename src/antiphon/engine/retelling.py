"""A stored response as the stream that would have told it: each item, each part and each text in one piece.

For whoever asks again for what was streamed in the foreground, whose log is kept by nobody.  Must not know who reads.
Orders: reference, section 8.2.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from antiphon.engine.calls import CUSTOM, FUNCTION
from antiphon.engine.draft import KINDS, Kind
from antiphon.engine.fold import FoldedPart
from antiphon.engine.ledger import Ledger
from antiphon.engine.ports.stores import Stored
from antiphon.engine.progress import Progress
from antiphon.engine.thoughts import MEMBER as SEALED
from antiphon.protocol.events import TERMINAL_EVENTS, DeltaTemplate, Event, Place, item_event, lifecycle, placed
from antiphon.protocol.responses import Outcome

encode = msgspec.json.encode

_CALLS = {kind.item_type: kind for kind in (FUNCTION, CUSTOM)}
#: What grows, as it is when an item begins.
_EMPTY: Mapping[str, Mapping[str, Any]] = {
    "message": {"content": []},
    "reasoning": {"summary": [], "content": []},
    "tool_search_call": {"arguments": {}},
    **{name: {kind.member: ""} for name, kind in _CALLS.items()},
}


def retold(stored: Stored) -> list[Event]:
    """Every event of a response that has ended; the last one holds it as it is stored."""
    ledger = Ledger()
    begun = stored.shell.snapshot(Outcome("in_progress"))
    for event_type in ("response.created", "response.in_progress"):
        ledger.emit(lifecycle(event_type, ledger.number, begun))
    for index, body in enumerate(stored.output):
        item = msgspec.json.decode(body)
        progress = Progress(item["type"])
        ledger.emit(item_event("response.output_item.added", ledger.number, index, encode(_begun(item, progress))))
        _tell_inside(ledger, index, item)
        for told in progress.rest(_raw(item), item.get("status", "completed")):
            ledger.emit(placed(told.type, ledger.number, Place(item["id"], index), **told.members))
        ledger.emit(item_event("response.output_item.done", ledger.number, index, body))
    ledger.emit(lifecycle(TERMINAL_EVENTS[stored.outcome.status], ledger.number, stored.snapshot()))
    return ledger.take()


def _begun(item: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The item as it was when nothing of it had been said; sealed thoughts come with its end (reference 8.2)."""
    empty = _EMPTY.get(item["type"], {})
    late = SEALED if item["type"] == "reasoning" else None
    members = {name: msgspec.Raw(value) for name, value in progress.begun(_raw(item)).items()}
    begun = {name: empty.get(name, value) for name, value in members.items() if name != late}
    return {**begun, "status": "in_progress"} if "status" in item else begun


def _raw(item: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: encode(value) for name, value in item.items()}


def _tell_inside(ledger: Ledger, index: int, item: Mapping[str, Any]) -> None:
    for kind, number, part in _parts(item):
        _tell_part(ledger, Place(item["id"], index, kind.place, number), kind, part)
    call = _CALLS.get(item["type"])
    if call is not None and (item[call.member] or item["status"] == "completed"):
        place, said = Place(item["id"], index), item[call.member]
        if said:
            ledger.emit(DeltaTemplate(f"{call.event}.delta", place).event(ledger.number, said))
        named = {"name": encode(item["name"])} if call is FUNCTION else {}
        ledger.emit(placed(f"{call.event}.done", ledger.number, place, **{call.member: encode(said)}, **named))


def _parts(item: Mapping[str, Any]) -> Iterator[tuple[Kind, int, Mapping[str, Any]]]:
    """What an item is made of, in the order in which it is told."""
    if item["type"] in ("message", "reasoning"):
        for parts in (item.get("summary"), item.get("content")):
            for number, part in enumerate(parts or ()):
                if part["type"] in KINDS:
                    yield KINDS[part["type"]], number, part


def _tell_part(ledger: Ledger, place: Place, kind: Kind, part: Mapping[str, Any]) -> None:
    text, logprobs = part[kind.member], encode(part.get("logprobs") or [])
    ledger.emit(placed(f"{kind.part_event}.added", ledger.number, place, part=FoldedPart(kind.part_type).json()))
    if text:
        template = DeltaTemplate(f"{kind.event}.delta", place, logprobs=kind.logprobs)
        told = template.event_with_logprobs if kind.logprobs else None
        ledger.emit(told(ledger.number, text, logprobs) if told else template.event(ledger.number, text))
    for number, annotation in enumerate(part.get("annotations") or ()):
        members = {"annotation_index": encode(number), "annotation": encode(annotation)}
        ledger.emit(placed("response.output_text.annotation.added", ledger.number, place, **members))
    members = {kind.member: encode(text), **({"logprobs": logprobs} if kind.logprobs else {})}
    ledger.emit(placed(f"{kind.event}.done", ledger.number, place, **members))
    ledger.emit(placed(f"{kind.part_event}.done", ledger.number, place, part=encode(part)))
