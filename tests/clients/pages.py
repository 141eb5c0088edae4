"""The pages `docs/clients/NAME.md` as the tests take their configuration from them.

A fenced block whose info string has a second word is the file of that name: the tests write it into the folder in
which they run the client.  A block without one, in a language that can be run, is an example: it is run as it stands
after those files are there.  In both, the default address is replaced by that of the server under test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.acceptance.processes import ROOT

PAGES = ROOT / "docs/clients"
ADDRESS = "http://127.0.0.1:8600/v1"
#: Begins the paragraph that says why the bundled model cannot do what a client asks of it.
NOT_BUNDLED = "\nNot with the bundled model: "
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: How a block of a language is run; others are for reading.
RUNNERS = {"python": ["python", "-c"], "bash": ["bash", "-euo", "pipefail", "-c"], "javascript": ["node", "-e"]}


@dataclass(frozen=True)
class Page:
    """One client's page."""

    name: str
    text: str

    @classmethod
    def of(cls, name: str) -> Page:
        return cls(name, (PAGES / f"{name}.md").read_text("utf-8"))

    @classmethod
    def all(cls) -> list[Page]:
        return [cls.of(file.stem) for file in sorted(PAGES.glob("*.md")) if file.stem != "README"]

    @property
    def models_of_examples(self) -> set[str]:
        """Before which servers the examples are run."""
        return {"scripted"} if NOT_BUNDLED in self.text else {"scripted", "bundled"}

    def files(self, base_url: str) -> dict[str, str]:
        """The files of the configuration, with the server's address."""
        return {name: text.replace(ADDRESS, base_url) for _, name, text in BLOCK.findall(self.text) if name}

    def examples(self, base_url: str) -> list[list[str]]:
        """The commands that run the examples, in order."""
        return [
            [*RUNNERS[language], text.replace(ADDRESS, base_url)]
            for language, name, text in BLOCK.findall(self.text)
            if not name and language in RUNNERS
        ]
