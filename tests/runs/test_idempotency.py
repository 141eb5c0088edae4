"""Requests with an idempotency key: run once, joined, read again, and free where nothing came of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.runs.stage import Follower, Json, Make, Stage, checked, failure_of, id_of, types_of, within

from antiphon.engine.deltas import TextDelta
from antiphon.engine.idempotency import KeyClaim
from antiphon.engine.ports.stores import Record, Stored
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.protocol.errors import unavailable
from antiphon.protocol.fingerprint import fingerprint
from antiphon.protocol.requests import CreateResponse, read_create
from antiphon.runs.idempotency import KeyedRuns
from antiphon.runs.log import SharedLog
from antiphon.runs.run import Run
from antiphon.stores.sqlite import SqliteStore
from antiphon.stores.sqlite.idempotency import SqliteKeys
from antiphon.upstreams.scripted import Script

HI: Script = [[TextDelta("Hi")], Stop("stop")]


async def once(here: Stage, project: str = "p", *, key: str = "k", **parameters: Any) -> Run | Stored:
    """A keyed request, as the web layer makes it."""
    body = json.dumps({"model": "demo", "input": "Hello", **parameters}).encode()
    return await within(here.runs.create_once(project, read_create(body), key, fingerprint(body)))


async def run_of(here: Stage, **parameters: Any) -> Run:
    run = await once(here, **parameters)
    assert isinstance(run, Run)
    run.join(object())
    return run


async def stored_of(here: Stage, **parameters: Any) -> Json:
    stored = await once(here, **parameters)
    assert isinstance(stored, Stored)
    told: Json = json.loads(stored.snapshot())
    return told


def follow(run: Run) -> Follower:
    follower = Follower()
    assert isinstance(run.log, SharedLog)
    run.log.attach(follower)
    return follower


class RenewalKeys(SqliteKeys):
    """Tells of every renewal."""

    def __init__(self, store: RenewalStore) -> None:
        super().__init__(store)
        self._renewals = store.renewals

    async def hold(self, claims: Sequence[KeyClaim], seconds: float) -> None:
        await super().hold(claims, seconds)
        self._renewals.put_nowait((claims, seconds))


class RenewalStore(SqliteStore):
    """Keeps what is held anew."""

    def __init__(self) -> None:
        super().__init__(None)
        self.renewals: asyncio.Queue[tuple[Sequence[KeyClaim], float]] = asyncio.Queue()

    @property
    def keys(self) -> RenewalKeys:
        return RenewalKeys(self)


class HeldStore(SqliteStore):
    """Fails to save as often as it is told."""

    def __init__(self, failures: int) -> None:
        super().__init__(None)
        self.failures = failures

    async def save(self, record: Record) -> None:
        if self.failures:
            self.failures -= 1
            raise unavailable("away")
        await super().save(record)


# --- Sent again ---


async def test_the_same_request_reads_what_the_first_came_to(stage: Make) -> None:
    here = stage(HI)
    first = json.loads(await within((await run_of(here)).finished()))

    assert await stored_of(here) == first == await here.read(first["id"])
    assert len(here.upstream.requests) == 1


async def test_a_request_that_says_the_same_in_another_order_is_the_same(stage: Make) -> None:
    here = stage(HI)
    first = json.loads(await within((await run_of(here, temperature=1, user="u")).finished()))

    assert (await stored_of(here, user="u", temperature=1))["id"] == first["id"]


async def test_while_it_runs_the_same_request_waits_with_the_first(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([gate, *HI])
    first, second = await run_of(here), await run_of(here)

    gate.set()

    assert first is second
    assert await within(first.finished()) == await within(second.finished())
    assert len(here.upstream.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_of_many_at_once_one_runs(stage: Make, stream: bool) -> None:
    gate = asyncio.Event()
    here = stage([gate, *HI])

    runs = await asyncio.gather(*(run_of(here, stream=stream) for _ in range(10)))
    gate.set()
    await within(runs[0].finished())

    assert len({id_of(run) for run in runs}) == 1
    assert len(here.upstream.requests) == 1


async def test_whoever_joins_a_stream_gets_it_from_the_beginning(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate, [TextDelta("!")], Stop("stop")])
    first = follow(await run_of(here, stream=True))
    await first.until_type("output_text.delta")

    second = follow(await run_of(here, stream=True))
    assert second.events == first.events
    gate.set()

    assert checked(await first.whole()) == await second.whole()
    assert second.text() == "Hi!"


async def test_a_stream_goes_on_for_those_who_stay(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate, *HI])
    run = await run_of(here, stream=True)
    run.join("first")
    second = follow(await run_of(here, stream=True))

    run.leave("first")
    run.leave("first")
    gate.set()

    assert types_of(await second.whole())[-1] == "completed"


async def test_a_stream_that_is_too_long_to_be_joined_is_waited_for(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("x" * 1000)], [TextDelta("y" * 1000)], gate, *HI])
    monkeypatch.setattr("antiphon.runs.running.SharedLog", lambda: SharedLog(2500))
    run = await run_of(here, stream=True)
    first = follow(run)
    await first.until(lambda reader: "y" in reader.text())
    late = Follower()
    assert isinstance(run.log, SharedLog)
    run.log.attach(late)
    assert await within(late.ended) is False

    second = asyncio.ensure_future(stored_of(here, stream=True))
    gate.set()

    assert (await within(second))["id"] == id_of(run)
    assert types_of(await first.whole())[-1] == "completed"


async def test_a_background_run_is_begun_once(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([gate, *HI])
    run, *others = await asyncio.gather(*(once(here, background=True) for _ in range(4)))

    assert isinstance(run, Run)
    assert [isinstance(other, Stored) and other.shell.id for other in others] == [id_of(run)] * 3
    gate.set()
    await within(run.finished())
    assert (await stored_of(here, background=True))["status"] == "completed"
    assert len(here.upstream.requests) == 1


# --- Another request ---


async def test_another_request_with_the_key_is_refused(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([gate, *HI])
    run = await run_of(here)

    running = await failure_of(once(here, input="Other"))
    gate.set()
    await within(run.finished())
    ended = await failure_of(once(here, input="Other"))

    for refused in (running, ended):
        assert (refused.status, refused.code) == (422, "idempotency_key_reused")
        assert dict(refused.headers) == {"x-should-retry": "false"}


async def test_what_is_not_stored_cannot_be_asked_for_again(stage: Make) -> None:
    refused = await failure_of(once(stage(HI), store=False))

    assert (refused.status, refused.param) == (400, "store")


async def test_projects_and_keys_do_not_meet(stage: Make) -> None:
    here = stage(HI, HI, HI)
    runs = [await once(here), await once(here, "q"), await once(here, key="K", input="Other")]

    assert len({id_of(run) for run in runs if isinstance(run, Run)}) == 3
    for run in runs:
        assert isinstance(run, Run)
        await within(run.finished())


# --- What leaves nothing ---


async def test_when_the_first_client_has_left_the_next_runs_anew(stage: Make) -> None:
    never = asyncio.Event()
    here = stage([[TextDelta("Hi")], never], HI)
    run = await once(here, stream=True)
    assert isinstance(run, Run)
    run.join("first")
    await follow(run).until_type("output_text.delta")

    run.leave("first")
    again = follow(await run_of(here, stream=True))

    assert types_of(await again.whole())[-1] == "completed"
    assert len(here.upstream.requests) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_what_never_began_frees_its_key(stage: Make, stream: bool) -> None:
    here = stage([UpstreamError("No.", status=400)], HI)
    run = await run_of(here, stream=stream)
    with pytest.raises(Exception, match=r"No\."):
        await within(run.opened() if stream else run.finished())

    again = await run_of(here, stream=stream, input="Other")

    assert json.loads(await within(again.finished()))["status"] == "completed"


async def test_a_request_that_is_refused_frees_its_key(stage: Make) -> None:
    here = stage(HI)
    refused = await failure_of(once(here, previous_response_id="resp_0"))
    assert refused.code == "previous_response_not_found"

    await within((await run_of(here)).finished())


async def test_a_reply_that_failed_is_tried_anew_and_a_stream_that_failed_is_told_again(stage: Make) -> None:
    cut: Script = [[TextDelta("H")], UpstreamError("Cut.", status=502)]
    here = stage(cut, HI, cut)
    failing = await run_of(here)
    assert (await failure_of(failing.finished())).status == 502

    assert json.loads(await within((await run_of(here)).finished()))["status"] == "completed"

    streamed = follow(await run_of(here, key="K", stream=True))
    failed = (await streamed.whole())[-1]["response"]
    assert failed == await stored_of(here, key="K", stream=True)
    assert failed["status"] == "failed"


async def test_what_could_not_be_stored_runs_again_under_its_id(stage: Make) -> None:
    here = stage(HI, HI, store=HeldStore(1))
    first = await run_of(here)
    assert (await failure_of(first.finished())).status == 503

    second = await run_of(here)

    assert json.loads(await within(second.finished()))["id"] == id_of(first) == id_of(second)


async def test_a_process_that_stops_leaves_its_keys_free(stage: Make) -> None:
    here = stage([asyncio.Event()])
    run = await run_of(here)
    waiting = asyncio.ensure_future(run.finished())

    await within(here.runs.close())

    assert (await failure_of(waiting)).status == 503
    bound = await here.store.keys.bind(KeyClaim("p", "k", b"other", "resp_1"), 1.0, 2_000_000_000)
    assert bound.response == "resp_1"


# --- Other processes ---


def beside(here: Stage, *scripts: Script) -> Stage:
    """Another process on the same store."""
    return Stage(*scripts, store=here.store)


async def test_what_another_process_runs_is_waited_for(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([gate, *HI])
    there = beside(here)
    run = await run_of(here)
    waiting = asyncio.ensure_future(stored_of(there))
    await asyncio.sleep(0)

    gate.set()

    assert (await within(waiting))["id"] == id_of(run)
    await within(there.runs.close())


async def test_what_a_process_did_not_end_goes_on_under_the_same_id(stage: Make) -> None:
    here = stage(HI)
    body = json.dumps({"model": "demo", "input": "Hello"}).encode()
    lapsed = KeyClaim("p", "k", fingerprint(body), "resp_of_a_process_that_is_gone")
    await here.store.keys.bind(lapsed, 0.0, 2_000_000_000)

    run = await run_of(here)

    assert json.loads(await within(run.finished()))["id"] == lapsed.attempt


async def test_a_key_is_held_as_long_as_its_run_lasts(stage: Make) -> None:
    gate = asyncio.Event()
    store = RenewalStore()
    here = stage([gate, *HI], store=store)

    async def begin(project: str, request: CreateResponse, response: str) -> Run:
        return await here.runs.create(project, request, keyed=response)

    keyed = KeyedRuns(store, here.clock, begin, 24, seconds=0.04)
    run = await keyed.create("p", "k", b"digest", read_create(b'{"model":"demo","input":"Hello"}'))
    assert isinstance(run, Run)

    for _ in range(3):
        claims, seconds = await within(store.renewals.get())
        assert ([claim.attempt for claim in claims], seconds) == ([id_of(run)], 0.04)

    gate.set()
    await within(run.finished())
    await within(keyed.close())
