"""Bytes of a messages reply into what they say, streamed or whole.

Pure: bytes in, deltas out, however the bytes were cut.  Must not know of sockets.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from antiphon.engine.deltas import CallDelta, Delta, ItemDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.protocol.tools import Tool
from antiphon.upstreams.custom_tools import InputReader, aliases_of, customs_of
from antiphon.upstreams.events import EventReader, SentEvent, decoded
from antiphon.upstreams.failures import failure_within
from antiphon.upstreams.opaque import wrapped

Raw = msgspec.Raw
Number = int | float | None

_NOTHING = (b"", b"null", b"{}")


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Number = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Number = None
    cache_creation_input_tokens: Number = None
    cache_read_input_tokens: Number = None
    output_tokens: Number = None
    output_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct, gc=False):
    type: str = ""
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    message: Raw = Raw()
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Raw = Raw()


_event = msgspec.json.Decoder(_Event)
_message = msgspec.json.Decoder(_Message)

#: Reasons that mean more than that the model was done.
_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class _Open:
    """A block that grows: a call, or a thought that goes back as it was."""

    __slots__ = ("block", "grown", "input", "signature", "thought")

    def __init__(self, block: _Block) -> None:
        self.block = block
        self.grown = False
        #: What gets the input out of the arguments of a custom tool.
        self.input: InputReader | None = None
        self.thought: list[str] = []
        self.signature: list[str] = []


class Reply(EventReader):
    """What a reply to a request with these tools has said so far, beyond what was handed on.

    ``maker``: who signs its thoughts.
    """

    def __init__(self, maker: str = "", tools: Sequence[Tool] = ()) -> None:
        super().__init__()
        self._maker = maker
        self._customs = customs_of(tools)
        self._aliases = aliases_of(tools)
        self._started = False
        self._open: dict[int, _Open] = {}
        self._reason: str | None = None
        self._usage = _Usage()

    @property
    def finished(self) -> bool:
        """The model has said how it ended."""
        return self._reason is not None

    @property
    def _begun(self) -> bool:
        return self._started

    def _rest(self, said: list[Delta]) -> None:
        for index in list(self._open):
            self._end_block(index, said)

    def whole(self, data: bytes) -> list[Delta]:
        """What a reply says that was not streamed.  Raises ``UpstreamError``."""
        said: list[Delta] = []
        message = decoded(_message, data)
        if message.type == "error":
            raise failure_within(data)
        if message.content is None:
            raise UpstreamError("The upstream's reply has no answer in it.")
        for index, block in enumerate(message.content):
            self._begin_block(index, block, said)
            self._end_block(index, said)
        self._heed(message.usage)
        self._reason = message.stop_reason or "end_turn"
        self.ended = True
        return said

    def stop(self) -> Stop:
        """How the model call ended."""
        return Stop(_REASONS.get(self._reason or "", "stop"), _usage(self._usage))

    # --- Events ---

    def _take(self, sent: SentEvent, said: list[Delta]) -> None:
        if sent.name == b"error":
            raise failure_within(sent.data)
        event = decoded(_event, sent.data)
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event, said)
        elif event.type == "error" or bytes(event.error) not in _NOTHING:
            raise failure_within(sent.data)

    def _message_started(self, event: _Event, said: list[Delta]) -> None:  # noqa: ARG002 - one of the handlers
        self._started = True
        if bytes(event.message) not in _NOTHING:
            self._heed(decoded(_message, bytes(event.message)).usage)

    def _block_started(self, event: _Event, said: list[Delta]) -> None:
        self._started = True
        if event.content_block is not None:
            self._begin_block(event.index, event.content_block, said)

    def _block_grew(self, event: _Event, said: list[Delta]) -> None:
        if event.delta is not None:
            self._grow_block(event.index, event.delta, said)

    def _block_stopped(self, event: _Event, said: list[Delta]) -> None:
        self._end_block(event.index, said)

    def _message_changed(self, event: _Event, said: list[Delta]) -> None:  # noqa: ARG002 - one of the handlers
        self._heed(event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self._reason = event.delta.stop_reason

    def _message_stopped(self, event: _Event, said: list[Delta]) -> None:  # noqa: ARG002 - one of the handlers
        if not self._begun:
            raise UpstreamError("The upstream's stream has no answer in it.", code="upstream_cut", retryable=True)
        self._rest(said)
        self.ended = True

    def _heed(self, usage: _Usage | None) -> None:
        """The counts are those of the whole so far: the last one told counts."""
        if usage is None:
            return
        for name in _Usage.__struct_fields__:
            value = getattr(usage, name)
            if value is not None:
                setattr(self._usage, name, value)

    # --- Blocks ---

    def _begin_block(self, index: int, block: _Block, said: list[Delta]) -> None:
        """Blocks of other types are what the provider did by itself, and are no part of the answer."""
        if block.type == "text":
            if block.text:
                said.append(TextDelta(block.text))
        elif block.type in ("thinking", "redacted_thinking"):
            self._open[index] = opened = _Open(block)
            said.append(ItemDelta(index, "reasoning", {}))
            self._think(opened, block.thinking, block.signature, said)
        elif block.type == "tool_use":
            if not block.name:
                raise UpstreamError("The upstream sent a tool call without a name.")
            self._open[index] = opened = _Open(block)
            name = self._aliases.get(block.name, block.name)
            opened.input = InputReader() if name in self._customs else None
            said.append(CallDelta(index, block.id, name, ""))

    def _think(self, opened: _Open, thought: str | None, signature: str | None, said: list[Delta]) -> None:
        if thought:
            opened.thought.append(thought)
            said.append(ReasoningDelta(thought))
        if signature:
            opened.signature.append(signature)

    def _grow_block(self, index: int, delta: _Delta, said: list[Delta]) -> None:
        if delta.type == "text_delta":
            if delta.text:
                said.append(TextDelta(delta.text))
            return
        opened = self._open.get(index)
        if opened is None:
            return
        if delta.type == "input_json_delta" and opened.block.type == "tool_use":
            if delta.partial_json:
                self._grow_call(index, opened, delta.partial_json, said)
        elif delta.type in ("thinking_delta", "signature_delta"):
            self._think(opened, delta.thinking, delta.signature, said)

    def _grow_call(self, index: int, opened: _Open, piece: str, said: list[Delta]) -> None:
        opened.grown = True
        if opened.input is None:
            said.append(CallDelta(index, None, None, piece))
        elif not opened.input.whole:
            text = opened.input.feed(piece)
            if text or opened.input.whole:
                said.append(CallDelta(index, None, None, text, opened.input.whole))

    def _end_block(self, index: int, said: list[Delta]) -> None:
        opened = self._open.pop(index, None)
        if opened is None:
            return
        if opened.block.type != "tool_use":
            said.append(ItemDelta(index, "reasoning", self._kept(opened), "completed"))
            return
        if not opened.grown and bytes(opened.block.input) not in _NOTHING:
            self._grow_call(index, opened, bytes(opened.block.input).decode(), said)
        if opened.input is not None and (rest := opened.input.rest()):
            said.append(CallDelta(index, None, None, rest, whole=True))

    def _kept(self, opened: _Open) -> dict[str, bytes]:
        """The thought as the API wants it back; without a signature it takes none."""
        block: dict[str, Any] = {"type": opened.block.type}
        if opened.block.type == "redacted_thinking":
            block["data"] = opened.block.data or ""
        elif opened.signature:
            block |= {"thinking": "".join(opened.thought), "signature": "".join(opened.signature)}
        else:
            return {}
        return {"encrypted_content": msgspec.json.encode(wrapped(self._maker, block))}


_HANDLERS: dict[str, Callable[[Reply, _Event, list[Delta]], None]] = {
    "message_start": Reply._message_started,
    "content_block_start": Reply._block_started,
    "content_block_delta": Reply._block_grew,
    "content_block_stop": Reply._block_stopped,
    "message_delta": Reply._message_changed,
    "message_stop": Reply._message_stopped,
}


def _usage(told: _Usage) -> Usage | None:
    """The API counts what it read from its cache, or wrote there, beside the rest of the input."""
    cached, stored = _count(told.cache_read_input_tokens), _count(told.cache_creation_input_tokens)
    read, written = _count(told.input_tokens) + cached + stored, _count(told.output_tokens)
    if not (read or written):
        return None
    details = told.output_tokens_details or _OutputDetails()
    return Usage(
        read, InputDetails(cached, stored), written, OutputDetails(_count(details.thinking_tokens)), read + written
    )


def _count(told: Number) -> int:
    return max(0, int(told or 0))


class Continuation:
    """The rest of a reply whose begin was sent without the white space at its end, which the model may say again."""

    def __init__(self, said: str) -> None:
        self._left = said[len(said.rstrip()) :]

    def take(self, deltas: Sequence[Delta]) -> list[Delta]:
        """The deltas without it."""
        return [new for new in map(self._one, deltas) if new is not None]

    def _one(self, delta: Delta) -> Delta | None:
        if not self._left or not isinstance(delta, TextDelta):
            return delta
        text = delta.text
        while self._left and text[:1] == self._left[0]:
            text, self._left = text[1:], self._left[1:]
        self._left = "" if text else self._left
        return TextDelta(text, delta.logprobs) if text else None
