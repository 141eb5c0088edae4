"""The embedded engine, with real child processes and the bundled model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.upstreams.asking import asked, function, user
from tests.upstreams.embedded_engine import MODEL, PATIENCE_SECONDS, STORY, Ahead, Heard, begin, gone, run, within
from tests.upstreams.gguf_files import BUNDLED, with_temperature

from antiphon.assemble import DEMO_MODEL, Server
from antiphon.clock import SystemClock
from antiphon.config import Config, ConfigError, UpstreamConfig
from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.embedded.process import MODULE
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.embedded.upstream import Embedded

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd")

Make = Callable[..., Embedded]

WEATHER = function(
    "get_weather",
    description="Get the weather",
    parameters={"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
)
TIME = function(
    "get_time",
    description="Get the time",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
WEATHER_QUESTION = user("What is the weather like in Paris today?")


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    """Makes upstreams, of the bundled model by default, and ends them."""
    made: list[Embedded] = []

    def build(files: dict[str, Path] | None = None, clock: SystemClock | None = None, **settings: float) -> Embedded:
        upstream = Embedded(files or {MODEL: BUNDLED}, clock or SystemClock(), Settings(**settings))
        made.append(upstream)
        return upstream

    yield build
    for upstream in made:
        await within(upstream.close())


@pytest_asyncio.fixture
async def upstream(make: Make) -> Embedded:
    return make()


# --- Answers ---


async def test_models_are_listed_without_loading_them(upstream: Embedded) -> None:
    listed = await upstream.models()

    assert [(model.id, model.created) for model in listed] == [(MODEL, int(BUNDLED.stat().st_mtime))]
    assert upstream.loaded() == {}
    assert not upstream.capabilities(MODEL).images


async def test_an_answer_streams_and_is_counted(upstream: Embedded) -> None:
    heard, stop = await run(upstream, stream=True)

    texts = [delta.text for delta in heard.deltas if isinstance(delta, TextDelta)]
    assert len(texts) > 10
    assert "unicorn" in heard.text
    assert stop.reason == "stop"
    assert stop.usage is not None
    assert stop.usage.input_tokens > 5
    assert len(texts) <= stop.usage.output_tokens <= len(texts) + 2


async def test_the_limit_of_tokens_is_kept(upstream: Embedded) -> None:
    _, stop = await run(upstream, max_output_tokens=16)

    assert stop.reason == "length"
    assert stop.usage is not None
    assert stop.usage.output_tokens == 16


async def test_the_next_turn_computes_only_what_is_new(upstream: Embedded) -> None:
    first, one = await run(upstream, instructions="You are kind.")
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": first.text}]}
    _, two = await run(upstream, user(STORY), answer, user("Thank you!"), instructions="You are kind.")

    assert one.usage is not None
    assert two.usage is not None
    assert two.usage.input_tokens_details.cached_tokens >= one.usage.input_tokens


async def test_slots_answer_side_by_side_and_more_wait(upstream: Embedded) -> None:
    said: list[int] = []

    async def one(number: int) -> None:
        heard = Heard(lambda: said.append(number))
        await upstream.run(asked(user(f"Tell me story {number} about a fox."), model=MODEL, stream=True), heard)
        assert heard.text

    await within(asyncio.gather(*(one(number) for number in range(10))))

    spans = [(said.index(number), len(said) - said[::-1].index(number)) for number in range(10)]
    together = max(sum(first <= at < last for first, last in spans) for at in range(len(said)))
    assert 2 <= together <= 4


async def test_too_many_waiting_requests_are_refused(make: Make) -> None:
    upstream = make(engine_slots=1, engine_waiting=0)
    heard = Heard()
    busy = begin(upstream, heard)
    await within(heard.spoke.wait())

    with pytest.raises(UpstreamError, match="Too many requests wait") as raised:
        await run(upstream)

    assert (raised.value.status, raised.value.retryable) == (503, True)
    busy.cancel()
    await asyncio.wait([busy])


async def test_a_schema_is_kept(upstream: Embedded) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "kind": {"enum": ["cat", "dog"]}},
        "required": ["name", "kind"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "pet", "schema": schema, "strict": True}
    heard, stop = await run(upstream, user("Rex is a dog."), text={"format": form})

    pet = json.loads(heard.text)
    assert stop.reason == "stop"
    assert set(pet) == {"name", "kind"}
    assert pet["kind"] in ("cat", "dog")


async def test_a_tool_is_called(upstream: Embedded) -> None:
    heard, _ = await run(upstream, WEATHER_QUESTION, tools=[WEATHER], stream=True)

    assert isinstance(json.loads(heard.calls["get_weather"])["location"], str)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
async def test_a_required_call_comes(upstream: Embedded, choice: object) -> None:
    heard, _ = await run(upstream, WEATHER_QUESTION, tools=[TIME, WEATHER], tool_choice=choice)

    called = set(heard.calls)
    assert called
    assert called <= ({"get_weather", "get_time"} if choice == "required" else {"get_weather"})


async def test_a_named_function_is_the_only_one_offered(upstream: Embedded) -> None:
    _, both = await run(upstream, user("Hello!"), tools=[TIME, WEATHER], max_output_tokens=16)
    named = {"type": "function", "name": "get_time"}
    _, one = await run(upstream, user("Hello!"), tools=[TIME, WEATHER], tool_choice=named, max_output_tokens=16)

    assert both.usage is not None
    assert one.usage is not None
    assert one.usage.input_tokens < both.usage.input_tokens


@pytest.mark.parametrize(("asked_for", "tools"), [(None, []), (0, [WEATHER]), (3, []), (3, [WEATHER])])
async def test_logprobs_come_with_the_alternatives_asked_for(
    upstream: Embedded, asked_for: int | None, tools: list[object]
) -> None:
    include = ["message.output_text.logprobs"]
    heard, _ = await run(upstream, user("Hello!"), include=include, top_logprobs=asked_for, tools=tools, stream=True)

    tokens = [token for delta in heard.deltas if isinstance(delta, TextDelta) for token in json.loads(delta.logprobs)]
    assert "".join(token["token"] for token in tokens) == heard.text
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == (asked_for or 0) for token in tokens)


async def test_a_prompt_beyond_the_context_is_told_as_such(upstream: Embedded) -> None:
    with pytest.raises(UpstreamError) as raised:
        await run(upstream, user("one two three " * 2000))

    assert (raised.value.status, raised.value.code, raised.value.param) == (400, "context_length_exceeded", "input")


async def test_replayed_arguments_that_are_no_json_are_the_clients_error(upstream: Embedded) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{bad"}
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}

    with pytest.raises(UpstreamError) as raised:
        await run(upstream, WEATHER_QUESTION, call, output, tools=[WEATHER])

    assert raised.value.status == 400


async def test_an_unknown_name_is_a_404(upstream: Embedded) -> None:
    with pytest.raises(UpstreamError) as raised:
        await run(upstream, model="other")

    assert (raised.value.status, raised.value.code) == (404, "model_not_found")


# --- Starting and ending ---


async def test_first_requests_share_one_start_that_outlives_those_who_leave(
    make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "antiphon.upstreams.embedded")
    upstream = make()
    leaver = asyncio.get_running_loop().create_task(run(upstream))
    others = [asyncio.get_running_loop().create_task(run(upstream)) for _ in range(3)]
    await asyncio.sleep(0)
    leaver.cancel()

    await within(asyncio.gather(*others))

    assert leaver.cancelled()
    assert sum(record.message.startswith("loaded") for record in caplog.records) == 1
    assert capfd.readouterr() == ("", "")


async def test_cancel_frees_the_slot(make: Make) -> None:
    upstream = make(engine_slots=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await within(begin(upstream, Heard()))
    whole = loop.time() - began
    cancelled = Heard()
    task = begin(upstream, cancelled)
    await within(cancelled.spoke.wait())

    began = loop.time()
    task.cancel()
    await asyncio.wait([task])
    left = loop.time() - began
    await run(upstream, max_output_tokens=16)
    freed = loop.time() - began

    assert task.cancelled()
    assert left < 0.1
    assert freed < whole / 3


async def test_an_idle_model_is_unloaded_and_loaded_again(make: Make) -> None:
    upstream = make(engine_idle_seconds=0.1)
    await run(upstream)
    first = upstream.loaded()[MODEL]

    await gone(first)

    assert upstream.loaded() == {}
    heard, _ = await run(upstream)
    assert heard.text
    assert upstream.loaded()[MODEL] != first


async def test_a_model_in_use_is_not_idle(make: Make) -> None:
    upstream = make(engine_idle_seconds=0.05)
    heard = Heard()
    task = begin(upstream, heard, tokens=400)
    await within(heard.spoke.wait())
    pid = upstream.loaded()[MODEL]

    stop = await within(task)

    assert stop.usage is not None
    assert stop.usage.output_tokens == 400
    await gone(pid)


async def test_two_models_run_side_by_side(make: Make, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(BUNDLED.read_bytes())
    upstream = make({MODEL: BUNDLED, "other": other})

    answers = await asyncio.gather(run(upstream), run(upstream, model="other"))

    assert all(heard.text for heard, _ in answers)
    assert len(set(upstream.loaded().values())) == 2


async def test_close_ends_the_child_in_the_middle_of_its_work(make: Make) -> None:
    upstream = make()
    heard = Heard()
    task = begin(upstream, heard)
    await within(heard.spoke.wait())
    pid = upstream.loaded()[MODEL]

    await within(upstream.close(), 5)

    await gone(pid, 1)
    with pytest.raises(UpstreamError, match="shutting down"):
        await within(task)
    with pytest.raises(UpstreamError, match="shutting down"):
        await run(upstream)


# --- Failures ---


async def test_a_crash_fails_its_requests_clearly_and_the_next_one_runs(make: Make) -> None:
    upstream = make()
    heard = Heard()
    task = begin(upstream, heard)
    await within(heard.spoke.wait())
    first = upstream.loaded()[MODEL]

    os.kill(first, signal.SIGKILL)

    with pytest.raises(UpstreamError, match=r"crashed: it was ended by signal 9 \(SIGKILL\)\.") as raised:
        await within(task)
    assert (raised.value.code, raised.value.retryable) == ("upstream_crashed", False)
    heard, _ = await run(upstream)
    assert heard.text
    assert upstream.loaded()[MODEL] != first


async def test_a_crash_before_the_first_token_may_be_retried(make: Make) -> None:
    upstream = make()
    await run(upstream)
    pid = upstream.loaded()[MODEL]
    heard = Heard(lambda: os.kill(pid, signal.SIGKILL))  # accepted, and nothing said yet

    with pytest.raises(UpstreamError) as raised:
        await within(upstream.run(asked(user("one two three " * 300), model=MODEL, stream=True), heard))

    assert heard.deltas == []
    assert (raised.value.code, raised.value.retryable) == ("upstream_crashed", True)


async def test_a_child_that_died_unnoticed_costs_nobody_a_request(make: Make) -> None:
    upstream = make()
    await run(upstream)
    first = upstream.loaded()[MODEL]
    os.kill(first, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # a watcher's thread may have been faster
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)

    heard, _ = await run(upstream)  # at once: the loop has not heard of the death

    assert heard.text
    assert upstream.loaded()[MODEL] != first


async def test_three_crashes_in_a_minute_are_an_error_instead_of_a_loop(make: Make) -> None:
    clock = Ahead()
    upstream = make(clock=clock)
    for _ in range(3):
        heard = Heard()
        task = begin(upstream, heard)
        await within(heard.spoke.wait())
        os.kill(upstream.loaded()[MODEL], signal.SIGKILL)
        with pytest.raises(UpstreamError, match="crashed"):
            await within(task)

    with pytest.raises(UpstreamError, match="failed 3 times within a minute") as raised:
        await run(upstream)

    assert raised.value.status == 503
    assert raised.value.retry_after_seconds is not None
    assert 0 < raised.value.retry_after_seconds <= 60
    assert upstream.loaded() == {}
    clock.seconds = 61
    heard, _ = await run(upstream)
    assert heard.text


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x00" * 5000, r"is not a GGUF file: it does not begin with the letters GGUF\."),
        (BUNDLED.read_bytes()[:100_000], r"is truncated"),
        (BUNDLED.read_bytes()[:-64], r"cannot be loaded: .* is truncated: its tensors go beyond its \d+ bytes\."),
        (BUNDLED.read_bytes().replace(b"llama", b"lxxma"), r"cannot be loaded: unknown model architecture: 'lxxma'\."),
    ],
    ids=["garbage", "cut in the header", "cut at the end", "unknown kind"],
)
async def test_a_file_that_goes_bad_is_one_sentence_at_first_use(
    make: Make, tmp_path: Path, data: bytes, what: str
) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(data)
    upstream = make({"bad": file})

    with pytest.raises(UpstreamError, match=what) as raised:
        await run(upstream, model="bad")

    assert raised.value.status == 503
    assert raised.value.message.startswith("The model `bad` cannot be loaded: ")
    assert raised.value.message.count("\n") == 0
    file.write_bytes(BUNDLED.read_bytes())
    heard, _ = await run(upstream, model="bad")  # put right, it runs without a restart of the server
    assert heard.text


async def test_a_file_that_vanished_is_one_sentence(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match=r"cannot be loaded: .*none\.gguf does not exist\."):
        await run(make({"none": tmp_path / "none.gguf"}), model="none")


async def test_a_model_that_takes_too_long_to_load_is_given_up(make: Make) -> None:
    upstream = make(engine_load_seconds=0.001)

    with pytest.raises(UpstreamError, match=r"it was not loaded within 0\.001 seconds\.") as raised:
        await run(upstream)

    assert raised.value.status == 504
    assert upstream.loaded() == {}


# --- The child by itself ---

PARENT = """
import asyncio
from antiphon.clock import SystemClock
from antiphon.upstreams.embedded.upstream import Embedded
from tests.upstreams.embedded_engine import MODEL, run
from tests.upstreams.gguf_files import BUNDLED

