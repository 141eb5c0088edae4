"""The parent's side of a child process: start, the last words, the end.

Children are ended by their own id, in bounded time.  Must not know what is asked of them.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import UpstreamError

logger = logging.getLogger("antiphon.upstreams.embedded")

MODULE = "antiphon.upstreams.embedded.child"
#: How long a child may take to end before it is killed.
END_SECONDS = 2.0
#: Lines of the log that are kept for the reason of a failure, and how long one may be.
TAIL_LINES, LINE_MAX = 60, 400
#: OpenMP's threads wait by spinning: on a machine that does anything else, two threads are then five times slower
#: than one.  Asleep they lose a few percent on an idle machine.
QUIET_WAITING = {"OMP_WAIT_POLICY": "passive"}

#: llama.cpp's lines: time, level, function, message.
_LOGGED = re.compile(r"^[\d.]+ ([A-Z]) (.*)$")
_WHY = re.compile(r"error loading model: (.*)")
#: What a dying process says of itself; other errors in its log are of requests.
_LAST_WORDS = re.compile(r"GGML_ASSERT|ggml_abort|terminate called|Fatal Python error|MemoryError")


class _Greeting(msgspec.Struct):
    address: str | None = None
    error: str | None = None


class Child:
    """A running child; ``address`` is the base URL of what it serves."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.address = ""
        self._process = process
        self._log: deque[str] = deque(maxlen=TAIL_LINES)
        self.ended = asyncio.get_running_loop().create_task(self._follow())

    @classmethod
    async def start(cls, settings: Mapping[str, Any], within_seconds: float) -> "Child":
        """Returns when it serves.  Raises ``UpstreamError`` with the child's reason when it does not come to that."""
        child = cls(
            await asyncio.create_subprocess_exec(
                # -P: no module of the working directory may stand in for one of ours.
                *(sys.executable, "-P", "-m", MODULE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=QUIET_WAITING | os.environ,
                start_new_session=True,
            )
        )
        try:
            async with asyncio.timeout(within_seconds):
                await child._greet(settings)
        except TimeoutError:
            message = f"it was not loaded within {within_seconds:g} seconds"
            raise UpstreamError(message, status=504, code="upstream_timeout") from None
        finally:
            if not child.address:
                await child.end()
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    async def ends_within(self, seconds: float) -> bool:
        """Whether it is over, waiting so long at the most."""
        await asyncio.wait([self.ended], timeout=seconds)
        return self.ended.done()

    async def end(self) -> None:
        """Asked, then told, then killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._signal(signal.SIGTERM)
        if not await self.ends_within(END_SECONDS):
            self._signal(signal.SIGKILL)
            await self.ends_within(END_SECONDS)

    def reason(self) -> str:
        """Why it ended, as the end of a sentence."""
        code = self._process.returncode
        how = "it ended" if code is None else f"it ended with status {code}"
        if code is not None and code < 0:
            how = f"it was ended by signal {-code} ({_signal_name(-code)})"
        why = next((line for line in self._log if _LAST_WORDS.search(line)), "")
        return f"{how}: {why.strip('. ')}" if why else how

    def _complaint(self) -> str:
        """The line of the log that tells most about why the model was not loaded."""
        told = [match[1] for match in map(_WHY.search, self._log) if match]
        errors = [match[2] for match in map(_LOGGED.match, self._log) if match and match[1] == "E"]
        return next(iter([*told, *errors]), "").strip(". ")

    async def _greet(self, settings: Mapping[str, Any]) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(settings) + b"\n")
        line = await stdout.readline()
        greeting = msgspec.json.decode(line, type=_Greeting) if line else _Greeting()
        if greeting.address is None:
            await self.ends_within(END_SECONDS)
            why = self._complaint() or (greeting.error or "").strip(". ") or self.reason()
            raise UpstreamError(why, status=503)
        self.address = greeting.address

    async def _follow(self) -> None:
        """Reads the log to its end, then waits for the process."""
        assert self._process.stderr is not None
        rest = b""
        while piece := await self._process.stderr.read(65536):
            *lines, rest = (rest + piece).split(b"\n")
            rest = rest[:LINE_MAX]
            for line in lines:
                self._note(line)
        if rest:
            self._note(rest)
        await self._process.wait()

    def _note(self, line: bytes) -> None:
        text = line[:LINE_MAX].decode("utf-8", "replace").rstrip()
        self._log.append(text)
        logger.debug("[%d] %s", self._process.pid, text)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
