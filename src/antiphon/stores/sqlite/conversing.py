"""Writes conversations: makes them, appends to them, says who holds them, takes items out.

Runs on the writer's thread, inside its transaction.  What a group asks is done in the order in which it was submitted,
against the rows as they were found; what is written of it takes a constant number of statements, but for what takes
items or conversations away.  Rules: design section 3 (Data).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from antiphon.engine.ports.stores import Conversation, Hold, Parent, StoredItem
from antiphon.stores.sqlite.lines import Lines
from antiphon.stores.sqlite.operations import (
    Add,
    ConversationOperation,
    Converse,
    Describe,
    Enter,
    Forget,
    Leave,
    Renew,
    TakeOut,
)
from antiphon.stores.sqlite.removing import Removing
from antiphon.stores.sqlite.statements import Row, Statements

encode = msgspec.json.encode


class _Conversation:
    """A conversation's row as the group sees it; ``until``: seconds that its hold is to last from now on."""

    __slots__ = ("busy", "changed", "created", "holder", "id", "metadata", "project", "row", "thread", "until", "upto")

    def __init__(self, project: str, id: str, *rest: Any) -> None:
        self.project, self.id = project, id
        self.row, self.created, self.metadata, self.thread, self.upto, self.holder, self.busy = rest
        self.until: float | None = None
        self.changed = False

    def hold(self, holder: str, seconds: float) -> None:
        self.holder, self.until, self.busy, self.changed = holder, seconds, True, True

    def free(self) -> None:
        self.holder, self.busy, self.changed = None, False, True

    def move(self, thread: int, upto: int) -> None:
        self.thread, self.upto, self.changed = thread, upto, True

    def state(self) -> Row:
        return self.row, self.metadata, self.thread, self.upto, self.holder, self.until


class Conversing:
    """Writes the conversations of a group.  Knows the next free number, since the writer is the only one."""

    def __init__(self, statements: Statements, lines: Lines, removing: Removing) -> None:
        self._statements = statements
        self._lines = lines
        self._removing = removing
        self._row = statements.highest("conversations", "row")

    def create(self, operations: Sequence[Converse]) -> list[None]:
        """Each on a thread of its own."""
        placing = self._lines.placing([])
        rows: list[Row] = []
        items: list[Row] = []
        for operation in operations:
            project, (id, created, metadata), given = operation.project, operation.conversation, operation.items
            self._row += 1
            thread, _ = placing.place(project, None, len(given))
            rows.append((self._row, project, id, created, metadata, thread, len(given)))
            items += _rows(project, thread, 0, given)
        placing.write()
        self._statements.rows("insert_items", items)
        self._statements.rows("insert_conversations", rows)
        return [None] * len(operations)

    def work(self, operations: Sequence[ConversationOperation]) -> list[Any]:
        """The results of all, as of one after another."""
        results: list[Any] = []
        start = 0
        while start < len(operations):
            light = start
            while light < len(operations) and not isinstance(operations[light], TakeOut | Forget):
                light += 1
            if light > start:
                results += _Changes(self._statements, self._lines, operations[start:light]).made()
            if light < len(operations):
                results.append(self._remove(operations[light]))
            start = light + 1
        return results

    def _remove(self, operation: Any) -> bool | None:
        found = _found(self._statements, operation.names).get((operation.project, operation.conversation))
        if found is None:
            return None
        if isinstance(operation, Forget):
            self._statements.run("delete_conversations", rows=[found.row])
            self._removing.trim({found.thread})
            return True
        return False if found.busy else self._take_out(found, operation.item)

    def _take_out(self, found: _Conversation, item: str) -> bool | None:
        """The conversation goes on with a line that leaves the item out, wherever its id stands in it."""
        place = {"project": found.project, "item": item, "thread": found.thread, "upto": found.upto}
        places = self._statements.run("places", **place)
        if not places:
            return None
        before = found.thread
        [(text, bare)] = self._statements.run("bare", thread=before)
        segments: list[Sequence[int]] = msgspec.json.decode(text)
        line = _without(segments if bare else [*segments, (before, found.upto)], places)
        if bare and self._lines.fits(line):
            parent = line[-1][0] if line else None
            self._statements.run("change_ancestry", thread=before, parent=parent, ancestry=encode(line).decode())
        else:
            placing = self._lines.placing([])
            found.move(placing.branch(found.project, line, found.upto, 0), found.upto)
            placing.write()
            self._statements.rows("change_conversations", [found.state()])
        self._statements.rows("leave_out", [(thread, position) for thread, position, _ in places])
        self._removing.trim({before, *(thread for thread, *_ in [*places, *segments[-1:]])})
        return True

    def free(self) -> None:
        """Ends the holds of an earlier process, but for those of unfinished background runs."""
        self._statements.run("free_conversations")


