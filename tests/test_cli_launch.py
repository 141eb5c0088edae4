"""`antiphon launch`: clients find a server that answers, and nothing of the user's is changed for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.acceptance.processes import ANTIPHON, ServerProcess, environment
from tests.acceptance.threads import LoopThread
from tests.engines import GREETING, VLLM, app, engine

from antiphon.cli.clients import CLIENTS, find
from antiphon.cli.commands import main

MODEL = "Qwen/Qwen3-4B"
SECONDS = 60
#: A client that tells what it was told, asks for an answer, and ends with the status that its last argument names.
CLIENT = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
catalogs = [Path(word.partition("=")[2].strip('"')) for word in sys.argv if word.startswith("model_catalog_json")]
own = os.environ.get("LLM_USER_PATH")
found = catalogs + (sorted(Path(own).iterdir()) if own else [])
files = {{file.name: [file.read_text(), file.stat().st_mode & 0o777] for file in found}}
print(json.dumps({{"argv": sys.argv[1:], "environment": dict(os.environ), "files": files}}))
sys.exit(int(sys.argv[-1]))
"""


class World:
    """A home, clients on the path, and an upstream behind whatever server is started."""

    def __init__(self, home: Path, servers: LoopThread) -> None:
        self.home = home
        self.upstream = f"{servers.serve(app(engine(VLLM)))}/v1"
        self.bin = home / "bin"
        self.bin.mkdir()
        for client in CLIENTS:
            (self.bin / client.name).write_text(CLIENT)
            (self.bin / client.name).chmod(0o755)

    def launch(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        where = {"HOME": str(self.home), "XDG_DATA_HOME": "", "XDG_STATE_HOME": "", "PATH": f"{self.bin}:/usr/bin:/bin"}
        settings = {"ANTIPHON_PORT": "1", "ANTIPHON_UPSTREAMS": self.upstream, "ANTIPHON_DEMO_MODEL": "false"}
        return subprocess.run(
            [ANTIPHON, "launch", *arguments],
            env=environment(**{**where, **settings, **extra}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    servers = LoopThread()
    yield World(tmp_path, servers)
    servers.close()


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_codex_is_told_by_arguments_and_its_status_is_ours(world: World) -> None:
    done = world.launch("codex", "exec", "--json", "3")

    said = told(done)
    *settings, last, flag, status = said["argv"]
    assert (done.returncode, last, flag, status) == (3, "exec", "--json", "3")
    assert settings[::2] == ["-c"] * (len(settings) // 2)
    toml = tomllib.loads("\n".join(settings[1::2]))
    provider = toml["model_providers"]["antiphon"]
    assert (toml["model"], toml["model_provider"], provider["wire_api"]) == (MODEL, "antiphon", "responses")
    key = said["environment"][provider["env_key"]]
    assert key
    (catalog, mode) = said["files"]["models.json"]
    assert ([model["slug"] for model in json.loads(catalog)["models"]], mode) == ([MODEL], 0o600)
    assert f"codex: {MODEL} at {provider['base_url']} (started for it" in done.stderr
    assert "model_provider=" in done.stderr
    assert key not in done.stderr
    assert not Path(toml["model_catalog_json"]).exists(), "what was made for the client goes with it"
    assert sorted(path.name for path in world.home.iterdir()) == [".local", "bin"]


def test_opencode_is_told_by_a_variable(world: World) -> None:
    said = told(world.launch("--model", "some/model", "opencode", "run", "0"))

    config = json.loads(said["environment"]["OPENCODE_CONFIG_CONTENT"])
    assert said["argv"] == ["run", "0"]
    assert config["model"] == config["small_model"] == "antiphon/some/model"
    provider = config["provider"]["antiphon"]
    assert (provider["npm"], list(provider["models"])) == ("@ai-sdk/openai", ["some/model"])
    assert provider["options"]["apiKey"] == "{env:ANTIPHON_API_KEY}"
    assert said["environment"]["ANTIPHON_API_KEY"]


def test_llm_has_a_folder_that_stays(world: World) -> None:
    first, second = told(world.launch("llm", "0")), told(world.launch("llm", "0"))

    folder = Path(first["environment"]["LLM_USER_PATH"])
    assert folder == Path(second["environment"]["LLM_USER_PATH"])
    assert folder.is_relative_to(world.home / ".local/state/antiphon")
    files = second["files"]
    (model,) = json.loads(files["extra-openai-models.yaml"][0])
    assert (model["model_id"], model["model_name"], model["responses"]) == ("antiphon", MODEL, True)
    assert files["default_model.txt"][0] == "antiphon"
    assert {mode for _, mode in files.values()} == {0o600}
    assert files["keys.json"][0] != first["files"]["keys.json"][0], "each server has a key of its own"


SCRIPT = "from openai import OpenAI; print(OpenAI().responses.create(model='x/y', input='Hello').output_text)"


def test_any_program_with_an_official_sdk_runs_against_a_server_of_its_own(world: World) -> None:
    done = world.launch("run", sys.executable, "-c", SCRIPT.replace("x/y", MODEL))

    assert (done.returncode, done.stdout) == (0, f"{GREETING}\n"), done.stderr
    assert "OPENAI_API_KEY=(the key)" in done.stderr
    log = world.home / ".local/state/antiphon/launch.log"
    assert f"logs to {log}" in done.stderr
    assert log.exists()


def test_a_running_server_is_used(world: World) -> None:
    server = ServerProcess("--upstream", world.upstream, "--database", ":memory:", home=world.home)
    try:
        done = world.launch("--base-url", server.base_url, "run", sys.executable, "-c", SCRIPT.replace("x/y", MODEL))
    finally:
        server.stop()

    assert (done.returncode, done.stdout) == (0, f"{GREETING}\n"), done.stderr
    assert f"{server.base_url} (running already)" in done.stderr
    assert f"OPENAI_BASE_URL={server.base_url}" in done.stderr


def test_a_client_that_was_ended_by_a_signal_has_the_status_of_a_shell(world: World) -> None:
    done = world.launch("run", sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert done.returncode == 128 + signal.SIGKILL


def test_a_client_that_is_not_there_is_said_with_how_to_get_it(world: World) -> None:
    (world.bin / "codex").unlink()

    missing, nothing = world.launch("codex"), world.launch("run", "no-such-program")

    assert (missing.returncode, nothing.returncode) == (127, 127)
    assert missing.stderr == "Error: codex is not installed: npm install -g @openai/codex\n"
    assert nothing.stderr == "Error: no-such-program is not installed.\n"


def test_without_a_name_all_are_listed() -> None:
    done = CliRunner().invoke(main, ["launch"])

    assert done.exit_code == 0
    rows = [line.split() for line in done.output.splitlines()]
    assert {client.name for client in CLIENTS} | {"run"} <= {row[0] for row in rows if row}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody"], "Error: launch: 'nobody' is not known; known are codex, "),
        (["run"], "Error: launch: "),
        (["--base-url", "http://127.0.0.1:1/v1", "run", "true"], "Error: Cannot connect"),
    ],
)
def test_what_cannot_be_launched_is_one_sentence(arguments: list[str], says: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        done = CliRunner().invoke(main, ["launch", *arguments])
    finally:
        signal.signal(signal.SIGINT, before)

    assert done.exit_code == 1
    assert done.output.startswith(says)
    assert done.output.count("\n") == 1


def test_names_are_found() -> None:
    assert [client and client.name for client in map(find, ("codex", "run", "Codex", ""))] == [
        "codex", "run", None, None,
    ]  # fmt: skip


def test_what_cannot_be_run_or_written_is_one_sentence(world: World) -> None:
    broken = world.bin / "broken"
    broken.write_text("nothing that a kernel knows")
    broken.chmod(0o755)
    done = world.launch("run", "broken")
    unwritable = world.launch("run", "true", XDG_STATE_HOME="/dev/null")

    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"Error: {broken}: Exec format error.")
    assert (unwritable.returncode, unwritable.stderr) == (1, "Error: /dev/null/antiphon: Not a directory.\n")
