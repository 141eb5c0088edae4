"""The line of those who wait for a place: fair between projects, weighted by tier within each, first come first served.

Must not know what a place is.  Projects take turns, so that the number of requests of one is no harm to another; nor is
the tier that they claim.  Within a project tiers are served by stride scheduling: the higher ones first and oftener,
none never.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

P = TypeVar("P")
W = TypeVar("W", bound="Waiter[Any]")

#: Turns of a tier for each turn of the lowest; all others have ``WEIGHT``.
WEIGHTS = {"ultrafast": 16, "fast": 16, "priority": 16, "flex": 1}
WEIGHT = 4


class Waiter(Generic[P]):
    """One who waits: ``wants`` takes a place that is free for it, ``place`` is done when it has one.

    ``counted``: it is one of those of whom there may be only so many.  ``first``: it goes before those of its project
    and tier who are not.
    """

    def __init__(
        self,
        project: str,
        tier: str | None,
        wants: Callable[[], P | None],
        *,
        counted: bool = True,
        first: bool = False,
    ) -> None:
        self.project = project
        self.weight = WEIGHTS.get(tier or "", WEIGHT)
        self.wants = wants
        self.counted = counted
        self.first = first
        self.place: asyncio.Future[P] = asyncio.get_running_loop().create_future()


class _Lane(Generic[W]):
    """Those of one project who wait."""

    def __init__(self) -> None:
        self.tiers: dict[int, deque[W]] = {}
        #: When each tier's next turn is due, in turns of the lowest tier, and how late it is.
        self._due: dict[int, float] = {}
        self._now = 0.0

    def join(self, waiter: W) -> None:
        tier = self.tiers.setdefault(waiter.weight, deque())
        if not tier:
            self._due[waiter.weight] = self._now + 1 / waiter.weight
        if waiter.first:
            tier.insert(next((place for place, other in enumerate(tier) if not other.first), len(tier)), waiter)
        else:
            tier.append(waiter)

    def leave(self, waiter: W) -> bool:
        tier = self.tiers.get(waiter.weight)
        if tier is None or waiter not in tier:
            return False
        tier.remove(waiter)
        if not tier:
            del self.tiers[waiter.weight]
        return True

    def in_turn(self) -> Iterator[W]:
        """All of them, in the order in which they are to be served."""
        for weight in sorted(self.tiers, key=lambda weight: (self._due[weight], -weight)):
            yield from self.tiers[weight]

    def served(self, waiter: W) -> None:
        """Its tier had its turn."""
        self._now = max(self._now, self._due[waiter.weight])
        self._due[waiter.weight] += 1 / waiter.weight
        self.leave(waiter)


class Line(Generic[W]):
    """All who wait."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, _Lane[W]] = OrderedDict()
        self._length = 0
        #: How many are counted of those who wait.
        self.counted = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[W]:
        for lane in self._lanes.values():
            yield from lane.in_turn()

    def join(self, waiter: W) -> None:
        self._lanes.setdefault(waiter.project, _Lane()).join(waiter)
        self._length += 1
        self.counted += waiter.counted

    def leave(self, waiter: W) -> None:
        """Gives its place in the line up; it may have been served already."""
        lane = self._lanes.get(waiter.project)
        if lane is not None and lane.leave(waiter):
            self._left(waiter, lane)

    def serve(self) -> bool:
        """Gives a place to the next one who wants what there is; whether there was one."""
        for project, lane in self._lanes.items():
            for waiter in lane.in_turn():
                place = waiter.wants()
                if place is not None:
                    lane.served(waiter)
                    self._lanes.move_to_end(project)
                    self._left(waiter, lane)
                    waiter.place.set_result(place)
                    return True
        return False

    def _left(self, waiter: W, lane: _Lane[W]) -> None:
        self._length -= 1
        self.counted -= waiter.counted
        if not lane.tiers:
            del self._lanes[waiter.project]
