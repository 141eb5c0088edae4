"""What the PostgreSQL store costs does not grow with the conversation, with the tables, or with the size of a group."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.stores.contract_removal import Life
from tests.stores.postgres_server import PostgresServer
from tests.stores.world import PATIENCE_SECONDS, World, record, within

from antiphon.stores.postgres import PostgresStore, Settings

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
    await life.end()
    await store.close()
    await alone(admin)

    counts = await admin.fetch("SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables")
    scanned = {name: (whole, by_key) for name, whole, by_key in counts if name not in ("pins", "migrations")}
    assert {name for name, (whole, _) in scanned.items() if whole} == set()
    assert {name for name, (_, by_key) in scanned.items() if by_key} > {"items", "threads", "responses", "blobs"}


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
