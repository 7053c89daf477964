"""A whole day: nobody is forgotten, nobody is answered twice, memory holds, one load at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulate.conftest import SIZES_GB, fleet, model

from llm_router.fleet import load_fleet
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Choice
from llm_router.policy import PolicySettings
from llm_router.simulate.mix import MIXED_DAY
from llm_router.simulate.ollama_box import BoxSettings
from llm_router.simulate.oracle import QUALITY_FLOOR, Foresight, Weights
from llm_router.simulate.ours import Ours
from llm_router.simulate.play import Case, Outcome, Stage, Strategy, play
from llm_router.simulate.strategies import POLICIES, AlwaysBest, FixedMap
from llm_router.simulate.traces import Task, synthetic

BOX = BoxSettings(memory_gb=100.0)


def choices(**quality: float) -> tuple[Choice, ...]:
    return tuple(Choice(model=name, quality=value) for name, value in quality.items())


MANY = fleet(
    {name: model(size_gb) for name, size_gb in SIZES_GB.items()},
    light=choices(a=0.7, b=0.8, d=0.9),
    medium=choices(b=0.7, c=0.8, e=0.95),
    hard=choices(f=0.9, e=0.85, c=0.6),
    hardest=choices(huge=0.9, f=0.8),
)


def day(seed: int, tasks: int, gap_s: float) -> tuple[Task, ...]:
    random = Random(seed)
    at_s, found = 0.0, []
    for _ in range(tasks):
        at_s += random.expovariate(1 / gap_s)
        found.append(
            Task(
                at_s=at_s,
                category=random.choice(list(MANY.categories)),
                prompt_tokens=random.randint(1, 2000),
                output_tokens=random.choice([0, 1, 30, 400]),
                conversation=random.choice(["", "x", "y"]),
                difficulty=random.random(),
            )
        )
    return tuple(found)


class Watched:
    """Looks at the box at every step of another strategy."""

    def __init__(self, inner: Strategy) -> None:
        self._inner = inner
        self.most_gb = 0.0
        self.answered_s: list[tuple[Task, float]] = []

    def start(self, stage: Stage) -> None:
        self.stage = stage
        self._inner.start(stage)

    def arrived(self, task: Task) -> None:
        self._inner.arrived(task)
        self.look()

    def answered(self, task: Task, model: str) -> None:
        self.answered_s.append((task, self.stage.now_s))
        self._inner.answered(task, model)
        self.look()

    def look(self) -> None:
        box = self.stage.box
        names = [*box.resident, *([box.loading] if box.loading else [])]
        assert len(names) == len(set(names)), "a model is loaded twice"
        if len(names) > 1:
            self.most_gb = max(self.most_gb, box.used_gb)


STRATEGIES: dict[str, Callable[[Case], Strategy]] = {
    "fixed map": lambda case: FixedMap(),
    "always best": lambda case: AlwaysBest(),
    "ours": lambda case: Ours(),
    "foresight": lambda case: Foresight(case, Weights(quality_s=50.0, load=1.0)),
    "foresight for quality": lambda case: Foresight(case, Weights(quality_s=1e5, load=3.0)),
}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    gap_s=st.sampled_from([1.0, 20.0, 300.0]),
    name=st.sampled_from(sorted(STRATEGIES)),
    max_loaded=st.sampled_from([0, 1, 3]),
    num_parallel=st.integers(1, 3),
    keep_alive_s=st.sampled_from([0.0, 60.0, math.inf]),
)
def test_what_holds_of_every_day(
    seed: int, gap_s: float, name: str, max_loaded: int, num_parallel: int, keep_alive_s: float
) -> None:
    box = BoxSettings(100.0, max_loaded, num_parallel, keep_alive_s)
    own_memory = name == "ours" or name.startswith("foresight")
    if own_memory:
        box = replace(box, max_loaded=0, keep_alive_s=math.inf)  # it looks after both itself
    case = Case(MANY, day(seed, 40, gap_s), box)
    watched = Watched(STRATEGIES[name](case))
    stages: list[Stage] = []
    outcome = _played(case, watched, stages)

    # Every task is answered exactly once, by a model that may take it, and never before it came.
    assert sorted(map(id, (answer.task for answer in outcome.answers))) == sorted(map(id, case.tasks))
    for answer in outcome.answers:
        assert name == "always best" or answer.model in [c.model for c in case.acceptable(answer.task)]
        assert 0 < answer.first_s <= answer.total_s
        alone_s = (answer.task.output_tokens) / 10
        assert answer.total_s >= alone_s - 1e-6

    # No two loads at once, and what is loaded fits, but for one model alone.
    loading, resident = None, 0
    for event in stages[0].box.events:
        if event.what == "load":
            assert loading is None
            loading = event.model
        elif event.what == "loaded":
            assert loading == event.model
            loading, resident = None, resident + 1
            assert max_loaded == 0 or own_memory or resident <= max_loaded
        else:
            assert name != "ours" or event.what == "unload", "Ollama had to make room by itself"
            resident -= 1
    assert watched.most_gb <= box.memory_gb
    assert outcome.loads == sum(event.what == "load" for event in stages[0].box.events)


def _played(case: Case, strategy: Watched, stages: list[Stage]) -> Outcome:
    outcome = play(case, strategy)
    stages.append(strategy.stage)
    return outcome


@pytest.fixture(scope="module")
def shipped() -> Fleet:
    return load_fleet()


@pytest.fixture(scope="module")
def mixed(shipped: Fleet) -> Case:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.02, seed=5, requests=150)
    return Case(shipped, tasks, BoxSettings(shipped.machine.usable_memory_gb)).answerable()


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_answers_the_mixed_day_and_twice_the_same(mixed: Case, name: str) -> None:
    first, again = POLICIES[name](mixed), POLICIES[name](mixed)
    assert len(first.answers) == 150
    assert first == again


def test_the_mixed_day_can_be_answered_whole(shipped: Fleet) -> None:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.01, seed=3, requests=3000)
    case = Case(shipped, tasks, BoxSettings(shipped.machine.usable_memory_gb))
    assert case.answerable().tasks == tasks


def test_the_map_takes_the_fleets_order_and_the_gates_hold(mixed: Case, shipped: Fleet) -> None:
    models = {(answer.task.category, answer.model) for answer in POLICIES["fixed_map"](mixed).answers}
    chosen = dict(models)
    assert chosen["structured_data"] == "qwen2.5:14b"
    assert chosen["simple_chat"] == "mistral:7b"
    assert "deepseek-v3" not in chosen.values()  # larger than the memory
    assert "llama3.2-vision:90b" not in chosen.values()  # this Ollama cannot load it


def test_always_best_is_the_baseline_wherever_it_may_be(mixed: Case, shipped: Fleet) -> None:
    baseline = shipped.baseline
    for answer in POLICIES["always_best"](mixed).answers:
        needs = shipped.category(answer.task.category).requires.capability
        if needs in (None, "tools") and answer.task.prompt_tokens < 14_000:
            assert answer.model == baseline
        if needs in ("vision", "embedding"):
            assert answer.model != baseline
        if answer.task.category == "simple_chat":  # does not list it
            assert answer.quality == max(c.quality for c in shipped.category("simple_chat").models)


def test_the_oracle_keeps_the_floor_and_beats_everybody(mixed: Case) -> None:
    outcomes = {name: policy(mixed) for name, policy in POLICIES.items()}
    oracle = outcomes.pop("oracle")
    assert oracle.quality >= QUALITY_FLOOR * outcomes["fixed_map"].quality
    assert all(oracle.mean_s < other.mean_s for other in outcomes.values())


def test_the_oracle_brings_a_model_before_it_is_needed() -> None:
    two = fleet({name: model(SIZES_GB[name]) for name in "af"}, light=choices(a=0.8), hard=choices(f=0.8))
    tasks = (
        Task(at_s=100.0, category="light", prompt_tokens=100, output_tokens=10),
        Task(at_s=200.0, category="hard", prompt_tokens=100, output_tokens=10),
    )
    outcome = POLICIES["oracle"](Case(two, tasks, BOX))
    assert [round(answer.total_s, 6) for answer in outcome.answers] == [2.0, 2.0]


def test_the_oracle_evicts_what_is_needed_last() -> None:
    sizes = {"a": 45.0, "b": 45.0, "c": 45.0}
    three = fleet(
        {name: model(size_gb) for name, size_gb in sizes.items()}, **{n: choices(**{n: 0.8}) for n in sizes}
    )
    order = ["a", "b", "c", "a", "b"]
    tasks = tuple(
        Task(at_s=1000.0 * (i + 1), category=name, prompt_tokens=100, output_tokens=10)
        for i, name in enumerate(order)
    )
    case = Case(three, tasks, BoxSettings(memory_gb=130.0))
    outcome = POLICIES["oracle"](case)
    # Room for two. At c, b is needed after a, so b leaves: four loads, where least recently used takes five.
    assert outcome.loads == 4
    assert [round(answer.total_s, 6) for answer in outcome.answers] == [2.0] * 5


def test_memory_is_counted_to_the_last_answer_and_no_further() -> None:
    tasks = (Task(at_s=5.0, category="light", prompt_tokens=100, output_tokens=10),)
    outcome = POLICIES["fixed_map"](Case(MANY, tasks, BOX))
    assert outcome.gb_s == pytest.approx(10.0 * 12)
    assert outcome.mean_s == pytest.approx(12.0)
    assert outcome.quality == 0.7


@pytest.mark.parametrize("rate_per_s", [0.005, 0.05])
def test_this_router_loads_little_and_leaves_ollama_nothing_to_evict(
    shipped: Fleet, rate_per_s: float
) -> None:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=rate_per_s, seed=11, requests=600)
    case = Case(shipped, tasks, BoxSettings(shipped.machine.usable_memory_gb)).answerable()
    watched = Watched(Ours())
    own = play(case, watched, replace(case.box, max_loaded=0, keep_alive_s=math.inf))
    by_map = POLICIES["fixed_map"](case)
    assert own.mean_s <= 0.6 * by_map.mean_s
    assert own.loads <= 0.35 * by_map.loads
    assert own.quality >= QUALITY_FLOOR * by_map.quality
    assert not any(event.what in ("evict", "expire") for event in watched.stage.box.events)


def test_a_busy_box_does_not_stand_still_for_the_fleets_large_choices(shipped: Fleet) -> None:
    """Small models can keep up with this day; loads of a 70B, each behind a victim with a queue, cannot."""
    often = dict.fromkeys(("simple_chat", "efficient_general", "efficient_reasoning"), 3)
    mix = {name: replace(kind, share=kind.share * often.get(name, 1)) for name, kind in MIXED_DAY.items()}
    tasks = synthetic(shipped, mix, rate_per_s=0.1, seed=2, requests=600)
    by = {
        prefer: POLICIES["ours"](
            Case(shipped, tasks, BoxSettings(112.0), PolicySettings(prefer=prefer)).answerable()
        )
        for prefer in ("owner", "score")
    }
    assert by["owner"].mean_s < 2 * by["score"].mean_s


def test_with_prefer_map_the_desk_loads_in_turn_and_answers_as_the_map_says(shipped: Fleet) -> None:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.02, seed=12, requests=300)
    case = Case(
        shipped, tasks, BoxSettings(shipped.machine.usable_memory_gb), PolicySettings(prefer="map")
    ).answerable()
    watched = Watched(Ours())
    own = play(case, watched, replace(case.box, max_loaded=0, keep_alive_s=math.inf))
    may = {tag for tag in shipped.models if tag not in ("deepseek-v3", "llama3.2-vision:90b")}
    for answer in own.answers:  # where the fleet's choice cannot run at all, the score orders the others
        choice = shipped.choice_for(answer.task.category)
        assert answer.model == choice or choice not in may
    unloaded = [event.what for event in watched.stage.box.events if event.what != "load"]
    assert set(unloaded) == {"loaded", "unload"}
