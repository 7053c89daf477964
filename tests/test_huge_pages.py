"""What stays in memory goes onto huge pages where the system has them; elsewhere nothing changes."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from llm_router.huge_pages import HUGE_BYTES, Region, collapse, regions

SMAPS = """\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/program
Size:                328 kB
Rss:                 300 kB
00e03000-01803000 rw-p 00000000 00:00 0           [heap]
Size:              10240 kB
Rss:               10000 kB
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Size:               8192 kB
Rss:                  12 kB
7f1000000000-7f1000200000 rw-s 00000000 00:01 7   /dev/zero (deleted)
Size:               2048 kB
Rss:                2048 kB
7f2000000000-7f2000100000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                1024 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0   [stack]
Size:                132 kB
Rss:                  20 kB
"""


def test_memory_of_its_own_is_found_and_files_and_the_stack_are_left() -> None:
    assert list(regions(SMAPS.splitlines())) == [
        Region(0xE03000, 0x1803000, 10_240_000),
        Region(0x7F0000000000, 0x7F0000800000, 12_288),
        Region(0x7F2000000000, 0x7F2000100000, 1_048_576),
    ]


def test_huge_pages_lie_wholly_inside_and_at_their_multiples() -> None:
    heap = Region(0xE03000, 0x1803000, 0)
    assert list(heap.huge_pages) == [0x1000000, 0x1200000, 0x1400000, 0x1600000]
    assert list(Region(0x200000, 0x400000, 0).huge_pages) == [0x200000]
    assert list(Region(0x200001, 0x400000, 0).huge_pages) == []
    assert list(Region(0x7F2000000000, 0x7F2000100000, 0).huge_pages) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_what_is_moved_stays_what_it_was() -> None:
    filled = [bytes([n % 251]) * 65_536 for n in range(200)]
    moved = collapse()
    assert moved % HUGE_BYTES == 0
    assert all(part == bytes([n % 251]) * 65_536 for n, part in enumerate(filled))


@pytest.mark.parametrize("lacking", ["linux", "proc", "madvise"])
def test_without_what_it_needs_nothing_happens(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    if lacking == "linux":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif lacking == "proc":
        monkeypatch.setattr(Path, "read_text", missing)
    else:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert collapse() == 0
