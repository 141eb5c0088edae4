"""Where upstreams are is the operator's business: clients are told names, and the log has the whole truth."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
from tests.web.client import Reply, asked
from tests.web.conftest import Serve, Serving

from antiphon.config import UpstreamConfig


def nobodys_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def before(serve: Serve, port: int, **about: Any) -> Serving:
    """A server whose upstream is at a port where nobody listens."""
    upstream = UpstreamConfig(url=f"http://127.0.0.1:{port}/v1", **about)
    return await serve(upstreams=[upstream], retries=1)


def tells_nothing_of(port: int, reply: Reply) -> None:
    for told in (b"127.0.0.1", b"%d" % port):
        assert told not in reply.body


@pytest.mark.parametrize(("name", "called"), [("", "the upstream"), ("vllm", "the upstream 'vllm'")])
async def test_a_failure_names_no_host(serve: Serve, caplog: pytest.LogCaptureFixture, name: str, called: str) -> None:
    caplog.set_level(logging.WARNING)
    port = nobodys_port()
    here = await before(serve, port, name=name, models=["far"])
    caplog.clear()

    reply = await here.client.post("/v1/responses", asked(model="far"))

    assert reply.status == 502
    assert reply.error["message"] == f"Cannot connect to {called}."
    tells_nothing_of(port, reply)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([line for line in told if f"Cannot connect to http://127.0.0.1:{port}/v1: " in line]) == 1


async def test_the_failure_of_a_background_run_names_no_host(serve: Serve) -> None:
    port = nobodys_port()
    here = await before(serve, port, models=["far"])
    made = await here.client.create(model="far", background=True)

    await here.idle()
    reply = await here.client.get(f"/v1/responses/{made['id']}")

    assert reply.json["error"]["message"] == "Cannot connect to the upstream."
    tells_nothing_of(port, reply)


@pytest.mark.parametrize(("name", "owner"), [("", "upstream"), ("vllm", "vllm")])
async def test_a_model_is_owned_by_no_host(serve: Serve, name: str, owner: str) -> None:
    port = nobodys_port()
    here = await before(serve, port, name=name, models=["far"])

    reply = await here.client.get("/v1/models/far")

    assert reply.json["owned_by"] == owner
    tells_nothing_of(port, await here.client.get("/v1/models"))


async def test_a_model_that_may_be_at_an_upstream_that_is_down(serve: Serve) -> None:
    port = nobodys_port()
    here = await before(serve, port)

    reply = await here.client.post("/v1/responses", asked(model="far"))

    assert (reply.status, reply.error["code"]) == (503, "model_not_found")
    assert "Cannot connect to the upstream." in reply.error["message"]
    tells_nothing_of(port, reply)
    assert f"http://127.0.0.1:{port}/v1" in here.server.catalog.failures[f"127.0.0.1:{port}"]
