"""What an ``Idempotency-Key`` is bound to, and the seam where that is kept (design decision 17).

A key is bound before its run begins, to the id that the response gets.  Until the response is stored, one attempt holds
the key for a while, by the store's clock; when its process is gone the hold lapses, and the next request with the key
runs under the same id.  Must not know how requests come in or how responses come about.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

#: Characters of a key.
KEY_MAX = 255


class KeyClaim(NamedTuple):
    """A request that came with a key.

    ``digest`` tells the request apart from every other; ``attempt`` tells this try apart from every other, and is the
    id that its response gets if the key is free.
    """

    project: str
    key: str
    digest: bytes
    attempt: str


class Standing(enum.Enum):
    """How it stands with the response that a key is bound to."""

    OURS = "the attempt that asked is to run it"
    RUNNING = "another attempt runs it"
    STORED = "it is there to be read"


class Bound(NamedTuple):
    """What a key is bound to."""

    response: str
    standing: Standing


class Keys(Protocol):
    """Where keys are kept.  Every call names the project, and may raise what those of ``ports.Store`` may."""

    async def bind(self, claim: KeyClaim, seconds: float, expires_at: int) -> Bound:
        """Binds the key for the attempt, which holds it for so long, unless it is bound; durable on return.

        A key whose hold has lapsed and whose response is not there goes to the attempt.  Asked once more by the same
        attempt the answer is the same.  Raises ``ApiError`` 422 for a key that another request is bound to.
        """

    async def hold(self, claims: Sequence[KeyClaim], seconds: float) -> None:
        """Keys that these attempts hold are held for so long from now on; 0 lets go of them, still bound."""

    async def free(self, claims: Sequence[KeyClaim]) -> None:
        """Forgets keys that these attempts hold: another request may have them."""
