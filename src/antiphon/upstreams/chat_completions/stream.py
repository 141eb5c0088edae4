"""Bytes of a chat-completions reply into deltas, streamed or whole.

Pure: bytes in, deltas out, however the bytes were cut.  Must not know of sockets.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from antiphon.engine.ports import CallDelta, Delta, ReasoningDelta, RefusalDelta, Stop, TextDelta, UpstreamError
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.upstreams.chat_completions.failures import failure_of

#: One line of a stream at the most.
LINE_MAX = 16 * 1024 * 1024


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Logprobs(msgspec.Struct):
    content: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode
_REASONS = {"length": "length", "content_filter": "content_filter"}


class Reply:
    """What a reply has said so far, beyond the deltas handed on."""

    def __init__(self, think: str = "off") -> None:
        self.ended = False
        self.said_something = False
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._keys: dict[str, int] = {}
        self._last_key = -1
        self._think = _ThinkSplitter(opened=think == "open") if think != "off" else None
        self._rest = b""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas in a piece of an event stream.  Raises ``UpstreamError`` for an error inside it."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_MAX:
            raise UpstreamError("The upstream sent a line that is too long.")
        deltas: list[Delta] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._take_line(line[5:].strip(), deltas)
        return deltas

    def whole(self, data: bytes) -> list[Delta]:
        """The deltas of a reply that was not streamed."""
        deltas: list[Delta] = []
        self._take(data, deltas)
        self.ended = True
        self._flush(deltas)
        return deltas

    def close(self) -> list[Delta]:
        """The reply is over; what was held back.  Raises ``UpstreamError`` when it was cut."""
        deltas: list[Delta] = []
        if self._rest.startswith(b"data:"):
            self._take_line(self._rest[5:].strip(), deltas)
        if not self.ended and self._finish is None:
            raise UpstreamError("The upstream's stream ended in the middle.", code="upstream_cut")
        self._flush(deltas)
        return deltas

    def stop(self) -> Stop:
        """How the model call ended."""
        return Stop(_REASONS.get(self._finish or "stop", "stop"), self._usage)

    def _take_line(self, data: bytes, deltas: list[Delta]) -> None:
        if data == b"[DONE]":
            self.ended = True
        elif data and not self.ended:
            self._take(data, deltas)

    def _take(self, data: bytes, deltas: list[Delta]) -> None:
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamError(f"The upstream sent a malformed chunk: {error}.") from None
        if bytes(chunk.error) not in (b"", b"null"):
            raise failure_of(500, data, began=self.said_something)
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index == 0:
                self._take_choice(choice, deltas)

    def _take_choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        said = choice.delta or choice.message
        if said is not None:
            self._take_said(said, choice.logprobs, deltas)
        if choice.finish_reason:
            self._finish = choice.finish_reason
            self._flush(deltas)
        if deltas:
            self.said_something = True

    def _take_said(self, said: _Delta, logprobs: _Logprobs | None, deltas: list[Delta]) -> None:
        reasoning = said.reasoning_content or said.reasoning
        if isinstance(reasoning, str) and reasoning:
            deltas.append(ReasoningDelta(reasoning))
        if said.content:
            text = said.content if isinstance(said.content, str) else _text_of(said.content)
            self._take_text(text, logprobs, deltas)
        if said.refusal:
            deltas.append(RefusalDelta(said.refusal))
        for position, call in enumerate(said.tool_calls or ()):
            self._take_call(call, position, deltas)

    def _take_text(self, text: str, logprobs: _Logprobs | None, deltas: list[Delta]) -> None:
        if self._think is not None:
            deltas += self._think.feed(text)
        elif text:
            told = _logprobs(logprobs.content) if logprobs is not None and logprobs.content else None
            deltas.append(TextDelta(text, told))

    def _take_call(self, call: _ToolCall, position: int, deltas: list[Delta]) -> None:
        """Servers tell parallel calls apart by index, by id, or only by a new name; each is understood."""
        function = call.function or _Function()
        key = self._key_of(call, function, position)
        arguments = _arguments(function.arguments)
        deltas.append(CallDelta(key, call.id or None, function.name or None, arguments))

    def _key_of(self, call: _ToolCall, function: _Function, position: int) -> int:
        if call.index is not None:
            name = f"#{call.index}"
            # Some servers number every call 0: a new id under a known index is a new call.
            if call.id and self._keys.get(f"{name}:id") not in (None, hash(call.id)) and function.name:
                self._keys.pop(name, None)
            if call.id:
                self._keys[f"{name}:id"] = hash(call.id)
        elif call.id:
            name = call.id
        elif function.name or self._last_key < 0:
            name = f"?{self._last_key + 1}.{position}"
        else:
            return self._last_key
        if name not in self._keys:
            self._keys[name] = self._next_key()
        self._last_key = self._keys[name]
        return self._last_key

    def _next_key(self) -> int:
        self._keys["next"] = self._keys.get("next", -1) + 1
        return self._keys["next"]

    def _flush(self, deltas: list[Delta]) -> None:
        if self._think is not None:
            deltas += self._think.flush()


def _text_of(parts: Sequence[dict[str, Any]]) -> str:
    return "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")


def _arguments(raw: msgspec.Raw) -> str:
    """A string, or with some servers the object itself."""
    data = bytes(raw)
    if data in (b"", b"null"):
        return ""
    return msgspec.json.decode(data, type=str) if data[:1] == b'"' else data.decode()


def _usage(told: _Usage) -> Usage:
    cached = told.prompt_tokens_details.cached_tokens if told.prompt_tokens_details else 0
    reasoning = told.completion_tokens_details.reasoning_tokens if told.completion_tokens_details else 0
    total = told.total_tokens
    if total is None:
        total = told.prompt_tokens + told.completion_tokens
    return Usage(
        told.prompt_tokens, InputDetails(cached or 0), told.completion_tokens, OutputDetails(reasoning or 0), total
    )


def _logprobs(entries: list[dict[str, Any]]) -> bytes:
    return msgspec.json.encode(
        [
            _logprob(entry) | {"top_logprobs": [_logprob(top) for top in entry.get("top_logprobs") or ()]}
            for entry in entries
        ]
    )


def _logprob(entry: dict[str, Any]) -> dict[str, Any]:
    token = str(entry.get("token", ""))
    told = entry.get("bytes")
    return {
        "token": token,
        "bytes": told if isinstance(told, list) else list(token.encode()),
        "logprob": float(entry.get("logprob") or 0.0),
    }


class _ThinkSplitter:
    """Parts ``<think>`` blocks from the text, also where a tag is cut in pieces."""

    _OPEN, _CLOSE = "<think>", "</think>"

    def __init__(self, *, opened: bool) -> None:
        self._thinking = opened
        self._held = ""
        self._fresh = True

    def feed(self, text: str) -> list[Delta]:
        deltas: list[Delta] = []
        self._held += text
        while self._held:
            tag = self._CLOSE if self._thinking else self._OPEN
            before, found, after = self._held.partition(tag)
            if not found:
                keep = _partial(self._held, tag)
                self._say(self._held[: len(self._held) - keep], deltas)
                self._held = self._held[len(self._held) - keep :]
                break
            self._say(before, deltas)
            self._held, self._thinking, self._fresh = after, not self._thinking, True
        return deltas

    def flush(self) -> list[Delta]:
        """What was held back because it might have been a tag."""
        deltas: list[Delta] = []
        self._say(self._held, deltas)
        self._held = ""
        return deltas

    def _say(self, text: str, deltas: list[Delta]) -> None:
        if self._fresh:
            text = text.lstrip("\n")  # templates put line breaks around the tags
        if text:
            self._fresh = False
            make: Callable[[str], Delta] = ReasoningDelta if self._thinking else TextDelta
            deltas.append(make(text))


def _partial(text: str, tag: str) -> int:
    """How many characters at the end may be the beginning of the tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
