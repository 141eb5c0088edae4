"""`antiphon ask`: real processes before a fake engine, with a server that runs and without one."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from tests.acceptance.processes import ANTIPHON, ServerProcess, environment
from tests.acceptance.threads import LoopThread
from tests.engines import GREETING, VLLM, app, engine

from antiphon.cli.commands import main

MODEL = "Qwen/Qwen3-4B"
SECONDS = 60


class World:
    """A home of its own, an upstream, and what that was asked."""

    def __init__(self, home: Path, servers: LoopThread) -> None:
        self.home = home
        self.servers = servers
        self.asked: list[Any] = []
        self.upstream = f"{servers.serve(app(engine(VLLM, asked=self.asked)))}/v1"

    def environment(self, **extra: str) -> dict[str, str]:
        """Port 1 is nobody's, so that no server of this machine is taken for ours."""
        where = {"HOME": str(self.home), "XDG_DATA_HOME": "", "XDG_STATE_HOME": ""}
        return environment(**where, ANTIPHON_PORT="1", ANTIPHON_UPSTREAMS=self.upstream, **extra)

    def ask(self, *arguments: str, piped: str | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if piped is None else {"input": piped}
        return subprocess.run(
            [ANTIPHON, "ask", *arguments],
            env=self.environment(**{"ANTIPHON_DEMO_MODEL": "false", **extra}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            **given,
        )

    def said(self) -> list[tuple[str, Any]]:
        """The messages that the model saw last."""
        return [(message["role"], message["content"]) for message in self.asked[-1]["messages"]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    servers = LoopThread()
    yield World(tmp_path, servers)
    servers.close()


def test_a_question_needs_no_server_and_no_model_to_be_named(world: World) -> None:
    done = world.ask("Hello,", "world", "--instructions", "Be kind.")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{GREETING}\n", "")
    assert world.asked[-1]["model"] == MODEL
    assert [content for _, content in world.said()] == ["Be kind.", "Hello, world"]


def test_the_last_answer_can_be_gone_on_with(world: World) -> None:
    world.ask("One")
    world.ask("Two", "-c")
    done = world.ask("Three", "--continue")

    assert done.returncode == 0, done.stderr
    told = [content for _, content in world.said()]
    assert told == ["One", GREETING, "Two", GREETING, "Three"]


def test_what_is_piped_in_is_part_of_the_question(world: World) -> None:
    assert world.ask("What is this?", piped="a letter\n").returncode == 0
    both = world.said()
    assert world.ask(piped="only this").returncode == 0

    assert both[-1][1] == "What is this?\n\na letter\n"
    assert world.said()[-1][1] == "only this"


@pytest.mark.parametrize("where", ["option", "environment", "port"])
def test_a_running_server_is_used(world: World, where: str) -> None:
    keys = ("--api-key", "team=sk-0123456789")
    arguments = ("--upstream", world.upstream, "--alias", f"*={MODEL}", *keys, "--database", ":memory:")
    server = ServerProcess(*arguments, home=world.home)
    port = server.url.rpartition(":")[2]
    try:
        first = ("--base-url", server.base_url) if where == "option" else ()
        told = {"environment": {"ANTIPHON_BASE_URL": server.base_url}, "port": {"ANTIPHON_PORT": port}}.get(where, {})
        told |= (
            {"ANTIPHON_API_KEYS": "team=sk-0123456789"} if where == "port" else {"ANTIPHON_API_KEY": "sk-0123456789"}
        )
        environment = world.environment() | told | {"ANTIPHON_UPSTREAMS": ""}
        done, locked = (
            subprocess.run(
                [ANTIPHON, "ask", "Hello", *first], env=settings, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=SECONDS,
            )
            for settings in (environment, environment | {"ANTIPHON_API_KEY": "wrong"})
        )  # fmt: skip
    finally:
        server.stop()

    assert (done.returncode, done.stdout) == (0, f"{GREETING}\n"), done.stderr
    assert (locked.returncode, locked.stdout) == (1, "")
    assert "does not let us in" in locked.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Error: prompt: "),
        (("x", "--base-url", "http://127.0.0.1:1/v1"), "Error: Cannot connect to http://127.0.0.1:1/v1"),
        (("x", "--base-url", "nonsense"), "Error: base_url: "),
        (("x", "--continue"), "Error: continue: "),
        (("x", "--config", "/absent.toml"), "Error: config: "),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(main, ["ask", *arguments], env={"HOME": str(tmp_path), "XDG_STATE_HOME": ""})

    assert done.exit_code == 1
    assert done.output.startswith(told)
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--previous", "resp_none"), "Error: Previous response"), (("--model", "none"), "Error: The model `none`")],
)
def test_what_the_server_refuses_is_one_sentence(world: World, arguments: tuple[str, ...], told: str) -> None:
    done = world.ask("x", *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


def test_a_server_that_cannot_start_says_why(world: World) -> None:
    done = world.ask("x", ANTIPHON_PROMPTS_FOLDER="/absent")

    assert (done.returncode, done.stdout) == (1, "")
    assert "/absent is not a folder" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: the server could not be started")
    assert "Traceback" not in done.stderr


def test_of_several_models_one_is_to_be_named(world: World) -> None:
    done = world.ask("x", ANTIPHON_DEMO_MODEL="true")

    assert done.returncode == 1
    assert done.stderr == f"Error: model: say which one with --model ({MODEL}, antiphon-demo).\n"


def test_a_model_that_fails_is_status_1(world: World) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response(VLLM["/v1/models"])
        return web.json_response({"error": {"message": "out of order"}}, status=400)

    world.upstream = f"{world.servers.serve(app(broken))}/v1"
    done = world.ask("x")

    assert (done.returncode, done.stdout) == (1, "")
    assert "out of order" in done.stderr


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("ask Hello <&-", 0, f"{GREETING}\n"),
        ("ask Hello >&-", 0, ""),
        ("ask Hello >/dev/full", 1, "Error: The answer cannot be written: No space left on device.\n"),
        ("ask \"$(printf 'caf\\351')\"", 0, f"{GREETING}\n"),
        ("ask x --model \"$(printf 'caf\\351')\"", 1, "Error: The model `caf\ufffd` does not exist"),
        ("ask x --api-key é", 1, "Error: api_key: it has characters that a header cannot have.\n"),
        ("models >/dev/full", 1, "Error: No space left on device.\n"),
    ],
)
def test_odd_surroundings_end_in_one_sentence(world: World, command: str, status: int, told: str) -> None:
    settings = world.environment(ANTIPHON_DEMO_MODEL="false")
    done = subprocess.run(["sh", "-c", f"{ANTIPHON} {command}"], env=settings, capture_output=True, text=True,
                          timeout=SECONDS)  # fmt: skip

    assert (done.returncode, (done.stdout + done.stderr)[: len(told)]) == (status, told)
    assert "Traceback" not in done.stderr


def test_what_cannot_be_written_in_the_terminals_letters_is_replaced(world: World) -> None:
    world.upstream = f"{world.servers.serve(app(Saying('héllo ☃').handle))}/v1"
    done = world.ask("x", PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stdout, done.stderr) == (0, "h?llo ?\n", "")


def test_what_was_remembered_and_cannot_be_read_is_no_answer(world: World) -> None:
    file = world.home / ".local/state/antiphon/last.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(b'{"id": "\xff"}')
    done = world.ask("x", "-c")

    assert (done.returncode, done.stderr) == (1, "Error: continue: there is no last answer to go on with.\n")


class Saying:
    """A model that says one thing."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response(VLLM["/v1/models"])
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        chunk = {"choices": [{"index": 0, "delta": {"content": self._text}, "finish_reason": "stop"}]}
        await reply.write(f"data: {web.json_response(chunk).text}\n\ndata: [DONE]\n\n".encode())
        return reply


class Endless:
    """A model that says one word and then thinks for ever; it notes when it is left."""

    def __init__(self, word: str = "word ") -> None:
        self.left = threading.Event()
        self._word = word

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response(VLLM["/v1/models"])
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        chunk = {"choices": [{"index": 0, "delta": {"content": self._word}}]}
        await reply.write(f"data: {web.json_response(chunk).text}\n\n".encode())
        try:
            await asyncio.sleep(SECONDS)
        finally:
            self.left.set()
        return reply


def test_ctrl_c_ends_the_answer_and_the_work_on_it(world: World) -> None:
    endless = Endless()
    world.upstream = f"{world.servers.serve(app(endless.handle))}/v1"
    settings = world.environment(ANTIPHON_DEMO_MODEL="false")
    with subprocess.Popen([ANTIPHON, "ask", "x"], env=settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as asking:  # fmt: skip
        try:
            assert asking.stdout is not None
            assert asking.stdout.read(5) == "word "
            asking.send_signal(signal.SIGINT)
            rest, complaint = asking.communicate(timeout=SECONDS)
        finally:
            asking.kill()

    assert (asking.returncode, rest, complaint) == (130, "\n", "")
    assert endless.left.wait(SECONDS)


def test_nothing_that_steers_a_terminal_reaches_one(world: World) -> None:
    endless = Endless("\x1b[2Jred\x07\n")
    world.upstream = f"{world.servers.serve(app(endless.handle))}/v1"
    screen, terminal = pty.openpty()
    settings = world.environment(ANTIPHON_DEMO_MODEL="false")
    asking = subprocess.Popen([ANTIPHON, "ask", "x"], env=settings, stdin=subprocess.DEVNULL, stdout=terminal)
    try:
        assert os.read(screen, 100) == b"[2Jred\r\n"
    finally:
        asking.send_signal(signal.SIGINT)
        asking.wait(SECONDS)
        os.close(terminal)
        os.close(screen)
