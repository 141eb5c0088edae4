"""A page of another origin in a real browser: `docs/examples/browser.html` streams a story, where it is allowed to."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from tests.acceptance.behaviours import STORY
from tests.acceptance.browser import outcome
from tests.acceptance.conftest import KEY
from tests.acceptance.serving import Served


def page(origin: str, base_url: str) -> str:
    return f"{origin}/browser.html?{urlencode({'base_url': base_url, 'key': KEY})}"


async def test_a_page_of_an_allowed_origin_streams_a_story(
    chromium: str, guarded: Served, page_origin: str, tmp_path: Path
) -> None:
    shown = await outcome(chromium, page(page_origin, guarded.direct_url), tmp_path)

    assert shown == {"status": "completed", "story": STORY}


async def test_a_page_of_another_origin_is_blocked(
    chromium: str, server: Served, page_origin: str, tmp_path: Path
) -> None:
    shown = await outcome(chromium, page(page_origin, server.direct_url), tmp_path)

    assert shown == {"status": "failed: Failed to fetch", "story": ""}
