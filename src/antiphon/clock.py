"""The real time and real names, behind ``engine.ports.world.Clock``."""

import asyncio
import os
import time

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [chr(first) + chr(second) for first in _ALPHABET for second in _ALPHABET]
_BASE = len(_PAIRS)
#: A random byte as a character.  256 is no multiple of 62: eight characters come a little oftener, which costs an id of
#: 20 of them 0.2 bits of its 119.
_AS_CHARACTER = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
#: Characters of chance in an id.
CHANCE = 20
#: Random bytes that are asked for at once: one call for each id would cost more than the id.
POOL_BYTES = 200 * CHANCE


class SystemClock:
    """The machine's clock; ids are 8 characters of milliseconds and 20 of chance, so that they sort by time."""

    def __init__(self) -> None:
        self._pool = ""
        self._left = 0
        self._millisecond = -1
        self._stamp = ""

    def now(self) -> float:
        return time.time()

    def new_id(self, prefix: str) -> str:
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond, self._stamp = millisecond, _digits(millisecond, 4)
        if not self._left:
            self._pool = os.urandom(POOL_BYTES).translate(_AS_CHARACTER).decode("ascii")
            self._left = POOL_BYTES
        self._left -= CHANCE
        return prefix + self._stamp + self._pool[self._left : self._left + CHANCE]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _digits(number: int, pairs: int) -> str:
    text = ""
    for _ in range(pairs):
        number, rest = divmod(number, _BASE)
        text = _PAIRS[rest] + text
    return text
