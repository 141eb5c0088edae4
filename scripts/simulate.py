"""Runs the simulation of durable runs over many seeds, or replays one.

    scripts/simulate.py --seeds 0..1000000 --jobs 2
    scripts/simulate.py --replay 1234 --trace
    scripts/simulate.py --strikes 0..50
    scripts/simulate.py --replay 7 --strike crash:112 --trace

A strike is one blow to one node of an otherwise peaceful seed, dealt before each callback in turn.
The first seed that fails is printed, and the exit status is 1.  What is simulated: tests/simulation/world.py.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.simulation.many import Failure, first_failure, first_strike, trace_of  # noqa: E402 - the path is above
from tests.simulation.world import STRIKES, Strike  # noqa: E402

#: Seeds that a process takes at once, and seconds between two lines of progress.
CHUNK = 250
PROGRESS_SECONDS = 10.0


def main() -> int:
    """Parses the arguments; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0..1000000", metavar="A..B", help="seeds from A up to, but not, B")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --replay: what happens in it, line by line")
    parser.add_argument("--strike", metavar="KIND:AT", help="with --replay: this strike")
    parser.add_argument("--strikes", metavar="A..B", help="every strike at every place of the seeds from A up to B")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return replay(arguments.replay, arguments.strike, trace=arguments.trace)
    if arguments.strikes is not None:
        return strike_all(span(arguments.strikes), arguments.jobs)
    return run(span(arguments.seeds), arguments.jobs)


def span(text: str) -> range:
    """``A..B``"""
    first, _, beyond = text.partition("..")
    return range(int(first), int(beyond))


def replay(seed: int, strike: str | None, *, trace: bool) -> int:
    """One seed."""
    kind, _, at = (strike or "").partition(":")
    lines, error = trace_of(seed, Strike(kind, int(at)) if kind else None)
    if trace:
        print("\n".join(lines))
    print(f"seed {seed}: {'passes' if error is None else f'{type(error).__name__}: {error}'}")
    return 0 if error is None else 1


def strike_all(seeds: range, jobs: int) -> int:
    """Every kind of strike at every place; the exit status."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for seed in seeds:
            for reason in pool.map(first_strike, [seed] * len(STRIKES), STRIKES):
                if reason is not None:
                    print(reason)
                    return 1
            print(f"seed {seed} stands every strike", flush=True)
    return 0


def run(seeds: range, jobs: int) -> int:
    """All seeds, chunk by chunk; ends with the first that fails, which is the lowest of those tried at once."""
    chunks = (seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK))
    began = told = time.monotonic()
    passed = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=40) as pool:
        working = {pool.submit(first_failure, chunk): chunk for chunk in islice(chunks, jobs)}
        failures: list[Failure] = []
        while working:
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                chunk = working.pop(future)
                if (failure := future.result()) is not None:
                    failures.append(failure)
                    continue
                passed += len(chunk)
                if not failures:
                    _submit(pool, working, chunks)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                print(f"{passed} of {len(seeds)} seeds pass, {passed / (told - began):.0f} per second", flush=True)
    if failures:
        failure = min(failures)
        print(f"seed {failure.seed} fails: {failure.reason}\nscripts/simulate.py --replay {failure.seed} --trace")
        return 1
    print(f"all {passed} seeds pass, in {time.monotonic() - began:.0f} s")
    return 0


def _submit(pool: ProcessPoolExecutor, working: "dict[Future[Failure | None], range]", chunks: Iterator[range]) -> None:
    chunk = next(chunks, None)
    if chunk is not None:
        working[pool.submit(first_failure, chunk)] = chunk


if __name__ == "__main__":
    sys.exit(main())
