"""Counterfactuals: what kept a model out, and that the promised change really flips the decision."""

from __future__ import annotations

import pytest
from tests.support.worlds import classified, host, host_down, whole_fleet, world

from llm_router.errors import UnknownModel
from llm_router.fleet import Fleet, load_fleet
from llm_router.policy import PolicySettings, World, decide
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


def test_what_cannot_be_mended_promises_nothing(fleet: Fleet) -> None:
    answer = told("nomic-embed-text", "simple_chat", world(fleet, whole_fleet(fleet)))
    assert answer.flips == ()
    assert "no setting" in answer.outcome


def test_an_unknown_name_is_refused_with_the_nearest(fleet: Fleet) -> None:
    with pytest.raises(UnknownModel, match="unknown model"):
        told("misstral:7b", "simple_chat", world(fleet, whole_fleet(fleet)))
