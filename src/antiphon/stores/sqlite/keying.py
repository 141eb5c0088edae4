"""Writes idempotency keys: binds them, says who holds them, frees and expires them.

Runs on the writer's thread, inside its transaction, each kind of operation of a group in a constant number of
statements.
"""

from collections.abc import Sequence
from typing import Any

from antiphon.engine.idempotency import Bound, Standing
from antiphon.stores.rows import EXPIRE_BATCH
from antiphon.stores.sqlite.operations import BindKey, ExpireKeys, FreeKeys, HoldKeys
from antiphon.stores.sqlite.statements import Row, Statements


class _Key:
    """A key's row as the group sees it."""

    __slots__ = ("digest", "held", "holder", "response", "stored")

    def __init__(self, digest: bytes, response: str, holder: str, held: object, stored: object) -> None:
        self.digest, self.response, self.holder = digest, response, holder
        self.held, self.stored = bool(held), bool(stored)


class Keying:
    """Writes the keys of a group."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def bind(self, operations: Sequence[BindKey]) -> list[Bound | None]:
        """In the order in which they were submitted; None for a key that another request is bound to."""
        names = list(dict.fromkeys(operation.claim[:2] for operation in operations))
        found = {(project, key): _Key(*rest) for project, key, *rest in self._statements.rows("keys", names)}
        bound: dict[tuple[str, str], Row] = {}
        results = [_bind(operation, found, bound) for operation in operations]
        self._statements.rows("bind_keys", list(bound.values()))
        return results

    def hold(self, operations: Sequence[HoldKeys]) -> list[None]:
        """Those that other attempts hold by now are passed over."""
        rows: list[Any] = [
            (claim.project, claim.key, claim.attempt, operation.seconds)
            for operation in operations
            for claim in operation.claims
        ]
        self._statements.rows("hold_keys", rows)
        return [None] * len(operations)

    def free(self, operations: Sequence[FreeKeys]) -> list[None]:
        """Likewise."""
        rows = [(claim.project, claim.key, claim.attempt) for operation in operations for claim in operation.claims]
        self._statements.rows("free_keys", rows)
        return [None] * len(operations)

    def expire(self, operations: Sequence[ExpireKeys]) -> list[None]:
        """Some of those that are past their time."""
        self._statements.run("expire_keys", now=max(operation.now for operation in operations), limit=EXPIRE_BATCH)
        return [None] * len(operations)

    def let_go(self) -> None:
        """Ends the holds of an earlier process."""
        self._statements.run("let_go_of_keys")


def _bind(operation: BindKey, found: dict[tuple[str, str], _Key], bound: dict[tuple[str, str], Row]) -> Bound | None:
    """Notes in ``bound`` what is to be written of it."""
    project, name, digest, attempt = operation.claim
    key = found.get((project, name))
    if key is None:
        key = found[project, name] = _Key(digest, attempt, attempt, held=False, stored=False)
    if key.digest != digest:
        return None
    if key.stored:
        return Bound(key.response, Standing.STORED)
    if key.held and key.holder != attempt:
        return Bound(key.response, Standing.RUNNING)
    key.held, key.holder = True, attempt
    bound[project, name] = (project, name, digest, key.response, attempt, operation.seconds, operation.expires_at)
    return Bound(key.response, Standing.OURS)
