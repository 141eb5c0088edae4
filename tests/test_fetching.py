"""The client for URLs named by requests: what it fetches, and that it connects nowhere else.

Servers are real and on loopback, let through by the allow-list. That nothing was connected to is proved by the
interpreter itself: `socket.connect` raises an audit event, whatever the code above it does.
"""

import asyncio
import gzip
import ipaddress
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from antiphon.addresses import Admission, Rule, is_public, normal_host
from antiphon.fetching import (
    BadUrl,
    Fetched,
    Fetcher,
    FetchError,
    Forbidden,
    TimedOut,
    TooLarge,
    Unavailable,
    WrongType,
)

LOOPBACK = "127.0.0.1"
PUBLIC = "93.184.215.14"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_connections: list[object] | None = None


def _on_audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and _connections is not None:
        _connections.append(arguments[1])


sys.addaudithook(_on_audit)


@pytest.fixture
def connections() -> Iterator[list[object]]:
    """The addresses that any socket of this process connects to while the test runs."""
    global _connections
    _connections = []
    yield _connections
    _connections = None


class Names:
    """A resolver made of a table; each name's answers are used up one by one, the last one stays. It counts."""

    def __init__(self, **table: Sequence[Sequence[str]]) -> None:
        self.table = {name.replace("_", "."): list(answers) for name, answers in table.items()}
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        answers = self.table.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def _never(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up")


@asynccontextmanager
async def served(handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK) -> AsyncIterator[int]:
    """An aiohttp server whose every path is `handler`; gives its port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A server that reads one request's head and then does what `script` says, HTTP or not; gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        await asyncio.wait_for(server.wait_closed(), 5)


@asynccontextmanager
async def fetcher(**settings: object) -> AsyncIterator[Fetcher]:
    """A fetcher that is closed again and that looks nothing up unless told how."""
    made = Fetcher(**{"resolve": _never, "timeout_seconds": 10, **settings})  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


async def _hello(request: web.Request) -> web.Response:
    return web.Response(body=b"hello", content_type="text/plain", charset="iso-8859-1")


def _to(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})


async def _got(port: int, path: str = "/", **settings: object) -> Fetched:
    async with fetcher(allowed_hosts=[LOOPBACK], **settings) as client:
        return await client.get(f"http://{LOOPBACK}:{port}{path}")


# What is fetched


async def test_an_allowed_host_is_fetched_whole() -> None:
    async with served(_hello) as port:
        got = await _got(port, "/a/report.txt?x=1#part")
    assert got == Fetched(
        url=f"http://{LOOPBACK}:{port}/a/report.txt?x=1",
        content_type="text/plain",
        content_type_header="text/plain; charset=iso-8859-1",
        filename="report.txt",
        body=b"hello",
    )


async def test_the_request_carries_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[web.BaseRequest] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        answer = _to("/next") if request.path == "/" else web.Response(text="ok")
        answer.set_cookie("who", "me")
        return answer

    async def trap(request: web.Request) -> web.StreamResponse:
        raise AssertionError("the proxy of the environment was used")

    async with served(trap) as proxy, served(handler) as port:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{LOOPBACK}:{proxy}")
        async with fetcher(allowed_hosts=["files.test"], resolve=Names(files_test=[[LOOPBACK]])) as client:
            await client.get(f"http://files.test:{port}/", accept=["image/*", "text/plain"])
            await client.get(f"http://files.test:{port}/again")
    assert [request.path for request in seen] == ["/", "/next", "/again"]
    for request in seen:
        assert set(request.headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}
        assert request.headers["Host"] == f"files.test:{port}"
    assert seen[1].headers["Accept"] == "image/*, text/plain"


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("/a%2fb/c?sig=a%2Bb%2f%3D&e=%20", "/a%2fb/c?sig=a%2Bb%2f%3D&e=%20"),
        ("/my file.png", "/my%20file.png"),
        ("/ü?q=ä", "/%C3%BC?q=%C3%A4"),
        ("", "/"),
        ("?a=b", "/?a=b"),
    ],
)
async def test_the_path_arrives_as_it_was_given(sent: str, arrives: str) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response()

    async with served(handler) as port:
        await _got(port, sent)
    assert seen == [arrives]


@pytest.mark.parametrize(
    ("disposition", "path", "filename"),
    [
        ('attachment; filename="a b.pdf"', "/x", "a b.pdf"),
        ("attachment; filename*=UTF-8''na%C3%AFve.pdf", "/x", "naïve.pdf"),
        ('attachment; filename="../../etc/passwd"', "/x", "passwd"),
        (r'attachment; filename="C:\\dir\\evil.docx"', "/x", "evil.docx"),
        ('attachment; filename="' + "n" * 500 + '.txt"', "/x", "n" * 196 + ".txt"),
        ("attachment; filename=..", "/page.html", "page.html"),
        ("attachment; filename=", "/page.html", "page.html"),
        ("not a = disposition ;;;=", "/page.html", "page.html"),
        (None, "/dir/sch%C3%B6n.txt?x=/y", "schön.txt"),
        (None, "/dir/a%2Fb%00.txt", "b.txt"),
        (None, "/dir/", None),
    ],
)
async def test_the_file_name(disposition: str | None, path: str, filename: str | None) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(headers={"Content-Disposition": disposition} if disposition else {})

    async with served(handler) as port:
        assert (await _got(port, path)).filename == filename


async def test_a_content_type_that_was_not_asked_for_is_refused_and_none_is_let_through() -> None:
    async def handler(request: web.Request) -> web.Response:
        declared = request.query.get("type")
        return web.Response(body=b"x", headers={"Content-Type": declared} if declared else {})

    async with served(handler) as port, fetcher(allowed_hosts=[LOOPBACK]) as client:
        url = f"http://{LOOPBACK}:{port}/"
        with pytest.raises(WrongType, match=r"'text/html', not image/\* or application/pdf"):
            await client.get(f"{url}?type=text/html", accept=["image/*", "application/pdf"])
        for declared, content_type in [
            ("IMAGE/PNG;q=1", "image/png"),
            ("application/pdf", "application/pdf"),
            ("application/octet-stream", "application/octet-stream"),
            ("", "application/octet-stream"),
        ]:
            got = await client.get(f"{url}?type={declared}", accept=["image/*", "application/pdf"])
            assert got.content_type == content_type


# What is refused without a connection

HOSTILE_URLS = [
    # loopback, unspecified, private, shared, link-local, reserved, multicast, documentation
    *[
        f"http://{address}:{{port}}/"
        for address in (
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
        )
    ],
    *[
        f"http://[{address}]:{{port}}/"
        for address in (
            "::",
            "::1",
            "0:0:0:0:0:0:0:1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::ffff:169.254.169.254",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:808:808::1",
            "2600::5efe:7f00:1",
            "2600::200:5efe:10.0.0.1",
            "3fff::1",
            "4000::1",
            "100::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        )
    ],
    # the same addresses, spelled otherwise
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0X7F.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.0.0.01:{port}/",
    "http://0:{port}/",
    "http://0x:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.0.0.1..:{port}/",
    "http://256.256.256.256:{port}/",
    "http://4294967297:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://[v1.x]:{port}/",
    # names that are private by definition
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://a.localhost:{port}/",
    "http://printer.local:{port}/",
    "http://db.internal:{port}/",
    "http://metadata.google.internal:{port}/computeMetadata/v1/",
    "http://metadata:{port}/",
    "http://metadata.goog:{port}/",
    "http://nas.home.arpa:{port}/",
    # parts that mislead
    "http://example.com@127.0.0.1:{port}/",
    "http://user:pass@example.com:{port}/",
    "http://@example.com:{port}/",
    "http://:@example.com:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://example.com\\.127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://exa mple.com:{port}/",
    "http://exam\nple.com:{port}/",
    "http://example.com:{port}/\r\nX-Evil: 1",
    "http://example.com:{port}/\x00",
    "http://exa_mple..com:{port}/",
    "http://-example.com:{port}/",
    "http://" + "a" * 64 + ".com:{port}/",
    "http://" + "a." * 130 + "com:{port}/",
    "http://ex%61mple.com:{port}/",
    "http://*.example.com:{port}/",
    # not a URL that is fetched
    "",
    "/",
    "example.com",
    "//127.0.0.1:{port}/",
    "http:",
    "http://",
    "http:///x",
    "http:/127.0.0.1:{port}/",
    "http://:{port}/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:port/",
    "http://[::1/",
    "ftp://127.0.0.1:{port}/",
    "ftp://example.com:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "data:text/plain,hello",
    "javascript:alert(1)",
    "ws://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "http://example.com/" + "x" * 9000,
    "http://example.com/\ud800",
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_hostile_urls_are_refused_before_any_lookup_or_connection(url: str, connections: list[object]) -> None:
    async with served(_hello) as port, fetcher(ports=()) as client:
        with pytest.raises((BadUrl, Forbidden)):
            await client.get(url.replace("{port}", str(port)))
    assert connections == []


HOSTILE_ANSWERS = sorted(
    {
        url.removeprefix("http://").removesuffix(":{port}/").strip("[]")
        for url in HOSTILE_URLS[:52]
        if url.endswith(":{port}/")
    }
)


@pytest.mark.parametrize("address", [*HOSTILE_ANSWERS, "fe80::1%lo", "2600::1%lo", "2130706433", "", "example.com"])
async def test_names_that_resolve_to_hostile_addresses_are_refused(address: str, connections: list[object]) -> None:
    names = Names(evil_test=[[address]], mixed_test=[[PUBLIC, address]])
    async with fetcher(resolve=names) as client:
        for host in ("evil.test", "mixed.test"):
            with pytest.raises(Forbidden, match=host):
                await client.get(f"https://{host}/x")
    assert names.asked == [("evil.test", 443), ("mixed.test", 443)]
    assert connections == []


def test_the_tables_of_hostile_addresses_are_what_they_seem() -> None:
    assert len(HOSTILE_ANSWERS) == 52
    for address in HOSTILE_ANSWERS:
        assert not is_public(ipaddress.ip_address(address)), address


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "168.63.129.17",
        "223.255.255.254",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "64:ff9b::8.8.8.8",
        "2600::5efe:808:808",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


async def test_a_public_host_is_refused_at_an_unusual_port_unless_ports_are_free(connections: list[object]) -> None:
    names = Names(example_test=[["10.0.0.1"]])
    async with fetcher(resolve=names) as usual, fetcher(resolve=names, ports=()) as free:
        for port in (22, 25, 6379, 8080):
            with pytest.raises(Forbidden):
                await usual.get(f"http://example.test:{port}/")
        assert names.asked == []
        with pytest.raises(Forbidden):
            await free.get("http://example.test:8080/")
        assert names.asked == [("example.test", 8080)]
    assert connections == []


async def test_no_string_does_anything_but_fail(connections: list[object]) -> None:
    pieces = ["http", "https", ":", "//", "/", "@", "\\", "127.0.0.1", "[::1]", "[", "]", "a.b", "%", "%2e", "?", "#"]
    pieces += [
        ".",
        "..",
        "localhost",
        "0x7f",
        "1",
        ":80",
        "\t",
        " ",
        "é",
        "\ud800",
        "%00",
        "xn--",
        "xn--\u0661",
        "。",
        "_",
    ]
    dice = random.Random(7)
    names = Names(a_b=[["10.0.0.1"]])
    async with fetcher(resolve=names) as client:
        for _ in range(4000):
            url = dice.choice(("", "http://", "https://")) + "".join(dice.choices(pieces, k=dice.randint(0, 7)))
            with pytest.raises(FetchError):
                await client.get(url)
    assert connections == []
    assert len(names.asked) > 50


# The allow-list


@pytest.mark.parametrize(
    ("entry", "host", "address", "admitted"),
    [
        ("files.test", "files.test:81", "10.0.0.1", True),
        ("FILES.test.", "files.test:81", "10.0.0.1", True),
        ("files.test", "a.files.test:81", "10.0.0.1", False),
        ("files.test", "xfiles.test:81", "10.0.0.1", False),
        ("files.test:81", "files.test:81", "10.0.0.1", True),
        ("files.test:82", "files.test:81", "10.0.0.1", False),
        ("*.corp.test", "a.b.corp.test:81", "10.0.0.1", True),
        ("*.corp.test", "corp.test:81", "10.0.0.1", False),
        ("*.corp.test", "evilcorp.test:81", "10.0.0.1", False),
        ("*.corp.test:81", "a.corp.test:81", "10.0.0.1", True),
        ("*.corp.test:81", "a.corp.test:82", "10.0.0.1", False),
        ("10.0.0.0/8", "any.test:81", "10.0.0.1", True),
        ("10.0.0.0/8", "any.test:81", "11.0.0.1", False),
        ("10.0.0.0/8", "any.test:81", "::ffff:10.0.0.1", False),
        ("10.0.0.0/8:81", "any.test:81", "10.0.0.1", True),
        ("10.0.0.0/8:81", "any.test:82", "10.0.0.1", False),
        ("10.0.0.1", "any.test:81", "10.0.0.1", True),
        ("10.0.0.1", "any.test:81", "10.0.0.2", False),
        ("fd00::/8", "any.test:81", "fd00::1", True),
        ("[fd00::/8]:81", "any.test:81", "fd00::1", True),
        ("[fd00::/8]:82", "any.test:81", "fd00::1", False),
        ("[::1]:81", "any.test:81", "::1", True),
        ("::1", "any.test:81", "::1", True),
        ("localhost", "localhost:81", "127.0.0.1", True),
        ("8.8.8.8", "any.test:81", "8.8.8.8", True),
        ("other.test", "any.test:80", "8.8.8.8", True),
        ("other.test", "any.test:81", "8.8.8.8", False),
    ],
)
def test_what_an_entry_of_the_allow_list_admits(entry: str, host: str, address: str, admitted: bool) -> None:
    name, _, port = host.partition(":")
    admission = Admission([entry], [80, 443])
    found = admission.trusts(name, int(port)) or admission.admits(ipaddress.ip_address(address), int(port))
    assert found is admitted
    assert admission.may_ask(name, int(port)) or not admitted


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "http://a.test", "a.test/x", "10.0.0.1/8", "10.0.0.0/99", "a b", "127.1", "a:0", "a:70000"]
)
def test_a_malformed_entry_is_said_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        Rule.parse(entry)
    with pytest.raises(ValueError, match="is not a host"):
        Fetcher(allowed_hosts=[entry])


def test_a_host_has_one_spelling() -> None:
    assert normal_host("WWW.Example.COM.") == "www.example.com"
    assert normal_host("[2001:DB8:0:0::1]") == "2001:db8::1"
    assert normal_host("8.8.8.8.") == "8.8.8.8"


async def test_an_ipv6_literal_is_fetched_when_allowed() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with served(_hello, host="::1") as port, fetcher(allowed_hosts=[f"[::1]:{port}"]) as client:
        assert (await client.get(f"http://[0:0::1]:{port}/")).url == f"http://[::1]:{port}/"


async def test_the_system_resolver_is_asked_when_none_is_given(connections: list[object]) -> None:
    async with served(_hello) as port:
        client = Fetcher(allowed_hosts=["localhost"])
        assert (await client.get(f"http://localhost:{port}/")).body == b"hello"
        workers = [thread for thread in threading.enumerate() if thread.name.startswith("antiphon-resolve")]
        assert workers
        await client.close()
    for thread in workers:
        thread.join(5)
        assert not thread.is_alive()
    assert (LOOPBACK, port) in connections


# The address checked is the address connected to


async def test_a_name_that_changes_its_answer_is_asked_once_per_hop(connections: list[object]) -> None:
    async def handler(request: web.Request) -> web.Response:
        return _to("/second") if request.path == "/first" else web.Response(text="ok")

    async with served(handler) as port:
        names = Names(rebind_test=[[LOOPBACK], ["10.0.0.1"]])
        async with fetcher(resolve=names, allowed_hosts=[f"127.0.0.0/8:{port}"]) as client:
            assert (await client.get(f"http://rebind.test:{port}/direct")).body == b"ok"
            assert len(names.asked) == 1
            # The name has turned bad now; nothing of the earlier check, address or connection is used again.
            with pytest.raises(Forbidden):
                await client.get(f"http://rebind.test:{port}/direct")
            assert len(names.asked) == 2
            names.table["rebind.test"] = [[LOOPBACK], ["10.0.0.1"]]
            with pytest.raises(Forbidden):
                await client.get(f"http://rebind.test:{port}/first")
            assert len(names.asked) == 4
    assert set(connections) == {(LOOPBACK, port)}
    assert len(connections) == 2


async def test_only_the_address_that_was_answered_is_connected_to(connections: list[object]) -> None:
    async with served(_hello) as port:
        async with fetcher(resolve=Names(files_test=[["127.0.0.2"]]), allowed_hosts=["files.test"]) as client:
            with pytest.raises(Unavailable, match="does not accept connections"):
                await client.get(f"http://files.test:{port}/")
        assert connections == [("127.0.0.2", port)]


async def test_parallel_fetches_of_one_name_are_each_judged() -> None:
    async with served(_hello) as port:
        names = Names(flip_test=[[LOOPBACK], ["10.0.0.1"]] * 10)
        async with fetcher(resolve=names, allowed_hosts=[f"127.0.0.0/8:{port}"]) as client:
            fetches = [client.get(f"http://flip.test:{port}/") for _ in range(20)]
            found = await asyncio.gather(*fetches, return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["Fetched"] * 10 + ["Forbidden"] * 10
    assert len(names.asked) == 20


# Redirects


async def test_redirects_are_followed_and_the_last_url_is_told() -> None:
    async def handler(request: web.Request) -> web.Response:
        step = int(request.match_info["path"] or 0)
        if step == 5:
            return web.Response(text="there")
        statuses = (301, 302, 303, 307, 308)
        return web.Response(status=statuses[step], headers={"Location": f"{step + 1}#x"})

    async with served(handler) as port:
        got = await _got(port, "/0")
        assert (got.url, got.body) == (f"http://{LOOPBACK}:{port}/5", b"there")
        with pytest.raises(Unavailable, match="more than 4 times"):
            await _got(port, "/0", max_redirects=4)


async def test_a_redirect_loop_ends() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return _to("/b" if request.path == "/a" else "/a")

    async with served(handler) as port:
        with pytest.raises(Unavailable, match="more than 5 times"):
            await _got(port, "/a")
    assert len(seen) == 6


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://localhost:{port}/",
        "http://private.test/",
        "http://user:secret@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "http://[::1",
    ],
)
async def test_a_redirect_to_what_is_forbidden_is_refused(target: str, connections: list[object]) -> None:
    async with served(_hello) as private:

        async def handler(request: web.Request) -> web.Response:
            return _to(target.replace("{port}", str(private)))

        async with served(handler) as port:
            names = Names(private_test=[["192.168.0.1"]])
            async with fetcher(allowed_hosts=[f"{LOOPBACK}:{port}"], resolve=names, ports=()) as client:
                with pytest.raises((BadUrl, Forbidden)):
                    await client.get(f"http://{LOOPBACK}:{port}/")
            assert connections == [(LOOPBACK, port)]


async def test_a_redirect_in_another_charset_keeps_its_bytes() -> None:
    asked = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        moved = b"HTTP/1.1 302 Found\r\nLocation: /sch\xf6n\r\nContent-Length: 0\r\n\r\n"
        writer.write(moved if asked == 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with scripted(script) as port:
        assert (await _got(port)).url.endswith("/sch%F6n")


async def test_a_redirect_to_nowhere_is_an_error() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302)

    async with served(handler) as port:
        with pytest.raises(Unavailable, match="without saying where"):
            await _got(port)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of the day for files.test, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-subj", "/CN=files.test", "-addext", "subjectAltName=DNS:files.test"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder / "cert.pem", folder / "key.pem"


async def test_https_is_checked_against_the_name_and_never_downgraded(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    allowed = ["files.test", "other.test"]
    names = Names(files_test=[[LOOPBACK]], other_test=[[LOOPBACK]])

    async with served(_hello) as plain:

        async def handler(request: web.Request) -> web.Response:
            if request.path == "/down":
                return _to(f"http://files.test:{plain}/")
            return _to("/hello") if request.path == "/" else web.Response(text="sealed")

        async with served(handler, tls=context) as port:
            async with fetcher(allowed_hosts=allowed, resolve=names, ssl_context=trusting) as client:
                assert (await client.get(f"https://files.test:{port}/")).body == b"sealed"
                with pytest.raises(Forbidden, match="from https to http"):
                    await client.get(f"https://files.test:{port}/down")
                with pytest.raises(Unavailable, match="no valid certificate"):
                    await client.get(f"https://other.test:{port}/")
            async with fetcher(allowed_hosts=allowed, resolve=names) as client:
                with pytest.raises(Unavailable, match="no valid certificate"):
                    await client.get(f"https://files.test:{port}/")


# Size


async def test_a_body_of_just_the_limit_is_fetched_and_one_byte_more_is_not() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * int(request.query["n"]))

    async with served(handler) as port:
        assert len((await _got(port, "/?n=1000", max_bytes=1000)).body) == 1000
        with pytest.raises(TooLarge, match="larger than 1000 bytes"):
            await _got(port, "/?n=1001", max_bytes=1000)


async def test_too_large_a_length_is_refused_before_the_body() -> None:
    async def head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        await reader.read()

    async with scripted(head_only) as port:
        with pytest.raises(TooLarge):
            await _got(port, max_bytes=1000)


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with scripted(endless) as port:
        with pytest.raises(TooLarge):
            await _got(port, max_bytes=200_000)
    assert sent < 64 * 1024 * 1024


def _members(count: int, size: int) -> bytes:
    return gzip.compress(bytes(size), 9) * count


@pytest.mark.parametrize(
    ("encoding", "make"),
    [
        ("gzip", lambda: _members(1, 100_000_000)),
        ("gzip", lambda: _members(400, 250_000)),
        ("deflate", lambda: zlib.compress(bytes(100_000_000), 9)),
    ],
    ids=["gzip", "gzip-members", "deflate"],
)
async def test_a_bomb_is_counted_as_it_unfolds(encoding: str, make: Callable[[], bytes]) -> None:
    bomb = make()
    assert len(bomb) < 1_000_000

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": encoding})

    async with served(handler) as port:
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge):
                await _got(port, max_bytes=1_000_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000


async def test_what_is_honestly_compressed_is_unfolded() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=_members(2, 300_000), headers={"Content-Encoding": "gzip"})

    async with served(handler) as port:
        assert (await _got(port, max_bytes=600_000)).body == bytes(600_000)


# Time


async def _stalled_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _stalled_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    await reader.read()


async def _dripping_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _dripping_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("script", [_stalled_head, _stalled_body, _dripping_head, _dripping_body])
async def test_a_slow_server_is_given_up(script: Script) -> None:
    async with scripted(script) as port:
        with pytest.raises(TimedOut, match=r"within 0\.3 seconds"):
            await asyncio.wait_for(_got(port, timeout_seconds=0.3), 10)


async def test_the_time_is_for_all_redirects_together() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(0.15)
        return _to("/again")

    async with served(handler) as port:
        with pytest.raises(TimedOut):
            await asyncio.wait_for(_got(port, timeout_seconds=0.4, max_redirects=1000), 10)


async def test_a_slow_resolver_is_given_up() -> None:
    async def forever(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with fetcher(resolve=forever, timeout_seconds=0.2) as client:
        with pytest.raises(TimedOut):
            await asyncio.wait_for(client.get("http://slow.test/"), 10)


# What servers do wrong


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 429, 500, 503])
async def test_only_success_is_content(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, body=None if status in (204, 304) else b"no")

    async with served(handler) as port:
        if status == 204:
            assert (await _got(port)).body == b""
        else:
            with pytest.raises(Unavailable, match=f"HTTP status {status}"):
                await _got(port)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"+PONG\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\x01\x02\x03",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
)
async def test_a_server_that_breaks_off_or_speaks_no_http_is_an_error(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with scripted(script) as port:
        with pytest.raises(Unavailable):
            await _got(port)


async def test_headers_that_are_not_utf8_do_no_harm() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b'HTTP/1.1 200 OK\r\nContent-Type: text/\xff\r\nContent-Disposition: x; filename="\xe4.txt"\r\n'
        writer.write(head + b"Content-Length: 2\r\n\r\nok")
        await writer.drain()

    async with scripted(script) as port:
        got = await _got(port)
    assert (got.filename, got.body) == ("\ufffd.txt", b"ok")
    got.content_type_header.encode()


async def test_a_host_without_an_address_does_not_exist(connections: list[object]) -> None:
    async with fetcher(resolve=Names(empty_test=[[]])) as client:
        for host in ("nowhere.test", "empty.test"):
            with pytest.raises(Unavailable, match="does not exist"):
                await client.get(f"http://{host}/")
    assert connections == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:secret@example.com/", "The URL must not hold a user name or password."),
        ("ftp://example.com/", "Only http and https URLs can be fetched."),
        ("example.com/a.png", "Only http and https URLs can be fetched."),
        ("https://0x7f.1/", "The host of the URL is not a plain IPv4 address."),
        ("https://a..b/", "The host of the URL is not a valid host name."),
        ("https://10.0.0.1/", "The host '10.0.0.1' cannot be fetched from: it is not a public host at a usual port."),
    ],
)
async def test_messages_say_what_is_wrong(url: str, message: str) -> None:
    async with fetcher() as client:
        with pytest.raises(FetchError) as caught:
            await client.get(url)
    assert caught.value.message == message


async def test_messages_tell_neither_addresses_nor_the_url(connections: list[object]) -> None:
    async with fetcher(resolve=Names(evil_test=[["10.1.2.3"]])) as client:
        with pytest.raises(Forbidden) as caught:
            await client.get("https://evil.test/path?token=secret")
    assert caught.value.message == str(caught.value)
    assert "10.1.2.3" not in caught.value.message
    assert "secret" not in caught.value.message


async def test_a_closed_fetcher_says_so_and_closes_twice() -> None:
    async with served(_hello) as port:
        client = Fetcher(allowed_hosts=[LOOPBACK])
        await client.get(f"http://{LOOPBACK}:{port}/")
        await client.close()
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(f"http://{LOOPBACK}:{port}/")


async def test_a_cancelled_fetch_leaves_no_connection() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        gone.set()

    async with scripted(script) as port, fetcher(allowed_hosts=[LOOPBACK]) as client:
        task = asyncio.create_task(client.get(f"http://{LOOPBACK}:{port}/"))
        await asyncio.wait_for(arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 5)
