"""What the deliverer makes of the outbox, over the real store, in a loop whose time is virtual."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from openai import OpenAI
from tests.runs.stage import SEALER
from tests.simulation.database import Database
from tests.simulation.loop import EPOCH, SimulatedLoop
from tests.stores.world import World

from antiphon.engine.ports.stores import StoreError
from antiphon.engine.webhooks import Changes, Endpoint, Undelivered
from antiphon.protocol.webhooks import EVENT_TYPES
from antiphon.runs import outbox
from antiphon.runs.outbox import EACH_MAX, Deliverer, Settings
from antiphon.runs.signing import OLD_SECRET_SECONDS, SigningSecrets, headers, new_secret, signer
from antiphon.sealing import Sealer

SDK = OpenAI(api_key="any", base_url="http://unused.invalid")
HOUR = 3600.0


class VirtualClock:
    """The loop's time, and ids that count."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._count = 0

    def now(self) -> float:
        return EPOCH + self._loop.time()

    def new_id(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count:028d}"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Post:
    """Receivers by their URLs: each says a status, raises, or never answers; what they got and when is kept."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.answers: dict[str, Callable[[int], int | Undelivered | None]] = {}
        self.got: list[tuple[float, str, bytes, dict[str, str]]] = []
        self.open = 0
        self.most: dict[str, int] = {}
        self._now: dict[str, int] = {}

    def check(self, url: str) -> None:
        raise AssertionError(url)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, static: bool) -> int:
        assert not static
        self.got.append((self._loop.time(), url, body, dict(headers)))
        tries = len(self.times(url))
        self._now[url] = self._now.get(url, 0) + 1
        self.most[url] = max(self.most.get(url, 0), self._now[url])
        try:
            await asyncio.sleep(0.05)
            answer = self.answers.get(url, lambda _tries: 200)(tries)
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Undelivered):
                raise answer
            assert answer is not None
            return answer
        finally:
            self._now[url] -= 1

    def times(self, url: str) -> list[float]:
        return [moment for moment, to, _, _ in self.got if to == url]


class Scene:
    """A database, receivers and a deliverer in virtual time."""

    def __init__(self, loop: SimulatedLoop, seal: Sealer = SEALER, **settings: Any) -> None:
        self.loop = loop
        self.store = Database(loop)
        self.world = World(self.store)
        self.clock = VirtualClock(loop)
        self.post = Post(loop)
        self.seal = seal
        self.settings = Settings(**settings)
        self.secrets: dict[str, str] = {}
        self.deliverers: list[Deliverer] = []

    def deliverer(self, webhooks: Any = None) -> Deliverer:
        made = Deliverer(
            webhooks or self.store.webhooks, self.post, self.seal, self.clock, self.settings, lambda: 0.5
        )  # fmt: skip
        made.start()
        self.deliverers.append(made)
        return made

    async def endpoint(self, id: str = "we_1", *event_types: str) -> str:
        """Makes one; its URL."""
        self.secrets[id] = new_secret()
        sealed = SigningSecrets(self.secrets[id]).sealed(self.seal, "p")
        url = f"https://{id}.example/"
        made = Endpoint(id, id, url, event_types or EVENT_TYPES, sealed, 1, 1)
        assert await self.store.webhooks.create("p", made, 100)
        return url

    async def ends(self, *names: str, status: str = "completed") -> None:
        for name in names:
            assert await self.world.finish(await self.world.begin(turn=name), status)

    async def left(self) -> int:
        """How many rows of the outbox are there."""
        return int(self.store._reading.execute("SELECT count(*) FROM outbox").get)  # type: ignore[call-overload]


def played(course: Callable[[Scene], Coroutine[Any, Any, None]], **options: Any) -> Scene:
    """Runs a course to its end."""
    loop = SimulatedLoop(Random(1))

    async def whole() -> Scene:
        scene = Scene(loop, **options)
        await course(scene)
        for deliverer in scene.deliverers:
            await deliverer.close()
        return scene

    try:
        scene = loop.run(whole())
    finally:
        loop.close()
    assert loop.reported == []
    scene.store.dispose()
    return scene


def test_an_event_is_what_the_official_helper_takes() -> None:
    async def course(scene: Scene) -> None:
        await scene.endpoint()
        scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(3)
        assert await scene.left() == 0

    scene = played(course)

    [(_, _, body, sent)] = scene.post.got
    assert msgspec.json.decode(body) == {
        "id": "evt_one",
        "object": "event",
        "created_at": int(EPOCH),
        "type": "response.completed",
        "data": {"id": "resp_one"},
    }
    assert sent["webhook-id"] == "evt_one"
    assert sent["content-type"] == "application/json"
    moment = datetime.fromtimestamp(int(sent["webhook-timestamp"]), UTC)
    assert sent["webhook-signature"] == signer(scene.secrets["we_1"]).sign("evt_one", moment, body.decode())
    assert abs(int(sent["webhook-timestamp"]) - EPOCH) < 5


def test_who_ends_a_run_here_need_not_wait() -> None:
    async def course(scene: Scene) -> None:
        await scene.endpoint()
        deliverer = scene.deliverer()
        await asyncio.sleep(0.1)  # it knows which projects have endpoints
        await scene.ends("resp_one")
        deliverer.ended("other")
        await asyncio.sleep(0.2)
        assert scene.post.got == []
        deliverer.ended("p")
        await asyncio.sleep(0.2)
        assert len(scene.post.got) == 1

    played(course)


def test_a_receiver_that_fails_three_times_is_told_the_same_again() -> None:
    async def course(scene: Scene) -> None:
        url = await scene.endpoint()
        scene.post.answers[url] = lambda tries: (500, 302, Undelivered("It is down."), 204)[tries - 1]  # type: ignore[return-value]
        scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(120)
        assert await scene.left() == 0

    scene = played(course)

    moments = [moment for moment, _, _, _ in scene.post.got]
    assert len(moments) == 4
    pauses = [after - before for before, after in pairwise(moments)]
    for pause, least in zip(pauses, (5 * 1.25, 10 * 1.25, 20 * 1.25), strict=True):
        assert least <= pause <= least + outbox.POLL_SECONDS + 0.2
    assert {sent["webhook-id"] for _, _, _, sent in scene.post.got} == {"evt_one"}
    assert len({body for _, _, body, _ in scene.post.got}) == 1
    assert len({sent["webhook-timestamp"] for _, _, _, sent in scene.post.got}) == 4


def test_it_is_given_up_when_its_hours_are_over() -> None:
    async def course(scene: Scene) -> None:
        url = await scene.endpoint()
        scene.post.answers[url] = lambda _tries: 503
        deliverer = scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(30 * HOUR)
        assert deliverer.dead == 1
        assert await scene.left() == 1
        await scene.store.expire(int(EPOCH + 15 * HOUR + 7 * 24 * HOUR))
        assert await scene.left() == 1
        await scene.store.expire(int(EPOCH + 24 * HOUR + 7 * 24 * HOUR))
        assert await scene.left() == 0

    scene = played(course, webhook_retry_hours=24.0)

    moments = [moment for moment, _, _, _ in scene.post.got]
    assert 15 * HOUR < moments[-1] < 24 * HOUR
    assert 10 < len(moments) < 20
    pauses = [after - before for before, after in pairwise(moments)]
    assert max(pauses) <= 9 * HOUR + 5


def test_a_receiver_that_never_answers_holds_nobody_up() -> None:
    async def course(scene: Scene) -> None:
        dead, alive = await scene.endpoint("we_dead"), await scene.endpoint("we_alive")
        scene.post.answers[dead] = lambda _tries: None
        scene.deliverer()
        await scene.ends(*(f"resp_{number}" for number in range(40)))
        await asyncio.sleep(10)
        assert len(scene.post.times(alive)) == 40
        await asyncio.sleep(10)
        assert scene.post.most[dead] == EACH_MAX
        assert len(scene.post.times(dead)) == 2 * EACH_MAX  # it timed out, and others of its rows are tried

    played(course)


def test_room_is_bounded() -> None:
    async def course(scene: Scene) -> None:
        urls = [await scene.endpoint(f"we_{number}") for number in range(5)]
        for url in urls:
            scene.post.answers[url] = lambda _tries: None
        deliverer = scene.deliverer()
        await scene.ends(*(f"resp_{number}" for number in range(5)))
        await asyncio.sleep(10)
        assert len(deliverer._sending) == 6

    played(course, webhook_deliveries_max=6)


def test_who_says_that_he_is_gone_is_disabled() -> None:
    async def course(scene: Scene) -> None:
        url = await scene.endpoint()
        scene.post.answers[url] = lambda _tries: 410
        scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(3)
        await scene.ends("resp_two")
        await asyncio.sleep(100)
        assert len(scene.post.got) == 1
        found = await scene.store.webhooks.read("p", "we_1")
        assert found is not None
        assert found.disabled_at is not None

        scene.post.answers[url] = lambda _tries: 200
        assert await scene.store.webhooks.change("p", "we_1", Changes(2)) is not None
        await scene.ends("resp_three")
        await asyncio.sleep(3)
        assert [msgspec.json.decode(body)["data"]["id"] for _, _, body, _ in scene.post.got] == [
            "resp_one",
            "resp_three",
        ]

    played(course)


def test_many_processes_tell_each_event_once() -> None:
    async def course(scene: Scene) -> None:
        await scene.endpoint()
        for _ in range(4):
            scene.deliverer()
        await scene.ends(*(f"resp_{number}" for number in range(50)))
        await asyncio.sleep(30)
        assert await scene.left() == 0

    scene = played(course)

    ids = [sent["webhook-id"] for _, _, _, sent in scene.post.got]
    assert len(ids) == len(set(ids)) == 50


def test_what_a_dead_process_had_claimed_is_told_with_the_same_id() -> None:
    async def course(scene: Scene) -> None:
        url = await scene.endpoint()
        scene.post.answers[url] = lambda tries: None if tries == 1 else 200
        process = scene.loop.process("dead")
        doomed = process.context.run(scene.deliverer)
        scene.deliverers.remove(doomed)
        await scene.ends("resp_one")
        await asyncio.sleep(3)
        assert len(scene.post.got) == 1
        scene.loop.kill(process)
        scene.deliverer()
        await asyncio.sleep(60)
        assert await scene.left() == 0

    scene = played(course)

    assert [sent["webhook-id"] for _, _, _, sent in scene.post.got] == ["evt_one"] * 2


def test_a_stop_lets_go_of_what_is_on_its_way() -> None:
    async def course(scene: Scene) -> None:
        url = await scene.endpoint()
        scene.post.answers[url] = lambda tries: None if tries == 1 else 200
        first = scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(3)
        before = scene.loop.time()
        await first.close()
        assert scene.loop.time() - before < 1
        scene.deliverer()
        await asyncio.sleep(1)
        assert len(scene.post.got) == 2
        assert await scene.left() == 0

    played(course)


def test_a_store_that_is_away_costs_time_only() -> None:
    class Flaky:
        """Every second call fails, by and large."""

        def __init__(self, webhooks: Any) -> None:
            self._webhooks = webhooks
            self._random = Random(3)

        def __getattr__(self, name: str) -> Any:
            async def call(*arguments: Any) -> Any:
                if self._random.random() < 0.5:
                    raise StoreError("away")
                return await getattr(self._webhooks, name)(*arguments)

            return call

    async def course(scene: Scene) -> None:
        await scene.endpoint()
        scene.deliverer(Flaky(scene.store.webhooks))
        await scene.ends("resp_one", "resp_two")
        await asyncio.sleep(200)
        assert await scene.left() == 0

    scene = played(course)

    assert {sent["webhook-id"] for _, _, _, sent in scene.post.got} == {"evt_one", "evt_two"}


def test_nothing_is_asked_for_a_run_of_a_project_without_endpoints() -> None:
    class Counting:
        def __init__(self, webhooks: Any) -> None:
            self._webhooks = webhooks
            self.calls: list[str] = []

        def __getattr__(self, name: str) -> Any:
            self.calls.append(name)
            return getattr(self._webhooks, name)

    async def course(scene: Scene) -> None:
        counting = Counting(scene.store.webhooks)
        deliverer = scene.deliverer(counting)
        for number in range(20):
            await scene.ends(f"resp_{number}")
            deliverer.ended("p")
        await asyncio.sleep(3.9)
        assert counting.calls == ["projects"] * 2
        assert await scene.left() == 0

    played(course)


def test_secrets_that_cannot_be_opened_any_more_are_a_failure_like_others() -> None:
    async def course(scene: Scene) -> None:
        await scene.endpoint()
        scene.seal = Sealer([b"another key of tests, of 32 bytes"])
        scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(30)
        assert scene.post.got == []
        assert await scene.left() == 1

    played(course)


def test_a_delivery_that_breaks_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def course(scene: Scene) -> None:
        bad, good = await scene.endpoint("we_bad"), await scene.endpoint("we_good")
        scene.post.answers[bad] = lambda tries: 1 // (tries - 1) + 199
        scene.deliverer()
        await scene.ends("resp_one")
        await asyncio.sleep(3)
        assert len(scene.post.times(good)) == 1
        await asyncio.sleep(60)
        assert len(scene.post.times(bad)) == 2
        assert await scene.left() == 0

    played(course)

    assert "ZeroDivisionError" in caplog.text


# --- Signatures ---


def test_both_secrets_sign_for_a_day_after_a_rotation() -> None:
    first = SigningSecrets(new_secret())
    kept, dropped = first.rotated(1000, keep=True), first.rotated(1000, keep=False)

    assert kept.valid(1000) == kept.valid(1000 + OLD_SECRET_SECONDS - 1) == [kept.current, first.current]
    assert kept.valid(1000 + OLD_SECRET_SECONDS) == [kept.current]
    assert dropped.valid(1000) == [dropped.current]
    assert len({first.current, kept.current, dropped.current}) == 3


@pytest.mark.parametrize("secret", ["whsec_" + 8 * "c2VjcmV0", "a plain secret, taken as it is"])
def test_every_valid_secret_verifies_and_no_other(secret: str) -> None:
    body = b'{"id":"evt_1","type":"response.completed","created_at":1,"data":{"id":"resp_1"},"x":"n\xc3\xa9e"}'
    other = new_secret()
    sent = headers("evt_1", body, int(time.time()), [secret, other])

    for key in (secret, other):
        assert SDK.webhooks.unwrap(body, sent, secret=key).id == "evt_1"
    with pytest.raises(Exception, match="signature"):
        SDK.webhooks.unwrap(body, sent, secret=new_secret())
    with pytest.raises(Exception, match="signature"):
        SDK.webhooks.unwrap(body + b" ", sent, secret=secret)
    late = headers("evt_1", body, int(time.time()) - 400, [secret])
    with pytest.raises(Exception, match="too old"):
        SDK.webhooks.unwrap(body, late, secret=secret)


def test_an_empty_secret_is_none() -> None:
    for secret in ("", "whsec_"):
        with pytest.raises(ValueError, match="empty"):
            signer(secret)


def test_secrets_are_sealed_for_their_project() -> None:
    made = SigningSecrets(new_secret(), new_secret(), 5)
    sealed = made.sealed(SEALER, "p")

    assert made.current not in sealed
    assert SigningSecrets.opened(sealed, SEALER, "p") == made
    with pytest.raises(Undelivered):
        SigningSecrets.opened(sealed, SEALER, "q")
