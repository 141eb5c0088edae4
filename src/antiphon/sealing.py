"""``encrypted_content`` and whatever else a client or a database holds for the server without being able to read it.

AES-256-GCM under the server's own keys; the project and a purpose are bound to it, so that what one project was given
opens for no other, and a sealed summary does not pass for sealed reasoning (design decision 15).
Must not know what is sealed, where keys are kept, or how an error is answered.

The text is base64url without padding throughout: ``antph``, one character of version, and for version ``1``

    key id (8) | salt (16) | nonce (12) | ciphertext | tag (16)

The key of a message is HMAC-SHA256(key, salt): with a random salt beside the random nonce, there is no number of
messages after which a key would have to be changed.  The plaintext is one byte that tells whether the rest is deflated.
"""

import base64
import binascii
import hmac
import os
import zlib
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_FAMILY, _VERSION = "antph", "1"
_PREFIX = _FAMILY + _VERSION
_KEY_ID, _SALT, _NONCE, _TAG = 8, 16, 12, 16
_HEAD = _KEY_ID + _SALT + _NONCE
_PLAIN, _DEFLATED = b"\x00", b"\x01"

#: Bytes sealed at once at the most: what the official API takes as ``encrypted_content`` (reference 4.6).
SEALED_MAX_BYTES = 20 << 20
#: Shorter data is not compressed: it would not become shorter.
COMPRESSED_FROM_BYTES = 128
#: Characters of a configured key at the least; a random one of 32 bytes has 43 in base64 and 64 in hexadecimal.
KEY_MIN_CHARS = 32
#: Level, window (raw deflate) and memory of compression.  The usual window costs three times as long to set up as these
#: few kilobytes take to deflate, for a text that is hardly shorter.
_LEVEL, _WINDOW, _MEMORY = 4, -12, 5
#: Under this name the key is kept that the server makes for itself.
SECRET_NAME = "sealing"  # noqa: S105 - a name


class Secrets(Protocol):
    """Where the server keeps secrets of its own; nodes that share a database share them."""

    async def secret(self, name: str, *, make: bool = True) -> bytes | None:
        """The secret of this name: at least 32 random bytes, the same at each call, after each start and on each node.

        One that is not there is made if ``make`` says so, by whoever is first; otherwise None.
        """


class NotIntact(ValueError):
    """The text was sealed by a server like this one, but not so, not for this project and purpose, or not with a key
    that is known here.  Says so in the words that the official API answers with, code ``invalid_encrypted_content``."""

    def __init__(self, text: str) -> None:
        shown = text if len(text) <= 12 else f"{text[:4]}...{text[-4:]}"
        super().__init__(
            f"The encrypted content {shown} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed."
        )


class TooLarge(ValueError):
    """More was to be sealed than could be opened again."""


