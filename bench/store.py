"""What the store costs in CPU time, in microseconds: ``python -m bench.store``, as Markdown.

Once with an empty database and once with many responses in it.  A save counts everything from the call to its return,
on both threads, in groups of so many at once; the system's time for the disk is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from antiphon.engine import shell
from antiphon.engine.ports.stores import Parent, Record, StoredItem
from antiphon.protocol.requests import CreateResponse, Page, read_create
from antiphon.protocol.responses import Outcome, Usage
from antiphon.stores.sqlite import SqliteStore

PROJECT = "default"
PLAIN = read_create(b'{"model":"demo","input":"x"}')
LARGE = read_create(b'{"model":"demo","input":"x","instructions":"%b"}' % (b"i" * 10_000))
BODY = b'{"id":"%b","type":"message","role":"user","content":[{"type":"input_text","text":"%b"}]}'
TEXT = b"x" * 1000
REPEATS = 10

Figures = dict[str, float]


class Bench:
    """One store and the work that is done on it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._serial = itertools.count()

    def _record(self, parent: Parent | None = None, request: CreateResponse = PLAIN) -> Record:
        """A turn of 1 kB in and 1 kB out."""
        number = next(self._serial)
        echo = shell.build(request, response_id=f"resp_{number:028d}", created_at=1, model="demo")
        ids = [f"msg_{number:027d}{side}" for side in "io"]
        said, replied = ([StoredItem(id, BODY % (id.encode(), TEXT))] for id in ids)
        outcome = Outcome("completed", 2, usage=Usage(100, output_tokens=100, total_tokens=200))
        return Record(PROJECT, echo, outcome, parent, said, replied, b"{}", True, None)

    async def _end(self, response: str) -> Parent:
        parent = (await self._store.context(PROJECT, response)).parent
        assert parent is not None
        self._store.release(parent)
        return parent

    async def fill(self, responses: int) -> None:
        """Many conversations of one turn."""
        for _ in range(responses // 100):
            await asyncio.gather(*(self._store.save(self._record()) for _ in range(100)))

    async def save(self, group: int, rounds: int, request: CreateResponse = PLAIN) -> float:
        """Microseconds for each of ``group`` chained turns that are saved at once."""
        parents: list[Parent | None] = [None] * group
        spent = []
        for _ in range(rounds):
            records = [self._record(parent, request) for parent in parents]
            begun = time.process_time()
            await asyncio.gather(*map(self._store.save, records))
            spent.append((time.process_time() - begun) / group * 1e6)
            parents = [await self._end(record.shell.id) for record in records]
        return statistics.median(spent)

    async def chain(self, items: int) -> str:
        """A conversation of so many items; its newest response."""
        parent, record = None, self._record()
        for _ in range(items // 2):
            record = self._record(parent)
            await self._store.save(record)
            parent = await self._end(record.shell.id)
        return record.shell.id

    async def figures(self) -> Figures:
        store, found = self._store, Figures()
        for group, rounds in ((1, 100), (8, 40), (64, 10)):
            found[f"save, {group} at once"] = await self.save(group, rounds)
        found["save, 10 kB of instructions repeated"] = await self.save(1, 100, LARGE)
        chains = {items: await self.chain(items) for items in (2, 20, 200)}
        found["read"] = await timed(partial(store.read, PROJECT, chains[2]))
        for items, response in chains.items():
            found[f"context of {items} items"] = await timed(partial(self._end, response))
        for items in (20, 200):
            page = partial(store.input_items, PROJECT, chains[items], Page())
            found[f"page of 20 of {items} items"] = await timed(page)
        return found


async def timed(call: Callable[[], Awaitable[object]], times: int = 100) -> float:
    """Microseconds of this thread's CPU for one call: the best of a few rounds, since others' work only adds to it."""
    spent = []
    for _ in range(REPEATS):
        begun = time.thread_time()
        for _ in range(times):
            await call()
        spent.append((time.thread_time() - begun) / times * 1e6)
    return min(spent)


async def measure(path: Path, responses: int) -> tuple[Figures, Figures]:
    """Figures of the empty and of the full database."""
    store = SqliteStore(path)
    bench = Bench(store)
    empty = await bench.figures()
    await bench.fill(responses)
    full = await bench.figures()
    await store.close()
    return empty, full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, full = asyncio.run(measure(Path(folder) / "state.db", options.responses))
    print(f"| CPU us | empty | {options.responses:,} responses |\n|---|---|---|")
    for name, figure in empty.items():
        print(f"| {name} | {figure:.0f} | {full[name]:.0f} |")


if __name__ == "__main__":
    main()
