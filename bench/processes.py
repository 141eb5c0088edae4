"""Starts and stops the processes of a measurement and reads their CPU time and memory.

Knows nothing of what they do. Linux only.
"""

import http.client
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name. Raises FileNotFoundError when the process is gone."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(stat_fields(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """CPU time (user and system) of the process tree, in nanosecond steps; descendants that have ended, in ticks."""
    total = 0.0
    for pid in tree(root):
        try:
            total += time.clock_gettime((~pid << 3) | 2)  # the kernel's clock id of another process's CPU time
            total += sum(int(x) for x in stat_fields(pid)[13:15]) / TICKS
        except (OSError, ProcessLookupError):
            continue
    return total


def resident_bytes(root: int) -> int:
    """Resident memory of the process tree; shared pages count once in each process."""
    total = 0
    for pid in tree(root):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total * resource.getpagesize()


def allow_many_files() -> None:
    """Raises this process's limit of open files, and so its children's, to what the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass
class Child:
    """A started process whose output goes to a file. `stop` ends it by its own id."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, command: Sequence[str], log: Path) -> "Child":
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self, port: int, path: str, seconds: float = 60.0) -> None:
        """Polls until the path answers 200. Raises RuntimeError with the end of the log when it does not in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        state = "ended" if self.process.poll() is not None else f"not ready after {seconds:.0f} s"
        raise RuntimeError(f"{self.process.args!r}: {state}\n{self.log.read_text(errors='replace')[-2000:]}")

    def stop(self, seconds: float = 20.0) -> None:
        """SIGTERM, and SIGKILL when that has not ended it in time."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
