"""The measuring stand: fake upstream, server under test and nginx as real processes, and loads sent at one of them.

Knows how the server is started; not which workloads there are.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench import nginx
from bench.client import Load, Result
from bench.processes import Child, allow_many_files, cpu_seconds, free_port
from bench.upstream import Recording


@dataclass(frozen=True)
class Side:
    """A process that is measured, and the port where it answers."""

    name: str
    child: Child
    port: int


@dataclass(frozen=True)
class Sample:
    """One run of a load against one side. `upstream_cpu` shows whether the fake was the bottleneck."""

    cpu_seconds: float
    upstream_cpu_seconds: float
    result: Result


@dataclass
class Stand:
    folder: Path
    upstream: Child
    antiphon: Side
    nginx: Side | None
    _client: list[str] = field(default_factory=lambda: [sys.executable, "-m", "bench.client"])

    @property
    def database(self) -> Path:
        return self.folder / "antiphon.db"

    def save(self, name: str, recording: Recording) -> None:
        """Makes the recording available to nginx as /replay/NAME."""
        (self.folder / "replays" / f"{name}.json").write_bytes(msgspec.json.encode(recording))

    def measure(self, side: Side, load: Load) -> Sample:
        """Raises RuntimeError when any reply failed, with the first failure."""
        upstream_before, before = cpu_seconds(self.upstream.pid), cpu_seconds(side.child.pid)
        limit = load.deadline_seconds + 60
        text = msgspec.json.encode(load) + b"\n"
        done = subprocess.run(self._client, input=text, stdout=subprocess.PIPE, timeout=limit, check=True)
        sample = Sample(
            cpu_seconds(side.child.pid) - before,
            cpu_seconds(self.upstream.pid) - upstream_before,
            msgspec.json.decode(done.stdout, type=Result),
        )
        require_success(side, sample.result)
        return sample

    @contextmanager
    def held(self, load: Load) -> Iterator[Result]:
        """Keeps the load's streams open while the body runs."""
        with subprocess.Popen(self._client, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(msgspec.json.encode(load) + b"\n")
            process.stdin.flush()
            result = msgspec.json.decode(process.stdout.readline(), type=Result)
            require_success(self.antiphon, result)
            yield result
            process.stdin.close()
            process.wait(30)


def require_success(side: Side, result: Result) -> None:
    if result.failure:
        raise RuntimeError(f"{side.name}: a reply failed: {result.failure}")


@contextmanager
def stand(
    server: str, extra_arguments: Sequence[str], models: Sequence[str], with_nginx: bool, parent: Path | None
) -> Iterator[Stand]:
    """Starts all processes in a temporary folder and stops them, each by its own id. Raises RuntimeError when one does
    not come up."""
    allow_many_files()
    children: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-", dir=parent) as name:
        folder = Path(name)
        (folder / "replays").mkdir()
        try:
            port = free_port()
            command = [sys.executable, "-m", "bench.upstream", f"--port={port}", f"--replays={folder / 'replays'}"]
            upstream = Child.start([*command, *(f"--model={m}" for m in models)], folder / "upstream.log")
            children.append(upstream)
            upstream.wait_ready(port, "/v1/models")
            antiphon = start_antiphon(server, extra_arguments, folder, port)
            children.append(antiphon.child)
            yardstick = None
            if with_nginx:
                yardstick = Side("nginx", *nginx.start(folder, port))
                children.append(yardstick.child)
            yield Stand(folder, upstream, antiphon, yardstick)
        finally:
            for child in reversed(children):
                child.stop()


def start_antiphon(server: str, extra_arguments: Sequence[str], folder: Path, upstream_port: int) -> Side:
    port = free_port()
    where = ["--host", "127.0.0.1", "--port", str(port), "--database", str(folder / "antiphon.db")]
    command = [server, "serve", *where, "--upstream", f"http://127.0.0.1:{upstream_port}/v1", *extra_arguments]
    begin = time.monotonic()
    child = Child.start(command, folder / "antiphon.log")
    try:
        child.wait_ready(port, "/ready")
    except RuntimeError:
        child.stop()
        raise
    print(f"server ready in {time.monotonic() - begin:.2f} s", file=sys.stderr)
    return Side("antiphon", child, port)
