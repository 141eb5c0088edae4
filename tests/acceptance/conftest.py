"""The servers that the acceptance tests talk to: the real command line before a scripted chat server.

Everything is started once per session; every reply that goes through a `base_url` is checked.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from openai import AsyncOpenAI, OpenAI
from tests.acceptance.chat_server import ChatControl, ChatServer
from tests.acceptance.node import installed_node
from tests.acceptance.pages import pages
from tests.acceptance.serving import Served, conforming, serving, unavailable
from tests.acceptance.threads import LoopThread

TIMEOUT_SECONDS = 20
KEY = "sk-guarded-0123456789"
SERVERS = {"bare", "guarded", "served", "server"}
OTHER_KEY = "sk-other-0123456789"


@pytest.fixture(scope="session")
def servers() -> Iterator[LoopThread]:
    """Where the test's own servers run."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def chat(servers: LoopThread) -> ChatControl:
    """The scripted upstream, and its door."""
    return ChatControl(servers.serve(ChatServer().app))


@pytest.fixture(scope="session")
def server(servers: LoopThread, chat: ChatControl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Open to everybody, `gpt-4.1` is an alias of the model `story`; a failing upstream is not asked twice."""
    arguments = ("--upstream", f"{chat.url}/v1", "--alias", "gpt-4.1=story", "--retries", "0")
    with serving(servers, tmp_path_factory.mktemp("server"), *arguments) as served:
        yield served


@pytest.fixture(scope="session")
def page_origin(servers: LoopThread) -> str:
    """The origin of the pages that may call the guarded server."""
    return servers.serve(pages())


@pytest.fixture(scope="session")
def guarded(
    servers: LoopThread, chat: ChatControl, page_origin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """With keys of two projects, every unknown model name an alias of `story`, and one origin allowed."""
    upstream = ("--upstream", f"{chat.url}/v1", "--alias", "*=story")
    keys = ("--api-key", KEY, "--api-key", f"other={OTHER_KEY}")
    arguments = (*upstream, *keys, "--cors-origins", page_origin)
    with serving(servers, tmp_path_factory.mktemp("guarded"), *arguments) as served:
        yield served


@pytest.fixture(scope="session")
def bare(servers: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Nothing but the bundled model, to which every name leads."""
    with serving(servers, tmp_path_factory.mktemp("bare")) as served:
        yield served


@pytest.fixture(autouse=True)
def _every_reply_conforms(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the proxies found wrong fails the test in which it happened."""
    names = SERVERS & set(request.fixturenames)
    if "served" in names:
        names.add(request.node.callspec.params["served"])
    with conforming(
        request.getfixturevalue("servers"), [request.getfixturevalue(name) for name in sorted(names - {"served"})]
    ):
        yield


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Served:
    """The server whose name the test gives as an indirect parameter."""
    named: Served = request.getfixturevalue(request.param)
    return named


@pytest.fixture
def client(server: Served) -> Iterator[OpenAI]:
    """The synchronous SDK."""
    with OpenAI(base_url=server.base_url, api_key="any", timeout=TIMEOUT_SECONDS) as openai:
        yield openai


@pytest.fixture
def direct(server: Served) -> Iterator[OpenAI]:
    """The synchronous SDK with nothing between it and the server."""
    with OpenAI(base_url=server.direct_url, api_key="any", timeout=TIMEOUT_SECONDS) as openai:
        yield openai


@pytest.fixture
async def async_client(server: Served) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous SDK."""
    async with AsyncOpenAI(base_url=server.base_url, api_key="any", timeout=TIMEOUT_SECONDS) as openai:
        yield openai


@pytest.fixture
def gate() -> str:
    """A gate of the chat server that no other test uses."""
    return f"gate{uuid4().hex}"


@pytest.fixture(scope="session")
def node() -> Path:
    """Node 22 with the JavaScript SDKs."""
    return installed_node()


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium that runs without a display, as `scripts/setup-browser` installs it."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        unavailable("no Chromium is installed: run scripts/setup-browser")
    return found
