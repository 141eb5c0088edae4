"""Seeds one after another, with the collector of cycles out of the way: it would run at other moments each time.

Must not know what a seed does.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.simulation.world import Strike, simulate

#: Seeds between two collections.
COLLECT_EVERY = 25
#: More handles than any node of a seed runs before everything has come to rest.
STRIKES_MAX = 10_000


class Failure(NamedTuple):
    """A seed, and what is wrong with it."""

    seed: int
    reason: str


@contextmanager
def without_collector() -> Iterator[None]:
    """Cycles are collected where the caller says, and nowhere else."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def first_failure(seeds: Iterable[int], saw: Counter[str] | None = None) -> Failure | None:
    """The first seed that fails; ``saw`` counts in how many of the others there was what."""
    with without_collector():
        for place, seed in enumerate(seeds):
            try:
                world = simulate(seed)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the seed's result
                return Failure(seed, f"{type(error).__name__}: {error}")
            if saw is not None:
                saw.update(world.ledger.saw.keys())
            del world
            if place % COLLECT_EVERY == COLLECT_EVERY - 1:
                gc.collect()
    return None


def first_strike(seed: int, kind: str) -> str | None:
    """One thing goes wrong, at each place in turn until there is none left: how it fails, if it does."""
    with without_collector():
        for at in range(STRIKES_MAX):
            try:
                world = simulate(seed, strike=Strike(kind, at))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the strike's result
                return f"{kind} at {at} of seed {seed}: {type(error).__name__}: {error}"
            if not world.struck:
                return None
            del world
            if at % COLLECT_EVERY == COLLECT_EVERY - 1:
                gc.collect()
    raise AssertionError(f"seed {seed} has more than {STRIKES_MAX} places")


def trace_of(seed: int, strike: Strike | None = None) -> tuple[list[str], Exception | None]:
    """What happens in a seed, line by line, and how it fails."""
    lines: list[str] = []
    with without_collector():
        try:
            simulate(seed, trace=lines.append, strike=strike)
        except Exception as error:  # noqa: BLE001 - shown
            return lines, error
    return lines, None
