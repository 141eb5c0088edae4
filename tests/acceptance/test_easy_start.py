"""Nothing is configured: what runs on the machine is found, said and used."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import OpenAI
from tests.acceptance.processes import ANTIPHON, ServerProcess, environment
from tests.acceptance.threads import LoopThread
from tests.engines import GREETING, LM_STUDIO, OLLAMA, app, engine

#: The engines of the tests answer at once, on a machine that may be busy.
PATIENT = ("--discover", "--discover-seconds", "10")


@pytest.fixture
def ports(servers: LoopThread) -> list[str]:
    """An Ollama, and something else that speaks HTTP."""
    urls = [servers.serve(app(engine(pages))) for pages in (OLLAMA, {"/": {"hello": "world"}})]
    return [str(urlsplit(url).port) for url in urls]


def test_an_engine_is_found_said_and_used(ports: list[str], tmp_path: Path) -> None:
    arguments = [argument for port in reversed(ports) for argument in ("--discover-ports", port)]
    server = ServerProcess(*PATIENT, *arguments, home=tmp_path)
    try:
        with OpenAI(base_url=server.base_url, api_key="any", timeout=20, max_retries=0) as client:
            listed = [model.id for model in client.models.list()]
            by_name = client.responses.create(model="llama3.2:3b", input="Hello")
            by_another = client.responses.create(model="gpt-4.1", input="Hello")
            by_upstream = client.responses.create(model="ollama/llama3.2:3b", input="Hello")
    finally:
        server.stop()

    assert {"llama3.2:3b", "qwen3:4b", "antiphon-demo"} <= set(listed)
    assert [(one.model, one.output_text) for one in (by_name, by_another, by_upstream)] == [
        ("llama3.2:3b", GREETING),
        ("qwen3:4b", GREETING),
        ("llama3.2:3b", GREETING),
    ]
    assert f"found      Ollama 0.14.2 at http://127.0.0.1:{ports[0]}, with 2 models" in server.said
    assert "every other name -> qwen3:4b" in server.said
    assert ports[1] not in server.said


def test_a_key_is_said_and_not_used(tmp_path: Path) -> None:
    home = environment(HOME=str(tmp_path), OPENAI_API_KEY="sk-secret-0123456789", ANTIPHON_DATABASE=":memory:")
    with subprocess.Popen([ANTIPHON, "serve", "--port", "0"], env=home, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said: list[str] = []
            while not said or not said[-1].startswith("Ready on"):
                said.append(server.stderr.readline())
                assert said[-1], said
        finally:
            server.terminate()
            server.wait(20)

    assert any("OPENAI_API_KEY in the environment, which is used only with --upstream openai" in line for line in said)
    assert not any("sk-secret" in line for line in said)
    assert any("every other name -> antiphon-demo" in line for line in said)


def test_looking_where_nothing_is_delays_nothing(tmp_path: Path) -> None:
    """With ports that are closed: half a second is what the whole start may take longer on a busy machine."""

    def started(*arguments: str) -> float:
        begun = time.monotonic()
        server = ServerProcess(*arguments, "--database", ":memory:", home=tmp_path)
        took = time.monotonic() - begun
        server.stop()
        return took

    closed = ("--discover", "--discover-ports", "1", "--discover-ports", "2")

    without, looking = (min(started(*how) for _ in range(3)) for how in (("--no-discover",), closed))

    assert looking < without + 0.5


def test_lm_studio_answers_with_what_it_has_loaded(servers: LoopThread, tmp_path: Path) -> None:
    """Not with the model for embeddings, which stands first in its list."""
    port = str(urlsplit(servers.serve(app(engine(LM_STUDIO, missing=200)))).port)
    server = ServerProcess(*PATIENT, "--discover-ports", port, home=tmp_path)
    server.stop()

    assert "every other name -> qwen-vl" in server.said
