"""What was deleted is in none of the files: not in the database, nor in the log, nor between the rows of a page."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest
from tests.runs.stage import Follower, Stage
from tests.stores.test_sqlite_files import files_of
from tests.stores.world import PATIENCE_SECONDS, World, event, item, record, within

from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, TextDelta
from antiphon.engine.ports.stores import FIRST_FENCE, Batch, Beginning
from antiphon.engine.ports.tools import ToolCall, ToolResult
from antiphon.runs.log import LiveLog
from antiphon.stores.sqlite import SqliteStore
from antiphon.stores.sqlite.checkpoints import BUSY_PAGES, IDLE_PAGES, blanked, has_leftovers, unused

MARK = "MARKER-OF-WHAT-WAS-SAID"
#: From within a page, over a few, to many overflow pages.
SIZES = [10, 900, 5_000, 200_000]


def marked(size: int) -> str:
    """A text of at least ``size`` characters that holds the marker in each of its pages."""
    return f"{MARK} " * (1 + size // (len(MARK) + 1))


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """Erases before the next thing that is written."""
    opened = SqliteStore(path, erase_seconds=0)
    yield opened
    await opened.close()


def content(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in files_of(path) if file.exists())


async def written(store: SqliteStore) -> None:
    """Everything before this has been written, and erased where it was to be erased."""
    await store.append([])  # may be one group with what was to be erased, and then comes back before the erasing
    await store.append([])


async def until(reached: Callable[[], bool]) -> float:
    """How long it took until something was so."""
    begun = time.monotonic()
    while not reached() and time.monotonic() - begun < PATIENCE_SECONDS:  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.01)
    assert reached()
    return time.monotonic() - begun


async def say_marked(store: SqliteStore, response: str = "marked", **members: object) -> None:
    """A response that holds the marker in each place that content can be in."""
    texts = [marked(size) for size in SIZES]
    said = record(
        response,
        input=[item(f"{response}{index}", text) for index, text in enumerate(texts)],
        output=[item(f"{response}out{index}", text) for index, text in enumerate(texts)],
        large={"instructions": json.dumps(texts[2]).encode(), "tools": b"[%b]" % json.dumps(texts[3]).encode()},
        request=json.dumps({"include": texts[1]}).encode(),
        **members,  # type: ignore[arg-type]
    )
    said.shell.small = b'"metadata":{"a":%b}' % json.dumps(texts[0]).encode()
    await store.save(said)


async def test_deleted_content_is_in_no_file(store: SqliteStore, path: Path) -> None:
    world = World(store)
    await world.say(turn="before")
    await say_marked(store)
    await world.say(turn="after")
    assert content(path).count(MARK.encode()) > 1000

    assert await store.delete("p", "marked")
    await written(store)

    assert MARK.encode() not in content(path)
    assert b'"text":"before?"' in content(path)
    assert await world.seen("after") == ["after?", "after!"]


async def test_shared_content_goes_with_the_last_that_needs_it(store: SqliteStore, path: Path) -> None:
    """Nor is the hash left by which a history that is sent again would be found."""
    hashes = [bytes([byte]) * 16 for byte in (0xA5, 0x5A)]
    await say_marked(store, input_hash=hashes[0], full_hash=hashes[1])
    seen = await store.beginning("p", [Beginning(hashes[1], None, 0)])
    assert seen is not None
    await store.save(record("again", parent=seen.parent, input=[item("more")]))
    store.release(seen.parent)

    assert await store.delete("p", "marked")
    await written(store)
    found = content(path)
    assert MARK.encode() in found
    assert not any(hash in found for hash in hashes)

    assert await store.delete("p", "again")
    await written(store)
    assert MARK.encode() not in content(path)


async def test_expired_content_is_in_no_file(store: SqliteStore, path: Path) -> None:
    await say_marked(store, expires_at=5)
    await World(store).say(turn="after")

    assert await store.expire(5) == 1
    await written(store)

    assert MARK.encode() not in content(path)


async def test_a_background_run_leaves_nothing_when_its_time_has_come(store: SqliteStore, path: Path) -> None:
    world, text = World(store), marked(5000)
    await world.say(turn="before")
    run = await world.begin("before", turn="run", stored=False, input=[item("in", text)])
    events = [event(number, rest=b'"delta":%b' % json.dumps(marked(900)).encode()) for number in range(50)]
    for one in events:
        await store.append([Batch("p", "run", FIRST_FENCE, [one])])
    call = ToolCall("ws_1", "web_search", json.dumps({"query": text}))
    await store.journal_begin("p", "run", FIRST_FENCE, call)
    await store.journal_complete("p", "run", FIRST_FENCE, call, ToolResult({"results": [text]}, text))
    assert await world.finish(run, first_number=50, output=[item("out", text)], expires_at=5)
    assert MARK.encode() in content(path)

    assert await store.expire(5) == 1
    await written(store)

    assert MARK.encode() not in content(path)
    assert await world.seen("before") == ["before?", "before!"]


@pytest.mark.parametrize("deltas", [3, 40])
async def test_a_packed_log_is_erased_as_well(store: SqliteStore, path: Path, deltas: int) -> None:
    """Neither what was said nor its compressed form is left, within a page or over many."""
    world, chance = World(store), random.Random(deltas)
    await world.say(turn="before")
    run = await world.begin(turn="run")
    for number in range(deltas):
        text = f"{MARK} {chance.randbytes(600).hex()}".encode()
        await store.append([Batch("p", "run", FIRST_FENCE, [event(number, rest=b'"delta":"%b"' % text)])])
    assert await world.finish(run, first_number=deltas)
    assert await store.compact(1) == 1
    await written(store)
    packed = store._reading.execute("SELECT frames FROM events WHERE packed").get
    assert isinstance(packed, bytes)
    pieces = [packed[start : start + 16] for start in range(0, len(packed) - 16, 250)]
    assert sum(piece in content(path) for piece in pieces) > 0.9 * len(pieces) > 5

    assert await store.delete("p", "run")
    await written(store)

    assert MARK.encode() not in content(path)
    assert [piece for piece in pieces if piece in content(path)] == []
    assert await world.seen("before") == ["before?", "before!"]


@pytest.mark.parametrize("background", [False, True])
async def test_unstored_runs_leave_nothing(path: Path, background: bool) -> None:
    """Through the runs themselves: in the foreground at no time, in the background ten minutes after the end."""
    store, gate = SqliteStore(path, erase_seconds=0), asyncio.Event()
    reply: list[Delta] = [TextDelta(MARK), ReasoningDelta(MARK), CallDelta(0, "c", MARK, MARK)]
    stage = Stage([[TextDelta("Hi")]], [reply, gate, reply], store=store)
    before = await stage.answer(input="before")
    said = {"input": MARK, "instructions": MARK * 100, "metadata": {"a": MARK}, "previous_response_id": before["id"]}
    run = await stage.create(**said, store=False, background=background, stream=True)
    follower = Follower()
    if isinstance(run.log, LiveLog):
        run.log.attach(follower)
    else:
        stage.runs.follow("p", run.draft.shell.id, follower)
    await follower.until_type("output_text.delta")
    await written(store)
    assert (MARK.encode() in content(path)) is background

    gate.set()
    await within(run.finished())
    await written(store)
    assert (MARK.encode() in content(path)) is background
    assert (await store.read("p", run.draft.shell.id) is not None) is background

    assert await store.expire(int(time.time()) + 599) == 0
    assert await store.expire(int(time.time()) + 601) == background
    await written(store)
    assert MARK.encode() not in content(path)
    assert b'"text":"before"' in content(path)
    await stage.close()


async def test_what_others_need_stays_until_the_last_of_them_goes(store: SqliteStore, path: Path) -> None:
    world = World(store)
    await say_marked(store)
    await world.say("marked", turn="child")
    assert await store.delete("p", "marked")
    await written(store)
    assert b'{"id":"marked0"' in content(path)
    assert marked(SIZES[1]).encode() not in (await read_all(store, "responses"))

    assert await store.delete("p", "child")
    await written(store)

    assert MARK.encode() not in content(path)


async def read_all(store: SqliteStore, table: str) -> bytes:
    """A table as text."""
    return repr(store._reading.execute(f"SELECT * FROM {table}").fetchall()).encode()


async def test_what_a_pin_held_back_is_erased_after_its_release(store: SqliteStore, path: Path) -> None:
    world = World(store)
    await say_marked(store)
    context = await world.pin("marked")
    assert await store.delete("p", "marked")
    await written(store)
    assert MARK.encode() in content(path)

    world.release(context)
    await written(store)

    assert MARK.encode() not in content(path)


@pytest.mark.parametrize("busy", [False, True])
async def test_it_is_erased_in_time_in_quiet_and_in_busy_stores(path: Path, busy: bool) -> None:
    store = SqliteStore(path, erase_seconds=0.2)
    world = World(store)
    await say_marked(store)
    others = [asyncio.ensure_future(chatter(world)) for _ in range(4 if busy else 0)]

    assert await store.delete("p", "marked")

    assert await until(lambda: MARK.encode() not in content(path)) < 5
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await store.close()


async def chatter(world: World) -> None:
    """Writes without a pause until cancelled."""
    while True:
        await world.say()


async def test_it_is_erased_at_the_latest_when_the_store_closes(path: Path) -> None:
    store = SqliteStore(path, erase_seconds=3600)
    await say_marked(store)
    assert await store.delete("p", "marked")
    assert MARK.encode() in content(path)

    await store.close()

    assert MARK.encode() not in content(path)


async def test_a_reader_in_the_way_puts_the_erasing_off(store: SqliteStore, path: Path) -> None:
    await say_marked(store)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM responses").fetchall()

    assert await store.delete("p", "marked")
    await written(store)
    assert MARK.encode() in content(path)
    await World(store).say(turn="meanwhile")
    reader.execute("COMMIT")
    reader.close()

    await until(lambda: MARK.encode() not in content(path))


async def test_a_full_log_is_moved_into_the_database(store: SqliteStore, path: Path) -> None:
    """Without this the log would grow for ever, since SQLite's own checkpoints are off."""
    log = path.with_name(path.name + "-wal")
    sizes = []
    for number in range(60):
        await store.save(record(f"r{number}", input=[item(f"{number}", "x" * 400_000)]))
        sizes.append(log.stat().st_size)

    assert max(sizes) < (BUSY_PAGES + 200) * 4200
    assert path.stat().st_size > IDLE_PAGES * 4096


