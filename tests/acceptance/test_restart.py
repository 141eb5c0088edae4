"""The server is stopped or killed and started again on the same file: what it acknowledged is still there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import NotFoundError, OpenAI
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.conftest import TIMEOUT_SECONDS
from tests.acceptance.processes import ServerProcess

Start = Callable[[], contextlib.AbstractContextManager[tuple[ServerProcess, OpenAI]]]


@pytest.fixture
def start(chat: ChatControl, tmp_path: Path) -> Start:
    """Starts the server on one and the same database, each time anew."""

    @contextlib.contextmanager
    def started() -> Iterator[tuple[ServerProcess, OpenAI]]:
        arguments = ("--database", f"sqlite:///{tmp_path}/state.db", "--upstream", f"{chat.url}/v1")
        process = ServerProcess(*arguments, home=tmp_path)
        try:
            with OpenAI(base_url=process.base_url, api_key="any", timeout=TIMEOUT_SECONDS, max_retries=0) as client:
                yield process, client
        finally:
            if not process.ended:
                process.stop()

    return started


def test_what_was_answered_survives_a_kill(start: Start) -> None:
    with start() as (process, client):
        first = client.responses.create(model="memory", input="My name is Alice.")
        with client.responses.stream(model="memory", input="What is my name?", previous_response_id=first.id) as stream:
            second = stream.get_final_response()
        process.kill()

    with start() as (_, client):
        assert client.responses.retrieve(first.id).to_dict() == first.to_dict()
        assert client.responses.retrieve(second.id).output_text == "Your name is Alice."
        assert len(list(client.responses.input_items.list(second.id))) == 3
        third = client.responses.create(model="memory", input="And my name?", previous_response_id=second.id)
        assert third.output_text == "Your name is Alice."


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_background_response_that_was_cut_goes_on(start: Start, gate: str, how: str) -> None:
    with start() as (process, client):
        stream = client.responses.create(model="gated", input=f"gate {gate}", background=True, stream=True)
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta" and event.delta == " upon":
                break
        stream.close()
        getattr(process, how)()

    with start() as (_, client):
        response = client.responses.retrieve(seen[0].response.id)
        with client.responses.retrieve(response.id, stream=True, starting_after=seen[-1].sequence_number) as resumed:
            rest = list(resumed)
        assert [event.sequence_number for event in seen + rest] == list(range(len(seen) + len(rest)))
        assert rest[-1].type == "response.completed"
        response = client.responses.retrieve(response.id)
        assert response.output_text == "Once upon a time."
        assert "".join(event.delta for event in seen + rest if event.type == "response.output_text.delta") == (
            response.output_text
        )
        client.responses.delete(response.id)
        with pytest.raises(NotFoundError):
            client.responses.retrieve(response.id)


@pytest.mark.parametrize("stream", [True, False])
def test_a_keyed_request_that_was_cut_runs_again_under_the_same_id(
    start: Start, chat: ChatControl, gate: str, stream: bool
) -> None:
    """A key that was answered is answered again after the kill, and one in the middle of its run is not forgotten."""
    cut = {"model": "gated", "input": f"gate {gate}", "stream": stream, "extra_headers": {"Idempotency-Key": gate}}
    told = {"model": "memory", "input": f"Hi {gate}", "extra_headers": {"Idempotency-Key": f"{gate}!"}}
    with start() as (process, client):
        before = client.responses.create(**told)
        with ThreadPoolExecutor(1) as pool:
            cutting = pool.submit(lambda: list(client.responses.create(**cut)))
            chat.reached(gate)
            process.kill()
            assert cutting.exception() is not None

    chat.open(gate)
    with start() as (_, client):
        with pytest.raises(openai.UnprocessableEntityError):
            client.responses.create(**{**cut, "input": "other"})
        again = [client.responses.create(**cut) for _ in range(2)]
        responses = [list(one)[-1].response if stream else one for one in again]
        assert responses[0].to_dict() == responses[1].to_dict()
        assert responses[0].output_text == "Once upon a time."
        assert len(chat.asked(gate)) == 3  # what was told before, what was cut, and once more
        assert client.responses.create(**told).to_dict() == before.to_dict()


def test_a_server_that_stops_lets_open_streams_end(start: Start, chat: ChatControl, gate: str) -> None:
    with start() as (process, client):
        text = ""
        with client.responses.create(model="gated", input=f"gate {gate}", stream=True) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    text += event.delta
                if text == "Once upon":
                    process.terminate()
                    process.await_line("Stopping")
                    chat.open(gate)
                    text += "..."
        assert event.type == "response.completed"
        assert text == "Once upon... a time."
        process.stop()


def test_a_compacted_context_is_gone_on_from(start: Start) -> None:
    said = "My number is <4711>. " + "word " * 500
    with start() as (process, client):
        made = client.responses.compact(model="scribe", input=said)
        triggered: Any = [{"role": "user", "content": said}, {"type": "compaction_trigger"}]
        stored = client.responses.create(model="scribe", input=triggered)
        process.kill()

    with start() as (_, client):
        item: Any = made.output[-1].to_dict()
        question = {"role": "user", "content": "Well?"}
        assert client.responses.create(model="scribe", input=[item, question]).output_text == "I know <4711>"
        chained = client.responses.create(model="scribe", input="Well?", previous_response_id=stored.id)
        assert chained.output_text == "I know <4711>"
