"""The official SDK over several servers that are killed and come back under load: only what was being said is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.acceptance.conftest import TIMEOUT_SECONDS
from tests.acceptance.serving import Served, conforming, serving
from tests.acceptance.threads import LoopThread
from tests.mortal import WORDS, MortalServer

COUNT, REQUESTS, AT_ONCE = 3, 240, 16
TEXT = "".join(WORDS)


@pytest.fixture
def members(servers: LoopThread) -> Iterator[list[MortalServer]]:
    made = [MortalServer(str(number), word_seconds=0.02) for number in range(COUNT)]
    for server in made:
        servers.run(server.start())
    yield made
    for server in made:
        servers.run(server.kill())


@pytest.fixture
def pooled(servers: LoopThread, members: list[MortalServer], tmp_path: Path) -> Iterator[Served]:
    file = tmp_path / "antiphon.toml"
    urls = ", ".join(f'"{server.url}"' for server in members)
    file.write_text(
        f"[[upstreams]]\nname = 'pool'\nurls = [{urls}]\nmax_concurrent = 5\n"
        "breaker_failures = 2\nhealth_seconds = 0.1\n"
    )
    with serving(servers, tmp_path, "--config", str(file)) as served, conforming(servers, [served]):
        yield served


class Load:
    """Requests by the SDK, which itself tries nothing again."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self.client = client
        self.answered = 0
        #: Streams that were cut behind their first word.
        self.cut = 0
        self._room = asyncio.Semaphore(AT_ONCE)

    async def request(self, number: int) -> None:
        async with self._room:
            if number % 2:
                response = await self.client.responses.create(model="m", input=f"Request {number}")
                text = response.output_text
            else:
                text = await self._streamed(number)
        assert text.startswith(TEXT) or text == "cut"
        self.answered += text != "cut"

    async def _streamed(self, number: int) -> str:
        said, numbers = "", []
        async with await self.client.responses.create(model="m", input=f"Request {number}", stream=True) as stream:
            async for event in stream:
                numbers.append(event.sequence_number)
                if event.type == "response.output_text.delta":
                    said += event.delta
                last = event
        assert sorted(set(numbers)) == list(range(len(set(numbers))))
        if last.type == "response.failed":
            assert said, f"a stream failed that had said nothing: {last.response.error}"
            self.cut += 1
            return "cut"
        assert last.type == "response.completed"
        return said


async def test_no_request_fails_that_had_said_nothing(
    servers: LoopThread, members: list[MortalServer], pooled: Served
) -> None:
    async with AsyncOpenAI(base_url=pooled.base_url, api_key="any", timeout=TIMEOUT_SECONDS, max_retries=0) as client:
        load = Load(client)
        over = asyncio.Event()

        async def kill_and_revive() -> int:
            kills = 0
            while not over.is_set():
                victim = members[kills % COUNT]
                await asyncio.to_thread(servers.run, victim.kill())
                await asyncio.sleep(0.15)
                await asyncio.to_thread(servers.run, victim.start())
                kills += 1
                await asyncio.sleep(0.15)
            return kills

        killing = asyncio.ensure_future(kill_and_revive())
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*(load.request(number) for number in range(REQUESTS)))
        finally:
            over.set()
            kills = await killing

    assert kills >= 3
    assert load.answered + load.cut == REQUESTS
    assert load.answered > REQUESTS / 2
    assert max(server.most for server in members) <= 5
    assert pooled.process.said.count("is left out for now") <= kills


def test_a_pool_is_given_on_the_command_line(servers: LoopThread, members: list[MortalServer], tmp_path: Path) -> None:
    urls = " ".join(server.url for server in members)
    arguments = ("--upstream", urls, "--alias", "best=gone", "--alias", "best=m")
    with serving(servers, tmp_path, *arguments) as served, conforming(servers, [served]):
        servers.run(members[0].kill())
        with OpenAI(base_url=served.base_url, api_key="any", timeout=TIMEOUT_SECONDS, max_retries=0) as client:
            said = {
                client.responses.create(model="best", input=f"Request {number}").output_text for number in range(40)
            }
            with pytest.raises(openai.NotFoundError):
                client.responses.create(model="gone", input="Hi")

    assert said == {f"{TEXT} 1", f"{TEXT} 2"}
