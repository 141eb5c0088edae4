"""Messages of WebSocket mode, and the events that only it has.

Must not know how messages travel.  Shapes: reference 11.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from antiphon.protocol.decoding import decode, members_of
from antiphon.protocol.errors import ApiError, bad_choice, invalid, missing
from antiphon.protocol.events import Event
from antiphon.protocol.requests import CreateResponse, Overlay, read_create

CREATE, STEER = "response.create", "response.steer"

encode = msgspec.json.encode
_string = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_NULL = msgspec.Raw(b"null")
#: What a message has beside the members of a request over HTTP.  A stream is what every response is here.
_ENVELOPE = ("type", "stream_id", "generate", "stream")


class Told(NamedTuple):
    """A message: its type and its members as they came."""

    kind: str
    members: Mapping[str, msgspec.Raw]

    def text(self, name: str) -> str | None:
        """A member that is a string; None for anything else."""
        try:
            return _string.decode(self.members.get(name, _NULL))
        except msgspec.ValidationError:
            return None

    def create(self, overlay: Overlay) -> CreateResponse:
        """The checked request of a ``response.create``.  Raises ``ApiError`` 400."""
        if bytes(self.members.get("stream_id", _NULL)) != b"null":
            message = "Unsupported parameter: 'stream_id'. Responses of this connection are made one after another."
            raise invalid(message, "stream_id", "unsupported_parameter")
        generate = decode(_flag, self.members.get("generate", _NULL), "generate") is not False
        members = {name: value for name, value in self.members.items() if name not in _ENVELOPE}
        request = read_create(encode({**members, "stream": True}), overlay, generate=generate)
        if request.background and not generate:
            raise invalid("'background' is only allowed when 'generate' is true.", "background", "unsupported_value")
        return request


def read_message(text: bytes) -> Told:
    """Raises ``ApiError`` 400."""
    _, members = members_of(text)
    if "type" not in members:
        raise missing("type")
    kind = decode(_string, members["type"], "type")
    if kind not in (CREATE, STEER):
        raise bad_choice("type", kind, (CREATE, STEER))
    return Told(kind, members)


def error_event(error: ApiError, stream_id: str | None, headers: Mapping[str, str]) -> bytes:
    """What HTTP says by a status, a body and headers (reference 11.2)."""
    told = {"type": error.type, "code": error.code or error.type, "message": error.message, "param": error.param}
    lane = {} if stream_id is None else {"stream_id": stream_id}
    return encode({"type": "error", "status": error.status, **lane, "error": {**told, "headers": headers}})


def steering_refused(told: Told) -> bytes:
    """Steering is not supported; its input goes back for the client's next request (reference 11.6)."""
    message = "Steering is not supported. Send the input in a 'response.create' when the response is complete."
    error = {"type": "invalid_request_error", "code": "steering_not_supported", "message": message}
    lane = {"stream_id": told.text("stream_id")} if told.text("stream_id") else {}
    steer = {
        "previous_response_id": told.text("previous_response_id") or "",
        "input": told.members.get("input", msgspec.Raw(b'""')),
    }
    return encode({"type": "response.steer.failed", "sequence_number": 0, **lane, "error": error, "steer": steer})


def with_headers(events: Sequence[Event], headers: Mapping[str, str]) -> list[bytes]:
    """The events of a response from the first on, which carries what HTTP says in headers."""
    first, *rest = [event.data for event in events]
    return [b'%b,"headers":%b}' % (first[:-1], encode(headers)), *rest]
