"""Tool search run by this server: BM25 over the names and descriptions of tools whose loading is deferred.

Must not know when a model searches, nor what becomes of what it finds.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from antiphon.protocol.tools import Tool

#: Tools that one search finds unless the model asks for another number, and at the most.
FOUND, FOUND_MAX = 5, 20
#: Characters of the search's description that name what can be found, and of one description in it.
LISTED_CHARS_MAX, LINE_CHARS_MAX = 4000, 200
#: Words of a query that are looked for, and characters of a tool's and of a namespace's description that are read.
QUERY_WORDS_MAX = 64
TOOL_CHARS_MAX, NAMESPACE_CHARS_MAX = 1000, 200
#: BM25: how soon more of a word says nothing new, and how much a long description is held against a tool.
_K1, _B = 1.2, 0.75
#: A word in the name counts like so many in the description.
_NAME_WEIGHT = 3

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARAMETERS = msgspec.Raw(
    b'{"type":"object","properties":{"query":{"type":"string","description":"Keywords of what the tool should do."},'
    b'"limit":{"type":"integer","description":"How many tools at the most."}},"required":["query"]}'
)


class Query(NamedTuple):
    """What a model looks for."""

    query: str
    limit: int


def read_query(arguments: str) -> Query:
    """The query in a call's arguments; all text in them where they are not of the form that was asked for."""
    try:
        told = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return Query(arguments, FOUND)
    if not isinstance(told, dict):
        return Query(arguments, FOUND)
    query, limit = told.get("query"), told.get("limit")
    number = limit if isinstance(limit, int) and not isinstance(limit, bool) else FOUND
    return Query(query if isinstance(query, str) else arguments, max(1, min(number, FOUND_MAX)))


def words_of(text: str) -> list[str]:
    """Words in lower case, without an ending that plurals have; names are taken apart."""
    words = (word.lower() for word in _WORD.findall(_HUMP.sub(" ", text)))
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]


class Index:
    """The words of tools, as the model sees them."""

    def __init__(self, tools: Sequence[Tool], namespaces: Mapping[str, str]) -> None:
        self._names = [tool.name or "" for tool in tools]
        self._counts = [Counter(_words(tool, namespaces)) for tool in tools]
        self._lengths = [count.total() for count in self._counts]
        self._average = sum(self._lengths) / len(tools) if tools else 1.0
        self._holders = Counter(word for count in self._counts for word in count)

    def best(self, query: str, limit: int) -> list[str]:
        """The names of the tools that fit best, best first; of equal ones the earlier first."""
        words = dict.fromkeys(words_of(query[:TOOL_CHARS_MAX])[:QUERY_WORDS_MAX])
        scores = [self._score(number, words) for number in range(len(self._names))]
        order = sorted(range(len(scores)), key=lambda number: -scores[number])
        return [self._names[number] for number in order[:limit] if scores[number] > 0]

    def _score(self, number: int, words: Mapping[str, Any]) -> float:
        count, score = self._counts[number], 0.0
        length = 1 - _B + _B * self._lengths[number] / (self._average or 1.0)
        for word in words:
            if word in count:
                holders = self._holders[word]
                rarity = math.log(1 + (len(self._names) - holders + 0.5) / (holders + 0.5))
                score += rarity * count[word] * (_K1 + 1) / (count[word] + _K1 * length)
        return score


def _words(tool: Tool, namespaces: Mapping[str, str]) -> list[str]:
    own = words_of(tool.own_name or tool.name or "") + words_of(tool.namespace or "")
    about = namespaces.get(tool.namespace, "") if tool.namespace is not None else ""
    described = f"{(tool.description or '')[:TOOL_CHARS_MAX]} {about[:NAMESPACE_CHARS_MAX]}"
    return own * _NAME_WEIGHT + words_of(described)


def function(name: str, tools: Sequence[Tool], namespaces: Mapping[str, str]) -> Tool:
    """What the model sees of the search: how to ask, and what there is to find, by namespaces where there are any."""
    lines = dict.fromkeys(_line(tool, namespaces) for tool in tools)
    listed, left = "", LISTED_CHARS_MAX
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            listed += "\n- and more"
            break
        listed += "\n" + line
    description = (
        "Finds further tools by keywords and makes them callable. Call it first when none of the tools that you see "
        f"fits. What can be found:{listed}"
    )
    return Tool("function", name, description, _PARAMETERS)


def _line(tool: Tool, namespaces: Mapping[str, str]) -> str:
    name, about = tool.name or "", tool.description
    if tool.namespace is not None:
        name, about = tool.namespace, namespaces.get(tool.namespace)
    first = (about or "")[:NAMESPACE_CHARS_MAX].strip().partition("\n")[0]
    return f"- {name}: {first}"[:LINE_CHARS_MAX].rstrip(": ")
