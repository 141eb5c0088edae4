"""Ids as PostgreSQL can hold them: its text has no NUL, but an id that a client made up may."""

_ESCAPES = {ord("\x01"): "\x01\x01", ord("\x00"): "\x01\x02"}


def sendable(text: str) -> str:
    """The text without NUL; different texts stay different."""
    return text.translate(_ESCAPES) if "\x00" in text or "\x01" in text else text


def received(text: str) -> str:
    """The text as it was before ``sendable``."""
    if "\x01" not in text:
        return text
    return "\x01".join(part.replace("\x01\x02", "\x00") for part in text.split("\x01\x01"))