async def main():
    upstream = Embedded({MODEL: BUNDLED}, SystemClock())
    await run(upstream)
    print(upstream.loaded()[MODEL], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_child_dies_with_a_parent_that_is_killed() -> None:
    root = Path(__file__).parents[2]
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, cwd=root, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    assert parent.stdout is not None
    pid = int(await within(parent.stdout.readline()))

    parent.kill()

    await gone(pid, 5)
    await within(parent.wait())


async def test_the_child_serves_its_key_only_and_until_stdin_closes(tmp_path: Path) -> None:
    file = tmp_path / "warm.gguf"
    file.write_bytes(with_temperature(0.125))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", MODULE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    settings = {
        "path": str(file), "key": "a-secret", "parent": os.getpid(), "threads": 1, "slots": 3, "context": 1024,
        "cache_mib": 16, "verbosity": 1,
    }  # fmt: skip
    child.stdin.write(json.dumps(settings).encode() + b"\n")
    address = json.loads(await within(child.stdout.readline()))["address"]

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        await asyncio.to_thread(properties, address, "another")
    told = (await asyncio.to_thread(properties, address, "a-secret"))["default_generation_settings"]
    assert told["n_ctx"] == 1024  # for each of the three
    assert told["params"]["temperature"] == 0.125  # the file's own default
    assert b"a-secret" not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
    child.stdin.close()
    assert await within(child.wait(), 5) == 0
    assert await within(child.stdout.read()) == b""


