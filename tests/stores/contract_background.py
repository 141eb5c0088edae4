"""The contract of background runs with one owner: their logs, their ends, their journals, and what becomes of a log.

Who owns a run, and what others hear, is ``contract_owners``.  Invariants: docs/log.md.
"""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from tests.stores.world import CALL, LARGE, Stores, World, batch, event, item, items, record

from antiphon.engine.ports.stores import FIRST_FENCE, Batch, Disowned, RunName, Store
from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult
from antiphon.protocol.events import Event, item_event, lifecycle
from antiphon.protocol.responses import Outcome
from antiphon.runs.unfinished import Unfinished
from antiphon.stores.rows import EVENT_BATCHES_MAX, EVENT_BYTES_MAX

RESULT = ToolResult({"results": [{"née": 1.5}], "nothing": None}, "It is so.", completed=False)


class BackgroundContract:
    async def test_from_queued_to_its_end(self, store: Store, world: World) -> None:
        await world.say(turn="before")
        begun = await world.begin("before", turn="run", large=LARGE)
        queued = await store.read("p", "run")
        assert queued is not None
        assert (queued.outcome.status, queued.shell.background, queued.output) == ("queued", True, [])
        assert queued.shell.large == LARGE
        assert await world.inputs("run") == ["before?", "before!", "run?"]
        assert await store.unfinished() == [RunName("p", "run")]

        assert await world.append("run", 0, 1)
        assert await world.append("run", 2)
        assert await world.finish(begun, first_number=3)

        assert await world.numbers("run") == [0, 1, 2, 3]
        assert await world.outputs("run") == ["run!"]
        assert await store.unfinished() == []
        assert await world.seen("run") == ["before?", "before!", "run?", "run!"]
        await world.say("run", turn="after")
        assert await world.seen("after") == ["before?", "before!", "run?", "run!", "after?", "after!"]

    async def test_events_come_back_as_they_were(self, store: Store, world: World) -> None:
        await world.begin(turn="run")
        written = [event(0, "response.created", b'"response":{\n  "a": [1,\r\n\t2]}'), event(1), event(2)]
        assert await store.append([Batch("p", "run", FIRST_FENCE, written)]) == [True]

        for after in (-1, 0, 1, 2, 7):
            assert await store.events("p", "run", after) == written[after + 1 :]

    async def test_a_run_in_progress_is_the_fold_of_its_log(self, store: Store, world: World) -> None:
        begun = await world.begin(turn="run")
        queued = await store.read("p", "run")
        assert queued is not None
        unfinished = Unfinished(store)
        assert await unfinished.read(RunName("p", "run"), queued) == queued

        shell, message = begun.shell, b'{"id":"m","type":"message","status":"%b","role":"assistant","content":[%b]}'
        part = b'"item_id":"m","output_index":0,"content_index":0,'
        written = [
            lifecycle("response.in_progress", 0, shell.snapshot(Outcome("in_progress"))),
            item_event("response.output_item.added", 1, 0, message % (b"in_progress", b"")),
            event(2, "response.content_part.added", part + b'"part":{"type":"output_text","text":""}'),
            event(3, "response.output_text.delta", part + b'"delta":"n\xc3\xa9"'),
            event(4, "response.output_text.delta", part + b'"delta":"e"'),
        ]
        for upto, text in ((4, "né"), (5, "née")):
            assert await store.append([Batch("p", "run", FIRST_FENCE, written[:upto])]) == [True]
            told = await unfinished.read(RunName("p", "run"), queued)
            assert told.outcome == Outcome("in_progress")
            assert [json.loads(body)["content"][0]["text"] for body in told.output] == [text]

    async def test_a_long_log_comes_in_pages(self, store: Store, world: World) -> None:
        await world.begin(turn="run")
        large = b'"delta":"%b"' % (b"x" * (EVENT_BYTES_MAX // 2))
        written = [event(number, rest=large) for number in range(6)]
        for first in (0, 2, 3):  # batches of two, one and three events
            await store.append([Batch("p", "run", FIRST_FENCE, written[first : {0: 2, 2: 3, 3: 6}[first]])])
        more = range(6, 6 + 2 * EVENT_BATCHES_MAX)
        assert await store.append([batch("run", number) for number in more]) == [True] * len(more)

        pages = []
        after = -1
        while page := await store.events("p", "run", after):
            pages.append([event.number for event in page])
            after = page[-1].number

        assert pages[:2] == [[0, 1], [2, 3, 4, 5]]
        assert [len(page) for page in pages[2:]] == [EVENT_BATCHES_MAX] * 2
        assert [number for page in pages for number in page] == list(range(6 + 2 * EVENT_BATCHES_MAX))
        assert await world.numbers("run", 3) == [4, 5]

    async def test_numbers_have_no_gap_whoever_writes_at_once(self, store: Store, world: World) -> None:
        """I1: several batches of a run in one call, and several calls at once, go on behind one another."""
        runs = [await world.begin(turn=f"r{index}") for index in range(20)]
        names = [run.shell.id for run in runs]
        ticks = [
            store.append([batch(name, 4 * tick + half, 4 * tick + half + 1) for half in (0, 2) for name in names])
            for tick in range(4)
        ]

        written = await asyncio.gather(*ticks, *(world.finish(run, first_number=16) for run in runs))

        assert written == [[True] * 40] * 4 + [True] * 20
        for name in names:
            assert await world.numbers(name) == list(range(17))
            assert await world.outputs(name) == [f"{name}!"]

    async def test_what_is_durable_already_is_not_written_twice(self, store: Store, world: World) -> None:
        """I3: a repeated batch and one that overlaps; the bytes that were there first stay."""
        begun = await world.begin(turn="run")
        assert await world.append("run", 0, 1)

        other = [event(number, rest=b'"delta":"other"') for number in range(4)]
        for numbers in ([0, 1], [1], [0], [0, 1, 2], [1, 2], [2, 3], [0, 1, 2, 3], []):
            repeated = Batch("p", "run", FIRST_FENCE, [other[number] for number in numbers])
            assert await store.append([repeated]) == [True]
        assert await store.append([batch("run", 3), batch("run", 2, 3, 4), batch("run", 4, 5)]) == [True] * 3

        expected = [event(0), event(1), *other[2:], event(4), event(5)]
        assert await world.log("run") == expected
        last = [*expected[4:], event(6, "response.completed")]
        ended = record("run", output=items("run!"), background=True)
        assert await store.finish(ended, FIRST_FENCE, [Batch("p", "run", FIRST_FENCE, last), batch("run", 6)])
        assert await world.log("run") == [*expected, last[-1]]
        assert await world.outputs(begun.shell.id) == ["run!"]

    @pytest.mark.parametrize(("written", "numbers"), [([], [1]), ([0, 1], [3]), ([0, 1], [3, 4])])
    async def test_a_gap_is_refused(self, store: Store, world: World, written: list[int], numbers: list[int]) -> None:
        """I1: it is a mistake of the owner's, and nothing of it is written."""
        begun = await world.begin(turn="run")
        assert await world.append("run", *written)

        with pytest.raises(ValueError, match="run"):
            await world.append("run", *numbers)
        with pytest.raises(ValueError, match="run"):
            await world.finish(begun, first_number=numbers[0])

        assert await world.numbers("run") == written
        assert await store.unfinished() == [RunName("p", "run")]
        assert await world.outputs("run") == []
        assert await world.finish(begun, first_number=len(written))

    async def test_a_gap_harms_no_other(self, world: World) -> None:
        runs = [await world.begin(turn=f"r{index}") for index in range(3)]
        appends = [world.append(run.shell.id, number) for run, number in zip(runs, (0, 1, 0), strict=True)]

        results = await asyncio.gather(*appends, return_exceptions=True)

        assert [isinstance(result, ValueError) for result in results] == [False, True, False]
        assert (results[0], results[2]) == (True, True)
        assert [await world.numbers(f"r{index}") for index in range(3)] == [[0], [], [0]]

    async def test_a_run_ends_once(self, store: Store, world: World) -> None:
        """I6: the owner that ended it may say so again, whatever it says then."""
        begun = await world.begin(turn="run")

        ends = await asyncio.gather(*(world.finish(begun, status) for status in ("completed", "failed", "cancelled")))
        assert ends == [True, True, True]
        assert await world.finish(begun, "failed", 1, output=items("other"))

        stored = await store.read("p", "run")
        assert stored is not None
        assert stored.outcome.status == "completed"
        assert await world.log("run") == [event(0, "response.completed", b'"response":{}')]
        assert await world.outputs("run") == ["run!"]
        assert not await world.append("run", 0)
        assert not await world.append("run", 1)
        assert await world.numbers("run") == [0]

    async def test_a_run_that_is_gone_takes_nothing_and_harms_nobody(self, store: Store, world: World) -> None:
        gone, other = await world.begin(turn="gone"), await world.begin(turn="other")
        assert await world.append("gone", 0)
        assert await store.delete("p", "gone")

        assert await store.append([batch("gone", 1), batch("other", 0), batch("gone")]) == [False, True, False]
        ends = await asyncio.gather(world.finish(gone, first_number=1), world.finish(other, first_number=1))

        assert list(ends) == [False, True]
        assert await store.read("p", "gone") is None
        assert await world.numbers("gone") == []
        assert await store.claim("p", "gone") is None
        assert await store.begun("p", "gone") is None
        assert await store.unfinished() == []
        assert await world.numbers("other") == [0, 1]

    async def test_unfinished_runs_come_oldest_first(self, store: Store, world: World) -> None:
        names = ["c", "a", "e", "b", "d"]
        runs = {name: await world.begin(turn=name) for name in names}
        other = World(store, "q")
        await other.begin(turn="a")
        await world.say(turn="foreground")
        assert await store.unfinished() == [*(RunName("p", name) for name in names), RunName("q", "a")]

        assert await world.finish(runs["e"], "failed")
        assert await store.delete("p", "a")
        await store.claim("p", "c")

        assert await store.unfinished() == [*(RunName("p", name) for name in "cbd"), RunName("q", "a")]

    async def test_a_run_without_input_keeps_its_place(self, world: World) -> None:
        await world.say(turn="one")
        begun = await world.begin("one", turn="run", input=[])
        await world.say("one", turn="two")
        assert await world.finish(begun)
        await world.say("run", turn="three")

        assert await world.seen("run") == ["one?", "one!", "run!"]
        assert await world.seen("two") == ["one?", "one!", "two?", "two!"]
        assert await world.seen("three") == ["one?", "one!", "run!", "three?", "three!"]

    async def test_runs_of_one_parent_at_once_never_interleave(self, world: World) -> None:
        await world.say(turn="root")
        runs = await asyncio.gather(*(world.begin("root", turn=f"r{index}") for index in range(6)))
        await world.say("root", turn="foreground")
        assert all(await asyncio.gather(*map(world.finish, runs)))

        for index in range(6):
            assert await world.seen(f"r{index}") == ["root?", "root!", f"r{index}?", f"r{index}!"]
        assert await world.seen("foreground") == ["root?", "root!", "foreground?", "foreground!"]

    async def test_an_unstored_run_can_be_fetched_but_not_continued(self, store: Store, world: World) -> None:
        await world.say(turn="one")
        begun = await world.begin("one", turn="run", stored=False)
        assert await world.finish(begun, expires_at=100)
        await world.say("one", turn="two")

        assert await world.outputs("run") == ["run!"]
        assert await world.inputs("run") == ["one?", "one!", "run?"]
        assert (await world.refusal(store.context("p", "run"))).code == "previous_response_not_found"
        assert await world.alive(["run?", "run!"]) == set()
        assert await world.alive(["one?", "two?"]) == {"one?", "two?"}

        assert await store.expire(100) == 1
        assert await store.read("p", "run") is None
        assert await world.numbers("run") == []
        assert await world.seen("two") == ["one?", "one!", "two?", "two!"]


class JournalContract:
    async def test_calls_come_back_in_the_order_in_which_they_were_begun(self, store: Store, world: World) -> None:
        """I8: the intent without a result was interrupted; noting either again changes nothing."""
        await world.begin(turn="run")
        await world.begin(turn="other")
        calls = [CALL._replace(item_id=f"ws_{number}") for number in (3, 1, 4, 2)]
        for call in calls:
            await store.journal_begin("p", "run", FIRST_FENCE, call)
        await store.journal_begin("p", "other", FIRST_FENCE, CALL)
        assert await store.journal("p", "run") == [Noted(call, None) for call in calls]

        for call in (calls[2], calls[0], calls[0]):
            await store.journal_complete("p", "run", FIRST_FENCE, call, RESULT)
        for call in reversed(calls):
            await store.journal_begin("p", "run", FIRST_FENCE, call._replace(arguments="other"))

        results = [RESULT, None, RESULT, None]
        assert await store.journal("p", "run") == [Noted(*pair) for pair in zip(calls, results, strict=True)]
        assert await store.journal("p", "other") == [Noted(CALL, None)]
        assert await store.journal("p", "nowhere") == []

    async def test_many_at_once(self, store: Store, world: World) -> None:
        runs = [await world.begin(turn=f"r{index}") for index in range(8)]
        calls = [ToolCall(f"ws_{number}", "web_search", '{"née":1}') for number in range(4)]
        names = [run.shell.id for run in runs]
        begins = [store.journal_begin("p", name, FIRST_FENCE, call) for name in names for call in calls]
        await asyncio.gather(*begins, *(store.append([batch(name, 0)]) for name in names))
        ends = [store.journal_complete("p", name, FIRST_FENCE, call, RESULT) for name in names for call in calls[1:]]
        await asyncio.gather(*ends, *(store.append([batch(name, 1)]) for name in names))

        for name in names:
            noted = await store.journal("p", name)
            assert sorted(noted) == [Noted(calls[0], None), *(Noted(call, RESULT) for call in calls[1:])]
            assert await world.numbers(name) == [0, 1]

    async def test_a_run_that_has_ended_or_is_gone_takes_no_notes(self, store: Store, world: World) -> None:
        """I6, I8: not even from its last owner."""
        ended = await world.begin(turn="ended")
        await world.begin(turn="gone")
        for name in ("ended", "gone"):
            await store.journal_begin("p", name, FIRST_FENCE, CALL)
        assert await world.finish(ended)
        assert await store.delete("p", "gone")

        for name in ("ended", "gone", "nowhere"):
            with pytest.raises(Disowned):
                await store.journal_begin("p", name, FIRST_FENCE, CALL._replace(item_id="ws_2"))
            with pytest.raises(Disowned):
                await store.journal_complete("p", name, FIRST_FENCE, CALL, RESULT)

        assert await store.journal("p", "ended") == [Noted(CALL, None)]
        assert await store.journal("p", "gone") == []


class CompactionContract:
    """I11: what readers see of a log is the same before, while and after it is packed."""

    async def long(self, world: World, response: str, chance: random.Random, kilobytes: int) -> list[Event]:
        """An ended run with batches from one small event to several of many kilobytes."""
        begun = await world.begin(turn=response)
        written: list[Event] = []
        size = 0
        while size < kilobytes * 1024:
            count, length = chance.choice([1, 3, 20]), chance.choice([5, 50, 3000, 60_000])
            text = bytes(chance.choices(b"abcdefgh ", k=64)) * (1 + length // 64)
            first = len(written)
            events = [event(number, rest=b'"delta":"%b"' % text) for number in range(first, first + count)]
            assert await world.store.append([Batch("p", response, FIRST_FENCE, events)]) == [True]
            written += events
            size += count * len(text)
        assert await world.finish(begun, first_number=len(written))
        return [*written, event(len(written), "response.completed", b'"response":{}')]

    @pytest.mark.parametrize("kilobytes", [0, 40, 900, 6000])
    async def test_a_packed_log_reads_as_it_did(self, store: Store, world: World, kilobytes: int) -> None:
        written = await self.long(world, "run", random.Random(kilobytes), kilobytes)
        assert await world.log("run") == written

        assert await store.compact(10) == 1

        assert await world.log("run") == written
        for after in random.Random(1).sample(range(-1, len(written)), min(20, len(written))):
            page = await store.events("p", "run", after)
            assert page == written[after + 1 : after + 1 + len(page)]
            assert bool(page) is (after + 1 < len(written))
        assert await store.events("p", "run", len(written) + 5) == []
        assert await world.outputs("run") == ["run!"]
        assert await world.seen("run") == ["run?", "run!"]
        assert await store.compact(10) == 0
        assert await world.log("run") == written

    async def test_a_page_of_a_packed_log_is_bounded(self, store: Store, world: World) -> None:
        written = await self.long(world, "run", random.Random(2), 6000)
        assert await store.compact(1) == 1

        after, sizes = -1, []
        while page := await store.events("p", "run", after):
            sizes.append(sum(len(event.data) for event in page))
            after = page[-1].number

        assert sum(sizes) == sum(len(event.data) for event in written)
        assert max(sizes) < 4 * EVENT_BYTES_MAX

    async def test_readers_half_way_through_go_on(self, store: Store, world: World) -> None:
        written = await self.long(world, "run", random.Random(3), 5000)
        read: list[Event] = []

        async def follow(pages_before: int) -> list[Event]:
            read: list[Event] = []
            while page := await store.events("p", "run", len(read) - 1):
                read += page
                if len(read) >= pages_before:
                    await asyncio.sleep(0)
            return read

        read = await store.events("p", "run", -1)
        followers = [asyncio.ensure_future(follow(number)) for number in (0, 10, 100)]
        assert await store.compact(1) == 1
        while page := await store.events("p", "run", read[-1].number):
            read += page

        assert read == written
        assert await asyncio.gather(*followers) == [written] * 3

    async def test_only_what_has_ended_is_packed_and_so_many_at_once(self, store: Store, world: World) -> None:
        runs = [await world.begin(turn=f"r{index}") for index in range(7)]
        names = [run.shell.id for run in runs]
        await store.append([batch(name, 0, 1) for name in names])
        await asyncio.gather(*(world.finish(run, first_number=2) for run in runs[:5]))
        await world.say(turn="foreground")

        assert [await store.compact(most) for most in (0, 2, 2, 2, 2)] == [0, 2, 2, 1, 0]

        for name, run in zip(names, runs, strict=True):
            assert await world.numbers(name) == ([0, 1, 2] if run in runs[:5] else [0, 1])
        assert await store.unfinished() == [RunName("p", name) for name in names[5:]]
        assert await world.append("r5", 2)
        assert await world.finish(runs[5], first_number=3)
        assert await store.compact(10) == 1
        assert await world.numbers("r5") == [0, 1, 2, 3]

    async def test_a_packed_run_takes_nothing_more(self, store: Store, world: World) -> None:
        begun = await world.begin(turn="run")
        assert await world.append("run", 0)
        assert await world.finish(begun, first_number=1)
        assert await store.compact(10) == 1

        assert not await world.append("run", 2)
        assert not await world.finish(begun, "failed", 2, fence=FIRST_FENCE + 1)
        assert await store.claim("p", "run") is None
        with pytest.raises(Disowned):
            await store.journal_begin("p", "run", FIRST_FENCE, CALL)

        assert await world.numbers("run") == [0, 1]

    async def test_a_packed_run_can_be_deleted(self, store: Store, world: World) -> None:
        written = {name: await self.long(world, name, random.Random(4), 1500) for name in ("one", "two")}
        assert await store.compact(10) == 2

        assert await store.delete("p", "one")

        assert await store.events("p", "one", -1) == []
        assert await store.read("p", "one") is None
        assert await world.alive(["one?", "one!"]) == set()
        assert await world.log("two") == written["two"]

    async def test_runs_that_are_deleted_while_they_are_packed_leave_nothing(self, store: Store, world: World) -> None:
        for number in range(6):
            await self.long(world, f"r{number}", random.Random(number), 300)

        _, _, *gone = await asyncio.gather(
            store.compact(10), store.compact(10), *(store.delete("p", f"r{number}") for number in range(5))
        )
        while await store.compact(10):
            pass

        assert gone == [True] * 5
        assert [await store.events("p", f"r{number}", -1) for number in range(5)] == [[]] * 5
        numbers = [event.number for event in await world.log("r5")]
        assert numbers == list(range(len(numbers)))
        assert await world.outputs("r5") == ["r5!"]

    async def test_a_log_is_packed_after_a_restart(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with its process, as it says")
        store = stores.open()
        written = await self.long(World(store), "run", random.Random(5), 100)
        await store.close()

        store = stores.open()
        assert await store.compact(10) == 1
        await store.close()

        store = stores.open()
        assert await World(store).log("run") == written
        assert await store.compact(10) == 0
        await store.close()


class BegunContract:
    """What a run was begun with comes back, so that another process can go on with it."""

    @pytest.mark.parametrize("stored", [True, False])
    async def test_with_and_without_earlier_items(self, store: Store, world: World, stored: bool) -> None:
        await world.say(turn="1")
        await world.say("1", turn="2")
        await world.say("2", turn="taken")
        mine = [item("a", "née"), item("b")]
        begun = await world.begin("2", turn="run", input=mine, large=LARGE, request=b'{"a":1}', stored=stored)
        fresh = await world.begin(turn="fresh", input=[], stored=stored)

        for _ in range(2):
            found = await store.begun("p", "run")
            assert found is not None
            assert found.stored == await store.read("p", "run")
            assert (found.stored.shell, found.stored.request) == (begun.shell, b'{"a":1}')
            assert found.stored.shell.large == LARGE
            assert found.earlier == [item(name).body for name in ("1?", "1!", "2?", "2!")]
            assert found.input == [one.body for one in mine]
            claim = await store.claim("p", "run")
            assert claim is not None
            assert await world.append("run", claim.last + 1, fence=claim.fence)

        empty = await store.begun("p", "fresh")
        assert empty is not None
        assert (empty.stored.shell, empty.earlier, empty.input) == (fresh.shell, [], [])

    async def test_whatever_becomes_of_what_it_continues(self, store: Store, world: World) -> None:
        await world.say(turn="one")
        begun = await world.begin("one", turn="run")
        assert await store.delete("p", "one")
        await world.say(turn="other")

        found = await store.begun("p", "run")
        assert found is not None
        assert (found.earlier, found.input) == ([item("one?").body, item("one!").body], [item("run?").body])

        assert await world.finish(begun)
        found = await store.begun("p", "run")
        assert found is not None
        assert (found.earlier, found.input) == ([item("one?").body, item("one!").body], [item("run?").body])

    async def test_only_background_runs_were_begun(self, store: Store, world: World) -> None:
        await world.say(turn="foreground")

        assert await store.begun("p", "foreground") is None
        assert await store.begun("p", "nowhere") is None
        assert await store.claim("p", "foreground") is None
        assert not await world.append("foreground", 0)

    async def test_over_many_forks(self, stores: Stores) -> None:
        store = stores.open(segments_max=3)
        world = World(store)
        expected: list[str] = []
        last = None
        for number in range(8):
            taken = await world.say(last, turn=f"t{number}")  # takes the place, so that the next one has to fork
            assert taken
            last = await world.say(last, turn=f"f{number}")
            expected += [f"f{number}?", f"f{number}!"]
        await world.begin(last, turn="run")

        found = await store.begun("p", "run")

        assert found is not None
        assert found.earlier == [item(name).body for name in expected]
        assert found.input == [item("run?").body]
        await store.close()
