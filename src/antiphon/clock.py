"""The real time and real names, behind ``engine.ports.Clock``."""

import asyncio
import os
import time

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_BASE = len(_PAIRS)
#: Random bytes that are asked for at once.
POOL_BYTES = 4096


class SystemClock:
    """The machine's clock; ids are 8 characters of milliseconds and 20 of chance, so that they sort by time."""

    def __init__(self) -> None:
        self._pool = memoryview(b"")

    def now(self) -> float:
        return time.time()

    def new_id(self, prefix: str) -> str:
        stamp = _digits(time.time_ns() // 1_000_000, 4)
        return prefix + stamp + _digits(int.from_bytes(self._chance(15)), 10)

    def _chance(self, count: int) -> memoryview:
        """Random bytes, asked of the system many at a time: one call for each id would cost more than the id."""
        if len(self._pool) < count:
            self._pool = memoryview(os.urandom(POOL_BYTES))
        taken, self._pool = self._pool[:count], self._pool[count:]
        return taken

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _digits(number: int, pairs: int) -> str:
    text = ""
    for _ in range(pairs):
        number, rest = divmod(number, _BASE)
        text = _PAIRS[rest] + text
    return text
