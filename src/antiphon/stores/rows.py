"""What every store writes and reads alike: how columns are encoded, and which response may be continued.

Must not know of a database.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult
from antiphon.protocol.errors import ApiError, invalid, quoted
from antiphon.protocol.events import Event
from antiphon.protocol.responses import UNFINISHED, Outcome

#: Stands between the events of a row: the one byte that JSON never holds (RFC 7464 uses it so).
SEPARATOR = b"\x1e"
#: Uncompressed bytes of a packed row at the most, unless one batch alone was larger: a page of a huge log stays cheap.
PACK_BYTES = 1 << 20
#: What one call of ``Store.events`` reads at the most: batches as they were written, and about as many bytes.
EVENT_BATCHES_MAX, EVENT_BYTES_MAX = 1000, 1 << 20
#: Responses removed by one transaction of the expiry.
EXPIRE_BATCH = 200
#: Bytes of a secret that is made.
SECRET_BYTES = 32

#: Of responses with the same context, in how many of the newest a beginning is looked for.
ALIKE_MAX = 32

#: Statuses behind which a response, or a conversation, goes on.
CONTINUABLE = ("completed", "incomplete")
_result = msgspec.json.Decoder(tuple[dict[str, Any], str, bool])
_call = msgspec.json.Decoder(tuple[str, str, str])

decode_outcome = msgspec.json.Decoder(Outcome).decode
#: Large members of a response's shell by name: their JSON text, or the number of a blob.
decode_large = msgspec.json.Decoder(dict[str, int | str]).decode


def frames_of(events: Sequence[Event]) -> bytes:
    """Events as one column."""
    return SEPARATOR.join([event.data for event in events])


def events_of(first: int, frames: bytes, after: int) -> list[Event]:
    """The events of a column that begins with number ``first``, those above ``after``."""
    return [
        Event(number, _type_of(data), data)
        for number, data in enumerate(frames.split(SEPARATOR), first)
        if number > after
    ]


class Pack(NamedTuple):
    """A compressed row of an ended log: events ``first`` to ``last``; ``size`` is what they are uncompressed."""

    first: int
    last: int
    frames: bytes
    size: int


def packs_of(rows: Iterable[tuple[int, int, bytes]]) -> Iterator[Pack]:
    """An ended log packed: its rows of first number, last number and frames, in their order, several in one.

    Takes no row before it is needed and holds one pack at a time.  Rows stay whole, so that each pack can replace its
    own apart from the others.  Compressing lets other threads run.
    """
    first, last, size = 0, -1, 0
    parts: list[bytes] = []
    for begins, ends, frames in rows:
        if parts and size + len(frames) > PACK_BYTES:
            yield _packed(first, last, parts)
            parts, size = [], 0
        if not parts:
            first = begins
        parts.append(frames)
        last, size = ends, size + len(frames) + 1
    if parts:
        yield _packed(first, last, parts)


def _packed(first: int, last: int, parts: list[bytes]) -> Pack:
    frames = SEPARATOR.join(parts)
    return Pack(first, last, zlib.compress(frames), len(frames))


def unpacked(frames: bytes, packed: bool | int) -> bytes:
    """The frames of a row as they were written."""
    return zlib.decompress(frames) if packed else frames


def _type_of(data: bytes) -> str:
    """Every event begins with its type (``protocol.events``)."""
    return data[9 : data.index(b'"', 9)].decode()


def _result_of(data: bytes | None) -> ToolResult | None:
    """A hosted call's result as the journal keeps it."""
    return None if data is None else ToolResult(*_result.decode(data))


def noted_of(intent: bytes, result: bytes | None) -> Noted:
    """A hosted call as the journal keeps it."""
    return Noted(ToolCall(*_call.decode(intent)), _result_of(result))


def unknown_cursor(item: str, owner: str, param: str) -> ApiError:
    """400 for a page that begins at an item which a response, or a conversation, does not have (reference 1.1)."""
    return invalid(f"Item with id '{quoted(item)}' not found among the items of '{quoted(owner)}'.", param)


def check_continuable(response: str, status: str) -> None:
    """400 for a response that is not finished, or whose span never stands in a later context."""
    if status in CONTINUABLE:
        return
    if status in UNFINISHED:
        text = f"Previous response with id '{response}' is still {status}; wait until it is completed."
    else:
        text = (
            f"Previous response with id '{response}' cannot be continued because its status is '{status}'. "
            "Continue from the response before it."
        )
    raise invalid(text, "previous_response_id", "invalid_value")
