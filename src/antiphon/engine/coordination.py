"""The seam behind which processes agree on who works on which background run.

Must not know how word travels between them.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from antiphon.engine.ports.stores import RunName
from antiphon.protocol.events import Event


class Offer(NamedTuple):
    """A run that somebody is to work on.

    ``model`` and ``tier`` are what its request names; an empty ``model`` is served by everybody.  ``waited``: seconds
    since it was first offered.
    """

    run: RunName
    model: str = ""
    tier: str | None = None
    waited: float = 0.0


class News(Protocol):
    """What one reader hears of a run that another process works on."""

    async def next(self, after: int) -> list[Event]:
        """Durable events that follow number ``after`` without gap.

        None after a while, or where some were missed: then the store is to be asked.
        """

    async def close(self) -> None:
        """The reader has heard enough."""


def following(events: Sequence[Event], after: int) -> list[Event]:
    """Those that go on behind a number; none where the next is not among them."""
    found: list[Event] = []
    for event in events:
        if event.number == after + 1 + len(found):
            found.append(event)
        elif event.number > after + len(found):
            return []
    return found


class Words(Protocol):
    """Who in a process is told what others do with runs."""

    def cancelled(self, run: RunName) -> None:
        """The run is to be ended by whoever works on it."""

    def taken(self, run: RunName, fence: int) -> None:
        """Somebody has claimed the run, and is its owner with this fence."""


class Coordinator(Protocol):
    """Says which process works on which background run, and carries word between processes.

    It is never the truth: the store's fence decides who may write, so a word that is lost, doubled or late costs time
    and nothing else (docs/log.md, I2).
    """

    #: Whether a run that begins is offered to all processes.  Otherwise whoever begins it works on it.
    shared: bool

    def heed(self, words: Words) -> None:
        """Who in this process is told."""

    async def start(self) -> None:
        """Listens from here on.  Returns although nobody can be reached yet."""

    async def retire(self) -> None:
        """Claims nothing more; what was offered to this process and not claimed goes to others."""

    async def close(self) -> None:
        """Gives back what is still claimed."""

    async def missing(self, runs: Sequence[RunName]) -> list[RunName]:
        """Those of these unfinished runs that are neither offered nor worked on, as far as can be known."""

    # --- Who works on a run ---

    async def submit(self, offer: Offer) -> None:
        """The run is durable and nobody works on it: somebody is to claim it."""

    async def claim(self) -> Offer:
        """The next run that this process is to take; waits until there is one, and room for it."""

    async def done(self, run: RunName) -> None:
        """What was claimed has ended, and its end is durable."""

    async def give_back(self, run: RunName) -> None:
        """This process does not work on it any more: somebody else is to take it at once."""

    async def decline(self, run: RunName) -> None:
        """It cannot be taken here or now: somebody else is to be asked, or this process later."""

    async def lost(self, run: RunName) -> None:
        """The store has refused this process as the owner of the run: somebody is to see to it that it goes on."""

    # --- Word of it ---

    async def cancel(self, run: RunName) -> None:
        """Tells whoever works on the run to end it."""

    async def taken(self, run: RunName, fence: int) -> None:
        """Tells whoever worked on the run that it has another owner."""

    def grown(self, run: RunName, events: list[Event]) -> None:
        """Tells readers elsewhere of events that are durable now.  Never waits."""

    async def news(self, run: RunName) -> News:
        """What is told of the run from here on; what was told before is in the store."""