def properties(address: str, key: str) -> dict[str, dict[str, dict[str, float]]]:
    request = urllib.request.Request(f"{address}/props", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        error.close()
        raise


# --- In the server ---


async def test_the_bundled_model_alone_answers_to_every_name() -> None:
    server = Server(Config(database=":memory:"))

    route = await server.catalog.route("gpt-4.1")

    assert server.catch_all == route.model == DEMO_MODEL
    assert [model.id for model in await server.catalog.all()] == [DEMO_MODEL]
    await server.stop()


@pytest.mark.parametrize(
    "config",
    [
        Config(database=":memory:", demo_model=False),
        Config(database=":memory:", aliases={"*": "other"}),
        Config(database=":memory:", upstreams=[UpstreamConfig(url="http://127.0.0.1:9/v1", models=["a"])]),
    ],
    ids=["switched off", "another catch-all", "another upstream"],
)
async def test_the_bundled_model_does_not_stand_in_for_what_was_configured(config: Config) -> None:
    server = Server(config)

    assert server.catch_all is None
    await server.stop()


async def test_files_are_offered_by_name_beside_the_bundled_model(tmp_path: Path) -> None:
    file = tmp_path / "My Own.gguf"
    file.write_bytes(BUNDLED.read_bytes().replace(b"antiphon-demo", b"my-very-own-m"))

    server = Server(Config(database=":memory:", models=[str(file)]))

    assert server.catch_all is None
    assert {model.id for model in await server.catalog.all()} == {DEMO_MODEL, "my-very-own-m"}
    await server.stop()


def test_a_file_that_is_no_model_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^models: .*none\.gguf does not exist\.$"):
        Server(Config(database=":memory:", models=[str(tmp_path / "none.gguf")]))
