"""Histories that clients send whole with each request: which of their items are in the store already.

A response keeps a rolling hash over the items of its context, once behind its input and once behind its output.  A
later request whose items begin so goes on from there, and only what is new of it is stored.
Two items are the same here when every model would see the same; ids and statuses do not count.  Must not know of SQL.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from antiphon.engine.intake import Taken
from antiphon.engine.ports.stores import Beginning

#: The hash of no items.
START = bytes(16)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode

_PARTS = ("content", "output", "summary")
#: What intake adds where clients leave it out.
_EMPTY = ("annotations", "logprobs")


class _Given(msgspec.Struct):
    id: str | None = None


_given = msgspec.json.Decoder(list[_Given])


def canonical(body: bytes) -> bytes:
    """An item in the form that is the same however a client wrote it; in its own where that cannot be read."""
    try:
        item = _decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    item.pop("id", None)
    # A call that was cut off is not shown to models.
    if item.get("status") != "incomplete" or not str(item.get("type")).endswith("_call"):
        item.pop("status", None)
    for name in _PARTS:
        parts = item.get(name)
        for part in parts if isinstance(parts, list) else ():
            _strip(part)
    return _encode({name: value for name, value in item.items() if value is not None})


def _strip(part: object) -> None:
    if isinstance(part, dict):
        for name in _EMPTY:
            if name in part and not part[name]:
                del part[name]


def roll(hash: bytes, bodies: Iterable[bytes]) -> Iterator[bytes]:
    """The hash behind each of these items, which follow those of ``hash``."""
    for body in bodies:
        hash = hashlib.sha256(hash + canonical(body)).digest()[:16]
        yield hash


def rolled(hash: bytes, items: Iterable[Taken]) -> list[bytes]:
    """The hash behind each item of a request."""
    return list(roll(hash, (item.body for item in items)))


def behind(hash: bytes, bodies: Iterable[bytes]) -> bytes:
    """The hash behind all of these items."""
    for last in roll(hash, bodies):
        hash = last
    return hash


def given_ids(raw: msgspec.Raw, items: Sequence[Taken]) -> list[str | None]:
    """Of each item the id that the client gave it; None where it has one of ours."""
    return [
        given.id if given.id == item.view.id else None for given, item in zip(_given.decode(raw), items, strict=True)
    ]


def beginnings(hashes: Sequence[bytes], ids: Sequence[str | None]) -> list[Beginning]:
    """The beginnings of a request that have these hashes, the longest first."""
    found: list[Beginning] = []
    last = None
    for place, hash in enumerate(hashes):
        last = last if ids[place] is None else place
        found.append(Beginning(hash, None, 0) if last is None else Beginning(hash, ids[last], place + 1 - last))
    return found[::-1]


def agreed(stored: Sequence[str], given: Sequence[str | None]) -> int:
    """How many items have the id in the store that the client gave them: by that one it will ask for them."""
    for place, (ours, theirs) in enumerate(zip(stored, given, strict=False)):
        if theirs is not None and theirs != ours:
            return place
    return len(stored)