class Sealer:
    """Seals with the first of its keys and opens with any of them.  Keys are at least 32 bytes that nobody can guess.

    ``sealed_max_bytes`` bounds what is sealed and what unpacks from it.  Neither call waits for anything; both take
    time in proportion to the data, so that megabytes belong into a thread.
    """

    def __init__(self, keys: Sequence[bytes], *, sealed_max_bytes: int = SEALED_MAX_BYTES) -> None:
        if not keys or any(len(key) < KEY_MIN_CHARS for key in keys):
            raise ValueError(f"a key needs at least {KEY_MIN_CHARS} bytes")
        self._roots = {_derived(key, b"id")[:_KEY_ID]: _derived(key, b"seal") for key in keys}
        self._first = _derived(keys[0], b"id")[:_KEY_ID]
        self._material = keys[0]
        self._max_bytes = sealed_max_bytes
        self._max_chars = len(_PREFIX) + -(-(_HEAD + 1 + sealed_max_bytes + _TAG) * 4 // 3)

    def seal(self, data: bytes, *, project: str, purpose: str) -> str:
        """The data as text that only this project can have opened, for this purpose.  Raises ``TooLarge``."""
        if len(data) > self._max_bytes:
            raise TooLarge(f"{len(data)} bytes are to be sealed; at most {self._max_bytes} can be")
        chance = os.urandom(_SALT + _NONCE)
        head = self._first + chance
        cipher = AESGCM(hmac.digest(self._roots[self._first], chance[:_SALT], "sha256"))
        sealed = cipher.encrypt(chance[_SALT:], _packed(data), _bound(head, project, purpose))
        return _PREFIX + base64.urlsafe_b64encode(head + sealed).rstrip(b"=").decode()

    def open(self, text: str, *, project: str, purpose: str) -> bytes | None:
        """What was sealed; None when it was not sealed by such a server at all, but by another provider.

        Raises ``NotIntact``.
        """
        if not text.startswith(_FAMILY):
            return None
        data = self._opened(text, project, purpose)
        if data is None:
            raise NotIntact(text)
        return data

    def derive(self, purpose: str) -> bytes:
        """32 bytes for another keyed purpose; they change with the key that seals."""
        return _derived(self._material, b"for " + purpose.encode())

    def _opened(self, text: str, project: str, purpose: str) -> bytes | None:
        if not text.startswith(_PREFIX) or len(text) > self._max_chars:
            return None
        raw = _decoded(text[len(_PREFIX) :])
        if raw is None or len(raw) <= _HEAD + _TAG:
            return None
        head = raw[:_HEAD]
        root = self._roots.get(head[:_KEY_ID])
        if root is None:
            return None
        cipher = AESGCM(hmac.digest(root, head[_KEY_ID : _KEY_ID + _SALT], "sha256"))
        try:
            packed = cipher.decrypt(head[_KEY_ID + _SALT :], raw[_HEAD:], _bound(head, project, purpose))
        except InvalidTag:
            return None
        return _unpacked(packed, self._max_bytes)


class Sealing:
    """The sealer of a server whose keys are read when it starts, for those who are put together before that."""

    def __init__(self) -> None:
        self._sealer: Sealer | None = None

    async def load(self, keys: Sequence[str], secrets: Secrets) -> None:
        """Reads the keys (see ``sealer_of``); before that nothing is sealed or opened."""
        self._sealer = await sealer_of(keys, secrets)

    def seal(self, data: bytes, *, project: str, purpose: str) -> str:
        """See ``Sealer.seal``."""
        return self._loaded.seal(data, project=project, purpose=purpose)

    def open(self, text: str, *, project: str, purpose: str) -> bytes | None:
        """See ``Sealer.open``."""
        return self._loaded.open(text, project=project, purpose=purpose)

    def derive(self, purpose: str) -> bytes:
        """See ``Sealer.derive``."""
        return self._loaded.derive(purpose)

    @property
    def _loaded(self) -> Sealer:
        if self._sealer is None:
            raise RuntimeError("the keys are read when the server starts")
        return self._sealer


async def sealer_of(keys: Sequence[str], secrets: Secrets, *, sealed_max_bytes: int = SEALED_MAX_BYTES) -> Sealer:
    """The sealer with the operator's keys (setting ``encryption_keys``), or with one that the server made.

    A key that the server made before the operator gave any still opens.  Raises ``ValueError`` for a key that is short.
    """
    if any(len(key) < KEY_MIN_CHARS for key in keys):
        raise ValueError(f"a key needs at least {KEY_MIN_CHARS} characters; make one with `openssl rand -base64 32`")
    own = await secrets.secret(SECRET_NAME, make=not keys)
    return Sealer([*(key.encode() for key in keys), *([own] if own else [])], sealed_max_bytes=sealed_max_bytes)


def _derived(key: bytes, use: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=b"antiphon sealing", info=use).derive(key)


def _bound(head: bytes, project: str, purpose: str) -> bytes:
    """The associated data; lengths keep two neighbours from being told as one."""
    parts = (_PREFIX.encode(), head, project.encode("utf-8", "surrogatepass"), purpose.encode())
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _decoded(text: str) -> bytes | None:
    """Strictly: the decoder would pass over strange characters and take several last characters for the same byte,
    so that there were many texts for one."""
    padding = "=" * (-len(text) % 4)
    try:
        raw = base64.b64decode(text + padding, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    last = len(raw) - (len(raw) % 3 or 3)
    same = base64.urlsafe_b64encode(raw[last:]).rstrip(b"=").decode() == text[last // 3 * 4 :]
    return raw if same else None


def _packed(data: bytes) -> bytes:
    if len(data) >= COMPRESSED_FROM_BYTES:
        deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
        deflated = deflater.compress(data) + deflater.flush()
        if len(deflated) < len(data):
            return _DEFLATED + deflated
    return _PLAIN + data


def _unpacked(packed: bytes, max_bytes: int) -> bytes | None:
    if packed[:1] == _PLAIN:
        return packed[1:] if len(packed) - 1 <= max_bytes else None
    unpacker = zlib.decompressobj(_WINDOW)
    try:
        data = unpacker.decompress(packed[1:], max_bytes + 1)
    except zlib.error:
        return None
    return data if unpacker.eof and len(data) <= max_bytes else None
