"""What a person would do with the memory, seeing the day: what stays, what comes on demand, what it saves.

Several sets of models that stay are played through the day by the very policy that serves requests, and the
set with the least waiting is proposed. Sets grow by worth: seconds of loading that a place in memory spares,
per GB. Where a larger set costs no more waiting it is preferred, for what stays is also safe from others.

What is pinned is part of every set, and what does not fit beside it is left out. Where it is known how many
models the host holds at a time, no set is larger than leaves a place for what comes on demand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import msgspec

from llm_router.errors import InvalidRequest
from llm_router.fleet.fleet import Fleet
from llm_router.hosts.load import FREE_SHARE
from llm_router.simulate.engine import Engine
from llm_router.simulate.ollama_box import Event, OllamaBox
from llm_router.simulate.ours import Ours
from llm_router.simulate.play import Case, Outcome, play
from llm_router.simulate.report import Run, run_of
from llm_router.simulate.strategies import FixedMap

QUALITY_SHARE = 0.97
"""A plan may give away so little of the fixed map's summed quality that this share of it is left."""

_AS_GOOD = 1.01
"""Mean seconds up to so many times the least count as the least."""

_MOSTLY = 0.5
"""A model that is there for this share of the time leaves as an exception."""


class Stays(msgspec.Struct, frozen=True, kw_only=True):
    """A model that never leaves the memory. ``tasks`` is how many it answers, ``pinned`` that it was to stay
    whatever the traffic."""

    model: str
    memory_gb: float
    tasks: int
    load_s: float
    pinned: bool
    why: str


