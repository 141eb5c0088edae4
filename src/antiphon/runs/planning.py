"""From a request to the plan of a run: the model's place, the context it sees, the tools it may call.

Must not know of tasks, logs or readers.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from antiphon.engine import compaction, context, intake, replays, toolbox
from antiphon.engine.calls import MayCall
from antiphon.engine.compaction import Compactor
from antiphon.engine.computing import computed
from antiphon.engine.contracts import Compiler
from antiphon.engine.intake import Taken
from antiphon.engine.ports.stores import Context, Memory, Store
from antiphon.engine.ports.tools import Tool
from antiphon.engine.ports.upstreams import Capabilities, ContextItem, Models, Route
from antiphon.engine.ports.world import Attachments, Clock, Seal
from antiphon.engine.recalling import recall
from antiphon.engine.strictness import instructions, native_to
from antiphon.engine.thoughts import Thoughts
from antiphon.engine.turns import Plan
from antiphon.protocol.errors import missing
from antiphon.protocol.items import decode_item
from antiphon.protocol.requests import CreateResponse, require_model
from antiphon.runs.settings import Settings

#: How often a history is looked for, each time a shorter part of it, where ids stand in the way.
BEGINNINGS_MAX = 3


class Sorted(NamedTuple):
    """The items that a model is to see and where each stands in the whole context, with the tools that it may call.

    ``earlier``: how many items of the whole context come from before the request.
    """

    request: CreateResponse
    items: list[ContextItem]
    places: Sequence[int]
    earlier: int
    box: toolbox.Toolbox


class Placed(NamedTuple):
    """Where a request goes in the store: behind which items, what is new of it, and the hash behind that, if known."""

    before: Context
    new: list[Taken]
    hash: bytes | None


class Planner:
    """Makes plans; every method raises ``ApiError`` for what a request refers to and cannot have."""

    def __init__(
        self,
        store: Store,
        models: Models,
        tools: Mapping[str, Tool],
        attachments: Attachments,
        clock: Clock,
        seal: Seal,
        settings: Settings,
    ) -> None:
        self._store = store
        self._models = models
        self._tools = tools
        self._attachments = attachments
        self._clock = clock
        self._seal = seal
        self._settings = settings
        self._compiler = Compiler()

    async def before(self, project: str, request: CreateResponse, memory: Memory | None = None) -> Context:
        """What the request continues, pinned until it is released; a conversation's items are not pinned.

        What its client's ``memory`` holds comes before what the store does.
        """
        if request.conversation_id is not None:
            return await self._store.conversations.context(project, request.conversation_id)
        if request.previous_response_id is None:
            return Context(None, [], hash=replays.START)
        remembered = None if memory is None else memory.recall(request.previous_response_id)
        if remembered is not None:
            return remembered
        return await self._store.context(project, request.previous_response_id)

    async def placed(self, project: str, request: CreateResponse, before: Context, taken: list[Taken]) -> Placed:
        """Where the request goes.  Of a history that is sent again the store has a beginning, pinned like any context.

        That one's bodies are the request's own, and wherever the client gave an id, the stored item has it.
        """
        if not request.stored or before.hash is None:
            return Placed(before, taken, None)
        rolling = partial(replays.rolled, before.hash, taken)
        hashes = await computed(rolling, items=len(taken), size=sum(len(item.body) for item in taken))
        placed = Placed(before, taken, hashes[-1] if hashes else before.hash)
        if request.previous_response_id is not None or len(taken) < 2:
            return placed
        ids = replays.given_ids(request.input, taken)
        for _ in range(BEGINNINGS_MAX):
            seen = await self._store.beginning(project, replays.beginnings(hashes, ids))
            if seen is None:
                break
            length = len(hashes) - seen.which
            agreed = replays.agreed(seen.ids, ids)
            if agreed == len(seen.ids) == length:
                bodies = [item.body for item in taken[:length]]
                return Placed(Context(seen.parent, bodies), taken[length:], placed.hash)
            self._store.release(seen.parent)
            hashes = hashes[: min(agreed, length - 1)]
        return placed

    def release(self, before: Context) -> None:
        if before.parent is not None:
            self._store.release(before.parent)

    async def take(self, project: str, request: CreateResponse) -> list[Taken]:
        """The request's input as items."""
        return await intake.take(request.input, project, self._store, self._clock)

    async def plan(
        self,
        project: str,
        request: CreateResponse,
        earlier: Sequence[bytes],
        taken: Sequence[Taken],
        route: Route | None = None,
    ) -> Plan:
        """``earlier``: the bodies of the items before the request; ``route``: not where its model's name leads."""
        if route is None:
            route = await self._models.route(require_model(request, self._settings.default_model))
        takes = route.upstream.capabilities(route.model)
        compactor = Compactor(self._seal, project)
        sorting = partial(self._sorted, request, earlier, taken, compactor, takes)
        request, items, places, before, box = await computed(sorting, items=len(earlier) + len(taken))
        at_most = self._settings.limits.attachments_max
        items = await context.readable(items, before, takes, self._attachments, at_most, places)
        thoughts = Thoughts.of(request, self._seal, project)
        items = await thoughts.opened(items, before, places)
        items = await computed(partial(recall, items, box), items=len(items))
        declared = [offer.declaration for offer in box.offers.values() if offer.hosted is None]
        contracts = await self._compiler.contracts(request, declared)
        native = native_to(takes)
        told = instructions(contracts, native)
        if told is not None:
            items = [context.instruction(told), *items]
        return Plan(request, route, items, box, self._settings.limits, contracts, native, thoughts, compactor, project)

    def _sorted(
        self,
        request: CreateResponse,
        earlier: Sequence[bytes],
        taken: Sequence[Taken],
        compactor: Compactor,
        takes: Capabilities,
    ) -> Sorted:
        before = context.view(earlier)
        said = [*before, *taken]
        if request.conversation_id is not None and not said:
            raise missing("input")
        seen = compactor.seen(said, len(before))
        whole = context.whole_calls(seen.items)
        items, places = [seen.items[index] for index in whole], [seen.places[index] for index in whole]
        context.check_pairs(items)
        # What a context has set, and the tools that it has brought, outlive its compaction.
        request = context.configured(request, said)
        strict, foreign = self._settings.strict_tools, takes.foreign_tools
        box = toolbox.sort(request, self._tools, strict=strict, items=said, earlier=len(before), foreign=foreign)
        return Sorted(request, items, places, len(before), box)

    async def plan_alone(self, project: str, request: CreateResponse) -> Plan:
        """The plan of a request that is not going to be run."""
        plan, _ = await self._plan_alone(project, request)
        return plan

    async def _plan_alone(self, project: str, request: CreateResponse) -> tuple[Plan, list[Taken]]:
        before = await self.before(project, request)
        try:
            taken = await self.take(project, request)
            return await self.plan(project, request, before.bodies, taken), taken
        finally:
            self.release(before)

    async def compact(self, project: str, request: CreateResponse) -> compaction.Compacted:
        """The context of a request that is not going to be run, compacted.  Raises ``UpstreamError`` as well."""
        plan, taken = await self._plan_alone(project, request)
        assert plan.compactor is not None
        made = await plan.compactor.compact(plan.items, plan.route, plan.request, self._clock.new_id)
        return made._replace(unseen=self._unseen(plan, taken))

    async def plan_again(
        self, project: str, request: CreateResponse, earlier: Sequence[bytes], input: Sequence[bytes]
    ) -> Plan:
        """The plan of a run that was begun before, whose input is stored."""
        return await self.plan(project, request, earlier, [Taken(decode_item(body), body) for body in input])

    def warnings(self, plan: Plan, taken: Sequence[Taken]) -> list[str]:
        """What of the request is not honoured, as paths."""
        request, route = plan.request, plan.route
        takes = route.upstream.capabilities(route.model)
        unheeded = request.without_effect(
            verbosity=takes.verbosity, reasoning=takes.reasoning, cache_retention=takes.cache_retention
        )
        unheeded += route.upstream.unheeded(request, route.model)
        return [*request.unknown, *unheeded, *plan.toolbox.left_out, *self._unseen(plan, taken)]

    def _unseen(self, plan: Plan, taken: Sequence[Taken]) -> list[str]:
        """The items of the request that the model does not see."""
        if plan.route.upstream.capabilities(plan.route.model).foreign_items:
            return []
        carried = {item.view.id for item in plan.items if item.view.kind == compaction.KIND}
        return toolbox.unseen(taken, self._tools, carried)


def may_call(plan: Plan) -> MayCall:
    """Which calls the model may make."""
    return plan.toolbox.may_call(parallel=plan.request.parallel_tool_calls is not False)
