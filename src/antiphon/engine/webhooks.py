"""Webhook endpoints, what is still to be delivered to them, and the seam where both are kept.

A row of the outbox is written in the transaction that ends a background run, for each endpoint of its project that
asked for its event.  It goes when it was delivered; until then processes claim it, each for a while, by the store's
clock.
Must not know how anything is sent.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Endpoint(NamedTuple):
    """A webhook endpoint; ``secrets`` is sealed.  ``disabled_at``: when it said that it is gone, in seconds."""

    id: str
    name: str
    url: str
    event_types: tuple[str, ...]
    secrets: str
    created_at: int
    updated_at: int
    disabled_at: int | None = None


class Changes(NamedTuple):
    """What is to be changed of an endpoint, None for what stays.

    ``secrets``: those that are there, and those that take their place; another change that came first refuses it.
    """

    updated_at: int
    name: str | None = None
    url: str | None = None
    event_types: tuple[str, ...] | None = None
    secrets: tuple[str, str] | None = None


class Delivery(NamedTuple):
    """A row of the outbox that the caller has claimed: an event, and the endpoint that is to hear of it.

    ``attempt`` counts from 1.  ``age``: seconds since the event.  ``static``: the endpoint is the operator's.
    """

    row: int
    attempt: int
    age: float
    project: str
    endpoint: str
    static: bool
    url: str
    secrets: str
    response: str
    type: str
    created_at: int


class Fate(enum.Enum):
    """What becomes of a row of the outbox."""

    DELIVERED = "it goes"
    AGAIN = "it is tried again"
    DEAD = "it is not tried any more, and kept for a while"
    GONE = "likewise, with all others of its endpoint, which is disabled"


class Verdict(NamedTuple):
    """How an attempt went; ``seconds``: until the next one, or for which what is dead is kept.

    A row that was claimed by another since is only touched by a delivery.
    """

    row: int
    attempt: int
    fate: Fate
    seconds: float = 0.0


class Undelivered(Exception):
    """A receiver could not be reached; the message is one sentence that clients may see."""


class Post(Protocol):
    """The way out to receivers."""

    def check(self, url: str) -> None:
        """Raises ``Undelivered`` for a URL that is never posted to."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, static: bool) -> int:
        """The status of the reply, whose body nobody reads; redirects are not followed.  Raises ``Undelivered``.

        ``static``: the operator has named the URL, which may then be private.
        """


class Webhooks(Protocol):
    """Where endpoints and the outbox are kept; all calls may raise what those of ``ports.Store`` may.

    What the operator has configured is not there for calls that name a project.
    """

    async def create(self, project: str, endpoint: Endpoint, most: int) -> bool:
        """Writes a new endpoint; False where the project has so many already."""

    async def read(self, project: str, endpoint: str) -> Endpoint | None:
        """An endpoint, or None."""

    async def all(self, project: str) -> list[Endpoint]:
        """The endpoints of a project, newest first."""

    async def change(self, project: str, endpoint: str, changes: Changes) -> Endpoint | None:
        """The endpoint after the changes, enabled; None where there is none, or its secrets are others by now."""

    async def delete(self, project: str, endpoint: str) -> bool:
        """Removes an endpoint and what was still to be delivered to it."""

    async def configure(self, endpoints: Sequence[tuple[str, Endpoint]]) -> None:
        """The operator's endpoints, each with its project: they take the place of those of earlier starts."""

    async def projects(self) -> frozenset[str]:
        """Those with an endpoint that is not disabled."""

    async def claim(self, most: int, each: int, seconds: float, busy: Sequence[str]) -> list[Delivery]:
        """Deliveries that are due: at most so many, of ``each`` endpoint so many, none of ``busy`` ones.

        They are the caller's for so long; then they are due again.  First tries come first.
        """

    async def settle(self, verdicts: Sequence[Verdict]) -> None:
        """What became of deliveries."""
