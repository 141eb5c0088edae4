"""A turn costs what is new in it (``python -m bench.growth`` prints the curve)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench.growth import INPUT_BYTES, REPLY, grow, growth, mark
from tests.runs.stage import Stage

from antiphon.engine.deltas import TextDelta
from antiphon.stores.sqlite import SqliteStore


@pytest.mark.parametrize("repeated_bytes", [0, 20_000])
async def test_a_turn_does_not_grow_with_the_conversation(folder: Path, repeated_bytes: int) -> None:
    curve = growth(await grow(folder / "state.db", 1000, repeated_bytes))

    by_turn = {one.turn: one for one in curve}
    early, late = by_turn[200], by_turn[1000]
    assert late.bytes_per_turn == pytest.approx(early.bytes_per_turn, rel=0.1)
    assert late.rows_per_turn == early.rows_per_turn == 3  # what went in, what came out, the response
    assert all(one.bytes_per_turn < INPUT_BYTES + 3000 for one in curve)


async def test_a_turn_of_a_client_that_sends_its_whole_history_does_not_grow_either(folder: Path) -> None:
    here = Stage(echo=lambda _: [[TextDelta(REPLY)]], store=SqliteStore(folder / "state.db"))
    history: list[dict[str, Any]] = []
    marks = [mark(folder / "state.db", 0)]
    for turn in range(1, 301):
        history.append({"role": "user", "content": f"Turn {turn:06d}. ".ljust(INPUT_BYTES, "x")})
        response = await here.answer(input=history)
        history += response["output"]
        if turn % 100 == 0:
            marks.append(mark(folder / "state.db", turn))
    await here.close()

    curve = growth(marks)
    assert curve[2].bytes_per_turn == pytest.approx(curve[0].bytes_per_turn, rel=0.1)
    assert [one.rows_per_turn for one in curve] == [3.01, 3, 3]  # the thread, once
    assert all(one.bytes_per_turn < INPUT_BYTES + 3000 for one in curve)
