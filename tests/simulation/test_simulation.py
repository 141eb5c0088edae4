"""Durable runs under thousands of seeds; and that the simulation finds what is broken (docs/log.md, "Proof").

``scripts/simulate.py`` runs more of them and replays one that fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.simulation.many import first_failure, first_strike, trace_of, without_collector
from tests.simulation.mutations import BREAKAGES
from tests.simulation.world import STRIKES, simulate

ROOT = Path(__file__).parents[2]
#: Seeds of one test, how many tests there are, and how many seeds a breakage may hide from.
CHUNK, CHUNKS = 100, 30
HIDING_MAX = 500
#: Small worlds in which each place is struck: between them they have calls, with and without effects, and reasoning.
STRUCK_SEEDS = (0, 1)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_seed_keeps_every_promise(chunk: int) -> None:
    """I1 to I11 with crashes, delays, failures, cancels, second owners and lost connections at any await."""
    failure = first_failure(range(chunk * CHUNK, (chunk + 1) * CHUNK))

    assert failure is None, f"{failure}\n" + "\n".join(trace_of(failure.seed)[0][-60:])


@pytest.mark.parametrize("kind", STRIKES)
@pytest.mark.parametrize("seed", STRUCK_SEEDS)
def test_a_strike_at_any_await_breaks_no_promise(seed: int, kind: str) -> None:
    """One blow to one node, before each callback that it runs in turn."""
    assert first_strike(seed, kind) is None


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_is_broken_is_found(breakage: str) -> None:
    with BREAKAGES[breakage]():
        failure = first_failure(range(HIDING_MAX))

    assert failure is not None, f"{HIDING_MAX} seeds do not notice: {breakage}"


def test_the_same_seed_is_the_same_world() -> None:
    """Event by event, in this process and in one that hashes otherwise: else no failure could be replayed."""
    seeds = range(40)
    program = (
        "from tests.simulation.many import without_collector\n"
        "from tests.simulation.world import STRIKES, simulate\n"
        f"with without_collector():\n    print([simulate(seed).digest() for seed in range({len(seeds)})])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}

    with without_collector():
        first = [simulate(seed).digest() for seed in seeds]
        again = [simulate(seed).digest() for seed in reversed(seeds)][::-1]
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=100
    )

    assert again == first
    assert elsewhere.stdout.strip() == str(first)


def test_the_seeds_go_everywhere() -> None:
    """What is to be survived does happen, in some seed."""
    saw: Counter[str] = Counter()

    failure = first_failure(range(600), saw)

    assert failure is None
    assert set(saw) >= EVERYWHERE, f"never seen: {EVERYWHERE - set(saw)}"


WRITES = ("append", "begin", "finish", "claim", "journal_begin", "journal_complete")
FAULTS = ("refused", "unheard", "crash before", "crash after")
EVERYWHERE = {
    *(f"{write}: {fault}" for write in WRITES for fault in FAULTS),
    *(f"takeover {number} since the log grew" for number in range(5)),
    *(f"a run that {status}" for status in ("completed", "incomplete", "failed", "cancelled")),
    "Disowned of journal_begin",
    "Disowned of journal_complete",
    "a call that was interrupted",
    "a call that was made again",
    "a cancel that was acknowledged",
    "a claim of nothing",
    "a model asked to go on",
    "a node that thaws",
    "a reader that came back",
    "a text that goes on behind a prefix",
    "an append that was refused",
    "an end that was refused",
    "an end that was written again",
    "an event that was told",
    "an event that was told again",
    "an event that was written again",
}
