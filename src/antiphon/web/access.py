"""Who may come in: keys, hosts and origins.

Must not know what is asked for.  Rules: design section 7.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from antiphon.protocol.errors import ApiError

DEFAULT_PROJECT = "default"


class Key(msgspec.Struct, frozen=True):
    """A bearer key, kept as its SHA-256, and the project that it opens."""

    project: str
    sha256: bytes

    @classmethod
    def of(cls, text: str) -> "Key":
        """From ``KEY`` or ``PROJECT=KEY``."""
        project, equals, secret = text.partition("=")
        if not equals:
            project, secret = DEFAULT_PROJECT, text
        if not secret.strip("="):
            # What stands before the = may be the key itself, so it is not repeated.
            raise ValueError("a key is written KEY or PROJECT=KEY; before a KEY that ends with = write default=")
        return cls(project or DEFAULT_PROJECT, hashlib.sha256(secret.encode()).digest())


class Access(msgspec.Struct, frozen=True):
    """The rules of this server.  ``open_host``: bound beyond loopback, where keys guard instead of host names."""

    keys: Sequence[Key] = ()
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    open_host: bool = False

    def project(self, authorization: str | None) -> str:
        """The project that a request belongs to.  Raises ``ApiError`` 401."""
        if not self.keys:
            return DEFAULT_PROJECT
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        digest = hashlib.sha256(token.strip().encode()).digest()
        # Every key is compared, each in constant time: how long it takes tells nothing.
        found = [key.project for key in self.keys if hmac.compare_digest(key.sha256, digest)]
        if not found:
            raise _unauthorized(f"Incorrect API key provided: {_redacted(token.strip())}.")
        return found[0]

    def check_host(self, host: str | None) -> None:
        """403 for a name that is neither loopback nor configured, against DNS rebinding."""
        name = _host_name(host or "")
        if self.open_host and not self.hosts:
            return
        if not (is_loopback(name) or name in self.hosts):
            message = f"The host '{name}' is not served here; add it to `allowed_hosts` to allow it."
            raise ApiError(403, message, code="host_not_allowed")

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """403 for a page of another origin that is not configured."""
        if origin is not None and not self.allows(origin) and _host_of(origin) != host:
            message = f"Requests from the origin '{origin}' are not allowed; add it to `cors_origins` to allow it."
            raise ApiError(403, message, code="origin_not_allowed")

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may read replies."""
        return "*" in self.origins or origin in self.origins


@lru_cache(maxsize=256)
def is_loopback(name: str) -> bool:
    """``localhost`` and the loopback addresses."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers=(("www-authenticate", "Bearer"),))


def _redacted(token: str) -> str:
    return f"{token[:3]}...{token[-4:]}" if len(token) > 12 else "..."
