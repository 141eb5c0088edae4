"""The JavaScript SDKs on Node 22: one test per file of `tests/clients_js`, run by Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.acceptance.behaviours import STORY as STORY_TEXT
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.conftest import KEY
from tests.acceptance.node import CLIENTS_JS, TEST, assert_all_passed
from tests.acceptance.processes import environment
from tests.acceptance.serving import Served

NODE_SECONDS = 60
#: Runs against the server where every model name leads to a model: nothing is set but the two variables.
STORY = "story.test.mjs"
THEMES = sorted({path.name for path in CLIENTS_JS.glob("*.test.mjs")} - {STORY})


def run(node: Path, file: str, **variables: str) -> None:
    """Runs the tests of one file.  Raises AssertionError with their output unless all passed and none was skipped."""
    done = subprocess.run(
        [str(node), *TEST, file],
        cwd=CLIENTS_JS,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=NODE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_all_passed(done.stdout)


def test_every_theme_has_its_file() -> None:
    assert {"create", "errors", "sdk_2025", "state", "stream", "tools", "websocket"} == {
        name.split(".")[0] for name in THEMES
    }


@pytest.mark.parametrize("file", THEMES)
def test_the_javascript_sdk(node: Path, server: Served, chat: ChatControl, file: str) -> None:
    run(node, file, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="any", CHAT_URL=chat.url)


def test_the_first_example_works_as_it_is_written(node: Path, guarded: Served) -> None:
    run(node, STORY, OPENAI_BASE_URL=guarded.base_url, OPENAI_API_KEY=KEY, EXPECTED=STORY_TEXT)
