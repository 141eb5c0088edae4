"""`antiphon models`: what is served and what lies on the disk, for people and for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from tests.acceptance.processes import ServerProcess
from tests.acceptance.threads import LoopThread
from tests.engines import OLLAMA, app, engine
from tests.upstreams.gguf_files import header

from antiphon.cli.commands import main
from antiphon.cli.tables import columns, size
from antiphon.upstreams.embedded import disk


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where one model of LM Studio's lies."""
    for name in ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ANTIPHON_DISCOVER", "false")
    monkeypatch.setattr(disk, "OLLAMA_SERVICE", tmp_path / "no-service")
    file = tmp_path / ".lmstudio/models/org/Phi-4-GGUF/Phi-4-Q4_K_M.gguf"
    file.parent.mkdir(parents=True)
    pairs = {"general.architecture": "phi3", "general.size_label": "15B", "general.file_type": 15}
    file.write_bytes(header(pairs, tensors=((32, 2),), rest=1000))
    return tmp_path


def test_what_would_be_served_and_what_lies_on_the_disk(home: Path) -> None:
    told = CliRunner().invoke(main, ["models"])

    assert told.exit_code == 0
    rows = [line.split() for line in told.output.splitlines()]
    assert ["antiphon-demo", "embedded", "names", "that", "nobody", "knows"] in rows
    assert any(row[:1] == ["phi-4-q4_k_m"] and row[3:] == ["15B", "Q4_K_M", "LM", "Studio"] for row in rows)


def test_for_programs(home: Path) -> None:
    told = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)

    assert (told["default"], told["served"]) == (
        "antiphon-demo",
        [{"id": "antiphon-demo", "owned_by": "embedded"}],
    )
    (model,) = told["on_disk"]
    assert model["name"] == "phi-4-q4_k_m"
    assert Path(model["path"]).stat().st_size == model["size"]


@pytest.mark.parametrize("kept", [100, -1])
def test_a_file_that_was_cut_is_left_out(home: Path, kept: int) -> None:
    file = home / ".lmstudio/models/org/Phi-4-GGUF/Phi-4-Q4_K_M.gguf"
    whole = header({"general.architecture": "phi3"}, tensors=((32, 2), (32, 2)), rest=512)
    file.write_bytes(whole)
    before = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)["on_disk"]
    file.write_bytes(whole[:kept])

    after = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)["on_disk"]

    assert ([one["name"] for one in before], after) == (["phi-4-q4_k_m"], [])


def test_an_engine_that_runs_here_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = LoopThread()
    try:
        port = str(urlsplit(servers.serve(app(engine(OLLAMA)))).port)
        settings = {"DISCOVER": "true", "DISCOVER_PORTS": port, "DISCOVER_SECONDS": "10"}
        for name, value in settings.items():
            monkeypatch.setenv(f"ANTIPHON_{name}", value)

        told = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)
    finally:
        servers.close()

    assert {"llama3.2:3b", "qwen3:4b"} < {model["id"] for model in told["served"]}
    assert told["default"] == "qwen3:4b"


def test_a_running_server_tells_its_own(home: Path) -> None:
    server = ServerProcess("--database", ":memory:", "--alias", "gpt-4.1=antiphon-demo", home=home)
    try:
        told = json.loads(CliRunner().invoke(main, ["models", "--json", "--base-url", server.base_url]).output)
        page = CliRunner().invoke(main, ["models"], env={"ANTIPHON_BASE_URL": server.base_url}).output
    finally:
        server.stop()

    assert [model["id"] for model in told["served"]] == ["antiphon-demo", "gpt-4.1"]
    assert told["default"] == "antiphon-demo"
    assert page.startswith(f"Served at {server.base_url}:\n")
    assert "phi-4" not in page


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "ftp://nowhere", "http://u:p@127.0.0.1/v1"])
def test_a_server_that_does_not_answer_is_one_sentence(url: str) -> None:
    told = CliRunner().invoke(main, ["models", "--base-url", url])

    assert told.exit_code == 1
    assert told.output.startswith("Error: ")
    assert told.output.count("\n") == 1
    assert "u:p" not in told.output


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (639_000_000, "639 MB"), (4_683_087_332, "4.7 GB")]
)
def test_sizes_are_told_as_people_count_them(count: int, told: str) -> None:
    assert size(count) == told


def test_names_of_others_do_not_steer_the_terminal(home: Path) -> None:
    """What stands in a file's name, or in a list that somebody's server sends, is told as text."""
    file = home / ".lmstudio/models/org/Phi-4-GGUF/Phi-4-Q4_K_M.gguf"
    for name in (b"odd\xff.gguf", b"odd\x1b[2J.gguf"):
        Path(os.fsdecode(os.fsencode(file.parent) + b"/" + name)).write_bytes(file.read_bytes())
    for options in ([], ["--json"]):
        told = CliRunner().invoke(main, ["models", *options])
        assert told.exit_code == 0, told.output
        assert "phi-4-q4_k_m" in told.output
        assert "odd" not in told.output

    assert columns([["a\x1b[2J\nb", "c"]]) == ["  a\ufffd[2J b  c"]


def test_a_home_that_nobody_has_is_an_empty_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "~nobody-has-this-name/hub")
    assert CliRunner().invoke(main, ["models"]).exit_code == 0
    monkeypatch.setenv("ANTIPHON_DATABASE", "~nobody-has-this-name/x.db")
    told = CliRunner().invoke(main, ["serve"])
    assert (told.exit_code, told.output) == (
        1,
        "Error: database: there is no home folder for ~nobody-has-this-name/x.db.\n",
    )
