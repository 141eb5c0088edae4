"""TLS to upstreams: trusted, not trusted, not TLS at all."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.upstreams.servers import Conversation, failing, get, replies, reply, serving, within

from antiphon.upstreams.http import HttpClient, Timeouts

MAKE = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
MAKE += ["-subj", "/CN=antiphon test", "-addext", "subjectAltName=IP:127.0.0.1"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed but itself, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    key = file.with_name("key.pem")
    subprocess.run(
        [*MAKE, "-keyout", key, "-out", file],
        check=True,
        capture_output=True,
        timeout=60,
    )
    file.write_bytes(file.read_bytes() + key.read_bytes())
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_whose_authority_is_named(certificate: Path, tls: ssl.SSLContext) -> None:
    async with serving(replies(reply(b"a"), reply(b"b")), tls=tls) as server:
        client = HttpClient(server.url, Timeouts(), ca_file=str(certificate))
        bodies = [bytes((await get(client)).body) for _ in range(2)]
        client.close()

    assert bodies == [b"a", b"b"]
    assert server.connections == 1


async def test_a_certificate_that_nobody_vouches_for(tls: ssl.SSLContext) -> None:
    async with serving(replies(reply(b"a")), tls=tls) as server:
        error = await failing(HttpClient(server.url, Timeouts()))

    assert "is not trusted" in error.message
    assert "ca_file" in error.detail
    assert (error.status, error.code, error.retryable) == (502, "upstream_unreachable", False)
    assert not server.asked


async def test_a_certificate_of_another_host(certificate: Path, tls: ssl.SSLContext) -> None:
    async with serving(replies(reply(b"a")), tls=tls) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        error = await failing(HttpClient(url, Timeouts(), ca_file=str(certificate)))

    assert "localhost" in error.detail
    assert "localhost" not in error.message
    assert not error.retryable


async def test_a_server_that_speaks_no_tls() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.send(reply(b"What?", "400 Bad Request"))
        await conversation.closed()

    async with serving(talk) as server:
        error = await failing(HttpClient(server.url.replace("http:", "https:"), Timeouts()))

    assert "No TLS connection" in error.message
    assert (error.code, error.retryable) == ("upstream_unreachable", False)


async def test_a_server_that_speaks_only_tls(tls: ssl.SSLContext) -> None:
    async with serving(replies(reply(b"a")), tls=tls) as server:
        error = await failing(HttpClient(server.url.replace("https:", "http:"), Timeouts()))

    assert error.status == 502


async def test_a_connection_that_never_stands() -> None:
    left = asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        await conversation.closed()
        left.set()

    async with serving(talk) as server:
        url = server.url.replace("http:", "https:")
        error = await failing(HttpClient(url, Timeouts(connect_seconds=0.05), name="far"))
        await within(left.wait())

    assert error.message == "No connection to the upstream 'far' within 0.05 seconds."
    assert error.detail == f"No connection to {url} within 0.05 seconds."
    assert (error.status, error.code, error.retryable) == (504, "upstream_timeout", True)


async def test_who_is_cancelled_while_connecting_hangs_up() -> None:
    here, left = asyncio.Event(), asyncio.Event()

    async def talk(conversation: Conversation) -> None:
        here.set()
        await conversation.closed()
        left.set()

    async with serving(talk) as server:
        asking = asyncio.ensure_future(get(HttpClient(server.url.replace("http:", "https:"), Timeouts())))
        await within(here.wait())
        asking.cancel()
        await within(left.wait())
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_file_of_certificates_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValueError, match=r"ca\.pem"):
        HttpClient("https://127.0.0.1:1/v1", Timeouts(), ca_file=str(file))
