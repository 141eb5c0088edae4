"""The seam to where state lives: responses, the events of background runs, and conversations."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from antiphon.engine.idempotency import Keys
from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult
from antiphon.engine.webhooks import Webhooks
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Outcome, Shell


class StoreError(Exception):
    """The store failed: full, broken, not to be reached.  The message is for the operator, clients never see it."""


class Span(NamedTuple):
    """A stretch of a thread: positions ``first`` to ``middle`` are input, ``middle`` to ``upto`` output."""

    thread: int
    first: int
    middle: int
    upto: int


class Parent(NamedTuple):
    """Where a new response continues: everything of ``thread`` and its ancestry below position ``upto``."""

    thread: int
    upto: int


class Context(NamedTuple):
    """The items before a request, and the place where they end; None for a fresh start.

    Not ``in_store``: whoever stores what continues them stores them too.  ``hash``: the rolling hash behind them
    (``engine.replays``), None where it is not known.
    """

    parent: Parent | None
    bodies: list[bytes]
    in_store: bool = True
    hash: bytes | None = None


class Beginning(NamedTuple):
    """The first items of a request: the hash behind them, and the last id that the client gave one of them.

    ``back``: how many places before their end that one stands, 1 for the last of them.
    """

    hash: bytes
    id: str | None
    back: int


class Seen(NamedTuple):
    """A beginning that a response has seen: which of those asked for, where it ends, and the ids of its items."""

    which: int
    parent: Parent
    ids: list[str]


class Memory(Protocol):
    """Responses that are in no store and that one client may continue."""

    def recall(self, response: str) -> Context | None:
        """The items up to the end of a response; None where it is not here."""


class StoredItem(NamedTuple):
    """An item as it is stored: the id that lists page by, and its JSON."""

    id: str
    body: bytes


class Record(msgspec.Struct):
    """A response as it is written: who owns it, where it hangs, what it says."""

    project: str
    shell: Shell
    outcome: Outcome
    parent: Parent | None
    input: list[StoredItem]
    output: list[StoredItem]
    request: bytes
    streamed: bool
    expires_at: int | None
    #: False: kept only until it has been fetched (background with ``store: false``); nothing may continue it.  In the
    #: foreground such a response leaves what its conversation gets of it, and nothing else.
    stored: bool = True
    #: The conversation that it runs in, which it holds (``Conversations.enter``).
    conversation: str | None = None
    #: The rolling hashes behind its input and behind its output, by which later requests find it (``engine.replays``).
    input_hash: bytes | None = None
    full_hash: bytes | None = None


class Stored(NamedTuple):
    """A response as it is read."""

    shell: Shell
    outcome: Outcome
    output: list[bytes]
    request: bytes
    streamed: bool

    def snapshot(self) -> bytes:
        """The Response as JSON."""
        return self.shell.snapshot(self.outcome, b"[" + b",".join(self.output) + b"]")


class Listing(NamedTuple):
    """A page of items, in the asked order."""

    items: list[StoredItem]
    has_more: bool


#: The fence of the process that began a run; whoever takes it over raises it by one.
FIRST_FENCE = 1


class Batch(NamedTuple):
    """Events of one run, without gaps, that its owner wants durable; ``fence`` says who the owner is."""

    project: str
    response: str
    fence: int
    events: list[Event]


class RunName(NamedTuple):
    """A background run."""

    project: str
    response: str


class Claim(NamedTuple):
    """A run that the caller owns from now on; whoever had it before is refused from now on (docs/log.md, I2).

    ``last``: the number of its last durable event, -1 for none.  ``attempt``: how many takeovers there have been
    since the log last grew, this one included; 0 when its last owner handed it back.
    """

    fence: int
    last: int
    attempt: int


class Begun(NamedTuple):
    """What a background run was begun with: its row, and the bodies of the items before it and of its input."""

    stored: Stored
    earlier: list[bytes]
    input: list[bytes]


class Disowned(Exception):
    """The run has another owner by now, or has ended, or is gone: whoever hears this stops at once."""


class Conversation(NamedTuple):
    """A conversation; ``metadata`` is a JSON object."""

    id: str
    created_at: int
    metadata: bytes


class Hold(NamedTuple):
    """A response that runs in a conversation, which no other may do meanwhile."""

    project: str
    conversation: str
    response: str


class Conversations(Protocol):
    """Where conversations live: lines of items that responses continue one after another.

    A response holds its conversation while it runs.  The hold ends with the transaction that writes the response's
    end; that of an unfinished background run never lapses, any other when nobody renews it, by the store's clock.
    Every call names the project, and may raise what those of ``Store`` may.
    """

    async def create(self, project: str, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        """Writes a new conversation with its first items, durable on return."""

    async def read(self, project: str, conversation: str) -> Conversation | None:
        """A conversation, or None."""

    async def update(self, project: str, conversation: str, metadata: bytes) -> Conversation | None:
        """The conversation with other metadata, or None."""

    async def delete(self, project: str, conversation: str) -> bool:
        """Removes a conversation and the items that nothing else needs; a response that runs in it goes on alone."""

    async def add(self, project: str, conversation: str, items: Sequence[StoredItem]) -> bool:
        """Appends items; False without the conversation.  Raises ``ApiError`` 400 while a response holds it."""

    async def remove(self, project: str, conversation: str, item: str) -> bool:
        """Takes an item out; responses that have seen it keep it.  False where it is not, raises as ``add`` does."""

    async def items(self, project: str, conversation: str, page: Page) -> Listing | None:
        """Its items, or None without the conversation.  Raises ``ApiError`` 400 for an unknown cursor."""

    async def item(self, project: str, conversation: str, item: str) -> bytes | None:
        """The newest of its items with this id."""

    async def context(self, project: str, conversation: str) -> Context:
        """What a response in it would see now; nothing is pinned or held.  Raises ``ApiError`` 404."""

    async def enter(self, hold: Hold, seconds: float) -> Context:
        """What the response in it sees, pinned until ``Store.release``, and held for so long from now on.

        Raises ``ApiError`` 404, or 400 ``conversation_locked``.
        """

    async def renew(self, holds: Sequence[Hold], seconds: float) -> None:
        """Holds that are still there last for so long from now on."""

    async def leave(self, hold: Hold) -> None:
        """The response leaves nothing; a hold that is not there any more is no error."""


class Store(Protocol):
    """Where responses live.  Every call names the project; another's row does not exist.

    Every call may raise ``StoreError``, or ``ApiError`` 503 where it is known when to try again.
    """

    @property
    def conversations(self) -> Conversations:
        """Where conversations live."""

    @property
    def keys(self) -> Keys:
        """Where idempotency keys are kept."""

    @property
    def webhooks(self) -> Webhooks:
        """Where webhook endpoints are kept, and what is to be delivered to them."""

    async def context(self, project: str, response: str) -> Context:
        """What a continuation of ``response`` sees, pinned until ``release``.  Raises ``ApiError`` 400."""

    async def beginning(self, project: str, beginnings: Sequence[Beginning]) -> Seen | None:
        """The first of these that a response ends with, or its input; pinned until ``release``.

        The response can be continued.  Of several the newest counts that has the item with the beginning's id in its
        place; the other ids are the caller's to compare.
        """

    def release(self, parent: Parent) -> None:
        """The continuation was written or given up."""

    async def save(self, record: Record) -> None:
        """Writes a finished response in one transaction, durable on return; that ends its hold on a conversation.

        Raises ``ApiError`` 400 ``conversation_locked`` where the hold has lapsed and another response came in between.
        """

    async def begin(self, record: Record) -> None:
        """Writes a background run that is about to start, owned with ``FIRST_FENCE``; durable on return."""

    async def append(self, batches: Sequence[Batch]) -> list[bool]:
        """Makes events of background runs durable, all of one run's in one transaction; which batches are.

        False: the run has another owner, has ended or is gone.  What is durable already is not written twice, so a
        write whose outcome nobody heard can be repeated.  Raises ``ValueError`` where a batch would leave a gap.
        """

    async def finish(self, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        """Ends a background run: last events, items, status and outbox in one transaction.  False as for ``append``.

        Only the record's output, outcome and expiry count.  Repeated by the owner that ended it, it is True again.
        """

    async def claim(self, project: str, response: str) -> Claim | None:
        """Takes a background run over, durable on return.  None: there is no such run, or it has ended."""

    async def hand_back(self, runs: Sequence[tuple[RunName, int]]) -> None:
        """Marks runs, each with the caller's fence, so that their next claim is no takeover (``attempt`` 0)."""

    async def begun(self, project: str, response: str) -> Begun | None:
        """What a background run was begun with; None where there is none."""

    async def journal_begin(self, project: str, response: str, fence: int, call: ToolCall) -> None:
        """Notes the intent of a hosted call; once more changes nothing.  Raises ``Disowned``."""

    async def journal_complete(
        self, project: str, response: str, fence: int, call: ToolCall, result: ToolResult
    ) -> None:
        """Notes the result of a hosted call.  Raises ``Disowned``."""

    async def journal(self, project: str, response: str) -> list[Noted]:
        """The hosted calls of a run, in the order in which they were begun."""

    async def unfinished(self) -> list[RunName]:
        """Background runs that have not ended, oldest first."""

    async def working(self, project: str) -> int:
        """How many unfinished background runs of a project have an owner, dead or alive."""

    async def compact(self, most: int) -> int:
        """Packs the logs of up to ``most`` runs that have ended; how many there were.  Readers see no difference."""

    async def read(self, project: str, response: str) -> Stored | None:
        """A response, or None."""

    async def status(self, project: str, response: str) -> str | None:
        """Its status as it is stored, or None; for a response that cannot be read as well."""

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        """The durable events of a background run with numbers above ``after``, in order; none at their end.

        A page of them: at least one batch as it was written, and no further one once there are about a megabyte or a
        thousand batches.  The next page begins after its last number.
        """

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        """The items that were the model's input.  Raises ``ApiError`` 400 for an unknown cursor."""

    async def item(self, project: str, item: str) -> bytes | None:
        """The newest item with this id."""

    async def delete(self, project: str, response: str) -> bool:
        """Removes a response and what only it needed; its idempotency key, and what webhooks were to tell of it."""

    async def expire(self, now: int) -> int:
        """Removes responses, idempotency keys and dead deliveries that are past their time; how many responses went."""

    async def secret(self, name: str, *, make: bool = True) -> bytes | None:
        """Random bytes that are kept under this name, 32 of them, durable on return; made if need be and asked for.

        Whoever makes them first wins, so that all processes on a database have the same.
        """

    async def ping(self) -> None:
        """Raises ``StoreError`` when the store cannot be used, which includes that the last write failed."""

    async def close(self) -> None:
        """Writes what is queued, then closes."""
