"""Settles what an earlier process left behind, and removes what is past its time.

A background run that was cut by a restart becomes ``failed``; it never stays in progress.  Each is settled on its own:
one that cannot even be read must not keep the server from starting.
Must not know of tasks or readers.
"""

import asyncio
import logging

import msgspec

from antiphon.engine.draft import Draft
from antiphon.engine.ports import Batch, Clock, Record, Store, StoreError, Unfinished
from antiphon.protocol.errors import ApiError
from antiphon.protocol.responses import Outcome, ResponseError, Shell
from antiphon.runs.log import DurableLog

logger = logging.getLogger("antiphon.runs")

_MESSAGE = "The server was restarted while it was working on this response."


async def recover(store: Store, clock: Clock, keep_seconds: int, unstored_seconds: int = 600) -> int:
    """Ends every run that has no owner any more; how many there were.  Raises when they cannot be listed.

    ``unstored_seconds``: how long those are kept that were created with ``store: false``.
    """
    left = await store.unfinished()
    for run in left:
        await _settle(store, clock, run, keep_seconds, unstored_seconds)
    return len(left)


async def _settle(store: Store, clock: Clock, run: Unfinished, keep_seconds: int, unstored_seconds: int) -> None:
    """The boundary: whatever is wrong with one run stays with it."""
    try:
        return await _fail(store, clock, run, keep_seconds, unstored_seconds)
    except Exception:
        logger.exception("response %s was cut by a restart and cannot be read; it ends without output", run.response)
    try:
        await _fail_unread(store, clock, run, keep_seconds)
    except Exception:
        logger.exception("response %s could not be ended, the next start tries it again", run.response)


async def _fail_unread(store: Store, clock: Clock, run: Unfinished, keep_seconds: int) -> None:
    """Ends a run of which only the name is known; its log stays without a terminal event."""
    record = Record(
        project=run.project,
        shell=Shell(run.response, 0, True, b"", {}),
        outcome=Outcome("failed", error=ResponseError("server_error", _MESSAGE)),
        parent=None,
        input=[],
        output=[],
        request=b"{}",
        streamed=False,
        expires_at=int(clock.now()) + keep_seconds,
    )
    await store.finish(record, Batch(run.project, run.response, []))


class _Echo(msgspec.Struct):
    store: bool


async def _fail(store: Store, clock: Clock, run: Unfinished, keep_seconds: int, unstored_seconds: int) -> None:
    stored = await store.read(run.project, run.response)
    if stored is None:
        return
    draft = await _draft(store, clock, run, stored.shell)
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
    log = DurableLog(run.project, run.response, lambda _: None)
    log.publish([*events, terminal])
    *batches, last = log.take_all()
    if batches:
        await store.append(batches)
    await store.finish(record, last)
    logger.warning("response %s was cut by a restart and is now failed", run.response)


async def _draft(store: Store, clock: Clock, run: Unfinished, shell: Shell) -> Draft:
    """The run as it stood, from its log page by page."""
    draft = Draft(shell, clock)
    after = -1
    while events := await store.events(run.project, run.response, after):
        draft.replay(events)
        after = events[-1].number
    draft.reopen()
    return draft


async def sweep(store: Store, clock: Clock, every_seconds: float) -> None:
    """Removes expired responses, again and again, until cancelled."""
    while True:
        try:
            gone = await store.expire(int(clock.now()))
            if gone:
                logger.info("removed %d expired responses", gone)
        except (StoreError, ApiError, OSError) as error:  # the store may be back the next time
            logger.warning("expired responses could not be removed: %s", error)
        await asyncio.sleep(every_seconds)
