"""Two hosted tools: one that may be run again, one with effects.  The ledger counts what they do.

Must not know who runs them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random

import msgspec
from tests.simulation.ledger import Ledger
from tests.simulation.loop import OWNER
from tests.simulation.scenario import CHANGE, LOOKUP

from antiphon.engine.ports.tools import ToolCall, ToolError, ToolResult
from antiphon.protocol.tools import Tool as Declaration

_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


class SimulatedTool:
    """``engine.ports.tools.Tool``."""

    def __init__(self, name: str, random: Random, ledger: Ledger) -> None:
        self.item_type = f"antiphon:{name}_call"
        self.item_prefix = f"{name}_"
        self.read_only = name == LOOKUP
        self._name = name
        self._random = random
        self._ledger = ledger

    def functions(self, declaration: Declaration) -> list[Declaration]:
        return [Declaration("function", self._name, f"Does a {self._name}.", _PARAMETERS)]

    def opened(self, call: ToolCall) -> dict[str, object]:
        return {"name": call.name, "arguments": call.arguments}

    async def run(self, call: ToolCall, declaration: Declaration, progress: Callable[[str], None]) -> ToolResult:
        called = self._ledger.call_started(call, OWNER.get(), read_only=self._name == LOOKUP)
        if self._random.random() < 0.2:
            progress("in_progress")
        await asyncio.sleep(self._random.choice((0.0, 0.005, 0.05, 0.5)) * self._random.random())
        if self._random.random() < 0.1:
            called.told.append(text := f"Failure {called.starts} of {call.item_id}")
            raise ToolError(text)
        called.told.append(text := f"Result {called.starts} of {call.item_id}")
        return ToolResult({"output": text}, text)

    def recall(self, item: Mapping[str, object]) -> tuple[ToolCall, str]:
        call = ToolCall(str(item["id"]), str(item["name"]), str(item["arguments"]))
        return call, str(item.get("output") or item.get("error") or "")


def registry(random: Random, ledger: Ledger) -> dict[str, SimulatedTool]:
    """By the type of their declarations."""
    return {f"antiphon:{name}": SimulatedTool(name, random, ledger) for name in (LOOKUP, CHANGE)}
