"""Writes responses: finds each its place on a thread, stores its items once and its large parts once per project.

Runs on the writer's thread, inside its transaction.  Rules: design section 3 (Data).
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from antiphon.engine.ports import Record
from antiphon.engine.shell import LARGE_BYTES
from antiphon.protocol.responses import TERMINAL
from antiphon.stores.sqlite.statements import Row, Statements

encode = msgspec.json.encode

#: Deeper ancestries are copied into the fork, so that a context stays one short join (design section 3).
SEGMENTS_MAX = 1000
#: Blobs whose number is remembered, so that a chain that repeats its tools does not ask the database again.
KNOWN_BLOBS_MAX = 4096


class _Thread:
    """A thread as one group sees it; ``ancestry`` is the JSON text of its row."""

    __slots__ = ("ancestry", "number", "tip")

    def __init__(self, number: int, tip: int, ancestry: str) -> None:
        self.number = number
        self.tip = tip
        self.ancestry = ancestry


class Placing:
    """Finds the responses of one group their places."""

    def __init__(self, statements: Statements, records: Sequence[Record], highest: int, segments_max: int) -> None:
        self._statements = statements
        self._segments_max = segments_max
        self._known: dict[tuple[str, int], _Thread] = {}
        self._moved: set[int] = set()
        self._made: list[tuple[_Thread, str, int | None, int]] = []
        self._copies: list[tuple[int, str]] = []
        self.highest = highest
        parents = {(record.project, record.parent.thread) for record in records if record.parent is not None}
        for project, number, tip, ancestry in statements.rows("threads", list(parents)):
            self._known[project, number] = _Thread(number, tip, ancestry)

    def place(self, record: Record) -> tuple[int, int]:
        """The thread and the position where a response begins: its parent's tip if that is still there, else a fork.

        This compare-and-set is why two continuations never interleave: the loser of a race forks.
        """
        parent = record.parent
        length = len(record.input) + len(record.output)
        if parent is None:
            return self._make(record.project, None, 0, "[]", length), 0
        thread = self._known.get((record.project, parent.thread))
        if thread is None:
            raise LookupError(f"no thread {parent.thread} in this project")
        if thread.tip == parent.upto and _may_be_continued_in_place(record):
            thread.tip += length
            self._moved.add(thread.number)
            return thread.number, parent.upto
        ancestry = [*msgspec.json.decode(thread.ancestry), [parent.thread, parent.upto]]
        if len(ancestry) <= self._segments_max:
            text = encode(ancestry).decode()
            return self._make(record.project, parent.thread, parent.upto, text, length), parent.upto
        number = self._make(record.project, None, 0, "[]", parent.upto + length)
        self._copies.append((number, encode(ancestry).decode()))
        return number, parent.upto

    def _make(self, project: str, parent: int | None, base: int, ancestry: str, length: int) -> int:
        self.highest += 1
        self._made.append((_Thread(self.highest, base + length, ancestry), project, parent, base))
        return self.highest

    def write(self) -> None:
        """Puts the threads where the responses are."""
        rows = [(made.number, project, parent, base, made.tip, made.ancestry)
                for made, project, parent, base in self._made]  # fmt: skip
        self._statements.rows("insert_threads", rows)
        for thread, ancestry in self._copies:
            self._statements.run("copy_context", thread=thread, ancestry=ancestry)
        if self._moved:
            moves = [(thread.number, thread.tip) for thread in self._known.values() if thread.number in self._moved]
            self._statements.run("move_tips", moves=moves)


def _may_be_continued_in_place(record: Record) -> bool:
    """Whether a response may stand on its parent's thread, where later ones will go on behind it.

    Failed, cancelled and unstored ones never will be continued, and would force the next good one to fork.  A run that
    begins without input would not move the tip, so that another could take its place.
    """
    status = record.outcome.status
    return status not in ("failed", "cancelled") and record.stored and (status in TERMINAL or bool(record.input))


class Blobs:
    """Keeps large parts once per project; remembers the numbers of those it has seen."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._known: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._highest = statements.highest("blobs", "id")

    def use(self, parts: Sequence[tuple[str, bytes]]) -> list[int]:
        """The number of each (project, bytes), counted as used once more."""
        keys = [(project, hashlib.sha256(data).digest()) for project, data in parts]
        known = self._find(keys)
        new: dict[int, tuple[str, bytes, bytes]] = {}
        for (project, data), key in zip(parts, keys, strict=True):
            if key not in known:
                self._highest += 1
                known[key] = self._highest
                new[self._highest] = (project, key[1], data)
        numbers = [known[key] for key in keys]
        self._write(new, Counter(numbers))
        self._remember(known)
        return numbers

    def _find(self, keys: Iterable[tuple[str, bytes]]) -> dict[tuple[str, bytes], int]:
        known = {key: self._known[key] for key in keys if key in self._known}
        asked = [key for key in dict.fromkeys(keys) if key not in known]
        for number, project, sha256 in self._statements.rows("find_blobs", asked):
            known[project, sha256] = number
        return known

    def _write(self, new: dict[int, tuple[str, bytes, bytes]], uses: Counter[int]) -> None:
        rows = [(number, project, sha256, uses.pop(number)) for number, (project, sha256, _) in new.items()]
        self._statements.rows("insert_blobs", rows)
        self._statements.rows("insert_blob_bytes", [(number, data) for number, (_, _, data) in new.items()])
        self.count(uses)

    def _remember(self, used: dict[tuple[str, bytes], int]) -> None:
        for key, number in used.items():
            self._known[key] = number
            self._known.move_to_end(key)
        while len(self._known) > KNOWN_BLOBS_MAX:
            self._known.popitem(last=False)

    def count(self, uses: Counter[int]) -> None:
        """Adds to the numbers of uses, or takes away."""
        if uses:
            self._statements.run("count_blobs", counts=list(uses.items()))

    def drop(self, uses: Counter[int]) -> None:
        """Takes uses away, and the blobs with their last one."""
        if not uses:
            return
        self.count(Counter({number: -count for number, count in uses.items()}))
        unused = self._statements.run("delete_unused_blobs", ids=list(uses))
        if unused:
            self._statements.run("delete_blob_bytes", ids=[number for number, _, _ in unused])
            for _, project, sha256 in unused:
                self._known.pop((project, sha256), None)

    def forget(self) -> None:
        """Numbers given in a transaction that rolled back do not exist."""
        self._known.clear()


