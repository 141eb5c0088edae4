"""Real clients in processes of their own before a real server.

`scripted` stands before the scripted chat server, where the model `agent` does what a small model would and a test can
give it a script (`chat.script`); `bundled` has the bundled model and nothing else.  At both every model name leads to
the one model, and every reply is checked against the specifications.  A refused request fails the test unless it is
marked `refused`, and so does one of which the server warned, unless it is marked `warned`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.acceptance.chat_server import ChatControl, ChatServer
from tests.acceptance.serving import Served, conforming, serving
from tests.acceptance.threads import LoopThread
from tests.clients.installed import LIGHT, Client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of clients that are large to install."""
    for item in items:
        if item.path.parent == Path(__file__).parent and _client_of(item) not in {None, *LIGHT}:
            item.add_marker(pytest.mark.heavy)


def _client_of(item: pytest.Item | pytest.FixtureRequest) -> str | None:
    """A test names its client as a parameter `name`, or its module does as `CLIENT`."""
    node = item.node if isinstance(item, pytest.FixtureRequest) else item
    parameters = node.callspec.params if hasattr(node, "callspec") else {}
    name: str | None = parameters.get("name") or getattr(node.module, "CLIENT", None)
    return name


@pytest.fixture(scope="session")
def servers() -> Iterator[LoopThread]:
    """Where the test's own servers run."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def chat(servers: LoopThread) -> ChatControl:
    """The scripted upstream's door."""
    return ChatControl(servers.serve(ChatServer().app))


@pytest.fixture(scope="session")
def scripted(servers: LoopThread, chat: ChatControl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every unknown model name is an alias of `agent`; a failing upstream is not asked twice."""
    arguments = ("--upstream", f"{chat.url}/v1", "--alias", "*=agent", "--retries", "0", "--no-demo-model")
    with serving(servers, tmp_path_factory.mktemp("scripted"), *arguments) as served:
        yield served


@pytest.fixture(scope="session")
def bundled(servers: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Nothing but the bundled model."""
    with serving(servers, tmp_path_factory.mktemp("bundled")) as served:
        yield served


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Served:
    """The server whose name the test gives as an indirect parameter."""
    named: Served = request.getfixturevalue(request.param)
    return named


@pytest.fixture
def gate() -> str:
    """A gate of the chat server that no other test uses."""
    return f"gate{uuid4().hex}"


@pytest.fixture
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """The test's client, installed, with an empty folder."""
    name = _client_of(request)
    assert name is not None
    installed = Client(name, tmp_path)
    installed.require()
    return installed


@pytest.fixture(autouse=True)
def _every_reply_conforms(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the proxies found wrong fails the test in which it happened, and so does what clients do not expect."""
    used = {"scripted", "bundled"} & set(request.fixturenames)
    if "served" in request.fixturenames:
        used.add(request.node.callspec.params["served"])
    asked: list[Served] = [request.getfixturevalue(name) for name in sorted(used)]
    with conforming(request.getfixturevalue("servers"), asked):
        yield
    for one in asked:
        assert not one.proxy.refusals or request.node.get_closest_marker("refused"), "\n".join(one.proxy.refusals)
        assert not one.proxy.warnings or request.node.get_closest_marker("warned"), "\n".join(one.proxy.warnings)
