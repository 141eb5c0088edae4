"""Pins: the ends of contexts that somebody is about to continue.

A removal leaves what is pinned and notes the thread; whoever lets go of a pin on it hears that it has to be trimmed.
Taken by the loop, looked at by the writer's thread.  Must not know of SQL.
"""

import threading
from collections import Counter

from antiphon.engine.ports.stores import Parent


class Pins:
    """How much of which thread is held, and which threads a removal had to leave."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, Counter[int]] = {}
        self._held: set[int] = set()

    def __len__(self) -> int:
        with self._lock:
            return sum(ends.total() for ends in self._ends.values())

    def add(self, parent: Parent) -> None:
        """Everything below ``parent.upto`` stays until it is dropped as often as it was added."""
        with self._lock:
            self._ends.setdefault(parent.thread, Counter())[parent.upto] += 1

    def drop(self, parent: Parent) -> bool:
        """Whether the thread is to be trimmed now."""
        with self._lock:
            ends = self._ends[parent.thread]
            ends[parent.upto] -= 1
            if not ends[parent.upto]:
                del ends[parent.upto]
            if not ends:
                del self._ends[parent.thread]
            held = parent.thread in self._held
            self._held.discard(parent.thread)
            return held

    def kept(self, thread: int, needed: int) -> int:
        """Up to which position pins hold the thread, -1 for none; above ``needed`` the thread is noted."""
        with self._lock:
            pinned = max(self._ends.get(thread, ()), default=-1)
            if pinned > needed:
                self._held.add(thread)
            return pinned

    def holds(self, thread: int, position: int) -> bool:
        """Whether a pin goes beyond a position of the thread; if so the thread is noted."""
        with self._lock:
            held = max(self._ends.get(thread, ()), default=-1) > position
            if held:
                self._held.add(thread)
            return held
