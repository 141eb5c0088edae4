"""Stages for the tests of runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.runs.stage import Make, Stage

from antiphon.upstreams.scripted import Script


@pytest.fixture
async def stage() -> AsyncIterator[Make]:
    """Makes stages, and closes them."""
    made: list[Stage] = []

    def make(*scripts: Script, **options: Any) -> Stage:
        made.append(Stage(*scripts, **options))
        return made[-1]

    yield make
    for one in made:
        await one.close()
