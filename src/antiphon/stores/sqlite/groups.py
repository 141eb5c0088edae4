"""A group of operations as a constant number of statements.

Runs on the writer's thread, inside its transaction.  Must not know of loops, futures or HTTP.
Rules: design section 3 (Data).
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

from antiphon.stores.sqlite.background import Background
from antiphon.stores.sqlite.conversing import Conversing
from antiphon.stores.sqlite.keying import Keying
from antiphon.stores.sqlite.lines import Lines
from antiphon.stores.sqlite.operations import (
    BindKey,
    ClaimDeliveries,
    ConversationOperation,
    Converse,
    Delete,
    EndpointOperation,
    ExpireKeys,
    ExpireOutbox,
    FreeKeys,
    HoldKeys,
    Keep,
    Probe,
    Release,
    Replace,
    RunOperation,
    Save,
    Settle,
)
from antiphon.stores.sqlite.outbox import Outbox
from antiphon.stores.sqlite.pins import Pins
from antiphon.stores.sqlite.removing import Removing
from antiphon.stores.sqlite.saving import Blobs, Saving
from antiphon.stores.sqlite.statements import Statements


class Groups:
    """Executes groups: first what is written, then what is removed, each kind of operation in one go."""

    def __init__(self, statements: Statements, pins: Pins, segments_max: int) -> None:
        self._statements = statements
        self._blobs = Blobs(statements)
        lines = Lines(statements, segments_max)
        self._saving = Saving(statements, self._blobs, lines)
        self._background = Background(statements)
        self._removing = Removing(statements, self._blobs, pins)
        self._conversing = Conversing(statements, lines, self._removing)
        self._keying = Keying(statements)
        self._outbox = Outbox(statements)
        self._steps: list[tuple[type | tuple[type, ...], Callable[[Sequence[Any]], Sequence[Any]]]] = [
            (Save, self._saving.save),
            (get_args(RunOperation), self._background.work),
            (Converse, self._conversing.create),
            (get_args(ConversationOperation), self._conversing.work),
            (Replace, self._background.replace),
            ((Delete, Release), self._removing.remove),
            (BindKey, self._keying.bind),
            (HoldKeys, self._keying.hold),
            (FreeKeys, self._keying.free),
            (ExpireKeys, self._keying.expire),
            (get_args(EndpointOperation), self._outbox.work),
            (Settle, self._outbox.settle),
            (ClaimDeliveries, self._outbox.claim),
            (ExpireOutbox, self._outbox.expire),
            (Keep, self._keep),
            (Probe, self._probe),
        ]

    def execute(self, operations: Sequence[Any]) -> list[Any]:
        """All operations of a group, inside the writer's transaction; the results in the same order."""
        results: list[Any] = [None] * len(operations)
        for kinds, step in self._steps:
            indexes = [index for index, operation in enumerate(operations) if isinstance(operation, kinds)]
            if indexes:
                for index, result in zip(indexes, step([operations[index] for index in indexes]), strict=True):
                    results[index] = result
        return results

    def forget(self) -> None:
        """What was executed is rolled back.  Numbers of rows go on where they were: gaps among them mean nothing."""
        self._blobs.forget()

    def _keep(self, operations: Sequence[Keep]) -> list[bytes]:
        kept = []
        for operation in operations:
            self._statements.run("keep_secret", key=operation.name, bytes=operation.secret)
            kept.append(bytes(self._statements.run("secret", key=operation.name)[0][0]))
        return kept

    def _probe(self, operations: Sequence[Probe]) -> list[None]:
        self._statements.touch()
        return [None] * len(operations)

    def resume(self) -> int:
        """Removes what an earlier process had to leave, and ends its holds; inside a transaction."""
        self._conversing.free()
        self._keying.let_go()
        self._outbox.let_go()
        return self._removing.resume()
