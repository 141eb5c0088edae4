"""A turn in a conversation costs what is new in it, and a context is one query, however long the conversation is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest
from bench.growth import TABLES
from tests.stores.counted import Counted
from tests.stores.talking import Talk
from tests.stores.world import item, record

from antiphon.engine.ports.stores import Conversation, Hold, Parent
from antiphon.stores.sqlite import SqliteStore
from antiphon.stores.sqlite.operations import Add, Converse, Enter, Leave, Save

INPUT, OUTPUT = "x" * 1000, "y" * 100
#: Turns, and so many before each of them over which it is measured.
MARKS = {10: 10, 100: 50, 1000: 200}


class Growth(NamedTuple):
    """What a turn added, on average."""

    rows: float
    bytes: float


async def measured(path: Path, **members: Any) -> dict[int, Growth]:
    """Growth at each mark; the file is measured closed, with nothing left in its log."""
    store = SqliteStore(path)
    await Talk(store).create("conv_1")
    await store.close()
    found: dict[int, Growth] = {}
    turn, now = 0, (0, 0)
    for mark, over in MARKS.items():
        for until in (mark - over, mark):
            store = SqliteStore(path)
            talk = Talk(store)
            while turn < until:
                turn += 1
                name = f"{turn:028d}"
                said = {"input": [item(f"in{name}", INPUT)], "output": [item(f"out{name}", OUTPUT)], **members}
                await talk.say("conv_1", name, **said)
            await store.close()
            before, now = now, _size(path)
        found[mark] = Growth(*((new - old) / over for new, old in zip(now, before, strict=True)))
    return found


def _size(path: Path) -> tuple[int, int]:
    connection = apsw.Connection(str(path))
    tables = (*TABLES, "conversations", "left_out")
    rows = sum(connection.execute(f"SELECT count(*) FROM {table}").get for table in tables)
    size = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").get
    connection.close()
    return rows, size


@pytest.mark.parametrize(("members", "rows"), [({}, 3), ({"stored": False}, 2), ({"status": "failed"}, 4)])
async def test_a_turn_does_not_grow_with_the_conversation(folder: Path, members: dict[str, Any], rows: int) -> None:
    growth = await measured(folder / "state.db", **members)

    # What went in and what came out, the response, and a thread of its own for one that went wrong.
    assert growth[100].rows == growth[1000].rows == rows
    assert growth[1000].bytes == pytest.approx(growth[100].bytes, rel=0.15)
    assert growth[1000].bytes < len(INPUT) + len(OUTPUT) + 1500


async def test_a_window_that_moves_on_stays_as_small(folder: Path) -> None:
    """Somebody takes the oldest turn out with each new one."""
    path = folder / "state.db"
    store = SqliteStore(path)
    talk = Talk(store)
    await talk.create("conv_1")
    sizes = []
    for turn in range(1, 601):
        await talk.say("conv_1", f"{turn}", stored=False)
        if turn > 20:
            for name in ("?", "!"):
                assert await store.conversations.remove("p", "conv_1", f"{turn - 20}{name}")
        if turn % 200 == 0:
            sizes.append(await _longest(store))
    assert sizes[-1] == pytest.approx(sizes[0], rel=0.3), sizes
    assert len(await talk.seen("conv_1")) == 40
    await store.close()


async def _longest(store: SqliteStore) -> int:
    return int(store._reading.execute("SELECT max(length(ancestry)) FROM threads").get)


async def test_a_context_is_one_query(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    talk = Talk(store)
    await talk.create("conv_1", "a")
    for turn in range(5):
        await talk.say("conv_1", f"{turn}")
        await talk.world.say(f"{turn}", turn=f"aside {turn}")
    statements: list[str] = []
    store._reading.exec_trace = lambda _, text, __: bool(statements.append(text)) or True

    await talk.enter("conv_1", "next")

    store._reading.exec_trace = None
    assert len(statements) == 1
    await store.close()


def test_sixty_four_turns_cost_as_many_statements_as_one() -> None:
    def costs(count: int) -> list[int]:
        counted = Counted()
        names = [f"c{number}" for number in range(count)]
        holds = [Hold("p", name, f"r {name}") for name in names]
        costs = [counted.run(*(Converse("p", Conversation(name, 1, b"{}"), [item(f"i {name}")]) for name in names))]
        costs.append(counted.run(*(Add("p", name, [item(f"a {name}")]) for name in names)))
        costs.append(counted.run(*(Enter([hold], 10) for hold in holds)))
        costs.append(counted.run(*(Leave([hold]) for hold in holds)))
        counted.run(*(Enter([hold], 10) for hold in holds))
        saves = []
        for number, hold in enumerate(holds, 1):
            made = record(hold.response, parent=Parent(number, 2), input=[item(f"q {number}")])
            made.conversation = hold.conversation
            saves.append(Save(made))
        return [*costs, counted.run(*saves)]

    assert costs(64) == costs(1)
    assert costs(1) == [3, 5, 2, 2, 6]
