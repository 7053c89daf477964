"""Who waits for which model of one host, what is loaded next, and who leaves the memory for it.

A plain state machine without I/O and without a clock: events go in (``enter``, ``ended``, ``loaded``, …), and
``next`` says what to do now. The router carries it out over HTTP, the simulator in virtual time.

Loads happen one at a time, in the order in which the first request for each model came, those that are kept
before all others; all requests for the same model start when it is there. Room is made before a load by
unloading, so that Ollama never has to evict by itself: while it does, everybody waits, and a request that
comes for the leaving model can block it for good. A model that is to leave takes no new requests, and leaves
when it is idle.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec import Struct

from llm_router.hosts.load import (
    HORIZON_S,
    NOTHING,
    HostLoad,
    ModelLoad,
    Victim,
    choose_victims,
    missing_gb,
    missing_places,
)
from llm_router.hosts.speeds import ModelSpeeds

_LEAST_LEFT = 0.1
"""Of its expected work, what a request that takes longer than expected still has before it."""


class Ticket(Struct, frozen=True):
    """One request for one model: what its place in memory takes, and the seconds that things are expected to
    take. ``model`` is the host's name in its canonical form."""

    number: int
    model: str
    memory_gb: float
    load_s: float
    work_s: float


class Start(Struct, frozen=True):
    """The request may be sent to its model."""

    ticket: Ticket


class Unload(Struct, frozen=True):
    """The model is to leave the memory. Answered with ``unloaded``."""

    model: str


class Load(Struct, frozen=True):
    """The model is to be loaded. Answered with ``loaded`` or ``load_failed``."""

    model: str
    memory_gb: float
    load_s: float


Action: TypeAlias = Start | Unload | Load


class _Running(Struct):
    ticket: Ticket
    since_s: float


@dataclass(slots=True)
class _Plan:
    """A load that is on its way: first ``leaving`` must be gone."""

    model: str
    memory_gb: float
    load_s: float
    leaving: set[str] = field(default_factory=set)
    unloading: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    begun_s: float | None = None
    beside_gb: dict[str, float] = field(default_factory=dict)
    """What was there when it began, without those that were told to leave."""


