"""The seams: what the engine asks of the world, as Protocols, and what the world may tell it.

Everything outside ``engine`` either implements one of these or is handed one by ``assemble``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from antiphon.protocol.events import Event
from antiphon.protocol.items import Item
from antiphon.protocol.requests import CreateResponse, Page
from antiphon.protocol.responses import Outcome, Shell, Usage
from antiphon.protocol.tools import Tool as ToolDeclaration
from antiphon.protocol.tools import ToolChoice

# --- What an upstream says -------------------------------------------------------------------------------------


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
    """A piece of a function call; ``key`` tells parallel calls apart, ``name`` comes with the first piece."""

    key: int
    call_id: str | None
    name: str | None
    arguments: str


Delta: TypeAlias = TextDelta | RefusalDelta | ReasoningDelta | CallDelta


class Stop(msgspec.Struct, frozen=True):
    """How a model call ended: ``stop``, ``length`` or ``content_filter``.  Usage is None where none was told."""

    reason: str
    usage: Usage | None = None


class UpstreamError(Exception):
    """The model's side failed.  ``status`` is the HTTP class that a reply would have.

    ``retryable``: nothing was generated yet and another try may work.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str = "server_error",
        param: str | None = None,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
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


class Capabilities(msgspec.Struct, frozen=True):
    """What the engine must know of a model before it asks it."""

    images: bool = True
    files: bool = False
    #: It is told ``text.verbosity``.
    verbosity: bool = False


class Upstream(Protocol):
    """A place where models run, behind one wire dialect."""

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call.  Raises ``UpstreamError``; cancellation ends the upstream's request at once."""

    async def models(self) -> list[ModelInfo]:
        """The models that it serves now.  Raises ``UpstreamError``."""

    def capabilities(self, model: str) -> Capabilities:
        """What the model takes."""

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
    """Keeps hosted calls from being run twice (design section 3, durable runs)."""

    async def begin(self, call: ToolCall) -> ToolResult | None:
        """Notes the intent; the result if the call was already completed."""

    async def complete(self, call: ToolCall, result: ToolResult) -> None:
        """Notes the result."""


# --- State -----------------------------------------------------------------------------------------------------


#: What one call of ``Store.events`` reads at the most: batches as they were written, and about as many bytes.
EVENT_BATCHES_MAX = 1000
EVENT_BYTES_MAX = 1 << 20


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
    """The items before a request, and the place where they end; None for a fresh start."""

    parent: Parent | None
    bodies: list[bytes]


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
    #: False: kept only until it has been fetched (background with ``store: false``); nothing may continue it.
    stored: bool = True


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


class Batch(NamedTuple):
    """Events of one run that are to be made durable together."""

    project: str
    response: str
    events: list[Event]


class Unfinished(NamedTuple):
    """A background run that an earlier process left behind."""

    project: str
    response: str


class Store(Protocol):
    """Where responses live.  Every call names the project; another's row does not exist.

    Every call may raise ``StoreError``, or ``ApiError`` 503 where it is known when to try again.
    """

    async def context(self, project: str, response: str) -> Context:
        """What a continuation of ``response`` sees, pinned until ``release``.  Raises ``ApiError`` 400."""

    def release(self, parent: Parent) -> None:
        """The continuation was written or given up."""

    async def save(self, record: Record) -> None:
        """Writes a finished response in one transaction, durable on return."""

    async def begin(self, record: Record) -> None:
        """Writes a background run that is about to start, durable on return."""

    async def append(self, batches: Sequence[Batch]) -> None:
        """Makes events of background runs durable, in one transaction."""

    async def finish(self, record: Record, last: Batch) -> bool:
        """Ends a background run: items, status and last events in one transaction.  False: it had ended before."""

    async def journal_begin(self, project: str, response: str, call: ToolCall) -> ToolResult | None:
        """Notes the intent of a hosted call of a background run; its result if it was completed before."""

    async def journal_complete(self, project: str, response: str, call: ToolCall, result: ToolResult) -> None:
        """Notes the result of a hosted call."""

    async def unfinished(self) -> list[Unfinished]:
        """Background runs without a terminal state."""

    async def read(self, project: str, response: str) -> Stored | None:
        """A response, or None."""

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        """The durable events of a background run with numbers above ``after``, in order; none at their end.

        A page of them: at least one batch as it was written, and no further one once there are ``EVENT_BYTES_MAX``
        bytes or ``EVENT_BATCHES_MAX`` batches.  The next page begins after its last number.
        """

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        """The items that were the model's input.  Raises ``ApiError`` 400 for an unknown cursor."""

    async def item(self, project: str, item: str) -> bytes | None:
        """The newest item with this id."""

    async def delete(self, project: str, response: str) -> bool:
        """Removes a response and what only it needed."""

    async def expire(self, now: int) -> int:
        """Removes what is past its time; how many responses went."""

    async def ping(self) -> None:
        """Raises ``StoreError`` when the store cannot be used, which includes that the last write failed."""

    async def close(self) -> None:
        """Writes what is queued, then closes."""


# --- The world -------------------------------------------------------------------------------------------------


class Attachments(Protocol):
    """Turns what a request points at into what a model takes; the only way out to URLs."""

    async def image(self, url: str, param: str) -> str:
        """An image as a data URL.  Raises ``ApiError`` 400 naming ``param``."""

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        """A file's text.  Raises ``ApiError`` 400 naming ``param``."""


class Clock(Protocol):
    """Time and names, so that a simulation can own both."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def new_id(self, prefix: str) -> str:
        """A fresh id whose head is time: prefix and 28 base62 characters."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""


Publish: TypeAlias = Callable[[list[Event]], None]
Waiter: TypeAlias = Callable[[], Awaitable[None]]
