"""Produces everything in the catalogue and writes docs/conformance.md; with ``--check`` only tells whether it is fresh.

Run it with the checkout's own interpreter: ``.venv/bin/python scripts/conformance.py``.
"""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.conformance.page import PAGE, page  # noqa: E402 - found once the path is set
from tests.conformance.scenarios import run  # noqa: E402


def main() -> int:
    """Exit status 1 where the page is stale, with ``--check``."""
    made = page(asyncio.run(run()))
    fresh = PAGE.exists() and PAGE.read_text("utf-8") == made
    if not fresh and "--check" in sys.argv:
        print(f"stale: {PAGE.relative_to(ROOT)}; run scripts/conformance.py")
        return 1
    if not fresh:
        PAGE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
