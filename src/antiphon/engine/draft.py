"""The only maker of events and their numbers.

``Draft`` takes what an upstream says and opens, grows and closes output items accordingly.  What each kind of
output is made of stands in the table ``Kind``; the legal orders are those of the reference, section 8.2.
Must not know where deltas come from, who reads the events, or whether anybody does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from antiphon.engine.fold import Fold, FoldedItem, FoldedPart
from antiphon.engine.ports import (
    CallDelta,
    Clock,
    Delta,
    ReasoningDelta,
    RefusalDelta,
    StoredItem,
    TextDelta,
    ToolCall,
)
from antiphon.protocol.events import (
    TERMINAL_EVENTS,
    DeltaTemplate,
    Event,
    Place,
    item_event,
    lifecycle,
    placed,
)
from antiphon.protocol.responses import Outcome, Shell

encode = msgspec.json.encode


class Kind(NamedTuple):
    """A kind of text that grows: the item and part it lives in, and the names of its events."""

    item_type: str
    id_prefix: str
    fixed: Mapping[str, bytes]
    part_type: str
    event: str
    member: str
    logprobs: bool = False


_MESSAGE = {"role": b'"assistant"'}
TEXT = Kind("message", "msg_", _MESSAGE, "output_text", "response.output_text", "text", logprobs=True)
REFUSAL = Kind("message", "msg_", _MESSAGE, "refusal", "response.refusal", "refusal")
REASONING = Kind("reasoning", "rs_", {}, "reasoning_text", "response.reasoning_text", "text")
ARGUMENTS = "response.function_call_arguments"


class _OpenPart(NamedTuple):
    kind: Kind
    item: FoldedItem
    part: FoldedPart
    place: Place
    template: DeltaTemplate


class _OpenCall(NamedTuple):
    name: str
    item: FoldedItem
    place: Place
    template: DeltaTemplate


class _HostedCall(NamedTuple):
    name: str
    pieces: list[str]


class Draft:
    """One response in the making.

    ``hosted`` are the functions that this server answers, ``allowed`` those that may be called at all (None: any),
    and unless ``parallel`` one model call asks for one call at the most (reference 5.1, 5.3).
    """

    def __init__(
        self,
        shell: Shell,
        clock: Clock,
        hosted: frozenset[str] = frozenset(),
        *,
        allowed: frozenset[str] | None = None,
        parallel: bool = True,
    ) -> None:
        self.shell = shell
        self.fold = Fold()
        self.opened = False
        self._clock = clock
        self._hosted = hosted
        self._allowed = allowed
        self._parallel = parallel
        self._number = 0
        self._events: list[Event] = []
        self._part: _OpenPart | None = None
        self._calls: dict[int, _OpenCall] = {}
        self._hosted_calls: dict[int, _HostedCall] = {}
        #: Calls of this model call that take no more pieces: whole already, or not to be made at all.
        self._deaf: set[int] = set()
        self._called = False
        self._grow: dict[type, Callable[..., None]] = {
            TextDelta: self._grow_text,
            RefusalDelta: self._grow_refusal,
            ReasoningDelta: self._grow_reasoning,
            CallDelta: self._grow_call,
        }

    @classmethod
    def resume(cls, shell: Shell, clock: Clock, events: Sequence[Event]) -> "Draft":
        """The draft as it stood after these events of its log; what they left open can be closed or grown."""
        draft = cls(shell, clock)
        draft.replay(events)
        draft.reopen()
        return draft

    def replay(self, events: Sequence[Event]) -> None:
        """Takes the next events of a log as made; ``reopen`` follows the last."""
        for event in events:
            self.fold.apply(msgspec.json.decode(event.data))
        if events:
            self.opened = True
            self._number = events[-1].number + 1

    def reopen(self) -> None:
        """What the replayed events left open can be closed or grown."""
        for index, item in enumerate(self.fold.items):
            if item.body is None:
                self._reopen(index, item)

    def _reopen(self, index: int, item: FoldedItem) -> None:
        if item.type == "function_call":
            place = Place(item.id, index)
            name = msgspec.json.decode(item.fixed["name"], type=str)
            # No upstream uses negative keys: a model call that follows begins its own calls.
            self._calls[-1 - index] = _OpenCall(name, item, place, DeltaTemplate(f"{ARGUMENTS}.delta", place))
        elif item.parts:
            part = item.parts[-1]
            kind = next(kind for kind in (TEXT, REFUSAL, REASONING) if kind.part_type == part.kind)
            self._part = self._slot_at(kind, item, part, index)

    # --- What the world says ---

    def open(self) -> list[Event]:
        """The first events; none when they were made before."""
        if not self.opened:
            self._open()
        return self._take()

    def _open(self) -> None:
        self.opened = True
        first = "queued" if self.shell.background else "in_progress"
        self._lifecycle("response.created", first)
        if self.shell.background:
            self._lifecycle("response.queued", first)
        self._lifecycle("response.in_progress", "in_progress")

    def apply(self, deltas: Sequence[Delta]) -> list[Event]:
        """What one read of the upstream said, as events."""
        if not self.opened:
            self._open()
        for delta in deltas:
            self._grow[type(delta)](delta)
        return self._take()

    def end_turn(self, *, cut: bool) -> list[Event]:
        """Closes what the model call left open; ``cut``: the model was stopped in the middle (length, filter)."""
        last = len(self.fold.items) - 1
        self._close_part("incomplete" if cut else "completed")
        for key, call in list(self._calls.items()):
            # Of several open calls only the last was cut; an incomplete item is the last one (reference 6).
            broken = cut and call.place.output_index == last and not _is_object(call.item)
            self._close_call(key, "incomplete" if broken else "completed")
        self._deaf.clear()
        self._called = False
        return self._take()

    def quiet(self, items: int) -> bool:
        """Whether nothing was said since there were so many items."""
        return len(self.fold.items) == items and not self._hosted_calls

    def hosted_calls(self) -> list[ToolCall]:
        """Calls of hosted tools that the last model call asked for, each told once."""
        calls = [ToolCall("", call.name, "".join(call.pieces) or "{}") for call in self._hosted_calls.values()]
        self._hosted_calls.clear()
        return calls

    def open_hosted(self, item_type: str, item_id: str, members: Mapping[str, object]) -> list[Event]:
        """A hosted call begins: its item is added."""
        fixed = {name: encode(value) for name, value in members.items()}
        item = self.fold.add_item(item_type, item_id, fixed)
        self._item("response.output_item.added", item, item.json("in_progress"))
        return self._take()

    def progress_hosted(self, item_id: str, suffix: str) -> list[Event]:
        """A hosted call tells how far it is: ``response.<type>.<suffix>``; our own types stand alone (decision 7)."""
        index, item = self._find(item_id)
        name = f"{item.type}.{suffix}" if ":" in item.type else f"response.{item.type}.{suffix}"
        self._emit(placed(name, self._number, Place(item_id, index)))
        return self._take()

    def close_hosted(self, item_id: str, members: Mapping[str, object], status: str) -> list[Event]:
        """A hosted call is over: its item is done, with these members besides those it began with."""
        _, item = self._find(item_id)
        item.fixed = {**item.fixed, **{name: encode(value) for name, value in members.items()}}
        self._done(item, status)
        return self._take()

    def abandon(self) -> list[Event]:
        """The run ends early: whatever is open is closed as incomplete."""
        self._close_part("incomplete")
        for key, call in list(self._calls.items()):
            self._close_call(key, "completed" if _is_object(call.item) else "incomplete")
        for item in self.fold.items:
            if item.body is None:
                self._done(item, "incomplete")
        return self._take()

    def end(self, outcome: Outcome) -> tuple[Event, bytes]:
        """The terminal event, and the final Response that stands in it."""
        snapshot = self.shell.snapshot(outcome, self.fold.output())
        return lifecycle(TERMINAL_EVENTS[outcome.status], self._number, snapshot), snapshot

    def output(self) -> list[StoredItem]:
        """The finished items, as they are stored."""
        return [StoredItem(item.id, item.body) for item in self.fold.items if item.body is not None]

    # --- Text that grows ---

    def _grow_text(self, delta: TextDelta) -> None:
        if not delta.text and delta.logprobs is None:
            return
        slot = self._slot(TEXT)
        slot.part.pieces.append(delta.text)
        if delta.logprobs is None:
            self._emit(slot.template.event(self._number, delta.text))
        else:
            slot.part.logprobs.append(delta.logprobs)
            self._emit(slot.template.event_with_logprobs(self._number, delta.text, delta.logprobs))

    def _grow_refusal(self, delta: RefusalDelta) -> None:
        self._grow_plain(REFUSAL, delta.text)

    def _grow_reasoning(self, delta: ReasoningDelta) -> None:
        self._grow_plain(REASONING, delta.text)

    def _grow_plain(self, kind: Kind, text: str) -> None:
        if text:
            slot = self._slot(kind)
            slot.part.pieces.append(text)
            self._emit(slot.template.event(self._number, text))

    def _slot(self, kind: Kind) -> _OpenPart:
        if self._part is not None and self._part.kind is kind:
            return self._part
        return self._open_part(kind)

    def _open_part(self, kind: Kind) -> _OpenPart:
        before = self._part
        if before is not None and before.kind.item_type == kind.item_type:
            self._close_text(before)
            item = before.item
        else:
            self._close_part("completed")
            self._close_whole_calls()
            item = self._open_item(kind.item_type, self._clock.new_id(kind.id_prefix), kind.fixed)
        part = FoldedPart(kind.part_type)
        item.parts.append(part)
        self._part = slot = self._slot_at(kind, item, part, self.fold.items.index(item))
        self._emit(placed("response.content_part.added", self._number, slot.place, part=part.json()))
        return slot

    def _slot_at(self, kind: Kind, item: FoldedItem, part: FoldedPart, index: int) -> _OpenPart:
        place = Place(item.id, index, "content_index", len(item.parts) - 1)
        return _OpenPart(kind, item, part, place, DeltaTemplate(f"{kind.event}.delta", place, logprobs=kind.logprobs))

    def _close_text(self, slot: _OpenPart) -> None:
        members = {slot.kind.member: encode(slot.part.text)}
        if slot.kind.logprobs:
            members["logprobs"] = slot.part.logprobs_json()
        self._emit(placed(f"{slot.kind.event}.done", self._number, slot.place, **members))
        self._emit(placed("response.content_part.done", self._number, slot.place, part=slot.part.json()))

    def _close_part(self, status: str) -> None:
        if self._part is not None:
            self._close_text(self._part)
            self._done(self._part.item, status)
            self._part = None

    # --- Calls ---

    def _grow_call(self, delta: CallDelta) -> None:
        if delta.key in self._deaf:
            return
        if delta.key in self._hosted_calls:
            self._hosted_calls[delta.key].pieces.append(delta.arguments)
            return
        call = self._calls.get(delta.key) or self._open_call(delta)
        if call is not None and delta.arguments:
            call.item.pieces.append(delta.arguments)
            self._emit(call.template.event(self._number, delta.arguments))

    def _may_open(self, name: str) -> bool:
        """A call beyond what the request allows is not made (reference 5.3: suppressed)."""
        if self._allowed is not None and name not in self._allowed:
            return False
        return self._parallel or not self._called

    def _open_call(self, delta: CallDelta) -> _OpenCall | None:
        name = delta.name or ""
        if not self._may_open(name):
            self._deaf.add(delta.key)
            return None
        self._called = True
        self._close_part("completed")
        self._close_whole_calls()
        if name in self._hosted:
            self._hosted_calls[delta.key] = _HostedCall(name, [delta.arguments])
            return None
        call_id = delta.call_id or self._clock.new_id("call_")
        fixed = {"call_id": encode(call_id), "name": encode(name)}
        item = self._open_item("function_call", self._clock.new_id("fc_"), fixed)
        place = Place(item.id, self.fold.items.index(item))
        call = _OpenCall(name, item, place, DeltaTemplate(f"{ARGUMENTS}.delta", place))
        self._calls[delta.key] = call
        return call

    def _close_whole_calls(self) -> None:
        """Items are streamed one after another; a call whose pieces still come interleaved stays open."""
        for key, call in list(self._calls.items()):
            if _is_object(call.item):
                self._close_call(key, "completed")
                self._deaf.add(key)

    def _close_call(self, key: int, status: str) -> None:
        call = self._calls.pop(key)
        if not call.item.pieces and status == "completed":
            # No arguments at all: clients parse the string, and the empty one is no JSON.
            call.item.pieces.append("{}")
            self._emit(call.template.event(self._number, "{}"))
        if call.item.pieces:
            arguments = encode("".join(call.item.pieces))
            members = {"arguments": arguments, "name": encode(call.name)}
            self._emit(placed(f"{ARGUMENTS}.done", self._number, call.place, **members))
        self._done(call.item, status)

    # --- Items and numbers ---

    def _open_item(self, item_type: str, item_id: str, fixed: Mapping[str, bytes]) -> FoldedItem:
        item = self.fold.add_item(item_type, item_id, fixed)
        self._item("response.output_item.added", item, item.json("in_progress"))
        return item

    def _done(self, item: FoldedItem, status: str) -> None:
        item.body = item.json(status)
        self._item("response.output_item.done", item, item.body)

    def _item(self, event_type: str, item: FoldedItem, body: bytes) -> None:
        self._emit(item_event(event_type, self._number, self.fold.items.index(item), body))

    def _find(self, item_id: str) -> tuple[int, FoldedItem]:
        return next((index, item) for index, item in enumerate(self.fold.items) if item.id == item_id)

    def _lifecycle(self, event_type: str, status: str) -> None:
        self._emit(lifecycle(event_type, self._number, self.shell.snapshot(Outcome(status))))

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self._number += 1

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _is_object(item: FoldedItem) -> bool:
    """Whether the arguments are whole: after a JSON object nothing can follow, after ``1`` a ``2`` can."""
    try:
        return isinstance(msgspec.json.decode("".join(item.pieces)), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
