"""`docs/conformance.md`, made from what a run produced.

Must not know how it was produced.
"""

from __future__ import annotations

from pathlib import Path

from tests.conformance.catalogue import KINDS, Entry, catalogue
from tests.conformance.record import Record

PAGE = Path(__file__).resolve().parents[2] / "docs/conformance.md"

_HEAD = """# Conformance

This page is written by `scripts/conformance.py` from a run that produced everything that it lists; do not edit it.

The catalogue is read from two documents: OpenAI's OpenAPI file and that of Open Responses (`tests/specification/`).
A run asks a real server for every endpoint, item type, event type and error code in it, in `tests/conformance/`.
Every reply is held against both documents and against this server's own (`GET /openapi.json`).
Every stream is held to the laws of order, and the fold of its events is its final Response.
The run fails when anything marked "yes" was not produced, or anything else was.
Items and events of hosted tools come from a scripted upstream, as from one that speaks the Responses API itself.
"""
_TITLES = {
    "endpoint": "Endpoints",
    "output item": "Output items",
    "input item": "Input items",
    "event": "Events",
    "error code": "Error codes",
}
_SOURCES = {"openai": "OpenAI", "openresponses": "Open Responses", "ours": "Antiphon"}


def page(record: Record) -> str:
    """The whole page."""
    assert not record.missing(), f"never produced: {[f'{entry.kind} {entry.name}' for entry in record.missing()]}"
    return "\n".join([_HEAD, *(_section(kind) for kind in KINDS)])


def _section(kind: str) -> str:
    entries = [entry for entry in catalogue() if entry.kind == kind]
    made = sum(not entry.later for entry in entries)
    rows = [f"## {_TITLES[kind]}", "", f"{made} of {len(entries)} are produced.", ""]
    rows += [f"| {kind} | in | produced |", "| --- | --- | --- |", *map(_row, entries), ""]
    return "\n".join(rows)


def _row(entry: Entry) -> str:
    sources = ", ".join(_SOURCES.get(source, source) for source in entry.sources)
    return f"| `{entry.name}` | {sources} | {f'no: {entry.later}' if entry.later else 'yes'} |"