class _Changes:
    """What some operations change, done to rows in memory and written at once."""

    def __init__(self, statements: Statements, lines: Lines, operations: Sequence[ConversationOperation]) -> None:
        self._statements = statements
        self._operations = operations
        self._conversations = _found(statements, [name for operation in operations for name in operation.names])
        adding = {(add.project, add.conversation) for add in operations if isinstance(add, Add)}
        threads = [(one.project, one.thread) for name, one in self._conversations.items() if name in adding]
        self._placing = lines.placing(threads)
        self._items: list[Row] = []

    def made(self) -> list[Any]:
        results = [self._do(operation) for operation in self._operations]
        self._placing.write()
        self._statements.rows("insert_items", self._items)
        changed = [one.state() for one in self._conversations.values() if one.changed]
        self._statements.rows("change_conversations", changed)
        return results

    def _do(self, operation: ConversationOperation) -> Any:
        match operation:
            case Enter([hold], seconds):
                return self._enter(hold, seconds)
            case Renew(holds, seconds):
                for mine in self._mine(holds):
                    mine.hold(mine.holder, seconds)
            case Leave(holds):
                for mine in self._mine(holds):
                    mine.free()
            case Describe():
                return self._describe(operation)
            case Add():
                return self._add(operation)
        return None

    def _enter(self, hold: Hold, seconds: float) -> bool | None:
        found = self._conversations.get(hold[:2])
        if found is None:
            return None
        if found.busy and found.holder != hold.response:
            return False
        found.hold(hold.response, seconds)
        return True

    def _mine(self, holds: Iterable[Hold]) -> list[_Conversation]:
        """Those that are held as is said, lapsed or not: nobody else has come since."""
        found = [(self._conversations.get(hold[:2]), hold.response) for hold in holds]
        return [one for one, response in found if one is not None and one.holder == response]

    def _describe(self, operation: Describe) -> Conversation | None:
        found = self._conversations.get((operation.project, operation.conversation))
        if found is None:
            return None
        found.metadata, found.changed = operation.metadata, True
        return Conversation(found.id, found.created, found.metadata)

    def _add(self, operation: Add) -> bool | None:
        found = self._conversations.get((operation.project, operation.conversation))
        if found is None or found.busy:
            return None if found is None else False
        count = len(operation.items)
        thread, first = self._placing.place(found.project, Parent(found.thread, found.upto), count)
        self._items += _rows(found.project, thread, first, operation.items)
        found.move(thread, first + count)
        return True


def _found(statements: Statements, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], _Conversation]:
    rows = statements.rows("conversations", list(dict.fromkeys(names)))
    return {(row[0], row[1]): _Conversation(*row) for row in rows}


def _rows(project: str, thread: int, first: int, items: Sequence[StoredItem]) -> list[Row]:
    return [(project, thread, position, item.id, item.body) for position, item in enumerate(items, first)]


def _without(line: Sequence[Sequence[int]], places: Iterable[Row]) -> list[Sequence[int]]:
    """A line's segments, (thread, upto) or (thread, upto, first), without these (thread, position, base).

    Nothing stands on a thread below its base: what is empty goes, so that a line is never longer than it has items.
    """
    segments = [(thread, upto, first[0] if first else 0) for thread, upto, *first in line]
    for thread, position, base in places:
        cut: list[tuple[int, int, int]] = []
        for segment in segments:
            on, upto, first = segment
            if on == thread and first <= position < upto:
                cut += [(on, position, max(first, base)), (on, upto, position + 1)]
            else:
                cut.append(segment)
        segments = cut
    return [(on, upto, first) if first else (on, upto) for on, upto, first in segments if first < upto]
