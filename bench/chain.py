"""What a conversation's turn costs as it grows, CPU and stored bytes at marks.

A chain goes on by ``previous_response_id``; in a replay the client sends its whole history with each request.

Knows the Responses API and that the store is one SQLite file; not its tables.
"""

import contextlib
import itertools
import sqlite3
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import cpu_seconds
from bench.recording import Caller
from bench.stand import Stand
from bench.workloads import Options

MODEL = "bench-t32-r0-c32"
INPUT_BYTES = 1000
MARKS = {5: 3, 50: 10, 500: 20, 1000: 20}  # turn: how many turns on each side of it are averaged
TOOLS = 10


@dataclass
class Mark:
    """At one turn: its CPU, one figure per chain; the context sent upstream; how the database has grown."""

    turn: int
    cpu_us: list[float] = field(default_factory=list)
    context_bytes: int = 0
    stored_bytes_per_turn: float = 0.0
    rows_per_turn: float = 0.0


@dataclass
class Chain:
    name: str
    turns: int
    repeated_bytes: int
    marks: list[Mark]
    file_bytes: int = 0  # after the server stopped and a checkpoint emptied the log


@dataclass(frozen=True)
class Size:
    turn: int
    used_bytes: int
    rows: int


def filler(size: int, salt: int) -> str:
    """Text of the size that differs from other salts' and does not compress to nothing."""
    words = (f"{(salt * 7919 + i) * 2654435761 % 2**32:08x}" for i in range(size // 9 + 1))
    return " ".join(words)[:size]


def repeated(size: int) -> dict[str, Any]:
    """Instructions and tools that come with each request, half the bytes each."""
    if not size:
        return {}
    parameters = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    shared = {"type": "function", "parameters": parameters}
    tools = [{**shared, "name": f"tool_{i}", "description": filler(size // 2 // TOOLS, i)} for i in range(TOOLS)]
    return {"instructions": filler(size // 2, 99), "tools": tools}


def database_size(path: Path, turn: int) -> Size:
    """Used pages, those still in the write-ahead log too, and rows of all tables."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:

        def one(sql: str) -> int:
            return int(db.execute(sql).fetchone()[0])

        used = (one("PRAGMA page_count") - one("PRAGMA freelist_count")) * one("PRAGMA page_size")
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")
        return Size(turn, used, sum(one(f'SELECT count(*) FROM "{name}"') for (name,) in tables.fetchall()))


def run_chain(stand: Stand, name: str, options: Options) -> Chain:
    """As many chains as rounds, one after the other; the last one's growth of the database is what is reported.

    ``name``: ``chain`` or ``replay``.
    """
    wanted = {turn: around for turn, around in MARKS.items() if turn <= options.turns}
    marks = {turn: Mark(turn) for turn in wanted}
    fixed = {"model": MODEL, "store": True, **repeated(options.repeated_bytes)}
    for number in range(options.rounds):
        sizes = walk(stand, options.turns, wanted, marks, fixed, number, whole=name == "replay")
    for before, after in itertools.pairwise(sizes):
        mark, turns = marks[after.turn], after.turn - before.turn
        mark.stored_bytes_per_turn = (after.used_bytes - before.used_bytes) / turns
        mark.rows_per_turn = (after.rows - before.rows) / turns
    return Chain(name, options.turns, options.repeated_bytes, list(marks.values()))


def walk(
    stand: Stand,
    turns: int,
    wanted: dict[int, int],
    marks: dict[int, Mark],
    fixed: dict[str, Any],
    number: int,
    *,
    whole: bool,
) -> list[Size]:
    """One chain; adds each mark's CPU and returns the database's size before it and at each mark.

    ``whole``: the client sends all that was said.
    """
    pid, caller = stand.antiphon.child.pid, Caller(stand.antiphon.port)
    link: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    begins = {max(1, turn - around): turn for turn, around in wanted.items()}
    ends = {min(turns, turn + around): turn for turn, around in wanted.items()}
    started = (0, 0.0)
    sizes = [database_size(stand.database, 0)]
    for turn in range(1, turns + 1):
        if turn in begins:
            started = (turn, cpu_seconds(pid))
        said = [{"role": "user", "content": filler(INPUT_BYTES, number * turns + turn)}]
        asked = fixed | link | {"input": history + said}
        reply = msgspec.json.decode(caller.call("POST", "/v1/responses", asked).body)
        if reply["status"] != "completed":
            raise RuntimeError(f"turn {turn}: {reply['status']} {reply.get('error')}")
        if whole:
            history += said + reply["output"]
        else:
            link = {"previous_response_id": reply["id"]}
        if turn in ends:
            marks[ends[turn]].cpu_us.append((cpu_seconds(pid) - started[1]) / (turn - started[0] + 1) * 1e6)
        if turn in wanted:
            marks[turn].context_bytes = 4 * reply["usage"]["input_tokens"]  # the fake counts four bytes as a token
            sizes.append(database_size(stand.database, turn))
    caller.close()
    return sizes


def closed_size(path: Path) -> int:
    """The file's bytes once the server is gone and the write-ahead log is moved into it."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def chain_table(chain: Chain) -> str:
    each = f", {chain.repeated_bytes / 1000:g} kB of tools and instructions in each" if chain.repeated_bytes else ""
    lines = [
        f"{chain.name}: {chain.turns} turns{each}; database after checkpoint {chain.file_bytes / 1e6:.2f} MB",
        "",
        "| turn | CPU us (min .. max) | context sent upstream, kB | bytes stored per turn since the last mark | rows |",
        "|---:|---:|---:|---:|---:|",
    ]
    for m in chain.marks:
        cost = f"{statistics.median(m.cpu_us):.0f} ({min(m.cpu_us):.0f} .. {max(m.cpu_us):.0f})"
        growth = f"{m.stored_bytes_per_turn:.0f} | {m.rows_per_turn:.2f}"
        lines.append(f"| {m.turn} | {cost} | {m.context_bytes / 1000:.1f} | {growth} |")
    return "\n".join(lines)
