"""A process that writes to a store and tells what it is about to do and what was acknowledged, until it is killed.

Run as ``python -m tests.stores.victim PATH``.  Each line is a word (``will`` or ``did``), what is done, and to whom.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.stores.world import World

from antiphon.stores.sqlite import SqliteStore

WORKERS = 6


def tell(*words: object) -> None:
    """Straight to the pipe: nothing is held back in a buffer that dies with the process."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def work(world: World, name: str) -> None:
    """Chains of three turns, a run whose log is packed, and the deletion of every second chain's middle and end."""
    for number in range(1_000_000):
        previous = None
        for turn in (f"{name}.{number}.{step}" for step in "abc"):
            await world.say(previous, turn=turn)
            tell("did", "say", turn, previous)
            previous = turn
        run = f"{name}.{number}.run"
        begun = await world.begin(previous, turn=run)
        tell("did", "begin", run)
        await world.append(run, 0, 1)
        tell("did", "append", run)
        await world.finish(begun, first_number=2)
        tell("did", "finish", run)
        await world.store.compact(3)
        if number % 2:
            for turn in (run, f"{name}.{number}.c", f"{name}.{number}.b"):
                tell("will", "delete", turn)
                await world.store.delete("p", turn)
                tell("did", "delete", turn)


async def main(path: Path) -> None:
    world = World(SqliteStore(path, erase_seconds=3600))
    await asyncio.gather(*(work(world, f"w{worker}") for worker in range(WORKERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
