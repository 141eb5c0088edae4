"""How many background runs of one project are worked on at once, by all nodes together.

A run is claimed first and counted then: of two that come at once both may be put back and tried again a little later,
but never are more worked on than the cap says.  Must not know how runs are claimed.
"""

import asyncio
import logging

from antiphon.engine.ports.stores import Store
from antiphon.runs.flushing import PASSING
from antiphon.runs.run import Run

logger = logging.getLogger("antiphon.runs")

#: How long a project that was full is not asked for again.
FULL_SECONDS = 0.5
#: Projects of which this is remembered.
PROJECTS_MAX = 10_000


class Caps:
    """``most`` is every project's cap; 0 for none."""

    def __init__(self, store: Store, most: int) -> None:
        self._store = store
        self._most = most
        self._full: dict[str, float] = {}

    def is_full(self, project: str) -> bool:
        """Whether that was so a moment ago."""
        return self._full.get(project, 0.0) > asyncio.get_running_loop().time()

    async def admits(self, run: Run) -> bool:
        """Whether a run that was just claimed may be worked on; one that had an owner was counted with it before."""
        if not self._most or run.taken is None or run.taken.attempt:
            return True
        try:
            if await self._store.working(run.name.project) <= self._most:
                return True
        except PASSING as error:
            logger.warning("runs of a project could not be counted: %s", error)
            return True
        if len(self._full) >= PROJECTS_MAX:
            self._full.clear()
        self._full[run.name.project] = asyncio.get_running_loop().time() + FULL_SECONDS
        return False
