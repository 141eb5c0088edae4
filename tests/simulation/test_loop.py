"""The simulated loop: time, order, and what a crash takes away."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from tests.simulation.loop import SimulatedLoop, Stuck


@pytest.fixture
def loop() -> SimulatedLoop:
    return SimulatedLoop(Random(1))


def test_time_jumps_to_the_next_timer(loop: SimulatedLoop) -> None:
    async def main() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200))
        return asyncio.get_running_loop().time()

    assert loop.run(main()) == 7200


def test_a_killed_process_runs_nothing_any_more(loop: SimulatedLoop) -> None:
    """Neither what comes after an await, nor ``finally``, nor a callback of a timer."""
    process = loop.process("node")
    done: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_later(5, done.append, "timer")
        try:
            await asyncio.sleep(10)
            done.append("after")
        finally:
            done.append("finally")

    async def main() -> list[str]:
        loop.spawn(process, work())
        await asyncio.sleep(1)
        loop.kill(process)
        await asyncio.sleep(100)
        return list(done)

    assert loop.run(main()) == []


def test_a_frozen_process_goes_on_where_it_was(loop: SimulatedLoop) -> None:
    process = loop.process("node")

    async def work() -> float:
        await asyncio.sleep(1)
        return loop.time()

    async def main() -> float:
        task = loop.spawn(process, work())
        await asyncio.sleep(0.5)
        process.frozen = True
        await asyncio.sleep(10)
        process.frozen = False
        return await task

    assert loop.run(main()) == 10.5


def test_a_fuse_goes_off_before_the_handle_with_its_number(loop: SimulatedLoop) -> None:
    process = loop.process("node")
    steps: list[int] = []

    async def work() -> None:
        for step in range(10):
            steps.append(step)
            await asyncio.sleep(0)

    async def main() -> None:
        loop.spawn(process, work())
        process.fuse, process.on_fuse = 4, lambda: loop.kill(process)
        await asyncio.sleep(1)

    loop.run(main())

    assert steps == [0, 1, 2, 3]


def test_the_seed_orders_processes_and_each_keeps_its_own_order() -> None:
    def order(seed: int) -> list[str]:
        loop = SimulatedLoop(Random(seed))
        seen: list[str] = []

        async def work(name: str) -> None:
            for step in range(3):
                seen.append(f"{name}{step}")
                await asyncio.sleep(0)

        async def main() -> None:
            for name in "ab":
                loop.spawn(loop.process(name), work(name))
            await asyncio.sleep(1)

        loop.run(main())
        return seen

    orders = [order(seed) for seed in range(20)]

    assert len({tuple(each) for each in orders}) > 1
    assert orders == [order(seed) for seed in range(20)]
    assert all(
        [step for step in each if step[0] == name] == [f"{name}{n}" for n in range(3)]
        for each in orders
        for name in "ab"
    )


def test_nothing_left_to_happen_is_an_error(loop: SimulatedLoop) -> None:
    async def main() -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        loop.run(main())
    loop.close()


def test_what_nobody_catches_ends_the_simulation(loop: SimulatedLoop) -> None:
    async def main() -> None:
        loop.call_soon({}.__getitem__, "nothing")
        await asyncio.sleep(1)

    with pytest.raises(KeyError):
        loop.run(main())
    loop.close()
