"""The database file: private, one process's own, whole after a kill, refused when it cannot be understood."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from tests.stores.victim import WORKERS
from tests.stores.world import CALL, SMALL, World, event, item, record

from antiphon.engine.idempotency import Bound, KeyClaim, Standing
from antiphon.engine.ports.stores import Claim, RunName
from antiphon.engine.ports.tools import Noted
from antiphon.protocol.responses import Outcome
from antiphon.stores.queries import migrations
from antiphon.stores.rows import frames_of
from antiphon.stores.sqlite import SqliteStore, database

ACKNOWLEDGED = 400
#: What a victim told, by word and deed; a chained turn is told with the one before it.
Told = dict[tuple[str, str], list[Any]]
ROOT = Path(__file__).parents[2]


def files_of(path: Path) -> list[Path]:
    """The database and everything beside it."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", ".lock"))]


async def test_only_the_owner_may_read_the_files(folder: Path) -> None:
    path = folder / "deep" / "state.db"
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await World(store).say()
        assert {stat.S_IMODE(file.stat().st_mode) for file in files_of(path)} == {0o600}
        await store.close()
    finally:
        os.umask(before)


async def test_nothing_but_the_database_is_left_after_closing(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    await World(store).say()
    await store.close()

    assert sorted(file.name for file in folder.iterdir()) == ["state.db", "state.db.lock"]


async def test_a_database_of_a_newer_release_is_refused(folder: Path) -> None:
    path = folder / "state.db"
    await SqliteStore(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()

    for _ in range(2):  # nothing of the first try stays open
        with pytest.raises(
            ValueError, match=r"^the database was written by a newer release \(schema 99, .* knows 7\)$"
        ):
            SqliteStore(path)


def test_what_is_no_database_is_refused(folder: Path) -> None:
    path, other = folder / "state.db", folder / "other"
    path.write_bytes(b"no database at all" * 100)
    other.mkdir()

    for _ in range(2):  # nothing of the first try stays open
        with pytest.raises(ValueError, match=r"state\.db cannot be opened: file is not a database$"):
            SqliteStore(path)
    with pytest.raises(ValueError, match=r"other cannot be opened: unable to open database file$"):
        SqliteStore(other)
    assert path.read_bytes() == b"no database at all" * 100


async def test_a_second_process_is_refused_until_the_first_is_done(folder: Path) -> None:
    path = folder / "state.db"
    store = SqliteStore(path)
    with pytest.raises(ValueError, match=r"state\.db is in use by another process$"):
        SqliteStore(path)
    await World(store).say(turn="one")
    await store.close()

    store = SqliteStore(path)
    assert await World(store).seen("one") == ["one?", "one!"]
    await store.close()


@pytest.mark.parametrize("release", [number for number, _ in migrations(database.PACKAGE)])
def test_the_schema_equals_all_migrations(release: int) -> None:
    """A database of an older release that is brought up has the tables of a fresh one."""
    query = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    fresh, grown = apsw.Connection(":memory:"), of_release(release)
    database.migrate(fresh)
    database.migrate(grown)

    assert fresh.execute(query).fetchall() == grown.execute(query).fetchall()
    assert fresh.pragma("user_version") == grown.pragma("user_version") == len(migrations(database.PACKAGE))


def of_release(release: int, path: str = ":memory:") -> apsw.Connection:
    """A database with the first migrations only."""
    connection = apsw.Connection(path)
    for number, text in migrations(database.PACKAGE)[:release]:
        connection.execute(text).fetchall()
        connection.pragma("user_version", number)
    return connection


def old_database(path: Path) -> None:
    """As release 1 left it: a response, a run that continues it, one without events and one that has ended."""
    connection = of_release(1, str(path))
    encode = msgspec.json.encode
    connection.execute("INSERT INTO threads VALUES (1, 'p', NULL, 0, 3, '[]')")
    for position, name in enumerate(("before?", "before!", "run?")):
        connection.execute("INSERT INTO items VALUES ('p', 1, ?, ?, ?)", (position, name, item(name).body))
    connection.execute("INSERT INTO threads VALUES (2, 'p', NULL, 0, 0, '[]'), (3, 'p', NULL, 0, 1, '[]')")
    connection.execute("INSERT INTO items VALUES ('p', 3, 0, 'ended!', ?)", (item("ended!").body,))
    spans = {"before": (1, 0, 1, 2), "run": (1, 2, 3, 3), "fresh": (2, 0, 0, 0), "ended": (3, 0, 0, 1)}
    for row, (name, span) in enumerate(spans.items(), 1):
        status = {"run": "in_progress", "fresh": "queued"}.get(name, "completed")
        connection.execute(
            "INSERT INTO responses VALUES (?, 'p', ?, ?, ?, ?, ?, 1, NULL, ?, 0, 1, ?, ?, ?, '{}', x'7b7d')",
            (row, name, *span, name != "before", status, encode(Outcome(status)), SMALL),
        )
    for row, numbers in ((2, [0, 1]), (2, [2]), (4, [0]), (4, [1, 2, 3])):
        frames = frames_of([event(number) for number in numbers])
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (row, numbers[0], numbers[-1], frames))
    connection.execute("INSERT INTO journal VALUES (2, 'ws_1', ?, NULL)", (encode(CALL),))
    connection.close()


async def test_a_database_of_release_1_is_brought_up(folder: Path) -> None:
    """Its unfinished runs can be taken over, and its ended logs are packed."""
    path = folder / "state.db"
    old_database(path)

    store = SqliteStore(path)
    world = World(store)
    assert await store.unfinished() == [RunName("p", "run"), RunName("p", "fresh")]
    assert await store.claim("p", "ended") is await store.claim("p", "before") is None
    assert await store.claim("p", "run") == Claim(2, 2, 1)
    assert await store.claim("p", "fresh") == Claim(2, -1, 1)
    begun = await store.begun("p", "run")
    assert begun is not None
    assert begun.earlier == [item("before?").body, item("before!").body]
    assert begun.input == [item("run?").body]
    assert await store.journal("p", "run") == [Noted(CALL, None)]

    assert not await world.append("run", 3)
    assert await world.append("run", 2, 3, fence=2)
    assert await store.compact(10) == 1
    assert await world.finish(record("run"), first_number=4, fence=2)
    assert await store.compact(10) == 1
    for name, numbers in (("run", [0, 1, 2, 3]), ("ended", [0, 1, 2, 3])):
        assert (await world.log(name))[:4] == [event(number) for number in numbers]
    assert await world.seen("run") == ["before?", "before!", "run?", "run!"]
    assert await store.unfinished() == [RunName("p", "fresh")]
    assert await store.delete("p", "ended")
    await store.close()


@contextlib.contextmanager
def victim(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.stores.victim", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        limit = threading.Timer(20, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def killed(path: Path) -> Told:
    """What a process told that was killed in the middle of its writes."""
    told: Told = collections.defaultdict(list)
    with victim(path) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout):
            word, deed, *rest = line.decode().split()
            told[word, deed].append(rest)
            if count == ACKNOWLEDGED:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(told["did", "say"]) > ACKNOWLEDGED / 4
    return told


async def test_what_was_acknowledged_survives_a_kill(folder: Path) -> None:
    path = folder / "state.db"
    told = killed(path)
    parents: dict[str, str] = dict(told["did", "say"])
    doomed = {turn for (turn,) in told["will", "delete"]}
    deleted = {turn for (turn,) in told["did", "delete"]}
    assert len(doomed - deleted) <= WORKERS

    store = SqliteStore(path)
    world = World(store)
    for turn in parents.keys() - doomed:
        line = [turn]
        while (previous := parents[line[0]]) != "None":
            line.insert(0, previous)
        assert await world.seen(turn) == [name for one in line for name in (f"{one}?", f"{one}!")]
    for turn in deleted:
        assert await store.read("p", turn) is None
    for (run,) in told["did", "begin"]:
        if run not in doomed:
            assert await store.read("p", run) is not None
    for deed, numbers in (("append", [0, 1]), ("finish", [0, 1, 2])):
        for (run,) in told["did", deed]:
            if run not in doomed:
                assert (await world.numbers(run))[: len(numbers)] == numbers
    finished = {run for (run,) in told["did", "finish"]}
    assert not finished & {run.response for run in await store.unfinished()}
    await store.close()


async def test_what_was_deleted_before_a_kill_is_in_no_file_after_the_next_start(folder: Path) -> None:
    path = folder / "state.db"
    told = killed(path)
    chains = {turn.rsplit(".", 1)[0] for (turn,) in told["did", "delete"] if turn.endswith(".b")}
    assert chains

    store = SqliteStore(path)
    await store.append([])  # comes after the first thing that the writer does
    content = b"".join(file.read_bytes() for file in files_of(path))
    for chain in chains:
        assert f'"text":"{chain}.a!"'.encode() in content
        for turn in ("b?", "b!", "c?", "c!", "run?", "run!"):
            assert f'"text":"{chain}.{turn}"'.encode() not in content
    await store.close()


async def test_what_a_pin_held_back_is_removed_at_the_next_start(folder: Path) -> None:
    path = folder / "state.db"
    store = SqliteStore(path)
    world = World(store)
    await world.say(turn="one")
    await world.say("one", turn="two")
    context = await world.pin("two")
    assert await store.delete("p", "two")
    assert await world.alive(["two?"]) == {"two?"}
    await store.close()  # the pin is not given up: what a kill would leave, too
    assert context.parent is not None

    store = SqliteStore(path)
    world = World(store)
    assert await world.alive(["one?", "two?", "two!"]) == {"one?"}
    await world.say("one", turn="three")
    assert await world.seen("three") == ["one?", "one!", "three?", "three!"]
    await store.close()
    content = path.read_bytes()
    assert b"two?" not in content
    assert b"three?" in content


async def test_who_held_a_key_is_gone_with_its_process(folder: Path) -> None:
    for attempt in ("first", "second"):
        store = SqliteStore(folder / "state.db")

        bound = await store.keys.bind(KeyClaim("p", "k", b"digest", attempt), 3600.0, 2_000_000_000)

        assert bound == Bound("first", Standing.OURS)
        await store.close()
