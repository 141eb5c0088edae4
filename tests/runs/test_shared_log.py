"""A log that several follow: who is full is read ahead of, and the source waits when nobody can take more."""

from __future__ import annotations

import pytest
from tests.runs.stage import Follower

from antiphon.protocol.events import Event
from antiphon.runs.log import PIECE_EVENTS, SharedLog

SIZE = 100


class Told:
    """A log, its readers, and what its source was told last."""

    def __init__(self, limit: int, readers: int) -> None:
        self.log = SharedLog(limit)
        self.paused = False
        self.log.on_pressure = self._press
        self.readers = [Follower() for _ in range(readers)]
        self.published = 0
        for reader in self.readers:
            self.log.attach(reader)

    def _press(self, pressed: bool) -> None:
        self.paused = pressed

    def say(self, count: int = 1) -> None:
        for _ in range(count):
            self.log.publish([Event(self.published, "response.output_text.delta", b"x" * SIZE)])
            self.published += 1

    def fill(self, *readers: Follower) -> None:
        for reader in readers:
            reader.stall()
        self.log.adapt()

    def empty(self, reader: Follower) -> None:
        reader.go_on()
        self.log.adapt()

    def had(self) -> list[int]:
        for reader in self.readers:
            assert [event.number for event in reader.events] == list(range(len(reader.events)))
        return [len(reader.events) for reader in self.readers]


async def test_one_that_is_full_gets_the_rest_when_it_has_room() -> None:
    told = Told(limit=100 * SIZE, readers=2)
    slow, quick = told.readers
    told.say()
    told.fill(slow)
    told.say(80)
    assert (told.had(), told.paused) == ([1, 81], False)

    told.fill(quick)
    assert told.paused
    told.empty(quick)
    assert not told.paused
    told.log.end()
    assert (quick.ended.done(), slow.ended.done()) == (True, False)
    told.empty(slow)

    assert (told.had(), slow.ended.done()) == ([81, 81], True)


async def test_one_that_lacks_more_than_is_kept_is_waited_for() -> None:
    told = Told(limit=10 * SIZE, readers=2)
    slow, _ = told.readers
    told.fill(slow)
    told.say(10)
    assert (told.paused, told.log.joinable) == (False, True)
    told.say()
    assert (told.paused, told.log.joinable) == (True, False)

    told.empty(slow)
    assert (told.had(), told.paused, told.log._kept) == ([11, 11], False, [])
    told.say(50)

    assert (told.had(), told.log._kept) == ([61, 61], [])


@pytest.mark.parametrize("limit", [10, 10_000])
async def test_one_that_becomes_full_while_it_catches_up_stops_there(limit: int) -> None:
    told = Told(limit=limit * SIZE, readers=2)
    slow, _ = told.readers
    told.fill(slow)
    told.say(3 * PIECE_EVENTS)
    write = slow.write

    def filled(events: list[Event]) -> None:
        write(events)
        told.fill(slow)

    slow.write = filled  # type: ignore[method-assign]
    for times in (1, 2, 3):
        told.empty(slow)
        assert told.had()[0] == times * PIECE_EVENTS


async def test_whoever_joins_gets_all_though_another_is_full() -> None:
    told = Told(limit=100 * SIZE, readers=1)
    told.fill(told.readers[0])
    told.say(5)
    assert told.paused

    late = Follower()
    told.readers.append(late)
    told.log.attach(late)

    assert (told.had(), told.paused) == ([0, 5], False)
