"""The only maker of events and their numbers.

``Draft`` takes what an upstream says and opens, grows and closes output items accordingly.  What each kind of
text is made of stands in the table ``Kind``, calls are made by ``calls``; the legal orders are those of the reference,
section 8.2.
Must not know where deltas come from, who reads the events, or whether anybody does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from antiphon.engine.calls import Calls, MayCall
from antiphon.engine.deltas import (
    AnnotationDelta,
    CallDelta,
    Delta,
    ItemDelta,
    ItemEvent,
    PartEnd,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
)
from antiphon.engine.fold import Fold, FoldedItem, FoldedPart
from antiphon.engine.holding import Holding
from antiphon.engine.ledger import Ledger
from antiphon.engine.ports.stores import StoredItem
from antiphon.engine.ports.tools import ToolCall
from antiphon.engine.ports.world import Clock
from antiphon.engine.thoughts import Thoughts, unsealed
from antiphon.protocol.events import (
    TERMINAL_EVENTS,
    DeltaTemplate,
    Event,
    Place,
    lifecycle,
    placed,
)
from antiphon.protocol.items import ID_PREFIXES
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
    part_event: str = "response.content_part"
    place: str = "content_index"

    def parts(self, item: FoldedItem) -> list[FoldedPart]:
        """Where in the item its parts are."""
        return item.summary if self is SUMMARY else item.parts


_MESSAGE = {"role": b'"assistant"'}
TEXT = Kind("message", "msg_", _MESSAGE, "output_text", "response.output_text", "text", logprobs=True)
REFUSAL = Kind("message", "msg_", _MESSAGE, "refusal", "response.refusal", "refusal")
REASONING = Kind("reasoning", "rs_", {}, "reasoning_text", "response.reasoning_text", "text")
SUMMARY = Kind(
    "reasoning", "rs_", {}, "summary_text", "response.reasoning_summary_text", "text",
    part_event="response.reasoning_summary_part", place="summary_index",
)  # fmt: skip
#: By the type of their parts.
KINDS = {kind.part_type: kind for kind in (TEXT, REFUSAL, REASONING, SUMMARY)}
#: Items that text grows in.
_GROWING = ("message", "reasoning")
#: Items that come from an upstream's own tools, and whose status knows no ``incomplete``.
_NEVER_INCOMPLETE = ("image_generation_call", "web_search_call")


class _OpenPart(NamedTuple):
    kind: Kind
    item: FoldedItem
    part: FoldedPart
    place: Place
    template: DeltaTemplate


class Draft:
    """One response in the making.

    ``may_call`` may be told later, but before the model says anything.  ``holding``: what is told whole only.
    ``thoughts``: how reasoning is told and sealed; without it stays what an upstream gave.
    """

    def __init__(
        self,
        shell: Shell,
        clock: Clock,
        may_call: MayCall = MayCall(),  # noqa: B008 - frozen
        *,
        holding: Holding | None = None,
        thoughts: Thoughts | None = None,
    ) -> None:
        self.shell = shell
        self.opened = False
        self._clock = clock
        self._holding = holding
        self._thoughts = thoughts
        #: What raw reasoning is told as.
        self._raw = SUMMARY if thoughts is not None and thoughts.as_summary else REASONING
        self._ledger = Ledger()
        self._emit = self._ledger.emit
        self._part: _OpenPart | None = None
        #: The message or reasoning item that is open without a part that grows.
        self._item: FoldedItem | None = None
        #: The id of the item that a log left open.
        self._reopened: str | None = None
        #: Items that the upstream has begun, by its keys.
        self._begun: dict[int, FoldedItem] = {}
        self._calls = Calls(self._ledger, clock, may_call, lambda: self._close_part("completed"))

    @property
    def fold(self) -> Fold:
        """What was said so far."""
        return self._ledger.fold

    @property
    def may_call(self) -> MayCall:
        """Which calls the model may make."""
        return self._calls.may_call

    @may_call.setter
    def may_call(self, may_call: MayCall) -> None:
        self._calls.may_call = may_call

    @classmethod
    def resume(cls, shell: Shell, clock: Clock, events: Sequence[Event]) -> "Draft":
        """The draft as it stood after these events of its log; what they left open can be closed or grown."""
        draft = cls(shell, clock)
        draft.replay(events)
        draft.reopen()
        return draft

    def replay(self, events: Sequence[Event]) -> None:
        """Takes the next events of a log as made; ``reopen`` follows the last."""
        self._ledger.replay(events)
        self.opened = self.opened or bool(events)

    def reopen(self) -> None:
        """What the replayed events left open can be closed or grown."""
        for index, item in enumerate(self.fold.items):
            if item.body is not None or self._calls.reopen(index, item) or item.type not in _GROWING:
                continue
            self._reopened = item.id
            part = next((part for part in (*item.summary, *item.parts) if not part.done), None)
            if part is None:
                self._item = item
            else:
                self._part = self._slot_at(KINDS[part.kind], item, part, index)

    def settle(self, *, turn_over: bool, hosted: Collection[str] = ()) -> list[Event]:
        """After ``reopen``: closes as seen what nobody can go on with: reasoning, calls, and the upstream's own items.

        ``turn_over``: the model had made its calls, so that nothing of what it said is gone on with.  ``hosted``: the
        ids of calls that this server makes, which are gone on with.
        """
        open_item = self._item if self._part is None else self._part.item
        if open_item is not None and (turn_over or not self._can_grow(open_item)):
            self._close_part("completed")  # another item follows, so it is not an incomplete one (reference 6)
        self._calls.give_up()
        for item in self.fold.items:
            if item.body is None and item.type not in _GROWING and item.id not in hosted:
                self._done(item, "failed")  # the response may be completed, and then nothing in it is incomplete
        return self._ledger.take()

    def _can_grow(self, item: FoldedItem) -> bool:
        """A message whose text was cut, or that has none yet."""
        return item.type == "message" and (self._part is not None or not item.parts)

    @property
    def cut(self) -> str:
        """What the open message says so far; nothing when none is open."""
        return "" if self._part is None else "".join(part.text for part in self._part.item.parts)

    # --- What the world says ---

    @property
    def last(self) -> int:
        """The number of the last event that was made; -1 before the first."""
        return self._ledger.number - 1

    def open(self) -> list[Event]:
        """The first events; none when they were made before."""
        if not self.opened:
            self._open()
        return self._ledger.take()

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
        self._grow_by(deltas if self._holding is None else self._holding.take(deltas))
        return self._ledger.take()

    def _grow_by(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            _GROW[type(delta)](self, delta)

    def _grow_whole(self) -> None:
        """What was held back until the model call is over."""
        if self._holding is not None:
            self._grow_by(self._holding.rest())

    def end_turn(self, *, cut: bool) -> list[Event]:
        """Closes what the model call left open; ``cut``: the model was stopped in the middle (length, filter)."""
        self._grow_whole()
        last = len(self.fold.items) - 1
        self._close_part("incomplete" if cut else "completed")
        self._calls.end_turn(last if cut else None)
        for item in self._begun.values():
            if item.body is None and cut:
                self._cut_off(item)
            elif item.body is None:
                self._done(item, "completed")
        self._begun.clear()
        return self._ledger.take()

    def quiet(self, items: int) -> bool:
        """Whether nothing was said since there were so many items."""
        held = self._holding is not None and not self._holding.empty
        return len(self.fold.items) == items and not self._calls.hosted_waits and not held

    def hosted_calls(self) -> list[ToolCall]:
        """Calls of hosted tools that the last model call asked for, each told once."""
        return self._calls.take_hosted()

    def open_hosted(self, item_type: str, item_id: str, members: Mapping[str, object]) -> list[Event]:
        """A hosted call begins: its item is added."""
        self._ledger.open_item(item_type, item_id, {name: encode(value) for name, value in members.items()})
        return self._ledger.take()

    def progress_hosted(self, item_id: str, suffix: str) -> list[Event]:
        """A hosted call tells how far it is: ``response.<type>.<suffix>``; our own types stand alone (decision 7)."""
        item = self._ledger.find(item_id)
        name = f"{item.type}.{suffix}" if ":" in item.type else f"response.{item.type}.{suffix}"
        self._emit(placed(name, self._ledger.number, Place(item_id, self._ledger.index(item))))
        return self._ledger.take()

    def close_hosted(self, item_id: str, members: Mapping[str, object], status: str) -> list[Event]:
        """A hosted call is over: its item is done, with these members besides those it began with."""
        item = self._ledger.find(item_id)
        item.fixed = {**item.fixed, **{name: encode(value) for name, value in members.items()}}
        self._ledger.done(item, status)
        return self._ledger.take()

    def abandon(self) -> list[Event]:
        """The run ends early: whatever is open is closed as incomplete."""
        self._grow_whole()
        self._close_part("incomplete")
        self._calls.give_up()
        for item in self.fold.items:
            if item.body is None:
                self._cut_off(item)
        return self._ledger.take()

    def end(self, outcome: Outcome) -> tuple[Event, bytes]:
        """The terminal event, and the final Response that stands in it."""
        snapshot = self.shell.snapshot(outcome, self.fold.output())
        return lifecycle(TERMINAL_EVENTS[outcome.status], self._ledger.number, snapshot), snapshot

    def output(self) -> list[StoredItem]:
        """The finished items, as they are stored."""
        return [StoredItem(item.id, item.body) for item in self.fold.items if item.body is not None]

    def _grow_call(self, delta: CallDelta) -> None:
        self._calls.grow(delta)

    # --- Text that grows ---

    def _grow_text(self, delta: TextDelta) -> None:
        if not delta.text and delta.logprobs is None:
            return
        slot = self._slot(TEXT)
        slot.part.pieces.append(delta.text)
        if delta.logprobs is None:
            self._emit(slot.template.event(self._ledger.number, delta.text))
        else:
            slot.part.logprobs.append(delta.logprobs)
            self._emit(slot.template.event_with_logprobs(self._ledger.number, delta.text, delta.logprobs))

    def _grow_refusal(self, delta: RefusalDelta) -> None:
        self._grow_plain(REFUSAL, delta.text)

    def _grow_reasoning(self, delta: ReasoningDelta) -> None:
        self._grow_plain(self._raw, delta.text)

    def _grow_summary(self, delta: SummaryDelta) -> None:
        self._raw = REASONING  # this model's side sums up itself
        self._grow_plain(SUMMARY, delta.text)

    def _annotate(self, delta: AnnotationDelta) -> None:
        """Annotations are of the text that grows; what comes later has nothing to stand at."""
        slot = self._part
        if slot is None or slot.kind is not TEXT:
            return
        number = encode(len(slot.part.annotations))
        slot.part.annotations.append(delta.annotation)
        members = {"annotation_index": number, "annotation": delta.annotation}
        self._emit(placed("response.output_text.annotation.added", self._ledger.number, slot.place, **members))

    def _end_part(self, delta: PartEnd) -> None:  # noqa: ARG002 - it says all by being there
        if self._part is not None:
            self._close_text(self._part)
            self._item, self._part = self._part.item, None

    def _done(self, item: FoldedItem, status: str) -> None:
        """The item is finished; its reasoning is sealed with that, and not before (reference 8.2)."""
        if self._thoughts is not None and item.type == "reasoning":
            item.fixed = self._thoughts.sealed(item)
        self._ledger.done(item, status)

    def _cut_off(self, item: FoldedItem) -> None:
        """The item is finished in the middle; some kinds are never incomplete (reference 6)."""
        self._done(item, "failed" if item.type in _NEVER_INCOMPLETE else "incomplete")

    # --- Items that the upstream knows ---

    def _grow_item(self, delta: ItemDelta) -> None:
        item = self._begun.get(delta.key)
        if item is None:
            item = self._begun[delta.key] = self._begin_item(delta)
        if delta.status is None or item.body is not None:
            return  # it has begun; or something else began behind it, which closed it
        if self._part is not None and self._part.item is item:
            self._end_part(PartEnd())
        if self._item is item:
            self._item = None
        item.fixed = {**item.fixed, **delta.members}
        self._done(item, delta.status)

    def _begin_item(self, delta: ItemDelta) -> FoldedItem:
        cut = self._taken_up
        if cut is not None and delta.type == cut.type:
            return cut
        self._close_part("completed")
        self._calls.close_whole()
        item_id = self._clock.new_id(ID_PREFIXES.get(delta.type, "item_"))
        item = self._ledger.open_item(delta.type, item_id, unsealed(delta.members))
        if delta.type in _GROWING:
            self._item = item
        return item

    @property
    def _taken_up(self) -> FoldedItem | None:
        """The item that is open although no upstream has begun it in this process: its text is gone on with."""
        item = self._item if self._part is None else self._part.item
        if item is None or item.id != self._reopened or item in self._begun.values():
            return None
        return item

    def _tell_of_item(self, delta: ItemEvent) -> None:
        item = self._begun.get(delta.key)
        if item is not None and item.body is None:
            place = Place(item.id, self._ledger.index(item))
            self._emit(placed(delta.type, self._ledger.number, place, **delta.members))

    # --- Parts ---

    def _grow_plain(self, kind: Kind, text: str) -> None:
        if text:
            slot = self._slot(kind)
            slot.part.pieces.append(text)
            self._emit(slot.template.event(self._ledger.number, text))

    def _slot(self, kind: Kind) -> _OpenPart:
        if self._part is not None and self._part.kind is kind:
            return self._part
        return self._open_part(kind)

    def _open_part(self, kind: Kind) -> _OpenPart:
        before = self._part
        if before is not None and before.kind.item_type == kind.item_type:
            self._close_text(before)
            item = before.item
        elif before is None and self._item is not None and self._item.type == kind.item_type:
            item, self._item = self._item, None
        else:
            self._close_part("completed")
            self._calls.close_whole()
            item = self._ledger.open_item(kind.item_type, self._clock.new_id(kind.id_prefix), kind.fixed)
        part = FoldedPart(kind.part_type)
        kind.parts(item).append(part)
        self._part = slot = self._slot_at(kind, item, part, self._ledger.index(item))
        self._emit(placed(f"{kind.part_event}.added", self._ledger.number, slot.place, part=part.json()))
        return slot

    def _slot_at(self, kind: Kind, item: FoldedItem, part: FoldedPart, index: int) -> _OpenPart:
        place = Place(item.id, index, kind.place, len(kind.parts(item)) - 1)
        return _OpenPart(kind, item, part, place, DeltaTemplate(f"{kind.event}.delta", place, logprobs=kind.logprobs))

    def _close_text(self, slot: _OpenPart) -> None:
        members = {slot.kind.member: encode(slot.part.text)}
        if slot.kind.logprobs:
            members["logprobs"] = slot.part.logprobs_json()
        slot.part.done = True
        self._emit(placed(f"{slot.kind.event}.done", self._ledger.number, slot.place, **members))
        self._emit(placed(f"{slot.kind.part_event}.done", self._ledger.number, slot.place, part=slot.part.json()))

    def _close_part(self, status: str) -> None:
        if self._part is not None:
            self._close_text(self._part)
            self._done(self._part.item, status)
            self._part = None
        if self._item is not None:
            self._done(self._item, status)
            self._item = None

    # --- Items and numbers ---

    def has(self, item_id: str) -> bool:
        """Whether there is an item with this id, open or done."""
        return any(item.id == item_id for item in self.fold.items)

    def _lifecycle(self, event_type: str, status: str) -> None:
        self._emit(lifecycle(event_type, self._ledger.number, self.shell.snapshot(Outcome(status))))


_GROW: Mapping[type, Callable[..., None]] = {
    TextDelta: Draft._grow_text,
    RefusalDelta: Draft._grow_refusal,
    ReasoningDelta: Draft._grow_reasoning,
    CallDelta: Draft._grow_call,
    SummaryDelta: Draft._grow_summary,
    AnnotationDelta: Draft._annotate,
    PartEnd: Draft._end_part,
    ItemDelta: Draft._grow_item,
    ItemEvent: Draft._tell_of_item,
}
