"""The shipped fake hosted tool: counts, fails or is slow, as its declaration says.  For our tests and users' own.

``{"type": "antiphon:scripted", "name": "lookup", "behaviour": "count"}`` lets the model call ``lookup``.
Must not know the loop that runs it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.engine.ports.tools import ToolCall, ToolError, ToolResult
from antiphon.engine.ports.world import Clock
from antiphon.protocol.decoding import decode
from antiphon.protocol.tools import Tool as Declaration
from antiphon.protocol.tools import check_name

#: The longest that a declaration may ask for.
SLOW_SECONDS_MAX = 3600


class Behaviour(msgspec.Struct):
    """What a declaration may say.

    ``count`` answers how often the tool has run with these arguments, ``answer`` with ``output``, ``fail`` fails with
    it, ``slow`` first waits for ``seconds``, or without them until the tool is released.  With ``progress`` it also
    sends events of its own; not by default, since the stream helper of the official JavaScript SDK throws on them.
    """

    type: str
    name: str = "scripted"
    description: str = "Runs a scripted tool."
    behaviour: Literal["count", "answer", "fail", "slow"] = "count"
    output: str = ""
    progress: bool = False
    seconds: Annotated[float, Meta(ge=0, le=SLOW_SECONDS_MAX)] | None = None
    parameters: msgspec.Raw = msgspec.Raw(b'{"type":"object","properties":{},"additionalProperties":true}')


_decoder = msgspec.json.Decoder(Behaviour)


class ScriptedTool:
    """``engine.ports.tools.Tool``; tests look at its counters and let slow calls go on by ``released``."""

    declared_type = "antiphon:scripted"
    item_type = "antiphon:scripted_call"
    item_prefix = "sc_"

    def __init__(self, clock: Clock, *, read_only: bool = True) -> None:
        self.read_only = read_only
        #: How often it began to run, by function name and arguments.
        self.runs: Counter[tuple[str, str]] = Counter()
        #: Calls that were ended from outside while they ran.
        self.cancelled = 0
        self.released = asyncio.Event()
        #: Set while a slow call waits.
        self.waiting = asyncio.Event()
        self._clock = clock

    def functions(self, declaration: Declaration) -> list[Declaration]:
        """One function.  Raises ``ApiError`` 400 for a declaration that makes no sense."""
        told = _behaviour(declaration)
        return [Declaration("function", told.name, told.description, told.parameters)]

    def opened(self, call: ToolCall) -> dict[str, object]:
        return {"name": call.name, "arguments": call.arguments}

    async def run(self, call: ToolCall, declaration: Declaration, progress: Callable[[str], None]) -> ToolResult:
        """As declared.  Raises ``ToolError`` where it is to fail."""
        told = _behaviour(declaration)
        self.runs[call.name, call.arguments] += 1
        if told.progress:
            progress("in_progress")
        if told.behaviour == "slow":
            await self._wait(told.seconds)
        if told.behaviour == "fail":
            raise ToolError(told.output or "It was told to.")
        output = told.output
        if told.behaviour == "count" or not output:
            output = f"Run {self.runs[call.name, call.arguments]} of {call.name} with {call.arguments}"
        if told.progress:
            progress("completed")
        return ToolResult({"output": output}, output)

    async def _wait(self, seconds: float | None) -> None:
        self.waiting.set()
        try:
            await (self.released.wait() if seconds is None else self._clock.sleep(seconds))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting.clear()

    def recall(self, item: Mapping[str, object]) -> tuple[ToolCall, str]:
        """The call and its result; what a client changed in the item is read as far as it goes."""
        call = ToolCall(_string(item, "id"), _string(item, "name") or "scripted", _string(item, "arguments") or "{}")
        failure = _string(item, "error")
        return call, f"The tool failed: {failure}" if failure else _string(item, "output")


def _behaviour(declaration: Declaration) -> Behaviour:
    told = decode(_decoder, declaration.raw, "tools")
    check_name("tools.name", told.name)
    return told


def _string(item: Mapping[str, object], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""
