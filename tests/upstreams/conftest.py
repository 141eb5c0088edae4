"""What talks to sockets here does so on both event loops that the server can run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from tests.upstreams.virtual_time import VirtualTimeLoop

ON_BOTH_LOOPS = ("test_http.py", "test_http_connections.py", "test_tls.py", "test_upstream.py", "test_dialects.py")
#: What has to do with waiting, and with nothing outside this process.
IN_VIRTUAL_TIME = ("test_pool.py", "test_pool_queue.py", "test_pool_laws.py")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in IN_VIRTUAL_TIME:
        return {"virtual": VirtualTimeLoop}
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return loops
    return {**loops, "uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH_LOOPS else loops
