"""What a process does besides its runs: offers those that an earlier one left, and tidies the store.

Must not know of tasks or readers.
"""

import asyncio
import logging

from antiphon.engine.coordination import Coordinator
from antiphon.engine.ports.stores import Store, StoreError
from antiphon.engine.ports.world import Clock
from antiphon.protocol.errors import ApiError

logger = logging.getLogger("antiphon.runs")

#: Logs that are packed in one go.
COMPACTED_AT_ONCE = 16


async def recover(store: Store, coordinator: Coordinator) -> int:
    """Offers every run that an earlier process left unfinished; how many there are.

    Raises what the store raises when they cannot be listed.
    """
    left = await store.unfinished()
    for run in left:
        await coordinator.submit(run)
    if left:
        logger.info("%d unfinished background runs are taken up", len(left))
    return len(left)


async def sweep(store: Store, clock: Clock, every_seconds: float) -> None:
    """Removes expired responses and packs the logs of ended runs, again and again, until cancelled."""
    while True:
        try:
            gone = await store.expire(int(clock.now()))
            if gone:
                logger.info("removed %d expired responses", gone)
            while await store.compact(COMPACTED_AT_ONCE):
                pass
        except (StoreError, ApiError, OSError) as error:  # the store may be back the next time
            logger.warning("the store could not be tidied: %s", error)
        await asyncio.sleep(every_seconds)
