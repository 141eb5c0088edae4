"""An event loop whose time passes only while everybody waits, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Waits by moving the time on."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everybody waits, and no timer is set")
            self.time += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code without sockets and threads."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.time


class LoopClock:
    """``engine.ports.Clock`` by the time of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}1"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
