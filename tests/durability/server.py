"""The real server with the real command line's serving, told where to kill itself.

Run as ``python -m tests.durability.server``; what it is to do comes as JSON in the variable `DURABILITY`.  The product
knows nothing of this: its store is wrapped in one that ends the process, as a kill from outside would, at a named call
of the port, and its hosted tools are ones whose calls are counted in a file that outlives the process.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from antiphon.assemble import Server
from antiphon.cli.serving import run
from antiphon.clock import SystemClock
from antiphon.config import Config
from antiphon.engine.ports.stores import Store
from antiphon.engine.ports.tools import Tool, ToolCall, ToolResult
from antiphon.protocol.tools import Tool as Declaration
from antiphon.tools.scripted import ScriptedTool

#: Calls of the store before and after which the process may be told to end.
PORT_CALLS = (
    "begin",
    "claim",
    "begun",
    "append",
    "journal_begin",
    "journal_complete",
    "journal",
    "finish",
    "hand_back",
    "compact",
)
#: The point at which no log is left that could be packed.
PACKED = "all packed"


class Orders(msgspec.Struct):
    """What the server is to do.  `kill_at`: such as `after append`, or `all packed`; at its `count`-th time."""

    listener: int
    ledger: str
    settings: dict[str, Any]
    kill_at: str | None = None
    count: int = 1


class Ledger:
    """Lines in a file that outlive the process that wrote them."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, **members: object) -> None:
        line = {"is": what, "process": os.getpid(), "at": time.time() * 1000, **members}
        os.write(self._file, msgspec.json.encode(line) + b"\n")


class NotedStore:
    """A store whose claims and journal are noted, and that ends the process where it was told to."""

    def __init__(self, store: Any, ledger: Ledger, orders: Orders) -> None:
        self._store = store
        self._ledger = ledger
        self._orders = orders
        self._reached: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._store, name)
        return self._watched(name, inner) if name in PORT_CALLS else inner

    def _watched(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            if name in ("append", "hand_back") and not arguments[0]:
                return await inner(*arguments)
            self._reach(f"before {name}")
            result = await inner(*arguments)
            self._note(name, arguments, result)
            self._reach(PACKED if name == "compact" and not result else f"after {name}")
            return result

        return call

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        """What is durable from here on."""
        if name == "claim" and result is not None:
            self._ledger.note("claimed", run=arguments[1], last=result.last, attempt=result.attempt)
        elif name in ("journal_begin", "journal_complete"):
            self._ledger.note(name, run=arguments[1], item=arguments[3].item_id, tool=arguments[3].name)
        elif name == "journal":  # what an earlier process made durable and had no time to note
            for call, outcome in result:
                durable = "journal_begin" if outcome is None else "journal_complete"
                self._ledger.note(durable, run=arguments[1], item=call.item_id, tool=call.name)

    def _reach(self, point: str) -> None:
        self._reached[point] += 1
        if point == self._orders.kill_at and self._reached[point] == self._orders.count:
            self._ledger.note("killed", point=point)
            os.kill(os.getpid(), signal.SIGKILL)


class CountedTool(ScriptedTool):
    """The shipped fake with its calls in the ledger: one line before a call takes effect, one after it."""

    def __init__(self, ledger: Ledger, *, read_only: bool) -> None:
        super().__init__(SystemClock(), read_only=read_only)
        self._ledger = ledger

    async def run(self, call: ToolCall, declaration: Declaration, progress: Callable[[str], None]) -> ToolResult:
        asked = msgspec.json.decode(call.arguments)
        self._ledger.note("called", item=call.item_id, tool=call.name, tag=asked["tag"], call=asked["call"])
        result = await super().run(call, declaration, progress)
        self._ledger.note("answered", item=call.item_id, tool=call.name, tag=asked["tag"], call=asked["call"])
        return result


class EffectTool(CountedTool):
    """What it does must not be done twice."""

    declared_type = "antiphon:effect"
    item_type = "antiphon:effect_call"
    item_prefix = "ec_"

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger, read_only=False)


def counted_tools(ledger: Ledger) -> Mapping[str, Tool]:
    return {
        CountedTool.declared_type: CountedTool(ledger, read_only=True),
        EffectTool.declared_type: EffectTool(ledger),
    }


def main() -> None:
    orders = msgspec.json.decode(os.environ["DURABILITY"], type=Orders)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    listener = socket.socket(fileno=orders.listener)
    settings = {"port": listener.getsockname()[1], "demo_model": False, **orders.settings}
    config = msgspec.convert(settings, Config)
    ledger = Ledger(Path(orders.ledger))

    def noted(store: Store) -> Store:
        wrapped: Any = NotedStore(store, ledger, orders)
        return wrapped

    ledger.note("starting")
    run(config, Server(config, tools=counted_tools(ledger), wrap_store=noted), listener)


if __name__ == "__main__":
    main()
