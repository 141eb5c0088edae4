"""The command line: a wrong setting stops the start with one sentence; the announcement says how to call."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from antiphon import announce
from antiphon.cli.commands import main
from antiphon.config import fields, option


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("ANTIPHON_DATABASE", str(tmp_path / "antiphon.db"))
    monkeypatch.setenv("ANTIPHON_DISCOVER", "false")
    return CliRunner()


def test_every_setting_is_an_option(runner: CliRunner) -> None:
    told = runner.invoke(main, ["serve", "--help"], terminal_width=200).output

    assert [name for name in fields() if f"{option(name)} " not in told and f"{option(name)} /" not in told] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "x"], "Error: port: "),
        (["--host", "0.0.0.0"], "Error: api_keys: "),
        (["--alias", "nonsense"], "Error: aliases: "),
        (["--api-key", "team="], "Error: api_keys: "),
        (["--upstream", "ftp://x"], "Error: upstreams: "),
        (["--upstream", "http://127.0.0.1:PORT/v1"], "Error: upstreams: "),
        (["--upstream", "http://a/v1", "--upstream", "http://a/v1"], "Error: upstreams: "),
        (["--database", "mysql://x"], "Error: database: "),
        (["--database", "/dev/null/x"], "Error: database: "),
        (["--database", "postgresql://[x/y"], "Error: database: "),
        (["--config", "/absent.toml"], "Error: config: "),
    ],
)
def test_a_wrong_setting_is_one_sentence(runner: CliRunner, arguments: list[str], told: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    result = runner.invoke(main, ["serve", "--port", port, *(part.replace("PORT", port) for part in arguments)])

    assert result.exit_code == 1
    assert result.output.startswith(told), result.output
    assert result.output.count("\n") == 1


def test_a_port_in_use_says_so(runner: CliRunner) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = runner.invoke(main, ["serve", "--port", str(port)])

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: port: cannot listen on 127.0.0.1:{port}: Address already in use")


def test_a_file_that_is_no_database(runner: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear database, " * 100)

    result = runner.invoke(main, ["serve", "--port", "0", "--database", str(file)])

    assert result.exit_code == 1
    assert result.output.startswith("Error: database: ")


def test_the_announcement() -> None:
    told = "\n".join(
        announce.lines(
            base_url="http://127.0.0.1:8600/v1",
            models=["antiphon-demo"],
            aliases={"*": "antiphon-demo"},
            failures={"vllm": "Cannot connect."},
            keys=False,
            found=["Ollama 0.14.2 at http://127.0.0.1:11434, with 2 models"],
        )
    )

    for part in (
        "found      Ollama 0.14.2 at http://127.0.0.1:11434, with 2 models",
        "antiphon-demo",
        "every other name -> antiphon-demo",
        "vllm: Cannot connect.",
        "curl http://127.0.0.1:8600/v1/responses",
        "OPENAI_BASE_URL=http://127.0.0.1:8600/v1",
        "Ready on http://127.0.0.1:8600/v1",
    ):
        assert part in told


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_server_whose_log_nobody_reads_any_more_stops_all_the_same(asked: signal.Signals) -> None:
    command = [sys.executable, "-c", "from antiphon.cli import main; main()", "serve"]
    settings = ["--port", "0", "--database", ":memory:", "--no-demo-model", "--no-discover"]
    server = subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        assert any(line.startswith("Ready on ") for line in server.stderr)
        server.stderr.close()
        server.send_signal(asked)
        server.wait(timeout=30)
    finally:
        server.kill()
        server.wait()


#: Presses Ctrl-C when a module is about to be loaded.
_PRESSING = """
import signal, sys
class Pressing:
    def find_spec(self, name, *_):
        if name == "{module}":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Pressing())
sys.argv = ["antiphon", "doctor"]
from antiphon.cli import main
main()
"""


@pytest.mark.parametrize("module", ["click", "antiphon.config", "uvicorn"])
def test_ctrl_c_is_no_failure_even_while_the_program_loads(module: str) -> None:
    program = [sys.executable, "-c", _PRESSING.format(module=module)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_ctrl_c_in_a_command_is_no_failure() -> None:
    program = "import click; from antiphon.cli import commands, main\n"
    program += "def pressed(): raise KeyboardInterrupt\n"
    program += "commands.main.add_command(click.Command('wait', callback=pressed)); main()"
    ended = subprocess.run([sys.executable, "-c", program, "wait"], capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_log_line_steers_no_terminal_and_forges_no_other_line() -> None:
    program = "import logging; from antiphon.cli.logs import log_to; log_to('info')\n"
    program += "logging.info('loaded %s', 'a\\x1b[2Jb\\nERROR root: c\\u202ed')\n"
    program += "try: raise ValueError('e\\x1b[2J')\nexcept ValueError: logging.exception('f')"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stderr

    first, *_, last = said.splitlines()
    assert first == "INFO root: loaded a\N{REPLACEMENT CHARACTER}[2Jb ERROR root: c\N{REPLACEMENT CHARACTER}d"
    assert last == "ValueError: e\N{REPLACEMENT CHARACTER}[2J"
