"""``/v1/webhook_endpoints``: the objects, the refusals, and what receivers get of a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from openai import OpenAI
from tests.loopback import served
from tests.web.client import PATIENCE_SECONDS, Reply, asked
from tests.web.conftest import Serve, Serving

from antiphon.assemble import Server
from antiphon.config import Config, ConfigError, WebhookConfig

Json = dict[str, Any]

PATH = "/v1/webhook_endpoints"
ALL = ["response.completed", "response.failed", "response.incomplete", "response.cancelled"]
WANTED = {"name": "mine", "url": "https://example.com/hook", "event_types": ["response.completed"]}
LOCAL = {"fetch_allowed_hosts": ["127.0.0.1"]}
SDK = OpenAI(api_key="any", base_url="http://unused.invalid")


class Receiver:
    """Keeps what it gets; ``status`` is what it says."""

    def __init__(self) -> None:
        self.status = 200
        self.got: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.put_nowait((await request.read(), {name.lower(): value for name, value in request.headers.items()}))
        return web.Response(status=self.status, headers={"location": "/elsewhere"} if self.status == 302 else {})

    async def next(self, secret: str) -> Any:
        """The next event, verified by the official helper."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            body, headers = await self.got.get()
        return SDK.webhooks.unwrap(body, headers, secret=secret)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with served(receiver.take) as port:
        receiver.url = f"http://127.0.0.1:{port}/hook?x=1"
        yield receiver


async def created(here: Serving, **members: Any) -> Json:
    reply = await here.client.post(PATH, WANTED | members)
    assert reply.status == 200, reply.body
    return reply.json


def refused(reply: Reply) -> tuple[int, str | None, str | None]:
    return reply.status, reply.error["code"], reply.error["param"]


async def test_an_endpoint_is_made_and_its_secret_shown_once(serve: Serve) -> None:
    here = await serve()
    made = await created(here)

    secret = made.pop("signing_secret")
    assert secret.startswith("whsec_")
    assert made == {
        "id": made["id"],
        "object": "webhook_endpoint",
        **WANTED,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "signing_secret_hint": f"whsec_...{secret[-4:]}",
    }
    assert made["id"].startswith("we_")
    assert (await here.client.get(f"{PATH}/{made['id']}")).json == made
    listed = (await here.client.get(PATH)).json
    assert listed == {
        "object": "list",
        "data": [made],
        "first_id": made["id"],
        "last_id": made["id"],
        "has_more": False,
    }


async def test_an_endpoint_is_changed(serve: Serve) -> None:
    here = await serve()
    made = await created(here)
    target = f"{PATH}/{made['id']}"

    changed = (await here.client.post(target, {"name": "new", "event_types": [*ALL, *ALL]})).json
    assert (changed["name"], changed["url"], changed["event_types"]) == ("new", WANTED["url"], ALL)
    assert changed["updated_at"] >= made["updated_at"]
    assert (await here.client.post(target, {"name": "new"})).json == changed
    assert (await here.client.post(target, {})).json == changed
    assert "signing_secret" not in changed


async def test_lists_are_paged(serve: Serve) -> None:
    here = await serve()
    ids = [(await created(here, name=f"n{number}"))["id"] for number in range(5)]

    async def listed(query: str) -> tuple[list[str], bool]:
        reply = (await here.client.get(f"{PATH}?{query}")).json
        return [ids.index(one["id"]) for one in reply["data"]], reply["has_more"]  # type: ignore[return-value]

    assert await listed("") == ([4, 3, 2, 1, 0], False)
    assert await listed("limit=2") == ([4, 3], True)
    assert await listed(f"limit=2&after={ids[3]}") == ([2, 1], True)
    assert await listed(f"limit=2&after={ids[1]}") == ([0], False)
    assert await listed(f"order=asc&before={ids[3]}&limit=3") == ([0, 1, 2], False)
    assert refused(await here.client.get(f"{PATH}?after=we_none")) == (400, "invalid_value", "after")
    assert refused(await here.client.get(f"{PATH}?limit=0")) == (400, "integer_below_min_value", "limit")


