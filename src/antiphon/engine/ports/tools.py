"""The seam to hosted tools: calls that this server makes itself, and the journal of what was made."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from antiphon.protocol.tools import Tool as ToolDeclaration


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
