"""Somebody who knows the future: what could be reached at most, about.

It knows every arrival, the length of every answer and of every thought, and what it will choose for each
later task; it knows the box, and is bound by it like everybody: one load at a time, the 80 % rule, memory,
shared compute and bandwidth, and the gates of ``decide``. With that it

- chooses for each task, at its arrival, the model by which the sum of all waiting grows least: what is in
  front of it, what it holds up, a load, and its own reading and writing,
- lets the shortest task of a model go first,
- brings models before they are needed, and evicts those that are needed last (Belady's rule),
- does all this several times with other weights, and keeps the run with the lowest mean latency among those
  whose summed quality is at least ``QUALITY_FLOOR`` of the fixed map's.

It is a strong heuristic and no proof. The best possible schedule may be better: choices are made task by task
and never taken back, Belady's rule is optimal only for pages of one size, and the weights are searched, not
derived. What it shows is that so much can be reached with foresight, not that nothing lies below it.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from llm_router.simulate.engine import Timer
from llm_router.simulate.play import Case, Outcome, Stage, play
from llm_router.simulate.traces import Task

QUALITY_FLOOR = 0.97
LOOKAHEAD_TASKS = 40
EARLY_S = 60.0
_LOADS = (1.0, 3.0)
_MOST_QUALITY_S = 100_000.0
_STEPS = 8


@dataclass(frozen=True, slots=True)
class Weights:
    """``quality_s`` is how many seconds of waiting a whole point of quality is worth. ``load`` is how much
    more than its own seconds a load counts, because it takes the place of others."""

    quality_s: float
    load: float


def oracle(case: Case) -> Outcome:
    """The best of all that were tried: for each weight of loads, quality is worth as little as keeps its sum
    above the floor, found by halving."""
    least = QUALITY_FLOOR * sum(case.acceptable(task)[0].quality for task in case.tasks)
    found: list[Outcome] = []
    for load in _LOADS:
        found += _cheapest(case, load, least)
    # Where even the best model of every task stays below the floor, as far as it goes counts.
    enough = [outcome for outcome in found if outcome.quality >= least]
    return min(enough, key=lambda o: o.mean_s) if enough else max(found, key=lambda o: o.quality)


def _cheapest(case: Case, load: float, least: float) -> Iterator[Outcome]:
    """Runs closer and closer to the least worth of quality that keeps the floor."""
    server = replace(case.box, max_loaded=0, keep_alive_s=math.inf)

    def tried(quality_s: float) -> Outcome:
        return play(case, Foresight(case, Weights(quality_s, load)), server)

    low_s, high_s = 1.0, _MOST_QUALITY_S
    yield (lowest := tried(0.0))
    if lowest.quality >= least:
        return
    for _ in range(_STEPS):
        middle_s = math.sqrt(low_s * high_s)
        yield (outcome := tried(middle_s))
        low_s, high_s = (low_s, middle_s) if outcome.quality >= least else (middle_s, high_s)


@dataclass(frozen=True, slots=True)
class _Option:
    """One model for one task, and how long it would take by itself."""

    model: str
    quality: float
    service_s: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    service_s: float
    number: int
    task: Task
    option: _Option


_ORDER = attrgetter("service_s", "number")


class Foresight:
    """One run with one set of weights."""

    def __init__(self, case: Case, weights: Weights) -> None:
        self._case = case
        self._weights = weights
        self._bringing: str | None = None
        self._there_at_s = 0.0
        self._draining: set[str] = set()
        self._waiting: dict[str, list[_Waiting]] = {}
        self._ends: dict[str, list[float]] = {}
        self._arrived = 0
        self._in_hand = 0
        self._alarm: Timer | None = None

    def start(self, stage: Stage) -> None:
        self._stage = stage
        self._box = stage.box
        self._options = [self._options_of(task) for task in self._case.tasks]
        self._favourites = [min(options, key=self._alone_cost) for options in self._options]
        self._uses: dict[str, list[float]] = {}
        for task, favourite in zip(self._case.tasks, self._favourites, strict=True):
            self._uses.setdefault(favourite.model, []).append(task.at_s)
        self._act()

    def arrived(self, task: Task) -> None:
        number = self._arrived
        self._arrived += 1
        option = min(self._options[number], key=self._cost)
        self._in_hand += 1
        insort(
            self._waiting.setdefault(option.model, []),
            _Waiting(option.service_s, number, task, option),
            key=_ORDER,
        )
        self._act()

    def answered(self, task: Task, model: str) -> None:
        self._in_hand -= 1
        self._ends[model].pop(0)
        self._act()

    # ── choosing ─────────────────────────────────────────────────────────────────────────────────────

    def _options_of(self, task: Task) -> Sequence[_Option]:
        return [
            _Option(choice.model, choice.quality, self._service_s(task, choice.model))
            for choice in self._case.acceptable(task)
        ]

    def _service_s(self, task: Task, model: str) -> float:
        speed = self._box.speed(model)
        written = task.output_tokens + self._stage.thinking_tokens(task, model)
        return task.prompt_tokens / speed.prefill_tokens_per_s + written / speed.decode_tokens_per_s

    def _alone_cost(self, option: _Option) -> float:
        return option.service_s - self._weights.quality_s * option.quality

    def _cost(self, option: _Option) -> float:
        """By how much all waiting grows, in seconds, less what the quality is worth.

        All models share the box, so what a task takes is waited for by everybody that is there, but for the
        shorter ones of the same model, which go first.
        """
        now_s, model = self._stage.now_s, option.model
        waiting = self._waiting.get(model, [])
        shorter_s = sum(other.service_s for other in waiting if other.service_s <= option.service_s)
        longer = sum(other.service_s > option.service_s for other in waiting)
        ends = self._ends.get(model, [])
        free_in_s = max(ends[0] - now_s, 0.0) if len(ends) >= self._box.settings.num_parallel else 0.0
        others = self._in_hand - len(waiting) - len(ends)
        return (
            self._load_s(model, bool(waiting))
            + free_in_s
            + shorter_s / self._box.settings.num_parallel
            + option.service_s * (1 + longer + others)
            - self._weights.quality_s * option.quality
        )

    def _load_s(self, model: str, wanted: bool) -> float:
        if self._box.has(model) and model not in self._draining:
            return 0.0
        under_way_s = max(self._there_at_s - self._stage.now_s, 0.0) if self._bringing else 0.0
        if model == self._bringing:
            return under_way_s
        load_s = self._box.speed(model).load_s
        return under_way_s + load_s if wanted else under_way_s + self._weights.load * load_s

    # ── acting ───────────────────────────────────────────────────────────────────────────────────────

    def _act(self) -> None:
        self._start_answers()
        if self._bringing is None:
            self._bringing = self._wanted_now() or self._wanted_soon()
            if self._bringing is not None:
                self._there_at_s = self._stage.now_s + self._box.speed(self._bringing).load_s
        if self._bringing is not None and self._box.loading is None:
            self._bring(self._bringing)

    def _start_answers(self) -> None:
        for model in self._box.resident:
            waiting = self._waiting.get(model)
            slots = self._box.settings.num_parallel
            while waiting and model not in self._draining and self._box.in_use(model) < slots:
                first = waiting.pop(0)
                insort(self._ends.setdefault(model, []), self._stage.now_s + first.service_s)
                self._stage.send(first.task, model, first.option.quality, self)

    def _wanted_now(self) -> str | None:
        """Of the models that tasks wait for and that are not there, the one that serves most per second."""
        missing = [m for m, waiting in self._waiting.items() if waiting and not self._box.has(m)]

        def least_s_per_task(model: str) -> float:
            waiting = self._waiting[model]
            return (self._box.speed(model).load_s + waiting[0].service_s) / len(waiting)

        return min(missing, key=least_s_per_task, default=None)

    def _wanted_soon(self) -> str | None:
        """A model for one of the next tasks, if only idle models that are needed later must leave for it.

        Not long before its time: the later it is decided who leaves, the fewer leave too early.
        """
        tasks, now_s = self._case.tasks, self._stage.now_s
        for number in range(self._arrived, min(self._arrived + LOOKAHEAD_TASKS, len(tasks))):
            model, at_s = self._favourites[number].model, tasks[number].at_s
            if self._box.has(model):
                continue
            begin_s = at_s - EARLY_S - 2 * self._box.speed(model).load_s
            if begin_s > now_s and not self._box.fits_beside(model, self._box.used_gb):
                self._look_again_at(begin_s)
                return None
            if self._room_without(at_s, model):
                return model
        return None

    def _look_again_at(self, when_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._stage.engine.at(when_s, self._act)

    def _room_without(self, at_s: float, model: str) -> bool:
        used_gb = self._box.used_gb
        for victim in self._victims():
            if self._box.fits_beside(model, used_gb):
                return True
            if self._box.in_use(victim) or self._next_use_s(victim) <= at_s:
                return False
            used_gb -= self._box.memory_of(victim)
        return self._box.fits_beside(model, max(used_gb, 0.0))

    def _bring(self, model: str) -> None:
        """Makes room, as soon as those that must leave are idle, and loads."""
        while not self._box.fits_beside(model, self._box.used_gb):
            idle = [v for v in self._leaving(model) if not self._box.in_use(v)]
            if not idle:
                return
            self._box.unload(idle[0])
        self._draining.clear()
        self._there_at_s = self._stage.now_s + self._box.speed(model).load_s
        self._box.preload(model, math.inf, self._brought)

    def _leaving(self, model: str) -> Sequence[str]:
        """As many of those that are needed last as make room; they start no further answer."""
        used_gb, leaving = self._box.used_gb, []
        for victim in self._victims():
            if self._box.fits_beside(model, used_gb):
                break
            leaving.append(victim)
            used_gb = max(used_gb - self._box.memory_of(victim), 0.0)
        self._draining = set(leaving)
        return leaving

    def _brought(self) -> None:
        self._bringing = None
        self._act()

    def _victims(self) -> Sequence[str]:
        """Loaded models, the one that is needed last first."""
        return sorted(self._box.resident, key=lambda m: (bool(self._box.in_use(m)), -self._next_use_s(m), m))

    def _next_use_s(self, model: str) -> float:
        if self._waiting.get(model) or self._box.in_use(model):
            return self._stage.now_s
        uses = self._uses.get(model, [])
        later = bisect_right(uses, self._stage.now_s)
        return uses[later] if later < len(uses) else math.inf
