"""What goes on at a host at one moment: who is being answered, who waits, what loads, what is in demand.

Values only, as the policy reads them and ``Desk`` makes them. Names of models are canonical (``names``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from llm_router.hosts.snapshot import HostSnapshot

FREE_SHARE = 0.8
"""Beside other models, Ollama loads one without evicting where it needs no more of the free memory."""

HORIZON_S = 900.0
"""How far ahead the demand of a model is looked at, when it is asked what its place in memory is worth."""


class ModelLoad(Struct, frozen=True):
    """One model of a host: requests under way and the seconds of work that are left, and those that wait."""

    running: int = 0
    running_s: float = 0.0
    waiting: int = 0
    waiting_s: float = 0.0


NOTHING = ModelLoad()


class HostLoad(Struct, frozen=True):
    """One host. ``loading`` is the model being loaded ("" for none), with the seconds that it still takes.

    ``loads_waiting`` are models that will be loaded before anything that comes now. ``demand_per_s`` holds
    requests per second of each model, as they came lately. ``kept`` are models that nothing may evict,
    ``leaving`` those that are on their way out of the memory and take nobody in. ``owed_gb`` is the room that
    kept models need which are not there now. ``max_models`` is how many the host holds, where that is known.
    """

    models: Mapping[str, ModelLoad] = field(default_factory=dict)
    loading: str = ""
    loading_left_s: float = 0.0
    loads_waiting: tuple[str, ...] = ()
    demand_per_s: Mapping[str, float] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()
    parallel: int = 1
    owed_gb: float = 0.0
    max_models: int | None = None

    def of(self, model: str) -> ModelLoad:
        return self.models.get(model, NOTHING)

    @property
    def idle(self) -> bool:
        return not self.models and not self.loading


QUIET = HostLoad()


class Victim(Struct, frozen=True):
    """A model that may leave the memory: how much room it gives, and what its leaving costs."""

    name: str
    size_gb: float
    reload_s: float
    """Seconds that loading it again takes, times how likely it is asked for within ``HORIZON_S``."""
    busy_s: float = 0.0
    """Seconds until what it is doing is done."""


def victims_of(
    host: HostSnapshot, load: HostLoad, load_s_per_gb: float, load_overhead_s: float
) -> tuple[Victim, ...]:
    """Every resident model that may leave. Seconds of a load are as measured, else by these figures."""
    found = []
    for name, size_gb in host.resident_gb.items():
        if name not in load.kept:
            work = load.of(name)
            reload_s = host.load_s(name, load_overhead_s + size_gb * load_s_per_gb) * wanted_again(load, name)
            found.append(Victim(name, size_gb, reload_s, work.running_s + work.waiting_s))
    return tuple(found)


def wanted_again(load: HostLoad, model: str) -> float:
    """About how likely it is that somebody asks for it within ``HORIZON_S``, 0 to 1."""
    return min(1.0, load.demand_per_s.get(model, 0.0) * HORIZON_S)


def missing_gb(memory_gb: float, resident_gb: float, usable_gb: float) -> float:
    """How much must become free before a model is loaded, so that Ollama has no reason to evict."""
    return memory_gb / FREE_SHARE + resident_gb - usable_gb if resident_gb > 0 else 0.0


def choose_victims(
    candidates: Iterable[Victim], need_gb: float, need_places: int = 0
) -> tuple[Victim, ...] | None:
    """Who leaves so that ``need_gb`` and ``need_places`` become free: little is lost, nobody leaves for
    nothing. None where all of them together are not enough GB; of places, all of them are enough.

    By what is lost per GB, waiting for the busy ones included; then, for the places, by what is lost; then
    those that are not needed after all stay, dearest first.
    """
    return first_victims(by_loss(candidates), need_gb, need_places)


def by_loss(victims: Iterable[Victim]) -> tuple[Victim, ...]:
    """By what is lost per GB that becomes free, the least first."""
    return tuple(sorted(victims, key=_loss_per_gb))


def first_victims(
    ordered: Sequence[Victim], need_gb: float, need_places: int = 0
) -> tuple[Victim, ...] | None:
    """The same as `choose_victims` for those that are in the order of `by_loss` already."""
    if need_gb <= 0 and need_places <= 0:
        return ()
    chosen: list[Victim] = []
    freed_gb = 0.0
    if need_gb > 0:
        for victim in ordered:
            chosen.append(victim)
            freed_gb += victim.size_gb
            if freed_gb >= need_gb:
                break
        else:
            return None
    if len(chosen) < need_places:
        rest = sorted([victim for victim in ordered if victim not in chosen], key=_loss)
        for victim in rest[: need_places - len(chosen)]:
            chosen.append(victim)
            freed_gb += victim.size_gb
    if len(chosen) == 1:
        return tuple(chosen)
    for victim in sorted(chosen, key=lambda v: -_loss(v)[0]):
        if len(chosen) > need_places and freed_gb - victim.size_gb >= need_gb:
            chosen.remove(victim)
            freed_gb -= victim.size_gb
    return tuple(chosen)


def missing_places(most: int | None, others: int) -> int:
    """How many of the other models must leave before one more is loaded, where a host holds ``most`` of them
    (None: not known)."""
    return 0 if most is None else max(0, others + 1 - most)


def _loss(victim: Victim) -> tuple[float, str]:
    return victim.reload_s + victim.busy_s, victim.name


def _loss_per_gb(victim: Victim) -> tuple[float, str]:
    return (victim.reload_s + victim.busy_s + 1e-3) / max(victim.size_gb, 1e-3), victim.name
