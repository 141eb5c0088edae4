"""Processes of the tests: started, heard, stopped, thawed and killed by their own ids; every wait has a limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from tests.acceptance.processes import ROOT, environment

START_SECONDS = 30
STOP_SECONDS = 20
LINE_BYTES_MAX = 64 << 20


def milliseconds() -> float:
    """The clock that all processes of this machine share."""
    return time.time() * 1000


async def within(seconds: float, what: str, waiting: Any) -> Any:
    """The result of `waiting`.  Raises AssertionError that says what was waited for."""
    try:
        return await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


class Child:
    """A process and the lines that it says on one of its outputs, which is the one that `heard` names."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        heard: Literal["stdout", "stderr"] = "stdout",
        variables: Mapping[str, str] | None = None,
        files: Sequence[int] = (),
        cwd: Path = ROOT,
    ) -> None:
        self._command = list(command)
        self._heard = heard
        self._variables = dict(variables or {})
        self._files = tuple(files)
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.lines: list[str] = []
        self.said = asyncio.Condition()
        self.silent = False
        #: Told every line as it comes.
        self.on_line: Callable[[str], None] = lambda line: None

    async def start(self) -> None:
        stdout, stderr = (PIPE, None) if self._heard == "stdout" else (DEVNULL, PIPE)
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=stdout, stderr=stderr, limit=LINE_BYTES_MAX, cwd=self._cwd,
            env=environment(**self._variables), pass_fds=self._files,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _read(self) -> None:
        stream = self.process.stdout if self._heard == "stdout" else self.process.stderr
        assert stream is not None
        while line := await stream.readline():
            self.lines.append(line.decode().rstrip("\n"))
            self.on_line(self.lines[-1])
            async with self.said:
                self.said.notify_all()
        async with self.said:
            self.silent = True
            self.said.notify_all()

    async def line(self, text: str, seconds: float = START_SECONDS) -> str:
        """The first line that holds `text`.  Raises AssertionError when none comes or the process ends before."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        async def heard() -> None:
            async with self.said:
                await self.said.wait_for(lambda: found() is not None or self.silent)

        with contextlib.suppress(AssertionError):
            await within(seconds, text, heard())
        line = found()
        assert line is not None, f"{text!r} was not said: " + "\n".join(self.lines[-40:])
        return line

    def tell(self, message: object) -> None:
        """One line of JSON on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(message) + b"\n")

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            os.kill(self.pid, number)

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit code; negative for a signal.  Raises TimeoutError while it lives on."""
        code = await asyncio.wait_for(self.process.wait(), seconds)
        assert self._reading is not None
        await within(STOP_SECONDS, "the last line", self._reading)
        return code

    async def kill(self) -> None:
        """As a power cut for this one process."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def close(self) -> None:
        """Ends it, whatever state it is in."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGCONT)
            await self.kill()


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def listening() -> socket.socket:
    """A socket that is kept over restarts: who connects while no server is there waits for the next one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    return listener
