"""A browser without a display, led over its DevTools protocol.

Knows nothing of what is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

STEP_SECONDS = 30
#: Settles once the text of #status is no longer the first one; a page that is still loading has none.
WATCH = """new Promise((resolve) => {
  const text = (id) => document.querySelector(id)?.textContent;
  const look = () => (["asking", undefined].includes(text("#status")) ? setTimeout(look, 20)
                      : resolve({status: text("#status"), story: text("#story")}));
  look();
})"""


@contextlib.asynccontextmanager
async def running(chromium: str, url: str, profile: Path) -> AsyncIterator[str]:
    """Opens `url`; yields the address of the DevTools."""
    process = await asyncio.create_subprocess_exec(
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-proxy-server",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(STEP_SECONDS):
            said = b""
            while not (found := re.search(rb"DevTools listening on ws://([^/]+)/", said)):
                line = await process.stderr.readline()
                assert line, said
                said += line
        yield f"http://{found[1].decode()}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children hold its standard error
        async with asyncio.timeout(STEP_SECONDS):
            await process.communicate()


async def outcome(chromium: str, url: str, profile: Path) -> dict[str, str]:
    """The texts of #status and #story once the page's script has ended."""
    async with running(chromium, url, profile) as tools, aiohttp.ClientSession() as session:
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                async with session.get(f"{tools}/json/list") as reply:
                    found = [target for target in await reply.json() if target["type"] == "page"]
                if found and (result := await _evaluate(session, found[0]["webSocketDebuggerUrl"], WATCH)):
                    return result


async def _evaluate(session: aiohttp.ClientSession, address: str, expression: str) -> dict[str, str] | None:
    """The value of a script in the page; None when the page went to another address meanwhile."""
    parameters: dict[str, Any] = {"expression": expression, "awaitPromise": True, "returnByValue": True}
    async with session.ws_connect(address) as socket:
        await socket.send_json({"id": 1, "method": "Runtime.evaluate", "params": parameters})
        answer = await socket.receive_json()
        value: dict[str, str] | None = answer.get("result", {}).get("result", {}).get("value")
        return value
