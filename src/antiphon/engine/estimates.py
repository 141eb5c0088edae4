"""How many tokens something is where nobody tells: prompts, replies, and the part of a reply that was thought.

The one place for it; ``window`` counts by the model's own tokenizer.  Must not know what an estimate is used for.
Rule: design decision 13.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, RefusalDelta, SummaryDelta, TextDelta
from antiphon.engine.ports.upstreams import Feed, ModelRequest
from antiphon.engine.toolbox import SEEN
from antiphon.protocol.items import ANSWERS, Item, Part, text_of_raw
from antiphon.protocol.requests import Text
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage
from antiphon.protocol.tools import INNER_TYPES, Tool

#: Bytes of UTF-8 per token, tokens around an item, tokens of an image.
BYTES_PER_TOKEN, ITEM_TOKENS, IMAGE_TOKENS = 4, 4, 1000
_SEEN = SEEN - {"reasoning"}


def tokens_of(text: str) -> int:
    """The tokens of a text."""
    return _tokens(_size(text))


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _size(text: str | None) -> int:
    """Bytes of UTF-8."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# --- Prompts ---


def prompt_tokens(asked: ModelRequest) -> int:
    """Instructions, tools with their schemas and grammars, the format of the text, and what is seen of the items."""
    seen = [item.view for item in asked.items if item.view.kind in _SEEN]
    sizes = [_size(asked.request.instructions), _size(asked.prefix), _size_of_format(asked.request.text)]
    images = 0
    for view in seen:
        sizes += [_size(value) for value in (view.name, view.arguments, view.input) if isinstance(value, str)]
        parts = _parts(view.output if view.kind in ANSWERS else view.content)
        sizes.append(_size_of(parts))
        images += sum(part.type == "input_image" for part in parts)
    size = sum(sizes) + sum(map(_size_of_tool, asked.tools))
    return _tokens(size) + ITEM_TOKENS * len(seen) + IMAGE_TOKENS * images


def _size_of_tool(tool: Tool) -> int:
    """What its upstream runs itself is declared as it came."""
    if tool.type not in INNER_TYPES:
        return len(tool.raw)
    grammar = tool.grammar[1] if tool.grammar is not None else None
    return _size(tool.name) + _size(tool.description) + len(tool.parameters) + _size(grammar)


def _size_of_format(text: Text | None) -> int:
    form = None if text is None else text.format
    return 0 if form is None else _size(form.name) + _size(form.description) + len(form.schema)


def _parts(raw: msgspec.Raw) -> list[Part]:
    content = text_of_raw(raw)
    return [Part(text=content)] if isinstance(content, str) else content


def _size_of(parts: Iterable[Part]) -> int:
    return sum(_size(part.text or part.refusal) for part in parts)


# --- Replies ---


class Spoken:
    """How much was thought and said, in bytes of UTF-8.

    Of reasoning that is told raw and as a summary the larger counts: they are two tellings of the same.
    """

    def __init__(self) -> None:
        self._thought = self._summed = self._said = 0

    def hear(self, delta: Delta) -> None:
        """Adds a piece of a reply."""
        if isinstance(delta, TextDelta | RefusalDelta):
            self._said += _size(delta.text)
        elif isinstance(delta, ReasoningDelta):
            self._thought += _size(delta.text)
        elif isinstance(delta, CallDelta):
            self._said += _size(delta.name) + _size(delta.arguments)
        elif isinstance(delta, SummaryDelta):
            self._summed += _size(delta.text)

    def read(self, item: Item) -> None:
        """Adds an item of a reply."""
        if item.kind == "reasoning":
            self._thought += _size_of(_parts(item.content))
            self._summed += _size_of(_parts(item.summary))
        else:
            self._said += sum(_size(one) for one in (item.name, item.arguments, item.input) if isinstance(one, str))
            self._said += _size_of(_parts(item.content)) if item.kind == "message" else 0

    def usage(self, told: Usage | None, asked: ModelRequest) -> Usage:
        """The usage of the call that this is the reply to: as told, or estimated.

        Where reasoning was given and its tokens were not told, they are the part of the output's that it is of the
        reply's length, so that they are never more than the output's.
        """
        thought = max(self._thought, self._summed)
        if told is None:
            read, written = prompt_tokens(asked), _tokens(thought + self._said)
            told = Usage(read, InputDetails(), written, OutputDetails(), read + written, estimated=True)
        if not thought or told.output_tokens_details.reasoning_tokens:
            return told
        reasoning = told.output_tokens * thought // (thought + self._said)
        return msgspec.structs.replace(told, output_tokens_details=OutputDetails(reasoning))


class Measured:
    """A feed that notes how much was thought and said, whoever else hears what of it."""

    def __init__(self, feed: Feed) -> None:
        self.spoken = Spoken()
        self._feed = feed

    def __call__(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            self.spoken.hear(delta)
        self._feed(deltas)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._feed.on_pressure(pause, resume)
