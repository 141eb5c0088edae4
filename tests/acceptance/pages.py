"""The pages of another origin: `docs/examples`, served to a browser."""

from __future__ import annotations

from aiohttp import web
from tests.acceptance.processes import ROOT


def pages() -> web.Application:
    """Serves `docs/examples` as a web site of its own."""
    app = web.Application()
    app.add_routes([web.static("/", ROOT / "docs/examples")])
    return app
