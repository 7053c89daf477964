"""What rests at a host after failures, and for how long. Values only: ``Health`` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rest:
    """Why something is left alone, and for how many seconds from now."""

    why: str
    left_s: float


@dataclass(frozen=True, slots=True)
class HostRests:
    """Of one host: ``loads`` of any model, where its loader may hang, and ``models`` by canonical name."""

    loads: Rest | None = None
    models: Mapping[str, Rest] = field(default_factory=dict)


NO_RESTS = HostRests()
