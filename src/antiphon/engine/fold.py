"""Events in, Response out.

``Fold`` is the one account of what a stream of events has said so far.  ``draft`` keeps its own state in it, and
readers of a log rebuild the same state with ``apply``, so the two cannot disagree.
Must not know who makes events or who reads them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

encode = msgspec.json.encode


class FoldedPart:
    """A growing part: text, refusal, raw reasoning or a summary of it."""

    __slots__ = ("annotations", "done", "kind", "logprobs", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.logprobs: list[bytes] = []
        self.annotations: list[bytes] = []
        self.done = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def logprobs_json(self) -> bytes:
        """All logprobs of the part as one array; each piece is an array of its own."""
        return b"[" + b",".join(piece[1:-1] for piece in self.logprobs if len(piece) > 2) + b"]"

    def json(self) -> bytes:
        """The part as it stands (reference 6.2)."""
        text = encode(self.text)
        if self.kind == "output_text":
            annotations = b"[" + b",".join(self.annotations) + b"]"
            members = (text, annotations, self.logprobs_json())
            return b'{"type":"output_text","text":%b,"annotations":%b,"logprobs":%b}' % members
        name = b"refusal" if self.kind == "refusal" else b"text"
        return b'{"type":"%b","%b":%b}' % (self.kind.encode(), name, text)


class FoldedItem:
    """A growing output item.  ``fixed`` are its members that do not grow, as JSON."""

    __slots__ = ("body", "fixed", "id", "parts", "pieces", "summary", "type")

    def __init__(self, type: str, id: str, fixed: Mapping[str, bytes]) -> None:
        self.type = type
        self.id = id
        self.fixed = fixed
        self.parts: list[FoldedPart] = []
        self.summary: list[FoldedPart] = []
        self.pieces: list[str] = []
        self.body: bytes | None = None

    def json(self, status: str) -> bytes:
        """The item as it stands, with this status."""
        head = b'{"id":%b,"type":"%b","status":"%b"' % (encode(self.id), self.type.encode(), status.encode())
        fixed = b"".join(b',"%b":%b' % (name.encode(), value) for name, value in self.fixed.items())
        return head + fixed + self._grown() + b"}"

    def _grown(self) -> bytes:
        if self.type in _CALLS:
            return b',"%b":%b' % (_CALLS[self.type], encode("".join(self.pieces)))
        content = b",".join(part.json() for part in self.parts)
        if self.type == "message":
            return b',"content":[%b]' % content
        if self.type == "reasoning":
            return b',"summary":[%b],"content":[%b]' % (b",".join(part.json() for part in self.summary), content)
        return b""


class Fold:
    """The output so far, and the latest snapshot of the Response's other members."""

    def __init__(self) -> None:
        self.items: list[FoldedItem] = []
        self.snapshot: dict[str, Any] | None = None

    def add_item(self, type: str, id: str, fixed: Mapping[str, bytes]) -> FoldedItem:
        """Opens an item behind the last one."""
        item = FoldedItem(type, id, fixed)
        self.items.append(item)
        return item

    def bodies(self) -> list[bytes]:
        """All items as JSON; an open one shows as in progress."""
        return [item.body or item.json("in_progress") for item in self.items]

    def output(self) -> bytes:
        """All items as a JSON array."""
        return b"[" + b",".join(self.bodies()) + b"]"

    def apply(self, event: Mapping[str, Any]) -> None:
        """Takes one event of a log.  Types that change nothing in the Response are passed over."""
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event)

    def response(self) -> dict[str, Any]:
        """The Response that the events tell."""
        assert self.snapshot is not None, "a log begins with response.created"
        return {**self.snapshot, "output": msgspec.json.decode(self.output())}

    def _lifecycle(self, event: Mapping[str, Any]) -> None:
        self.snapshot = event["response"]

    def _item_added(self, event: Mapping[str, Any]) -> None:
        item = event["item"]
        grown = _GROWN.get(item["type"], ())
        fixed = {name: encode(value) for name, value in item.items() if name not in (*_HEAD, *grown)}
        self.add_item(item["type"], item["id"], fixed)

    def _item_done(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].body = encode(event["item"])

    def _part_added(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].parts.append(FoldedPart(event["part"]["type"]))

    def _part_done(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].parts[event["content_index"]].done = True

    def _part_grew(self, event: Mapping[str, Any]) -> None:
        part = self.items[event["output_index"]].parts[event["content_index"]]
        part.pieces.append(event["delta"])
        if event.get("logprobs"):
            part.logprobs.append(encode(event["logprobs"]))

    def _annotated(self, event: Mapping[str, Any]) -> None:
        part = self.items[event["output_index"]].parts[event["content_index"]]
        part.annotations.append(encode(event["annotation"]))

    def _summary_added(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].summary.append(FoldedPart(event["part"]["type"]))

    def _summary_done(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].summary[event["summary_index"]].done = True

    def _summary_grew(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].summary[event["summary_index"]].pieces.append(event["delta"])

    def _call_grew(self, event: Mapping[str, Any]) -> None:
        self.items[event["output_index"]].pieces.append(event["delta"])


_HEAD = ("id", "type", "status")
#: Members that events make grow, by the item's type; every other is fixed from the start.
_GROWN = {
    "message": ("content",),
    "reasoning": ("summary", "content"),
    "function_call": ("arguments",),
    "custom_tool_call": ("input",),
}
#: The member of a call that grows.
_CALLS = {"function_call": b"arguments", "custom_tool_call": b"input"}

_HANDLERS: dict[str, Callable[[Fold, Mapping[str, Any]], None]] = {
    "response.created": Fold._lifecycle,
    "response.queued": Fold._lifecycle,
    "response.in_progress": Fold._lifecycle,
    "response.completed": Fold._lifecycle,
    "response.incomplete": Fold._lifecycle,
    "response.failed": Fold._lifecycle,
    "response.output_item.added": Fold._item_added,
    "response.output_item.done": Fold._item_done,
    "response.content_part.added": Fold._part_added,
    "response.content_part.done": Fold._part_done,
    "response.output_text.delta": Fold._part_grew,
    "response.output_text.annotation.added": Fold._annotated,
    "response.reasoning_summary_part.added": Fold._summary_added,
    "response.reasoning_summary_part.done": Fold._summary_done,
    "response.reasoning_summary_text.delta": Fold._summary_grew,
    "response.refusal.delta": Fold._part_grew,
    "response.reasoning_text.delta": Fold._part_grew,
    "response.function_call_arguments.delta": Fold._call_grew,
    "response.custom_tool_call_input.delta": Fold._call_grew,
}
