"""Counterfactuals: what kept a model out, and that the promised change really flips the decision."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.support.worlds import classified, host, host_down, whole_fleet, world

from llm_router.errors import UnknownModel
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.load import HostLoad, ModelLoad
from llm_router.hosts.snapshot import ResidentModel
from llm_router.names import canonical
from llm_router.policy import PolicySettings, World, decide
from llm_router.policy.waits import Moment
from llm_router.policy.why_not import WhyNot, why_not
from llm_router.request import RouteRequest

REQUEST = RouteRequest.from_text("Write a haiku about rain")


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def told(model: str, category: str, here: World, request: RouteRequest = REQUEST) -> WhyNot:
    return why_not(model, request, decide(request, classified(category), here), here)


def test_the_model_that_answers_needs_no_reason(fleet: Fleet) -> None:
    answer = told("mistral:7b", "simple_chat", world(fleet, whole_fleet(fleet)))
    assert answer.answers_already and not answer.kept_out and not answer.flips


def test_a_missing_model_is_flipped_by_installing_it(fleet: Fleet) -> None:
    answer = told("mistral:7b", "simple_chat", world(fleet, host("gemma2:9b")))
    assert any("not installed" in sentence for sentence in answer.kept_out)
    assert any("ollama pull mistral:7b" in step for step in answer.flips)
    assert answer.outcome == "then mistral:7b would answer"


def test_what_a_silent_host_has_is_not_claimed_to_be_known(fleet: Fleet) -> None:
    answer = told("gemma2:9b", "simple_chat", world(fleet, host_down()))
    assert [sentence.split(":")[0] for sentence in answer.kept_out] == ["host_unreachable"]
    assert any("ollama pull gemma2:9b" in step for step in answer.flips)


def test_a_model_too_large_is_flipped_only_by_memory_and_says_how_much(fleet: Fleet) -> None:
    answer = told("deepseek-v3", "max_reasoning_moe", world(fleet, whole_fleet(fleet)))
    assert any(sentence.startswith("memory:") for sentence in answer.kept_out)
    assert any("GB of usable memory" in step for step in answer.flips)
    assert "would answer" in answer.outcome


def test_every_obstacle_is_told_and_mended_in_turn(fleet: Fleet) -> None:
    answer = told("deepseek-v3", "max_reasoning_moe", world(fleet, host_down()))
    assert len(answer.kept_out) >= 2
    assert len(answer.flips) >= 3


def test_a_model_outside_the_category_is_told_where_it_is_listed(fleet: Fleet) -> None:
    answer = told("llava:13b", "structured_data", world(fleet, whole_fleet(fleet)))
    assert "does not list it for structured_data" in answer.kept_out[0]
    assert "fast_vision" in answer.kept_out[0]
    assert answer.flips


def test_a_lower_score_is_told_with_both_numbers(fleet: Fleet) -> None:
    second = fleet.categories["simple_chat"].models[1].model
    answer = told(second, "simple_chat", world(fleet, whole_fleet(fleet)))
    assert any("score" in sentence and "against" in sentence for sentence in answer.kept_out)
    assert answer.flips and answer.outcome.startswith("then ")


def test_an_owner_preference_is_named_as_the_reason_where_the_score_is_higher(fleet: Fleet) -> None:
    settings = PolicySettings(time_weight=5.0)
    here = world(fleet, whole_fleet(fleet), settings=settings)
    decision = decide(REQUEST, classified("max_reasoning"), here)
    better = max(decision.chain, key=lambda c: c.score)
    assert better.model != decision.answer_model
    answer = why_not(better.model, REQUEST, decision, here)
    assert any("policy.prefer: owner" in sentence for sentence in answer.kept_out)
    assert any("policy.prefer is score" in step for step in answer.flips)


def _busy(fleet: Fleet) -> tuple[World, Moment]:
    """Two models for simple chat are in memory, and the better one has a long queue."""
    resident = [
        ResidentModel(
            tag,
            round(fleet.models[tag].memory_gb * 1e9),
            context_length=fleet.models[tag].planned_num_ctx,
        )
        for tag in ("mistral:7b", "gemma2:9b")
    ]
    here = world(fleet, whole_fleet(fleet, resident=resident))
    load = HostLoad(models={canonical("gemma2:9b"): ModelLoad(1, 3.0, 9, 30.0)})
    return here, Moment({here.hosts[0].name: load})


def test_a_queue_is_what_keeps_it_out_and_what_would_flip_it(fleet: Fleet) -> None:
    here, busy = _busy(fleet)
    still = decide(REQUEST, classified("simple_chat"), here)
    decision = decide(REQUEST, classified("simple_chat"), here, busy)
    assert (still.answer_model, decision.answer_model) == ("gemma2:9b", "mistral:7b")
    answer = why_not("gemma2:9b", REQUEST, decision, here, busy)
    assert answer.kept_out[-1].endswith("and 10 under way or waiting at spark-1")
    assert answer.flips == ("nobody else is being answered or waits at the hosts",)
    assert answer.outcome == "then gemma2:9b would answer"


@pytest.mark.parametrize("needed", [{"owed_gb": 50.0}, {"max_models": 2}])
def test_where_nobody_waits_the_room_that_is_missing_is_not_taken_for_a_queue(
    fleet: Fleet, needed: dict[str, float]
) -> None:
    """Two models that are asked for often are in memory, and the choice would have to evict one of them."""
    tags = ("qwen2.5:72b", "gemma2:9b")
    resident = [ResidentModel(tag, round(fleet.models[tag].memory_gb * 1e9)) for tag in tags]
    here = world(fleet, whole_fleet(fleet, resident=resident), settings=PolicySettings(prefer="score"))
    load = HostLoad(demand_per_s=dict.fromkeys(map(canonical, tags), 0.05), **needed)  # type: ignore[arg-type]
    moment = Moment({here.hosts[0].name: load})
    for category in fleet.categories:
        decision = decide(REQUEST, classified(category), here, moment)
        for candidate in decision.chain[1:]:
            answer = why_not(candidate.model, REQUEST, decision, here, moment)
            assert "nobody else is being answered or waits at the hosts" not in answer.flips


def test_under_load_a_flip_is_tried_in_that_load(fleet: Fleet) -> None:
    """By quality: what is promised must come out with the queues that there are."""
    here, busy = _busy(fleet)
    other = "nous-hermes2"
    decision = decide(REQUEST, classified("simple_chat"), here, busy)
    answer = why_not(other, REQUEST, decision, here, busy)
    wanted = next(step for step in answer.flips if step.startswith("its quality"))
    quality = float(wanted.split(" is ")[1].split(" or ")[0])
    category = fleet.categories["simple_chat"]
    choices = tuple(
        msgspec.structs.replace(c, quality=quality) if c.model == other else c for c in category.models
    )
    changed = replace(
        fleet,
        categories={**fleet.categories, "simple_chat": msgspec.structs.replace(category, models=choices)},
    )
    flipped = replace(here, fleet=changed, settings=msgspec.structs.replace(here.settings, prefer="score"))
    assert decide(REQUEST, classified("simple_chat"), flipped, busy).answer_model == other
    assert answer.outcome == f"then {other} would answer"


def test_what_would_be_late_is_flipped_by_the_time_that_it_needs(fleet: Fleet) -> None:
    here, hurried = world(fleet, whole_fleet(fleet)), Moment(deadline_s=60.0)
    decision = decide(REQUEST, classified("max_reasoning"), here, hurried)
    owner = decision.selected_model
    assert owner != decision.answer_model
    answer = why_not(owner, REQUEST, decision, here, hurried)
    assert "longer than the 60 s that this request may take: score" in answer.kept_out[-1]
    (step,) = answer.flips
    needed_s = float(step.split("may take ")[1].split(" s ")[0])
    longer = decide(REQUEST, classified("max_reasoning"), here, Moment(deadline_s=needed_s))
    assert longer.answer_model == owner
    assert answer.outcome == f"then {owner} would answer"


def test_where_all_would_be_late_the_quickest_is_told_to_go_first(fleet: Fleet) -> None:
    here, hurried = world(fleet, whole_fleet(fleet)), Moment(deadline_s=1.0)
    decision = decide(REQUEST, classified("max_reasoning"), here, hurried)
    answer = why_not(decision.chain[1].model, REQUEST, decision, here, hurried)
    assert "so would all others, and the quickest goes first" in answer.kept_out[-1]


def test_what_cannot_be_mended_promises_nothing(fleet: Fleet) -> None:
    answer = told("nomic-embed-text", "simple_chat", world(fleet, whole_fleet(fleet)))
    assert answer.flips == ()
    assert "no setting" in answer.outcome


def test_an_unknown_name_is_refused_with_the_nearest(fleet: Fleet) -> None:
    with pytest.raises(UnknownModel, match="unknown model"):
        told("misstral:7b", "simple_chat", world(fleet, whole_fleet(fleet)))
