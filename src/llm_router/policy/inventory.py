"""The fleet beside what is true now: which state each model is in, who answers each category. Values in,
values out, through the same gates and the same ``decide`` as every request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from llm_router.decision import Candidate, Classification, Rejection
from llm_router.fleet.schema import Model
from llm_router.hosts.load import HostLoad
from llm_router.hosts.rests import HostRests
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.hosts.told import HostsTold, SpeedTold, hosts_told
from llm_router.names import canonical
from llm_router.policy import gates
from llm_router.policy.decide import World, case_for, decide
from llm_router.request import ApiKind, RouteRequest

State = Literal["resident", "installed", "resting", "not_installed", "unknown", "unusable", "deprecated"]

_BEST_FIRST: tuple[State, ...] = (
    "resident",
    "installed",
    "resting",
    "not_installed",
    "unusable",
    "unknown",
    "deprecated",
)
_STATES: Mapping[str, State] = {
    "deprecated": "deprecated",
    "not_installed": "not_installed",
    "host_unreachable": "unknown",
    "unhealthy": "resting",
}
"""States by the code of a rejection; every other code means that the host can never use the model."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model of the fleet. ``why`` is empty where it is installed; ``host`` is the one it is best on."""

    tag: str
    model: Model
    serves: tuple[str, ...]
    listed_in: tuple[str, ...]
    state: State
    why: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class UnlistedModel:
    """A model that a host has and the fleet does not list; it can be asked for by name."""

    name: str
    host: str
    size_bytes: int
    params: str
    resident: bool


def model_states(world: World) -> tuple[ModelState, ...]:
    """Every model of the fleet, in the fleet's order."""
    return tuple(_state_of(tag, world) for tag in world.fleet.models)


def unlisted_models(world: World) -> tuple[UnlistedModel, ...]:
    """What the hosts have besides, host by host and sorted by name."""
    return tuple(model for host in world.fleet_hosts for model in _unlisted(host, world))


def world_told(
    world: World, loads: Mapping[str, HostLoad], rests: Mapping[str, HostRests], now_s: float
) -> HostsTold:
    """What is in the memory of each host, what goes on and what rests there and how fast it is, for a person
    to read. ``loads`` are those of the hosts whose queues are known, ``now_s`` is wall clock."""
    usable_gb = world.fleet.machine.usable_memory_gb
    return hosts_told(world.hosts, loads, now_s, usable_gb=usable_gb, speeds=speeds(world), rests=rests)


def speeds(world: World) -> Mapping[str, tuple[SpeedTold, ...]]:
    """By the names of hosts: how fast those models are expected to be that are in memory there or were
    measured, by the hosts' own names."""
    return {host.name: tuple(_speeds(host, world)) for host in world.fleet_hosts if host.kind == "ollama"}


def _speeds(host: HostSnapshot, world: World) -> Iterator[SpeedTold]:
    tags = {canonical(host.served_as(tag)): tag for tag in world.fleet.models}
    for name in host.installed:
        if host.find_resident(name) is None and canonical(name) not in host.speeds:
            continue
        standing = world.standing(tags.get(canonical(name), name), host)
        speed = standing.speed
        if standing.remote:
            continue
        yield SpeedTold(
            model=name,
            load_gb_per_s=round(standing.model.file_gb / speed.load_s, 2),
            load_samples=speed.samples.load,
            prefill_tokens_per_s=round(speed.prefill_tokens_per_s, 1),
            prefill_samples=speed.samples.prefill,
            decode_tokens_per_s=round(speed.decode_tokens_per_s, 1),
            decode_samples=speed.samples.decode,
        )


def answering(world: World) -> Mapping[str, Candidate | None]:
    """Who would answer a short task of each category now; None where nobody can."""
    request = RouteRequest.from_text("a short task")
    answers = {}
    for name in world.fleet.categories:
        classification = Classification(name, 1.0, "explicit", {name: 1.0})
        answers[name] = decide(request, classification, world).answer
    return answers


def _state_of(tag: str, world: World) -> ModelState:
    serves = tuple(name for name in world.fleet.categories if world.fleet.choice_for(name) == tag)
    listed = tuple(n for n, c in world.fleet.categories.items() if any(m.model == tag for m in c.models))
    found = [_on_host(tag, world, host) for host in world.fleet_hosts or (None,)]
    state, why, host_name = min(found, key=lambda item: _BEST_FIRST.index(item[0]))
    return ModelState(tag, world.fleet.models[tag], serves, listed, state, why, host_name)


def _on_host(tag: str, world: World, host: HostSnapshot | None) -> tuple[State, str, str]:
    rejection = gates.first_rejection(
        case_for(tag, _least_request(world.fleet.models[tag]), None, world, host)
    )
    name = host.name if host else ""
    if rejection is not None:
        return _rejected(rejection), rejection.why, name
    if host is None:
        return "unknown", "no host is configured", ""
    return ("resident" if host.find_resident(tag) else "installed"), "", name


def _rejected(rejection: Rejection) -> State:
    return _STATES.get(rejection.code, "unusable")


def _least_request(model: Model) -> RouteRequest:
    """The smallest request of the model's own kind, so that only the model itself can be at fault."""
    if "completion" in model.capabilities:
        return RouteRequest.from_text("a short task")
    return RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a short text",))


def _unlisted(host: HostSnapshot, world: World) -> Iterator[UnlistedModel]:
    served = {name for tag in world.fleet.models for name in [host.find_installed(tag)] if name}
    for installed in sorted(host.installed.values(), key=lambda model: model.name):
        if installed not in served:
            resident = host.find_resident(installed.name) is not None
            yield UnlistedModel(installed.name, host.name, installed.size_bytes, installed.params, resident)
