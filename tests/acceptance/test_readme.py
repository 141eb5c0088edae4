"""The examples of the README are run as they stand, with nothing set but the two variables that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.conftest import KEY
from tests.acceptance.node import CLIENTS_JS
from tests.acceptance.processes import ROOT, environment
from tests.acceptance.serving import Served

EXAMPLE_SECONDS = 60
HEADING = "## Use it"


def examples() -> list[tuple[str, str]]:
    """The blocks under the heading, each with its language; of console blocks those that call the server."""
    readme = (ROOT / "README.md").read_text("utf-8")
    _, found, section = readme.partition(f"\n{HEADING}\n")
    assert found, f"README.md has no heading {HEADING!r}"
    section = re.split(r"^## ", section, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in blocks if language != "console" or "curl" in text]


EXAMPLES = examples()


def test_there_is_an_example_for_every_way_to_call() -> None:
    languages = {language.replace("console", "bash") for language, _ in EXAMPLES}

    assert languages == {"javascript", "python", "bash"}


@pytest.mark.parametrize("served", ["bare", "guarded"], indirect=True)
@pytest.mark.parametrize(("language", "text"), EXAMPLES, ids=[language for language, _ in EXAMPLES])
def test_an_example_works_as_it_is_written(
    request: pytest.FixtureRequest, served: Served, tmp_path: Path, language: str, text: str
) -> None:
    """With the bundled model, and with keys before an upstream."""
    command = {"python": [sys.executable, "-c", text], "bash": ["bash", "-euo", "pipefail", "-c", text]}
    command["console"] = command["bash"]
    if language == "javascript":
        node: Path = request.getfixturevalue("node")
        (tmp_path / "node_modules").symlink_to(CLIENTS_JS / "node_modules")
        (tmp_path / "example.mjs").write_text(text, "utf-8")
        command["javascript"] = [str(node), "example.mjs"]

    done = subprocess.run(
        command[language],
        cwd=tmp_path,
        env=environment(OPENAI_BASE_URL=served.base_url, OPENAI_API_KEY=KEY),
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert '{"error":' not in done.stdout
