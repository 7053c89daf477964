"""What else an answer waits for than its own work, and what it costs others. Pure arithmetic over values.

A host loads one model at a time, and its memory and its bandwidth are shared, so a candidate's time has four
parts: the queue before it, the loading of its model, its own reading and writing, slowed by those who write
at the same time. And every second that it holds up the host is a second for everybody who waits there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_router.hosts import load as loads
from llm_router.hosts.load import QUIET, HostLoad
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.names import canonical
from llm_router.policy.gates import Standing

KEPT_SHARE = 0.8
"""How much of its prompt a model need not read again when it answered the turn before."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation was answered last."""

    model: str
    host: str


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision depends on that may be different for the next request.

    ``loads`` by the names of hosts. ``before`` is where the turn before was answered, and ``locked`` says
    that it must stay there, as in a loop of tool calls.
    """

    loads: Mapping[str, HostLoad] = field(default_factory=dict)
    before: Place | None = None
    locked: bool = False

    def load(self, host: str) -> HostLoad:
        return self.loads.get(host, QUIET)


STILL = Moment()
"""Nothing is known to go on anywhere."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a candidate's answer waits for, in seconds, and whom it holds up.

    ``slowed`` is by how much its own work takes longer; ``others`` are requests under way or waiting there,
    all of which its reading and writing slows, ``behind_load`` those that wait for other models to be loaded;
    ``regret_s`` is what the models that must leave would take to load again, as far as they are likely to be
    wanted; ``leaving`` are their names. ``fits`` is False where not even that gives enough room. ``load_s``
    is what its own loading still takes, None where that follows from what is in memory alone.
    """

    queue_s: float = 0.0
    slowed: float = 1.0
    others: int = 0
    behind_load: int = 0
    regret_s: float = 0.0
    leaving: tuple[str, ...] = ()
    fits: bool = True
    load_s: float | None = None


NO_WAIT = Wait()


def wait_of(standing: Standing, host: HostSnapshot, load: HostLoad) -> Wait:
    """For a model on a host that loads and evicts; of other servers nothing is known."""
    if host.kind != "ollama" or standing.remote or (load is QUIET and not host.resident):
        return NO_WAIT
    name = canonical(standing.served_as)
    own = load.of(name)
    others = sum(work.running + work.waiting for work in load.models.values())
    writing = sum(work.running > 0 for other, work in load.models.items() if other != name)
    busy_s = (own.running_s + own.waiting_s) / load.parallel
    queue_s = busy_s if own.running + own.waiting >= load.parallel else 0.0
    if load.loading == name:
        return Wait(queue_s, 1.0 + writing, others, load_s=load.loading_left_s)
    if standing.warm and name not in load.leaving:
        return Wait(queue_s, 1.0 + writing, others)
    queue_s += load.loading_left_s
    queue_s += sum(
        _load_s(model, host, standing)
        for model in itertools.takewhile(lambda model: model != name, load.loads_waiting)
    )
    room, fits = _room(standing, host, load, name)
    joins = name in load.loads_waiting  # it will be loaded for others anyway
    return Wait(
        queue_s + max((victim.busy_s for victim in room), default=0.0),
        1.0 + writing,
        others,
        0 if joins else sum(load.of(model).waiting for model in load.loads_waiting),
        0.0 if joins else sum(victim.reload_s for victim in room),
        tuple(victim.name for victim in room),
        fits,
        standing.speed.load_s,
    )


def _room(
    standing: Standing, host: HostSnapshot, load: HostLoad, name: str
) -> tuple[tuple[loads.Victim, ...], bool]:
    """Who must leave so that the model fits, and whether it then does. Its own copy with another context
    leaves first."""
    machine = standing.machine
    resident_gb = sum(loads.resident_gb(model) for model in host.resident.values())
    own = host.find_resident(standing.tag)
    if own is not None:
        resident_gb -= loads.resident_gb(own)
    need_gb = loads.missing_gb(standing.model.memory_gb, resident_gb, standing.usable_memory_gb)
    candidates = loads.victims_of(host, load, 1.0 / machine.load_gb_per_s, machine.load_overhead_s)
    others = tuple(victim for victim in candidates if victim.name != name)
    chosen = loads.choose_victims(others, need_gb)
    if chosen is not None:
        return chosen, True
    kept_gb = resident_gb - sum(victim.size_gb for victim in others)
    return others, loads.missing_gb(standing.model.memory_gb, kept_gb, standing.usable_memory_gb) <= 0


def _load_s(model: str, host: HostSnapshot, standing: Standing) -> float:
    """Of another model of that host, by its size on disk."""
    installed = host.find_installed(model)
    machine = standing.machine
    size_gb = installed.size_bytes / 1e9 if installed is not None else 0.0
    return machine.load_overhead_s + size_gb / machine.load_gb_per_s
