"""Bytes of a chat-completions reply into deltas, streamed or whole.

Pure: bytes in, deltas out, however the bytes were cut.  Must not know of sockets.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.deltas import Delta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.protocol.mending import mended
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.protocol.tools import Tool
from antiphon.upstreams.chat_completions.calls import Calls
from antiphon.upstreams.chat_completions.failures import failure_of
from antiphon.upstreams.chat_completions.repeats import Repeats
from antiphon.upstreams.chat_completions.thinking import ThinkSplitter

#: One line of a stream at the most.
LINE_MAX = 16 * 1024 * 1024

Number = int | float | None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, msgspec.Raw] | list[msgspec.Raw] | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Token(msgspec.Struct, gc=False):
    token: str = ""
    logprob: Number = None
    bytes: list[int] | None = None
    top_logprobs: list["_Token"] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: Number = None
    cache_write_tokens: Number = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: Number = None


class _Usage(msgspec.Struct):
    prompt_tokens: Number = None
    completion_tokens: Number = None
    total_tokens: Number = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode

#: Reasons that mean more than that the model was done, in the words of all servers.
_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
}
_FAILURES = ("error", "abort")
_NOTHING = (b"", b"null")


class Reply:
    """What a reply to a request with these tools has said so far, beyond the deltas handed on."""

    def __init__(self, think: str = "off", tools: Sequence[Tool] = ()) -> None:
        #: The server has said that nothing follows.
        self.ended = False
        #: It went wrong in the middle; what was said before stands.
        self.failure: UpstreamError | None = None
        self._answered = False
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._calls = Calls(tools)
        self._think = ThinkSplitter(opened=think == "open") if think != "off" else None
        self._logprobs: list[_Token] = []
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._failing = False
        self._repeats = Repeats()

    @property
    def finished(self) -> bool:
        """The model has said how it ended; only usage may follow."""
        return self._finish is not None

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas in a piece of an event stream.  Look at ``failure`` afterwards."""
        text = self._repeats.text(data)
        if text:
            return [TextDelta(text)]
        deltas: list[Delta] = []
        begun = bool(self._rest)
        self._parse(data, deltas)
        self._learn(data, deltas, begun=begun)
        return deltas

    def _learn(self, data: bytes, deltas: list[Delta], *, begun: bool) -> None:
        """What comes next is likely to be like this, if this was nothing but text."""
        told = deltas[0] if len(deltas) == 1 else None
        odd = begun or self._rest or self.ended or self.failure or self._finish or self._think or self._logprobs
        if odd or not isinstance(told, TextDelta) or told.logprobs is not None:
            self._repeats.forget()
        else:
            self._repeats.learn(data, told.text)

    def _parse(self, data: bytes, deltas: list[Delta]) -> None:
        if self.ended:
            return
        end = data.rfind(b"\n")
        if end >= 0:
            lines = data[:end].split(b"\n")
            data = data[end + 1 :]
            if self._rest:
                lines[0] = b"".join([*self._rest, lines[0]])
                self._rest, self._rest_size = [], 0
            for line in lines:
                self._take_line(line, deltas)
        if data:
            self._rest.append(data)
            self._rest_size += len(data)
            if self._rest_size > LINE_MAX:
                self._fail(UpstreamError("The upstream sent a line that is too long."))

    def close(self) -> list[Delta]:
        """The reply is over; what was held back.  Raises ``UpstreamError`` when it was cut."""
        deltas = self.feed(b"\n")
        if self.failure is None and not self._answered:
            self._fail(UpstreamError("The upstream's stream has no answer in it.", code="upstream_cut", retryable=True))
        if self.failure is None and not self.ended and self._finish is None:
            message = "The upstream's stream ended in the middle."
            self._fail(UpstreamError(message, code="upstream_cut", retryable=True))
        self._check()
        self._flush(deltas)
        return deltas

    def whole(self, data: bytes) -> list[Delta]:
        """The deltas of a reply that was not streamed.  Raises ``UpstreamError``."""
        deltas: list[Delta] = []
        self._take(data, deltas)
        self.ended = True
        if self.failure is None and not self._answered:
            self._fail(UpstreamError("The upstream's reply has no answer in it."))
        self._check()
        self._flush(deltas)
        return deltas

    def stop(self) -> Stop:
        """How the model call ended."""
        return Stop(_REASONS.get(self._finish or "stop", "stop"), self._usage)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._calls.check()

    def _fail(self, error: UpstreamError) -> None:
        self.failure = self.failure or error

    def _take_line(self, line: bytes, deltas: list[Delta]) -> None:
        if self.ended or self.failure is not None:
            return
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                self.ended = True
            elif self._failing:
                self._fail(failure_of(500, data))
            elif data:
                self._take(data, deltas)
        elif line and line != b"\r":
            self._take_other(line.strip(), deltas)

    def _take_other(self, line: bytes, deltas: list[Delta]) -> None:
        """Errors outside of ``data``: a line of their own (older llama.cpp), bare JSON (older Ollama), an event."""
        if line.startswith(b"error:"):
            self._fail(failure_of(500, line[6:].strip()))
        elif line.startswith(b"{"):
            self._take(line, deltas)
        elif line.startswith(b"event:"):
            self._failing = line[6:].strip() == b"error"

    def _take(self, data: bytes, deltas: list[Delta]) -> None:
        try:
            chunk = _decode_chunk(data)
        except UpstreamError as error:
            self._fail(error)
            return
        if bytes(chunk.error) not in _NOTHING or (chunk.choices is None and _is_flat_error(data)):
            self._fail(failure_of(500, data))
            return
        if chunk.usage is not None and (chunk.usage.prompt_tokens or chunk.usage.completion_tokens):
            self._usage = _usage(chunk.usage)
        for choice in chunk.choices or ():
            if not choice.index:
                self._take_choice(choice, deltas)

    def _take_choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        self._answered = True
        said = choice.delta or choice.message
        if said is not None:
            self._take_said(said, choice.logprobs, deltas)
        if choice.finish_reason:
            self._finish = choice.finish_reason
            self._flush(deltas)
            if self._finish in _FAILURES:
                self._fail(UpstreamError(f"The upstream stopped with the reason '{self._finish}'."))

    def _take_said(self, said: _Delta, logprobs: _Logprobs | None, deltas: list[Delta]) -> None:
        reasoning = said.reasoning_content or said.reasoning
        if isinstance(reasoning, str) and reasoning:
            deltas.append(ReasoningDelta(reasoning))
        if logprobs is not None and logprobs.content:
            self._logprobs += logprobs.content
        if said.content:
            if self._think is None and isinstance(said.content, str):
                self._say("", said.content, deltas)
            else:
                self._take_content(said.content, deltas)
        if said.refusal:
            deltas.append(RefusalDelta(said.refusal))
        if said.tool_calls:
            self._calls.begin_list()
            for call in said.tool_calls:
                self._take_call(call.index, call.id or "", call.function or _Function(), deltas)
        if said.function_call is not None:
            self._take_call(None, "", said.function_call, deltas)

    def _take_content(self, content: str | list[dict[str, Any]], deltas: list[Delta]) -> None:
        if isinstance(content, str):
            self._take_text(content, deltas)
            return
        for part in content:
            if part.get("type") == "thinking":  # Mistral
                thought = "".join(_texts(part.get("thinking")))
                if thought:
                    deltas.append(ReasoningDelta(thought))
            else:
                self._take_text("".join(_texts([part])), deltas)

    def _take_text(self, text: str, deltas: list[Delta]) -> None:
        if self._think is None:
            self._say("", text, deltas)
            return
        thinking = self._think.thinking
        thought, answer = self._think.feed(text)
        if thinking or self._think.thinking:
            self._logprobs = []  # of thoughts and tags
        self._say(thought, answer, deltas)

    def _say(self, thought: str, answer: str, deltas: list[Delta]) -> None:
        if thought:
            deltas.append(ReasoningDelta(thought))
        if answer:
            # Some servers send the tokens of a character that takes several before its text.
            tokens, self._logprobs = self._logprobs, []
            deltas.append(TextDelta(answer, _logprobs(tokens) if tokens else None))

    def _take_call(self, index: int | None, call_id: str, function: _Function, deltas: list[Delta]) -> None:
        delta = self._calls.take(index, call_id, function.name or "", _arguments(function.arguments))
        if delta is not None:
            deltas.append(delta)

    def _flush(self, deltas: list[Delta]) -> None:
        if self._think is not None:
            self._say(*self._think.flush(), deltas)
        deltas += self._calls.rest()


