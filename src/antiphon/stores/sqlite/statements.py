"""Runs named queries on one connection, many rows at a time.

A row more must not be a statement more: each statement gives the interpreter's lock away and waits for it again.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import msgspec

from antiphon.stores.queries import Queries

#: Rows of one statement at the most.
ROWS_MAX = 400
#: Texts with more rows hardly recur and are not kept prepared.
PREPARED_ROWS_MAX = 64

Row = tuple[Any, ...]


class Statements:
    """The named queries of the store, on one connection."""

    def __init__(self, queries: Queries, connection: apsw.Connection) -> None:
        self._queries = queries
        self._connection = connection

    def run(self, name: str, /, **bindings: Any) -> list[Row]:
        """Runs a query once; lists of whole numbers travel as JSON."""
        for key, value in bindings.items():
            if isinstance(value, list | tuple):
                bindings[key] = msgspec.json.encode(value).decode()
        return self._connection.execute(self._queries[name], bindings).fetchall()

    def rows(self, name: str, rows: Sequence[Row]) -> list[Row]:
        """Runs a query over ``rows``, which take the place of its ``{rows}``; nothing for none."""
        found: list[Row] = []
        for chunk in _chunks(rows):
            text = self._queries.rows(name, len(chunk), len(chunk[0]))
            values = [value for row in chunk for value in row]
            found += self._connection.execute(text, values, can_cache=len(chunk) <= PREPARED_ROWS_MAX).fetchall()
        return found

    def touch(self) -> None:
        """Writes a page as it is."""
        self._connection.pragma("user_version", self._connection.pragma("user_version"))

    def highest(self, table: str, column: str) -> int:
        """The highest number in use; the writer counts on from it."""
        text = f"SELECT coalesce(max({column}), 0) FROM {table}"  # noqa: S608 - our own names
        value = self._connection.execute(text).get
        assert isinstance(value, int)
        return value


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_MAX):
        yield rows[start : start + ROWS_MAX]
