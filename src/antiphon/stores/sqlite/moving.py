"""The conversations that responses hold, and where they go on once these have ended.

Runs on the writer's thread, inside its transaction.  Must not know how responses or items are written.
"""

from collections.abc import Iterable, Sequence

from antiphon.engine.ports.stores import Record, RunName
from antiphon.stores.rows import CONTINUABLE
from antiphon.stores.sqlite.statements import Row, Statements


class Moving:
    """Conversations that some of these responses hold; they go on behind those that ended well.

    One that leaves a thread leaves it to what stands there behind its end, with which the thread is trimmed.
    """

    def __init__(self, statements: Statements, names: Sequence[RunName]) -> None:
        self._statements = statements
        found = statements.rows("held_conversations", list(dict.fromkeys(names)))
        self._held = {RunName(project, holder): rest for project, holder, *rest in found}
        self._moves: list[Row] = []

    def holds(self, name: RunName) -> bool:
        """Whether the response holds a conversation."""
        return name in self._held

    def move(self, record: Record, thread: int, upto: int) -> None:
        """The response has ended, and its items end at ``upto`` of ``thread``."""
        name = RunName(record.project, record.shell.id)
        if record.outcome.status not in CONTINUABLE or name not in self._held:
            return
        self._moves.append((self._held.pop(name)[0], thread, upto))

    def free(self, names: Iterable[RunName]) -> None:
        """The responses have ended; what they hold still stays where it is."""
        for name in names:
            if name in self._held:
                self._moves.append(tuple(self._held.pop(name)))

    def write(self) -> None:
        """Ends the holds."""
        self._statements.rows("move_conversations", self._moves)
