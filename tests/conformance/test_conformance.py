"""Everything that this server claims to serve is produced, and nothing that it says it does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.conformance.catalogue import LATER, catalogue, routes
from tests.conformance.page import PAGE, page
from tests.conformance.record import Record
from tests.conformance.scenarios import PASSED_ON, PLAYS, run

from antiphon.web.api.openapi_shapes import CODES

ROOT = Path(__file__).resolve().parents[2]
#: Functions whose argument of this name or at this place is an error's code.
_MAKERS = {"invalid": 2, "ApiError": None, "UpstreamError": None, "Place": 2, "fetch": None}

pytestmark = pytest.mark.xdist_group("conformance")

_made: list[Record] = []


@pytest.fixture
async def record() -> Record:
    """What one run produced; it is made once."""
    if not _made:
        _made.append(await run())
    return _made[0]


async def test_everything_in_the_catalogue_is_produced(record: Record) -> None:
    assert [f"{entry.kind} {entry.name}" for entry in record.missing()] == []


async def test_what_is_said_to_be_missing_is_missing(record: Record) -> None:
    assert [f"{entry.kind} {entry.name}" for entry in record.premature()] == []


def test_what_is_served_is_produced() -> None:
    later = {entry.name for entry in catalogue() if entry.kind == "endpoint" and entry.later}

    assert later & routes() == set()


async def test_streams_were_folded(record: Record) -> None:
    assert record.streams >= len(PLAYS) + len(PASSED_ON)


async def test_the_page_is_fresh(record: Record) -> None:
    assert PAGE.read_text("utf-8") == page(record), "run scripts/conformance.py"


def test_every_reason_is_needed() -> None:
    used = {entry.later for entry in catalogue()}

    assert {reason for reasons in LATER.values() for _, reason in reasons} <= used


def test_every_code_in_the_source_is_in_the_catalogue() -> None:
    found = {code for file in (ROOT / "src").rglob("*.py") for code in _codes(ast.parse(file.read_text("utf-8")))}

    assert found <= CODES.keys()
    assert len(found) > 30


def _codes(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = _MAKERS.get(name, -1)
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"] if place != -1 else []
        if place is not None and 0 <= place < len(node.args):
            given.append(node.args[place])
        found |= {value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    return found
