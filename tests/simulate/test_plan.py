"""The plan: what stays fits, every task keeps a model, what is saved is what the simulator says."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import pytest
from tests.simulate.conftest import fleet, model

from llm_router.errors import InvalidRequest
from llm_router.fleet import load_fleet
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, Choice, Model, Requirements
from llm_router.policy import PolicySettings
from llm_router.simulate.mix import MIXED_DAY
from llm_router.simulate.ollama_box import BoxSettings
from llm_router.simulate.plan import QUALITY_SHARE, Plan, beside, only, plan
from llm_router.simulate.play import Case
from llm_router.simulate.report import run_of
from llm_router.simulate.strategies import fixed_map
from llm_router.simulate.traces import Task, synthetic

SHIPPED = load_fleet()
FREE_SHARE = 0.8


def tasks(*categories: str, every_s: float = 60.0) -> tuple[Task, ...]:
    return tuple(
        Task(at_s=number * every_s, category=category, prompt_tokens=100, output_tokens=10)
        for number, category in enumerate(categories)
    )


def round_case(
    models: dict[str, float], listed: Mapping[str, tuple[tuple[str, float], ...]], *asked: str
) -> Case:
    made: dict[str, Model] = {name: model(size_gb) for name, size_gb in models.items()}
    choices = {
        name: tuple(Choice(model=tag, quality=quality) for tag, quality in them)
        for name, them in listed.items()
    }
    return Case(fleet(made, **choices), tasks(*asked), BoxSettings(100.0), PolicySettings())


def mixed(memory_gb: float, rate_per_s: float = 0.01, seed: int = 1) -> Case:
    drawn = synthetic(SHIPPED, MIXED_DAY, rate_per_s=rate_per_s, seed=seed, hours=12)
    return Case(SHIPPED, drawn, BoxSettings(memory_gb)).answerable()


def test_what_is_asked_again_and_again_stays() -> None:
    case = round_case(
        {"a": 20.0, "b": 30.0}, {"light": (("a", 0.8),), "heavy": (("b", 0.8),)}, *["light", "heavy"] * 20
    )
    found = plan(case, 1 / 60)
    assert [(m.model, m.tasks) for m in found.stays] == [("a", 20), ("b", 20)]
    assert (found.on_demand, found.not_needed, found.never_together) == ((), (), ())
    assert found.saves.plan.loads == 2


def test_no_more_stay_than_the_host_holds() -> None:
    case = round_case(
        {"a": 10.0, "b": 10.0, "c": 10.0},
        {"one": (("a", 0.8),), "two": (("b", 0.8),), "three": (("c", 0.8),)},
        *["one", "one", "two", "three"] * 10,
    )
    assert len(plan(case, 1 / 60).stays) == 3
    assert len(plan(case, 1 / 60, max_loaded=3).stays) == 3
    found = plan(case, 1 / 60, max_loaded=2)
    assert [m.model for m in found.stays] == ["a"]
    assert {m.model for m in found.on_demand} == {"b", "c"}
    assert found.saves.plan.loads == 21
    assert found.never_together == ()
    pinned = plan(case, 1 / 60, ["a", "b"], max_loaded=2)
    assert [m.model for m in pinned.stays] == ["a", "b"]
    (other,) = pinned.on_demand
    assert "what stays takes every place (residency.max_loaded: 2)" in other.why


def test_two_that_do_not_fit_are_named_with_their_numbers() -> None:
    case = round_case(
        {"d": 40.0, "f": 70.0}, {"one": (("d", 0.8),), "other": (("f", 0.8),)}, *["one"] * 10, *["other"] * 10
    )
    found = plan(case, 1 / 60)
    assert found.stays == ()
    assert {m.model for m in found.on_demand} == {"d", "f"}
    (pair,) = found.never_together
    assert set(pair.models) == {"d", "f"}
    assert (pair.needs_gb, pair.room_gb) == (110.0, 100.0)
    assert "need 110 GB together" in pair.why and "100 GB of 100 GB" in pair.why


def test_a_fifth_left_over_is_told_where_that_is_why() -> None:
    case = round_case(
        {"d": 45.0, "f": 50.0}, {"one": (("d", 0.8),), "other": (("f", 0.8),)}, *["one"] * 10, *["other"] * 10
    )
    (pair,) = plan(case, 1 / 60).never_together
    assert "a fifth of the free memory" in pair.why


def test_what_stays_leaves_room_for_a_task_that_only_a_large_one_may_take() -> None:
    case = round_case(
        {"a": 30.0, "b": 30.0, "large": 60.0},
        {"one": (("a", 0.8),), "two": (("b", 0.8),), "rare": (("large", 0.8),)},
        *["one", "two"] * 20,
        "rare",
        *["one", "two"] * 20,
    )
    found = plan(case, 1 / 60)
    stays_gb = sum(m.memory_gb for m in found.stays)
    assert FREE_SHARE * (100 - stays_gb) >= 60.0
    assert [(m.model, m.tasks, m.loads) for m in found.on_demand if m.model == "large"] == [("large", 1, 1)]


def test_a_model_of_the_map_that_is_never_loaded_says_who_answers_and_how_well() -> None:
    case = round_case(
        {"small": 10.0, "large": 80.0},
        {"light": (("small", 0.8),), "heavy": (("large", 0.82), ("small", 0.80))},
        *["light"] * 10,
        *["heavy", "light"] * 10,
    )
    found = plan(case, 1 / 60)
    (missing,) = found.not_needed
    assert (missing.model, missing.map_tasks) == ("large", 10)
    assert "small 10 answer them, by 0.02 of quality less well" in missing.why
    assert "80 s per load, 80 GB" in missing.why


@pytest.mark.parametrize(("memory_gb", "rate"), [(31, 0.01), (64, 0.02), (112, 0.01), (112, 0.03)])
def test_a_plan_holds_together(memory_gb: float, rate: float) -> None:
    case = mixed(memory_gb, rate)
    found = plan(case, rate)
    stays = [m.model for m in found.stays]
    on_demand = [m.model for m in found.on_demand]
    assert set(SHIPPED.reserved) <= set(stays)
    assert len({*stays, *on_demand, *(m.model for m in found.not_needed)}) == len(stays) + len(
        on_demand
    ) + len(found.not_needed)
    assert sum(m.memory_gb for m in found.stays) <= memory_gb
    answered = sum(m.tasks for m in found.stays) + sum(m.tasks for m in found.on_demand)
    assert answered == len(case.tasks)
    assert all(set(pair.models) <= set(on_demand) for pair in found.never_together)
    assert len(set(map(frozenset, (p.models for p in found.never_together)))) == len(found.never_together)
    assert found.saves.plan.quality >= QUALITY_SHARE * found.saves.fixed_map.quality
    assert all(0 <= m.resident_share <= 1 and m.loads >= 1 for m in found.on_demand)


def test_pairs_are_all_of_those_that_exceed_the_memory() -> None:
    found = plan(mixed(31), 0.01)
    apart = {frozenset(pair.models) for pair in found.never_together}
    room_gb = 31 - sum(m.memory_gb for m in found.stays)
    for one, other in combinations(found.on_demand, 2):
        if one.memory_gb + other.memory_gb > room_gb + 0.2:
            assert frozenset((one.model, other.model)) in apart


def test_what_it_saves_is_what_the_simulator_says() -> None:
    case = mixed(112)
    found = plan(case, 0.01).saves
    assert found.fixed_map == run_of("fixed_map", 0.01, fixed_map(case))
    assert found.saved_loads == found.fixed_map.loads - found.plan.loads > 0
    assert found.saved_waiting_s == pytest.approx(found.map_waiting_s - found.plan_waiting_s, abs=0.2)
    assert found.plan.mean_s < 0.6 * found.fixed_map.mean_s
    assert f"{found.fixed_map.loads:,} loads by the fixed map" in found.why


def test_the_same_day_gives_the_same_plan() -> None:
    assert plan(mixed(64), 0.01) == plan(mixed(64), 0.01)


def test_every_line_has_a_sentence_with_a_number() -> None:
    found: Plan = plan(mixed(64, 0.02), 0.02)
    lines = [m.why for m in found.stays] + [m.why for m in found.on_demand]
    lines += [m.why for m in found.not_needed] + [pair.why for pair in found.never_together]
    assert len(lines) > 5
    for line in (*lines, found.saves.why):
        assert any(letter.isdigit() for letter in line), line


def test_only_the_models_that_are_there() -> None:
    there = only(SHIPPED, ["mistral:7b", "nomic-embed-text:latest", "stranger"])
    assert set(there.models) == {"mistral:7b", "nomic-embed-text"}
    assert there.router is None and there.reserved == ("nomic-embed-text",)
    for category in there.categories.values():
        assert {choice.model for choice in category.models} <= set(there.models)
    assert there.default_category in there.categories
    assert only(SHIPPED, ["stranger"]) is SHIPPED


def test_a_default_category_without_a_model_gives_way() -> None:
    made = Fleet(
        name="two",
        models={"a": model(10.0), "e": model(1.0, capabilities=("embedding",))},
        categories={
            "talk": Category(description="talk", models=(Choice(model="a", quality=0.8),)),
            "vectors": Category(
                description="v",
                models=(Choice(model="e", quality=0.8),),
                requires=Requirements(capability="embedding"),
            ),
        },
        default_category="talk",
        machine=SHIPPED.machine,
    )
    assert only(made, ["e"]).default_category == "vectors"


def pinned_case() -> Case:
    return round_case(
        {"a": 10.0, "large": 60.0, "pin": 50.0},
        {"light": (("a", 0.8),), "heavy": (("large", 0.8), ("pin", 0.7))},
        *["light", "heavy"] * 10,
    )


def test_what_is_pinned_stays_and_what_does_not_fit_beside_it_is_not_on_call() -> None:
    without = plan(pinned_case(), 1 / 60)
    assert "large" in {*(m.model for m in without.stays), *(m.model for m in without.on_demand)}
    assert not any(m.pinned for m in without.stays)
    found = plan(pinned_case(), 1 / 60, ["pin", "pin"])
    assert [(m.model, m.tasks, m.pinned) for m in found.stays] == [("pin", 10, True), ("a", 10, False)]
    assert "pinned (residency.pins): 50 GB, answers 10 tasks (50 %)" in found.stays[0].why
    assert found.on_demand == ()
    (missing,) = found.not_needed
    assert missing.model == "large"
    assert missing.why.startswith("does not fit beside what is pinned; the map would send it 10 tasks")


def test_the_room_of_a_pin_that_nobody_asks_for_is_left_free() -> None:
    case = round_case(
        {"b": 30.0, "c": 30.0, "pin": 50.0},
        {"one": (("b", 0.8),), "other": (("c", 0.8),), "rare": (("pin", 0.8),)},
        *["one", "other"] * 10,
    )
    assert plan(case, 1 / 60).saves.plan.loads == 2
    found = plan(case, 1 / 60, ["pin"])
    assert [(m.model, m.tasks) for m in found.stays] == [("pin", 0)]
    assert "answers none of these tasks" in found.stays[0].why
    assert {m.model for m in found.on_demand} == {"b", "c"}
    assert [set(pair.models) for pair in found.never_together] == [{"b", "c"}]
    assert found.saves.plan.loads == 20


def test_tasks_that_no_model_beside_the_pins_may_take_are_left_out() -> None:
    case = round_case(
        {"a": 10.0, "large": 60.0, "pin": 50.0},
        {"light": (("a", 0.8),), "heavy": (("large", 0.8),), "rare": (("pin", 0.8),)},
        *["light", "heavy", "heavy"],
    )
    assert beside(case, []) is case
    assert [task.category for task in beside(case, ["pin"]).tasks] == ["light"]


def test_pins_that_do_not_fit_are_told_with_their_figures() -> None:
    case = pinned_case()
    for refused in (lambda: beside(case, ["pin", "large"]), lambda: plan(case, 1 / 60, ["pin", "large"])):
        with pytest.raises(InvalidRequest, match=r"do not fit 100 GB") as caught:
            refused()
        assert "110.0 GB (pin 50.0 + large 60.0)" in str(caught.value.why) and caught.value.hint
