"""What can be asked of the writer, as plain values.

``durable``: a reply waits for it to be on the disk.  ``removes``: rows go, so nobody may take hold of them meanwhile,
and what they said is erased from the files soon after.  Must not know how any of it is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from antiphon.engine.idempotency import KeyClaim
from antiphon.engine.ports.stores import Batch, Conversation, Hold, Record, RunName, StoredItem
from antiphon.engine.ports.tools import ToolCall
from antiphon.engine.webhooks import Changes, Endpoint, Verdict
from antiphon.stores.rows import Pack


class _Operation:
    __slots__ = ()
    durable: ClassVar[bool] = True
    removes: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class Save(_Operation):
    """A response to write: finished, or a background run that ``begins``."""

    record: Record
    begins: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Append(_Operation):
    """Events of running background runs; which batches are durable."""

    batches: Sequence[Batch]
    durable: ClassVar[bool] = False

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        return [batch[:2] for batch in self.batches]


class _OfOneRun(_Operation):
    """Something asked of one background run."""

    __slots__ = ()
    name: RunName

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        return [self.name]


@dataclass(frozen=True, slots=True, eq=False)
class Finish(_OfOneRun):
    """The end of a background run; True when the owner has ended it, now or before."""

    name: RunName
    record: Record
    fence: int
    batches: Sequence[Batch]


@dataclass(frozen=True, slots=True, eq=False)
class TakeOver(_OfOneRun):
    """A new owner for a background run: its ``Claim``, or None."""

    name: RunName


@dataclass(frozen=True, slots=True, eq=False)
class HandBack(_Operation):
    """Runs, with their owner's fence, whose next claim is no takeover."""

    runs: Sequence[tuple[RunName, int]]

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        return [name for name, _ in self.runs]


@dataclass(frozen=True, slots=True, eq=False)
class JournalBegin(_OfOneRun):
    """The intent of a hosted call; whether the caller owns the run."""

    name: RunName
    fence: int
    call: ToolCall


@dataclass(frozen=True, slots=True, eq=False)
class JournalComplete(_OfOneRun):
    """The result of a hosted call; whether the caller owns the run."""

    name: RunName
    fence: int
    call: ToolCall
    result: bytes


#: What is asked of background runs, in the order in which it is asked.
RunOperation: TypeAlias = Append | Finish | TakeOver | HandBack | JournalBegin | JournalComplete


@dataclass(frozen=True, slots=True, eq=False)
class Replace(_Operation):
    """Packs for the rows of ended logs that they hold, and the logs that are done; how many of these there were.

    Nothing is said of ``removes``, for nothing goes that anybody could take hold of, or that is to be erased.
    """

    packs: Sequence[tuple[int, Pack]]
    done: Sequence[int]
    durable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class Converse(_Operation):
    """A new conversation, with its first items."""

    project: str
    conversation: Conversation
    items: Sequence[StoredItem]


class _OfOneConversation(_Operation):
    """Something asked of one conversation: None is the result where there is none, False where a response holds it."""

    __slots__ = ()
    project: str
    conversation: str

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        return [(self.project, self.conversation)]


@dataclass(frozen=True, slots=True, eq=False)
class Describe(_OfOneConversation):
    """Other metadata; the ``Conversation``."""

    project: str
    conversation: str
    metadata: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Add(_OfOneConversation):
    """Items to append."""

    project: str
    conversation: str
    items: Sequence[StoredItem]


class _OfHolds(_Operation):
    """Something asked of what responses hold."""

    __slots__ = ()
    durable: ClassVar[bool] = False
    holds: Sequence[Hold]

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        return [hold[:2] for hold in self.holds]


@dataclass(frozen=True, slots=True, eq=False)
class Enter(_OfHolds):
    """A response that wants to run in a conversation, which it then holds for so many seconds."""

    holds: Sequence[Hold]
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Renew(_OfHolds):
    """Holds that are to last so many seconds from now on."""

    holds: Sequence[Hold]
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Leave(_OfHolds):
    """Holds that end without having left anything."""

    holds: Sequence[Hold]


@dataclass(frozen=True, slots=True, eq=False)
class TakeOut(_OfOneConversation):
    """An item to take out of a conversation; whether it was there, None without it or its conversation."""

    project: str
    conversation: str
    item: str
    removes: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, eq=False)
class Forget(_OfOneConversation):
    """A conversation to remove."""

    project: str
    conversation: str
    removes: ClassVar[bool] = True


#: What is asked of conversations that there are, in the order in which it is asked.
ConversationOperation: TypeAlias = Describe | Add | Enter | Renew | Leave | TakeOut | Forget


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
class BindKey(_Operation):
    """An idempotency key to bind, or what it is bound to: its ``Bound``, or None for another request's."""

    claim: KeyClaim
    seconds: float
    expires_at: int


@dataclass(frozen=True, slots=True, eq=False)
class HoldKeys(_Operation):
    """Keys that attempts are to hold for so many seconds from now on."""

    claims: Sequence[KeyClaim]
    seconds: float
    durable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class FreeKeys(_Operation):
    """Keys of attempts that left nothing."""

    claims: Sequence[KeyClaim]
    durable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class ExpireKeys(_Operation):
    """Keys that are past their time."""

    now: int
    removes: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, eq=False)
class CreateEndpoint(_Operation):
    """A webhook endpoint, unless its project has ``most`` already; whether it is there now."""

    project: str
    endpoint: Endpoint
    most: int


@dataclass(frozen=True, slots=True, eq=False)
class ChangeEndpoint(_Operation):
    """What is to be changed of a webhook endpoint; its row afterwards, or None."""

    project: str
    id: str
    changes: Changes


@dataclass(frozen=True, slots=True, eq=False)
class DeleteEndpoint(_Operation):
    """A webhook endpoint to remove; whether it was there."""

    project: str
    id: str
    removes: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, eq=False)
class Configure(_Operation):
    """The webhook endpoints of the operator, each with its project, in place of earlier ones."""

    endpoints: Sequence[tuple[str, Endpoint]]
    removes: ClassVar[bool] = True


#: What is asked of webhook endpoints, in the order in which it is asked.
EndpointOperation: TypeAlias = CreateEndpoint | ChangeEndpoint | DeleteEndpoint | Configure


@dataclass(frozen=True, slots=True, eq=False)
class ClaimDeliveries(_Operation):
    """Rows of the outbox to try, for so many seconds the caller's; the ``Delivery`` of each."""

    most: int
    each: int
    seconds: float
    busy: Sequence[str]
    durable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class Settle(_Operation):
    """What became of deliveries."""

    verdicts: Sequence[Verdict]
    durable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class ExpireOutbox(_Operation):
    """Rows of the outbox that have been dead for long enough."""

    now: int


@dataclass(frozen=True, slots=True, eq=False)
class Keep(_Operation):
    """A secret to keep, unless there is one of this name; the one that is kept."""

    name: str
    secret: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Probe(_Operation):
    """Writes without changing anything: whether the store takes writes again."""