class Saving:
    """Writes the responses of a group.  Knows the next free numbers, since the writer is the only one."""

    def __init__(self, statements: Statements, blobs: Blobs, segments_max: int) -> None:
        self._statements = statements
        self._blobs = blobs
        self._segments_max = segments_max
        self._thread = statements.highest("threads", "id")
        self._response = statements.highest("responses", "row")

    def save(self, records: Sequence[Record]) -> None:
        """Finished responses, and background runs that begin."""
        placing = Placing(self._statements, records, self._thread, self._segments_max)
        places = [placing.place(record) for record in records]
        self._thread = placing.highest
        placing.write()
        items = [
            (record.project, thread, position, item.id, item.body)
            for record, (thread, first) in zip(records, places, strict=True)
            for position, item in enumerate([*record.input, *record.output], first)
        ]
        self._statements.rows("insert_items", items)
        larges = self._larges(records)
        rows = [self._row(*each) for each in zip(records, places, larges, strict=True)]
        self._statements.rows("insert_responses", rows)

    def _row(self, record: Record, place: tuple[int, int], large: str) -> Row:
        self._response += 1
        thread, first = place
        middle = first + len(record.input)
        shell, outcome = record.shell, record.outcome
        return (
            self._response, record.project, shell.id, thread, first, middle, middle + len(record.output),
            shell.created_at, record.expires_at, shell.background, record.streamed, record.stored, outcome.status,
            encode(outcome), shell.small, large, record.request,
        )  # fmt: skip

    def _larges(self, records: Sequence[Record]) -> list[str]:
        """The large members of each response as JSON: their text, or the number of the blob that holds it."""
        parts = [
            (record.project, value)
            for record in records
            for value in record.shell.large.values()
            if len(value) >= LARGE_BYTES
        ]
        numbers = iter(self._blobs.use(parts)) if parts else iter(())
        return [
            encode({
                name: value.decode() if len(value) < LARGE_BYTES else next(numbers)
                for name, value in record.shell.large.items()
            }).decode()
            for record in records
        ]  # fmt: skip
