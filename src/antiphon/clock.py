"""The real time and real names, behind ``engine.ports.Clock``."""

import asyncio
import secrets
import time

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_BASE = len(_PAIRS)


class SystemClock:
    """The machine's clock; ids are 8 characters of milliseconds and 20 of chance, so that they sort by time."""

    def now(self) -> float:
        return time.time()

    def new_id(self, prefix: str) -> str:
        stamp = _digits(time.time_ns() // 1_000_000, 4)
        return prefix + stamp + _digits(secrets.randbits(120), 10)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _digits(number: int, pairs: int) -> str:
    text = ""
    for _ in range(pairs):
        number, rest = divmod(number, _BASE)
        text = _PAIRS[rest] + text
    return text
