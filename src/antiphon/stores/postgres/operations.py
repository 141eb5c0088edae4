"""What is asked of the database's writers, and about how many bytes each request sends.

Must not know how it is written.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from antiphon.engine.idempotency import KeyClaim
from antiphon.engine.ports.stores import Batch, Conversation, Hold, Record, RunName, StoredItem
from antiphon.engine.ports.tools import ToolCall
from antiphon.stores.rows import Pack


class Save(NamedTuple):
    """A finished response."""

    record: Record

    @property
    def size(self) -> int:
        return _record_size(self.record)


class Begin(NamedTuple):
    """A background run that is about to start."""

    record: Record

    @property
    def size(self) -> int:
        return _record_size(self.record)


class Append(NamedTuple):
    """Events of background runs."""

    batches: Sequence[Batch]

    @property
    def size(self) -> int:
        return sum(len(event.data) for batch in self.batches for event in batch.events)


class Finish(NamedTuple):
    """The end of a background run."""

    record: Record
    fence: int
    batches: Sequence[Batch]

    @property
    def size(self) -> int:
        return sum(len(item.body) for item in self.record.output) + Append(self.batches).size


class Claim(NamedTuple):
    """A run to take over; ``token`` tells this call apart from every other."""

    project: str
    response: str
    token: int
    size: int = 100


class HandBack(NamedTuple):
    """Runs, each with its owner's fence, whose next claim is no takeover."""

    runs: Sequence[tuple[RunName, int]]

    @property
    def size(self) -> int:
        return 100 * len(self.runs)


class BeginCall(NamedTuple):
    """The intent of a hosted call."""

    project: str
    response: str
    fence: int
    call: ToolCall

    @property
    def size(self) -> int:
        return len(self.call.arguments)


class CompleteCall(NamedTuple):
    """The result of a hosted call."""

    project: str
    response: str
    fence: int
    call: ToolCall
    result: bytes

    @property
    def size(self) -> int:
        return len(self.result)


class Delete(NamedTuple):
    """A response to remove, with what only it needed."""

    project: str
    response: str
    size: int = 100


class Expire(NamedTuple):
    """Responses past their time to remove, so many at once; how many there were."""

    now: int
    most: int
    size: int = 16


class Converse(NamedTuple):
    """A new conversation with its first items."""

    project: str
    conversation: Conversation
    items: Sequence[StoredItem]

    @property
    def size(self) -> int:
        return sum(len(item.body) for item in self.items) + 1000


class Describe(NamedTuple):
    """Other metadata for a conversation."""

    project: str
    conversation: str
    metadata: bytes
    size: int = 1000


class Add(NamedTuple):
    """Items to append to a conversation; ``token`` tells this call apart from every other."""

    project: str
    conversation: str
    items: Sequence[StoredItem]
    token: str

    @property
    def size(self) -> int:
        return sum(len(item.body) for item in self.items)


class TakeOut(NamedTuple):
    """An item to take out of a conversation."""

    project: str
    conversation: str
    item: str
    token: str
    size: int = 100


class Forget(NamedTuple):
    """A conversation to remove, with what only it needed."""

    project: str
    conversation: str
    size: int = 100


class Enter(NamedTuple):
    """A response that wants to run in a conversation, and to hold it for so many seconds."""

    hold: Hold
    seconds: float
    size: int = 100


class Renew(NamedTuple):
    """Holds that are to last so many seconds from now on."""

    holds: Sequence[Hold]
    seconds: float

    @property
    def size(self) -> int:
        return 100 * len(self.holds)


class Leave(NamedTuple):
    """A hold that ends without having left anything."""

    hold: Hold
    size: int = 100


class BindKey(NamedTuple):
    """An idempotency key to bind and to hold for so many seconds, or what it is bound to."""

    claim: KeyClaim
    seconds: float
    expires_at: int
    size: int = 400


class HoldKeys(NamedTuple):
    """Keys that attempts are to hold for so many seconds from now on."""

    claims: Sequence[KeyClaim]
    seconds: float

    @property
    def size(self) -> int:
        return 400 * len(self.claims)


class FreeKeys(NamedTuple):
    """Keys of attempts that left nothing."""

    claims: Sequence[KeyClaim]

    @property
    def size(self) -> int:
        return 400 * len(self.claims)


class ExpireKeys(NamedTuple):
    """Keys that are past their time."""

    now: int
    size: int = 8


class ExpireOutbox(NamedTuple):
    """Rows of the outbox that have been dead for long enough."""

    now: int
    size: int = 8


class Release(NamedTuple):
    """A pin to let go."""

    number: int
    size: int = 8


class PackedLog(NamedTuple):
    """The log of an ended run, by the run's row."""

    run: int
    packs: list[Pack]


class Compact(NamedTuple):
    """Packed logs, to take the place of what they were packed from."""

    logs: Sequence[PackedLog]

    @property
    def size(self) -> int:
        return sum(len(pack.frames) for log in self.logs for pack in log.packs)


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as one array for each column, as ``unnest`` wants them."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _record_size(record: Record) -> int:
    items = sum(len(item.body) for item in record.input) + sum(len(item.body) for item in record.output)
    return items + len(record.shell.tail) + len(record.request)