async def test_what_is_not_there_is_404(serve: Serve) -> None:
    here = await serve()
    made = await created(here)
    target = f"{PATH}/{made['id']}"
    gone = await here.client.request("DELETE", target)
    assert gone.json == {"id": made["id"], "object": "webhook_endpoint.deleted", "deleted": True}

    for method, path, body in (
        ("GET", target, None),
        ("DELETE", target, None),
        ("POST", target, {"name": "a"}),
        ("POST", f"{target}/rotate_secret", {}),
        ("POST", f"{target}/test", {"event_type": "response.completed"}),
    ):
        reply = await here.client.request(method, path, body)
        assert refused(reply) == (404, None, None), path
        assert made["id"] in reply.error["message"]


async def test_projects_do_not_see_each_others(serve: Serve) -> None:
    here = await serve(api_keys=["a=sk-a-0123456789", "b=sk-b-0123456789"])
    mine, other = here.client_of("sk-a-0123456789"), here.client_of("sk-b-0123456789")
    made = (await mine.post(PATH, WANTED)).json

    assert (await other.get(f"{PATH}/{made['id']}")).status == 404
    assert (await other.get(PATH)).json["data"] == []
    assert (await here.client.get(PATH)).status == 401


@pytest.mark.parametrize(("change", "told"), [
    ({"name": None}, (400, "missing_required_parameter", "name")),
    ({"url": None}, (400, "missing_required_parameter", "url")),
    ({"event_types": None}, (400, "missing_required_parameter", "event_types")),
    ({"name": ""}, (400, "invalid_value", "name")),
    ({"name": "n" * 257}, (400, "string_above_max_length", "name")),
    ({"url": "https://e.example/" + "u" * 2048}, (400, "string_above_max_length", "url")),
    ({"event_types": []}, (400, "empty_array", "event_types")),
    ({"event_types": ["response.completed", "batch.completed"]}, (400, "invalid_value", "event_types[1]")),
    ({"event_types": "response.completed"}, (400, "invalid_type", "event_types")),
    ({"url": 5}, (400, "invalid_type", "url")),
    *(({"url": url}, (400, "invalid_value", "url")) for url in (
        "not a url", "ftp://example.com/", "https://user:secret@example.com/", "http://127.0.0.1/", "http://[::1]/",
        "http://localhost:9000/", "http://10.1.2.3/", "http://169.254.169.254/latest", "https://example.com:8443/",
        "http://2130706433/", "http://metadata.google.internal/", "http://[::ffff:10.0.0.1]/",
    )),
])  # fmt: skip
async def test_what_cannot_be_is_refused(serve: Serve, change: Json, told: tuple[int, str, str]) -> None:
    here = await serve()
    made = await created(here)

    assert refused(await here.client.post(PATH, WANTED | change)) == told
    if list(change.values()) != [None]:
        assert refused(await here.client.post(f"{PATH}/{made['id']}", change)) == told


async def test_a_project_has_so_many_at_the_most(serve: Serve) -> None:
    here = await serve(webhook_endpoints_max=2)
    for _ in range(2):
        await created(here)

    assert refused(await here.client.post(PATH, WANTED)) == (400, "webhook_endpoints_exceeded", None)


async def test_the_types_are_listed(serve: Serve) -> None:
    here = await serve()

    assert (await here.client.get("/v1/webhook_event_types")).json == {"object": "list", "data": ALL}


async def test_a_sample_is_sent(serve: Serve) -> None:
    here = await serve(**LOCAL)
    async with receiving() as receiver:
        made = await created(here, url=receiver.url)
        target = f"{PATH}/{made['id']}/test"
        receiver.status = 302
        reply = await here.client.post(target, {"event_type": "response.failed"})

        assert reply.json == {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": made["id"],
            "event_type": "response.failed",
            "status_code": 302,
            "success": True,
        }
        event = await receiver.next(made["signing_secret"])
        assert (event.type, event.object) == ("response.failed", "event")
        assert receiver.got.empty(), "no redirect is followed"
    assert refused(await here.client.post(target, {"event_type": "response.failed"})) == (
        400, "webhook_endpoint_unreachable", None,
    )  # fmt: skip
    assert refused(await here.client.post(target, {"event_type": "nothing"})) == (400, "invalid_value", "event_type")
    assert refused(await here.client.post(target, {})) == (400, "missing_required_parameter", "event_type")


