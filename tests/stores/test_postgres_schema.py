"""The schema: made once by whoever comes first, refused when it is newer, and each refusal one sentence."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cuttable import cuttable
from tests.stores.postgres_server import PostgresServer
from tests.stores.world import CALL, World, event, item, items, record, within

from antiphon.engine.ports.stores import FIRST_FENCE, Claim, Record, RunName
from antiphon.protocol.responses import Outcome
from antiphon.stores.postgres import PostgresStore, Settings, groups, schema
from antiphon.stores.queries import migrations
from antiphon.stores.rows import frames_of

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


async def writes_1(admin: Any, new: Record) -> None:
    """As the first release writes a response, which knows of no hashes."""
    rows = groups._Rows(OrderedDict())
    rows.add(new)
    arguments = rows.arguments()
    del arguments[16:18]
    places = ", ".join(f"${number}" for number in range(1, 27))
    await admin.execute(f"SELECT write_responses_1({places})", *arguments, groups.SEGMENTS_MAX)


async def last_release(admin: Any) -> None:
    """What it left: runs in every state and a foreground response, written by its own functions."""
    await admin.execute("SET search_path = antiphon")
    statuses = {"empty": "queued", "cut": "in_progress", "done": "completed", "silent": "failed", "front": "completed"}
    for name, status in statuses.items():
        new = record(name, status=status, background=name != "front", input=items(f"{name}?"))
        await writes_1(admin, new)
        for first in {"cut": (0, 2), "done": (0, 2, 4)}.get(name, ()):
            frames = frames_of([event(first), event(first + 1)])
            # As append_events_1 writes them; that one asks for the status, and here a run is written when it is over.
            await admin.execute(
                "INSERT INTO events (run, first_seq, last_seq, frames) SELECT row, $2, $3, $4 FROM responses"
                " WHERE id = $1", name, first, first + 1, frames,
            )  # fmt: skip
    for call in ("ws_2", "ws_1"):
        intent = msgspec.json.encode(CALL._replace(item_id=call))
        await admin.fetch("SELECT * FROM begin_calls_1($1, $2, $3, $4)", ["p"], ["cut"], [call], [intent])


async def test_what_the_last_release_left_is_taken_over(postgres: PostgresServer, bare_url: str) -> None:
    """Its unfinished runs can be claimed, and the logs of its ended ones are packed."""
    admin = await postgres.connect(name_of(bare_url))
    await admin.execute(f"{schema.VERSIONS} SET search_path = antiphon")
    for number, text in migrations(schema.PACKAGE):
        if number < 3:
            await admin.execute(text)
            await admin.execute("INSERT INTO migrations (number) VALUES ($1)", number)
    await last_release(admin)

    store = await opened(bare_url)
    world = World(store)
    assert await store.unfinished() == [RunName("p", "empty"), RunName("p", "cut")]
    assert await store.claim("p", "empty") == Claim(FIRST_FENCE + 1, -1, 1)
    assert await store.claim("p", "cut") == Claim(FIRST_FENCE + 1, 3, 1)
    for name in ("done", "silent", "front"):
        assert await store.claim("p", name) is None
    assert [noted.call.item_id for noted in await store.journal("p", "cut")] == ["ws_2", "ws_1"]
    begun = await store.begun("p", "cut")
    assert begun is not None
    assert begun.input == [item("cut?").body]

    log = await world.log("done")
    assert [event.number for event in log] == list(range(6))
    assert await store.compact(10) == 1
    assert await world.log("done") == log
    assert await admin.fetchval("SELECT count(*) FROM events WHERE packed") == 1
    assert await world.append("cut", 4, fence=FIRST_FENCE + 1)
    assert await world.numbers("cut") == [0, 1, 2, 3, 4]
    await store.close()
    await admin.close()


async def test_the_last_release_may_run_beside(postgres: PostgresServer, bare_url: str) -> None:
    """What it begins, writes, ends and deletes by its own functions is understood here."""
    store = await opened(bare_url)
    world = World(store)
    admin = await postgres.connect(name_of(bare_url))
    await admin.execute("SET search_path = antiphon")

    async def appends(name: str, *numbers: int) -> None:
        frames = frames_of([event(number) for number in numbers])
        await admin.fetch(
            "SELECT append_events_1($1, $2, $3, $4, $5)", ["p"], [name], [numbers[0]], [numbers[-1]], [frames]
        )

    async def ends(name: str) -> list[int]:
        nothing: list[Any] = []
        ended: list[int] = await admin.fetchval(
            "SELECT finish_runs_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            ["p"], [name], [0], [None], ["failed"], [msgspec.json.encode(Outcome("failed"))],
            nothing, nothing, nothing, nothing, [None], [None], [b""],
        )  # fmt: skip
        return ended

    # A run of its own, taken over when it is gone.
    await writes_1(admin, record("old", status="queued", background=True))
    await appends("old", 0, 1)
    assert await store.unfinished() == [RunName("p", "old")]
    claim = await store.claim("p", "old")
    assert claim == Claim(FIRST_FENCE + 1, 1, 1)
    assert await world.append("old", 2, fence=claim.fence)
    # It writes on until it is stopped; what it wrote by then counts for the next owner.
    await appends("old", 3)
    assert await store.claim("p", "old") == Claim(FIRST_FENCE + 2, 3, 1)

    # A run of ours that it ends, as each start of it does.
    begun = await world.begin(turn="new")
    assert await world.append("new", 0)
    assert await ends("new") == [1]
    assert not await world.append("new", 1)
    assert not await world.finish(begun, first_number=1)
    assert await store.claim("p", "new") is None
    assert await world.numbers("new") == [0]

    # And one that it deletes.
    await world.begin(turn="gone")
    await admin.fetch("SELECT remove_responses_1($1, $2)", ["p"], ["gone"])
    assert not await world.append("gone", 0)
    assert await store.claim("p", "gone") is None
    await store.close()
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


async def test_a_start_waits_for_its_database(
    postgres: PostgresServer, bare_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so once, without the password."""
    async with cuttable(postgres.port) as proxy:
        proxy.accepting = False
        starting = asyncio.ensure_future(opened(postgres.url(name_of(bare_url), port=proxy.port)))
        await within(proxy.refused.wait())
        proxy.accepting = True
        store = await within(starting)
        await store.ping()
        await store.close()

        place = f"127.0.0.1:{proxy.port}/{name_of(bare_url)}"
        [told] = [record.message for record in caplog.records if record.name == "antiphon.stores"]
        assert told.startswith(f"PostgreSQL at {place} cannot be reached, trying for 10 s: ")
        assert postgres.password not in told


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


async def test_looking_changes_nothing(postgres: PostgresServer, bare_url: str) -> None:
    newest = migrations(schema.PACKAGE)[-1][0]

    assert await within(schema.inspect(Settings(bare_url))) == (0, newest)
    assert await within(schema.inspect(Settings(bare_url))) == (0, newest), "the first look made nothing"
    await (await opened(bare_url)).close()
    assert await within(schema.inspect(Settings(bare_url))) == (newest, newest)
    with pytest.raises(ValueError, match="does not exist"):
        await within(schema.inspect(Settings(postgres.url("nowhere"))))
