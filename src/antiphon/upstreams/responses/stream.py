"""Bytes of a Responses reply into what they say, streamed or whole.

Pure: bytes in, deltas out, however the bytes were cut.  Must not know of sockets.  Ids are left behind, since items
get ours; who goes back to the upstream under its own id is wrapped with it.  Shapes: reference 6.3, 8.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

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
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.engine.progress import Progress, Told
from antiphon.protocol.items import decode_object
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.protocol.tools import Tool
from antiphon.upstreams.custom_tools import aliases_of
from antiphon.upstreams.events import EventReader, SentEvent, decoded
from antiphon.upstreams.failures import failure_within
from antiphon.upstreams.item_deltas import GROWN
from antiphon.upstreams.opaque import wrapped
from antiphon.upstreams.responses.request import Sealed

Raw = msgspec.Raw
Number = int | float | None

_NOTHING = (b"", b"null")


class _Event(msgspec.Struct, gc=False):
    """Any event: which members it has depends on its type."""

    type: str = ""
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    delta: str | dict[str, Any] | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: Any = None
    input: Any = None
    logprobs: Raw = Raw()
    annotation: Raw = Raw()
    item: Raw = Raw()
    part: Raw = Raw()
    response: Raw = Raw()
    error: Raw = Raw()


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None
    logprobs: Raw = Raw()


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    status: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    content: Raw = Raw()
    summary: Raw = Raw()
    encrypted_content: str | None = None


class _ReadDetails(msgspec.Struct):
    cached_tokens: Number = None
    cache_write_tokens: Number = None


class _WriteDetails(msgspec.Struct):
    reasoning_tokens: Number = None


class _Usage(msgspec.Struct):
    input_tokens: Number = None
    output_tokens: Number = None
    total_tokens: Number = None
    input_tokens_details: _ReadDetails | None = None
    output_tokens_details: _WriteDetails | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    error: Raw = Raw()
    incomplete_details: _Incomplete | None = None
    output: list[Raw] | None = None
    usage: _Usage | None = None


_event = msgspec.json.Decoder(_Event)
_part = msgspec.json.Decoder(_Part)
_parts: msgspec.json.Decoder[list[Raw]] = msgspec.json.Decoder(list[Raw])
_item = msgspec.json.Decoder(_Item)
_response = msgspec.json.Decoder(_Response)

#: Why a reply is incomplete; every other reason is a limit as well.
_REASONS = {"content_filter": "content_filter"}
#: Members of an event that are the sender's own count.
_PLACES = frozenset({"type", "sequence_number", "output_index", "item_id", "obfuscation"})
_HEAD = frozenset({"id", "type", "status"})
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}

_Place = tuple[int, str, int]


class _Seen:
    """What was said of an item."""

    __slots__ = ("called", "done", "held", "progress", "type")

    def __init__(self, type: str) -> None:
        self.type = type
        self.progress = Progress(type)
        self.called = False
        self.done = False
        #: Pieces of a call that has no name yet.
        self.held: list[str] = []


class Reply(EventReader):
    """What a reply to a request with these tools has said so far, beyond what was handed on.

    ``maker``: who made its encrypted content.
    """

    def __init__(self, maker: str = "", tools: Sequence[Tool] = ()) -> None:
        super().__init__()
        self._maker = maker
        self._aliases = aliases_of(tools)
        self._items: dict[int, _Seen] = {}
        self._by_id: dict[str, int] = {}
        #: How many annotations of each part that has grown were told; -1: it is whole.
        self._grown: dict[_Place, int] = {}
        self._response: _Response | None = None

    @property
    def finished(self) -> bool:
        """The model has said how it ended."""
        return self._response is not None

    @property
    def _begun(self) -> bool:
        return bool(self._items)

    def whole(self, data: bytes) -> list[Delta]:
        """What a reply says that was not streamed.  Raises ``UpstreamError``."""
        said: list[Delta] = []
        response = decoded(_response, data)
        if response.status is None:
            if bytes(response.error) not in _NOTHING:
                raise failure_within(data, own_params=True)
            raise UpstreamError("The upstream's reply has no answer in it.")
        self._end(response, said)
        if self.failure is not None:
            raise self.failure
        return said

    def stop(self) -> Stop:
        """How the model call ended."""
        response = self._response or _Response()
        usage = _usage(response.usage)
        if response.status != "incomplete":
            return Stop("stop", usage)
        reason = response.incomplete_details.reason if response.incomplete_details else None
        return Stop(_REASONS.get(reason or "", "length"), usage)

    # --- Events ---

    def _take(self, sent: SentEvent, said: list[Delta]) -> None:
        if sent.data == b"[DONE]":
            return
        if sent.name == b"error":
            raise failure_within(sent.data, own_params=True)
        event = decoded(_event, sent.data)
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event, said)
        elif event.type == "error" or bytes(event.error) not in _NOTHING:
            raise failure_within(sent.data, own_params=True)
        elif event.type.startswith("response."):
            self._pass_on(event, sent.data, said)

    def _index(self, event: _Event) -> int:
        """Whose event it is; servers that do not count their items (llama.cpp) name them."""
        if event.output_index is not None:
            return event.output_index
        return self._by_id.get(event.item_id or "", len(self._items) - 1)

    def _pass_on(self, event: _Event, data: bytes, said: list[Delta]) -> None:
        """What only concerns an item that nobody here understands."""
        index = self._index(event)
        seen = self._items.get(index)
        if seen is not None and not seen.done and seen.type not in GROWN:
            members = {name: bytes(raw) for name, raw in decode_object(data).items() if name not in _PLACES}
            told = seen.progress.told(Told(event.type, members))
            said += [ItemEvent(index, one.type, one.members) for one in told]

    # --- Items ---

    def _item_added(self, event: _Event, said: list[Delta]) -> None:
        item = decoded(_item, bytes(event.item))
        index = event.output_index if event.output_index is not None else len(self._items)
        if index not in self._items:
            self._open(index, item, bytes(event.item), said)

    def _open(self, index: int, item: _Item, raw: bytes, said: list[Delta]) -> _Seen:
        seen = self._items[index] = _Seen(item.type)
        if item.id is not None:
            self._by_id[item.id] = index
        if item.type in _CALLS:
            self._call(index, seen, item, "", said)
        else:
            members = _members(item.type, raw)
            members.pop("encrypted_content", None)
            said.append(ItemDelta(index, item.type, seen.progress.begun(members)))
        return seen

    def _call(self, index: int, seen: _Seen, item: _Item, rest: str, said: list[Delta]) -> None:
        """A call begins as soon as its name is known."""
        if not seen.called and item.name:
            seen.called = True
            held, seen.held = "".join(seen.held), []
            name = self._aliases.get(item.name, item.name)
            said.append(CallDelta(index, item.call_id, name, held + rest))
        elif rest:
            self._grow_call(index, seen, rest, said)

    def _grow_call(self, index: int, seen: _Seen, piece: str, said: list[Delta]) -> None:
        if seen.called:
            said.append(CallDelta(index, None, None, piece))
        else:
            seen.held.append(piece)

    def _item_done(self, event: _Event, said: list[Delta]) -> None:
        item = decoded(_item, bytes(event.item))
        index = event.output_index
        if index is None:
            index = self._by_id.get(item.id or "", len(self._items))
        self._finish(index, item, bytes(event.item), said)

    def _finish(self, index: int, item: _Item, raw: bytes, said: list[Delta]) -> None:
        """An item as it is in the end: what of it was not said yet is said now."""
        seen = self._items.get(index) or self._open(index, item, raw, said)
        if seen.done:
            return
        seen.done = True
        if item.type in _CALLS:
            self._finish_call(index, seen, item, said)
            return
        for name in GROWN.get(item.type, ()):
            field = bytes(getattr(item, name))
            parts: list[Raw] = [] if field in _NOTHING else decoded(_parts, field)
            for number, part in enumerate(parts):
                self._finish_part((index, name, number), bytes(part), said)
        members = _members(item.type, raw)
        if item.encrypted_content is not None:
            sealed = Sealed(item.id or "", item.encrypted_content)
            members["encrypted_content"] = msgspec.json.encode(wrapped(self._maker, sealed))
        status = item.status or "completed"
        said += [ItemEvent(index, one.type, one.members) for one in seen.progress.rest(members, status)]
        said.append(ItemDelta(index, item.type, members, status))

    def _finish_call(self, index: int, seen: _Seen, item: _Item, said: list[Delta]) -> None:
        whole = _text(item.input if item.type == "custom_tool_call" else item.arguments)
        grown = (index, "call", 0) in self._grown
        self._call(index, seen, item, "" if grown else whole, said)
        if not seen.called:
            raise UpstreamError("The upstream sent a tool call without a name.")
        if item.status != "incomplete":
            said.append(CallDelta(index, None, None, "", whole=True))

    # --- Parts ---

    def _part_done(self, event: _Event, said: list[Delta]) -> None:
        self._finish_part((self._index(event), "content", event.content_index or 0), bytes(event.part), said)

    def _summary_part_done(self, event: _Event, said: list[Delta]) -> None:
        self._finish_part((self._index(event), "summary", event.summary_index or 0), bytes(event.part), said)

    def _finish_part(self, place: _Place, raw: bytes, said: list[Delta]) -> None:
        told = self._grown.get(place, 0)
        if told < 0:
            return
        part = decoded(_part, raw)
        if place not in self._grown:
            self._say_whole(place, part, said)
        said += [AnnotationDelta(bytes(one)) for one in (part.annotations or ())[told:]]
        said.append(PartEnd())
        self._grown[place] = -1

    def _say_whole(self, place: _Place, part: _Part, said: list[Delta]) -> None:
        if part.type == "refusal":
            said.append(RefusalDelta(part.refusal or ""))
        elif place[1] == "summary":
            said.append(SummaryDelta(part.text or ""))
        elif part.type == "reasoning_text":
            said.append(ReasoningDelta(part.text or ""))
        elif part.text is not None:
            said.append(TextDelta(part.text, _logprobs(part.logprobs)))

    def _grow(self, event: _Event, kind: str, number: int | None) -> str:
        """The piece of text in an event, which is noted as said."""
        self._grown.setdefault((self._index(event), kind, number or 0), 0)
        return event.delta if isinstance(event.delta, str) else ""

    def _text_grew(self, event: _Event, said: list[Delta]) -> None:
        said.append(TextDelta(self._grow(event, "content", event.content_index), _logprobs(event.logprobs)))

    def _refusal_grew(self, event: _Event, said: list[Delta]) -> None:
        said.append(RefusalDelta(self._grow(event, "content", event.content_index)))

    def _reasoning_grew(self, event: _Event, said: list[Delta]) -> None:
        said.append(ReasoningDelta(self._grow(event, "content", event.content_index)))

    def _summary_grew(self, event: _Event, said: list[Delta]) -> None:
        said.append(SummaryDelta(self._grow(event, "summary", event.summary_index)))

    def _call_grew(self, event: _Event, said: list[Delta]) -> None:
        index = self._index(event)
        seen = self._items.get(index)
        if seen is None or seen.type not in _CALLS:
            return
        piece = self._grow(event, "call", 0)
        if piece:
            self._grow_call(index, seen, piece, said)

    def _annotated(self, event: _Event, said: list[Delta]) -> None:
        place = (self._index(event), "content", event.content_index or 0)
        self._grown[place] = self._grown.get(place, 0) + 1
        said.append(AnnotationDelta(bytes(event.annotation)))

    # --- The end ---

    def _ended(self, event: _Event, said: list[Delta]) -> None:
        self._end(decoded(_response, bytes(event.response)), said)

    def _end(self, response: _Response, said: list[Delta]) -> None:
        """Items that no event told are in the final Response, which is all that some servers send."""
        self.ended = True
        if response.status in ("failed", "cancelled"):
            self.failure = self._failure(response)
            return
        if response.status not in ("completed", "incomplete"):
            self.failure = UpstreamError(f"The upstream ended with the status '{response.status}'.")
            return
        for index, raw in enumerate(response.output or ()):
            item = decoded(_item, bytes(raw))
            self._finish(self._by_id.get(item.id or "", index), item, bytes(raw), said)
        self._response = response

    def _failure(self, response: _Response) -> UpstreamError:
        if bytes(response.error) in _NOTHING:
            return UpstreamError(f"The upstream's response has the status '{response.status}'.", status=500)
        return failure_within(bytes(response.error), own_params=True)


_HANDLERS: dict[str, Callable[[Reply, _Event, list[Delta]], None]] = {
    "response.output_item.added": Reply._item_added,
    "response.output_item.done": Reply._item_done,
    "response.content_part.done": Reply._part_done,
    "response.output_text.delta": Reply._text_grew,
    "response.output_text.annotation.added": Reply._annotated,
    "response.refusal.delta": Reply._refusal_grew,
    "response.reasoning_text.delta": Reply._reasoning_grew,
    "response.reasoning.delta": Reply._reasoning_grew,
    "response.reasoning_summary_text.delta": Reply._summary_grew,
    "response.reasoning_summary_part.done": Reply._summary_part_done,
    "response.function_call_arguments.delta": Reply._call_grew,
    "response.custom_tool_call_input.delta": Reply._call_grew,
    "response.completed": Reply._ended,
    "response.incomplete": Reply._ended,
    "response.failed": Reply._ended,
}


def _members(kind: str, raw: bytes) -> dict[str, bytes]:
    """What of an item does not grow by deltas, without what is ours to say."""
    left_out = _HEAD | frozenset(GROWN.get(kind, ()))
    return {name: bytes(value) for name, value in decode_object(raw).items() if name not in left_out}


def _text(told: Any) -> str:
    """A string, or with some servers the object itself."""
    if told is None or isinstance(told, str):
        return told or ""
    return msgspec.json.encode(told).decode("utf-8", "replace")


def _logprobs(raw: Raw) -> bytes | None:
    return None if bytes(raw) in (b"", b"null", b"[]") else bytes(raw)


def _usage(told: _Usage | None) -> Usage | None:
    if told is None or not (told.input_tokens or told.output_tokens):
        return None
    before = told.input_tokens_details or _ReadDetails()
    after = told.output_tokens_details or _WriteDetails()
    read, written = _count(told.input_tokens), _count(told.output_tokens)
    details = InputDetails(_count(before.cached_tokens), _count(before.cache_write_tokens))
    return Usage(read, details, written, OutputDetails(_count(after.reasoning_tokens)), read + written)


def _count(told: Number) -> int:
    return max(0, int(told or 0))
