"""`antiphon doctor`: what is configured and from where, what works, and status 1 for what does not."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from tests.acceptance.processes import ServerProcess
from tests.acceptance.threads import LoopThread
from tests.engines import OLLAMA, VLLM, app, engine

from antiphon.cli.commands import main
from antiphon.config import Config, load, shown, sources


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing is configured."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = {"DATABASE": str(tmp_path / "antiphon.db"), "DISCOVER": "false", "PORT": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(f"ANTIPHON_{name}", value)


@pytest.fixture
def servers() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def told(*arguments: str) -> dict[str, Any]:
    """What it says to programs; the status says the same."""
    result = doctor("--json", *arguments)
    document: dict[str, Any] = json.loads(result.output)
    assert result.exit_code == (0 if document["healthy"] else 1), result.output
    return document


def of(document: dict[str, Any], subject: str) -> list[tuple[str, str]]:
    return [(one["state"], one["says"]) for one in document["findings"] if one["subject"] == subject]


def test_a_fresh_machine_is_healthy(tmp_path: Path) -> None:
    document = told()

    assert document["healthy"], document
    assert of(document, "database") == [("ok", f"{tmp_path / 'antiphon.db'}, which the first start makes")]
    assert of(document, "engine")[0][1].startswith("loaded antiphon-demo in ")
    assert of(document, "versions")[0][1].startswith("Antiphon ")
    assert not (tmp_path / "antiphon.db").exists(), "looking changes nothing"


def test_for_people_every_setting_has_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('retries = 1\napi_keys = ["sk-secret-of-clients"]\n')

    page = doctor("--config", str(file), "--log-level", "error").output

    rows = [line.split() for line in page.splitlines()]
    assert ["retries", "1", f"({file})"] in rows
    assert ["log_level", "error", "(--log-level)"] in rows
    assert ["discover", "False", "(ANTIPHON_DISCOVER)"] in rows
    assert ["api_keys", "1", "hidden", f"({file})"] in rows
    assert "sk-secret" not in page


def test_an_upstream_is_asked(servers: LoopThread) -> None:
    url = f"{servers.serve(app(engine(VLLM)))}/v1"

    ((state, says),) = of(told("--upstream", url), "upstream")

    assert state == "ok"
    assert says.startswith(f"{urlsplit(url).netloc} answers in ")
    assert says.endswith(" ms, 1 models: Qwen/Qwen3-4B")


def test_an_engine_that_runs_here_is_found(servers: LoopThread) -> None:
    port = str(urlsplit(servers.serve(app(engine(OLLAMA)))).port)

    document = told("--discover", "--discover-ports", port, "--discover-seconds", "10")

    assert of(document, "found") == [("ok", f"Ollama 0.14.2 at http://127.0.0.1:{port}, with 2 models")]
    assert [state for state, _ in of(document, "upstream")] == ["ok"]


def test_a_key_is_said_to_be_there_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")

    result = doctor("--json")

    assert of(json.loads(result.output), "keys") == [
        ("note", "OPENAI_API_KEY is in the environment, used only with --upstream openai")
    ]
    assert "sk-secret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "subject", "says"),
    [
        (["--upstream", "http://127.0.0.1:1/v1"], "upstream", "Cannot connect to http://127.0.0.1:1/v1"),
        (["--upstream", "ftp://nowhere"], "upstream", "is no http or https URL"),
        (["--upstream", "openai"], "configuration", "OPENAI_API_KEY"),
        (["--database", "/dev/null/x/antiphon.db"], "database", "cannot be made"),
        (["--database", "mysql://u:secret@h/n"], "database", "is not supported"),
        (["--database", "postgresql://u:secret@127.0.0.1:1/n"], "database", "127.0.0.1:1/n"),
        (["--host", "0.0.0.0"], "address", "needs at least one key"),
        (["--prompts-folder", "/absent"], "prompts", "/absent"),
        (["--model", "/absent.gguf"], "model", "/absent.gguf does not exist"),
        (["--retries", "-1"], "configuration", "retries"),
    ],
)
def test_what_does_not_work_is_said_and_is_status_1(arguments: list[str], subject: str, says: str) -> None:
    document = told(*arguments)
    page = doctor(*arguments)

    ((state, said),) = of(document, subject)
    assert (state, says in said) == ("wrong", True), said
    assert page.exit_code == 1
    assert f"WRONG  {subject}" in page.output
    assert "secret" not in page.output + json.dumps(document)


def test_the_name_of_a_file_need_not_be_utf_8(tmp_path: Path) -> None:
    file = os.fsencode(tmp_path) + b"/caf\xe9.toml"
    absent = doctor("--json", "--config", os.fsdecode(file))
    Path(os.fsdecode(file)).write_text("retries = 1")
    there = doctor("--json", "--config", os.fsdecode(file))

    ((state, said),) = of(json.loads(absent.output), "configuration")
    assert (state, "caf\N{REPLACEMENT CHARACTER}.toml" in said) == ("wrong", True)
    assert json.loads(there.output)["settings"]["retries"]["from"].endswith("caf\N{REPLACEMENT CHARACTER}.toml")


def test_databases_are_looked_at_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.db"
    server = ServerProcess("--database", str(file), home=tmp_path)
    try:
        ((open_state, open_says),) = of(told(), "database")
        port = urlsplit(server.url).port
        ((address, running),) = of(told("--port", str(port)), "address")
    finally:
        server.stop()
    before = file.read_bytes()
    ((state, says),) = of(told(), "database")

    assert (open_state, state, address) == ("ok", "ok", "ok")
    assert open_says.endswith("; a server has it open")
    assert "schema" in says
    assert "has it open" not in says
    assert running == f"a server runs already at http://127.0.0.1:{port}/v1"
    assert file.read_bytes() == before


def test_databases_of_others_are_wrong(tmp_path: Path) -> None:
    letter, newer = tmp_path / "letter.txt", tmp_path / "newer.db"
    letter.write_text("Dear database, " * 100)
    with sqlite3.connect(newer) as made:
        made.execute("PRAGMA user_version=999")
        made.execute("CREATE TABLE t(x)")
    made.close()

    for file, says in ((letter, "not a database"), (newer, "newer release (schema 999"), (tmp_path, "")):
        ((state, said),) = of(told("--database", str(file)), "database")
        assert (state, says in said) == ("wrong", True), said


def test_a_port_that_somebody_else_has_is_wrong() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        taken.settimeout(0)

        ((state, said),) = of(told("--port", str(port)), "address")

    assert state == "wrong"
    assert "Address already in use" in said


@pytest.mark.parametrize(
    ("config", "name", "told"),
    [
        (Config(database="postgresql://u:p@h/n?sslmode=x"), "database", "postgresql://u@h/n"),
        (Config(database="postgresql:///n?password=p"), "database", "postgresql:///n"),
        (Config(upstream_key="p"), "upstream_key", "1 hidden"),
        (Config(aliases={"a": "b"}), "aliases", "a=b"),
        (load(None, {}, {"upstreams": ({"url": "http://h:1/v1", "key": "p"},)}), "upstreams", "h:1"),
    ],
)
def test_settings_are_shown_without_their_secrets(config: Config, name: str, told: str) -> None:
    assert shown(config, name) == told


def test_sources_name_the_last_place() -> None:
    found = sources(None, {"ANTIPHON_PORT": "1", "ANTIPHON_HOST": "h"}, {"port": "2", "loop": None})

    assert found == {"port": ("2", "--port"), "host": ("h", "ANTIPHON_HOST")}