# --- Pages ---


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_page_keeps_copies_of_rows_that_moved(path: Path, seed: int) -> None:
    """SQLite leaves copies in the middle of pages when it spreads rows anew; each would outlive its row."""
    store = SqliteStore(path, erase_seconds=0.1)
    chance = random.Random(seed)
    alive: set[str] = set()
    gone: set[str] = set()
    for number in range(0, 600, 4):
        names = [f"MARK{seed}-{number + index:04d}." for index in range(4)]
        texts = {name: name * chance.choice([1, 8, 30, 90, 700]) for name in names}
        saids = [record(name, input=[item(name, texts[name])], request=name.encode() * 9) for name in names]
        await asyncio.gather(*map(store.save, saids))
        alive.update(names)
        doomed = chance.sample(sorted(alive), chance.choice([1, 2, 5]))
        await asyncio.gather(*(store.delete("p", one) for one in doomed))
        alive -= set(doomed)
        gone |= set(doomed)
    await store.close()

    found = {name.decode() for name in re.findall(rb"MARK\d-\d{4}\.", content(path))}
    assert found == alive
    assert len(gone) > 200
    assert pages_with_leftovers(path) == []


async def test_ordinary_growth_leaves_no_copies_either(path: Path) -> None:
    store = SqliteStore(path, erase_seconds=3600)
    world, previous = World(store), None
    for number in range(200):
        previous = await world.say(previous, input=[item(f"i{number}", "x" * (number * 37 % 3000))])
        if number % 5 == 0:
            run = await world.begin(previous, large={"tools": b"%d" % number * 500})
            await world.append(run.shell.id, 0, 1)
            await world.finish(run, first_number=2)
            if number % 3 == 0:
                assert await store.compact(10)
    await store.close()

    assert pages_with_leftovers(path) == []


