"""The seam behind which processes agree on who works on which background run.

Must not know how word travels between them.
"""

from collections.abc import Callable
from typing import Protocol

from antiphon.engine.ports.stores import RunName


class Coordinator(Protocol):
    """Says which process works on which background run, and carries word between processes.

    It is never the truth: the store's fence decides who may write, so a word that is lost, doubled or late costs time
    and nothing else (docs/log.md, I2).
    """

    async def submit(self, run: RunName) -> None:
        """The run is durable and nobody works on it: somebody is to claim it."""

    async def claim(self) -> RunName:
        """The next run that this process is to take; waits until there is one."""

    async def done(self, run: RunName) -> None:
        """What was claimed has ended, or is not this process's any more."""

    async def lost(self, run: RunName) -> None:
        """The store has refused this process as the owner of the run: somebody is to see to it that it goes on."""

    def on_cancel(self, told: Callable[[RunName], None]) -> None:
        """Who in this process is told of a run that is to be cancelled."""

    async def cancel(self, run: RunName) -> None:
        """Tells whoever works on the run to end it."""

    async def news(self, run: RunName) -> None:
        """Returns when the log of a run that another process works on may have grown; never later than a while."""
