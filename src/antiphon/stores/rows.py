"""What every store writes and reads alike: how columns are encoded, and which response may be continued.

Must not know of a database.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.ports import ToolResult
from antiphon.protocol.errors import invalid
from antiphon.protocol.events import Event
from antiphon.protocol.responses import Outcome

#: Stands between the events of a row: the one byte that JSON never holds (RFC 7464 uses it so).
SEPARATOR = b"\x1e"
#: Responses removed by one transaction of the expiry.
EXPIRE_BATCH = 200

_CONTINUABLE = ("completed", "incomplete")
_result = msgspec.json.Decoder(tuple[dict[str, Any], str, bool])

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


def _type_of(data: bytes) -> str:
    """Every event begins with its type (``protocol.events``)."""
    return data[9 : data.index(b'"', 9)].decode()


def result_of(data: bytes | None) -> ToolResult | None:
    """A hosted call's result as the journal keeps it."""
    return None if data is None else ToolResult(*_result.decode(data))


def check_continuable(response: str, status: str) -> None:
    """400 for a response that is not finished, or whose span never stands in a later context."""
    if status in _CONTINUABLE:
        return
    if status in ("queued", "in_progress"):
        text = f"Previous response with id '{response}' is still {status}; wait until it is completed."
    else:
        text = (
            f"Previous response with id '{response}' cannot be continued because its status is '{status}'. "
            "Continue from the response before it."
        )
    raise invalid(text, "previous_response_id", "invalid_value")