def pages_with_leftovers(path: Path, size: int = 4096) -> list[int]:
    """The numbers of the row pages with bytes between their pointers and their rows."""
    data = path.read_bytes()
    pages = [data[start : start + size] for start in range(0, len(data), size)]
    return [number for number, page in enumerate(pages, 1) if page[0] == 13 and blanked(page) != page]


def page(kind: int, cells: int, begins: int, filler: bytes = b"\xaa", size: int = 512, start: int = 0) -> bytes:
    header = bytes([kind, 0, 0]) + cells.to_bytes(2, "big") + (begins % 65536).to_bytes(2, "big") + b"\0"
    return (filler * start + header).ljust(size, filler)


@pytest.mark.parametrize(
    ("data", "start", "bounds"),
    [
        (page(13, 3, 400), 0, (14, 400)),
        (page(10, 3, 400), 0, (14, 400)),
        (page(5, 3, 400), 0, (18, 400)),
        (page(2, 3, 400), 0, (18, 400)),
        (page(13, 0, 512), 0, (8, 512)),
        (page(13, 4, 400, start=100), 100, (116, 400)),
        (page(13, 0, 65536, size=65536), 0, (8, 65536)),
        (page(13, 196, 400), 0, (0, 0)),  # full: nothing is unused
        (page(13, 3, 600), 0, (0, 0)),  # no page of this size
        (page(0, 3, 400), 0, (0, 0)),  # an overflow page or a free one
        (page(7, 3, 400), 0, (0, 0)),
    ],
)
def test_only_the_unused_middle_of_a_page_is_blanked(data: bytes, start: int, bounds: tuple[int, int]) -> None:
    first, end = bounds
    assert unused(data, start) == bounds
    assert blanked(data, start) == data[:first] + bytes(end - first) + data[end:]
    assert blanked(blanked(data, start), start) == blanked(data, start)


def test_leftovers_are_found_in_the_log() -> None:
    clean, dirty, other = blanked(page(13, 3, 400)), page(13, 3, 400), page(10, 3, 400)
    log = b"h" * 32

    assert not has_leftovers(log, 512)
    assert not has_leftovers(log + b"f" * 24 + clean + b"f" * 24 + other, 512)
    assert has_leftovers(log + b"f" * 24 + clean + b"f" * 24 + dirty, 512)
