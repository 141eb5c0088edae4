"""Calls that a model asks for, on their way into items: functions, custom tools and tool searches of the client.

What each kind of call becomes stands in the table ``CallKind``; the legal orders are those of the reference, 8.2.
Must not know where deltas come from, nor what text is said between calls.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from antiphon.engine.deltas import CallDelta
from antiphon.engine.fold import FoldedItem
from antiphon.engine.ledger import Ledger
from antiphon.engine.ports.tools import ToolCall
from antiphon.engine.ports.world import Clock
from antiphon.protocol.events import DeltaTemplate, Place, placed

encode = msgspec.json.encode


class CallKind(NamedTuple):
    """The item that a call becomes, and the names of its events; without them it is told when it is whole."""

    item_type: str
    id_prefix: str
    event: str | None
    member: str
    fixed: Mapping[str, bytes]


FUNCTION = CallKind("function_call", "fc_", "response.function_call_arguments", "arguments", {})
CUSTOM = CallKind("custom_tool_call", "ctc_", "response.custom_tool_call_input", "input", {})
_SEARCHED = {"execution": b'"client"', "arguments": b"{}"}
SEARCH = CallKind("tool_search_call", "tsc_", None, "arguments", _SEARCHED)
_KINDS = {kind.item_type: kind for kind in (FUNCTION, CUSTOM, SEARCH)}
#: Calls that only an upstream with tools of its own makes, and that the client answers (reference 7).
ASKED = frozenset({"apply_patch_call", "computer_call", "local_shell_call", "mcp_approval_request", "shell_call"})


class Callee(NamedTuple):
    """What stands behind a name that the model sees: how its client calls it."""

    kind: CallKind
    name: str
    namespace: str | None = None

    def fixed(self, call_id: str) -> dict[str, bytes]:
        """The members of a call's item that do not grow."""
        members = {"call_id": encode(call_id), **self.kind.fixed}
        if self.kind is not SEARCH:
            members["name"] = encode(self.name)
        if self.namespace is not None:
            members["namespace"] = encode(self.namespace)
        return members


class MayCall(NamedTuple):
    """Which calls a model may make.

    ``hosted`` are the functions that this server answers, ``allowed`` those that may be called at all (None: any),
    and unless ``parallel`` one model call asks for one call at the most (reference 5.1, 5.3).  ``callees`` tells what
    names stand for; any other is a function of that name.
    """

    hosted: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None
    parallel: bool = True
    callees: Mapping[str, Callee] = {}


class _OpenCall:
    """A call whose item is not done."""

    __slots__ = ("item", "kind", "place", "template", "whole")

    def __init__(self, kind: CallKind, item: FoldedItem, index: int) -> None:
        self.kind = kind
        self.item = item
        self.place = Place(item.id, index)
        self.template = None if kind.event is None else DeltaTemplate(f"{kind.event}.delta", self.place)
        self.whole = False

    @property
    def said(self) -> str:
        return "".join(self.item.pieces)

    @property
    def is_whole(self) -> bool:
        """Nothing can follow: that is told of a custom tool's input, and seen of a JSON object."""
        return self.whole or (self.kind is not CUSTOM and _is_object(self.said))


class _HostedCall(NamedTuple):
    name: str
    pieces: list[str]