def _decode_chunk(data: bytes) -> _Chunk:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        told = error
    again = mended(data)
    try:
        if again is not None:
            return _decode(again)
    except (msgspec.DecodeError, RecursionError) as error:
        told = error
    raise UpstreamError(f"The upstream sent a malformed chunk: {told}.")


def _is_flat_error(data: bytes) -> bool:
    """Older vLLM: ``{"object": "error", "message": ...}``."""
    try:
        return bool(msgspec.json.decode(data, type=dict[str, Any]).get("object") == "error")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _texts(parts: Any) -> Sequence[str]:
    """The texts of content parts; what is no part has none."""
    if isinstance(parts, str):
        return [parts]
    listed = parts if isinstance(parts, list) else []
    return [part["text"] for part in listed if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _arguments(told: str | dict[str, msgspec.Raw] | list[msgspec.Raw] | None) -> str:
    """A string, or with some servers the object itself."""
    if told is None or isinstance(told, str):
        return told or ""
    return msgspec.json.encode(told).decode("utf-8", "replace")


def _usage(told: _Usage) -> Usage:
    """Total is input and output (reference 2.3), also where a server counts hidden reasoning in the total alone."""
    prompt, completion = _count(told.prompt_tokens), _count(told.completion_tokens)
    completion = max(completion, _count(told.total_tokens) - prompt)
    before = told.prompt_tokens_details or _PromptDetails()
    after = told.completion_tokens_details or _CompletionDetails()
    read = InputDetails(_count(before.cached_tokens), _count(before.cache_write_tokens))
    return Usage(prompt, read, completion, OutputDetails(_count(after.reasoning_tokens)), prompt + completion)


def _count(told: Number) -> int:
    return max(0, int(told or 0))


def _logprobs(tokens: Sequence[_Token]) -> bytes:
    return msgspec.json.encode(
        [{**_logprob(token), "top_logprobs": [_logprob(top) for top in token.top_logprobs or ()]} for token in tokens]
    )


def _logprob(token: _Token) -> dict[str, Any]:
    told = token.bytes if token.bytes is not None else list(token.token.encode())
    return {"token": token.token, "bytes": told, "logprob": float(token.logprob or 0.0)}