class OnDemand(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is loaded when a task needs it. ``resident_share`` is of the time, 0 to 1."""

    model: str
    memory_gb: float
    tasks: int
    loads: int
    load_s: float
    resident_share: float
    why: str


class NotNeeded(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the fixed map would load for so many tasks, and the plan for none."""

    model: str
    memory_gb: float
    map_tasks: int
    why: str


class NeverTogether(msgspec.Struct, frozen=True, kw_only=True):
    """Two models that do not fit into the memory at a time, beside those that stay."""

    models: tuple[str, str]
    needs_gb: float
    room_gb: float
    why: str


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The day by the fixed map and by the plan. ``waiting_s`` is the time to the first word, of all tasks
    together; what is saved may be negative."""

    fixed_map: Run
    plan: Run
    map_waiting_s: float
    plan_waiting_s: float
    saved_loads: int
    saved_waiting_s: float
    why: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    memory_gb: float
    tasks: int
    rate_per_s: float
    stays: tuple[Stays, ...]
    on_demand: tuple[OnDemand, ...]
    not_needed: tuple[NotNeeded, ...]
    never_together: tuple[NeverTogether, ...]
    saves: Compared


def plan(case: Case, rate_per_s: float, pins: Iterable[str] = (), max_loaded: int | None = None) -> Plan:
    """The proposal for the tasks of ``case`` on its box, where ``pins`` (tags of the fleet) stay anyhow.
    ``max_loaded`` is how many models the host then holds at a time, None for as many as fit; the fixed map's
    day has that of the box.

    ``case`` has only tasks that a model may take, as ``beside`` leaves them, and at least one. Raises
    InvalidRequest where the pins do not fit the memory.
    """
    pins = tuple(dict.fromkeys(pins))
    memory = _Memory(case, pins, max_loaded)
    mapped = play(case, FixedMap())
    possible = replace(case, fleet=only(case.fleet, memory.possible)) if pins else case
    free = _played(possible, (), memory)
    # Beside pins the quality of the map may be out of reach for every set.
    reachable = min(mapped.quality, free.outcome.quality) if pins else mapped.quality
    least_quality = QUALITY_SHARE * reachable
    sets = [(), *_growing(possible, free, memory)]
    found = [free, *(_played(possible, kept, memory) for kept in sets[1:])]
    held = [day for day in found if day is free or _held(day, memory)]
    good = [day for day in held if day.outcome.quality >= least_quality] or [free]
    least_s = min(day.outcome.mean_s for day in good)
    best = max(
        (day for day in good if day.outcome.mean_s <= _AS_GOOD * least_s), key=lambda day: len(day.kept)
    )
    return _told(case, rate_per_s, mapped, best, memory)


def beside(case: Case, pins: Iterable[str]) -> Case:
    """Without the tasks that no model may take which fits beside the pins (tags of the fleet).

    Raises InvalidRequest where the pins themselves do not fit the memory.
    """
    pins = tuple(dict.fromkeys(pins))
    if not pins:
        return case
    possible = frozenset(_Memory(case, pins).possible)
    served = [task for task in case.tasks if any(c.model in possible for c in case.acceptable(task))]
    return replace(case, tasks=tuple(served))


def only(fleet: Fleet, names: Iterable[str]) -> Fleet:
    """The fleet with these models alone; categories that none of them serves are left out, but the last.

    Without any of them it stays as it is.
    """
    kept = {tag for name in names if (tag := fleet.find(name)) is not None}
    categories = {
        name: msgspec.structs.replace(category, models=listed)
        for name, category in fleet.categories.items()
        if (listed := tuple(choice for choice in category.models if choice.model in kept))
    }
    if not categories:
        return fleet
    default = fleet.default_category if fleet.default_category in categories else next(iter(categories))
    return replace(
        fleet,
        models={tag: model for tag, model in fleet.models.items() if tag in kept},
        categories=categories,
        default_category=default,
        router=fleet.router if fleet.router in kept else None,
        baseline=fleet.baseline if fleet.baseline in kept else None,
    )


# ── playing ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Day:
    """One day with these models kept beside the reserved ones."""

    kept: tuple[str, ...]
    outcome: Outcome
    events: tuple[Event, ...]
    ends_s: float

    @property
    def answered(self) -> Mapping[str, int]:
        return Counter(answer.model for answer in self.outcome.answers)

    @property
    def loads(self) -> Mapping[str, int]:
        return Counter(event.model for event in self.events if event.what == "load")

    def resident_share(self, model: str) -> float:
        total_s, since_s = 0.0, None
        for event in self.events:
            if event.model != model:
                continue
            if event.what == "loaded":
                since_s = event.at_s
            elif event.what != "load" and since_s is not None:
                total_s, since_s = total_s + event.at_s - since_s, None
        if since_s is not None:
            total_s += self.ends_s - since_s
        return min(total_s / self.ends_s, 1.0) if self.ends_s > 0 else 1.0


def _played(case: Case, kept: tuple[str, ...], memory: _Memory) -> _Day:
    most = memory.max_loaded
    strategy = Ours(frozenset(kept), frozenset(memory.pins), most)
    outcome = play(case, strategy, replace(case.box, max_loaded=most or 0, keep_alive_s=math.inf))
    stage = strategy.stage
    return _Day(kept, outcome, tuple(stage.box.events), stage.now_s)


def _growing(case: Case, free: _Day, memory: _Memory) -> Iterator[tuple[str, ...]]:
    """Larger and larger sets of models that fit, as long as every task keeps a model that fits beside."""
    reserved = frozenset(memory.reserved)
    answered = free.answered

    def worth(model: str) -> tuple[float, str]:
        return -answered[model] * memory.load_s(model) / memory.needs_gb(model), model

    kept: tuple[str, ...] = ()
    for model in sorted((m for m in answered if m not in reserved), key=worth):
        larger = (*kept, model)
        if memory.fit((*reserved, *larger)) and _all_served(case, {*reserved, *larger}, memory):
            kept = larger
            yield kept


def _held(day: _Day, memory: _Memory) -> bool:
    """Whether what was to stay could stay: everything else that answered fits beside it."""
    stays = (*memory.reserved, *day.kept)
    return all(memory.fit(stays, (model,)) for model in day.answered)


def _all_served(case: Case, kept: set[str], memory: _Memory) -> bool:
    groups = {tuple(choice.model for choice in case.acceptable(task)) for task in case.tasks}
    return all(any(m in kept or memory.fit(kept, (m,)) for m in models) for models in groups)


class _Memory:
    """What fits beside what, by Ollama's rule that a model takes at most 80 % of what is free, and by how
    many models the host holds at a time, where that is known."""

    def __init__(self, case: Case, pins: tuple[str, ...], max_loaded: int | None = None) -> None:
        self.max_loaded = max_loaded
        self._box = OllamaBox(Engine(), case.fleet, case.box)
        self.total_gb = case.box.memory_gb
        self._models = tuple(case.fleet.models)
        self.pins = pins
        self.reserved: tuple[str, ...] = pins
        if not self.have_room(pins):
            parts = " + ".join(f"{model} {self.needs_gb(model):.1f}" for model in pins)
            raise InvalidRequest(
                f"residency.pins do not fit {_gb(self.total_gb)}",
                why=f"they need {sum(map(self.needs_gb, pins)):.1f} GB ({parts}), and beside others Ollama "
                "loads one only where it needs no more than 80 % of what is free",
                hint="plan for more with --memory-gb, or take the largest from residency.pins",
            )
        for model in case.fleet.reserved:
            if model not in pins and self.fit((*self.reserved, model)):
                self.reserved = (*self.reserved, model)

    @property
    def possible(self) -> tuple[str, ...]:
        """The models that fit beside those that stay anyhow, and these. Those may fill all places: the router
        then uses one more."""
        return tuple(model for model in self._models if self.have_room(self.reserved, (model,)))

    def needs_gb(self, model: str) -> float:
        return self._box.needs_gb(model)

    def load_s(self, model: str) -> float:
        return self._box.speed(model).load_s

    def fit(self, stays: Iterable[str], others: Iterable[str] = ()) -> bool:
        """Whether ``others`` can be loaded beside ``stays``, and all of them be there at a time."""
        stays, others = tuple(stays), tuple(others)
        most = self.max_loaded
        return (most is None or len({*stays, *others}) <= most) and self.have_room(stays, others)

    def have_room(self, stays: Iterable[str], others: Iterable[str] = ()) -> bool:
        """The same, for a host that holds as many models as there is memory for."""
        used_gb = 0.0
        there = set(stays)
        for models in (there, set(others) - there):
            for needs_gb in sorted(map(self.needs_gb, models), reverse=True):
                most_gb = FREE_SHARE * (self.total_gb - used_gb) if used_gb else self.total_gb
                if needs_gb > most_gb:
                    return False
                used_gb += needs_gb
        return True


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────


def _told(case: Case, rate_per_s: float, mapped: Outcome, day: _Day, memory: _Memory) -> Plan:
    by_map = Counter(answer.model for answer in mapped.answers)
    stays = [*memory.reserved, *day.kept]
    loaded = [m for m, _ in Counter(day.answered).most_common() if m not in stays]
    missing = [m for m, _ in by_map.most_common() if m not in stays and m not in loaded]
    return Plan(
        memory_gb=round(memory.total_gb, 1),
        tasks=len(case.tasks),
        rate_per_s=round(rate_per_s, 6),
        stays=tuple(_stays(model, case, day, memory) for model in stays),
        on_demand=tuple(_on_demand(model, stays, day, memory) for model in loaded),
        not_needed=tuple(_not_needed(model, by_map[model], mapped, day, memory) for model in missing),
        never_together=tuple(_apart(stays, loaded, memory)),
        saves=_compared(rate_per_s, mapped, day),
    )


def _stays(model: str, case: Case, day: _Day, memory: _Memory) -> Stays:
    tasks, load_s, needs_gb = day.answered.get(model, 0), memory.load_s(model), memory.needs_gb(model)
    total = len(day.outcome.answers)
    if model == case.fleet.router:
        why = f"Mission Control: {_gb(needs_gb)}, asked before unsure tasks, so it always stays"
        why += f"; answers {_of(tasks, total)} itself" if tasks else ""
    elif model in memory.pins:
        made = f"answers {_of(tasks, total)}" if tasks else "answers none of these tasks"
        why = f"pinned (residency.pins): {_gb(needs_gb)}, {made}"
    elif model in case.fleet.reserved:
        made = f"{_tasks(tasks)} here" if tasks else "none in this traffic"
        why = f"makes vectors ({made}) and is small: {_gb(needs_gb)}, so it always stays"
    else:
        why = (
            f"answers {_of(tasks, total)} from {_gb(needs_gb)}; were it gone each time, loading it "
            f"({load_s:.0f} s) would take {_span(tasks * load_s)}"
        )
    return Stays(
        model=model,
        memory_gb=round(needs_gb, 1),
        tasks=tasks,
        load_s=round(load_s, 1),
        pinned=model in memory.pins,
        why=why,
    )


def _on_demand(model: str, stays: Sequence[str], day: _Day, memory: _Memory) -> OnDemand:
    tasks, loads, load_s = day.answered[model], day.loads.get(model, 0), memory.load_s(model)
    needs_gb, share = memory.needs_gb(model), day.resident_share(model)
    why = f"answers {_of(tasks, len(day.outcome.answers))} with {_count(loads, 'load')} of {load_s:.0f} s; "
    if not memory.have_room(stays, (model,)):
        why += f"its {_gb(needs_gb)} do not fit beside what stays, so all of it leaves for it"
    elif not memory.fit(stays, (model,)):
        why += (
            f"what stays takes every place (residency.max_loaded: {memory.max_loaded}), so one of it leaves"
        )
    elif share >= _MOSTLY:
        why += f"there {_percent(share)} of the time: it leaves only where others need its {_gb(needs_gb)}"
    else:
        why += f"there {_percent(share)} of the time, and its {_gb(needs_gb)} are free for others the rest"
    return OnDemand(
        model=model,
        memory_gb=round(needs_gb, 1),
        tasks=tasks,
        loads=loads,
        load_s=round(load_s, 1),
        resident_share=round(share, 4),
        why=why,
    )


def _not_needed(model: str, tasks: int, mapped: Outcome, day: _Day, memory: _Memory) -> NotNeeded:
    """Who answers its tasks instead, and what that does to their quality."""
    before = {id(answer.task): answer.quality for answer in mapped.answers if answer.model == model}
    instead = [answer for answer in day.outcome.answers if id(answer.task) in before]
    change = sum(answer.quality - before[id(answer.task)] for answer in instead) / max(len(instead), 1)
    names = Counter(answer.model for answer in instead).most_common()
    who = ", ".join(f"{name} {count}" for name, count in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    needs_gb = memory.needs_gb(model)
    why = (
        f"the map would send it {_tasks(tasks)} ({memory.load_s(model):.0f} s per load, {_gb(needs_gb)}); "
        f"{who}{more} answer them, {_change(change)}"
    )
    if memory.pins and model not in memory.possible:
        why = f"does not fit beside what is pinned; {why}"
    return NotNeeded(model=model, memory_gb=round(needs_gb, 1), map_tasks=tasks, why=why)


def _apart(stays: Sequence[str], others: Sequence[str], memory: _Memory) -> Iterator[NeverTogether]:
    kept_gb = sum(map(memory.needs_gb, stays))
    room_gb = memory.total_gb - kept_gb
    for one, other in combinations(others, 2):
        if memory.have_room(stays, (one, other)):
            continue
        needs_gb = memory.needs_gb(one) + memory.needs_gb(other)
        why = f"{one} and {other} need {_gb(needs_gb)} together, "
        why += f"{_gb(max(room_gb, 0.0))} of {_gb(memory.total_gb)} are free beside what stays"
        if needs_gb <= room_gb:
            why += ", and Ollama wants a fifth of the free memory left over"
        yield NeverTogether(
            models=(one, other), needs_gb=round(needs_gb, 1), room_gb=round(max(room_gb, 0.0), 1), why=why
        )


def _compared(rate_per_s: float, mapped: Outcome, day: _Day) -> Compared:
    before, after = run_of("fixed_map", rate_per_s, mapped), run_of("plan", rate_per_s, day.outcome)
    map_s, plan_s = _waiting_s(mapped), _waiting_s(day.outcome)
    why = (
        f"{before.loads:,} loads by the fixed map, {after.loads:,} by the plan; "
        f"until the first word all tasks together wait {_span(map_s)} and {_span(plan_s)}; "
        f"a task takes {_span(before.mean_s)} and {_span(after.mean_s)} on average"
    )
    if mapped.quality:
        why += f"; summed quality is {after.quality / before.quality:.3f} of the map's"
    return Compared(
        fixed_map=before,
        plan=after,
        map_waiting_s=round(map_s, 1),
        plan_waiting_s=round(plan_s, 1),
        saved_loads=before.loads - after.loads,
        saved_waiting_s=round(map_s - plan_s, 1),
        why=why,
    )


def _waiting_s(outcome: Outcome) -> float:
    return sum(answer.first_s for answer in outcome.answers)


def _gb(value_gb: float) -> str:
    return f"{value_gb:.1f} GB" if value_gb < 10 else f"{value_gb:.0f} GB"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _tasks(number: int) -> str:
    return _count(number, "task")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.01 or not share else "less than 1 %"


def _of(tasks: int, total: int) -> str:
    return f"{_tasks(tasks)} ({_percent(tasks / max(total, 1))})"


def _change(change: float) -> str:
    if abs(change) < 0.005:
        return "as well by the fleet's figures"
    return f"by {abs(change):.2f} of quality {'better' if change > 0 else 'less well'}"


def _span(value_s: float) -> str:
    if value_s >= 7200:
        return f"{value_s / 3600:,.1f} h"
    if value_s >= 120:
        return f"{value_s / 60:.0f} min"
    return f"{value_s:.0f} s" if value_s >= 10 else f"{value_s:.1f} s"
