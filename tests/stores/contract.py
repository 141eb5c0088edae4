"""The contract of ``engine.ports.stores.Store``, for every store.

A module of tests subclasses ``StoreContract`` and gives it a fixture ``stores``.

Background runs and deleting are contracts of their own (``contract_background``, ``contract_owners``,
``contract_removal``).
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.stores.contract_background import BackgroundContract, BegunContract, CompactionContract, JournalContract
from tests.stores.contract_conversations import ConversationContract, ConversationRemovalContract, HoldContract
from tests.stores.contract_keys import KeyContract
from tests.stores.contract_owners import OwnerContract
from tests.stores.contract_webhooks import EndpointContract, OutboxContract
from tests.stores.world import CALL, LARGE, SMALL, Stores, World, item, items, record

from antiphon.engine.ports.stores import FIRST_FENCE, Disowned, RunName, Store, StoreError
from antiphon.engine.ports.tools import Noted, ToolResult
from antiphon.protocol.responses import Outcome, ResponseError, Shell, Usage


class ReadingContract:
    async def test_a_response_is_read_as_it_was_written(self, store: Store) -> None:
        outcome = Outcome("incomplete", 12, ResponseError("server_error", "née"), "max_output_tokens", Usage(1))
        written = record("resp_1", input=items("a"), output=items("b", "c"), large=LARGE, request=b'{"include":["x"]}')
        written = msgspec.structs.replace(written, outcome=outcome, streamed=True)
        await store.save(written)

        stored = await store.read("p", "resp_1")

        assert stored is not None
        assert stored.shell == written.shell
        assert stored.outcome == outcome
        assert (await store.status("p", "resp_1"), await store.status("q", "resp_1")) == ("incomplete", None)
        assert stored.output == [item.body for item in written.output]
        assert (stored.request, stored.streamed) == (b'{"include":["x"]}', True)
        assert stored.snapshot() == written.shell.snapshot(outcome, b"[%b,%b]" % tuple(stored.output))

    @pytest.mark.parametrize("body", [
        '{"id":"a","text":"née \U0001f600 \\u0000 \\ud83d"}'.encode(),
        b'{ "id" : "a",\n\t"unknown": {"z": 1, "a": 1.50, "z": 2} }\r\n',
        b'{"id":"a","x":"' + b"y" * 70_000 + b'"}',
    ])  # fmt: skip
    async def test_bodies_travel_byte_for_byte(self, store: Store, body: bytes) -> None:
        other = item("a")._replace(body=body)
        await store.save(record("resp_1", input=[other], output=[other._replace(id="b")]))

        stored = await store.read("p", "resp_1")
        context = await store.context("p", "resp_1")

        assert stored is not None
        assert stored.output == [body]
        assert context.bodies == [body, body]
        assert await store.item("p", "a") == body

    async def test_a_member_of_any_size_comes_back(self, store: Store) -> None:
        for size in (0, 253, 254, 255, 256, 100_000):
            large = {"instructions": b'"' + b"x" * size + b'"'}
            await store.save(record(f"resp_{size}", large=large))

            stored = await store.read("p", f"resp_{size}")

            assert stored is not None
            assert stored.shell.large == large

    async def test_what_is_not_there_is_none(self, store: Store, world: World) -> None:
        assert await store.read("p", "resp_0") is None
        assert await store.status("p", "resp_0") is None
        assert await store.item("p", "msg_0") is None
        assert await world.inputs("resp_0") is None
        assert await store.events("p", "resp_0", -1) == []
        assert not await store.delete("p", "resp_0")
        assert await store.unfinished() == []
        await store.ping()

    async def test_a_name_is_taken_once(self, store: Store, world: World) -> None:
        await world.say(turn="one")

        with pytest.raises(StoreError, match=r"(?i)unique|duplicate"):
            await store.save(record("one", input=items("other")))

        assert await world.seen("one") == ["one?", "one!"]
        assert await store.item("p", "other") is None

    async def test_a_failing_write_harms_no_other(self, store: Store, world: World) -> None:
        await world.say(turn="taken")
        saves = [store.save(record(name, input=items(f"{name}?"))) for name in ("one", "taken", "two")]

        failures = await asyncio.gather(*saves, return_exceptions=True)

        assert [failure is None for failure in failures] == [True, False, True]
        assert await world.seen("one") == ["one?"]
        assert await world.seen("two") == ["two?"]

    async def test_a_secret_is_made_once(self, store: Store) -> None:
        assert await store.secret("a", make=False) is None

        made = await asyncio.gather(*(store.secret("a") for _ in range(8)))

        assert len(set(made)) == 1
        assert made[0] is not None
        assert len(made[0]) == 32
        assert await store.secret("a", make=False) == made[0] != await store.secret("b")


class ProjectContract:
    async def test_a_project_sees_nothing_of_another(self, store: Store, world: World) -> None:
        await world.say(turn="theirs", large=LARGE)
        await world.say("theirs", turn="next")
        begun = await world.begin(turn="run")
        assert await world.append("run", 0)
        await store.journal_begin("p", "run", FIRST_FENCE, CALL)
        other = World(store, "q")

        assert await store.read("q", "theirs") is None
        assert await other.inputs("next") is None
        assert await store.item("q", "theirs?") is None
        assert await other.numbers("run") == []
        assert (await other.refusal(store.context("q", "theirs"))).code == "previous_response_not_found"
        assert not await store.delete("q", "theirs")
        assert not await other.finish(msgspec.structs.replace(begun, project="q"))
        assert not await other.append("run", 1)
        with pytest.raises(Disowned):
            await store.journal_begin("q", "run", FIRST_FENCE, CALL)
        with pytest.raises(Disowned):
            await store.journal_complete("q", "run", FIRST_FENCE, CALL, ToolResult({}, "no"))
        assert await store.journal("q", "run") == []
        assert await store.begun("q", "run") is None
        assert await store.claim("q", "run") is None
        await store.hand_back([(RunName("q", "run"), FIRST_FENCE)])

        assert await world.seen("next") == ["theirs?", "theirs!", "next?", "next!"]
        assert await world.numbers("run") == [0]
        assert await store.journal("p", "run") == [Noted(CALL, None)]
        assert await store.unfinished() == [RunName("p", "run")]
        claim = await store.claim("p", "run")
        assert claim is not None
        assert claim.attempt == 1  # another project cannot hand it back

    async def test_the_same_names_mean_other_things_in_other_projects(self, store: Store) -> None:
        for project in ("p", "q"):
            world, mine = World(store, project), [item("same", project)]
            await world.say(turn="resp", input=mine, output=[], large={"text": project.encode() * 300})
            await world.say("resp", turn="more", input=mine, output=[])

        for project in ("p", "q"):
            body = item("same", project).body
            stored = await store.read(project, "resp")
            assert stored is not None
            assert stored.shell.large == {"text": project.encode() * 300}
            assert await store.item(project, "same") == body
            context = await store.context(project, "more")
            assert context.bodies == [body, body]
            assert context.parent is not None
            store.release(context.parent)

        assert await store.delete("p", "more")
        assert await store.delete("p", "resp")
        assert await store.item("p", "same") is None
        assert await store.item("q", "same") is not None
        assert await store.read("q", "resp") is not None

    async def test_another_projects_thread_cannot_be_continued(self, store: Store, world: World) -> None:
        await world.say(turn="theirs")
        stolen = (await store.context("p", "theirs")).parent

        with pytest.raises(LookupError):
            await store.save(record("mine", project="q", parent=stolen, input=items("x")))

        assert await store.read("q", "mine") is None
        assert await world.seen("theirs") == ["theirs?", "theirs!"]


class ChainContract:
    async def test_a_chain_sees_everything_before_it(self, world: World) -> None:
        one = await world.say(turn="1")
        two = await world.say(one, turn="2")
        three = await world.say(two, turn="3", input=items("3?", "3??"), output=[])

        assert await world.seen(three) == ["1?", "1!", "2?", "2!", "3?", "3??"]
        assert await world.inputs(three) == ["1?", "1!", "2?", "2!", "3?", "3??"]
        assert await world.inputs(two) == ["1?", "1!", "2?"]
        assert await world.seen(one) == ["1?", "1!"]
        assert await world.outputs(two) == ["2!"]

    async def test_forks_and_their_forks_share_what_they_have_in_common(self, world: World) -> None:
        for previous, turn in ((None, "a"), ("a", "b"), ("b", "c"), ("a", "x"), ("x", "y"), ("x", "z"), ("z", "zz")):
            await world.say(previous, turn=turn)
        await world.say("b", turn="d")

        lines = {name: [one[:-1] for one in await world.seen(name) if one.endswith("?")] for name in "cydx"}

        assert lines == {"c": ["a", "b", "c"], "y": ["a", "x", "y"], "d": ["a", "b", "d"], "x": ["a", "x"]}
        assert await world.seen("zz") == ["a?", "a!", "x?", "x!", "z?", "z!", "zz?", "zz!"]
        assert await world.inputs("zz") == ["a?", "a!", "x?", "x!", "z?", "z!", "zz?"]

    @pytest.mark.parametrize("count", [2, 20])
    async def test_continuations_at_once_never_interleave(self, world: World, count: int) -> None:
        await world.say(turn="root")
        contexts = [await world.pin("root") for _ in range(count)]
        length = [1 + index % 3 for index in range(count)]
        turns = [
            record(f"r{index}", parent=context.parent, input=items(*(f"{index}.{n}" for n in range(length[index]))))
            for index, context in enumerate(contexts)
        ]

        await asyncio.gather(*map(world.store.save, turns))
        await asyncio.gather(*(world.say(f"r{index}", turn=f"s{index}") for index in range(count)))

        for index in range(count):
            mine = ["root?", "root!", *(f"{index}.{n}" for n in range(length[index]))]
            assert await world.seen(f"r{index}") == mine
            assert await world.seen(f"s{index}") == [*mine, f"s{index}?", f"s{index}!"]

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    async def test_what_went_wrong_is_in_no_later_context(self, world: World, status: str) -> None:
        await world.say(turn="one")
        await world.say("one", turn="bad", status=status)
        await world.say("one", turn="two")
        run = await world.begin("two", turn="run")
        await world.finish(run, status)
        await world.say("two", turn="three")

        assert await world.seen("three") == ["one?", "one!", "two?", "two!", "three?", "three!"]
        assert await world.outputs("bad") == ["bad!"]
        assert await world.inputs("bad") == ["one?", "one!", "bad?"]
        assert await world.outputs("run") == ["run!"]

    @pytest.mark.parametrize("status", ["queued", "in_progress", "failed", "cancelled"])
    async def test_only_what_ended_well_can_be_continued(self, world: World, status: str) -> None:
        await world.say(turn="it", status=status, background=True)

        refusal = await world.refusal(world.store.context("p", "it"))

        assert (refusal.status, refusal.param) == (400, "previous_response_id")
        assert status in refusal.message

    async def test_what_is_unknown_cannot_be_continued(self, world: World) -> None:
        refusal = await world.refusal(world.store.context("p", "resp_0"))

        assert (refusal.status, refusal.code) == (400, "previous_response_not_found")

    async def test_what_is_empty_can_be_continued(self, world: World) -> None:
        await world.say(turn="nothing", input=[], output=[])
        await world.say("nothing", turn="still", input=[], output=[])
        await world.say("nothing", turn="a")
        await world.say("still", turn="b")

        assert await world.seen("still") == []
        assert await world.seen("a") == ["a?", "a!"]
        assert await world.seen("b") == ["b?", "b!"]

    async def test_many_items_at_once(self, world: World) -> None:
        names = [f"i{number}" for number in range(1000)]
        await world.say(turn="one", input=items(*names), output=[])
        await world.say("one", turn="two")

        assert await world.seen("two") == [*names, "two?", "two!"]

    async def test_a_deep_fork_is_copied(self, stores: Stores) -> None:
        store = stores.open(segments_max=3)
        world = World(store)
        await world.say(turn="r")
        expected = ["r?", "r!"]
        last = "r"
        for number in range(12):
            taken, fork = f"t{number}", f"f{number}"
            await world.say(last, turn=taken)  # takes the place, so that the next one has to fork
            last = await world.say(last, turn=fork)
            expected += [f"{fork}?", f"{fork}!"]
            assert await world.seen(last) == expected
        assert await world.inputs(last) == expected[:-1]

        for number in range(11):
            assert await store.delete("p", f"f{number}")
            assert await store.delete("p", f"t{number}")
        assert await world.seen(last) == expected
        assert await store.delete("p", "t11")
        assert await store.delete("p", "r")
        assert await store.delete("p", last)
        assert await world.alive(expected) == set()
        await store.close()


class ItemsContract:
    @pytest.fixture
    async def turns(self, world: World) -> World:
        """Items 0 to 9 as the input of ``last``, over two threads."""
        await world.say(turn="a", input=items("0", "1"), output=items("2", "3"))
        await world.say("a", turn="taken")
        await world.say("a", turn="b", input=items("4", "5"), output=items("6"))
        await world.say("b", turn="last", input=items("7", "8", "9"), output=items("out"))
        return world

    @pytest.mark.parametrize(
        ("page", "expected", "has_more"),
        [
            ({}, "9876543210", False),
            ({"order": "asc"}, "0123456789", False),
            ({"limit": 10}, "9876543210", False),
            ({"limit": 3}, "987", True),
            ({"limit": 3, "order": "asc"}, "012", True),
            ({"after": "7", "limit": 4}, "6543", True),
            ({"after": "7", "limit": 4, "order": "asc"}, "89", False),
            ({"after": "4", "limit": 4}, "3210", False),
            ({"before": "7"}, "98", False),
            ({"before": "3", "order": "asc"}, "012", False),
            ({"before": "3", "limit": 2, "order": "asc"}, "01", True),
            ({"after": "2", "before": "6", "order": "asc"}, "345", False),
            ({"after": "6", "before": "2"}, "543", False),
            ({"after": "2", "before": "6"}, "", False),
            ({"after": "9", "order": "asc"}, "", False),
            ({"after": "0"}, "", False),
        ],
    )
    async def test_pages(self, turns: World, page: dict[str, object], expected: str, has_more: bool) -> None:
        assert await turns.page("last", **page) == (list(expected), has_more)

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_pages_add_up(self, turns: World, limit: int, order: str) -> None:
        found: list[str] = []
        after, more = None, True
        while more:
            page, more = await turns.page("last", limit=limit, order=order, after=after)
            found += page
            after = found[-1]

        assert found == list("0123456789" if order == "asc" else "9876543210")

    @pytest.mark.parametrize("param", ["after", "before"])
    @pytest.mark.parametrize("cursor", ["nowhere", "out", "taken?"])
    async def test_a_cursor_must_be_one_of_the_items(self, turns: World, param: str, cursor: str) -> None:
        refusal = await turns.refusal(turns.page("last", **{param: cursor}))

        assert (refusal.status, refusal.param) == (400, param)

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_ids_that_recur_are_all_listed_and_pages_come_to_an_end(self, world: World, order: str) -> None:
        recurring = items("a", "b", "a", "c", "a")
        await world.say(turn="one", input=recurring)

        assert (await world.page("one", order=order))[0] == (list("abaca") if order == "asc" else list("acaba"))
        for limit in (1, 2, 3):
            after, more, pages = None, True, 0
            while more:
                page, more = await world.page("one", order=order, limit=limit, after=after)
                after, pages = page[-1] if page else after, pages + 1
                assert pages <= 5

    async def test_an_item_is_found_by_its_id_and_the_newest_wins(self, world: World) -> None:
        await world.say(turn="one", input=[item("a", "old")])
        await world.say(turn="two", input=[item("a", "new")])

        assert await world.store.item("p", "a") == item("a", "new").body
        assert await world.store.item("p", "two!") == item("two!").body

        await world.store.delete("p", "two")
        assert await world.store.item("p", "a") == item("a", "old").body


class DurabilityContract:
    async def test_everything_is_there_after_a_restart(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with its process, as it says")
        store = stores.open()
        world = World(store)
        await world.say(turn="one", large=LARGE)
        await world.say("one", turn="taken")
        await world.say("one", turn="two")
        begun = await world.begin("two", turn="run")
        assert await world.append("run", 0)
        await store.journal_begin("p", "run", FIRST_FENCE, CALL)
        claim = await store.claim("p", "run")
        await store.close()

        store = stores.open()
        world = World(store)
        await world.say("two", turn="three", large=LARGE)
        assert await world.seen("three") == ["one?", "one!", "two?", "two!", "three?", "three!"]
        assert await world.seen("taken") == ["one?", "one!", "taken?", "taken!"]
        assert await store.unfinished() == [RunName("p", "run")]
        assert await world.numbers("run") == [0]
        assert await store.journal("p", "run") == [Noted(CALL, None)]
        stored = await store.read("p", "one")
        assert stored is not None
        assert stored.shell == Shell("one", 1_700_000_000, False, SMALL, LARGE)
        assert claim is not None
        assert not await world.append("run", 1)
        assert await world.append("run", 1, fence=claim.fence)
        assert await world.finish(begun, first_number=2, fence=claim.fence)
        await store.close()

    async def test_what_is_queued_is_written_before_it_closes(self, stores: Stores) -> None:
        store = stores.open()
        saves = [asyncio.ensure_future(store.save(record(f"r{index}"))) for index in range(100)]
        await asyncio.sleep(0)  # lets each begin
        await store.close()
        assert await asyncio.gather(*saves) == [None] * 100

    async def test_a_closed_store_says_so(self, stores: Stores) -> None:
        store = stores.open()
        await store.close()

        with pytest.raises(RuntimeError, match="closed"):
            await store.save(record("late"))


class StoreContract(
    ConversationContract,
    HoldContract,
    ConversationRemovalContract,
    ReadingContract,
    ProjectContract,
    ChainContract,
    ItemsContract,
    BackgroundContract,
    BegunContract,
    JournalContract,
    CompactionContract,
    OwnerContract,
    KeyContract,
    EndpointContract,
    OutboxContract,
    DurabilityContract,
):
    """Everything but deletion."""
