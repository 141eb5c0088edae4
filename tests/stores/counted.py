"""A SQLite database whose groups are executed one by one, and whose statements are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apsw
from tests.stores.world import items, record

from antiphon.engine.ports.stores import Parent
from antiphon.stores.queries import Queries
from antiphon.stores.sqlite import database
from antiphon.stores.sqlite.groups import Groups
from antiphon.stores.sqlite.lines import SEGMENTS_MAX
from antiphon.stores.sqlite.operations import Save
from antiphon.stores.sqlite.pins import Pins
from antiphon.stores.sqlite.statements import Statements

LARGE = [b'"' + bytes([65 + number]) * 500 + b'"' for number in range(26)]


class Counted:
    """A database whose groups are executed one by one, and whose statements are counted."""

    def __init__(self) -> None:
        self.connection = database.connect(":memory:")
        database.migrate(self.connection)
        self._groups = Groups(
            Statements(Queries(database.PACKAGE, "queries.sql"), self.connection), Pins(), SEGMENTS_MAX
        )  # fmt: skip

    def run(self, *operations: Any) -> int:
        """How many statements a group took."""
        statements: list[str] = []

        def trace(_cursor: apsw.Cursor, text: str, _bindings: Any) -> bool:
            statements.append(text)
            return True

        self.connection.exec_trace = trace
        self.execute(*operations)
        self.connection.exec_trace = None
        return len(statements)

    def execute(self, *operations: Any) -> list[Any]:
        """A group's results."""
        return self._groups.execute(operations)

    def counted(self, make: Callable[[int], Any], count: int) -> int:
        return self.run(*(make(number) for number in range(count)))


def saves(numbers: Iterator[int], *, chained: bool, status: str = "completed") -> Callable[[int], Save]:
    """Makes responses: each on a thread of its own, with large parts of its own."""

    def make(index: int) -> Save:
        number = next(numbers)
        parent = Parent(index + 1, 2) if chained else None
        large = {"tools": LARGE[number % 26], "text": LARGE[number % 7]}
        said = {"input": items(f"{number}?"), "output": items(f"{number}!") if status == "completed" else []}
        made = record(f"r{number}", parent=parent, large=large, status=status, **said)  # type: ignore[arg-type]
        return Save(made, begins=status == "queued")

    return make
