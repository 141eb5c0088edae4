"""Sends many requests that nobody wrote to a server, half of them valid by OpenAI's document; tells what was answered.

``scripts/conformance_cases.py [COUNT]``, 10,000 by default; a case that fails is shown, as small as it can be made.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.conformance.properties import run_cases, target  # noqa: E402 - found once the path is set


def main() -> int:
    """Raises ``AssertionError`` for a case that fails."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with target() as server:
        run_cases(server, count, seeded=False)
        for (status, code), times in server.answered.most_common():
            print(f"{times:6} {status} {code or ''}")
        print(f"{server.answered.total():6} requests, {server.record.streams} streams folded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
