"""A turn costs what is new in it (``python -m bench.growth`` prints the curve)."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.growth import INPUT_BYTES, grow, growth


@pytest.mark.parametrize("repeated_bytes", [0, 20_000])
async def test_a_turn_does_not_grow_with_the_conversation(folder: Path, repeated_bytes: int) -> None:
    curve = growth(await grow(folder / "state.db", 1000, repeated_bytes))

    by_turn = {one.turn: one for one in curve}
    early, late = by_turn[200], by_turn[1000]
    assert late.bytes_per_turn == pytest.approx(early.bytes_per_turn, rel=0.1)
    assert late.rows_per_turn == early.rows_per_turn == 3  # what went in, what came out, the response
    assert all(one.bytes_per_turn < INPUT_BYTES + 3000 for one in curve)
