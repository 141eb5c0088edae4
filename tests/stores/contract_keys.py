"""The contract of ``engine.idempotency.Keys``, for every store."""

from __future__ import annotations

import asyncio

import pytest
from tests.stores.world import Stores, World, record

from antiphon.engine.idempotency import Bound, KeyClaim, Standing
from antiphon.engine.ports.stores import Store
from antiphon.protocol.errors import ApiError

#: A hold that outlives the test.
LONG = 3600.0
EXPIRES = 2_000_000_000


def claim(attempt: str, *, key: str = "k", digest: bytes = b"one", project: str = "p") -> KeyClaim:
    return KeyClaim(project, key, digest, attempt)


async def bind(store: Store, attempt: str, seconds: float = LONG, **members: str | bytes) -> Bound:
    return await store.keys.bind(claim(attempt, **members), seconds, EXPIRES)  # type: ignore[arg-type]


class KeyContract:
    async def test_a_key_is_bound_once(self, store: Store) -> None:
        assert await bind(store, "resp_1") == Bound("resp_1", Standing.OURS)
        assert await bind(store, "resp_2") == Bound("resp_1", Standing.RUNNING)
        assert await bind(store, "resp_1") == Bound("resp_1", Standing.OURS)  # said twice
        assert await bind(store, "resp_3", key="K") == Bound("resp_3", Standing.OURS)

    async def test_of_attempts_at_once_one_gets_the_key(self, store: Store) -> None:
        bound = await asyncio.gather(*(bind(store, f"resp_{number}") for number in range(20)))

        assert sorted(one.standing.name for one in bound) == ["OURS", *["RUNNING"] * 19]
        assert len({one.response for one in bound}) == 1

    async def test_another_request_is_refused(self, store: Store) -> None:
        await bind(store, "resp_1")

        with pytest.raises(ApiError) as refused:
            await bind(store, "resp_2", digest=b"two")

        assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")
        assert await bind(store, "resp_3") == Bound("resp_1", Standing.RUNNING)

    async def test_of_two_requests_at_once_one_is_refused(self, store: Store) -> None:
        bound = await asyncio.gather(
            bind(store, "resp_1"), bind(store, "resp_2", digest=b"two"), return_exceptions=True
        )

        assert [isinstance(one, Bound) for one in bound] == [True, False]

    async def test_projects_have_keys_of_their_own(self, store: Store) -> None:
        await bind(store, "resp_1")

        assert await bind(store, "resp_2", project="q", digest=b"two") == Bound("resp_2", Standing.OURS)
        await store.keys.free([claim("resp_1", project="q")])
        assert await bind(store, "resp_3") == Bound("resp_1", Standing.RUNNING)

    async def test_a_lapsed_hold_goes_to_the_next_under_the_same_id(self, store: Store) -> None:
        await bind(store, "resp_1", 0.0)

        assert await bind(store, "resp_2") == Bound("resp_1", Standing.OURS)
        assert await bind(store, "resp_3") == Bound("resp_1", Standing.RUNNING)
        await store.keys.hold([claim("resp_1")], 0.0)  # not its holder any more
        assert await bind(store, "resp_3") == Bound("resp_1", Standing.RUNNING)
        await store.keys.hold([claim("resp_2")], 0.0)
        assert await bind(store, "resp_3") == Bound("resp_1", Standing.OURS)

    async def test_a_hold_is_renewed(self, store: Store) -> None:
        await bind(store, "resp_1", 0.0)
        await store.keys.hold([claim("resp_1"), claim("resp_0", key="unknown")], LONG)

        assert await bind(store, "resp_2") == Bound("resp_1", Standing.RUNNING)

    async def test_a_freed_key_is_anybodys(self, store: Store) -> None:
        await bind(store, "resp_1")
        await store.keys.free([claim("resp_2")])  # not its holder
        assert await bind(store, "resp_3") == Bound("resp_1", Standing.RUNNING)

        await store.keys.free([claim("resp_1")])

        assert await bind(store, "resp_4", digest=b"two") == Bound("resp_4", Standing.OURS)

    async def test_a_stored_response_is_replayed_whoever_holds_the_key(self, store: Store) -> None:
        for hold in (LONG, 0.0):
            key = f"k{hold}"
            await bind(store, f"resp_{hold}", hold, key=key)
            await store.save(record(f"resp_{hold}"))

            assert await bind(store, "resp_2", key=key) == Bound(f"resp_{hold}", Standing.STORED)

    async def test_a_background_run_counts_from_its_beginning(self, store: Store, world: World) -> None:
        await bind(store, "run")
        await world.begin(turn="run")

        assert await bind(store, "resp_2") == Bound("run", Standing.STORED)

    async def test_a_key_goes_with_its_response(self, store: Store) -> None:
        for response in ("resp_1", "resp_2"):
            await bind(store, response, key=response)
            await store.save(record(response))

        assert await store.delete("p", "resp_1")

        assert await bind(store, "resp_3", key="resp_1", digest=b"two") == Bound("resp_3", Standing.OURS)
        assert await bind(store, "resp_4", key="resp_2") == Bound("resp_2", Standing.STORED)

    async def test_keys_expire(self, store: Store) -> None:
        for number in range(450):
            await store.keys.bind(claim(f"resp_{number}", key=f"old{number}"), LONG, EXPIRES - 1)
        await store.keys.bind(claim("resp_new", key="new"), LONG, EXPIRES)

        assert await store.expire(EXPIRES - 1) == 0

        for number in (0, 449):
            assert (await bind(store, "other", key=f"old{number}", digest=b"two")).standing is Standing.OURS
        assert (await bind(store, "other", key="new")).standing is Standing.RUNNING

    async def test_what_any_client_may_send_is_a_key(self, store: Store) -> None:
        for key in ("\x00\x01", "é" * 255, "' OR 1=1 --"):
            assert (await bind(store, key, key=key)).standing is Standing.OURS
            assert await bind(store, "other", key=key) == Bound(key, Standing.RUNNING)

    async def test_a_key_is_there_after_a_restart(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with its process, as it says")
        first = stores.open()
        await bind(first, "resp_1")
        await bind(first, "resp_2", 0.0, key="cut")
        await first.save(record("resp_1"))
        await first.close()

        second = stores.open()
        try:
            assert await bind(second, "resp_3") == Bound("resp_1", Standing.STORED)
            assert await bind(second, "resp_4", key="cut") == Bound("resp_2", Standing.OURS)
        finally:
            await second.close()
