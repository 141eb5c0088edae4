"""Events in the order in which they are made, with their numbers, and the items that they add up to.

Must not know what an item is made of, or why it is opened or done.
"""

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.engine.fold import Fold, FoldedItem
from antiphon.protocol.events import Event, item_event


class Ledger:
    """One response's events as they are made."""

    def __init__(self) -> None:
        self.fold = Fold()
        #: The number of the next event.
        self.number = 0
        self._events: list[Event] = []

    def replay(self, events: Sequence[Event]) -> None:
        """Takes the next events of a log as made."""
        for event in events:
            self.fold.apply(msgspec.json.decode(event.data))
        if events:
            self.number = events[-1].number + 1

    def emit(self, event: Event) -> None:
        """Takes an event that was made with ``number``."""
        self._events.append(event)
        self.number += 1

    def take(self) -> list[Event]:
        """What was made since it was last asked for."""
        events, self._events = self._events, []
        return events

    def open_item(self, item_type: str, item_id: str, fixed: Mapping[str, bytes]) -> FoldedItem:
        """A new item, told as added."""
        item = self.fold.add_item(item_type, item_id, fixed)
        self._tell("response.output_item.added", item, item.json("in_progress"))
        return item

    def done(self, item: FoldedItem, status: str) -> None:
        """The item is finished, told as done."""
        item.body = item.json(status)
        self._tell("response.output_item.done", item, item.body)

    def index(self, item: FoldedItem) -> int:
        """Its place in the output."""
        return self.fold.items.index(item)

    def find(self, item_id: str) -> FoldedItem:
        """The item with this id, which exists."""
        return next(item for item in self.fold.items if item.id == item_id)

    def _tell(self, event_type: str, item: FoldedItem, body: bytes) -> None:
        self.emit(item_event(event_type, self.number, self.index(item), body))
