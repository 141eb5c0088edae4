"""What the contract of conversations is told with: a conversation and the shortest ways of talking in it, and a life.

``Life`` does anything at random, beside a model in plain Python.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tests.stores.world import World, items, name_of, record

from antiphon.engine.ports.stores import Context, Conversation, Hold, Parent, Record, Store, StoredItem
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Outcome

LONG = 1000.0
ENDS = ("failed", "cancelled")


class Talk:
    """A world with conversations, and the shortest ways of saying things in them."""

    def __init__(self, store: Store, project: str = "p") -> None:
        self.world = World(store, project)
        self.store = store
        self.project = project

    async def create(self, id: str, *ids: str, metadata: bytes = b"{}") -> str:
        await self.store.conversations.create(self.project, Conversation(id, 1_700_000_000, metadata), items(*ids))
        return id

    async def add(self, conversation: str, *ids: str) -> bool:
        return await self.store.conversations.add(self.project, conversation, items(*ids))

    async def listed(self, conversation: str) -> list[str] | None:
        """The ids of all items, oldest first."""
        listing = await self.store.conversations.items(self.project, conversation, Page(10_000, "asc"))
        if listing is None:
            return None
        assert [id for id, _ in listing.items] == [name_of(body) for _, body in listing.items]
        return [id for id, _ in listing.items]

    async def seen(self, conversation: str) -> list[str]:
        """The ids of what a response in it would see."""
        context = await self.store.conversations.context(self.project, conversation)
        assert context.parent is None
        return [name_of(body) for body in context.bodies]

    async def enter(self, conversation: str, response: str, seconds: float = LONG) -> Context:
        return await self.store.conversations.enter(Hold(self.project, conversation, response), seconds)

    async def leave(self, conversation: str, response: str) -> None:
        await self.store.conversations.leave(Hold(self.project, conversation, response))

    def record(self, conversation: str, response: str, parent: Parent | None, **members: Any) -> Record:
        given = {"input": items(f"{response}?"), "output": items(f"{response}!"), **members}
        made = record(response, project=self.project, parent=parent, **given)
        made.conversation = conversation
        return made

    async def say(self, conversation: str, response: str, **members: Any) -> str:
        """A turn with one item in and one out, named after it."""
        context = await self.enter(conversation, response)
        await self.store.save(self.record(conversation, response, context.parent, **members))
        self.world.release(context)
        return response

    async def begin(self, conversation: str, response: str, **members: Any) -> Record:
        """A background run, about to start."""
        context = await self.enter(conversation, response)
        given = {"output": [], "status": "queued", "background": True, **members}
        begun = self.record(conversation, response, context.parent, **given)
        await self.store.begin(begun)
        self.world.release(context)
        return begun

    async def refused(self, waiting: Any) -> tuple[int, str | None, str | None]:
        error = await self.world.refusal(waiting)
        return error.status, error.code, error.param


LOCKED = (400, "conversation_locked", "conversation")


class Life:
    """Random conversations, turns, chains, runs, removals and deletions, beside a model in plain Python."""

    def __init__(self, talk: Talk, chance: random.Random) -> None:
        self.talk = talk
        self.store = talk.store
        self._chance = chance
        self._serial = 0
        self.conversations: dict[str, list[str]] = {}
        #: What each response has seen, said and come to; gone with the response.
        self.inputs: dict[str, list[str]] = {}
        self.outputs: dict[str, list[str]] = {}
        self.statuses: dict[str, str] = {}
        self.runs: dict[str, tuple[Record, str]] = {}
        self.everything: set[str] = set()

    def _name(self, prefix: str) -> str:
        self._serial += 1
        return f"{prefix}{self._serial}"

    def _items(self, response: str) -> tuple[list[StoredItem], list[StoredItem]]:
        given = items(*(f"{response}?{number}" for number in range(self._chance.choice([1, 1, 2]))))
        said = items(*(f"{response}!{number}" for number in range(self._chance.choice([0, 1, 2]))))
        self.everything |= {one.id for one in [*given, *said]}
        return given, said

    def _busy(self, conversation: str) -> bool:
        return any(at == conversation for _, at in self.runs.values())

    def _some(self) -> str | None:
        return self._chance.choice(sorted(self.conversations)) if self.conversations else None

    async def step(self) -> None:
        weights = [1, 3, 5, 2, 2, 2, 3, 3, 1]
        steps = [
            self._create, self._add, self._turn, self._begin, self._finish, self._chain, self._take_out,
            self._delete_response, self._delete_conversation,
        ]  # fmt: skip
        await self._chance.choices(steps, weights)[0]()

    async def _create(self) -> None:
        if len(self.conversations) < 3:
            name = self._name("conv_")
            ids = [self._name("i") for _ in range(self._chance.randrange(3))]
            await self.talk.create(name, *ids)
            self.conversations[name] = ids
            self.everything |= set(ids)

    async def _add(self) -> None:
        name = self._some()
        if name is None:
            return
        ids = [self._name("i") for _ in range(self._chance.randrange(1, 4))]
        if self._busy(name):
            assert await self.talk.refused(self.talk.add(name, *ids)) == LOCKED
            return
        assert await self.talk.add(name, *ids)
        self.conversations[name] += ids
        self.everything |= set(ids)

    async def _turn(self) -> None:
        name = self._some()
        if name is None or self._busy(name):
            return
        response = self._name("r")
        status = self._chance.choice(["completed", "completed", "incomplete", "failed"])
        given, said = self._items(response)
        stored = self._chance.random() < 0.7
        await self.talk.say(name, response, input=given, output=said, status=status, stored=stored)
        if stored:
            self._note(response, self.conversations[name], given, said, status)
        if status != "failed":
            self.conversations[name] += [one.id for one in [*given, *said]]

    def _note(
        self, response: str, before: Sequence[str], given: Sequence[StoredItem], said: Sequence[StoredItem], status: str
    ) -> None:
        self.inputs[response] = [*before, *(one.id for one in given)]
        self.outputs[response] = [one.id for one in said]
        self.statuses[response] = status

    async def _begin(self) -> None:
        name = self._some()
        if name is None or self._busy(name):
            return
        response = self._name("r")
        given, said = self._items(response)
        begun = await self.talk.begin(name, response, input=given)
        begun.output = said
        self.runs[response] = (begun, name)
        self._note(response, self.conversations[name], given, [], "queued")

    async def _finish(self) -> None:
        if not self.runs:
            return
        response = self._chance.choice(sorted(self.runs))
        begun, name = self.runs.pop(response)
        status = self._chance.choice(["completed", "incomplete", "failed", "cancelled"])
        begun.outcome = Outcome(status)
        claim = await self.store.claim("p", response)
        assert claim is not None
        assert await self.store.finish(begun, claim.fence, [])
        self.outputs[response] = [one.id for one in begun.output]
        self.statuses[response] = status
        if status not in ENDS and name in self.conversations:
            self.conversations[name] += [one.id for one in [*begun.input, *begun.output]]

    async def _chain(self) -> None:
        """A response behind another one, which may be a conversation's."""
        known = [one for one, status in sorted(self.statuses.items()) if status in ("completed", "incomplete")]
        if known:
            previous = self._chance.choice(known[-5:])
            response = self._name("r")
            given, said = self._items(response)
            await self.talk.world.say(previous, turn=response, input=given, output=said)
            before = [*self.inputs[previous], *self.outputs[previous]]
            self._note(response, before, given, said, "completed")

    async def _take_out(self) -> None:
        name = self._some()
        if name is None or not self.conversations[name]:
            return
        ids = self.conversations[name]
        for one in self._chance.sample(ids, min(len(ids), self._chance.choice([1, 1, 2, 5]))):
            removing = self.store.conversations.remove("p", name, one)
            if self._busy(name):
                assert await self.talk.refused(removing) == LOCKED
            else:
                assert await removing
                ids.remove(one)

    async def _delete_response(self) -> None:
        doomed = sorted(set(self.statuses) - set(self.runs))
        for response in self._chance.sample(doomed, min(len(doomed), self._chance.choice([1, 1, 3]))):
            assert await self.store.delete("p", response)
            for known in (self.inputs, self.outputs, self.statuses):
                del known[response]  # type: ignore[attr-defined]

    async def _delete_conversation(self) -> None:
        name = self._some()
        if name is not None and self._chance.random() < 0.5:
            assert await self.store.conversations.delete("p", name)
            del self.conversations[name]

    async def check(self) -> None:
        """The store shows exactly what the model says."""
        for name, ids in self.conversations.items():
            assert await self.talk.listed(name) == await self.talk.seen(name) == ids, name
        for response, ids in self.inputs.items():
            assert await self.talk.world.inputs(response) == ids, response
            assert await self.talk.world.outputs(response) == self.outputs[response], response
        lines = [*self.conversations.values(), *self.inputs.values(), *self.outputs.values()]
        assert await self.talk.world.alive(self.everything) == {id for line in lines for id in line}

    async def end(self) -> None:
        """Everything goes, in a random order."""
        while self.runs:
            await self._finish()
        while self.statuses:
            await self._delete_response()
            await self._delete_conversation()
            await self.check()
        while self.conversations:
            await self._delete_conversation()
        await self.check()
        assert await self.talk.world.alive(self.everything) == set()
