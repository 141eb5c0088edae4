"""The reply of a model that goes on with what it has said before: only what is new of it, and as text.

Pure: deltas in, deltas out.  Must not know of bytes.
"""

from collections.abc import Sequence

from antiphon.engine.deltas import Delta, ReasoningDelta, TextDelta
from antiphon.upstreams.chat_completions.servers import LLAMACPP, VLLM

#: A token that says something is not longer.  What is, and comes at once at the very beginning, repeats what was said.
TOKEN_CHARS_MAX = 32


class Continuation:
    """``said``: the text that the server was handed as the beginning of the reply."""

    def __init__(self, said: str, server: str | None) -> None:
        self._said = said
        self._server = server
        self._at_head = True
        self._told_as_text = False

    def take(self, deltas: Sequence[Delta]) -> list[Delta]:
        """The deltas as they should be."""
        return [delta for delta in map(self._one, deltas) if delta is not None]

    def _one(self, delta: Delta) -> Delta | None:
        if isinstance(delta, TextDelta):
            self._told_as_text = True
        elif isinstance(delta, ReasoningDelta) and self._mistakes_text:
            delta = TextDelta(delta.text)
        if not self._at_head or not isinstance(delta, TextDelta):
            return delta
        self._at_head = False
        rest = delta.text.removeprefix(self._said) if self._may_echo else delta.text
        return TextDelta(rest, delta.logprobs) if rest else None

    @property
    def _mistakes_text(self) -> bool:
        """Parsers of models that always think take everything for thoughts until a closing tag, which came before."""
        return not self._told_as_text and self._server != LLAMACPP

    @property
    def _may_echo(self) -> bool:
        """Whether text that begins with what was said repeats it, and is not a model that repeats itself.

        vLLM never echoes unless asked to.  llama.cpp does in replies that are not streamed, and in streams where asked
        to or before 2026-05: all at once in the first delta, which otherwise is a single token.
        """
        return self._server != VLLM and len(self._said) > TOKEN_CHARS_MAX
