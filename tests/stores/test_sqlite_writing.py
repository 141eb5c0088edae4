"""The writer's groups: how many statements they cost, what a failure in one does, and what waits for what."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.stores.counted import LARGE, Counted, saves
from tests.stores.world import World, item, within

from antiphon.engine.ports.stores import StoreError
from antiphon.stores.sqlite import SqliteStore
from antiphon.stores.sqlite.operations import Delete
from antiphon.stores.sqlite.writer import GROUP_MAX, Writer

# --- What a group costs ---


@pytest.mark.parametrize("chained", [False, True])
def test_sixty_four_responses_cost_as_many_statements_as_one(chained: bool) -> None:
    numbers, counted = itertools.count(), Counted()
    if chained:
        counted.counted(saves(numbers, chained=False), 64)
    fresh = Counted()
    if chained:
        fresh.counted(saves(itertools.count(), chained=False), 64)

    one = fresh.counted(saves(itertools.count(1000), chained=chained), 1)
    many = counted.counted(saves(numbers, chained=chained), 64)

    assert one <= 7
    assert many <= one + 2  # one of which counts what is shared, the other moves tips


def test_sixty_four_deletions_cost_as_many_statements_as_one() -> None:
    counted = Counted()
    counted.counted(saves(itertools.count(), chained=False), 66)

    def delete(number: int) -> Delete:
        return Delete([("p", f"r{number}")])

    assert counted.run(delete(64)) == counted.counted(delete, 64) - 1 <= 14  # the last use of a blob takes its bytes


async def test_a_context_is_one_query(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    world = World(store)
    previous = None
    for number in range(30):
        taken, previous = previous, await world.say(previous, input=[item(f"i{number}")])
        if number % 3 == 0:
            previous = await world.say(taken)  # a fork
    assert previous is not None
    statements: list[str] = []

    def trace(_cursor: apsw.Cursor, text: str, _bindings: Any) -> bool:
        statements.append(text)
        return True

    store._reading.exec_trace = trace
    seen = await world.seen(previous)
    store._reading.exec_trace = None
    await store.close()

    assert len(statements) == 1
    assert len(seen) > 30


async def test_turns_that_lead_nowhere_make_no_forks() -> None:
    store = SqliteStore(None)
    world = World(store)
    await world.say(turn="one")
    await world.say("one", turn="failed", status="failed")
    await world.say("one", turn="cancelled", status="cancelled")
    await world.finish(await world.begin("one", turn="unstored", stored=False), expires_at=1)
    await world.say("one", turn="two")
    await world.say("two", turn="three")

    rows: list[Any] = store._reading.execute("SELECT id, thread FROM responses").fetchall()
    threads = dict(rows)
    assert threads["one"] == threads["two"] == threads["three"]
    assert len(set(threads.values())) == 4
    await store.close()


# --- Failures ---


def test_a_group_that_fails_leaves_nothing_and_forgets_its_numbers() -> None:
    counted, numbers = Counted(), itertools.count()
    make = saves(numbers, chained=False)
    taken, new = make(0), make(1)
    counted.run(taken)

    counted.connection.execute("BEGIN")
    with pytest.raises(apsw.ConstraintError):
        counted.run(new, taken)
    counted.connection.execute("ROLLBACK")
    counted._groups.forget()
    counted.run(new)

    # The large parts of the new one were seen in the transaction that is no more.
    used = "SELECT count(*) FROM blobs JOIN blob_bytes USING (id) WHERE uses > 0"
    assert counted.connection.execute(used).get == len({*taken.record.shell.large.values(),
                                                         *new.record.shell.large.values()})  # fmt: skip


async def test_a_commit_that_fails_leaves_nothing_to_refer_to(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    world = World(store)
    await world.say(turn="before")
    store._writing.set_commit_hook(lambda: True)
    with pytest.raises(StoreError):
        await world.say(turn="lost", large={"tools": LARGE[0] * 100})
    store._writing.set_commit_hook(None)

    await world.say(turn="kept", large={"tools": LARGE[0] * 100})

    kept = await store.read("p", "kept")
    assert kept is not None
    assert kept.shell.large == {"tools": LARGE[0] * 100}
    assert await store.read("p", "lost") is None
    await store.close()


async def test_a_store_that_takes_no_writes_says_so_until_it_takes_them(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    world = World(store)
    await world.say(turn="one")
    store._writing.pragma("query_only", True)
    await store.ping()  # nobody has tried to write yet
    with pytest.raises(StoreError, match="ReadOnlyError"):
        await world.say(turn="two")
    for _ in range(2):
        with pytest.raises(StoreError, match="ReadOnlyError"):
            await store.ping()

    store._writing.pragma("query_only", False)
    await store.ping()
    assert store._writer.failure is None
    await store.close()


async def test_an_operation_that_is_to_blame_itself_does_not_make_the_store_look_broken() -> None:
    store = SqliteStore(None)
    world = World(store)
    await world.say(turn="one")
    with pytest.raises(StoreError, match="ConstraintError"):
        await world.say(turn="one")

    assert store._writer.failure is None
    await store.close()


class Step:
    """An operation for a writer without a database."""

    def __init__(self, name: str, *, durable: bool = False, removes: bool = False) -> None:
        self.name = name
        self.durable = durable
        self.removes = removes


class Stage:
    """A writer whose groups are watched; it stops in front of a step named ``wait`` until ``go`` is set."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.gate = threading.RLock()
        self.connection = apsw.Connection(":memory:")
        self.writer = Writer(
            self.connection, self._execute, self.gate, checkpoints=None, erase_seconds=0, exclusive=False
        )  # fmt: skip

    def _execute(self, steps: Sequence[Step]) -> list[str]:
        names = [step.name for step in steps]
        self.groups.append(names)
        if "wait" in names:
            self.begun.set()
            assert self.go.wait(20)
        if self.failure is not None:
            raise self.failure
        if "bad" in names:
            raise LookupError("bad")
        return names

    async def group(self, *steps: Step) -> list[Any]:
        """Submits steps while the writer is busy, so that they become one group; their results or failures."""
        first = self.writer.submit(Step("wait"))
        assert await asyncio.to_thread(self.begun.wait, 20)
        rest = [self.writer.submit(step) for step in steps]
        self.go.set()
        results: list[Any] = await within(asyncio.gather(first, *rest, return_exceptions=True))
        return results


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.go.set()
    made.writer.close()


