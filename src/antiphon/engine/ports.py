"""The seams: what the engine asks of the world, as Protocols, and what the world may tell it.

Everything outside ``engine`` either implements one of these or is handed one by ``assemble``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from antiphon.engine.deltas import Delta
from antiphon.engine.idempotency import Keys
from antiphon.protocol.events import Event
from antiphon.protocol.items import Item
from antiphon.protocol.requests import CreateResponse, Page
from antiphon.protocol.responses import Outcome, Shell, Usage
from antiphon.protocol.tools import Tool as ToolDeclaration
from antiphon.protocol.tools import ToolChoice

# --- Upstreams -------------------------------------------------------------------------------------------------


class Stop(msgspec.Struct, frozen=True):
    """How a model call ended: ``stop``, ``length`` or ``content_filter``.  Usage is None where none was told."""

    reason: str
    usage: Usage | None = None


class UpstreamError(Exception):
    """The model's side failed.  ``status`` is the HTTP class that a reply would have.

    ``message`` is what clients are told, and ``detail`` the whole truth for operators, where that has more: where the
    upstream is, and why it cannot be reached.  ``retryable``: nothing was generated yet and another try may work.
    """

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        status: int = 502,
        code: str = "server_error",
        param: str | None = None,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail or message)
        self.message = message
        self.detail = detail or message
        self.status = status
        self.code = code
        self.param = param
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class ModelRequest(msgspec.Struct):
    """What one model call is asked: the items it sees, the tools it may call, and the request's parameters."""

    model: str
    items: Sequence["ContextItem"]
    tools: Sequence[ToolDeclaration]
    request: CreateResponse
    #: ``tool_choice`` in terms of the functions in ``tools``.
    choice: ToolChoice = ToolChoice()
    force_choice: bool = True
    #: What the reply has said so far, where it was cut: the model goes on behind the last character.  Only for models
    #: whose capabilities say ``prefill``; it is never empty.
    prefix: str | None = None


class ContextItem(NamedTuple):
    """An item of the context: its view and the bytes that it travels as."""

    view: Item
    body: bytes


class Feed(Protocol):
    """Where an upstream puts what it read: an ordinary call, down to the client's socket.

    An empty list says that the upstream has accepted the request.
    """

    def __call__(self, deltas: Sequence[Delta]) -> None: ...

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Tells how the source is stopped while the slowest reader catches up."""


class ModelInfo(msgspec.Struct, frozen=True):
    """A model that can be asked for."""

    id: str
    created: int
    owned_by: str
    #: Tokens that its window holds; None where its side does not say.
    context: int | None = None


class Capabilities(msgspec.Struct, frozen=True):
    """What the engine must know of a model before it asks it."""

    images: bool = True
    #: Tokens that fit its window, prompt and reply together; None where nobody knows.
    context: int | None = None
    #: Patterns of the media types that it reads as they are; of other files it gets the text.
    files: tuple[str, ...] = ()
    #: It is told ``text.verbosity``, and ``prompt_cache_retention``.
    verbosity: bool = False
    cache_retention: bool = False
    #: It is told all of ``reasoning`` and not the effort alone, so that it sums its reasoning up when asked to.
    reasoning: bool = False
    #: It goes on with a reply that was cut (``ModelRequest.prefix``); asked to go on otherwise.
    prefill: bool = False
    #: Its side enforces a strict ``text.format``, strict functions, grammars of custom tools, and what must be called.
    strict_text: bool = False
    strict_functions: bool = False
    strict_inputs: bool = False
    forced_calls: bool = False
    #: Patterns of the types of tools that it has itself, and whether it reads the items of such tools.
    foreign_tools: tuple[str, ...] = ()
    foreign_items: bool = False


class Upstream(Protocol):
    """A place where models run, behind one wire dialect."""

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call.  Raises ``UpstreamError``; cancellation ends the upstream's request at once."""

    async def count(self, request: ModelRequest) -> int | None:
        """How many tokens the request's prompt is, by the model's own tokenizer and chat template.

        None where that cannot be had.  Raises ``UpstreamError``.
        """

    async def models(self) -> list[ModelInfo]:
        """The models that it serves now.  Raises ``UpstreamError``."""

    def capabilities(self, model: str) -> Capabilities:
        """What the model takes."""

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:
        """Parameters that the model's side cannot be told, besides what its capabilities say, as paths."""

    async def close(self) -> None:
        """Ends connections and child processes."""


