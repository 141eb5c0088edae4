"""What an upstream says, piece by piece: the deltas that ``draft`` turns into events.

Must not know who says them or who hears them.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class TextDelta(NamedTuple):
    """Visible text; ``logprobs`` is the JSON array of its tokens' logprobs in the Responses shape."""

    text: str
    logprobs: bytes | None = None


class RefusalDelta(NamedTuple):
    """The model declines, in its own words."""

    text: str


class ReasoningDelta(NamedTuple):
    """Raw reasoning text."""

    text: str


class CallDelta(NamedTuple):
    """A piece of a call; ``key`` tells parallel calls apart, ``name`` comes with the first piece.

    ``arguments`` are JSON for a function, and for a custom tool its input as it is.  ``whole``: nothing follows of it,
    which only a custom tool's input does not tell by itself.
    """

    key: int
    call_id: str | None
    name: str | None
    arguments: str
    whole: bool = False


class SummaryDelta(NamedTuple):
    """A piece of a summary of the reasoning."""

    text: str


class AnnotationDelta(NamedTuple):
    """An annotation of the text that grows, as the JSON of reference 6.2."""

    annotation: bytes


class PartEnd(NamedTuple):
    """The part that grows is whole: more of its kind begins another part of the same item."""


class ItemDelta(NamedTuple):
    """An item begins (``status`` None) or is over.

    ``key`` tells the items of one reply apart, and is that of the item's ``CallDelta``s where it is a call.
    ``members`` are all but ``id``, ``type``, ``status`` and what other deltas grow, as JSON; those of the end are added
    to those of the beginning.  An end without a beginning is both.
    """

    key: int
    type: str
    members: Mapping[str, bytes]
    status: str | None = None


class ItemEvent(NamedTuple):
    """An event of an item that nobody here understands, between its beginning and its end.

    ``members`` are its own, as JSON: without type, number, and the item's id and index.
    """

    key: int
    type: str
    members: Mapping[str, bytes]


Delta: TypeAlias = (
    TextDelta
    | RefusalDelta
    | ReasoningDelta
    | CallDelta
    | SummaryDelta
    | AnnotationDelta
    | PartEnd
    | ItemDelta
    | ItemEvent
)
