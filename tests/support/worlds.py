"""Short ways to say "a host with these models" and "a request classified like this" in tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_router.decision import Classification
from llm_router.fleet import Fleet
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel, unreachable
from llm_router.policy import PolicySettings, World

GB = 10**9


def host(
    *installed: str | InstalledModel,
    name: str = "spark-1",
    resident: Iterable[ResidentModel] = (),
    version: str = "0.24.0",
    memory_gb: float | None = None,
    unusable: Mapping[str, str] | None = None,
    unhealthy: Mapping[str, str] | None = None,
) -> HostSnapshot:
    """A reachable Ollama host; a plain name is installed with the facts of the fleet file."""
    models = [m if isinstance(m, InstalledModel) else InstalledModel(m) for m in installed]
    return HostSnapshot(
        name=name,
        kind="ollama",
        url=f"http://{name}:11434",
        reachable=True,
        version=version,
        installed={m.name: m for m in models},
        resident={m.name: m for m in resident},
        usable_memory_gb=memory_gb,
        unusable=unusable or {},
        unhealthy=unhealthy or {},
    )


def host_down(name: str = "spark-1") -> HostSnapshot:
    return unreachable(name, "ollama", f"http://{name}:11434", "connection refused")


def embedded(model: str = "smollm2:135m") -> HostSnapshot:
    """The embedded engine, ready."""
    return HostSnapshot(
        name="embedded",
        kind="embedded",
        url="",
        reachable=True,
        installed={model: InstalledModel(model, capabilities=frozenset({"completion"}), context_length=4096)},
    )


def whole_fleet(fleet: Fleet, **arguments: object) -> HostSnapshot:
    """A host that has every model of the fleet."""
    return host(*fleet.models, **arguments)  # type: ignore[arg-type]


def world(fleet: Fleet, *hosts: HostSnapshot, settings: PolicySettings | None = None) -> World:
    return World(fleet, hosts, settings or PolicySettings())


def classified(category: str, confidence: float = 0.9, **others: float) -> Classification:
    return Classification(
        category=category,
        confidence=confidence,
        stage="encoder",
        probabilities={category: confidence, **others},
    )
