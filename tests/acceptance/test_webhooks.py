"""Webhooks as their receivers see them: a real server, the official SDKs' helpers, crashes, and receivers that fail."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from openai import BadRequestError, InvalidWebhookSignatureError, OpenAI
from tests.acceptance.conftest import TIMEOUT_SECONDS
from tests.acceptance.node import CLIENTS_JS
from tests.acceptance.processes import ServerProcess, environment
from tests.acceptance.threads import LoopThread

ALL = ["response.completed", "response.failed", "response.incomplete", "response.cancelled"]
SCRIPTED = '[[upstreams]]\nname = "scripted"\ndialect = "scripted"\nmodels = ["demo"]\n'


class Delivery(NamedTuple):
    """What one POST brought."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers each POST with the next of ``statuses``, at last with 200; None never answers."""

    def __init__(self) -> None:
        self.statuses: list[int | None] = []
        self.got: queue.Queue[Delivery] = queue.Queue()
        self.app = web.Application()
        self.app.router.add_post("/{path:.*}", self._take)
        self.url = ""

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.put(Delivery(request.path, headers, await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:
            await asyncio.Event().wait()  # until the connection is cut
        assert status is not None
        return web.Response(status=status)

    def next(self) -> Delivery:
        return self.got.get(timeout=TIMEOUT_SECONDS)


@pytest.fixture
def receiver(servers: LoopThread) -> Receiver:
    made = Receiver()
    made.url = servers.serve(made.app)
    return made


class Place:
    """A folder with a database and a configuration; servers are started in it one after another."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running: ServerProcess | None = None

    def serve(self, *arguments: str, config: str = "", allowed: str = "127.0.0.1") -> OpenAI:
        file = self.home / "antiphon.toml"
        file.write_text(SCRIPTED + config)
        rules = ("--fetch-allowed-hosts", allowed, "--no-demo-model")
        given = ("--config", str(file), "--database", str(self.home / "state.db"), *rules, *arguments)
        self.running = ServerProcess(*given, home=self.home)
        return OpenAI(base_url=self.running.base_url, api_key="any", timeout=TIMEOUT_SECONDS)

    def kill(self) -> None:
        assert self.running is not None
        self.running.kill()
        self.running = None

    def stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.stop()


def subscribed(client: OpenAI, url: str) -> Any:
    return client.webhooks.create(name="tests", url=url, event_types=ALL)  # type: ignore[arg-type]


def test_the_official_sdk_sets_up_verifies_and_reads(place: Place, receiver: Receiver) -> None:
    client = place.serve()
    endpoint = subscribed(client, receiver.url)
    assert client.webhooks.retrieve(endpoint.id).signing_secret_hint == endpoint.signing_secret_hint
    assert [one.id for one in client.webhooks.list(limit=1)] == [endpoint.id]
    assert client.webhooks.event_types.list().data == ALL
    assert client.webhooks.update(endpoint.id, name="renamed").name == "renamed"
    begun = client.responses.create(model="demo", input="Hello", background=True)

    got = receiver.next()

    event = client.webhooks.unwrap(got.body, got.headers, secret=endpoint.signing_secret)
    assert event.type == "response.completed"
    assert client.responses.retrieve(event.data.id).output_text == client.responses.retrieve(begun.id).output_text != ""
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(got.body + b" ", got.headers, secret=endpoint.signing_secret)
    rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    assert client.webhooks.test(endpoint.id, event_type="response.failed").status_code == 200
    sample = receiver.next()
    for secret in (endpoint.signing_secret, rotated.signing_secret):
        assert client.webhooks.unwrap(sample.body, sample.headers, secret=secret).type == "response.failed"
    assert client.webhooks.delete(endpoint.id).deleted
    assert list(client.webhooks.list()) == []


def test_the_javascript_sdk_verifies(place: Place, receiver: Receiver, node: Path) -> None:
    client = place.serve()
    endpoint = subscribed(client, receiver.url)
    begun = client.responses.create(model="demo", input="Hello", background=True)
    got = receiver.next()
    told = {"body": got.body.decode(), "headers": got.headers, "secret": endpoint.signing_secret}

    done = subprocess.run(
        [str(node), "webhook.mjs"],
        cwd=CLIENTS_JS, env=environment(OPENAI_API_KEY="any"), input=json.dumps(told), capture_output=True, text=True,
        timeout=TIMEOUT_SECONDS,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"type": "response.completed", "id": begun.id, "forged": "refused"}


def test_a_failed_delivery_is_made_again_with_the_same_id(place: Place, receiver: Receiver) -> None:
    client = place.serve()
    endpoint = subscribed(client, receiver.url)
    receiver.statuses = [500]
    client.responses.create(model="demo", input="Hello", background=True)

    first, second = receiver.next(), receiver.next()

    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    client.webhooks.unwrap(second.body, second.headers, secret=endpoint.signing_secret)


def test_what_was_not_delivered_before_a_kill_is_delivered_after_it(place: Place, receiver: Receiver) -> None:
    """The process dies with its delivery on the way: nobody told it that the event has arrived."""
    client = place.serve()
    endpoint = subscribed(client, receiver.url)
    receiver.statuses = [None]
    begun = client.responses.create(model="demo", input="Hello", background=True)
    first = receiver.next()
    place.kill()

    again = place.serve()

    second = receiver.next()
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert second.body == first.body
    assert client.webhooks.unwrap(second.body, second.headers, secret=endpoint.signing_secret).data.id == begun.id
    assert again.responses.retrieve(begun.id).status == "completed"


def test_a_kill_between_the_end_and_the_delivery_loses_nothing(place: Place, receiver: Receiver) -> None:
    """While the receiver's slots are all taken by what never answers, other ends wait in the outbox."""
    client = place.serve("--webhook-deliveries-max", "1")
    subscribed(client, receiver.url)
    receiver.statuses = [None]
    begun = [client.responses.create(model="demo", input=f"Hello {n}", background=True).id for n in range(5)]
    receiver.next()
    for response in begun:
        while client.responses.retrieve(response).status != "completed":
            pass
    place.kill()
    assert receiver.got.empty()

    place.serve()

    told = {json.loads(receiver.next().body)["data"]["id"] for _ in begun}
    assert told == set(begun)


def test_a_graceful_stop_does_not_wait_for_a_receiver(place: Place, receiver: Receiver) -> None:
    client = place.serve()
    subscribed(client, receiver.url)
    receiver.statuses = [None]
    client.responses.create(model="demo", input="Hello", background=True)
    first = receiver.next()
    place.stop()
    place.serve()

    assert receiver.next().headers["webhook-id"] == first.headers["webhook-id"]


def test_private_receivers_are_refused_unless_allowed(place: Place, receiver: Receiver) -> None:
    client = place.serve(allowed="10.9.9.9")

    with pytest.raises(BadRequestError, match="cannot be fetched") as refused:
        subscribed(client, receiver.url)

    assert refused.value.param == "url"


def test_an_operators_webhook_needs_no_set_up(place: Place, receiver: Receiver) -> None:
    hook = f'[[webhooks]]\nurl = "{receiver.url}/static"\nsecret = "any text"\nevents = ["response.completed"]\n'
    client = place.serve(allowed="10.9.9.9", config=hook)
    begun = client.responses.create(model="demo", input="Hello", background=True)

    got = receiver.next()

    assert got.path == "/static"
    assert client.webhooks.unwrap(got.body, got.headers, secret="any text").data.id == begun.id
    assert list(client.webhooks.list()) == []
    assert re.fullmatch(r"evt_[0-9A-Za-z]{28}", got.headers["webhook-id"])
