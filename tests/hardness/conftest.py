"""The real server in a process of its own before a model server of the test's, and what it weighs."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.acceptance.processes import ServerProcess
from tests.hardness.clients import Visitors, head_of, visitors
from tests.hardness.model_server import ModelServer, model_server

#: Connections of one test, on each side of the server.
FILES = 4096


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other: each fills a core."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("hardness"))
            if not sys.platform.startswith("linux"):
                item.add_marker(pytest.mark.skip(reason="memory is read from /proc"))


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """So many open files as the connections of these tests need; processes that are started inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FILES:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Stand:
    """A server, the model server behind it, and who visits it."""

    process: ServerProcess
    models: ModelServer
    visitors: Visitors

    @property
    def megabytes(self) -> float:
        """Memory that the server holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1000

    async def is_well(self) -> None:
        """Somebody else is served as if nothing were the matter."""
        assert (await self.visitors.ask(head_of("/health", 0, "GET"))).status == 200


Start = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a server with these arguments; in the end it must stop well, with nothing left open behind it."""
    async with AsyncExitStack() as stack:

        async def started(*arguments: str) -> Stand:
            models = await stack.enter_async_context(model_server())
            told = ("--database", str(tmp_path / "state.db"), "--no-demo-model", "--upstream", models.url, *arguments)
            process = await asyncio.to_thread(ServerProcess, *told, home=tmp_path)
            stack.push_async_callback(asyncio.to_thread, process.stop)
            come = await stack.enter_async_context(visitors(int(process.url.rpartition(":")[2])))
            return Stand(process, models, come)

        yield started
