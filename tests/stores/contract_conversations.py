"""The contract of ``engine.ports.stores.Conversations``, for every store."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.stores.talking import ENDS, LOCKED, LONG, Life, Talk
from tests.stores.world import Stores, item, items, name_of, record, within

from antiphon.engine.ports.stores import FIRST_FENCE, Batch, Context, Conversation, Hold, Store
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import Page


class ConversationContract:
    @pytest.fixture
    def talk(self, store: Store) -> Talk:
        return Talk(store)

    async def test_a_conversation_is_read_as_it_was_written(self, store: Store, talk: Talk) -> None:
        made = Conversation("conv_1", 1_700_000_000, '{"née":"\U0001f600"}'.encode())
        await store.conversations.create("p", made, items("a", "b"))

        assert await store.conversations.read("p", "conv_1") == made
        assert await talk.listed("conv_1") == await talk.seen("conv_1") == ["a", "b"]
        changed = await store.conversations.update("p", "conv_1", b'{"k":"v"}')
        assert changed == await store.conversations.read("p", "conv_1") == made._replace(metadata=b'{"k":"v"}')
        assert await store.conversations.item("p", "conv_1", "a") == item("a").body
        assert await store.item("p", "b") == item("b").body

    async def test_a_conversation_that_is_not_there(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        for project, name in (("p", "conv_0"), ("q", "conv_1")):
            other = Talk(store, project)
            assert await store.conversations.read(project, name) is None
            assert await store.conversations.update(project, name, b"{}") is None
            assert await store.conversations.item(project, name, "a") is None
            assert await other.listed(name) is None
            assert not await other.add(name, "x")
            assert not await store.conversations.remove(project, name, "a")
            assert not await store.conversations.delete(project, name)
            assert await talk.refused(other.seen(name)) == (404, None, "conversation")
            assert await talk.refused(other.enter(name, "r")) == (404, None, "conversation")
            await other.leave(name, "r")
            await store.conversations.renew([Hold(project, name, "r")], 1)
        assert await store.conversations.item("p", "conv_1", "b") is None
        assert not await store.conversations.remove("p", "conv_1", "b")
        assert await talk.listed("conv_1") == ["a"]

    async def test_items_are_appended_in_order(self, talk: Talk) -> None:
        await talk.create("conv_1")
        assert await talk.listed("conv_1") == []

        added = await asyncio.gather(*(talk.add("conv_1", f"{n}a", f"{n}b") for n in range(40)))

        assert all(added)
        listed = await talk.listed("conv_1")
        assert listed == [f"{n}{which}" for n in range(40) for which in "ab"]

    @pytest.mark.parametrize(("page", "expected", "has_more"), [
        ({}, "fedcba", False),
        ({"order": "asc", "limit": 2}, "ab", True),
        ({"limit": 2}, "fe", True),
        ({"limit": 2, "after": "e"}, "dc", True),
        ({"limit": 2, "after": "b"}, "a", False),
        ({"order": "asc", "after": "d"}, "ef", False),
        ({"order": "asc", "before": "c"}, "ab", False),
        ({"after": "a"}, "", False),
    ])  # fmt: skip
    async def test_pages_of_a_conversation(
        self, store: Store, talk: Talk, page: dict[str, Any], expected: str, has_more: bool
    ) -> None:
        await talk.create("conv_1", "a", "b", "gone")
        await talk.say("conv_1", "r", input=items("c"), output=items("d"))
        await store.conversations.remove("p", "conv_1", "gone")
        await talk.add("conv_1", "e", "f")

        listing = await store.conversations.items("p", "conv_1", Page(**page))

        assert listing is not None
        assert ("".join(id for id, _ in listing.items), listing.has_more) == (expected, has_more)

    async def test_a_cursor_must_be_one_of_the_conversations_items(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a", "b")
        await talk.create("conv_2", "c")
        await store.conversations.remove("p", "conv_1", "b")
        for cursor in ("b", "c", "x"):
            listing = store.conversations.items("p", "conv_1", Page(after=cursor))
            assert (await talk.refused(listing))[::2] == (400, "after")

    async def test_responses_go_on_one_after_another(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        await talk.say("conv_1", "one")
        await talk.add("conv_1", "b")
        await talk.say("conv_1", "two", status="incomplete")

        everything = ["a", "one?", "one!", "b", "two?", "two!"]
        assert await talk.listed("conv_1") == await talk.seen("conv_1") == everything
        assert await talk.world.inputs("two") == ["a", "one?", "one!", "b", "two?"]
        assert await talk.world.inputs("one") == ["a", "one?"]
        assert await talk.world.seen("one") == ["a", "one?", "one!"]
        assert (await talk.enter("conv_1", "three")).bodies == [one.body for one in items(*everything)]

    @pytest.mark.parametrize("status", ENDS)
    async def test_what_went_wrong_is_not_in_it(self, talk: Talk, status: str) -> None:
        await talk.create("conv_1", "a")
        await talk.say("conv_1", "bad", status=status)
        begun = await talk.begin("conv_1", "worse")
        assert await talk.world.finish(begun, status)

        assert await talk.seen("conv_1") == ["a"]
        await talk.say("conv_1", "good")
        assert await talk.listed("conv_1") == await talk.world.seen("good") == ["a", "good?", "good!"]
        assert await talk.world.inputs("bad") == ["a", "bad?"]
        assert await talk.world.outputs("worse") == ["worse!"]

    async def test_a_chain_of_a_conversations_response_goes_its_own_way(self, talk: Talk) -> None:
        await talk.create("conv_1")
        await talk.say("conv_1", "one")
        await talk.world.say("one", turn="aside")
        await talk.say("conv_1", "two")
        await talk.world.say("two", turn="beside")

        assert await talk.seen("conv_1") == ["one?", "one!", "two?", "two!"]
        assert await talk.world.seen("aside") == ["one?", "one!", "aside?", "aside!"]
        assert await talk.world.seen("beside") == ["one?", "one!", "two?", "two!", "beside?", "beside!"]

    async def test_what_is_not_to_be_stored_is_in_it_all_the_same(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1")
        await talk.say("conv_1", "quiet", stored=False)
        await talk.say("conv_1", "lost", stored=False, status="failed")
        begun = await talk.begin("conv_1", "run", stored=False)
        assert await talk.world.finish(begun, expires_at=5)

        assert await store.read("p", "quiet") is None
        assert await talk.seen("conv_1") == ["quiet?", "quiet!", "run?", "run!"]
        assert await talk.world.alive(["quiet?", "run!", "lost?"]) == {"quiet?", "run!"}
        assert await talk.refused(store.context("p", "run")) == (
            400, "previous_response_not_found", "previous_response_id",
        )  # fmt: skip
        assert await store.expire(5) == 1
        assert await talk.seen("conv_1") == ["quiet?", "quiet!", "run?", "run!"]

    async def test_ids_that_recur(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a", "b", "a", "c")

        assert await talk.listed("conv_1") == ["a", "b", "a", "c"]
        listing = await store.conversations.items("p", "conv_1", Page(after="a"))
        assert listing is not None
        assert listing.items == []
        assert await store.conversations.remove("p", "conv_1", "a")
        assert await talk.listed("conv_1") == ["b", "c"]
        assert await store.conversations.item("p", "conv_1", "a") is None

    async def test_forks_that_are_too_deep_are_copied(self, stores: Stores) -> None:
        store = stores.open(segments_max=3)
        talk = Talk(store)
        await talk.create("conv_1", "a", "gone")
        await store.conversations.remove("p", "conv_1", "gone")
        everything = ["a"]
        for turn in "bcdefghij":
            await talk.say("conv_1", turn)
            await talk.world.say(turn, turn=f"aside {turn}")
            await talk.add("conv_1", f"{turn} gone")
            await store.conversations.remove("p", "conv_1", f"{turn} gone")
            everything += [f"{turn}?", f"{turn}!"]
            assert await talk.listed("conv_1") == await talk.seen("conv_1") == everything
            assert await talk.world.inputs(turn) == everything[:-1]
        await store.conversations.delete("p", "conv_1")
        for turn in "bcdefghij":
            await store.delete("p", turn)
            await store.delete("p", f"aside {turn}")
        assert await talk.world.alive([*everything, "gone", "b gone", "aside b?"]) == set()
        await store.close()

    @pytest.mark.parametrize("way", ["add", "say", "quiet", "run", "take out"])
    async def test_what_a_copy_leaves_behind_goes(self, stores: Stores, way: str) -> None:
        store = stores.open(segments_max=0)  # each fork is copied
        talk = Talk(store)
        await talk.create("conv_1", "a", "b")
        failed = await talk.begin("conv_1", "failed")
        assert await talk.world.finish(failed, "failed")
        match way:
            case "add":
                await talk.add("conv_1", "c")
            case "say" | "quiet":
                await talk.say("conv_1", "turn", stored=way == "say")
            case "run":
                assert await talk.world.finish(await talk.begin("conv_1", "turn"))
            case "take out":
                await store.conversations.remove("p", "conv_1", "b")
        await store.delete("p", "failed")
        await store.delete("p", "turn")
        for one in await talk.seen("conv_1"):
            await store.conversations.remove("p", "conv_1", one)
        assert await talk.world.alive(["a", "b", "c", "turn?", "turn!", "failed?"]) == set()
        assert await store.conversations.delete("p", "conv_1")
        await store.close()

    async def test_conversations_are_there_after_a_restart(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with the process")
        store = stores.open()
        talk = Talk(store)
        await talk.create("conv_1", "a", "gone", metadata=b'{"k":"v"}')
        await talk.say("conv_1", "one")
        await store.conversations.remove("p", "conv_1", "gone")
        await talk.begin("conv_1", "run")
        await store.close()

        store = stores.open()
        talk = Talk(store)
        assert await store.conversations.read("p", "conv_1") == Conversation("conv_1", 1_700_000_000, b'{"k":"v"}')
        assert await talk.refused(talk.add("conv_1", "b")) == LOCKED
        claim = await store.claim("p", "run")
        begun = await store.begun("p", "run")
        assert claim is not None
        assert begun is not None
        assert [name_of(body) for body in begun.earlier] == ["a", "one?", "one!"]
        ended = record("run", status="completed", background=True, output=items("run!"))
        assert await store.finish(ended, claim.fence, [])
        await talk.say("conv_1", "two")
        assert await talk.listed("conv_1") == ["a", "one?", "one!", "run?", "run!", "two?", "two!"]
        await store.close()


class HoldContract:
    @pytest.fixture
    def talk(self, store: Store) -> Talk:
        return Talk(store)

    async def test_one_response_at_a_time(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        await talk.create("conv_2")
        context = await talk.enter("conv_1", "one")

        assert await talk.refused(talk.enter("conv_1", "two")) == LOCKED
        assert await talk.refused(talk.add("conv_1", "b")) == LOCKED
        assert await talk.refused(store.conversations.remove("p", "conv_1", "a")) == LOCKED
        assert await talk.add("conv_2", "b")
        assert await store.conversations.update("p", "conv_1", b"{}") is not None
        assert await talk.seen("conv_1") == ["a"]
        await talk.leave("conv_1", "two")
        assert await talk.refused(talk.enter("conv_1", "two")) == LOCKED
        await talk.leave("conv_1", "one")
        talk.world.release(context)
        assert await talk.add("conv_1", "b")
        await talk.say("conv_1", "two")
        assert await talk.seen("conv_1") == ["a", "b", "two?", "two!"]

    async def test_of_many_at_once_one_comes_in(self, talk: Talk) -> None:
        await talk.create("conv_1")

        entered = await asyncio.gather(*(talk.enter("conv_1", f"r{n}") for n in range(20)), return_exceptions=True)

        assert sum(isinstance(one, Context) for one in entered) == 1
        assert {one.code for one in entered if isinstance(one, ApiError)} == {"conversation_locked"}

    @pytest.mark.parametrize("status", ["completed", "incomplete", *ENDS])
    async def test_the_end_frees_it(self, talk: Talk, status: str) -> None:
        await talk.create("conv_1")
        await talk.say("conv_1", "one", status=status)
        await talk.say("conv_1", "two", status=status, stored=False)
        begun = await talk.begin("conv_1", "three")
        assert await talk.refused(talk.enter("conv_1", "four")) == LOCKED
        assert await talk.world.finish(begun, status)
        await talk.say("conv_1", "four")

    async def test_a_hold_lapses_and_is_renewed(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1")
        await talk.enter("conv_1", "one", LONG)
        await store.conversations.renew([Hold("p", "conv_1", "other"), Hold("p", "conv_1", "one")], 0.0)
        context = await talk.enter("conv_1", "two", 0.0)
        await store.conversations.renew([Hold("p", "conv_1", "one")], LONG)  # not its any more
        await store.conversations.renew([Hold("p", "conv_1", "two")], LONG)
        assert await talk.refused(talk.enter("conv_1", "three")) == LOCKED
        await store.save(talk.record("conv_1", "two", context.parent))
        await talk.say("conv_1", "three")
        assert await talk.seen("conv_1") == ["two?", "two!", "three?", "three!"]

    async def test_who_lost_its_hold_does_not_write_between_others(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1")
        late = await talk.enter("conv_1", "late", 0.0)
        await talk.say("conv_1", "one")

        for stored in (True, False):
            saving = store.save(talk.record("conv_1", "late", late.parent, stored=stored))
            assert await talk.refused(saving) == LOCKED
        beginning = store.begin(
            talk.record("conv_1", "late", late.parent, output=[], status="queued", background=True)
        )  # fmt: skip
        assert await talk.refused(beginning) == LOCKED
        assert await store.read("p", "late") is None
        assert await talk.seen("conv_1") == ["one?", "one!"]
        assert await talk.world.alive(["late?"]) == set()

    async def test_who_lost_nothing_but_time_writes(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1")
        late = await talk.enter("conv_1", "late", 0.0)
        await store.save(talk.record("conv_1", "late", late.parent))
        assert await talk.seen("conv_1") == ["late?", "late!"]

    async def test_a_background_run_holds_it_until_its_end(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1")
        begun = await talk.begin("conv_1", "run")
        await store.conversations.renew([Hold("p", "conv_1", "run")], 0.0)
        assert await talk.refused(talk.enter("conv_1", "other")) == LOCKED
        claim = await store.claim("p", "run")
        assert claim is not None
        assert not await talk.world.finish(begun, fence=FIRST_FENCE)
        assert await talk.refused(talk.add("conv_1", "b")) == LOCKED
        assert await talk.world.finish(begun, fence=claim.fence)
        assert await talk.seen("conv_1") == ["run?", "run!"]
        assert await talk.world.finish(begun, fence=claim.fence)  # said again
        await talk.say("conv_1", "other")
        assert await talk.world.finish(begun, fence=claim.fence)
        assert await talk.seen("conv_1") == ["run?", "run!", "other?", "other!"]

    async def test_a_run_that_cannot_be_read_frees_it_too(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        await talk.begin("conv_1", "run")
        claim = await store.claim("p", "run")
        assert claim is not None
        unread = record("run", status="failed", background=True)
        assert await store.finish(unread, claim.fence, [Batch("p", "run", claim.fence, [])])
        await talk.say("conv_1", "next")
        assert await talk.seen("conv_1") == ["a", "next?", "next!"]

    async def test_a_process_that_is_gone_holds_nothing(self, stores: Stores) -> None:
        if not stores.durable:
            pytest.skip("gone with the process")
        store = stores.open()
        talk = Talk(store)
        await talk.create("conv_1", "a")
        await talk.enter("conv_1", "one", 0.2)
        await store.close()

        store = stores.open()
        async with asyncio.timeout(20):
            while True:
                try:
                    await Talk(store).say("conv_1", "two")
                    break
                except ApiError as error:
                    assert error.code == "conversation_locked"  # noqa: PT017 - it passes
        assert await Talk(store).seen("conv_1") == ["a", "two?", "two!"]
        await store.close()


class ConversationRemovalContract:
    @pytest.fixture
    def talk(self, store: Store) -> Talk:
        return Talk(store)

    async def test_a_deleted_conversation_leaves_what_responses_need(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        await talk.say("conv_1", "one")
        await talk.add("conv_1", "b")
        await talk.say("conv_1", "quiet", stored=False)

        assert await store.conversations.delete("p", "conv_1")
        assert not await store.conversations.delete("p", "conv_1")

        everything = ["a", "one?", "one!", "b", "quiet?", "quiet!"]
        assert await talk.world.alive(everything) == {"a", "one?", "one!"}
        assert await talk.world.seen("one") == ["a", "one?", "one!"]
        assert await store.delete("p", "one")
        assert await talk.world.alive(everything) == set()

    async def test_a_deleted_response_leaves_the_conversation(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1")
        await talk.say("conv_1", "one", expires_at=7)
        await talk.say("conv_1", "two")

        assert await store.expire(7) == 1
        assert await store.delete("p", "two")

        assert await talk.seen("conv_1") == ["one?", "one!", "two?", "two!"]
        await talk.say("conv_1", "three")
        assert await talk.world.inputs("three") == ["one?", "one!", "two?", "two!", "three?"]

    async def test_an_item_that_is_taken_out_stays_with_those_who_saw_it(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a", "b")
        await talk.say("conv_1", "one")
        assert await store.conversations.remove("p", "conv_1", "a")
        assert await store.conversations.remove("p", "conv_1", "one?")
        assert not await store.conversations.remove("p", "conv_1", "a")
        await talk.say("conv_1", "two")

        assert await talk.listed("conv_1") == await talk.seen("conv_1") == ["b", "one!", "two?", "two!"]
        assert await store.conversations.item("p", "conv_1", "a") is None
        assert await talk.world.inputs("one") == ["a", "b", "one?"]
        assert await talk.world.seen("one") == ["a", "b", "one?", "one!"]
        assert await talk.world.inputs("two") == ["b", "one!", "two?"]
        await talk.world.say("two", turn="after")
        assert await talk.world.inputs("after") == ["b", "one!", "two?", "two!", "after?"]
        assert await talk.world.alive(["a", "one?"]) == {"a", "one?"}
        await store.delete("p", "one")
        assert await talk.world.alive(["a", "b", "one?", "one!"]) == {"b", "one!"}

    async def test_an_item_that_only_the_conversation_has_is_gone(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", *"abcdef")
        for name in "caf":
            assert await store.conversations.remove("p", "conv_1", name)
        assert await talk.listed("conv_1") == ["b", "d", "e"]
        assert await talk.world.alive("abcdef") == {"b", "d", "e"}
        for name in "bde":
            assert await store.conversations.remove("p", "conv_1", name)
        assert await talk.seen("conv_1") == []
        await talk.add("conv_1", "g")
        await talk.say("conv_1", "one")
        assert await talk.world.inputs("one") == ["g", "one?"]

    async def test_a_pin_keeps_what_is_taken_out(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        await talk.say("conv_1", "one")
        context = await talk.world.pin("one")
        assert await store.conversations.remove("p", "conv_1", "a")
        assert await store.delete("p", "one")
        assert await talk.world.alive(["a", "one?"]) == {"a", "one?"}

        await store.save(record("next", parent=context.parent, input=items("next?")))
        talk.world.release(context)
        await store.append([])
        assert await talk.world.inputs("next") == ["a", "one?", "one!", "next?"]
        assert await store.delete("p", "next")
        assert await talk.world.alive(["a", "one?"]) == {"one?"}

        context = await talk.enter("conv_1", "two")
        assert await store.conversations.delete("p", "conv_1")
        assert await talk.world.alive(["one?"]) == {"one?"}
        talk.world.release(context)
        await store.append([])
        assert await talk.world.alive(["one?"]) == set()

    async def test_a_pin_that_nobody_continues_lets_what_was_taken_out_go(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        await talk.say("conv_1", "one")
        context = await talk.world.pin("one")
        assert await store.conversations.remove("p", "conv_1", "a")
        assert await store.delete("p", "one")
        assert await talk.world.alive(["a"]) == {"a"}
        talk.world.release(context)
        await store.append([])
        assert await talk.world.alive(["a", "one!"]) == {"one!"}

    @pytest.mark.parametrize("stored", [True, False])
    async def test_a_response_goes_on_alone_when_its_conversation_is_deleted(
        self, store: Store, talk: Talk, stored: bool
    ) -> None:
        await talk.create("conv_1", "a")
        context = await talk.enter("conv_1", "one")
        assert await store.conversations.delete("p", "conv_1")
        await store.save(talk.record("conv_1", "one", context.parent, stored=stored))
        talk.world.release(context)
        await store.append([])

        assert await talk.world.inputs("one") == (["a", "one?"] if stored else None)
        assert await talk.world.alive(["a", "one!"]) == ({"a", "one!"} if stored else set())
        await store.delete("p", "one")
        assert await talk.world.alive(["a", "one?"]) == set()

    async def test_a_run_goes_on_alone_when_its_conversation_is_deleted(self, store: Store, talk: Talk) -> None:
        await talk.create("conv_1", "a")
        begun = await talk.begin("conv_1", "run")
        assert await store.conversations.delete("p", "conv_1")
        assert await talk.world.finish(begun)
        assert await talk.world.inputs("run") == ["a", "run?"]
        await store.delete("p", "run")
        assert await talk.world.alive(["a", "run?", "run!"]) == set()

    @pytest.mark.parametrize("seed", range(4))
    async def test_a_random_life_of_conversations_agrees_with_the_model(self, stores: Stores, seed: int) -> None:
        store = stores.open(segments_max=5)
        life = Life(Talk(store), random.Random(seed))
        for _ in range(150):
            await within(life.step())
            await life.check()
        await life.end()
        await store.close()
