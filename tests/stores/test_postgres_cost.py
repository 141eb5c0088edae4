"""What the PostgreSQL store costs does not grow with the conversation, with the tables, or with the size of a group."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.stores.contract_removal import Life
from tests.stores.postgres_fleet import session
from tests.stores.postgres_server import PostgresServer
from tests.stores.world import CALL, PATIENCE_SECONDS, World, batch, record, within

from antiphon.engine.ports.stores import FIRST_FENCE, Beginning, RunName
from antiphon.engine.ports.tools import ToolResult
from antiphon.stores.postgres import PostgresStore, Settings, operations, schema
from antiphon.stores.postgres.background import Background
from antiphon.stores.queries import Queries

LARGE = {"instructions": b'"' + b"i" * 20_000 + b'"'}


@pytest.fixture
async def admin(postgres: PostgresServer, bare_url: str) -> AsyncIterator[Any]:
    connection = await postgres.connect(bare_url.rpartition("/")[2])
    yield connection
    await connection.close()


async def opened(url: str) -> PostgresStore:
    store = PostgresStore(Settings(url, connections=3))
    await store.open()
    return store


async def alone(admin: Any) -> None:
    """Returns when every other session has ended, which is when its counts are added up."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await admin.fetchval(others):
            await admin.execute("SELECT pg_sleep(0.02)")


async def test_no_table_is_read_from_end_to_end(bare_url: str, admin: Any) -> None:
    """Whatever the tables held when a plan was made; what lapsed is swept from a table that stays small."""
    await (await opened(bare_url)).close()
    await alone(admin)
    await admin.execute("SELECT pg_stat_reset()")

    store = await opened(bare_url)
    life = Life(World(store), random.Random(5))
    for _ in range(60):
        await life.step()
    for response in life.model.alive:
        await life.world.inputs(response)
        await life.world.outputs(response)
        await life.world.numbers(response)
    assert await store.unfinished() is not None
    assert await store.beginning("p", [Beginning(bytes(16), given, 1) for given in ("x", None)]) is None
    await background(store)
    await life.end()
    await store.close()
    await alone(admin)

    counts = await admin.fetch("SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables")
    scanned = {name: (whole, by_key) for name, whole, by_key in counts if name not in ("pins", "migrations")}
    assert {name for name, (whole, _) in scanned.items() if whole} == set()
    used = {name for name, (_, by_key) in scanned.items() if by_key}
    assert used > {"items", "threads", "responses", "blobs", "runs", "events", "journal"}


async def background(store: PostgresStore) -> None:
    """Runs in all that may become of them."""
    world = World(store)
    runs = [await world.begin(turn=f"run{number}") for number in range(20)]
    names = [run.shell.id for run in runs]
    for number in range(0, 20, 2):
        assert all(await store.append([batch(name, number, number + 1) for name in names]))
        await world.log(names[0])
    fences = {}
    for name in names:
        await store.journal_begin("p", name, FIRST_FENCE, CALL)
        await store.journal_complete("p", name, FIRST_FENCE, CALL, ToolResult({}, ""))
        await store.hand_back([(RunName("p", name), FIRST_FENCE)])
        claim = await store.claim("p", name)
        assert claim is not None
        fences[name] = claim.fence
        assert await store.begun("p", name) is not None
        assert len(await store.journal("p", name)) == 1
    assert all([await world.finish(run, first_number=20, fence=fences[run.shell.id]) for run in runs])
    assert await store.compact(15) == 15
    for name in names:
        assert len(await world.log(name)) == 21
        assert await store.delete("p", name)


async def test_a_turn_does_not_grow_with_the_conversation(bare_url: str, admin: Any) -> None:
    """Rows and bytes of the log per turn, with 20 kB of instructions repeated in each."""
    store = await opened(bare_url)
    world = World(store)
    previous: str | None = None

    async def turns(count: int) -> tuple[int, int]:
        nonlocal previous
        begun = await state(admin)
        for _ in range(count):
            previous = await world.say(previous, large=LARGE)
        return tuple(after - before for before, after in zip(begun, await state(admin), strict=True))  # type: ignore[return-value]

    await turns(40)
    early_rows, early_bytes = await turns(40)
    await turns(240)
    late_rows, late_bytes = await turns(40)

    assert early_rows == late_rows == 40 * 3  # what went in, what came out, the response
    assert late_bytes == pytest.approx(early_bytes, rel=0.15)
    assert late_bytes / 40 < 4000
    await store.close()


