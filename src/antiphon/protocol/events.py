"""The stream events: their names and the JSON each is written as.

Delta events are made from pre-encoded templates, so that a token costs one string encoding and one join.
Must not know which event may follow which: that is the engine's ``draft``.  Shapes: reference 8.1.
"""

from typing import NamedTuple

import msgspec

encode = msgspec.json.encode


class Event(NamedTuple):
    """One numbered event: ``data`` is its JSON, ``type`` and ``number`` repeat what stands in it."""

    number: int
    type: str
    data: bytes


TERMINAL_EVENTS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    # There is no response.cancelled: the stream ends with response.failed whose status says so (reference 4.4).
    "cancelled": "response.failed",
}

TERMINAL_TYPES = frozenset(TERMINAL_EVENTS.values())


def lifecycle(type: str, number: int, snapshot: bytes) -> Event:
    """``response.created`` and its kin, around a whole Response."""
    return Event(number, type, b'{"type":"%b","sequence_number":%d,"response":%b}' % (type.encode(), number, snapshot))


def item_event(type: str, number: int, output_index: int, item: bytes) -> Event:
    """``response.output_item.added`` and ``.done``."""
    data = b'{"type":"%b","sequence_number":%d,"output_index":%d,"item":%b}' % (
        type.encode(),
        number,
        output_index,
        item,
    )
    return Event(number, type, data)


class Place(msgspec.Struct, gc=False):
    """Where in the output an event belongs; ``index_name`` is content_index or summary_index where there is one."""

    item_id: str
    output_index: int
    index_name: str | None = None
    index: int = 0

    def members(self) -> bytes:
        """The JSON members that every event at this place carries."""
        own = b'"item_id":"%b","output_index":%d' % (self.item_id.encode(), self.output_index)
        return own if self.index_name is None else own + b',"%b":%d' % (self.index_name.encode(), self.index)


def placed(type: str, number: int, place: Place, **members: bytes) -> Event:
    """An event at a place with further members, each already JSON."""
    rest = b"".join(b',"%b":%b' % (name.encode(), value) for name, value in members.items())
    data = b'{"type":"%b","sequence_number":%d,%b%b}' % (type.encode(), number, place.members(), rest)
    return Event(number, type, data)


class DeltaTemplate:
    """The fixed bytes around a delta, made once per part."""

    __slots__ = ("head", "middle", "tail", "type")

    def __init__(self, type: str, place: Place, *, logprobs: bool = False) -> None:
        self.type = type
        self.head = b'{"type":"%b","sequence_number":' % type.encode()
        self.middle = b",%b,%b" % (place.members(), b'"delta":')
        self.tail = b',"logprobs":[]}' if logprobs else b"}"

    def event(self, number: int, delta: str) -> Event:
        """One delta, on the hot path."""
        data = b"%b%d%b%b%b" % (self.head, number, self.middle, encode(delta), self.tail)
        return Event(number, self.type, data)

    def event_with_logprobs(self, number: int, delta: str, logprobs: bytes) -> Event:
        """One text delta with the logprobs of its tokens."""
        data = b'%b%d%b%b,"logprobs":%b}' % (self.head, number, self.middle, encode(delta), logprobs)
        return Event(number, self.type, data)
