"""kill -9 at random moments and at named points, over and over, on both databases (docs/log.md, I1 to I11)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.durability.judging import TAKEOVERS_MAX
from tests.durability.storm import Storm
from tests.durability.world import World

#: Of each of the four tests.
KILLS = 46


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", [1, 2])
async def test_kills_lose_and_double_nothing(world: World, part: int, tell: Callable[[str], None]) -> None:
    seed = random.randrange(1 << 32)
    storm = Storm(world, random.Random(seed))
    await storm.kill(KILLS)
    verdict = await storm.settle()
    tell(f"seed {seed}: {storm.figures(verdict)}")

    assert len(world.kills) >= KILLS
    assert verdict.clean(), str(verdict)
    assert verdict.lost == 0
    assert verdict.doubled == 0
    assert max(storm.takeovers()) > TAKEOVERS_MAX, "no run was taken over so often that progress counted"
