"""What the model is to say in a run, step by step; the client sends it to the model as its input.

The words are numbered, and each carries the letter of the model's attempt, so that a text tells whether it is whole,
in order and without repeats, although no two attempts say the same.  Knows nothing of servers or of HTTP.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Literal, NamedTuple

import msgspec

Json = dict[str, Any]

MARK = "PLAN "
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORD = re.compile(r"(\d+)([a-z])")

#: A hosted tool that may be run again, and one that may not.
LOOKUP, PAY = "lookup", "pay"
#: A function of the client's.
ASK = "ask"


class Say(msgspec.Struct, tag="say"):
    """So many words of text."""

    words: int


class Think(msgspec.Struct, tag="think"):
    """So many words of reasoning, said anew by each attempt that gets here."""

    words: int


class Call(msgspec.Struct, tag="call"):
    """A function call; what follows is said in the next model call."""

    name: str


class Answer(msgspec.Struct, tag="answer"):
    """A JSON text of so many words, bound by a schema."""

    words: int


class Gate(msgspec.Struct, tag="gate"):
    """The model waits until a test opens the gate of this name."""

    name: str


Step = Say | Think | Call | Answer | Gate


class Plan(msgspec.Struct):
    """A run.  `tag` is its name; `silent` so many first attempts hear nothing at all; a piece comes every `pace_ms`."""

    tag: str
    steps: list[Step]
    pace_ms: float = 20
    silent: int = 0
    tool_seconds: float = 0.1

    def text(self) -> str:
        return MARK + msgspec.json.encode(self).decode()

    @property
    def words(self) -> int:
        return sum(step.words for step in self.steps if isinstance(step, Say))

    @property
    def messages(self) -> int:
        """Only a call ends a message before the end of the run."""
        kinds = [step for step in self.steps if isinstance(step, Say | Call)]
        turns = itertools.groupby(kinds, key=lambda step: isinstance(step, Say))
        return sum(says for says, _ in turns)

    def calls(self, *names: str) -> int:
        return sum(isinstance(step, Call) and step.name in names for step in self.steps)

    def body(self, *, stream: bool, model: str = "words", previous: str | None = None) -> Json:
        """The request that creates the run in the background."""
        body: Json = {"model": model, "input": self.text(), "background": True, "stream": stream}
        names = dict.fromkeys(step.name for step in self.steps if isinstance(step, Call))
        if names:
            body["tools"] = [_TOOLS[name] | _slowness(name, self.tool_seconds) for name in names]
        if any(isinstance(step, Answer) for step in self.steps):
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": _SCHEMA, "strict": True}}
        if previous is not None:
            body["previous_response_id"] = previous
        return body


def read_plan(text: str) -> Plan | None:
    """The plan in a user's message, if there is one."""
    return msgspec.json.decode(text.removeprefix(MARK), type=Plan) if text.startswith(MARK) else None


def _slowness(name: str, seconds: float) -> Json:
    return {} if name == ASK else {"behaviour": "slow", "seconds": seconds}


_TOOLS: dict[str, Json] = {
    LOOKUP: {"type": "antiphon:scripted", "name": LOOKUP},
    PAY: {"type": "antiphon:effect", "name": PAY},
    ASK: {"type": "function", "name": ASK, "parameters": {"type": "object", "properties": {}}, "strict": False},
}
_SCHEMA: Json = {
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string"}}},
    "required": ["words"],
    "additionalProperties": False,
}


# --- Words ---


class Spoken(NamedTuple):
    """What a text of numbered words holds."""

    words: int
    #: What comes after the last whole word.
    rest: str
    #: What is wrong with it, as (`lost` or `doubled`, a sentence).
    faults: list[tuple[Literal["lost", "doubled"], str]]


def words(first: int, upto: int, attempt: int) -> str:
    """The words from `first` up to `upto`, each with a space behind it."""
    return "".join(f"{number}{LETTERS[attempt % len(LETTERS)]} " for number in range(first, upto))


def spoken(text: str) -> Spoken:
    """Reads what `words` made, over any number of cuts."""
    *whole, rest = text.split(" ")
    faults: list[tuple[Literal["lost", "doubled"], str]] = []
    awaited = itertools.count()
    for place, word in enumerate(whole):
        found = WORD.fullmatch(word)
        due = next(awaited)
        if found is None or int(found[1]) != due:
            doubled = found is not None and int(found[1]) < due
            about = " ".join(whole[max(0, place - 3) : place + 4])
            faults.append(("doubled" if doubled else "lost", f"word {due} is {word!r} in {about!r}"))
            break
    return Spoken(len(whole), rest, faults)


def finish_word(number: int, rest: str, attempt: int) -> str:
    """The end of word `number`, of which an earlier attempt said `rest`: an unfinished word is finished."""
    if WORD.fullmatch(rest):
        return " "
    word = words(number, number + 1, attempt)
    return word.removeprefix(rest) if word.startswith(rest) else word
