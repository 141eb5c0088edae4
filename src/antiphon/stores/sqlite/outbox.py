"""Writes webhook endpoints, and what becomes of the outbox behind them.

Runs on the writer's thread, inside its transaction; what deliveries come to in a constant number of statements.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.webhooks import Delivery, Endpoint, Fate, Verdict
from antiphon.stores.rows import EXPIRE_BATCH
from antiphon.stores.sqlite.operations import (
    ChangeEndpoint,
    ClaimDeliveries,
    Configure,
    CreateEndpoint,
    DeleteEndpoint,
    EndpointOperation,
    ExpireOutbox,
    Settle,
)
from antiphon.stores.sqlite.statements import Row, Statements


class Outbox:
    """Writes the endpoints and the outbox of a group."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    # --- Endpoints ---

    def work(self, operations: Sequence[EndpointOperation]) -> list[Any]:
        """One after another: people change them, not requests."""
        return [self._do(operation) for operation in operations]

    def _do(self, operation: EndpointOperation) -> Any:
        match operation:
            case CreateEndpoint(project, endpoint, most):
                return bool(self._statements.run("create_endpoint", most=most, **_columns(project, endpoint)))
            case ChangeEndpoint():
                return self._change(operation)
            case DeleteEndpoint(project, id):
                return self._gone(self._statements.run("delete_endpoint", project=project, id=id))
            case Configure(endpoints):
                return self._configure(endpoints)

    def _change(self, operation: ChangeEndpoint) -> Row | None:
        changes = operation.changes
        before, after = changes.secrets or (None, None)
        rows = self._statements.run(
            "change_endpoint", project=operation.project, id=operation.id, name=changes.name, url=changes.url,
            event_types=None if changes.event_types is None else _listed(changes.event_types),
            before=before, after=after, updated=changes.updated_at,
        )  # fmt: skip
        return rows[0] if rows else None

    def _configure(self, endpoints: Sequence[tuple[str, Endpoint]]) -> None:
        for project, endpoint in endpoints:
            self._statements.run("configure_endpoint", **_columns(project, endpoint))
        known = msgspec.json.encode([endpoint.id for _, endpoint in endpoints]).decode()
        self._gone(self._statements.run("delete_other_static_endpoints", ids=known))

    def _gone(self, rows: list[Row]) -> bool:
        """What was to be delivered to them goes with them."""
        if rows:
            self._statements.run("delete_outbox_of_endpoints", endpoints=[row for (row,) in rows])
        return bool(rows)

    # --- Deliveries ---

    def claim(self, operations: Sequence[ClaimDeliveries]) -> list[list[Delivery]]:
        """One after another: a process asks once at a time."""
        return [self._claim(operation) for operation in operations]

    def _claim(self, operation: ClaimDeliveries) -> list[Delivery]:
        busy = msgspec.json.encode(operation.busy).decode()
        claimed = self._statements.run(
            "claim_outbox", most=operation.most, each=operation.each, seconds=operation.seconds, busy=busy
        )
        if not claimed:
            return []
        found = self._statements.run("deliveries", rows=[row for (row,) in claimed])
        return [Delivery(*row) for row in found]

    def settle(self, operations: Sequence[Settle]) -> list[None]:
        """What became of those of all processes."""
        verdicts = [verdict for operation in operations for verdict in operation.verdicts]
        delivered = [verdict.row for verdict in verdicts if verdict.fate is Fate.DELIVERED]
        if delivered:
            self._statements.run("delivered", rows=delivered)
        self._statements.rows("try_outbox_again", _guarded(verdicts, Fate.AGAIN))
        self._statements.rows("bury_outbox", _guarded(verdicts, Fate.DEAD))
        gone = [verdict for verdict in verdicts if verdict.fate is Fate.GONE]
        if gone:
            self._statements.run("disable_endpoints", rows=[verdict.row for verdict in gone])
            self._statements.rows("bury_outbox_of_disabled", [(verdict.row, verdict.seconds) for verdict in gone])
        return [None] * len(operations)

    def expire(self, operations: Sequence[ExpireOutbox]) -> list[None]:
        """Some of those that have been dead for long enough."""
        self._statements.run("expire_outbox", now=max(operation.now for operation in operations), limit=EXPIRE_BATCH)
        return [None] * len(operations)

    def let_go(self) -> None:
        """What an earlier process was trying is due at once."""
        self._statements.run("let_go_of_outbox")


def _guarded(verdicts: Sequence[Verdict], fate: Fate) -> list[Row]:
    return [(verdict.row, verdict.attempt, verdict.seconds) for verdict in verdicts if verdict.fate is fate]


def _columns(project: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "project": project,
        "id": endpoint.id,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": _listed(endpoint.event_types),
        "secrets": endpoint.secrets,
        "created": endpoint.created_at,
        "updated": endpoint.updated_at,
    }


def _listed(names: Sequence[str]) -> str:
    return msgspec.json.encode(names).decode()