class Desk:
    """One host. ``usable_gb`` is the memory that models may fill, ``kept`` names that never leave it.

    ``parallel`` is how many requests of one model the host answers at a time; it only counts in what ``load``
    expects. What loading a resident model again takes follows from ``load_gb_per_s`` and ``load_overhead_s``,
    corrected by ``speeds``, what was measured.

    ``max_models`` is how many models the host holds at a time; where it is None that is learned from the
    host's own evictions. Those that are kept may fill it, and one more is loaded all the same.
    """

    def __init__(
        self,
        usable_gb: float,
        *,
        kept: frozenset[str] = frozenset(),
        parallel: int = 1,
        load_gb_per_s: float = 2.0,
        load_overhead_s: float = 2.0,
        max_models: int | None = None,
    ) -> None:
        self.usable_gb = usable_gb
        self._max_models = max_models
        self._max_seen: int | None = None
        self.kept = kept
        self.parallel = parallel
        self._load_gb_per_s = load_gb_per_s
        self._load_overhead_s = load_overhead_s
        self.speeds: Mapping[str, ModelSpeeds] = {}
        self.owed_gb: Mapping[str, float] = {}
        """What kept models that the host has take when they are loaded: that room is left for them."""
        self._sent_away: dict[str, bool] = {}
        self._resident: dict[str, float] = {}
        self._stale: set[str] = set()
        self._waiting: OrderedDict[str, OrderedDict[int, Ticket]] = OrderedDict()
        self._running: dict[int, _Running] = {}
        self._busy: dict[str, int] = {}
        """How many of these each model answers."""
        self._plan: _Plan | None = None
        self._demand: dict[str, tuple[float, float]] = {}
        self.loads = 0

    # Events

    def seen(self, resident_gb: Mapping[str, float], stale: frozenset[str] = frozenset()) -> None:
        """What the host itself says is in its memory: others load and unload there too.

        ``stale`` are those that are loaded otherwise than planned, and must be loaded anew to be used.
        """
        self._resident = dict(resident_gb)
        self._stale = set(stale)
        if self._max_seen is not None and len(resident_gb) > self._max_seen:
            self._max_seen = len(resident_gb)

    def enter(self, ticket: Ticket, now_s: float) -> None:
        """A request came."""
        self._waiting.setdefault(ticket.model, OrderedDict())[ticket.number] = ticket
        self._demand[ticket.model] = (self._rate(ticket.model, now_s) + 1.0 / HORIZON_S, now_s)

    def ended(self, number: int) -> None:
        """A request was answered, failed, or its caller left."""
        running = self._running.pop(number, None)
        if running is not None:
            model = running.ticket.model
            self._busy[model] -= 1
            if not self._busy[model]:
                del self._busy[model]
            return
        for model, tickets in self._waiting.items():
            if tickets.pop(number, None) is not None:
                if not tickets:
                    del self._waiting[model]
                break

    def loaded(
        self, model: str, found_gb: Mapping[str, float] | None = None, lasting: Set[str] = frozenset()
    ) -> None:
        """A load that ``next`` asked for is done. ``found_gb`` is what the host says right after it, where it
        was asked; ``lasting`` are models that would be there then if nobody had sent them away."""
        plan = self._plan
        if plan is not None and plan.model == model:
            if found_gb is not None:
                self._learn_most(plan, found_gb, lasting)
            self._resident[model] = plan.memory_gb
            self._stale.discard(model)
            self._plan = None

    def _learn_most(self, plan: _Plan, found_gb: Mapping[str, float], lasting: Set[str]) -> None:
        """Where the host evicted although there was memory, it holds no more models than are there now.

        No host tells that figure. It evicts a single one for it: where more are gone, it was out of memory.
        """
        gone = [name for name in plan.beside_gb if name not in found_gb and name not in self._sent_away]
        needed_gb = found_gb.get(plan.model, plan.memory_gb)
        no_room = missing_gb(needed_gb, sum(plan.beside_gb.values()), self.usable_gb) > 0
        if self._max_models is None and len(gone) == 1 and gone[0] in lasting and not no_room:
            self._max_seen = max(1, len(found_gb))

    def forget_most(self) -> None:
        """What was learned of how many models it holds counts no more: it may have been started anew."""
        self._max_seen = None

    def load_failed(self, model: str) -> tuple[Ticket, ...]:
        """It is not; these waited for it."""
        if self._plan is not None and self._plan.model == model:
            self._plan = None
        return tuple(self._waiting.pop(model, OrderedDict()).values())

    def load_hung(self, model: str) -> tuple[Ticket, ...]:
        """It does not come to an end. These waited for it or for another load: that would hang as well."""
        back = list(self.load_failed(model))
        for other in [other for other in self._waiting if not self._ready(other)]:
            back += self._waiting.pop(other).values()
        return tuple(back)

    def send_away(self, model: str) -> None:
        """Somebody asked for it to leave, not for the room: as soon as it is idle. Who comes for it meanwhile
        waits for it to be loaded again. Nothing happens to one that is not there or is kept."""
        plan = self._plan
        loading = plan is not None and plan.model == model and plan.begun_s is not None
        if model in self._resident and model not in self.kept and not loading:
            self._sent_away.setdefault(model, False)

    def unloaded(self, model: str) -> None:
        """A model has left the memory."""
        self._sent_away.pop(model, None)
        self._resident.pop(model, None)
        self._stale.discard(model)
        if self._plan is not None:
            self._plan.leaving.discard(model)
            self._plan.unloading.discard(model)
            self._plan.left.add(model)

    # What follows

    def next(self, now_s: float) -> list[Action]:
        """What to do now. Everything in it counts as begun."""
        # Before the next load is planned: what was loaded for them must not leave before it has answered.
        actions = [*self._starts(now_s), *self._departures()]
        if self._plan is None:
            self._plan = self._planned(now_s)
        plan = self._plan
        if plan is None:
            return actions
        gives_way = plan.model not in self._waiting or (plan.model not in self.kept and self._kept_wait)
        if gives_way and plan.begun_s is None:  # nobody waits for it any more, or others go first
            plan.leaving &= plan.unloading
            if not plan.leaving:
                self._plan = None
                return [*actions, *self.next(now_s)]
            return [*actions, *self._starts(now_s)]
        if not plan.leaving and plan.begun_s is None:
            # Others load too. Who does not leave when told is not told again: the load would never begin.
            plan.leaving = self._leaving_for(plan.model, plan.memory_gb, now_s, plan.left)
        if plan.leaving:
            for model in sorted(plan.leaving - plan.unloading - self._busy.keys()):
                plan.unloading.add(model)
                if not self._sent_away.get(model, False):
                    actions.append(Unload(model))
        if not plan.leaving and plan.begun_s is None and not any(self._sent_away.values()):
            plan.begun_s = now_s
            plan.beside_gb = {
                name: gb
                for name, gb in self._resident.items()
                if name != plan.model and name not in plan.left
            }
            self.loads += 1
            actions.append(Load(plan.model, plan.memory_gb, plan.load_s))
        return actions

    def _departures(self) -> Iterator[Action]:
        """Those who were sent away and are idle."""
        unloading = self._plan.unloading if self._plan is not None else set()
        for model, told in list(self._sent_away.items()):
            if told or model in self._busy:
                continue
            if model not in self._resident:
                del self._sent_away[model]
            else:
                self._sent_away[model] = True
                if model not in unloading:
                    yield Unload(model)

    def _by_turn(self) -> list[str]:
        """Models that requests wait for, in the order in which they are loaded."""
        if self.kept.isdisjoint(self._waiting):
            return list(self._waiting)
        return sorted(self._waiting, key=lambda model: model not in self.kept)

    @property
    def _kept_wait(self) -> bool:
        return any(model in self.kept and not self._ready(model) for model in self._waiting)

    def _starts(self, now_s: float) -> list[Action]:
        """All whose model is there, and neither leaves nor is being loaded (Ollama lists it by then)."""
        plan = self._plan
        away = set() if plan is None else plan.leaving if plan.begun_s is None else {plan.model}
        actions: list[Action] = []
        for model in [m for m in self._waiting if self._ready(m) and m not in away]:
            for ticket in self._waiting.pop(model).values():
                self._running[ticket.number] = _Running(ticket, now_s)
                self._busy[model] = self._busy.get(model, 0) + 1
                actions.append(Start(ticket))
        return actions

    def _planned(self, now_s: float) -> _Plan | None:
        """The next load: of the model whose first request waits longest, those that are kept first."""
        for model in self._by_turn():
            if self._ready(model):
                continue
            first = next(iter(self._waiting[model].values()))
            leaving = self._leaving_for(model, first.memory_gb, now_s)
            return _Plan(model, first.memory_gb, first.load_s, leaving)
        return None

    def _leaving_for(
        self, model: str, memory_gb: float, now_s: float, told: Set[str] = frozenset()
    ) -> set[str]:
        """Its own copy that is loaded otherwise, and the victims, without those that were told. Where not
        even all of them are enough all leave: into an empty box Ollama loads any model."""
        others = [gb for other, gb in self._resident.items() if other != model]
        candidates = [v for v in self._candidates(now_s) if v.name != model and v.name not in told]
        usable_gb = self.usable_gb - self._owed_gb(model)
        chosen = choose_victims(
            candidates,
            missing_gb(memory_gb, sum(others), usable_gb),
            missing_places(self.max_models, len(others)),
        )
        leaving = {victim.name for victim in (candidates if chosen is None else chosen)}
        return leaving | {model} if model in self._resident and model not in told else leaving

    def _candidates(self, now_s: float) -> Sequence[Victim]:
        return [
            Victim(
                name=model,
                size_gb=size_gb,
                reload_s=self._load_s(model, size_gb) * min(1.0, self._rate(model, now_s) * HORIZON_S),
                busy_s=sum(
                    _left_s(running, now_s)
                    for running in self._running.values()
                    if running.ticket.model == model
                ),
            )
            for model, size_gb in sorted(self._resident.items())
            if model not in self.kept
        ]

    def _load_s(self, model: str, size_gb: float) -> float:
        prior_s = self._load_overhead_s + size_gb / self._load_gb_per_s
        measured = self.speeds.get(model)
        return prior_s if measured is None else measured.load_from(prior_s)

    def _owed_gb(self, model: str) -> float:
        """What the kept ones take besides it that are not there."""
        return sum(gb for name, gb in self.owed_gb.items() if name != model and name not in self._resident)

    def _ready(self, model: str) -> bool:
        return model in self._resident and model not in self._stale and model not in self._sent_away

    # What is told

    def waiting_for(self, model: str) -> tuple[int, ...]:
        """Numbers of the requests that wait for a model."""
        return tuple(self._waiting.get(model, ()))

    @property
    def loads_for_nobody(self) -> str | None:
        """The model that is being loaded, where nobody waits for it any more."""
        plan = self._plan
        if plan is None or plan.begun_s is None or plan.model in self._waiting:
            return None
        return plan.model

    def load(self, now_s: float) -> HostLoad:
        """What goes on, for the policy."""
        answered_s: dict[str, float] = {}
        for running in self._running.values():
            model = running.ticket.model
            answered_s[model] = answered_s.get(model, 0.0) + _left_s(running, now_s)
        models = {model: ModelLoad(self._busy[model], left_s) for model, left_s in answered_s.items()}
        for model, tickets in self._waiting.items():
            known = models.get(model, NOTHING)
            work_s = sum([ticket.work_s for ticket in tickets.values()])
            models[model] = ModelLoad(known.running, known.running_s, len(tickets), work_s)
        plan, leaving = self._plan, self.leaving
        loading, left_s = "", 0.0
        if plan is not None:
            loading = plan.model
            spent_s = now_s - plan.begun_s if plan.begun_s is not None else 0.0
            left_s = max(plan.load_s - spent_s, _LEAST_LEFT * plan.load_s)
            if plan.leaving:
                left_s += max([models.get(model, NOTHING).running_s for model in plan.leaving])
        return HostLoad(
            models=models,
            loading=loading,
            loading_left_s=left_s,
            loads_waiting=tuple(
                [m for m in self._by_turn() if m != loading and (not self._ready(m) or m in leaving)]
            ),
            leaving=leaving,
            demand_per_s=_Fading(self._demand.copy(), now_s),
            kept=self.kept,
            parallel=self.parallel,
            owed_gb=self._owed_gb(""),
            max_models=self.max_models,
        )

    @property
    def max_models(self) -> int | None:
        """How many models the host holds at a time; None where that is not known."""
        return self._max_seen if self._max_models is None else self._max_models

    @property
    def waiting(self) -> int:
        """Requests that have not been started."""
        return sum(map(len, self._waiting.values()))

    @property
    def queued(self) -> int:
        """Requests that wait: those that have not been started, and those that were, but beyond what the host
        answers of their model at once. Of models that are kept only the former."""
        beyond = [n - self.parallel for model, n in self._busy.items() if model not in self.kept]
        return self.waiting + sum([n for n in beyond if n > 0])

    @property
    def resident_gb(self) -> Mapping[str, float]:
        return self._resident

    @property
    def leaving(self) -> frozenset[str]:
        return frozenset((*self._sent_away, *(self._plan.leaving if self._plan is not None else ())))

    def _rate(self, model: str, now_s: float) -> float:
        """Requests per second, as they came lately: each one counts less by the time since it."""
        return _faded(self._demand.get(model, (0.0, now_s)), now_s)


class _Fading(Mapping[str, float]):
    """Requests per second by model, as they are at a moment; worked out for those that are asked about, which
    are few: each decision gets one of these from every host."""

    __slots__ = ("_last", "_now_s")

    def __init__(self, last: Mapping[str, tuple[float, float]], now_s: float) -> None:
        self._last = last
        self._now_s = now_s

    def __getitem__(self, model: str) -> float:
        return _faded(self._last[model], self._now_s)

    def get(self, model: str, default: Any = None) -> Any:
        known = self._last.get(model)
        return default if known is None else _faded(known, self._now_s)

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)


def _faded(last: tuple[float, float], now_s: float) -> float:
    rate, at_s = last
    return rate * math.exp(-max(now_s - at_s, 0.0) / HORIZON_S)


def _left_s(running: _Running, now_s: float) -> float:
    work_s = running.ticket.work_s
    left_s = work_s - (now_s - running.since_s)
    return left_s if left_s > _LEAST_LEFT * work_s else _LEAST_LEFT * work_s
