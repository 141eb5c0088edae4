"""How many threads compute fastest here: physical cores that this process may use.

Hyper-threads share the units that do the work, and a thread beyond the quota of a container makes all others wait.
"""

import math
import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def physical_cores() -> int:
    """0 where the system does not tell; the engine decides then."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    usable = os.sched_getaffinity(0)
    siblings = {_read(_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list") or str(cpu) for cpu in usable}
    return max(1, min(len(siblings), quota(_read(_QUOTA)) or len(siblings)))


def quota(text: str) -> int | None:
    """Whole cores of a cgroup's ``cpu.max``; None for no limit."""
    granted, _, period = text.partition(" ")
    if not (granted.isdigit() and period.isdigit() and int(period)):
        return None
    return max(1, math.floor(int(granted) / int(period)))


def memory_bytes() -> int:
    """Physical memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""
