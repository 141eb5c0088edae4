"""What tests of the embedded engine share: a feed that can be awaited, and waits for processes, all bounded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from tests.upstreams.asking import asked, user

from antiphon.clock import SystemClock
from antiphon.engine.deltas import CallDelta, Delta, TextDelta
from antiphon.engine.ports.upstreams import Stop
from antiphon.upstreams.embedded.upstream import Embedded

PATIENCE_SECONDS = 20
MODEL = "antiphon-demo"
STORY = "Tell me a three sentence bedtime story about a unicorn."
#: Takes the small model to its limit of tokens, whatever it has learnt.
LONG = {
    "type": "json_schema",
    "name": "numbers",
    "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 300},
}


class Heard:
    """A feed that keeps what it is told."""

    def __init__(self, on_delta: Callable[[], None] | None = None) -> None:
        self.deltas: list[Delta] = []
        self.spoke = asyncio.Event()
        self._on_delta = on_delta

    def __call__(self, deltas: Sequence[Delta]) -> None:
        self.deltas += deltas
        if deltas:
            self.spoke.set()
        if self._on_delta is not None:
            self._on_delta()

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Nobody reads slowly here."""

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def calls(self) -> dict[str, str]:
        """Arguments by the name of the call."""
        names: dict[int, str] = {}
        arguments: dict[str, str] = {}
        for delta in self.deltas:
            if isinstance(delta, CallDelta):
                name = names.setdefault(delta.key, delta.name or "")
                arguments[name] = arguments.get(name, "") + delta.arguments
        return arguments


async def run(upstream: Embedded, *items: dict[str, Any], model: str = MODEL, **parameters: Any) -> tuple[Heard, Stop]:
    """One call to its end."""
    heard = Heard()
    async with asyncio.timeout(PATIENCE_SECONDS):
        stop = await upstream.run(asked(*items or [user(STORY)], model=model, **parameters), heard)
    return heard, stop


def begin(upstream: Embedded, heard: Heard, tokens: int = 800) -> asyncio.Task[Stop]:
    """A call that lasts long enough to be disturbed."""
    request = asked(user("Count."), model=MODEL, text={"format": LONG}, stream=True, max_output_tokens=tokens)
    return asyncio.get_running_loop().create_task(upstream.run(request, heard))


async def within(waited: Any, seconds: float = PATIENCE_SECONDS) -> Any:
    async with asyncio.timeout(seconds):
        return await waited


async def gone(pid: int, seconds: float = 10) -> None:
    """Returns when the process has ended, also where nobody has taken notice of it yet.  Raises ``TimeoutError``."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await within(ended.wait(), seconds)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


class Ahead(SystemClock):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return super().now() + self.seconds
