"""Names of models: whose they are, what catches them, and what is said while an upstream is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest
from tests.upstreams.servers import Conversation, WaitlessClock, reply, serving

from antiphon.engine.ports.upstreams import ModelInfo, UpstreamError
from antiphon.protocol.errors import ApiError
from antiphon.upstreams.catalog import Catalog, Entry
from antiphon.upstreams.chat_completions import ChatCompletions
from antiphon.upstreams.scripted import ScriptedUpstream
from antiphon.web.api.models import ModelList
from antiphon.web.messages import Request

REFRESH_SECONDS = 30


class Place(ScriptedUpstream):
    """An upstream that can be down, and counts how often it is asked for its models."""

    def __init__(self, *models: str, down: bool = False) -> None:
        super().__init__(models=models)
        self.asked = 0
        self.down = down
        self.gate: asyncio.Event | None = None
        self.here = asyncio.Event()

    async def models(self) -> list[ModelInfo]:
        self.asked += 1
        self.here.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise UpstreamError("Cannot connect.")
        return await super().models()


class World:
    """A catalog over places: `name=place` or `name=(place, patterns)`."""

    def __init__(
        self, aliases: Mapping[str, str | list[str]] | None = None, **places: Place | tuple[Place, list[str]]
    ) -> None:
        self.clock = WaitlessClock()
        entries = [
            Entry(name, *place) if isinstance(place, tuple) else Entry(name, place) for name, place in places.items()
        ]
        self.names = {id(entry.upstream): entry.name for entry in entries}
        self.catalog = Catalog(entries, aliases or {}, self.clock, REFRESH_SECONDS)

    async def where(self, name: str) -> str:
        """`upstream: model` for a name, or the status that asking for it has."""
        try:
            route = await self.catalog.route(name)
        except ApiError as error:
            return str(error.status)
        return f"{self.names[id(route.upstream)]}: {route.model}"

    async def listed(self) -> list[str]:
        return [model.id for model in await self.catalog.all()]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("llama", "a: llama"),
        ("qwen", "b: qwen"),
        ("both", "a: both"),
        ("a/both", "a: both"),
        ("b/both", "b: both"),
        ("b/llama", "404"),
        ("org/name", "a: org/name"),
        ("a/org/name", "a: org/name"),
        ("b/qwen", "b: qwen"),
        ("c/qwen", "404"),
        ("a", "404"),
        ("a/", "404"),
        ("/llama", "404"),
        ("", "404"),
        ("lla*", "404"),
    ],
)
async def test_a_name_leads_to_the_first_upstream_that_serves_it(name: str, where: str) -> None:
    world = World(a=Place("llama", "both", "org/name"), b=Place("qwen", "both"))

    assert await world.where(name) == where


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("gpt-4o", "a: gpt-4o"),
        ("gpt-", "a: gpt-"),
        ("o1", "a: o1"),
        ("o1-mini", "b: o1-mini"),
        ("model[q4]", "a: model[q4]"),
        ("modelq", "a: modelq"),
        ("anything", "b: anything"),
        ("b/gpt-4o", "b: gpt-4o"),
        ("a/unknown", "b: a/unknown"),
    ],
)
async def test_patterns(name: str, where: str) -> None:
    world = World(a=(Place(), ["gpt-*", "o1", "model[q4]"]), b=(Place(), ["*"]))

    assert await world.where(name) == where


async def test_patterns_need_no_list_of_models() -> None:
    place = Place(down=True)
    world = World(a=(place, ["gpt-*"]))

    assert await world.where("gpt-4o") == "a: gpt-4o"
    assert place.asked == 0


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("gpt-4", "a: llama"),
        ("mine", "b: qwen"),
        ("gone", "404"),
        ("unheard-of", "a: llama"),
        ("qwen", "b: qwen"),
        ("*", "a: llama"),
        ("chain", "404"),
    ],
)
async def test_aliases(name: str, where: str) -> None:
    aliases = {"gpt-4": "llama", "mine": "b/qwen", "gone": "no-such-model", "chain": "gpt-4", "*": "llama"}
    world = World(aliases, a=Place("llama"), b=Place("qwen"))

    assert await world.where(name) == where


async def test_what_catches_all_catches_nothing_that_an_upstream_has() -> None:
    """Even on the first request, when nobody has been asked yet."""
    world = World({"*": "demo"}, demo=(Place(), ["demo"]), other=Place("llama"))

    assert await world.where("llama") == "other: llama"
    assert await world.where("gpt-4.1") == "demo: demo"


async def test_an_alias_hides_a_model() -> None:
    world = World({"llama": "qwen"}, a=Place("llama"), b=Place("qwen"))

    assert await world.where("llama") == "b: qwen"


# --- Upstreams that are down ---


async def test_a_model_is_not_said_to_be_unknown_while_an_upstream_is_down() -> None:
    world = World(a=Place("llama"), b=Place("qwen", down=True))

    with pytest.raises(ApiError) as caught:
        await world.catalog.route("qwen")

    assert (caught.value.status, caught.value.code, caught.value.type) == (503, "model_not_found", "server_error")
    assert ("x-should-retry", "true") in caught.value.headers
    assert "Cannot connect." in caught.value.message
    assert await world.where("llama") == "a: llama"
    assert world.catalog.failures == {"b": "Cannot connect."}


async def test_an_upstream_that_comes_back_is_found_without_waiting() -> None:
    place = Place("qwen", down=True)
    world = World(a=place)
    assert await world.where("qwen") == "503"
    place.down = False
    world.clock.time += 1.0

    assert await world.where("qwen") == "a: qwen"
    assert world.catalog.failures == {}
    assert await world.where("unknown") == "404"


async def test_an_upstream_that_is_down_is_not_asked_by_every_request() -> None:
    place = Place(down=True)
    world = World(a=place)

    for _ in range(10):
        assert await world.where("qwen") == "503"

    assert place.asked == 1


async def test_an_upstream_that_goes_down_keeps_its_models() -> None:
    place = Place("llama")
    world = World(a=place)
    await world.listed()
    place.down = True
    world.clock.time += REFRESH_SECONDS

    assert await world.listed() == ["llama"]
    assert await world.where("llama") == "a: llama"
    assert world.catalog.failures == {"a": "Cannot connect."}


async def test_what_catches_all_is_there_while_an_upstream_is_down() -> None:
    place = Place(down=True)
    world = World({"*": "demo"}, demo=(Place(), ["demo"]), other=place)

    for _ in range(3):
        assert await world.where("gpt-4.1") == "demo: demo"

    assert place.asked == 1


async def test_a_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    place = Place(down=True)
    world = World(a=place)
    for _ in range(3):
        await world.catalog.refresh()
    place.down = False
    await world.catalog.refresh()
    place.down = True
    await world.catalog.refresh()

    assert [record.getMessage() for record in caplog.records] == 2 * ["upstream a: Cannot connect."]


# --- Asking ---


async def test_a_list_is_believed_for_a_while() -> None:
    place = Place("llama")
    world = World(a=place)
    for _ in range(5):
        await world.listed()
        await world.where("llama")
        await world.where("unknown")
    assert place.asked == 1

    world.clock.time += REFRESH_SECONDS
    await world.listed()

    assert place.asked == 2


async def test_a_new_model_is_found_when_the_list_is_old() -> None:
    place = Place("llama")
    world = World(a=place)
    assert await world.where("new") == "404"
    place._models.append("new")
    world.clock.time += REFRESH_SECONDS

    assert await world.where("new") == "a: new"


async def test_requests_at_the_same_time_share_one_look() -> None:
    place = Place("llama")
    place.gate = asyncio.Event()
    world = World(a=place)
    asking = [asyncio.ensure_future(world.where("llama")) for _ in range(20)]
    await asyncio.wait_for(place.here.wait(), 5)
    asking[0].cancel()
    place.gate.set()

    assert await asyncio.gather(*asking[1:]) == 19 * ["a: llama"]
    assert asking[0].cancelled()
    assert place.asked == 1


async def test_upstreams_are_asked_side_by_side() -> None:
    first, second = Place("llama"), Place("qwen")
    first.gate = second.here
    second.gate = first.here
    world = World(a=first, b=second)

    async with asyncio.timeout(5):
        assert await world.listed() == ["llama", "qwen"]


async def test_closing_ends_a_look_and_every_upstream() -> None:
    place = Place("llama")
    place.gate = asyncio.Event()
    world = World(a=place)
    asking = asyncio.ensure_future(world.where("llama"))
    await asyncio.wait_for(place.here.wait(), 5)

    await world.catalog.close()

    assert place.closed
    with pytest.raises(asyncio.CancelledError):
        await asking


# --- The list ---


async def test_the_list_has_each_name_once_and_sorted() -> None:
    world = World(
        {"gpt-4": "qwen", "llama": "qwen", "lost": "no-such-model", "*": "qwen"},
        a=Place("qwen", "both"),
        b=Place("llama", "both"),
        c=(Place("pattern-1", "other"), ["pattern-*", "exact"]),
    )

    assert await world.listed() == ["both", "exact", "gpt-4", "llama", "lost", "pattern-1", "qwen"]


async def test_a_model_that_is_named_and_found_is_listed_as_it_was_found() -> None:
    class Dated(Place):
        async def models(self) -> list[ModelInfo]:
            return [ModelInfo("exact", 5, "them")]

    world = World(a=(Dated(), ["exact"]))

    assert await world.catalog.all() == [ModelInfo("exact", 5, "them")]


@pytest.mark.parametrize(
    ("name", "created", "owner"),
    [("llama", 5, "them"), ("gpt-4", 5, "them"), ("a/llama", 5, "them"), ("whatever", 0, "b"), ("b/llama", 0, "b")],
)
async def test_every_name_that_works_can_be_looked_up(name: str, created: int, owner: str) -> None:
    class Dated(Place):
        async def models(self) -> list[ModelInfo]:
            return [ModelInfo("llama", 5, "them")]

    world = World({"gpt-4": "llama", "*": "b/qwen"}, a=Dated(), b=(Place(down=True), ["qwen", "llama"]))
    scope = {"method": "GET", "path": "/", "headers": [], "query_string": b""}
    request = Request(scope, None, None, "req_1")  # type: ignore[arg-type]
    request.params = {"model": name}
    told = await ModelList(world.catalog, "mine").one(request)

    assert json.loads(told.body) == {"id": name, "object": "model", "created": created, "owned_by": owner}


# --- A server that is its own upstream ---


async def test_a_server_that_is_its_own_upstream_notices_it() -> None:
    """Through another name, so that the settings cannot tell: the look for models must not wait for itself."""

    async def talk(conversation: Conversation) -> None:
        while (asked := await conversation.request()) is not None:
            headers = [(name.encode(), value.encode()) for name, value in asked.headers.items()]
            scope = {"method": asked.method, "path": asked.path, "headers": headers, "query_string": b""}
            told = await handler.all(Request(scope, None, None, "req_1"))  # type: ignore[arg-type]
            named = {name.decode(): value.decode() for name, value in told.headers}
            await conversation.send(reply(told.body, **named))

    async with serving(talk) as server:
        itself = ChatCompletions(server.url, WaitlessClock(), instance="mine")
        catalog = Catalog([Entry("self", itself), Entry("a", Place("llama"))], {}, WaitlessClock())
        handler = ModelList(catalog, "mine")
        async with asyncio.timeout(5):
            listed = await catalog.all()
        await catalog.close()

    assert [model.id for model in listed] == ["llama"]
    assert "is this server itself" in catalog.failures["self"]


# --- Aliases of several models ---


@pytest.mark.parametrize(
    ("name", "where", "standing_by"),
    [
        ("best", "a: llama", ["b: qwen", "b: both"]),
        ("mine", "b: qwen", ["a: llama"]),
        ("late", "b: qwen", []),
        ("llama", "a: llama", ["b: qwen"]),
        ("gone", "404", []),
        ("whatever", "b: both", ["a: llama"]),
    ],
)
async def test_the_first_model_of_an_alias_is_asked_and_the_others_stand_by(
    name: str, where: str, standing_by: list[str]
) -> None:
    aliases = {
        "best": ["llama", "b/qwen", "both"],
        "mine": ["b/qwen", "a/llama"],
        "late": ["gone", "qwen"],
        "llama": ["llama", "qwen"],
        "gone": ["no", "neither"],
        "*": ["both", "llama"],
    }
    world = World(aliases, a=Place("llama"), b=Place("qwen", "both"))

    assert await world.where(name) == where
    if where != "404":
        fallbacks = (await world.catalog.route(name)).fallbacks
        assert [f"{world.names[id(one.upstream)]}: {one.model}" for one in fallbacks] == standing_by
        assert all(not one.fallbacks for one in fallbacks)


async def test_an_alias_is_listed_as_its_first_model_is() -> None:
    world = World({"best": ["llama", "qwen"]}, a=Place("llama", "qwen"))

    assert await world.listed() == ["best", "llama", "qwen"]
    assert world.catalog.aliases == {"best": "llama"}