class Route(NamedTuple):
    """Where a model name leads: the upstream, the name it knows, and what is known of the model."""

    upstream: Upstream
    model: str
    info: ModelInfo | None = None


class Models(Protocol):
    """Every model of every upstream, under the names that clients use."""

    async def route(self, name: str) -> Route:
        """Raises ``ApiError`` 404 ``model_not_found``."""

    async def all(self) -> list[ModelInfo]:
        """Each once, sorted by id."""


# --- Tools -----------------------------------------------------------------------------------------------------


class ToolCall(NamedTuple):
    """A call of a hosted tool: the id of its item, the function's name and its arguments as JSON text."""

    item_id: str
    name: str
    arguments: str


class ToolResult(NamedTuple):
    """What came of it: the members of the finished item, the text that the model sees, and whether it worked."""

    members: dict[str, object]
    for_model: str
    completed: bool = True


class Tool(Protocol):
    """A hosted tool: run by this server, in the loop."""

    item_type: str
    item_prefix: str
    #: Running it again does no harm (design section 3, durable runs).
    read_only: bool

    def functions(self, declaration: ToolDeclaration) -> list[ToolDeclaration]:
        """What the model sees of it: functions that it may call."""

    def opened(self, call: ToolCall) -> dict[str, object]:
        """The members of the item when it is added, besides id, type and status."""

    async def run(self, call: ToolCall, declaration: ToolDeclaration, progress: Callable[[str], None]) -> ToolResult:
        """Runs the call; ``progress`` tells the suffix of an event type such as ``searching``.

        Raises ``ToolError`` for what the model should be told.
        """

    def recall(self, item: Mapping[str, object]) -> tuple[ToolCall, str]:
        """A finished item of an earlier turn, as the call and result that the model saw."""


class ToolError(Exception):
    """A hosted call failed; the model is told why and goes on."""


class Journal(Protocol):
    """Keeps hosted calls from being run twice (docs/log.md, I8).  Both raise ``Disowned``."""

    async def begin(self, call: ToolCall) -> None:
        """Notes the intent, durable on return: only then may the call be made."""

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        """Notes the result, durable on return."""


class Noted(NamedTuple):
    """A hosted call as the journal knows it; without a result it was interrupted."""

    call: ToolCall
    result: ToolResult | None


# --- State -----------------------------------------------------------------------------------------------------


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

    Not ``in_store``: whoever stores what continues them stores them too.
    """

    parent: Parent | None
    bodies: list[bytes]
    in_store: bool = True


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

    async def context(self, project: str, response: str) -> Context:
        """What a continuation of ``response`` sees, pinned until ``release``.  Raises ``ApiError`` 400."""

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
        """Ends a background run: its last events, items and status in one transaction.  False as for ``append``.

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
        """Removes a response and what only it needed, its idempotency key with it."""

    async def expire(self, now: int) -> int:
        """Removes responses and idempotency keys that are past their time; how many responses went."""

    async def secret(self, name: str, *, make: bool = True) -> bytes | None:
        """Random bytes that are kept under this name, 32 of them, durable on return; made if need be and asked for.

        Whoever makes them first wins, so that all processes on a database have the same.
        """

    async def ping(self) -> None:
        """Raises ``StoreError`` when the store cannot be used, which includes that the last write failed."""

    async def close(self) -> None:
        """Writes what is queued, then closes."""


# --- The world -------------------------------------------------------------------------------------------------


class Seal(Protocol):
    """Makes content that only this server can read, bound to one project and purpose (design decision 15)."""

    def seal(self, data: bytes, *, project: str, purpose: str) -> str:
        """Raises ``ValueError`` for more than can be opened again."""

    def open(self, text: str, *, project: str, purpose: str) -> bytes | None:
        """None for what another provider has made.  Raises ``ValueError`` for what was tampered with."""


class Attachments(Protocol):
    """Turns what a request points at into what a model takes; the only way out to URLs."""

    async def image(self, url: str, param: str) -> str:
        """An image as a data URL.  Raises ``ApiError`` 400 naming ``param``."""

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        """A file's text.  Raises ``ApiError`` 400 naming ``param``."""

    async def file(self, url: str, param: str) -> tuple[str, str]:
        """A file's name, and the file as a data URL.  Raises ``ApiError`` 400 naming ``param``."""


class Clock(Protocol):
    """Time and names, so that a simulation can own both."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def new_id(self, prefix: str) -> str:
        """A fresh id whose head is time: prefix and 28 base62 characters."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""
