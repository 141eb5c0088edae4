"""The client for URLs named by requests: what it fetches, and that it connects nowhere else.

That nothing was connected to is proved by the interpreter itself: `socket.connect` raises an audit event, whatever the
code above it does.
"""

import asyncio
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests import hostile
from tests.loopback import LOOPBACK, Names, fetcher, got, hello, scripted, served, to

from antiphon.fetching import BadUrl, Fetched, Fetcher, FetchError, Forbidden, Unavailable, WrongType

PUBLIC = "93.184.215.14"

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


# What is fetched


async def test_an_allowed_host_is_fetched_whole() -> None:
    async with served(hello) as port:
        found = await got(port, "/a/report.txt?x=1#part")
    assert found == Fetched(
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
        answer = to("/next") if request.path == "/" else web.Response(text="ok")
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
        await got(port, sent)
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
        assert (await got(port, path)).filename == filename


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
            found = await client.get(f"{url}?type={declared}", accept=["image/*", "application/pdf"])
            assert found.content_type == content_type


# What is refused without a connection


@pytest.mark.parametrize("url", hostile.URLS)
async def test_hostile_urls_are_refused_before_any_lookup_or_connection(url: str, connections: list[object]) -> None:
    async with served(hello) as port, fetcher(ports=()) as client:
        with pytest.raises((BadUrl, Forbidden)):
            await client.get(url.replace("{port}", str(port)))
    assert connections == []


@pytest.mark.parametrize("address", [*hostile.ADDRESSES, "fe80::1%lo", "2600::1%lo", "2130706433", "", "example.com"])
async def test_names_that_resolve_to_hostile_addresses_are_refused(address: str, connections: list[object]) -> None:
    names = Names(evil_test=[[address]], mixed_test=[[PUBLIC, address]])
    async with fetcher(resolve=names) as client:
        for host in ("evil.test", "mixed.test"):
            with pytest.raises(Forbidden, match=host):
                await client.get(f"https://{host}/x")
    assert names.asked == [("evil.test", 443), ("mixed.test", 443)]
    assert connections == []


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


# The allow-list at work


async def test_an_ipv6_literal_is_fetched_when_allowed() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with served(hello, host="::1") as port, fetcher(allowed_hosts=[f"[::1]:{port}"]) as client:
        assert (await client.get(f"http://[0:0::1]:{port}/")).url == f"http://[::1]:{port}/"


async def test_the_system_resolver_is_asked_when_none_is_given(connections: list[object]) -> None:
    async with served(hello) as port:
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
        return to("/second") if request.path == "/first" else web.Response(text="ok")

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
    async with served(hello) as port:
        async with fetcher(resolve=Names(files_test=[["127.0.0.2"]]), allowed_hosts=["files.test"]) as client:
            with pytest.raises(Unavailable, match="does not accept connections"):
                await client.get(f"http://files.test:{port}/")
        assert connections == [("127.0.0.2", port)]


async def test_parallel_fetches_of_one_name_are_each_judged() -> None:
    async with served(hello) as port:
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
        found = await got(port, "/0")
        assert (found.url, found.body) == (f"http://{LOOPBACK}:{port}/5", b"there")
        with pytest.raises(Unavailable, match="more than 4 times"):
            await got(port, "/0", max_redirects=4)


async def test_a_redirect_loop_ends() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return to("/b" if request.path == "/a" else "/a")

    async with served(handler) as port:
        with pytest.raises(Unavailable, match="more than 5 times"):
            await got(port, "/a")
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
    async with served(hello) as private:

        async def handler(request: web.Request) -> web.Response:
            return to(target.replace("{port}", str(private)))

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
        assert (await got(port)).url.endswith("/sch%F6n")


async def test_a_redirect_to_nowhere_is_an_error() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302)

    async with served(handler) as port:
        with pytest.raises(Unavailable, match="without saying where"):
            await got(port)


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

    async with served(hello) as plain:

        async def handler(request: web.Request) -> web.Response:
            if request.path == "/down":
                return to(f"http://files.test:{plain}/")
            return to("/hello") if request.path == "/" else web.Response(text="sealed")

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
    async with served(hello) as port:
        client = Fetcher(allowed_hosts=[LOOPBACK])
        await client.get(f"http://{LOOPBACK}:{port}/")
        await client.close()
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(f"http://{LOOPBACK}:{port}/")
