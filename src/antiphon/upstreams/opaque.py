"""What an upstream wants back unread, such as signed or encrypted reasoning, as the text of ``encrypted_content``.

It names who made it, since nobody else can use it (design decision 15).  Not secret: sealing it is the engine's.
Must not know what is in it.
"""

import base64
import binascii
from typing import TypeVar

import msgspec

T = TypeVar("T")

_MARK = "kept1."
#: How ``encrypted_content`` begins that this server made, whoever it is for.
_OWN = (_MARK, "antph")


class _Kept(msgspec.Struct):
    maker: str
    content: msgspec.Raw


_kept = msgspec.json.Decoder(_Kept)


def wrapped(maker: str, content: object) -> str:
    """Content that only ``maker`` understands, as text."""
    kept = msgspec.json.encode(_Kept(maker, msgspec.Raw(msgspec.json.encode(content))))
    return _MARK + base64.urlsafe_b64encode(kept).decode()


def unwrapped(maker: str, text: str | None, kind: type[T]) -> T | None:
    """What ``wrapped`` was given; None for what is another's, or was changed on its way."""
    if text is None or not text.startswith(_MARK):
        return None
    try:
        kept = _kept.decode(base64.b64decode(text[len(_MARK) :], altchars=b"-_", validate=True))
        return msgspec.json.decode(kept.content, type=kind) if kept.maker == maker else None
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None


def is_foreign(text: str | None) -> bool:
    """Whether it is none of ours: a client has it from elsewhere, perhaps from the provider itself."""
    return bool(text) and not (text or "").startswith(_OWN)
