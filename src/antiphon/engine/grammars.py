"""Grammars and regular expressions of custom tools, and the texts that are held against them as they come.

The Lark dialect and the regular expressions are those of llguidance, which OpenAI's documentation names as its own.
It works on bytes here: no model's tokenizer is needed.  Must not know what the text is for.
"""

import re
import time
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

SYNTAXES = ("lark", "regex")
DEFINITION_CHARS_MAX = 64 * 1024
#: Of a row of the parser: an ambiguous grammar, or one that recurses to the right, has as many as its text is long,
#: and each further byte costs all of them again.
ROW_ITEMS_MAX = 1_000
#: States of a lexer, of one or two kilobytes each, and steps of the search for them.
LEXER_STATES_MAX = 20_000
LEXER_FUEL_MAX = 500_000
#: Processor time that one text may take to be checked, looked at after so many bytes.
CHECK_SECONDS_MAX = 1.0
BYTES_AT_ONCE = 4

_END = 256
#: The library counts tokens of a model; here are none.
_COUNTS_TOKENS = re.compile(r"^[ \t]*[\w.]+[ \t]*\[[^\]\n]*\bmax_tokens\b", re.MULTILINE)
_NOISE = re.compile(r"\s*<non-verbose/>\s*")


class BadGrammar(Exception):
    """The definition cannot be used; the message says why, in one or more lines."""


class _Bytes:
    """The vocabulary: every byte, and an end."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<|end|>")
    special_token_ids = (_END,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


_tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=_END + 1, eos_token=_END, slices=[])
_limits = LLParserLimits(
    max_items_in_row=ROW_ITEMS_MAX,
    step_max_items=10 * ROW_ITEMS_MAX,
    initial_lexer_fuel=LEXER_FUEL_MAX,
    step_lexer_fuel=LEXER_FUEL_MAX // 10,
    max_lexer_states=LEXER_STATES_MAX,
    verbose_errors=False,
)


class Grammar:
    """A compiled definition.  Raises ``BadGrammar``; takes up to some tens of milliseconds."""

    def __init__(self, syntax: str, definition: str) -> None:
        if len(definition) > DEFINITION_CHARS_MAX:
            raise BadGrammar(f"it has {len(definition)} characters, the limit is {DEFINITION_CHARS_MAX}.")
        if syntax == "lark" and _COUNTS_TOKENS.search(definition):
            raise BadGrammar("'max_tokens' is not supported.")
        read = LLMatcher.grammar_from_regex if syntax == "regex" else LLMatcher.grammar_from_lark
        self._matcher = LLMatcher(_tokenizer, read(definition), log_level=0, limits=_limits)
        if self._matcher.is_error():
            raise BadGrammar(_NOISE.sub("", self._matcher.get_error()).rstrip())
        self._check_matchable()

    def _check_matchable(self) -> None:
        """A copy looks for the first byte; without any it falls into an error."""
        probe = self._matcher.deep_copy()
        probe.compute_bitmask()
        if probe.is_error():
            raise BadGrammar("it matches no text.")

    def checker(self) -> "GrammarChecker":
        """For one text."""
        return GrammarChecker(self._matcher.deep_copy())


class GrammarChecker:
    """One text.  ``reason`` tells as a sentence why it can no longer match."""

    def __init__(self, matcher: Any, clock: Callable[[], float] = time.thread_time) -> None:
        self.reason: str | None = None
        self._matcher = matcher
        self._clock = clock
        self._bytes = 0
        self._seconds = 0.0

    def feed(self, text: str) -> bool:
        """Takes the next piece; False: the whole can no longer match, and stays so."""
        if self.reason is not None:
            return False
        data = text.encode(errors="surrogatepass")
        begun = self._clock()
        for at in range(0, len(data), BYTES_AT_ONCE):
            if not self._take(data[at : at + BYTES_AT_ONCE]):
                return False
            if self._seconds + self._clock() - begun > CHECK_SECONDS_MAX:
                self.reason = (
                    f"The text takes longer than {CHECK_SECONDS_MAX:g} second(s) to check, since the grammar is "
                    "ambiguous or recurses to the right."
                )
                return False
        self._seconds += self._clock() - begun
        return True

    def _take(self, data: bytes) -> bool:
        taken = self._matcher.try_consume_tokens(list(data))
        self._bytes += taken
        if taken == len(data):
            return True
        if self._matcher.is_error() and not self._matcher.is_stopped():
            self.reason = f"The text cannot be checked: {_NOISE.sub('', self._matcher.get_error())}."
        else:
            self.reason = f"The text does not match the grammar from its byte {self._bytes} on."
        return False

    @property
    def complete(self) -> bool:
        """Whether what was said matches as it is."""
        return self.reason is None and bool(self._matcher.is_accepting())
