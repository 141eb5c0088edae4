"""Threads: where what is written goes, behind what it continues.

Runs on the writer's thread, inside its transaction.  Rules: design section 3 (Data).
"""

from collections.abc import Iterable, Sequence

import msgspec

from antiphon.engine.ports.stores import Parent
from antiphon.stores.sqlite.statements import Statements

encode = msgspec.json.encode

#: Deeper ancestries are copied into the fork, so that a context stays one short join (design section 3).
SEGMENTS_MAX = 1000


class Lines:
    """Threads are made and continued here.  Knows the next free number, since the writer is the only one."""

    def __init__(self, statements: Statements, segments_max: int) -> None:
        self._statements = statements
        self._segments_max = segments_max
        self._highest = statements.highest("threads", "id")

    def placing(self, parents: Iterable[tuple[str, int]]) -> "Placing":
        """For what goes on behind these threads, each (project, thread), or begins."""
        return Placing(self._statements, self, list(dict.fromkeys(parents)))

    def made(self) -> int:
        """A number for a new thread."""
        self._highest += 1
        return self._highest

    def fits(self, ancestry: Sequence[Sequence[int]]) -> bool:
        """Whether a thread may have so many before it."""
        return len(ancestry) <= self._segments_max


class _Thread:
    """A thread as one group sees it; ``ancestry`` is the JSON text of its row."""

    __slots__ = ("ancestry", "number", "tip")

    def __init__(self, number: int, tip: int, ancestry: str) -> None:
        self.number = number
        self.tip = tip
        self.ancestry = ancestry


class Placing:
    """Finds what one group writes its places."""

    def __init__(self, statements: Statements, lines: Lines, parents: list[tuple[str, int]]) -> None:
        self._statements = statements
        self._lines = lines
        self._known: dict[tuple[str, int], _Thread] = {}
        self._moved: set[int] = set()
        self._made: list[tuple[_Thread, str, int | None, int]] = []
        self._copies: list[tuple[int, str]] = []
        for project, number, tip, ancestry in statements.rows("threads", parents):
            self._known[project, number] = _Thread(number, tip, ancestry)

    def place(self, project: str, parent: Parent | None, length: int, *, in_place: bool = True) -> tuple[int, int]:
        """The thread and the position where so many items go: the parent's tip if it is still there, else a fork.

        This compare-and-set is why two continuations never interleave: the loser of a race forks.
        """
        if parent is None:
            return self._make(project, None, 0, "[]", length), 0
        thread = self._known.get((project, parent.thread))
        if thread is None:
            raise LookupError(f"no thread {parent.thread} in this project")
        if thread.tip == parent.upto and in_place:
            thread.tip += length
            self._moved.add(thread.number)
            return thread.number, parent.upto
        ancestry = [*msgspec.json.decode(thread.ancestry), [parent.thread, parent.upto]]
        return self.branch(project, ancestry, parent.upto, length), parent.upto

    def branch(self, project: str, ancestry: Sequence[Sequence[int]], base: int, length: int) -> int:
        """A thread of its own that begins at ``base`` behind the ancestry; behind a copy of it where that is deep."""
        text = encode(ancestry).decode()
        if self._lines.fits(ancestry):
            return self._make(project, ancestry[-1][0] if ancestry else None, base, text, length)
        number = self._make(project, None, 0, "[]", base + length)
        self._copies.append((number, text))
        return number

    def _make(self, project: str, parent: int | None, base: int, ancestry: str, length: int) -> int:
        number = self._lines.made()
        thread = self._known[project, number] = _Thread(number, base + length, ancestry)
        self._made.append((thread, project, parent, base))
        return number

    def write(self) -> None:
        """Puts the threads where their items are."""
        rows = [(made.number, project, parent, base, made.tip, made.ancestry)
                for made, project, parent, base in self._made]  # fmt: skip
        self._statements.rows("insert_threads", rows)
        for thread, ancestry in self._copies:
            self._statements.run("copy_context", thread=thread, ancestry=ancestry)
        if self._moved:
            moves = [(thread.number, thread.tip) for thread in self._known.values() if thread.number in self._moved]
            self._statements.run("move_tips", moves=moves)
