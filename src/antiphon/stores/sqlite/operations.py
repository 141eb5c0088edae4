"""What can be asked of the writer, as plain values.

``durable``: a reply waits for it to be on the disk.  ``removes``: rows go, so nobody may take hold of them meanwhile,
and what they said is erased from the files soon after.  Must not know how any of it is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antiphon.engine.ports import Batch, Record, ToolCall


class _Operation:
    __slots__ = ()
    durable: ClassVar[bool] = True
    removes: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class Save(_Operation):
    """A response to write: finished, or a background run that begins."""

    record: Record


@dataclass(frozen=True, slots=True, eq=False)
class Append(_Operation):
    """Events of running background runs."""

    batches: Sequence[Batch]
    durable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class Finish(_Operation):
    """The end of a background run; True unless it had ended before."""

    record: Record
    last: Batch


@dataclass(frozen=True, slots=True, eq=False)
class JournalBegin(_Operation):
    """The intent of a hosted call; the result if it is known already."""

    project: str
    response: str
    call: ToolCall


@dataclass(frozen=True, slots=True, eq=False)
class JournalComplete(_Operation):
    """The result of a hosted call."""

    project: str
    response: str
    call: ToolCall
    result: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Delete(_Operation):
    """Responses to remove, as (project, id), with what only they needed; how many there were."""

    responses: Sequence[tuple[str, str]]
    removes: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, eq=False)
class Release(_Operation):
    """The last pin of a thread that a removal had to leave is gone."""

    thread: int
    durable: ClassVar[bool] = False
    removes: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, eq=False)
class Probe(_Operation):
    """Writes without changing anything: whether the store takes writes again."""
