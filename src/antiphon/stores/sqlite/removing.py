"""Removes responses, and of the threads what no living response, no conversation, no fork and no pin needs.

Runs on the writer's thread, inside its transaction.  Rules: design section 3 ("An item lives while ...").
"""

from collections import Counter
from collections.abc import Sequence

from antiphon.stores.rows import decode_large
from antiphon.stores.sqlite.operations import Delete, Release
from antiphon.stores.sqlite.pins import Pins
from antiphon.stores.sqlite.saving import Blobs
from antiphon.stores.sqlite.statements import Statements


class Removing:
    """Carries out the removals of a group."""

    def __init__(self, statements: Statements, blobs: Blobs, pins: Pins) -> None:
        self._statements = statements
        self._blobs = blobs
        self._pins = pins

    def remove(self, operations: Sequence[Delete | Release]) -> list[int]:
        """How many responses each operation removed; one named twice counts for the first."""
        names = [name for operation in operations if isinstance(operation, Delete) for name in operation.responses]
        found = {(project, id): rest for project, id, *rest in self._statements.rows("doomed", list(set(names)))}
        threads = {thread for _, thread, _ in found.values()}
        if found:
            self._delete([row for row, _, _ in found.values()])
            self._statements.rows("forget_keys_of", list(found))
            self._statements.rows("forget_outbox_of", list(found))
            members = [decode_large(large).values() for _, _, large in found.values()]
            self._blobs.drop(Counter(value for values in members for value in values if isinstance(value, int)))
        self.trim(threads | {operation.thread for operation in operations if isinstance(operation, Release)})
        return [
            sum(found.pop(name, None) is not None for name in operation.responses)
            if isinstance(operation, Delete) else 0
            for operation in operations
        ]  # fmt: skip

    def _delete(self, rows: list[int]) -> None:
        for name in ("delete_responses", "delete_runs", "delete_events", "delete_journal"):
            self._statements.run(name, rows=rows)

    def trim(self, threads: set[int]) -> None:
        """Drops the ends that nobody needs, then goes on with the parents of threads of which nothing is left."""
        leaving = [thread for (thread,) in self._statements.run("left_out_of", threads=sorted(threads))]
        while threads:
            cuts: list[tuple[int, int]] = []
            gone: list[int] = []
            held: list[int] = []
            parents: set[int] = set()
            for thread, parent, base, needed in self._statements.run("needed", threads=sorted(threads)):
                pinned = self._pins.kept(thread, needed)
                if pinned > needed:
                    held.append(thread)
                if max(needed, pinned) >= base:
                    cuts.append((thread, max(needed, pinned)))
                else:
                    gone.append(thread)
                    parents |= {parent} - {None}
            self._cut(cuts, gone, bool(leaving))
            self._note(sorted(threads), held)
            threads = parents
        if leaving:
            self._erase(leaving)

    def _erase(self, threads: list[int]) -> None:
        """Of what conversations left out on these threads, the items that nothing else needs any more."""
        needed: dict[tuple[int, int], bool] = {}
        pinning: set[int] = set()
        for thread, position, at, alive in self._statements.run("holders", threads=threads):
            place = (thread, position)
            pinned = not alive and self._pins.holds(at, position if at == thread else -1)
            if pinned:
                pinning.add(at)
            needed[place] = needed.get(place, False) or bool(alive) or pinned
        places = [place for place, still in needed.items() if not still]
        if places:
            self._statements.run("erase_items", places=places)
            self._statements.run("erase_left_out", places=places)
        if pinning:
            self._note(sorted(pinning), sorted(pinning))

    def _cut(self, cuts: list[tuple[int, int]], gone: list[int], leaving: bool) -> None:
        for name in ("cut_items", "cut_left_out") if leaving else ("cut_items",):
            self._statements.run(name, cuts=[*cuts, *((thread, 0) for thread in gone)])
        if cuts:
            self._statements.run("cut_threads", cuts=cuts)
        if gone:
            self._statements.run("delete_threads", threads=gone)

    def _note(self, threads: list[int], held: list[int]) -> None:
        """Pins are gone after a crash; what they held back is found by these notes at the next start."""
        self._statements.run("forget_held", threads=threads)
        if held:
            self._statements.run("note_held", threads=held)

    def resume(self) -> int:
        """Trims what the pins of an earlier process held back; how many threads that were."""
        held = {thread for (thread,) in self._statements.run("held")}
        self.trim(held)
        return len(held)
