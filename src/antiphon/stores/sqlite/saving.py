"""Writes responses: finds each its place on a thread, stores its items once and its large parts once per project.

Runs on the writer's thread, inside its transaction.  Rules: design section 3 (Data).
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from antiphon.engine.ports.stores import FIRST_FENCE, Record, RunName
from antiphon.engine.shell import LARGE_BYTES
from antiphon.protocol.errors import conversation_locked
from antiphon.protocol.responses import TERMINAL
from antiphon.stores.rows import CONTINUABLE
from antiphon.stores.sqlite.lines import Lines, Placing
from antiphon.stores.sqlite.moving import Moving
from antiphon.stores.sqlite.operations import Save
from antiphon.stores.sqlite.statements import Row, Statements

encode = msgspec.json.encode

#: Blobs whose number is remembered, so that a chain that repeats its tools does not ask the database again.
KNOWN_BLOBS_MAX = 4096


def _may_be_continued_in_place(record: Record) -> bool:
    """Whether a response may stand on its parent's thread, where later ones will go on behind it.

    Failed, cancelled and unstored ones never will be continued, and would force the next good one to fork; but a
    conversation goes on behind those that are not to be stored, too.  A run that begins without input would not move
    the tip, so that another could take its place.
    """
    status = record.outcome.status
    kept = record.stored or record.conversation is not None
    return status not in ("failed", "cancelled") and kept and (status in TERMINAL or bool(record.input))


def _place(record: Record, placing: Placing) -> tuple[int, int]:
    length = len(record.input) + len(record.output)
    return placing.place(record.project, record.parent, length, in_place=_may_be_continued_in_place(record))


def _leaves_items(save: Save, moving: Moving) -> bool:
    """All do, but one that is not to be stored and of which no conversation gets anything."""
    record = save.record
    if save.begins or record.stored:
        return True
    return record.outcome.status in CONTINUABLE and moving.holds(_name(record))


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


def _name(record: Record) -> RunName:
    return RunName(record.project, record.shell.id)


class Saving:
    """Writes the responses of a group.  Knows the next free number, since the writer is the only one."""

    def __init__(self, statements: Statements, blobs: Blobs, lines: Lines) -> None:
        self._statements = statements
        self._blobs = blobs
        self._lines = lines
        self._response = statements.highest("responses", "row")

    def save(self, operations: Sequence[Save]) -> list[None]:
        """Finished responses, and background runs that begin."""
        inside = [save.record for save in operations if save.record.conversation is not None]
        moving = Moving(self._statements, [_name(record) for record in inside])
        self._check_holds(inside, moving)
        written = [save for save in operations if _leaves_items(save, moving)]
        placing = self._lines.placing(
            (save.record.project, save.record.parent.thread) for save in written if save.record.parent is not None
        )
        places = [_place(save.record, placing) for save in written]
        placing.write()
        items = [
            (save.record.project, thread, position, item.id, item.body)
            for save, (thread, first) in zip(written, places, strict=True)
            for position, item in enumerate([*save.record.input, *save.record.output], first)
        ]
        self._statements.rows("insert_items", items)
        self._write([each for each in zip(written, places, strict=True) if each[0].begins or each[0].record.stored])
        for save, (thread, first) in zip(written, places, strict=True):
            if not save.begins:
                moving.move(save.record, thread, first + len(save.record.input) + len(save.record.output))
        moving.free([_name(save.record) for save in operations if not save.begins])
        moving.write()
        return [None] * len(operations)

    def _check_holds(self, records: Sequence[Record], moving: Moving) -> None:
        """Raises for a hold that lapsed, after which another response came; a conversation that is gone is no harm."""
        lost = [(record.project, record.conversation) for record in records if not moving.holds(_name(record))]
        if self._statements.rows("conversations", lost):
            raise conversation_locked()

    def _write(self, placed: Sequence[tuple[Save, tuple[int, int]]]) -> None:
        records = [save.record for save, _ in placed]
        larges = self._larges(records)
        rows = [self._row(save.record, place, large) for (save, place), large in zip(placed, larges, strict=True)]
        self._statements.rows("insert_responses", rows)
        runs = [(row[0], FIRST_FENCE) for row, (save, _) in zip(rows, placed, strict=True) if save.begins]
        self._statements.rows("insert_runs", runs)

    def _row(self, record: Record, place: tuple[int, int], large: str) -> Row:
        self._response += 1
        thread, first = place
        middle = first + len(record.input)
        shell, outcome = record.shell, record.outcome
        return (
            self._response, record.project, shell.id, thread, first, middle, middle + len(record.output),
            shell.created_at, record.expires_at, shell.background, record.streamed, record.stored, outcome.status,
            encode(outcome), shell.small, large, record.request, record.input_hash, record.full_hash,
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
