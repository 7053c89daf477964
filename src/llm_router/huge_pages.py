"""What stays in memory, on huge pages: a decision then waits less for memory that it has not touched lately.

The classifier looks up some hundred words and word pairs that lie scattered over a dozen megabytes. Where
nothing was asked for some time, nearly every one of them is also a page that the processor has to look up in
the tables of the kernel, on a virtual machine in those of its host as well. 2 MiB pages are few enough to be
known. `docs/concepts/gateway-speed.md` tells what that is worth.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HUGE_BYTES = 2 << 20
_MADV_COLLAPSE = 25
"""Since Linux 6.1: moves what is there onto a huge page at once, and leaves later allocations as they are."""

_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) [0-9a-f]+ \S+ (\d+) *(.*)")
_LEAST_FILLED = 0.5
"""Of a region; stacks of threads are large and nearly empty, and are to stay so."""


class Region(NamedTuple):
    """Memory of the process: from where to where, and how much of it is really there, in bytes."""

    start: int
    end: int
    resident_bytes: int

    @property
    def huge_pages(self) -> range:
        """Addresses of the huge pages that lie wholly inside."""
        first = -(-self.start // HUGE_BYTES) * HUGE_BYTES
        return range(first, self.end - HUGE_BYTES + 1, HUGE_BYTES)


def regions(smaps: Iterable[str]) -> Iterator[Region]:
    """Private writable memory that belongs to no file, from the lines of ``/proc/self/smaps``."""
    here: tuple[int, int] | None = None
    for line in smaps:
        head = _HEAD.match(line)
        if head is not None:
            start, end, rights, inode, name = head.groups()
            ours = rights == "rw-p" and inode == "0" and name in ("", "[heap]")
            here = (int(start, 16), int(end, 16)) if ours else None
        elif here is not None and line.startswith("Rss:"):
            yield Region(*here, int(line.split()[1]) * 1024)


def collapse() -> int:
    """Moves what the process has in memory now onto huge pages; gives the bytes that are on them then.

    0 where the system has no such thing (not Linux, before 6.1, switched off): nothing else changes there.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        lines = Path("/proc/self/smaps").read_text(encoding="ascii", errors="replace").splitlines()
    except (OSError, AttributeError):
        return 0
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    moved = 0
    for region in list(regions(lines)):
        if region.resident_bytes < _LEAST_FILLED * (region.end - region.start):
            continue
        for address in region.huge_pages:
            if madvise(address, HUGE_BYTES, _MADV_COLLAPSE) == 0:
                moved += HUGE_BYTES
    return moved


__all__ = ["HUGE_BYTES", "Region", "collapse", "regions"]
