"""What a fresh process does up to its first decision; it then tells how much memory it fills.

    python benchmarks/first_decision.py [fleet|none]

`decision.py` runs it and takes the time. It imports the router and nothing else that takes long, so that what
is measured is the router's start and not that of a benchmark.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from llm_router.config import Settings
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.snapshot import HostKind, HostSnapshot, InstalledModel, ResidentModel, unreachable
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.router import Router


class StillHost:
    """A provider whose snapshot never changes and which answers nothing."""

    name = "spark-1"
    kind: HostKind = "ollama"
    url = "http://spark-1:11434"

    def __init__(self, fleet: Fleet, *, reachable: bool) -> None:
        self._snapshot = (
            self._with_all_models(fleet)
            if reachable
            else unreachable(self.name, self.kind, self.url, "connection refused")
        )

    def _with_all_models(self, fleet: Fleet) -> HostSnapshot:
        installed = {
            tag: InstalledModel(tag, round(model.size_gb * 1e9), frozenset(model.capabilities))
            for tag, model in fleet.models.items()
        }
        resident = {tag: ResidentModel(tag) for tag in list(installed)[:2]}
        return HostSnapshot(
            self.name, self.kind, self.url, True, "0.30.0", installed=installed, resident=resident
        )

    async def snapshot(self) -> HostSnapshot:
        return self._snapshot

    def chat(self, call: ChatCall) -> object:
        raise NotImplementedError

    async def embed(self, call: EmbedCall) -> object:
        raise NotImplementedError

    async def close(self) -> None: ...


def made_router(hosts: str) -> Router:
    fleet, settings = load_fleet(), Settings()
    mission_control = msgspec.structs.replace(settings.classify.mission_control, enabled=False)
    settings = msgspec.structs.replace(
        settings, classify=msgspec.structs.replace(settings.classify, mission_control=mission_control)
    )
    return Router(fleet, settings=settings, providers=[StillHost(fleet, reachable=hosts == "fleet")])  # type: ignore[list-item]


def resident_mb() -> float | None:
    """Resident memory now, in MB; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


async def decide_once(hosts: str) -> None:
    async with made_router(hosts) as router:
        await router.decide("What's 2+2?")


if __name__ == "__main__":
    asyncio.run(decide_once(sys.argv[1] if len(sys.argv) > 1 else "fleet"))
    memory_mb = resident_mb()
    print("null" if memory_mb is None else memory_mb, flush=True)
    os._exit(0)  # the end of the interpreter is not part of the start
