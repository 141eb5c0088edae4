"""Server-sent events out of bytes, however those were cut, and the JSON in them.

Pure.  Must not know what any event means.
"""

from typing import NamedTuple, TypeVar

import msgspec

from antiphon.engine.deltas import Delta
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.mending import mended

T = TypeVar("T")

#: One line of a stream at the most, and the lines of one event's data together.
LINE_MAX = 16 * 1024 * 1024


class SentEvent(NamedTuple):
    """One event: its name, empty where it has none, and its data."""

    name: bytes
    data: bytes


class EventStream:
    """Events in the order of their blank lines.  Raises ``UpstreamError`` for what is too long."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0

    def take(self, piece: bytes) -> list[SentEvent]:
        """The events that this piece completes."""
        events: list[SentEvent] = []
        end = piece.rfind(b"\n")
        if end >= 0:
            lines = piece[:end].split(b"\n")
            piece = piece[end + 1 :]
            if self._rest:
                lines[0] = b"".join([*self._rest, lines[0]])
                self._rest, self._rest_size = [], 0
            for line in lines:
                self._take_line(line, events)
        if piece:
            self._rest.append(piece)
            self._rest_size += len(piece)
            if self._rest_size > LINE_MAX:
                raise UpstreamError("The upstream sent a line that is too long.")
        return events

    def _take_line(self, line: bytes, events: list[SentEvent]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
            self._data_size += len(line)
            if self._data_size > LINE_MAX:
                raise UpstreamError("The upstream sent an event that is too long.")
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line in (b"", b"\r"):
            if any(self._data):
                events.append(SentEvent(self._name, b"\n".join(self._data)))
            self._name, self._data, self._data_size = b"", [], 0


class EventReader:
    """What readers of replies in events have in common: a stream is read until it ends or fails."""

    def __init__(self) -> None:
        #: The server has said that nothing follows.
        self.ended = False
        #: It went wrong in the middle; what was said before stands.
        self.failure: UpstreamError | None = None
        self._events = EventStream()

    @property
    def finished(self) -> bool:
        """The model has said how it ended."""
        raise NotImplementedError

    @property
    def _begun(self) -> bool:
        """There is a beginning of an answer."""
        raise NotImplementedError

    def _take(self, sent: SentEvent, said: list[Delta]) -> None:
        """Takes an event.  Raises ``UpstreamError``, or sets ``failure``, where it tells one."""
        raise NotImplementedError

    def _rest(self, said: list[Delta]) -> None:
        """What was held back of a stream that ended well."""

    def feed(self, data: bytes) -> list[Delta]:
        """What a piece of an event stream says.  Look at ``failure`` afterwards."""
        said: list[Delta] = []
        try:
            for event in self._events.take(data):
                if self.ended or self.failure is not None:
                    break
                self._take(event, said)
        except UpstreamError as error:
            self.failure = self.failure or error
        return said

    def close(self) -> list[Delta]:
        """The stream is over; what was held back.  Raises ``UpstreamError`` when it was cut."""
        said = self.feed(b"\n\n")
        if self.failure is not None:
            raise self.failure
        if not self.ended and not self.finished:
            what = "ended in the middle" if self._begun else "has no answer in it"
            raise UpstreamError(f"The upstream's stream {what}.", code="upstream_cut", retryable=True)
        self._rest(said)
        return said


def decoded(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    """JSON as the decoder wants it, mended where a server writes what is none.  Raises ``UpstreamError``."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        told: Exception = error
    again = mended(data)
    try:
        if again is not None:
            return decoder.decode(again)
    except (msgspec.DecodeError, RecursionError) as error:
        told = error
    raise UpstreamError(f"The upstream sent a malformed chunk: {told}.")
