"""Commands that share a database share its server: real processes, at once and one after another."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.acceptance.processes import ANTIPHON, ServerProcess
from tests.acceptance.threads import LoopThread
from tests.engines import GREETING, VLLM, app
from tests.test_cli_ask import MODEL, SECONDS, World

from antiphon.cli.rendezvous import Note, Rendezvous


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    servers = LoopThread()
    yield World(tmp_path, servers)
    servers.close()


@contextlib.contextmanager
def started(world: World, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    settings = world.environment(ANTIPHON_DEMO_MODEL="false")
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen([str(ANTIPHON), *arguments], env=settings, **given) as process:
        try:
            yield process
        finally:
            process.kill()


def database(world: World) -> Path:
    return world.home / ".local/share/antiphon/antiphon.db"


def note(world: World) -> Path:
    return database(world).with_name("antiphon.db.server")


def test_questions_at_once_are_answered_by_one_server(world: World) -> None:
    with contextlib.ExitStack() as all_of_them:
        asking = [all_of_them.enter_context(started(world, "ask", "Hello")) for _ in range(4)]
        ended = [(*one.communicate(timeout=SECONDS), one.returncode) for one in asking]

    assert [(said, status) for said, _, status in ended] == [(f"{GREETING}\n", 0)] * 4, ended
    assert not any("in use" in errors for _, errors, _ in ended)
    assert not note(world).exists()


def test_a_question_goes_to_the_server_of_its_database(world: World) -> None:
    """At whichever port, with the keys that are configured; who comes after it was killed starts another."""
    database(world).parent.mkdir(parents=True)
    told = ("--upstream", world.upstream, "--alias", f"*={MODEL}", "--database", str(database(world)))
    server = ServerProcess(*told, "--api-key", "sk-0123456789", home=world.home)
    try:
        assert note(world).stat().st_mode & 0o777 == 0o600
        first = world.ask("Hello", ANTIPHON_API_KEYS="sk-0123456789")
        locked = world.ask("Hello")
    finally:
        server.kill()
    assert note(world).exists()
    after = world.ask("Hello")

    assert (first.returncode, first.stdout) == (0, f"{GREETING}\n"), first.stderr
    assert (locked.returncode, "does not let us in" in locked.stderr) == (1, True)
    assert (after.returncode, after.stdout, after.stderr) == (0, f"{GREETING}\n", "")


def test_a_server_that_stops_leaves_no_note(world: World) -> None:
    database(world).parent.mkdir(parents=True)
    server = ServerProcess("--no-demo-model", "--database", str(database(world)), home=world.home)
    there = note(world).exists()
    server.stop()

    assert (there, note(world).exists()) == (True, False)


def test_a_question_beside_a_client_goes_to_its_server(world: World) -> None:
    with started(world, "launch", "run", str(ANTIPHON), "ask", "Hello") as launching:
        said, errors = launching.communicate(timeout=SECONDS)

    assert (said, launching.returncode) == (f"{GREETING}\n", 0), errors


class Gated:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.gate = threading.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response(VLLM["/v1/models"])
        self.asked.set()
        assert await asyncio.to_thread(self.gate.wait, SECONDS)
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        chunk = {"choices": [{"index": 0, "delta": {"content": "At last."}, "finish_reason": "stop"}]}
        await reply.write(f"data: {web.json_response(chunk).text}\n\ndata: [DONE]\n\n".encode())
        return reply


def test_a_server_stays_for_those_who_use_it(world: World) -> None:
    gated = Gated()
    world.upstream = f"{world.servers.serve(app(gated.handle))}/v1"
    with started(world, "launch", "run", "sh", "-c", "echo up; read x", stdin=subprocess.PIPE) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        assert host.stderr is not None
        assert host.stdout.readline() == "up\n"
        with started(world, "ask", "Hello") as guest:
            assert gated.asked.wait(SECONDS)
            host.stdin.write("\n")
            host.stdin.flush()
            assert any("Another command uses this server" in line for line in host.stderr)
            gated.gate.set()
            said, errors = guest.communicate(timeout=SECONDS)
        status = host.wait(SECONDS)

    assert (said, guest.returncode, status) == ("At last.\n", 0, 0), errors


def test_a_note_that_others_could_read_or_write_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    (tmp_path / "a.db.server").write_text("{}")
    (tmp_path / "a.db.server").chmod(0o644)
    with pytest.raises(PermissionError):
        Rendezvous(path)
    (tmp_path / "b.db.server").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Rendezvous(tmp_path / "b.db")


def test_one_starts_and_the_others_wait_or_join(tmp_path: Path) -> None:
    here, there = Rendezvous(tmp_path / "a.db"), Rendezvous(tmp_path / "a.db")
    assert here.claim()
    assert (there.claim(), there.join()) == (False, None)

    here.tell(Note("http://127.0.0.1:1/v1", "k"))
    assert (there.claim(), there.join()) == (False, Note("http://127.0.0.1:1/v1", "k"))
    assert not here.claim()  # it is used
    there.close()
    assert here.claim()
    late = Rendezvous(tmp_path / "a.db")
    here.withdraw()

    assert (late.claim(), late.join()) == (False, None)  # it was removed
    late.close()
