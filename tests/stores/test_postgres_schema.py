"""The schema: made once by whoever comes first, refused when it is newer, and each refusal one sentence."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.cuttable import cuttable
from tests.stores.postgres_server import PostgresServer
from tests.stores.world import World, within

from antiphon.stores.postgres import PostgresStore, Settings, schema
from antiphon.stores.queries import migrations

#: Everything of the schema that a statement can notice.
PICTURE = """
SELECT 'column', table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, is_nullable,
    column_default, collation_name, is_identity, identity_generation)
FROM information_schema.columns WHERE table_schema = 'antiphon'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'antiphon'
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'antiphon'::regnamespace
UNION ALL SELECT 'table', relname, reloptions::text FROM pg_class
    WHERE relnamespace = 'antiphon'::regnamespace AND relkind = 'r'
UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'antiphon'::regnamespace
ORDER BY 1, 2, 3
"""


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


async def opened(url: str, **limits: float) -> PostgresStore:
    store = PostgresStore(Settings(url, **{"write_seconds": 10.0, **limits}))  # type: ignore[arg-type]
    await within(store.open())
    return store


async def picture(admin: Any) -> list[tuple[str, ...]]:
    return [tuple(row) for row in await admin.fetch(PICTURE)]


async def test_the_schema_equals_all_migrations(postgres: PostgresServer, bare_url: str) -> None:
    """A database that was brought up one migration at a time looks like a fresh one."""
    await (await opened(bare_url)).close()
    admin = await postgres.connect(name_of(bare_url))
    fresh = await picture(admin)
    assert {kind for kind, *_ in fresh} == {"column", "index", "constraint", "table", "function"}

    for number, _ in migrations(schema.PACKAGE):
        await admin.execute("DROP SCHEMA antiphon CASCADE; CREATE SCHEMA antiphon; SET search_path = antiphon")
        await admin.execute(schema.VERSIONS)
        for earlier, text in migrations(schema.PACKAGE):
            if earlier <= number:
                await admin.execute(text)
                await admin.execute("INSERT INTO migrations (number) VALUES ($1)", earlier)
        await (await opened(bare_url)).close()
        assert await picture(admin) == fresh
    await admin.close()


async def test_many_processes_may_start_at_once(postgres: PostgresServer, bare_url: str) -> None:
    stores = await asyncio.gather(*(opened(bare_url) for _ in range(6)))

    await World(stores[0]).say(turn="one")
    assert await World(stores[5]).seen("one") == ["one?", "one!"]
    for store in stores:
        await store.close()
    admin = await postgres.connect(name_of(bare_url))
    applied = await admin.fetch("SELECT number FROM antiphon.migrations ORDER BY number")
    assert [row[0] for row in applied] == [number for number, _ in migrations(schema.PACKAGE)]
    await admin.close()


async def test_a_database_of_a_newer_release_is_refused(postgres: PostgresServer, bare_url: str) -> None:
    await (await opened(bare_url)).close()
    admin = await postgres.connect(name_of(bare_url))
    await admin.execute("INSERT INTO antiphon.migrations (number) VALUES (99)")
    before = await picture(admin)

    message = await refusal(bare_url)

    known = migrations(schema.PACKAGE)[-1][0]
    assert message == (
        f"PostgreSQL at 127.0.0.1:{postgres.port}/{name_of(bare_url)}: the database was written by a newer release "
        f"(schema 99, this one knows {known})"
    )
    assert await picture(admin) == before
    await admin.close()


async def test_a_failed_migration_leaves_nothing(postgres: PostgresServer, bare_url: str) -> None:
    admin = await postgres.connect(name_of(bare_url))
    await admin.execute("CREATE SCHEMA antiphon; CREATE TABLE antiphon.items (x integer)")

    assert "the schema 'antiphon' cannot be made: relation \"items\" already exists" in await refusal(bare_url)

    tables = await admin.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'antiphon'")
    assert [row[0] for row in tables] == ["items"]
    await admin.close()


async def refusal(url: str, **limits: float) -> str:
    """The sentence; it names no password."""
    with pytest.raises(ValueError) as raised:
        await opened(url, **limits)
    message = str(raised.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


async def test_what_is_in_the_way_is_said_in_one_sentence(postgres: PostgresServer, bare_url: str) -> None:
    admin = await postgres.connect(name_of(bare_url))
    await admin.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'secret'")
    await admin.execute("DROP DATABASE IF EXISTS latin")
    await admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    await admin.close()
    host = f"127.0.0.1:{postgres.port}"
    database = name_of(bare_url)
    unused = "127.0.0.1:1"

    assert "password authentication failed" in await refusal(f"postgresql://postgres:secret@{host}/{database}")
    assert 'database "nowhere" does not exist' in await refusal(postgres.url("nowhere"))
    assert "permission denied" in await refusal(f"postgresql://guest:secret@{host}/{database}")
    assert "the database's encoding is LATIN1, UTF8 is needed" in await refusal(postgres.url("latin"))
    assert f"PostgreSQL at {unused}/x cannot be reached: " in await refusal(
        f"postgresql://u:secret@{unused}/x", write_seconds=0.3
    )
    assert "sslmode" in await refusal(f"{bare_url}?sslmode=secretly")


async def test_a_start_waits_for_its_database(postgres: PostgresServer, bare_url: str) -> None:
    async with cuttable(postgres.port) as proxy:
        proxy.accepting = False
        starting = asyncio.ensure_future(opened(postgres.url(name_of(bare_url), port=proxy.port)))
        await within(proxy.refused.wait())
        proxy.accepting = True
        store = await within(starting)
        await store.ping()
        await store.close()


async def test_every_way_of_writing_its_url(postgres: PostgresServer, bare_url: str) -> None:
    name = name_of(bare_url)
    socket = f"postgresql://postgres@/{name}?host={postgres.folder}&port={postgres.port}"
    urls = [bare_url, bare_url.replace("postgresql", "postgresql+asyncpg"), bare_url.replace("postgresql", "postgres")]
    for url in (*urls, socket):
        store = await opened(url)
        await store.ping()
        await store.close()


def test_the_sql_is_in_the_package() -> None:
    """What is installed must hold it: migrations are numbered without gap, and each query is loaded."""
    numbers = [number for number, _ in migrations(schema.PACKAGE)]
    folder = Path(schema.__file__).parent

    assert numbers == list(range(1, len(numbers) + 1))
    assert len(list((folder / "migrations").iterdir())) == len(numbers)
