"""An event loop in a thread of its own, so that servers of the tests live beside tests that block.

Knows nothing of what it serves.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")

STEP_SECONDS = 10


class LoopThread:
    """Runs coroutines for threads that have no loop; `close` ends the servers first, then the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers of the tests", daemon=True)
        self._thread.start()
        self._runners: list[web.AppRunner] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, waited for `STEP_SECONDS` at most."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STEP_SECONDS)

    def serve(self, app: web.Application) -> str:
        """Starts `app` on a free port; returns its URL without a slash at the end."""
        return self.run(self._serve(app))

    async def _serve(self, app: web.Application) -> str:
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def close(self) -> None:
        for runner in reversed(self._runners):
            self.run(runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STEP_SECONDS)
        self._loop.close()
