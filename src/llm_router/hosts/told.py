"""What is true of every host now, as ``/router/hosts`` tells it and ``llm-router ps`` shows it.

Names of models are those of the host; of a model that only the router has seen, the canonical one without
``:latest``. Where nobody queues for a host here, what waits and runs there is not known and is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llm_router.hosts.load import HostLoad
from llm_router.hosts.rests import NO_RESTS, HostRests
from llm_router.hosts.snapshot import HostKind, HostSnapshot, ResidentModel
from llm_router.names import canonical
from llm_router.providers.address import masked


class ResidentTold(msgspec.Struct, frozen=True, kw_only=True):
    """A model in memory. ``size_gb`` is None for one that was loaded since the host was last looked at."""

    name: str
    size_gb: float | None
    context_length: int | None
    expires_at: str | None
    kept: bool
    running: int | None
    waiting: int | None


class LoadingTold(msgspec.Struct, frozen=True, kw_only=True):
    """A load that is under way; ``left_s`` is an estimate, ``waiting`` are requests for that model."""

    model: str
    left_s: float
    waiting: int


class LoadWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is loaded later, in this order, with the requests that wait for it."""

    model: str
    waiting: int


class SpeedTold(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a model is expected to be on its host: GB of its file that load in a second, tokens that it
    reads and writes in a second. ``…_samples`` is how often that was measured there; at 0 it is the fleet
    file's figure, or what follows from the size of the model."""

    model: str
    load_gb_per_s: float
    load_samples: int
    prefill_tokens_per_s: float
    prefill_samples: int
    decode_tokens_per_s: float
    decode_samples: int


class LoadsRest(msgspec.Struct, frozen=True, kw_only=True):
    """Why no model is loaded there now, and for how many seconds more."""

    why: str
    left_s: float


class ModelRests(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is not asked there now, and why. ``left_s`` is None where the host itself says so."""

    model: str
    why: str
    left_s: float | None


class ModelUnusable(msgspec.Struct, frozen=True, kw_only=True):
    """A model that this host, in its version, cannot load."""

    model: str
    why: str


class HostTold(msgspec.Struct, frozen=True, kw_only=True):
    """One host. ``age_s`` is how old the knowledge of its memory is; None where it did not answer.

    ``queues_known`` says whether this process queues for the host; without it nothing is known of who runs
    and waits. ``demand_per_hour`` are requests for each model as they came lately. ``speeds`` has the models
    that are in memory or were measured. ``loads_rest`` is there where the loader may hang: what is in memory
    goes on meanwhile.
    """

    name: str
    kind: HostKind
    url: str
    reachable: bool
    problem: str | None
    version: str | None
    usable_memory_gb: float | None
    age_s: float | None
    resident: tuple[ResidentTold, ...]
    queues_known: bool
    loading: LoadingTold | None
    loads_waiting: tuple[LoadWaiting, ...]
    demand_per_hour: dict[str, float]
    kept: tuple[str, ...]
    speeds: tuple[SpeedTold, ...] = ()
    loads_rest: LoadsRest | None = None
    resting: tuple[ModelRests, ...] = ()
    unusable: tuple[ModelUnusable, ...] = ()

    @property
    def resident_gb(self) -> float:
        return sum(model.size_gb or 0.0 for model in self.resident)


class HostsTold(msgspec.Struct, frozen=True, kw_only=True):
    hosts: tuple[HostTold, ...]


def hosts_told(
    hosts: Sequence[HostSnapshot],
    loads: Mapping[str, HostLoad],
    now_s: float,
    *,
    usable_gb: float,
    speeds: Mapping[str, Sequence[SpeedTold]],
    rests: Mapping[str, HostRests],
) -> HostsTold:
    """``now_s`` is wall clock; ``usable_gb`` holds where a host's own memory is not told; ``speeds`` and
    ``rests`` by the names of hosts."""
    return HostsTold(
        hosts=tuple(
            _host(
                host,
                loads.get(host.name),
                now_s,
                usable_gb,
                speeds=speeds.get(host.name, ()),
                rests=rests.get(host.name, NO_RESTS),
            )
            for host in hosts
        )
    )


def _host(
    host: HostSnapshot,
    load: HostLoad | None,
    now_s: float,
    usable_gb: float,
    *,
    speeds: Sequence[SpeedTold],
    rests: HostRests,
) -> HostTold:
    known = load if load is not None else HostLoad()
    memory_gb = host.usable_memory_gb
    if memory_gb is None and host.kind == "ollama":
        memory_gb = usable_gb
    names = {canonical(name): name for name in (*host.installed, *host.resident)}
    return HostTold(
        name=host.name,
        kind=host.kind,
        url=masked(host.url),
        reachable=host.reachable,
        problem=host.problem or None,
        version=host.version or None,
        usable_memory_gb=None if memory_gb is None else round(memory_gb, 1),
        age_s=round(max(now_s - host.taken_at_s, 0.0), 1) if host.taken_at_s else None,
        resident=tuple(_resident(host, load, names)),
        queues_known=load is not None,
        loading=_loading(known, names),
        loads_waiting=tuple(_later(known, names)),
        demand_per_hour={
            _short(model, names): round(rate * 3600, 1)
            for model, rate in sorted(known.demand_per_s.items(), key=lambda item: (-item[1], item[0]))
            if rate * 3600 >= _LEAST_PER_HOUR
        },
        kept=tuple(sorted(_short(model, names) for model in known.kept)),
        speeds=tuple(speeds),
        loads_rest=_loads_rest(rests),
        resting=tuple(_resting(host, rests, names)),
        unusable=tuple(
            ModelUnusable(model=_short(model, names), why=why) for model, why in sorted(host.unusable.items())
        ),
    )


_LEAST_PER_HOUR = 0.05
"""Less demand than that has faded."""


def _resident(host: HostSnapshot, load: HostLoad | None, names: Mapping[str, str]) -> Iterator[ResidentTold]:
    """The largest first, and then those that answer although the host has not told of them yet."""
    for name, model in sorted(host.resident.items(), key=lambda item: (-item[1].size_bytes, item[0])):
        yield _entry(name, model, load)
    there = set(map(canonical, host.resident))
    for name, of_model in (load.models if load is not None else {}).items():
        if of_model.running and name not in there:
            yield _entry(_short(name, names), None, load)


def _entry(name: str, model: ResidentModel | None, load: HostLoad | None) -> ResidentTold:
    of_model = load.of(canonical(name)) if load is not None else None
    return ResidentTold(
        name=name,
        size_gb=None if model is None else round(model.size_bytes / 1e9, 2),
        context_length=model.context_length if model is not None else None,
        expires_at=(model.expires_at or None) if model is not None else None,
        kept=load is not None and canonical(name) in load.kept,
        running=None if of_model is None else of_model.running,
        waiting=None if of_model is None else of_model.waiting,
    )


def _loading(load: HostLoad, names: Mapping[str, str]) -> LoadingTold | None:
    if not load.loading:
        return None
    return LoadingTold(
        model=_short(load.loading, names),
        left_s=round(load.loading_left_s, 1),
        waiting=load.of(load.loading).waiting,
    )


def _loads_rest(rests: HostRests) -> LoadsRest | None:
    loads = rests.loads
    return None if loads is None else LoadsRest(why=loads.why, left_s=round(loads.left_s, 1))


def _resting(host: HostSnapshot, rests: HostRests, names: Mapping[str, str]) -> Iterator[ModelRests]:
    """Those that failed themselves, not all that a loader which rests would have to load."""
    for model, rest in sorted(rests.models.items()):
        yield ModelRests(model=_short(model, names), why=rest.why, left_s=round(rest.left_s, 1))
    of_the_loader = rests.loads.why if rests.loads is not None else ""
    for model, why in sorted(host.unhealthy.items()):
        if model not in rests.models and why != of_the_loader:
            yield ModelRests(model=_short(model, names), why=why, left_s=None)


def _later(load: HostLoad, names: Mapping[str, str]) -> Iterator[LoadWaiting]:
    for model in load.loads_waiting:
        yield LoadWaiting(model=_short(model, names), waiting=load.of(model).waiting)


def _short(model: str, names: Mapping[str, str]) -> str:
    return names.get(model, model.removesuffix(":latest"))
