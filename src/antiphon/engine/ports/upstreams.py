"""The seam to where models run: what a model is asked, what it says, and the names that lead there."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from antiphon.engine.deltas import Delta
from antiphon.protocol.items import Item
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import Usage
from antiphon.protocol.tools import Tool as ToolDeclaration
from antiphon.protocol.tools import ToolChoice


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
        #: Something was handed on before it failed: nobody else can be asked instead.
        self.spoke = False
        self.message = message
        self.detail = detail or message
        self.status = status
        self.code = code
        self.param = param
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class Standing(NamedTuple):
    """On whose behalf a model is asked.

    ``patient``: it waits for its turn however long the line is, since there is nobody who could come again later.
    """

    project: str = ""
    patient: bool = False


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
    standing: Standing = Standing()


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


class Condition(msgspec.Struct, frozen=True):
    """How the servers behind one upstream are: how many there are and the places in their list of those left out.

    ``active`` and ``waiting`` count model calls, ``failovers`` those that another server took over.
    """

    servers: int
    left_out: list[int]
    active: int
    waiting: int
    failovers: int


class Route(NamedTuple):
    """Where a model name leads: the upstream, the name it knows, and what is known of the model.

    ``fallbacks``: where to go instead, in this order, while this one has said nothing.
    """

    upstream: Upstream
    model: str
    info: ModelInfo | None = None
    fallbacks: tuple["Route", ...] = ()


class Models(Protocol):
    """Every model of every upstream, under the names that clients use."""

    async def route(self, name: str) -> Route:
        """Raises ``ApiError`` 404 ``model_not_found``."""

    async def all(self) -> list[ModelInfo]:
        """Each once, sorted by id."""
