"""The command: starts the stand, runs the workloads named, prints tables or JSON. Knows all parts of the benchmark."""

import argparse
import dataclasses
import json
import os
import shutil
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import chain, idle, nginx
from bench.stand import stand
from bench.workloads import Comparison, Options, compare, table

BESIDE = Path(sys.executable).parent / "antiphon"
CHAINS = ("chain", "replay")
NAMES = (*table(Options()), *CHAINS, "idle")
CLUMPING = 0.15  # by which share the reads per unit of the two sides may differ
HEADING = (
    "| workload | unit | antiphon us CPU | nginx us CPU | ratio | units/s a / n | pace a / n | reads per unit a / n |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|"
)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median (min .. max)."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def both(comparison: Comparison, figure: str, digits: int) -> str:
    lists = [getattr(side, figure) for side in (comparison.antiphon, comparison.nginx)]
    return " / ".join(f"{statistics.median(values):.{digits}f}" if values else "-" for values in lists)


def clumped_rounds(c: Comparison) -> int:
    """In how many rounds of a timed workload one side found tokens together that the other found alone."""
    reads = zip(c.antiphon.client_reads_per_unit, c.nginx.client_reads_per_unit, strict=False)
    return sum(abs(a / n - 1) > CLUMPING for a, n in reads) if c.nginx.pace else 0


def table_row(c: Comparison) -> str:
    cells = [c.workload, c.unit, spread(c.antiphon.cpu_us_per_unit), spread(c.nginx.cpu_us_per_unit)]
    clumped = clumped_rounds(c)
    cells += [spread(c.ratios, 2) + (f" ({clumped} clumped)" if clumped else "")]
    cells += [both(c, "units_per_second", 0), both(c, "pace", 3), both(c, "client_reads_per_unit", 2)]
    return f"| {' | '.join(cells)} |"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="CPU per token and request beside nginx.")
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(NAMES)}; default: all but wide")
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="alternations per workload (default 3)")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="length of a paced stream (default 8)")
    parser.add_argument("--store", action=argparse.BooleanOptionalAction, default=True, help="send store true or false")
    parser.add_argument("--background", action="store_true", help="streams are sent with background true")
    parser.add_argument("--tokens-per-write", type=int, default=Options.tokens_per_write, help="in flood (default 1)")
    parser.add_argument("--turns", type=int, default=Options.turns, help="length of a chain or replay (default 1000)")
    parser.add_argument("--repeated-kb", type=int, action="append", help="chain, replay: in each request (default 0)")
    parser.add_argument("--server", default=str(BESIDE), help="the command that is measured (default: %(default)s)")
    parser.add_argument("--server-argument", action="append", default=[], help="one more argument for `antiphon serve`")
    parser.add_argument("--without-nginx", action="store_true", help="absolute figures only")
    parser.add_argument("--nice", type=int, default=0, help="added to the niceness of all processes; below 0 as root")
    parser.add_argument("--folder", type=Path, help="where the database lies (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="all rounds of all figures, for machines")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.workloads if name not in NAMES]
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; known: {', '.join(NAMES)}")
    if not options.without_nginx and nginx.find() is None:
        parser.error(nginx.MISSING)
    if shutil.which(options.server) is None:
        parser.error(f"no such command: {options.server}")
    if min(options.rounds, options.turns) < 1 or options.seconds <= 0:
        parser.error("--rounds, --turns and --seconds must be positive")
    if options.background and not options.store:
        parser.error("--background needs --store")
    options.workloads = options.workloads or [name for name in NAMES if name != "wide"]
    return options


class Report:
    """Prints each result as it comes, or collects them all for JSON."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._results: list[dict[str, Any]] = []
        self._last_was_row = False

    def add(self, kind: str, result: Any, text: str) -> None:
        if self._json:
            self._results.append({"kind": kind, **dataclasses.asdict(result)})
            return
        is_row = kind == "comparison"
        print(("" if self._last_was_row else HEADING + "\n") + text if is_row else "\n" + text + "\n", flush=True)
        self._last_was_row = is_row

    def close(self) -> None:
        if self._json:
            print(json.dumps(self._results, indent=1))


def run_stand(arguments: argparse.Namespace, name: str, options: Options, report: Report) -> None:
    """One workload on a stand of its own: fresh processes, empty database."""
    work = table(options).get(name)
    models = [work.model if work else chain.MODEL if name in CHAINS else idle.MODEL]
    with_nginx = work is not None and not arguments.without_nginx
    result: chain.Chain | None = None
    with stand(arguments.server, arguments.server_argument, models, with_nginx, arguments.folder) as running:
        if name in CHAINS:
            result = chain.run_chain(running, name, options)
            running.antiphon.child.stop()
            result.file_bytes = chain.closed_size(running.database)
            report.add(name, result, chain.chain_table(result))
        elif name == "idle":
            figures = idle.run_idle(running, options)
            report.add("idle", figures, idle.idle_table(figures))
        else:
            comparison = compare(running, name, options)
            report.add("comparison", comparison, table_row(comparison))


def main() -> None:
    arguments = parse()
    options = Options(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        store=arguments.store,
        background=arguments.background,
        tokens_per_write=arguments.tokens_per_write,
        turns=arguments.turns,
    )
    if arguments.nice:
        os.nice(arguments.nice)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes started are stopped then too
    report = Report(arguments.json)
    try:
        for name in arguments.workloads:
            for kilobytes in (arguments.repeated_kb or [0]) if name in CHAINS else [0]:
                run_stand(arguments, name, dataclasses.replace(options, repeated_bytes=kilobytes * 1000), report)
    except RuntimeError as error:
        sys.exit(f"{name}: {error}")
    finally:
        report.close()


if __name__ == "__main__":
    main()
