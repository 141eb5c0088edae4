"""Images and files that requests point at: what is read, and what is refused with which words."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from antiphon.attachments import FetchedAttachments
from antiphon.fetching import Fetcher
from antiphon.protocol.errors import ApiError

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
PDF = b"%PDF-1.7\n..."
ASKED: list[str] = []
FILES: dict[str, tuple[bytes, str]] = {
    "picture.png": (PNG, "image/png"),
    "lying.png": (b"<html>", "image/png"),
    "paper.pdf": (PDF, "application/pdf"),
    "download": (PDF, "application/octet-stream"),
    "login.pdf": (b"<html>Who are you?</html>", "application/pdf"),
    "table.csv": (b"a,b", "application/octet-stream"),
    "strange": (b"??", 'we"ird'),
    "page": (b"<p>Hi</p>", 'text/html; charset="UTF-8"'),
    "notes.txt": ("Grüße".encode(), "text/plain; charset=utf-8"),
}


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def serve(request: web.Request) -> web.Response:
        ASKED.append(request.match_info["name"])
        body, kind = FILES.get(request.match_info["name"], (b"", ""))
        return web.Response(body=body, headers={"content-type": kind}) if kind else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{name:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def open_attachments() -> AsyncIterator[FetchedAttachments]:
    fetcher = Fetcher(allowed_hosts=["127.0.0.1"], timeout_seconds=5)
    yield FetchedAttachments(fetcher, 1000)
    await fetcher.close()


async def refused(call: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        async with asyncio.timeout(10):
            await call
    return error.value


async def test_an_image_by_url_becomes_a_data_url(open_attachments: FetchedAttachments, site: str) -> None:
    url = await open_attachments.image(f"{site}/picture.png", "input[0]")

    assert url == "data:image/png;base64," + base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("paper.pdf", "application/pdf"),
        ("download", "application/pdf"),
        ("login.pdf", "application/octet-stream"),
        ("table.csv", "text/csv"),
        ("page", "text/html;charset=utf-8"),
        ("strange", "application/octet-stream"),
    ],
)
async def test_a_file_by_url_comes_with_what_it_is(
    open_attachments: FetchedAttachments, site: str, name: str, kind: str
) -> None:
    file = await open_attachments.file(f"{site}/{name}", "input[0]")

    assert file == (name, f"data:{kind};base64,{base64.b64encode(FILES[name][0]).decode()}")


async def test_a_file_without_a_name_gets_one(open_attachments: FetchedAttachments, site: str) -> None:
    FILES[""] = FILES["paper.pdf"]
    try:
        assert (await open_attachments.file(f"{site}/", "input[0]"))[0] == "file.pdf"
    finally:
        del FILES[""]


async def test_a_file_that_is_not_there_or_too_large(open_attachments: FetchedAttachments, site: str) -> None:
    error = await refused(open_attachments.file(f"{site}/none.pdf", "input[0].file_url"))
    assert (error.status, error.code, error.param) == (400, "failed_to_download_file", "input[0].file_url")

    small = Fetcher(allowed_hosts=["127.0.0.1"], max_bytes=4)
    error = await refused(FetchedAttachments(small, 1000).file(f"{site}/paper.pdf", "input[0].file_url"))
    await small.close()
    assert (error.status, error.code) == (400, "failed_to_download_file")


async def test_an_image_by_data_stays_what_it_is(open_attachments: FetchedAttachments) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()

    assert await open_attachments.image(url, "input[0]") == url


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("{site}/absent.png", "failed_to_download_image"),
        ("{site}/lying.png", "unsupported_image_media_type"),
        ("data:image/png;base64,", "empty_image_file"),
        ("data:image/png;base64,@@", "invalid_base64"),
        ("data:text/plain,hello", "invalid_value"),
        ("data:nonsense", "invalid_base64_image"),
        ("file:///etc/passwd", "failed_to_download_image"),
    ],
)
async def test_what_is_no_image(open_attachments: FetchedAttachments, site: str, url: str, code: str) -> None:
    error = await refused(open_attachments.image(url.format(site=site), "input[0].content[1].image_url"))

    assert (error.status, error.code, error.param) == (400, code, "input[0].content[1].image_url")


async def test_private_addresses_are_refused_unless_allowed(site: str) -> None:
    fetcher = Fetcher(timeout_seconds=5)
    try:
        error = await refused(FetchedAttachments(fetcher, 1000).image(f"{site}/picture.png", "input[0]"))
    finally:
        await fetcher.close()

    assert (error.status, error.code) == (400, "failed_to_download_image")


async def test_files_become_text(open_attachments: FetchedAttachments, site: str) -> None:
    by_url = await open_attachments.text(f"{site}/notes.txt", None, None, "input[0]")
    data = base64.b64encode("Grüße".encode()).decode()
    by_data = await open_attachments.text(None, data, "notes.txt", "input[0]")
    by_data_url = await open_attachments.text(None, f"data:text/plain;base64,{data}", None, "input[0]")

    assert by_url == by_data == by_data_url == "Grüße"


async def test_long_files_are_cut_and_say_so(open_attachments: FetchedAttachments) -> None:
    data = base64.b64encode(b"word " * 1000).decode()

    text = await open_attachments.text(None, data, "long.txt", "input[0]")

    assert len(text) < 1100
    assert text.endswith("[The file goes on.]")


async def test_a_file_that_cannot_be_read(open_attachments: FetchedAttachments) -> None:
    data = base64.b64encode(b"%PDF-1.7 but not really").decode()

    error = await refused(open_attachments.text(None, data, "broken.pdf", "input[0].content[0]"))

    assert (error.status, error.code, error.param) == (400, "invalid_file", "input[0].content[0]")


async def test_what_later_turns_need_again_is_fetched_once(site: str) -> None:
    fetcher = Fetcher(allowed_hosts=["127.0.0.1"], timeout_seconds=5)
    attachments = FetchedAttachments(fetcher, 1000, cache_bytes=len(PNG) + 3)
    ASKED.clear()
    try:
        for _ in range(3):
            await attachments.image(f"{site}/picture.png", "input[0]")
        await attachments.text(f"{site}/notes.txt", None, None, "input[0]")  # no room for both
        await attachments.image(f"{site}/picture.png", "input[0]")
    finally:
        await fetcher.close()

    assert ASKED == ["picture.png", "notes.txt", "picture.png"]
