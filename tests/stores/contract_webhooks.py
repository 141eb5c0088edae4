"""The contract of ``engine.webhooks.Webhooks``, for every store."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest
from tests.stores.world import Stores, World

from antiphon.engine.ports.stores import Store
from antiphon.engine.webhooks import Changes, Delivery, Endpoint, Fate, Verdict

#: A lease, or a pause, that outlives the test.
LONG = 3600.0
ALL = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
MANY = 1000


def endpoint(id: str, *event_types: str, **members: Any) -> Endpoint:
    given = {"name": f"{id}'s", "url": f"https://{id}.example/hook", "secrets": f"sealed {id}", **members}
    return Endpoint(id, event_types=event_types or ALL, created_at=100, updated_at=100, **given)


async def made(store: Store, *ids: str, project: str = "p") -> None:
    for id in ids:
        assert await store.webhooks.create(project, endpoint(id), MANY)


async def ended(world: World, *responses: str, status: str = "completed") -> None:
    for response in responses:
        assert await world.finish(await world.begin(turn=response), status)


async def claim(
    store: Store, most: int = MANY, each: int = MANY, seconds: float = LONG, busy: tuple[str, ...] = ()
) -> list[Delivery]:
    return await store.webhooks.claim(most, each, seconds, busy)


async def settle(store: Store, delivery: Delivery, fate: Fate, seconds: float = 0.0) -> None:
    await store.webhooks.settle([Verdict(delivery.row, delivery.attempt, fate, seconds)])


def told(deliveries: list[Delivery]) -> list[tuple[str, str, str]]:
    return sorted((one.endpoint, one.response, one.type.removeprefix("response.")) for one in deliveries)


class EndpointContract:
    async def test_an_endpoint_is_kept_as_it_was_made(self, store: Store) -> None:
        one = endpoint("we_1", "response.failed", "response.completed", name="née", url="https://a.example/?b=c")
        assert await store.webhooks.create("p", one, MANY)
        await made(store, "we_2")

        assert await store.webhooks.read("p", "we_1") == one
        assert [each.id for each in await store.webhooks.all("p")] == ["we_2", "we_1"]
        assert await store.webhooks.projects() == {"p"}

    async def test_projects_have_endpoints_of_their_own(self, store: Store) -> None:
        await made(store, "we_1")

        assert await store.webhooks.read("q", "we_1") is None
        assert await store.webhooks.all("q") == []
        assert await store.webhooks.change("q", "we_1", Changes(200, name="mine")) is None
        assert not await store.webhooks.delete("q", "we_1")
        assert await store.webhooks.read("p", "we_1") == endpoint("we_1")

    async def test_a_project_has_so_many_at_the_most(self, store: Store) -> None:
        assert await store.webhooks.create("p", endpoint("we_1"), 2)
        assert await store.webhooks.create("p", endpoint("we_2"), 2)
        assert not await store.webhooks.create("p", endpoint("we_3"), 2)
        assert await store.webhooks.create("q", endpoint("we_4"), 2)
        assert [one.id for one in await store.webhooks.all("p")] == ["we_2", "we_1"]

    async def test_what_is_changed_is_changed(self, store: Store) -> None:
        await made(store, "we_1", "we_2")
        before = endpoint("we_1")

        named = await store.webhooks.change("p", "we_1", Changes(200, name="new"))
        assert named == before._replace(name="new", updated_at=200)
        moved = await store.webhooks.change("p", "we_1", Changes(300, url="https://b.example", event_types=ALL[:1]))
        assert moved == named._replace(url="https://b.example", event_types=ALL[:1], updated_at=300)
        assert await store.webhooks.read("p", "we_1") == moved
        assert await store.webhooks.read("p", "we_2") == endpoint("we_2")

    async def test_of_two_new_secrets_one_wins(self, store: Store) -> None:
        await made(store, "we_1")

        changes = [Changes(200, secrets=("sealed we_1", new)) for new in ("new 1", "new 2")]
        first, second = await asyncio.gather(*(store.webhooks.change("p", "we_1", each) for each in changes))

        assert (first is None) != (second is None)
        winner = first or second
        assert winner is not None
        assert await store.webhooks.read("p", "we_1") == winner
        assert winner.secrets in ("new 1", "new 2")

    async def test_the_operators_endpoints_are_those_of_the_last_start(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await store.webhooks.configure([("p", endpoint("we_a")), ("q", endpoint("we_b"))])
        await ended(world, "run")
        await store.webhooks.configure([("p", endpoint("we_a", url="https://new.example")), ("r", endpoint("we_c"))])

        assert [one.id for one in await store.webhooks.all("p")] == ["we_1"]
        assert await store.webhooks.read("p", "we_a") is None
        assert not await store.webhooks.delete("p", "we_a")
        assert await store.webhooks.change("p", "we_a", Changes(200, name="mine")) is None
        assert await store.webhooks.projects() == {"p", "r"}
        claimed = {one.endpoint: one for one in await claim(store)}
        assert (claimed["we_a"].static, claimed["we_a"].url) == (True, "https://new.example")
        assert not claimed["we_1"].static
        await store.webhooks.configure([])
        assert await store.webhooks.projects() == {"p"}

    async def test_endpoints_are_there_after_a_restart(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with its process, as it says")
        first = stores.open()
        await made(first, "we_1")
        await first.close()
        second = stores.open()
        try:
            assert await second.webhooks.read("p", "we_1") == endpoint("we_1")
        finally:
            await second.close()


class OutboxContract:
    async def test_the_end_of_a_run_is_told_to_those_who_asked(self, store: Store, world: World) -> None:
        await made(store, "we_all")
        assert await store.webhooks.create("p", endpoint("we_bad", "response.failed", "response.cancelled"), MANY)
        await made(store, "we_other", project="q")
        for status in ("completed", "failed", "incomplete", "cancelled"):
            await ended(world, f"run_{status}", status=status)
        await world.say(turn="foreground")

        claimed = await claim(store)

        assert told(claimed) == [
            ("we_all", "run_cancelled", "cancelled"),
            ("we_all", "run_completed", "completed"),
            ("we_all", "run_failed", "failed"),
            ("we_all", "run_incomplete", "incomplete"),
            ("we_bad", "run_cancelled", "cancelled"),
            ("we_bad", "run_failed", "failed"),
        ]
        one = claimed[0]
        assert (one.attempt, one.project, one.url, one.secrets) == (
            1,
            "p",
            "https://we_all.example/hook",
            "sealed we_all",
        )
        assert abs(one.created_at - time.time()) < 60
        assert 0 <= one.age < 60

    async def test_nothing_is_told_without_an_endpoint(self, store: Store, world: World) -> None:
        await ended(world, "run")
        await made(store, "we_1")

        assert await claim(store) == []

    async def test_an_end_is_told_once(self, store: Store, world: World) -> None:
        """Whoever ends the run again, or has lost it."""
        await made(store, "we_1")
        begun = await world.begin(turn="run")
        lost = await store.claim("p", "run")
        assert lost is not None
        taken = await store.claim("p", "run")
        assert taken is not None
        assert not await world.finish(begun, fence=lost.fence)
        assert await claim(store) == []

        assert all([await world.finish(begun, fence=taken.fence) for _ in range(3)])

        [delivery] = await claim(store)
        await settle(store, delivery, Fate.DELIVERED)
        assert await world.finish(begun, fence=taken.fence)
        assert await claim(store) == []

    async def test_ends_at_once_are_all_told(self, store: Store, world: World) -> None:
        await made(store, "we_1", "we_2")
        runs = [await world.begin(turn=f"run{number}") for number in range(40)]
        both = [world.finish(run) for run in runs for _ in range(2)]
        assert all(await asyncio.gather(*both))

        claimed = await claim(store)

        assert len(claimed) == 80
        assert len({(one.endpoint, one.response) for one in claimed}) == 80

    async def test_an_end_that_cannot_be_written_is_not_told(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        begun = await world.begin(turn="run")
        with pytest.raises(ValueError, match="gap"):
            await world.finish(begun, first_number=5)

        assert await claim(store) == []

    async def test_nobody_claims_what_is_claimed(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await ended(world, *(f"run{number}" for number in range(30)))

        parts = await asyncio.gather(*(claim(store, 5) for _ in range(10)))

        rows = [one.row for part in parts for one in part]
        assert len(rows) == len(set(rows)) == 30
        assert await claim(store) == []

    async def test_what_was_claimed_comes_back_when_its_lease_ends(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await ended(world, "run")
        [first] = await claim(store, seconds=0.0)

        [second] = await claim(store)

        assert second._replace(attempt=1, age=first.age) == first
        assert second.attempt == 2
        await settle(store, first, Fate.AGAIN)  # too late: it is another's
        await settle(store, first, Fate.DEAD)
        assert await claim(store) == []
        await settle(store, second, Fate.AGAIN)
        [third] = await claim(store, seconds=0.0)
        assert third.attempt == 3
        await settle(store, first, Fate.DELIVERED)  # late, but true
        assert await claim(store) == []

    async def test_it_is_tried_again_when_it_is_time(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await ended(world, "run1", "run2")
        first, second = await claim(store)
        await settle(store, first, Fate.AGAIN, LONG)
        await settle(store, second, Fate.AGAIN, 0.0)

        assert [one.response for one in await claim(store)] == [second.response]

    async def test_what_is_delivered_or_dead_is_not_tried_again(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await ended(world, "run1", "run2")
        first, second = await claim(store, seconds=0.0)
        await settle(store, first, Fate.DELIVERED)
        await settle(store, second, Fate.DEAD, LONG)

        assert await claim(store) == []
        await store.expire(int(time.time() + 2 * LONG))
        assert await claim(store) == []

    async def test_many_dead_ones_expire(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await asyncio.gather(*(ended(world, f"run{number}") for number in range(250)))
        verdicts = [Verdict(one.row, one.attempt, Fate.DEAD) for one in await claim(store)]
        assert len(verdicts) == 250
        await store.webhooks.settle(verdicts)

        assert await store.expire(int(time.time()) + 10) == 0

        assert await world.outputs("run0") == ["run0!"]

    async def test_who_is_gone_hears_nothing_more(self, store: Store, world: World) -> None:
        await made(store, "we_1", "we_2")
        await ended(world, "run1", "run2")
        gone = next(one for one in await claim(store, seconds=0.0) if one.endpoint == "we_1")
        await settle(store, gone, Fate.GONE, LONG)
        await ended(world, "run3")

        disabled = await store.webhooks.read("p", "we_1")
        assert disabled is not None
        assert disabled.disabled_at is not None
        assert abs(disabled.disabled_at - time.time()) < 60
        assert {one.endpoint for one in await claim(store)} == {"we_2"}

        enabled = await store.webhooks.change("p", "we_1", Changes(200))
        assert enabled is not None
        assert enabled.disabled_at is None
        await ended(world, "run4")
        assert told(await claim(store)) == [("we_1", "run4", "completed"), ("we_2", "run4", "completed")]

    async def test_the_projects_are_those_who_hear_something(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await made(store, "we_2", project="q")
        await ended(world, "run")
        [delivery] = await claim(store)
        await settle(store, delivery, Fate.GONE)

        assert await store.webhooks.projects() == {"q"}

    async def test_no_endpoint_takes_the_place_of_others(self, store: Store, world: World) -> None:
        await made(store, "we_1", "we_2", "we_3")
        await ended(world, *(f"run{number}" for number in range(10)))

        claimed = await claim(store, each=2)

        assert [one.endpoint for one in sorted(claimed, key=lambda one: one.endpoint)] == [
            id for id in ("we_1", "we_2", "we_3") for _ in range(2)
        ]
        busy = await claim(store, each=3, busy=("we_1", "we_3"))
        assert [one.endpoint for one in busy] == ["we_2"] * 3

    async def test_first_tries_come_first(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await ended(world, *(f"run{number}" for number in range(5)))
        await store.webhooks.settle([Verdict(one.row, one.attempt, Fate.AGAIN) for one in await claim(store)])
        await made(store, "we_2")
        await ended(world, "new")

        claimed = await claim(store, most=1, each=5)

        assert [(one.endpoint, one.response) for one in claimed] == [("we_2", "new")]

    async def test_it_goes_with_its_endpoint(self, store: Store, world: World) -> None:
        await made(store, "we_1", "we_2")
        await ended(world, "run1", "run2")
        dead = next(one for one in await claim(store, most=1))
        await settle(store, dead, Fate.DEAD, LONG)

        assert await store.webhooks.delete("p", "we_1")

        assert not await store.webhooks.delete("p", "we_1")
        assert {one.endpoint for one in await claim(store)} <= {"we_2"}

    async def test_it_goes_with_its_response(self, store: Store, world: World) -> None:
        await made(store, "we_1")
        await ended(world, "run1", "run2", "run3")
        assert await world.finish(await world.begin(turn="old"), expires_at=1000)

        assert await store.delete("p", "run1")
        assert await store.expire(2000) == 1

        assert [one.response for one in await claim(store)] == ["run2", "run3"]

    async def test_what_any_client_may_send_is_told(self, store: Store, world: World) -> None:
        odd = itertools.count()
        for name in ("née", "' OR 1=1 --", "a\x01b", "a\x00b"):
            assert await store.webhooks.create("p", endpoint(f"we_{next(odd)}", name=name), MANY)
        assert [one.name for one in await store.webhooks.all("p")] == ["a\x00b", "a\x01b", "' OR 1=1 --", "née"]
        await ended(world, "run\x00")
        assert {one.response for one in await claim(store)} == {"run\x00"}

    async def test_the_outbox_is_there_after_a_restart(self, stores: Stores) -> None:
        """What was being tried is due at once where no other process can be trying it."""
        if not stores.durable:
            pytest.skip("gone with its process, as it says")
        first = stores.open()
        await made(first, "we_1")
        await ended(World(first), "run1", "run2", "run3")
        tried = await claim(first, most=1, seconds=0.5)
        assert len(tried) == 1
        await first.close()
        second = stores.open()
        try:
            async with asyncio.timeout(20):
                found: set[str] = set()
                while found != {"run1", "run2", "run3"}:
                    found |= {one.response for one in await claim(second)}
        finally:
            await second.close()
