"""How much memory this machine has for models, where it tells; asked only about hosts on loopback."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MEMINFO = Path("/proc/meminfo")

RESERVE_SHARE = 0.125
LEAST_RESERVE_GB = 2.0
MOST_RESERVE_GB = 16.0
"""An eighth of the memory, 2 to 16 GB, stays free: a full pool can hang a machine with shared memory."""

_KIB = 1024
_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """GB of this machine; ``available_gb`` can be had now, page cache included, and is None if not told."""

    total_gb: float
    available_gb: float | None = None

    @property
    def reserve_gb(self) -> float:
        return min(max(self.total_gb * RESERVE_SHARE, LEAST_RESERVE_GB), MOST_RESERVE_GB, self.total_gb / 2)

    def usable_gb(self, resident_gb: float = 0.0) -> float:
        """GB that models may fill: all but the reserve, and no more than is free or held by models now."""
        usable = self.total_gb - self.reserve_gb
        if self.available_gb is None:
            return usable
        return max(min(usable, self.available_gb + resident_gb), 0.1)

    def sentence(self, resident_gb: float = 0.0) -> str:
        """Where the figure comes from, for the person who reads it later."""
        told = f"{self.usable_gb(resident_gb):.1f} GB of this machine's {self.total_gb:.1f} GB: "
        told += f"{self.reserve_gb:.1f} GB stay free"
        if (
            self.available_gb is not None
            and self.available_gb + resident_gb < self.total_gb - self.reserve_gb
        ):
            told += f", and other programs left {self.available_gb:.1f} GB"
        return told + "; a separate graphics card has its own memory, write that instead"


def machine_memory(meminfo: Path = MEMINFO) -> MachineMemory | None:
    """This machine's memory from the kernel; the total alone where there is no ``/proc``; None if unknown."""
    try:
        return parse_meminfo(meminfo.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return _from_sysconf()


def parse_meminfo(text: str) -> MachineMemory | None:
    values = {name: int(kib) * _KIB / 1e9 for name, kib in _LINE.findall(text)}
    total = values.get("MemTotal")
    return MachineMemory(total, values.get("MemAvailable")) if total else None


def _from_sysconf() -> MachineMemory | None:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return MachineMemory(total / 1e9) if total > 0 else None


def is_loopback(url: str) -> bool:
    """Whether an address is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
