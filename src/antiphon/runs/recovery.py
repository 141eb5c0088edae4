"""What a process does besides its runs: offers those that an earlier one left, and tidies the store.

Must not know of tasks or readers.
"""

import asyncio
import logging

from antiphon.engine.coordination import Coordinator, Offer
from antiphon.engine.ports.stores import RunName, Store, StoreError
from antiphon.engine.ports.world import Clock
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import reread

logger = logging.getLogger("antiphon.runs")

#: Logs that are packed in one go.
COMPACTED_AT_ONCE = 16
#: Between two looks for runs that the bus has lost, as multiples of what the last one took.
PAUSES = 10.0


async def recover(store: Store, coordinator: Coordinator) -> int:
    """Offers every unfinished run that nobody works on, as far as the coordinator knows; how many there are.

    Raises what the store raises when they cannot be listed.
    """
    left = await coordinator.missing(await store.unfinished())
    for run in left:
        await coordinator.submit(await _offer(store, run) if coordinator.shared else Offer(run))
    if left:
        logger.info("%d unfinished background runs are taken up", len(left))
    return len(left)


async def _offer(store: Store, run: RunName) -> Offer:
    """What the run's request says of who may work on it; anybody where it cannot be read."""
    stored = await store.read(*run)
    try:
        request = None if stored is None else reread(stored.request, stored.shell, streamed=stored.streamed)
    except (ApiError, ValueError):
        request = None
    return Offer(run) if request is None else Offer(run, request.model or "", request.service_tier)


async def watch(store: Store, coordinator: Coordinator, every_seconds: float) -> None:
    """Offers what the bus has lost, again and again, until cancelled; long looks make long pauses."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await recover(store, coordinator)
        except (StoreError, ApiError, OSError) as error:
            logger.warning("unfinished background runs could not be listed: %s", error)
        await asyncio.sleep(max(every_seconds, PAUSES * (loop.time() - began)))


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
