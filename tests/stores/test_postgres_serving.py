"""The whole server over PostgreSQL: runs that go on over an outage, and the real command line."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from tests.acceptance.processes import ANTIPHON, START_SECONDS, ServerProcess, environment
from tests.acceptance.threads import LoopThread
from tests.cuttable import Cuttable, cuttable
from tests.runs.stage import Stage, checked, failure_of, id_of, within
from tests.stores.postgres_server import DATABASE, PostgresServer

from antiphon.assemble import Server
from antiphon.config import Config, ConfigError
from antiphon.engine.deltas import TextDelta
from antiphon.stores.postgres import PostgresStore, Settings
from antiphon.upstreams.scripted import Script


class Staged(NamedTuple):
    proxy: Cuttable
    store: PostgresStore

    def stage(self, *scripts: Script) -> Stage:
        store: Any = self.store
        return Stage(*scripts, store=store)


@pytest.fixture
async def staged(postgres: PostgresServer, database_url: str) -> AsyncIterator[Staged]:
    """A store behind a proxy; reads are impatient, writes are not."""
    async with cuttable(postgres.port) as proxy:
        url = postgres.url(DATABASE, port=proxy.port)
        store = PostgresStore(Settings(url, statement_seconds=1.0, read_seconds=0.5, write_seconds=15.0))
        await store.open()
        yield Staged(proxy, store)


async def test_a_background_run_goes_on_after_an_outage(staged: Staged) -> None:
    proxy = staged.proxy
    gate = asyncio.Event()
    here = staged.stage([[TextDelta("one ")], gate, [TextDelta("two ")], [TextDelta("three")]])
    run = await here.create(background=True, stream=True)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")

    proxy.refuse()
    gate.set()
    await within(proxy.refused.wait())
    assert follower.text() == "one "  # no number leaves before its commit
    assert (await failure_of(here.runs.read("p", id_of(run)))).status == 503
    assert (await failure_of(here.create(background=True, previous_response_id=id_of(run)))).status == 503
    proxy.accepting = True

    events = checked(await follower.whole())
    assert follower.text() == "one two three"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    late = here.follow(id_of(run))
    assert await late.whole() == events
    await here.close()


async def test_a_response_is_told_when_it_is_stored(staged: Staged) -> None:
    proxy = staged.proxy
    gate = asyncio.Event()
    here = staged.stage([[TextDelta("Hi")], gate])
    run = await here.create()
    proxy.refuse()
    gate.set()
    await within(proxy.refused.wait())
    assert not run.done.done()
    proxy.accepting = True

    response = json.loads(await within(run.finished()))
    assert await here.read(response["id"]) == response
    await here.close()


# --- The command line ---


class Reply(NamedTuple):
    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def call(server: ServerProcess, path: str, body: dict[str, Any] | None = None) -> Reply:
    """POST with a body, GET without."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}{path}", data, {"content-type": "application/json"})
    try:
        reply = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        return Reply(reply.status, json.loads(reply.read()), dict(reply.headers))


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A configuration file: the scripted upstream, and little patience with the database."""
    path = tmp_path / "antiphon.toml"
    path.write_text(
        'demo_model = false\ndatabase_read_seconds = 0.4\nfetch_allowed_hosts = ["127.0.0.1"]\n'
        '[[upstreams]]\ndialect = "scripted"\nname = "fake"\n'
    )
    return path


@pytest.fixture
def arguments(settings: Path, database_url: str) -> list[str]:
    return ["--config", str(settings), "--database", database_url]


@pytest.fixture
def server(arguments: list[str], tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(*arguments, home=tmp_path)
    yield process
    process.stop()


def test_state_outlives_the_process_and_is_seen_by_another(
    server: ServerProcess, arguments: list[str], tmp_path: Path
) -> None:
    first = call(server, "/v1/responses", {"model": "scripted", "input": "one"}).body
    other = ServerProcess(*arguments, home=tmp_path)
    second = call(other, "/v1/responses", {"model": "scripted", "input": "two", "previous_response_id": first["id"]})
    other.stop()

    assert second.status == 200
    assert call(server, f"/v1/responses/{first['id']}").body == first
    assert call(server, f"/v1/responses/{second.body['id']}").body == second.body
    inputs = call(server, f"/v1/responses/{second.body['id']}/input_items?order=asc").body["data"]
    assert [item["content"][0]["text"] for item in inputs] == ["one", "You said: one", "two"]
    assert call(server, "/ready").body == {"status": "ready", "store": "ok", "models": 1}


def test_while_the_database_is_away_clients_are_told(server: ServerProcess, postgres: PostgresServer) -> None:
    created = call(server, "/v1/responses", {"model": "scripted", "input": "one"}).body
    path = f"/v1/responses/{created['id']}"
    postgres.stop()
    try:
        ready, read = call(server, "/ready"), call(server, path)
        chained = call(server, "/v1/responses", {"input": "two", "model": "x", "previous_response_id": created["id"]})
    finally:
        postgres.start()

    assert (ready.status, ready.body["status"]) == (503, "unavailable")
    assert f"127.0.0.1:{postgres.port}/{DATABASE}: " in ready.body["store"]
    assert postgres.password not in ready.body["store"]
    for refused in (read, chained):
        assert (refused.status, refused.body["error"]["code"]) == (503, "server_is_overloaded")
        assert (refused.headers["x-should-retry"], refused.headers["retry-after"]) == ("true", "2")
    assert call(server, path).body == created
    assert call(server, "/ready").status == 200
    assert call(server, "/v1/responses", {"model": "scripted", "input": "two"}).status == 200


def test_a_start_that_cannot_be_ends_with_a_sentence(settings: Path, postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.url("nowhere")
    done = subprocess.run(
        [ANTIPHON, "serve", "--port", "0", "--config", settings, "--database", url],
        check=False, capture_output=True, text=True, timeout=START_SECONDS, cwd=tmp_path,
        env=environment(HOME=str(tmp_path)),
    )  # fmt: skip

    assert done.returncode != 0
    assert f'PostgreSQL at 127.0.0.1:{postgres.port}/nowhere: database "nowhere" does not exist' in done.stderr
    assert "Traceback" not in done.stderr
    assert postgres.password not in done.stderr


def test_a_missing_driver_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncpg` is an extra."""
    for name in [name for name in sys.modules if name.startswith(("asyncpg", "antiphon.stores.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(ConfigError, match=r"^database: PostgreSQL needs .*pip install 'antiphon\[postgres\]'\.$"):
        Server(Config(database="postgresql://u:p@h/n"))


def test_one_of_two_processes_tells_receivers_of_an_end(
    arguments: list[str], server: ServerProcess, tmp_path: Path
) -> None:
    """An endpoint that one has made hears of a run of the other, once."""
    got: queue.Queue[str] = queue.Queue()

    async def take(request: web.Request) -> web.Response:
        got.put(request.headers["webhook-id"])
        return web.Response()

    thread = LoopThread()
    app = web.Application()
    app.router.add_post("/", take)
    other = ServerProcess(*arguments, home=tmp_path)
    try:
        wanted = {"name": "a", "url": f"{thread.serve(app)}/", "event_types": ["response.completed"]}
        assert call(server, "/v1/webhook_endpoints", wanted).status == 200
        runs = [
            call(one, "/v1/responses", {"model": "scripted", "input": "Hi", "background": True}).body["id"]
            for one in (server, other) * 5
        ]
        told = [got.get(timeout=START_SECONDS) for _ in runs]
        assert sorted(told) == sorted(f"evt_{run.removeprefix('resp_')}" for run in runs)
        assert call(other, "/v1/webhook_endpoints").body["data"][0]["url"] == wanted["url"]
    finally:
        other.stop()
        thread.close()
    assert got.empty()
