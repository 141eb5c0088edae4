"""What background responses that still run have said: the fold of their durable logs, whoever works on them.

What was folded is kept for the next reading, so that a client that asks again and again costs what is new each time.
Must not know of tasks or readers.  Rules: docs/log.md, I5 and I7; reference 2.2.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from antiphon.engine.fold import Fold
from antiphon.engine.ports.stores import RunName, Store, Stored
from antiphon.protocol.events import Event
from antiphon.protocol.responses import Outcome

#: Pages of a log that one reading takes in; the response is then told as it stood there, and the next one goes on.
PAGES_MAX = 32
#: Events folded before others have a turn.
EVENTS_AT_ONCE = 256
#: Bytes of all logs whose folds are kept; those that were asked for last stay.
KEPT_BYTES_MAX = 32 << 20


class _Heard:
    """A log as far as it was read."""

    __slots__ = ("bytes", "fold", "last")

    def __init__(self) -> None:
        self.fold = Fold()
        self.last = -1
        self.bytes = 0

    def take(self, events: Sequence[Event]) -> None:
        """Events that another reading of the same log has brought already are passed over."""
        for event in events:
            if event.number > self.last:
                self.fold.apply(msgspec.json.decode(event.data))
                self.last = event.number
                self.bytes += len(event.data)


class Unfinished:
    """The background responses in a store that have not ended."""

    def __init__(self, store: Store, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._store = store
        self._kept_bytes_max = kept_bytes_max
        self._heard: OrderedDict[RunName, _Heard] = OrderedDict()

    async def read(self, name: RunName, begun: Stored) -> Stored:
        """``begun``, as its log tells it: finished items as they are, an open one in progress."""
        heard = self._heard.setdefault(name, _Heard())
        for _ in range(PAGES_MAX):
            events = await self._store.events(*name, heard.last)
            if not events:
                break
            for at in range(0, len(events), EVENTS_AT_ONCE):
                heard.take(events[at : at + EVENTS_AT_ONCE])
                await asyncio.sleep(0)
        self._keep(name)
        if heard.fold.snapshot is None:
            return begun
        return begun._replace(outcome=Outcome(heard.fold.snapshot["status"]), output=heard.fold.bodies())

    def forget(self, name: RunName) -> None:
        """The response has ended: it is read from its row."""
        self._heard.pop(name, None)

    def _keep(self, name: RunName) -> None:
        if name in self._heard:
            self._heard.move_to_end(name)
        total = sum(heard.bytes for heard in self._heard.values())
        while total > self._kept_bytes_max:
            total -= self._heard.popitem(last=False)[1].bytes