async def test_what_waits_is_one_group(stage: Stage) -> None:
    assert await stage.group(*(Step(name) for name in "abc")) == ["wait", "a", "b", "c"]

    assert stage.groups == [["wait"], ["a", "b", "c"]]


async def test_a_group_is_bounded(stage: Stage) -> None:
    await stage.group(*(Step(str(number)) for number in range(GROUP_MAX + 1)))

    assert [len(group) for group in stage.groups] == [1, GROUP_MAX, 1]


async def test_a_bad_operation_fails_alone(stage: Stage) -> None:
    _, one, bad, two = await stage.group(Step("one"), Step("bad"), Step("two"))

    assert (one, two) == ("one", "two")
    assert isinstance(bad, LookupError)
    assert stage.groups[1:] == [["one", "bad", "two"], ["one"], ["bad"], ["two"]]
    assert not stage.connection.in_transaction


async def test_what_no_operation_is_to_blame_for_is_not_tried_again(stage: Stage) -> None:
    stage.failure = apsw.FullError("disk full")

    failures = await stage.group(Step("one"), Step("two"))

    assert [type(failure) for failure in failures] == [apsw.FullError] * 3
    assert stage.groups == [["wait"], ["one", "two"]]


async def test_who_gave_up_waiting_does_not_stop_the_others(stage: Stage) -> None:
    first = stage.writer.submit(Step("wait"))
    assert await asyncio.to_thread(stage.begun.wait, 20)
    given_up, other = stage.writer.submit(Step("a")), stage.writer.submit(Step("b"))
    given_up.cancel()
    stage.go.set()

    assert await within(asyncio.gather(first, other)) == ["wait", "b"]


async def test_a_group_waits_for_the_disk_only_where_a_reply_does(stage: Stage) -> None:
    levels = []
    for durable in (False, True, False):
        await stage.writer.submit(Step("a", durable=durable))
        levels.append(stage.connection.pragma("synchronous"))

    assert levels == [1, 2, 1]


# --- Reading while something is removed ---


async def test_a_response_is_read_as_it_was_at_one_moment(folder: Path) -> None:
    store, other = SqliteStore(folder / "state.db"), apsw.Connection(str(folder / "state.db"))
    await World(store).say(turn="one", large={"tools": LARGE[0], "text": LARGE[1]})
    statements: list[str] = []

    def trace(_cursor: apsw.Cursor, text: str, _bindings: Any) -> bool:
        """As soon as the response was looked up, everything of it is deleted."""
        if statements and "FROM responses" in statements[-1]:
            for table in ("responses", "items", "blob_bytes"):
                other.execute(f"DELETE FROM {table}")
        statements.append(text)
        return True

    store._reading.exec_trace = trace
    stored = await store.read("p", "one")
    store._reading.exec_trace = None

    assert stored is not None
    assert stored.shell.large == {"tools": LARGE[0], "text": LARGE[1]}
    assert stored.output == [item("one!").body]
    assert await store.read("p", "one") is None
    other.close()
    await store.close()


async def test_a_context_waits_for_a_removal_under_way_and_stalls_nobody(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    world = World(store)
    await world.say(turn="one")
    with held(store._gate):
        asking = asyncio.ensure_future(store.context("p", "one"))
        await asyncio.sleep(0)
        assert not asking.done()
        assert await world.outputs("one") == ["one!"]
        await world.say(turn="two")  # what removes nothing is written meanwhile

    context = await within(asking)
    assert len(context.bodies) == 2
    world.release(context)
    await store.close()


async def test_a_context_that_nobody_waits_for_any_more_is_not_pinned(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    await World(store).say(turn="one")
    with held(store._gate):
        asking = asyncio.ensure_future(store.context("p", "one"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)  # the callback of the executor's future

    assert len(store._pins) == 0
    await store.close()


@contextlib.contextmanager
def held(gate: threading.RLock) -> Iterator[None]:
    """The gate as a removal holds it: from another thread."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with gate:
            taken.set()
            assert done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(20)
    try:
        yield
    finally:
        done.set()
        thread.join()
