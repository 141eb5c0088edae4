"""When a fake stream's next write is due.

One timerfd for all streams, because loop timers have whole milliseconds only and would let many streams tick at once.
Knows nothing of HTTP. Linux only.
"""

import asyncio
import ctypes
import heapq
import itertools
import os
import time
from typing import Protocol

ABSOLUTE = 1  # TFD_TIMER_ABSTIME
LIBC = ctypes.CDLL(None, use_errno=True)


class Spec(ctypes.Structure):
    """struct itimerspec: interval, then the first expiry, each as seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Ticker(Protocol):
    """Something that writes its next piece; returns the seconds until the one after it, or None when it is done."""

    def step(self) -> float | None: ...


class Pacer:
    """Calls each ticker when it is due. A ticker that is behind is called as often as it takes to catch up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fd = LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[float, int, Ticker]] = []
        self._count = itertools.count()
        self._armed = 0.0
        self._spec = Spec()
        loop.add_reader(self._fd, self._fire)

    def add(self, ticker: Ticker, delay_seconds: float) -> None:
        """Calls the ticker first after the delay; without delay in the loop's next turn."""
        due = time.monotonic() + delay_seconds
        heapq.heappush(self._due, (due, next(self._count), ticker))
        if due == self._due[0][0]:
            self._arm()

    def _arm(self) -> None:
        first = max(self._due[0][0], time.monotonic() + 1e-6)
        seconds = int(first)
        self._spec.first_s, self._spec.first_ns = seconds, int((first - seconds) * 1e9)
        LIBC.timerfd_settime(self._fd, ABSOLUTE, ctypes.byref(self._spec), None)

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # re-armed between the wake-up and this call
            return
        due, now = self._due, time.monotonic()
        while due and due[0][0] <= now:
            at, number, ticker = due[0]
            wait = ticker.step()
            if wait is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (at + wait, number, ticker))
        if due:
            self._arm()
