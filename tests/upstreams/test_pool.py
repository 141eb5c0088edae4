"""Several servers as one: who is asked, what becomes of failures, who is left out for how long.  In virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from tests.upstreams.asking import asked, user
from tests.upstreams.pools import FakeServer, World, failed, fails, says, unreachable
from tests.upstreams.servers import Heard

from antiphon.engine.ports.upstreams import Capabilities, ModelRequest, Standing, UpstreamError
from antiphon.upstreams.pool.affinity import key_of

# --- Who is asked ---


async def test_the_same_conversation_goes_to_the_same_server_and_others_are_spread() -> None:
    world = World(4)

    where = [await world.call(f"question {number}") for number in range(200)]
    again = [await world.call(f"question {number}") for number in range(200)]

    assert where == again
    assert min(Counter(where).values()) > 25


async def test_a_server_that_is_lost_moves_its_own_conversations_alone() -> None:
    world = World(4, breaker_failures=1, health_seconds=1000)
    before = {number: await world.call(f"q{number}") for number in range(100)}
    world.servers[2].behaviour = fails(unreachable)

    after = {number: await world.call(f"q{number}") for number in range(100)}

    moved = {number for number in before if before[number] != after[number]}
    assert moved == {number for number in before if before[number] == "3"}
    assert len({after[number] for number in moved}) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (asked(user("a"), prompt_cache_key="k"), asked(user("b"), prompt_cache_key="k"), True),
        (asked(user("a"), prompt_cache_key="k"), asked(user("a"), prompt_cache_key="l"), False),
        (asked(user("a"), conversation="conv_1"), asked(user("b"), conversation={"id": "conv_1"}), True),
        (asked(user("a")), asked(user("a"), user("more")), True),
        (asked(user("a")), asked({**user("a"), "id": "msg_other"}), True),
        (asked(user("a")), asked(user("b")), False),
        (asked(user("a"), instructions="x"), asked(user("a"), instructions="y"), False),
    ],
)
def test_what_a_conversation_is_known_by(one: ModelRequest, other: ModelRequest, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same


def test_projects_share_no_key_and_nothing_has_none() -> None:
    mine, yours = asked(user("a"), prompt_cache_key="k"), asked(user("a"), prompt_cache_key="k")
    yours.standing = Standing("other")

    assert key_of(mine) != key_of(yours)
    assert key_of(asked()) is None


async def test_a_preferred_server_that_is_much_busier_is_passed_over() -> None:
    world = World(2)
    for server in world.servers:
        server.behaviour = says(lasts_seconds=10)

    await asyncio.gather(*(world.call("always the same") for _ in range(20)))

    assert sorted(server.most for server in world.servers) == [8, 12]


async def test_without_a_key_the_least_busy_is_asked() -> None:
    world = World(3)
    for server in world.servers:
        server.behaviour = says(lasts_seconds=10)

    async def call() -> None:
        await world.pool.run(asked(), Heard())

    await asyncio.gather(*(call() for _ in range(30)))

    assert [server.most for server in world.servers] == [10, 10, 10]


async def test_a_server_is_asked_only_for_the_models_that_it_lists() -> None:
    world = World(2)
    world.servers[0].serves, world.servers[1].serves = ["m", "only-1"], ["m"]
    await world.pool.models()

    assert {await world.call(f"q{number}", model="only-1") for number in range(20)} == {"1"}
    assert {await world.call(f"q{number}") for number in range(20)} == {"1", "2"}
    assert {await world.call(f"q{number}", model="unlisted") for number in range(20)} == {"1", "2"}


async def test_a_model_that_a_server_has_no_more_is_asked_of_others() -> None:
    world = World(2)
    await world.pool.models()
    first = world.preferred()
    first.behaviour = fails(failed(404, code="model_not_found"))

    assert {await world.call() for _ in range(5)} == {str(2 - world.servers.index(first))}
    assert first.calls == 1
    assert world.pool.condition().left_out == []


# --- Failover ---


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504, 529])
async def test_what_one_server_fails_another_answers_at_once(status: int) -> None:
    world = World(3)
    world.preferred().behaviour = fails(failed(status))
    began = asyncio.get_running_loop().time()

    assert await world.call() != str(1 + world.servers.index(world.preferred()))
    assert asyncio.get_running_loop().time() == began
    assert world.pool.condition().failovers == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_clients_error_is_nobodys_failure(status: int) -> None:
    world = World(2, breaker_failures=1)
    world.preferred().behaviour = fails(failed(status))

    assert [(await world.failure()).status for _ in range(4)] == [status] * 4
    assert sum(server.calls for server in world.servers) == 4
    assert world.pool.condition().left_out == []


async def test_after_the_first_word_nobody_else_is_asked() -> None:
    world = World(2, breaker_failures=1)
    world.preferred().behaviour = fails(unreachable, after_words=True)

    assert (await world.failure()).spoke
    assert sum(server.calls for server in world.servers) == 1
    assert len(world.pool.condition().left_out) == 1


async def test_when_all_fail_all_are_tried_again_after_a_while() -> None:
    world = World(3, breaker_failures=100)
    for server in world.servers:
        server.behaviour = fails(unreachable)

    error = await world.failure()

    assert (error.status, error.retryable) == (502, True)
    assert [server.calls for server in world.servers] == [3, 3, 3]


async def test_an_error_that_every_server_answers_is_the_requests_fault() -> None:
    world = World(2, breaker_failures=1)
    for server in world.servers:
        server.behaviour = fails(failed(500))

    for _ in range(5):
        assert (await world.failure()).status == 500

    assert world.pool.condition().left_out == []


# --- Circuits ---


async def test_a_server_that_fails_again_and_again_is_left_out_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World(2)
    sick = world.preferred()
    sick.behaviour, sick.well = fails(unreachable), False
    for _ in range(10):
        await world.call()
    assert sick.calls == 3
    assert world.pool.condition().left_out == [1 + world.servers.index(sick)]

    await asyncio.sleep(9)
    assert world.pool.condition().left_out
    sick.behaviour, sick.well = says(), True
    await asyncio.sleep(2.1)

    assert {await world.call() for _ in range(10)} == {str(1 + world.servers.index(sick))}
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"upstream p: {sick.base_url} is left out for now: Cannot connect.",
        f"upstream p: {sick.base_url} answers again",
    ]
    await world.pool.close()


async def test_a_server_that_is_well_is_not_looked_at() -> None:
    world = World(2, health_path="/health")
    sick = world.preferred()
    sick.behaviour, sick.well = fails(unreachable), False
    for _ in range(3):
        await world.call()
    await asyncio.sleep(9)

    assert sick.looks == ["/health"] * 4
    assert not [look for server in world.servers if server is not sick for look in server.looks]
    await world.pool.close()


async def test_one_call_alone_tries_a_server_that_may_be_well_again() -> None:
    world = World(2)
    sick = world.preferred()
    sick.behaviour = fails(unreachable)
    for _ in range(3):
        await world.call()
    await asyncio.sleep(2.1)
    sick.behaviour, sick.calls = fails(unreachable, seconds=5), 0

    await asyncio.gather(*(world.call() for _ in range(10)))

    assert sick.calls == 1
    assert len(world.pool.condition().left_out) == 1
    await world.pool.close()


async def test_the_first_word_of_a_probe_is_enough() -> None:
    world = World(2)
    sick = world.preferred()
    sick.behaviour = fails(unreachable)
    for _ in range(3):
        await world.call()
    await asyncio.sleep(2.1)
    sick.behaviour = says(after_seconds=1, lasts_seconds=100)
    probe = asyncio.ensure_future(world.call())
    await asyncio.sleep(2)
    others = [asyncio.ensure_future(world.call()) for _ in range(3)]
    await asyncio.sleep(2)

    assert sick.active == 4
    assert {await one for one in [probe, *others]} == {str(1 + world.servers.index(sick))}
    await world.pool.close()


async def test_a_probe_whose_client_leaves_makes_room_for_another() -> None:
    world = World(1, breaker_failures=1, retries=0)
    world.servers[0].behaviour = fails(unreachable)
    await world.failure()
    await asyncio.sleep(2.1)
    world.servers[0].behaviour = says(after_seconds=50)
    probe = asyncio.ensure_future(world.call())
    waiting = asyncio.ensure_future(world.call())
    await asyncio.sleep(1)
    assert world.servers[0].active == 1
    probe.cancel()

    assert await waiting == "1"
    await world.pool.close()


async def test_a_server_whose_health_cannot_be_asked_is_tried_after_a_time() -> None:
    world = World(2, breaker_seconds=7)
    sick = world.preferred()
    sick.behaviour, sick.well = fails(unreachable), False
    for _ in range(3):
        await world.call()
    sick.behaviour, sick.calls = says(), 0
    await asyncio.sleep(6.9)
    await world.call()
    assert sick.calls == 0
    await asyncio.sleep(0.2)
    await world.call()

    assert sick.calls == 1
    await world.pool.close()


async def test_where_no_server_is_left_it_is_said_with_the_time_to_come_again() -> None:
    world = World(2, breaker_failures=1, retries=0)
    for server in world.servers:
        server.behaviour, server.well = fails(unreachable), False
    await world.failure()

    error = await world.failure()

    assert (error.status, error.code, error.retry_after_seconds) == (503, "upstream_unreachable", 2.0)
    assert [server.calls for server in world.servers] == [1, 1]
    assert not world.pool.available("m")
    with pytest.raises(UpstreamError):
        await world.pool.count(asked(user("Hi")))
    await world.pool.close()


async def test_a_short_loss_of_all_servers_is_waited_out() -> None:
    world = World(2, breaker_failures=1, health_seconds=0.5)
    for server in world.servers:
        server.behaviour = fails(unreachable)
    call = asyncio.ensure_future(world.call())
    await asyncio.sleep(0.01)
    for server in world.servers:
        server.behaviour = says()

    assert await call in ("1", "2")
    await world.pool.close()


@pytest.mark.parametrize(("told", "seconds"), [(None, 1.0), (30.0, 30.0)])
async def test_a_server_with_too_much_to_do_is_spared_for_as_long_as_it_says(
    told: float | None, seconds: float
) -> None:
    world = World(2)
    busy = world.preferred()
    busy.behaviour = fails(failed(429, retry_after_seconds=told, retryable=True))
    for _ in range(5):
        await world.call()
    assert busy.calls == 1
    assert world.pool.condition().left_out == []
    await asyncio.sleep(seconds - 0.1)
    await world.call()
    assert busy.calls == 1
    await asyncio.sleep(0.2)
    await world.call()

    assert busy.calls == 2
    await world.pool.close()


# --- As one upstream ---


async def test_models_are_those_of_all_servers_and_abilities_those_that_all_have() -> None:
    world = World(3)
    world.servers[0].serves = ["m", "a"]
    world.servers[0].can = Capabilities(context=1000, prefill=True, files=("application/pdf", "image/*"))
    world.servers[1].can = Capabilities(context=500, prefill=False, files=("application/pdf",))
    world.servers[2].well = False

    assert {(model.id, model.context) for model in await world.pool.models()} == {("m", 500), ("a", 1000)}
    assert world.pool.capabilities("m") == Capabilities(context=500, files=("application/pdf",))
    assert world.pool.capabilities("a").prefill


async def test_models_cannot_be_told_when_no_server_tells_them() -> None:
    world = World(2)
    for server in world.servers:
        server.well = False

    with pytest.raises(UpstreamError, match="Cannot connect"):
        await world.pool.models()


async def test_closing_ends_everything() -> None:
    world = World(2, breaker_failures=1)
    world.preferred().behaviour = fails(failed(502))
    await world.call()
    await world.pool.close()

    assert all(server.closed for server in world.servers)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def test_settings_are_those_of_the_configuration() -> None:
    """By name, so that none is forgotten when the pool gets another."""
    from antiphon.config import UpstreamConfig
    from antiphon.upstreams.pool import Settings

    told: dict[str, Any] = {name: getattr(UpstreamConfig(), name, None) for name in Settings.__struct_fields__}
    assert told | {"retries": 2} == {name: getattr(Settings(), name) for name in Settings.__struct_fields__}


def test_a_fake_is_a_server() -> None:
    from antiphon.upstreams.pool import Server

    server: Server = FakeServer(1)
    assert server.base_url
