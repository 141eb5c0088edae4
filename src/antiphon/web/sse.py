"""Events to the bytes of an event stream.

LF only, each event whole in one write, ``data: [DONE]`` at the end.
Must not know how events are made.  Wire rules: reference 8; obfuscation: design decision 16.
"""

from hashlib import blake2b

from antiphon.protocol.events import Event
from antiphon.web.transport import Connection

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"


def encode(events: list[Event]) -> bytes:
    """The events as they go over the wire."""
    if len(events) == 1:
        event = events[0]
        return b"event: %b\ndata: %b\n\n" % (event.type.encode(), event.data)
    return b"".join([b"event: %b\ndata: %b\n\n" % (event.type.encode(), event.data) for event in events])


#: The events that carry ``obfuscation``, and the bytes of each from the name of its delta on that are not the delta.
_PADDED = {
    "response.output_text.delta": len(b'"delta":"","logprobs":[]}'),
    **dict.fromkeys(
        (
            "response.refusal.delta",
            "response.reasoning_text.delta",
            "response.reasoning.delta",
            "response.reasoning_summary_text.delta",
            "response.function_call_arguments.delta",
            "response.custom_tool_call_input.delta",
            "response.mcp_call_arguments.delta",
            "response.code_interpreter_call_code.delta",
            "response.shell_call_command.delta",
        ),
        len(b'"delta":""}'),
    ),
}
#: What is quantised: a delta and its obfuscation together are a multiple of so many bytes long, and nearly every token
#: then has one length.  So does the official API, as streams recorded of it show; it counts characters, and what can be
#: seen of an encrypted stream is bytes.
QUANTUM = 16


class Padding:
    """Hides from whoever sees the lengths of packets how long the deltas of one response are.

    ``obfuscation`` is a keyed hash of the response and the event's number, cut to length: it is no part of the log, and
    yet the same whenever and by whichever node an event is read.  ``key``: at most 64 bytes.
    """

    def __init__(self, key: bytes, response_id: str) -> None:
        self._begun = blake2b(response_id.encode(), key=key, digest_size=QUANTUM // 2)

    def encode(self, events: list[Event]) -> bytes:
        """The events as they go over the wire, padded."""
        blocks = []
        for number, kind, data in events:
            fixed = _PADDED.get(kind)
            if fixed is not None:
                data = self._padded(number, data, fixed)
            blocks.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        return b"".join(blocks)

    def _padded(self, number: int, data: bytes, fixed: int) -> bytes:
        short = (data.find(b'"delta":"') + fixed - len(data)) % QUANTUM
        chance = self._begun.copy()
        chance.update(b"/%d" % number)
        return b'%b,"obfuscation":"%b"}' % (data[:-1], chance.hexdigest()[:short].encode())


class SseOutlet:
    """The client of one event stream; ``padding``: what it asked to have its events padded with."""

    def __init__(self, connection: Connection, padding: Padding | None = None) -> None:
        self.flow = connection
        self._connection = connection
        self._encode = encode if padding is None else padding.encode

    def write(self, events: list[Event]) -> None:
        self._connection.write(self._encode(events))

    def end(self, *, whole: bool) -> None:
        if whole:
            self._connection.write(DONE)
        else:
            self._connection.drop()  # clients must see that something is missing

    def keep_alive(self, repeated: Event | None) -> None:
        """The comment is for proxies."""
        self._connection.write(_COMMENT + (b"" if repeated is None else encode([repeated])))
