"""A server under test as tests see it: the real command line behind a proxy that checks every reply."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from tests.acceptance.checking import CheckingProxy
from tests.acceptance.processes import ServerProcess
from tests.acceptance.threads import LoopThread


class Served(NamedTuple):
    """A running server.  `base_url` leads through the checking proxy, `direct_url` does not."""

    process: ServerProcess
    proxy: CheckingProxy
    base_url: str

    @property
    def direct_url(self) -> str:
        return self.process.base_url


@contextlib.contextmanager
def serving(servers: LoopThread, home: Path, *arguments: str) -> Iterator[Served]:
    """`antiphon serve` with these arguments and a database of its own, behind a checking proxy."""
    process = ServerProcess("--database", str(home / "state.db"), *arguments, home=home)
    try:
        proxy = CheckingProxy(process.url)
        yield Served(process, proxy, servers.serve(proxy.app) + "/v1")
    finally:
        process.stop()


@contextlib.contextmanager
def conforming(servers: LoopThread, served: Iterable[Served]) -> Iterator[None]:
    """Raises AssertionError for what the proxies found wrong meanwhile."""
    served = list(served)
    for one in served:
        one.proxy.forget()
    yield
    for one in served:
        servers.run(one.proxy.settled())
    found = [violation for one in served for violation in one.proxy.violations]
    assert not found, "\n".join(found)


def unavailable(reason: str) -> NoReturn:
    """Skips a test whose tool is missing, but never in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
