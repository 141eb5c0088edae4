"""What tells the body of one request apart from that of another.

Must not know what a body means.
"""

import contextlib
import hashlib

import msgspec


def fingerprint(body: bytes) -> bytes:
    """The same for bodies that say the same, in whatever order and spacing (RFC 8785 has the idea)."""
    # What a decoder cannot hold, such as a huge number, is told apart by its bytes.
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        body = msgspec.json.encode(msgspec.json.decode(body), order="deterministic")
    return hashlib.sha256(body).digest()