async def test_a_tick_does_not_grow_with_what_is_unfinished(postgres: PostgresServer, bare_url: str) -> None:
    """Pages of tables and indexes that are looked at; the plans are made while the tables are empty."""
    store = await opened(bare_url)
    world = World(store)
    owner = await session(postgres, bare_url.rpartition("/")[2])
    runs = Background(Queries(schema.PACKAGE, "queries.sql"))
    names = [f"mine{number}" for number in range(10)]

    async def write(number: int) -> None:
        for name in names:
            claim = [operations.Claim("p", name, number)]
            fence = (await runs.claim(owner, claim, False))[0].fence
            call = operations.BeginCall("p", name, fence, CALL._replace(item_id=f"ws_{number}"))
            assert await runs.begin_calls(owner, [call], False) == [None]
            assert await runs.append(owner, [operations.Append([batch(name, number, fence=fence)])], False) == [[True]]

    async def pages(first: int) -> int:
        before = await looked_at(owner)
        for number in range(first, first + 10):
            await write(number)
        return await looked_at(owner) - before

    for name in names:
        await world.begin(turn=name)
    await pages(0)
    few = await pages(10)
    await asyncio.gather(*(world.begin(turn=f"other{number}") for number in range(1500)))
    many = await pages(20)

    assert many < 1.5 * few
    await owner.close()
    await store.close()


async def looked_at(connection: Any) -> int:
    """How many pages of responses and runs so far, including those that this session has not told of yet."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    found: int = await connection.fetchval(
        "SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint"
        " FROM pg_statio_user_tables WHERE relname IN ('responses', 'runs')"
    )
    return found


async def test_the_rows_of_runs_are_updated_in_their_pages(bare_url: str, admin: Any) -> None:
    """Heap-only: an append touches no index of `runs`, and what it leaves is cleared without vacuum."""
    store = await opened(bare_url)
    world = World(store)
    names = [f"r{number}" for number in range(300)]
    await asyncio.gather(*(world.begin(turn=name) for name in names))
    for number in range(30):
        assert all(await store.append([batch(name, number) for name in names]))
    await store.close()
    await alone(admin)

    found = await admin.fetchrow("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'runs'")
    assert found["n_tup_upd"] >= 30 * 300
    assert found["n_tup_hot_upd"] > 0.99 * found["n_tup_upd"]
    assert await admin.fetchval("SELECT pg_relation_size('antiphon.runs')") <= 10 * 8192


async def state(admin: Any) -> tuple[int, int]:
    """Rows, and bytes of the write-ahead log, so far."""
    tables = ("items", "responses", "threads", "blobs", "blob_bytes")
    rows = [await admin.fetchval(f"SELECT count(*) FROM antiphon.{table}") for table in tables]
    return sum(rows), await admin.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")


async def test_a_group_is_one_transaction(bare_url: str, admin: Any) -> None:
    store = await opened(bare_url)
    before = await admin.fetchval("SELECT txid_current()")

    await within(asyncio.gather(*(store.save(record(f"r{number}", large=LARGE)) for number in range(100))))

    # Transactions that wrote: the first save goes alone, the others wait for it together; one more is this question.
    assert await admin.fetchval("SELECT txid_current()") - before <= 3
    assert await admin.fetchval("SELECT count(*) FROM antiphon.responses") == 100
    await store.close()


async def test_a_tick_is_one_transaction(bare_url: str, admin: Any) -> None:
    """As many runs as there are, each with several batches."""
    store = await opened(bare_url)
    world = World(store)
    names = [f"r{number}" for number in range(100)]
    await asyncio.gather(*(world.begin(turn=name) for name in names))
    before = await admin.fetchval("SELECT txid_current()")

    written = await store.append([batch(name, number, number + 1) for number in (0, 2, 4) for name in names])

    assert await admin.fetchval("SELECT txid_current()") - before == 2  # one more is this question
    assert written == [True] * 300
    assert await admin.fetchval("SELECT count(*) FROM antiphon.events") == 300
    await store.close()
