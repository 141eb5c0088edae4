"""How webhook events are signed, and what their secrets are.

Must not know what is sent, or to whom.  Standard Webhooks; reference 13.5.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from standardwebhooks import Webhook

from antiphon.engine.ports.world import Seal
from antiphon.engine.webhooks import Undelivered

#: How long the old secret signs as well when both are asked for.
OLD_SECRET_SECONDS = 24 * 3600

_PREFIX = "whsec_"
_PURPOSE = "webhook"


class SigningSecrets(msgspec.Struct, frozen=True):
    """The secrets of an endpoint; the old one signs as well until ``until``."""

    current: str
    old: str | None = None
    until: int = 0

    def rotated(self, now: int, *, keep: bool) -> "SigningSecrets":
        """With a new one in the place of the current one."""
        return SigningSecrets(new_secret(), self.current if keep else None, now + OLD_SECRET_SECONDS if keep else 0)

    def valid(self, now: int) -> list[str]:
        """Those that sign."""
        return [self.current, self.old] if self.old is not None and now < self.until else [self.current]

    def sealed(self, seal: Seal, project: str) -> str:
        """As the store keeps them."""
        return seal.seal(msgspec.json.encode(self), project=project, purpose=_PURPOSE)

    @classmethod
    def opened(cls, text: str, seal: Seal, project: str) -> "SigningSecrets":
        """Raises ``Undelivered`` where the key is gone that sealed them."""
        try:
            data = seal.open(text, project=project, purpose=_PURPOSE)
        except ValueError:
            data = None
        if data is None:
            raise Undelivered("The endpoint's signing secret cannot be opened any more; rotate it.")
        return msgspec.json.decode(data, type=cls)


def new_secret() -> str:
    """A signing secret: 32 random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signer(secret: str) -> Webhook:
    """What signs with a secret, of which one without the prefix is taken as it is.  Raises ``ValueError``."""
    if not secret.removeprefix(_PREFIX):
        raise ValueError("a signing secret must not be empty")
    return Webhook(secret if secret.startswith(_PREFIX) else secret.encode())


def headers(id: str, body: bytes, now: int, keys: Sequence[str]) -> dict[str, str]:
    """The headers of an event; one signature for each secret."""
    moment, text = datetime.fromtimestamp(now, UTC), body.decode()
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signer(key).sign(id, moment, text) for key in keys),
    }