class Calls:
    """The calls of one response.  ``before`` is done before an item of a call is opened."""

    def __init__(self, ledger: Ledger, clock: Clock, may_call: MayCall, before: Callable[[], None]) -> None:
        self.may_call = may_call
        self._ledger = ledger
        self._clock = clock
        self._before = before
        self._open: dict[int, _OpenCall] = {}
        self._hosted: dict[int, _HostedCall] = {}
        #: Calls of this model call that take no more pieces: whole already, or not to be made at all.
        self._deaf: set[int] = set()
        self._called = False

    @property
    def hosted_waits(self) -> bool:
        """Whether the model call asked for hosted calls that nobody has taken yet."""
        return bool(self._hosted)

    def take_hosted(self) -> list[ToolCall]:
        """Calls of hosted tools that the model asked for, each told once."""
        calls = [ToolCall("", call.name, "".join(call.pieces) or "{}") for call in self._hosted.values()]
        self._hosted.clear()
        return calls

    def reopen(self, index: int, item: FoldedItem) -> bool:
        """Takes an item that a log left open, if it is a call's."""
        kind = _KINDS.get(item.type)
        if kind is None:
            return False
        call = _OpenCall(kind, item, index)
        # What a log has of a custom tool's input is whole (docs/log.md, I9).
        call.whole = kind is CUSTOM and bool(item.pieces)
        # No upstream uses negative keys: a model call that follows begins its own calls.
        self._open[-1 - index] = call
        return True

    def grow(self, delta: CallDelta) -> None:
        """Takes a piece."""
        if delta.key in self._deaf:
            return
        if delta.key in self._hosted:
            self._hosted[delta.key].pieces.append(delta.arguments)
            return
        call = self._open.get(delta.key) or self._begin(delta)
        if call is None:
            return
        if delta.arguments:
            self._say(call, delta.arguments)
        call.whole = call.whole or delta.whole

    def _may_begin(self, name: str) -> bool:
        """A call beyond what the request allows is not made (reference 5.3: suppressed)."""
        if self.may_call.allowed is not None and name not in self.may_call.allowed:
            return False
        return self.may_call.parallel or not self._called

    def _begin(self, delta: CallDelta) -> _OpenCall | None:
        name = delta.name or ""
        if not self._may_begin(name):
            self._deaf.add(delta.key)
            return None
        self._called = True
        self._before()
        self.close_whole()
        if name in self.may_call.hosted:
            self._hosted[delta.key] = _HostedCall(name, [delta.arguments])
            return None
        callee = self.may_call.callees.get(name) or Callee(FUNCTION, name)
        fixed = callee.fixed(delta.call_id or self._clock.new_id("call_"))
        item = self._ledger.open_item(callee.kind.item_type, self._clock.new_id(callee.kind.id_prefix), fixed)
        call = _OpenCall(callee.kind, item, self._ledger.index(item))
        self._open[delta.key] = call
        return call

    def _say(self, call: _OpenCall, piece: str) -> None:
        call.item.pieces.append(piece)
        if call.template is not None:
            self._ledger.emit(call.template.event(self._ledger.number, piece))

    # --- How calls end ---

    def close_whole(self) -> None:
        """Items are streamed one after another; a call whose pieces still come interleaved stays open."""
        for key, call in list(self._open.items()):
            if call.is_whole:
                self._close(key, "completed")
                self._deaf.add(key)

    def end_turn(self, cut_index: int | None) -> None:
        """The model call is over.  Of several open calls only that of the last item was cut, if the model was."""
        for key, call in list(self._open.items()):
            broken = call.place.output_index == cut_index and not call.is_whole
            self._close(key, "incomplete" if broken else "completed")
        self._deaf.clear()
        self._called = False

    def give_up(self) -> None:
        """Nobody goes on with what is open: it is closed as it was seen."""
        for key, call in list(self._open.items()):
            self._close(key, "completed" if call.is_whole else "incomplete")

    def _close(self, key: int, status: str) -> None:
        call = self._open.pop(key)
        if call.kind is FUNCTION and not call.item.pieces and status == "completed":
            # No arguments at all: clients parse the string, and the empty one is no JSON.
            self._say(call, "{}")
        if call.kind is SEARCH:
            call.item.fixed = {**call.item.fixed, "arguments": format_object(call.said)}
        elif call.item.pieces or status == "completed":
            self._end_text(call)
        self._ledger.done(call.item, status)

    def _end_text(self, call: _OpenCall) -> None:
        members = {call.kind.member: encode(call.said)}
        if call.kind is FUNCTION:
            members["name"] = call.item.fixed["name"]
        self._ledger.emit(placed(f"{call.kind.event}.done", self._ledger.number, call.place, **members))


def _is_object(text: str) -> bool:
    """Whether arguments are whole: after a JSON object nothing can follow, after ``1`` a ``2`` can."""
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def format_object(text: str) -> bytes:
    """Arguments that are told as a value, on one line: what the model said, or nothing where it is no object."""
    try:
        return msgspec.json.format(text.encode(), indent=-1) if _is_object(text) else b"{}"
    except (msgspec.DecodeError, UnicodeEncodeError):
        return b"{}"
