"""A group of operations as a constant number of statements.

Runs on the writer's thread, inside its transaction.  Must not know of loops, futures or HTTP.
Rules: design section 3 (Data).
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import apsw
import msgspec

from antiphon.engine.ports import Batch, Parent, Record, Span, ToolCall
from antiphon.engine.shell import LARGE_BYTES
from antiphon.protocol.responses import TERMINAL
from antiphon.stores.queries import Queries

encode = msgspec.json.encode

#: Rows of one statement at the most.
ROWS_MAX = 400
#: Deeper ancestries are copied into the fork, so that a context stays one short join (design section 3).
SEGMENTS_MAX = 1000
#: Blobs whose number is remembered, so that a chain that repeats its tools asks the database once.
KNOWN_BLOBS_MAX = 4096


class Save(NamedTuple):
    """A response to write: finished, or a background run that begins."""

    record: Record
    durable: bool = True


class Append(NamedTuple):
    """Events of running background runs."""

    batches: Sequence[Batch]
    durable: bool = False


class Finish(NamedTuple):
    """The end of a background run."""

    record: Record
    last: Batch
    durable: bool = True


class Delete(NamedTuple):
    """Responses to remove, with what only they needed."""

    responses: Sequence[tuple[str, str]]
    durable: bool = True


class Release(NamedTuple):
    """A pin is gone: the thread may have become superfluous."""

    thread: int
    durable: bool = False


class JournalBegin(NamedTuple):
    """The intent of a hosted call."""

    project: str
    response: str
    call: ToolCall
    durable: bool = True


class JournalComplete(NamedTuple):
    """The result of a hosted call."""

    project: str
    response: str
    call: ToolCall
    result: bytes
    durable: bool = True


class _Thread:
    __slots__ = ("ancestry", "base", "tip")

    def __init__(self, base: int, tip: int, ancestry: list[list[int]]) -> None:
        self.base = base
        self.tip = tip
        self.ancestry = ancestry


class Groups:
    """Executes groups.  Knows the next free numbers, since it is the only writer."""

    def __init__(self, queries: Queries, connection: apsw.Connection, pins: Counter[Parent]) -> None:
        self._queries = queries
        self._pins = pins
        self._blobs: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._thread = _highest(connection, "threads", "id")
        self._response = _highest(connection, "responses", "row")
        self._blob = _highest(connection, "blobs", "id")
        #: Threads that a deletion would have trimmed further, had they not been pinned.
        self.held: set[int] = set()

    def execute(self, connection: apsw.Connection, operations: list[Any]) -> list[Any]:
        """All operations of a group, inside the writer's transaction; the results in the same order."""
        group = _Group(self, connection)
        try:
            return group.run(operations)
        except BaseException:
            self._blobs.clear()  # numbers handed out in a transaction that rolls back do not exist
            raise

    def next_thread(self) -> int:
        self._thread += 1
        return self._thread

    def next_response(self) -> int:
        self._response += 1
        return self._response


def _highest(connection: apsw.Connection, table: str, column: str) -> int:
    row = connection.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()  # noqa: S608 - constants
    assert row is not None
    return int(row[0])


