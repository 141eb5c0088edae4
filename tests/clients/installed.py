"""A client as it is installed for the tests, and how a program of it is run in a folder of its own.

Each client has one name, by which everything of it is found: its programs and pins in `tests/clients/NAME`, its page
`docs/clients/NAME.md`, a Python client's environment in `.venv-clients/NAME`.  JavaScript runs on the Node of
`tests/clients_js`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.node import CLIENTS_JS, TEST, assert_all_passed, installed_node
from tests.acceptance.processes import ROOT, environment
from tests.acceptance.serving import Served, unavailable
from tests.clients.pages import Page

CLIENTS = ROOT / "tests/clients"
#: Clients that are small enough for every run of the tests; the others are tested by `make test-clients`.
LIGHT = (CLIENTS / "light").read_text("utf-8").split()
PROGRAM_SECONDS = 60
SHOWN = 4_000


@dataclass
class Printed:
    """What a program printed on its standard output."""

    text: str

    @property
    def json(self) -> Any:
        """The last line, in which the programs of the tests tell what they have seen."""
        return json.loads(self.text.strip().rpartition("\n")[2])


@dataclass
class Client:
    """An installed client, and the empty folder in which its programs run."""

    name: str
    folder: Path

    @property
    def sources(self) -> Path:
        return CLIENTS / self.name

    @property
    def page(self) -> Page:
        return Page.of(self.name)

    @property
    def binaries(self) -> Path:
        """Where its commands lie; `python` is one of a Python client's."""
        modules = self.sources / "node_modules"
        return modules / ".bin" if modules.exists() else ROOT / ".venv-clients" / self.name / "bin"

    def require(self) -> None:
        """Skips the test unless the client is installed with the pins that stand in its folder; fails it in CI."""
        for pins, home in (
            ("requirements.txt", self.binaries.parent),
            ("package-lock.json", self.sources / "node_modules"),
        ):
            wanted, installed = self.sources / pins, home / ".installed"
            if wanted.exists() and not (installed.exists() and installed.read_bytes() == wanted.read_bytes()):
                unavailable(f"{self.name} is not installed as pinned: run scripts/setup-clients {self.name}")

    def configure(self, served: Served) -> None:
        """Writes the files of the client's page into the folder, with this server's address."""
        for name, text in self.page.files(served.base_url).items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        modules = self.sources / "node_modules"
        if modules.exists() and not (self.folder / "node_modules").exists():
            (self.folder / "node_modules").symlink_to(modules)

    def run(self, served: Served, file: str, *arguments: str, **variables: str) -> Printed:
        """Runs a Python program out of the client's folder beside the files of its page."""
        self.configure(served)
        (self.folder / file).write_bytes((self.sources / file).read_bytes())
        return self.execute(["python", file, *arguments], **variables)

    def run_tests(self, served: Served, file: str, **variables: str) -> None:
        """Runs a file of JavaScript tests beside the files of its page and the door of the scripted chat server."""
        self.configure(served)
        for source in (self.sources / file, CLIENTS_JS / "chat.mjs"):
            (self.folder / source.name).write_bytes(source.read_bytes())
        assert_all_passed(self.execute(["node", *TEST, file], **variables).text)

    def execute(
        self, command: list[str], *, stdin: str = "", seconds: float = PROGRAM_SECONDS, **variables: str
    ) -> Printed:
        """Runs a command of the client in the folder.  Raises AssertionError with its output unless it ends well."""
        try:
            done = subprocess.run(
                ["/usr/bin/env", *command],
                cwd=self.folder,
                env=self._environment(variables),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(_told(command, f"is not done after {seconds} s", late.stdout, late.stderr)) from None
        assert done.returncode == 0, _told(command, f"ended with {done.returncode}", done.stdout, done.stderr)
        return Printed(done.stdout)

    @contextlib.contextmanager
    def started(self, command: list[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
        """A command of the client that runs meanwhile; what is left of it at the end is killed."""
        with subprocess.Popen(
            ["/usr/bin/env", *command],
            cwd=self.folder,
            env=self._environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        folders = [self.binaries, *([installed_node().parent] if self.binaries.name == ".bin" else [])]
        path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
        home = {"HOME": str(self.folder), "PWD": str(self.folder), "PATH": path}
        home |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
        return environment(**(home | variables))


def _told(command: list[str], what: str, *outputs: str | bytes | None) -> str:
    shown = [(text.decode(errors="replace") if isinstance(text, bytes) else text or "")[-SHOWN:] for text in outputs]
    return "\n".join([f"{shlex.join(command)} {what}", *shown])
