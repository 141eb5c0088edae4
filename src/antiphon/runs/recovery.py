"""Settles what an earlier process left behind, and removes what is past its time.

A background run that was cut by a restart becomes ``failed``; it never stays in progress.
Must not know of tasks or readers.
"""

import asyncio
import logging

import msgspec

from antiphon.engine.draft import Draft
from antiphon.engine.ports import Batch, Clock, Record, Store, Unfinished
from antiphon.protocol.errors import ApiError
from antiphon.protocol.responses import Outcome, ResponseError

logger = logging.getLogger("antiphon.runs")

_MESSAGE = "The server was restarted while it was working on this response."


async def recover(store: Store, clock: Clock, keep_seconds: int, unstored_seconds: int = 600) -> int:
    """Ends every run that has no owner any more; how many there were.

    ``unstored_seconds``: how long those are kept that were created with ``store: false``.
    """
    left = await store.unfinished()
    for run in left:
        await _fail(store, clock, run, keep_seconds, unstored_seconds)
    return len(left)


class _Echo(msgspec.Struct):
    store: bool


async def _fail(store: Store, clock: Clock, run: Unfinished, keep_seconds: int, unstored_seconds: int) -> None:
    stored = await store.read(run.project, run.response)
    if stored is None:
        return
    draft = Draft.resume(stored.shell, clock, await store.events(run.project, run.response, -1))
    kept = msgspec.json.decode(stored.snapshot(), type=_Echo).store
    outcome = Outcome("failed", error=ResponseError("server_error", _MESSAGE))
    events = [*draft.open(), *draft.abandon()]
    terminal, _ = draft.end(outcome)
    record = Record(
        project=run.project,
        shell=stored.shell,
        outcome=outcome,
        parent=None,
        input=[],
        output=draft.output(),
        request=stored.request,
        streamed=stored.streamed,
        expires_at=int(clock.now()) + (keep_seconds if kept else unstored_seconds),
        stored=kept,
    )
    await store.finish(record, Batch(run.project, run.response, [*events, terminal]))
    logger.warning("response %s was cut by a restart and is now failed", run.response)


async def sweep(store: Store, clock: Clock, every_seconds: float) -> None:
    """Removes expired responses, again and again, until cancelled."""
    while True:
        try:
            gone = await store.expire(int(clock.now()))
            if gone:
                logger.info("removed %d expired responses", gone)
        except (ApiError, OSError) as error:  # the store may be back the next time
            logger.warning("expired responses could not be removed: %s", error)
        await asyncio.sleep(every_seconds)