class _Group:
    """One group on its way into the database."""

    def __init__(self, owner: Groups, connection: apsw.Connection) -> None:
        self.owner = owner
        self.connection = connection
        self.queries = owner._queries
        self.threads: dict[int, _Thread] = {}
        self.moved: set[int] = set()
        self.new_threads: list[tuple[Any, ...]] = []
        self.items: list[tuple[Any, ...]] = []
        self.responses: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.new_blobs: list[tuple[int, str, bytes, bytes]] = []
        self.blob_uses: Counter[int] = Counter()
        self.copies: list[tuple[int, str]] = []

    def run(self, operations: list[Any]) -> list[Any]:
        saves = [operation for operation in operations if isinstance(operation, Save)]
        self._load_threads(save.record.parent for save in saves)
        results = [_COLLECT[type(operation)](self, operation) for operation in operations]
        self._flush()
        return [_AFTER[type(operation)](self, operation) if type(operation) in _AFTER else result
                for operation, result in zip(operations, results, strict=True)]  # fmt: skip

    def execute(self, name: str, **bindings: Any) -> apsw.Cursor:
        return self.connection.execute(self.queries[name], bindings)

    def _insert(self, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), ROWS_MAX):
            chunk = rows[start : start + ROWS_MAX]
            text = self.queries.rows(name, len(chunk), len(chunk[0]))
            self.connection.execute(text, [value for row in chunk for value in row])

    def _flush(self) -> None:
        self._insert("insert_threads", self.new_threads)
        for thread, ancestry in self.copies:
            self.execute("copy_context", thread=thread, ancestry=ancestry)
        if self.moved:
            moves = [[thread, self.threads[thread].tip] for thread in self.moved]
            self.execute("move_tips", moves=encode(moves).decode())
        self._insert("insert_items", self.items)
        self._insert("insert_blobs", [(id, project, sha, 0) for id, project, sha, _ in self.new_blobs])
        self._insert("insert_blob_bytes", [(id, data) for id, _, _, data in self.new_blobs])
        if self.blob_uses:
            self.execute("count_blobs", counts=encode(list(self.blob_uses.items())).decode())
        self._insert("insert_responses", self.responses)
        self._insert("insert_events", self.events)

    # --- Where a response goes ---

    def _load_threads(self, parents: Iterable[Parent | None]) -> None:
        wanted = sorted({parent.thread for parent in parents if parent is not None})
        if wanted:
            rows = self.execute("threads", ids=encode(wanted).decode())
            for thread, base, tip, ancestry in rows:
                self.threads[thread] = _Thread(base, tip, msgspec.json.decode(ancestry))

    def _place(self, record: Record) -> tuple[int, int]:
        """The thread and position where a response begins: the parent's tip if it is still there, else a fork.

        Compare-and-set: the loser of a race forks.  Failed and cancelled spans never stand in a later context, so
        they fork as well and leave the tip where it is.
        """
        parent = record.parent
        if parent is None:
            return self._new_thread(record.project, None, 0, []), 0
        thread = self.threads[parent.thread]
        if thread.tip == parent.upto and record.outcome.status not in ("failed", "cancelled"):
            return parent.thread, parent.upto
        ancestry = [*thread.ancestry, [parent.thread, parent.upto]]
        return self._new_thread(record.project, parent, parent.upto, ancestry), parent.upto

    def _new_thread(self, project: str, parent: Parent | None, base: int, ancestry: list[list[int]]) -> int:
        number = self.owner.next_thread()
        if len(ancestry) > SEGMENTS_MAX:
            self.copies.append((number, encode(ancestry).decode()))
            parent, base, ancestry = None, 0, []
        self.threads[number] = _Thread(base, base, ancestry)
        self.new_threads.append(
            (number, project, parent.thread if parent else None, base, base, encode(ancestry).decode())
        )
        return number

    # --- Collecting ---

    def save(self, operation: Save) -> Span:
        record = operation.record
        thread, first = self._place(record)
        middle = first + len(record.input)
        upto = middle + len(record.output)
        for position, item in enumerate([*record.input, *record.output], first):
            self.items.append((record.project, thread, position, item.id, item.body))
        self.threads[thread].tip = upto
        self.moved.add(thread)
        shell = record.shell
        self.responses.append((
            self.owner.next_response(), record.project, shell.id, thread, first, middle, upto, shell.created_at,
            record.expires_at, shell.background, record.streamed, record.stored, record.outcome.status,
            encode(record.outcome), shell.small, self._large(record), record.request,
        ))  # fmt: skip
        return Span(thread, first, middle, upto)

    def _large(self, record: Record) -> str:
        members: dict[str, int | str] = {}
        for name, value in record.shell.large.items():
            if len(value) < LARGE_BYTES:
                members[name] = value.decode()
            else:
                members[name] = number = self._blob(record.project, value)
                self.blob_uses[number] += 1
        return encode(members).decode()

    def _blob(self, project: str, data: bytes) -> int:
        known = self.owner._blobs
        key = (project, hashlib.sha256(data).digest())
        if key in known:
            known.move_to_end(key)
            return known[key]
        row = self.execute("find_blobs", project=project, sha256=key[1]).fetchone()
        if row is None:
            self.owner._blob += 1
            number = self.owner._blob
            self.new_blobs.append((number, project, key[1], data))
        else:
            number = int(row[0])
        known[key] = number
        if len(known) > KNOWN_BLOBS_MAX:
            known.popitem(last=False)
        return number

    def append(self, operation: Append) -> None:
        for batch in operation.batches:
            row, _, _, _ = self._run(batch.project, batch.response)
            self._collect_events(row, batch)

    def _collect_events(self, row: int, batch: Batch) -> None:
        if batch.events:
            frames = b"\n".join(event.data for event in batch.events)
            self.events.append((row, batch.events[0].number, batch.events[-1].number, frames))

    def _run(self, project: str, response: str) -> tuple[int, int, int, str]:
        found = self.execute("run", project=project, id=response).fetchone()
        if found is None:
            raise LookupError(f"no run {response}")
        return cast("tuple[int, int, int, str]", found)

    # --- What is done after the inserts ---

    def finish(self, operation: Finish) -> bool:
        record = operation.record
        row, thread, middle, status = self._run(record.project, record.shell.id)
        if status in TERMINAL:
            return False
        items = [
            (record.project, thread, position, item.id, item.body)
            for position, item in enumerate(record.output, middle)
        ]
        self._insert("insert_items", items)
        upto = middle + len(items)
        self.execute("trim_thread", thread=thread, needed=upto)
        self.execute(
            "finish_response", row=row, upto=upto, expires=record.expires_at, status=record.outcome.status,
            outcome=encode(record.outcome),
        )  # fmt: skip
        self.events = []
        self._collect_events(row, operation.last)
        self._insert("insert_events", self.events)
        return True

    def delete(self, operation: Delete) -> int:
        gone = [self._delete_one(project, response) for project, response in operation.responses]
        unused = self.execute("delete_unused_blobs").fetchall()
        if unused:
            self.execute("delete_blob_bytes", ids=encode([number for number, _, _ in unused]).decode())
            for _, project, sha256 in unused:
                self.owner._blobs.pop((str(project), cast("bytes", sha256)), None)
        return sum(gone)

    def _delete_one(self, project: str, response: str) -> bool:
        found = self.execute("response", project=project, id=response).fetchone()
        if found is None:
            return False
        row, thread, large = found[0], found[1], found[9]
        used = Counter(value for value in msgspec.json.decode(large).values() if isinstance(value, int))
        counts = [[number, -count] for number, count in used.items()]
        self.execute("count_blobs", counts=encode(counts).decode())
        for name in ("delete_response", "delete_events", "delete_journal"):
            self.execute(name, row=row)
        self.trim(thread)
        return True

    def trim(self, thread: int | None) -> None:
        """Drops the end of a thread that nobody needs, and goes on with its parent when nothing is left."""
        while thread is not None:
            found = self.execute("thread", thread=thread).fetchone()
            if found is None:
                return
            parent, base = found
            needed = max(self._needed(thread), self._pinned(thread))
            if self._pinned(thread) >= 0:
                self.owner.held.add(thread)
            self.execute("trim_items", thread=thread, needed=max(needed, 0))
            if needed > base or (needed == base and self._has_users(thread)):
                self.execute("trim_thread", thread=thread, needed=needed)
                return
            self.execute("delete_thread", thread=thread)
            thread = parent

    def _needed(self, thread: int) -> int:
        row = self.execute("needed", thread=thread).fetchone()
        assert row is not None
        return int(row[0])

    def _pinned(self, thread: int) -> int:
        return max((pin.upto for pin in list(self.owner._pins) if pin.thread == thread), default=-1)

    def _has_users(self, thread: int) -> bool:
        return self._needed(thread) >= 0 or self._pinned(thread) >= 0

    def release(self, operation: Release) -> None:
        self.trim(operation.thread)

    def journal_begin(self, operation: JournalBegin) -> bytes | None:
        row = self._run(operation.project, operation.response)[0]
        call = operation.call
        self.execute("journal_begin", run=row, call=call.item_id, intent=encode(call))
        found = self.execute("journal_result", run=row, call=call.item_id).fetchone()
        return cast("bytes | None", found[0]) if found else None

    def journal_complete(self, operation: JournalComplete) -> None:
        row = self._run(operation.project, operation.response)[0]
        self.execute("journal_complete", run=row, call=operation.call.item_id, result=operation.result)


def _later(group: _Group, operation: Any) -> None:
    """Collected nothing; ``_AFTER`` does the work."""


_COLLECT: dict[type, Any] = {
    Save: _Group.save,
    Append: _Group.append,
    Finish: _later,
    Delete: _later,
    Release: _later,
    JournalBegin: _later,
    JournalComplete: _later,
}
_AFTER: dict[type, Any] = {
    Finish: _Group.finish,
    Delete: _Group.delete,
    Release: _Group.release,
    JournalBegin: _Group.journal_begin,
    JournalComplete: _Group.journal_complete,
}