async def test_secrets_are_rotated(serve: Serve) -> None:
    here = await serve(**LOCAL)
    async with receiving() as receiver:
        made = await created(here, url=receiver.url)
        target = f"{PATH}/{made['id']}"

        async def sample(secret: str) -> Any:
            assert (await here.client.post(f"{target}/test", {"event_type": "response.failed"})).status == 200
            return await receiver.next(secret)

        kept = (await here.client.post(f"{target}/rotate_secret", {"keep_old_secret_active_for_24_hours": True})).json
        assert kept["signing_secret"] != made["signing_secret"]
        assert (await here.client.get(target)).json["signing_secret_hint"] == kept["signing_secret_hint"]
        for secret in (made["signing_secret"], kept["signing_secret"]):
            await sample(secret)

        dropped = (await here.client.request("POST", f"{target}/rotate_secret")).json
        await sample(dropped["signing_secret"])
        for secret in (made["signing_secret"], kept["signing_secret"]):
            with pytest.raises(Exception, match="signature"):
                await sample(secret)


async def test_the_end_of_a_background_response_is_told(serve: Serve) -> None:
    here = await serve(**LOCAL)
    async with receiving() as receiver:
        made = await created(here, url=receiver.url, event_types=ALL)
        await here.client.post("/v1/responses", asked())  # in the foreground: nobody is told
        begun = (await here.client.post("/v1/responses", asked(background=True))).json

        event = await receiver.next(made["signing_secret"])

        assert (event.type, event.data.id) == ("response.completed", begun["id"])
        assert (await here.client.get(f"/v1/responses/{begun['id']}")).json["status"] == "completed"
        assert event.id == f"evt_{begun['id'].removeprefix('resp_')}"
        assert receiver.got.empty()


async def test_an_address_is_checked_when_it_is_connected_to(serve: Serve) -> None:
    """What was public when the endpoint was made may not be so later: here its name is in nobody's list any more."""
    here = await serve(fetch_allowed_hosts=["127.0.0.1"])
    async with receiving() as receiver:
        made = await created(here, url=receiver.url)
        here.server.poster._clients._admission = type(here.server.poster._clients._admission)((), (80, 443))
        reply = await here.client.post(f"{PATH}/{made['id']}/test", {"event_type": "response.failed"})

        assert refused(reply) == (400, "webhook_endpoint_unreachable", None)
        assert receiver.got.empty()


async def test_the_operators_webhooks_hear_of_all_projects(serve: Serve) -> None:
    async with receiving() as receiver:
        hooks = [WebhookConfig(url=receiver.url, secret="a plain secret", events=["response.completed"])]
        here = await serve(webhooks=hooks, api_keys=["a=sk-a-0123456789", "b=sk-b-0123456789"])
        for key in ("sk-a-0123456789", "sk-b-0123456789"):
            client = here.client_of(key)
            begun = (await client.post("/v1/responses", asked(background=True))).json
            event = await receiver.next("a plain secret")
            assert event.data.id == begun["id"]
            assert (await client.get(PATH)).json["data"] == []
        private = await here.client_of("sk-a-0123456789").post(PATH, WANTED | {"url": receiver.url})
        assert refused(private) == (400, "invalid_value", "url"), "clients may not use what the operator may"


@pytest.mark.parametrize(("hook", "told"), [
    (WebhookConfig(url="nothing", secret="s"), "not an http"),
    (WebhookConfig(url="http://[::1", secret="s"), "not a URL"),
    (WebhookConfig(url="http://a.example/", secret=""), "empty"),
    (WebhookConfig(url="http://a.example/", secret="s", events=["batch.completed"]), "batch.completed"),
])  # fmt: skip
def test_a_wrong_configuration_is_told(hook: WebhookConfig, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Server(Config(database=":memory:", demo_model=False, webhooks=[hook]))
