"""The cascade: who is asked when, and what comes out when nobody can tell."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

import pytest

from llm_router.classify.base import Verdict
from llm_router.classify.cascade import Cascade
from llm_router.classify.embedded import EncoderStage
from llm_router.classify.encoder import Encoder, EncoderFileError
from llm_router.classify.rules import Rules
from llm_router.decision import StageName
from llm_router.fleet import Category, Fleet, load_fleet
from llm_router.request import Image, Message, RouteRequest

PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 16).decode())


class Says:
    """A stage that always says the same and counts how often it was asked."""

    def __init__(self, name: StageName, verdict: Verdict) -> None:
        self.name = name
        self.verdict = verdict
        self.asked = 0
        self.prepared = False
        self.allowed: frozenset[str] = frozenset()
        self.before: Mapping[str, float] = {}

    def prepare(self) -> None:
        self.prepared = True

    async def classify(
        self, request: RouteRequest, allowed: frozenset[str], before: Mapping[str, float]
    ) -> Verdict:
        self.asked += 1
        self.allowed, self.before = allowed, before
        return self.verdict


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def cascade(fleet: Fleet, *stages: object, sure_from: float = 0.5) -> Cascade:
    return Cascade(fleet, stages, sure_from=sure_from, clock_s=lambda: 0.0)  # type: ignore[arg-type]


HELLO = RouteRequest.from_text("hello")


async def test_a_sure_stage_ends_the_cascade(fleet: Fleet) -> None:
    first = Says("encoder", Verdict({"simple_chat": 0.9}))
    second = Says("mission_control", Verdict({"max_rag": 1.0}))
    told = await cascade(fleet, first, second).classify(HELLO)
    assert (told.category, told.stage, second.asked) == ("simple_chat", "encoder", 0)


async def test_an_unsure_stage_hands_its_probabilities_on(fleet: Fleet) -> None:
    first = Says("encoder", Verdict({"simple_chat": 0.3, "fast_rag": 0.2}))
    second = Says("mission_control", Verdict({"fast_rag": 0.8}))
    told = await cascade(fleet, first, second).classify(HELLO)
    assert second.before == {"simple_chat": 0.3, "fast_rag": 0.2}
    assert (told.category, told.stage) == ("fast_rag", "mission_control")
    assert [stage.stage for stage in told.trail] == ["encoder", "mission_control"]


async def test_where_mission_control_is_silent_the_unsure_answer_stands_with_its_low_confidence(
    fleet: Fleet,
) -> None:
    first = Says("encoder", Verdict({"simple_chat": 0.3, "fast_rag": 0.2}))
    told = await cascade(fleet, first, Says("mission_control", Verdict(note="down"))).classify(HELLO)
    assert (told.category, told.confidence, told.stage) == ("simple_chat", 0.3, "encoder")
    assert told.trail[1].note == "down"


async def test_what_the_rules_allow_binds_every_later_stage(fleet: Fleet) -> None:
    stage = Says("encoder", Verdict({"fast_vision": 1.0}))
    request = RouteRequest.from_text("write a poem", images=[PNG])
    told = await cascade(fleet, Rules(fleet), stage).classify(request)
    assert stage.allowed == {"max_vision", "fast_vision", "hybrid_reasoner"}
    assert told.category == "fast_vision"
    assert told.evidence[0].code == "images"


async def test_nobody_can_tell_gives_the_safe_default_for_the_evidence(fleet: Fleet) -> None:
    silent = Says("encoder", Verdict(note="broken"))
    plain = await cascade(fleet, Rules(fleet), silent).classify(HELLO)
    assert (plain.category, plain.stage) == (fleet.default_category, "default")
    assert plain.confidence < 0.1
    seen = await cascade(fleet, Rules(fleet), silent).classify(RouteRequest.from_text("x", images=[PNG]))
    assert fleet.category(seen.category).requires.capability == "vision"


async def test_a_broken_weights_file_degrades_to_the_other_stages_and_says_so(fleet: Fleet) -> None:
    def broken() -> Encoder:
        raise EncoderFileError("encoder.npz", "it is damaged")

    stage = EncoderStage(fleet, broken)
    told = await cascade(fleet, Rules(fleet), stage).classify(HELLO)
    assert told.stage == "default"
    assert "damaged" in told.trail[1].note
    assert "damaged" in (await cascade(fleet, stage).classify(HELLO)).trail[0].note
    assert told.trail[1].broken and not told.trail[0].broken


@pytest.mark.parametrize("examples", [("same text",) * 5, ("one", "two"), ("a", " a ", "", "b", "c")])
async def test_a_category_with_too_few_examples_does_not_stop_the_others(
    fleet: Fleet, examples: tuple[str, ...]
) -> None:
    own = Category(description="mine", models=fleet.categories["simple_chat"].models, examples=examples)
    changed = replace(fleet, categories={**fleet.categories, "mine": own})
    told = await cascade(changed, EncoderStage(changed)).classify(
        RouteRequest.from_text("hello, how are you?")
    )
    assert told.category == "simple_chat"


async def test_a_category_of_a_users_file_is_routed_to_by_its_examples(fleet: Fleet) -> None:
    examples = (
        "Which risks are in this supplier contract?",
        "Is this non-compete clause enforceable?",
        "Compare both limitation of liability clauses",
        "What is missing in this NDA?",
        "Flag everything unusual in these terms of service",
    )
    own = Category(description="contracts", models=fleet.categories["simple_chat"].models, examples=examples)
    changed = replace(fleet, categories={**fleet.categories, "legal_review": own})
    stage = EncoderStage(changed)
    request = RouteRequest.from_text("Which risks are hidden in this contract clause?")
    told = await cascade(changed, stage).classify(request)
    assert told.category == "legal_review"
    assert (await cascade(changed, stage).classify(HELLO)).category == "simple_chat"


async def test_without_weights_an_earlier_picture_may_still_be_meant(fleet: Fleet) -> None:
    silent = Says("encoder", Verdict(note="broken"))
    chat = RouteRequest(messages=(Message("user", "what is this", (PNG,)), Message("user", "and how old?")))
    told = await cascade(fleet, Rules(fleet), silent).classify(chat)
    assert fleet.category(told.category).requires.capability == "vision"


async def test_a_stages_own_choice_and_sureness_count_before_its_likeliest_category(fleet: Fleet) -> None:
    said = Verdict({"simple_chat": 0.6, "default_general": 0.4}, chosen="default_general", sureness=0.9)
    second = Says("mission_control", Verdict({"max_rag": 1.0}))
    told = await cascade(fleet, Says("encoder", said), second, sure_from=0.8).classify(HELLO)
    assert (told.category, told.confidence, second.asked) == ("default_general", 0.9, 0)


async def test_evidence_is_told_once(fleet: Fleet) -> None:
    chat = RouteRequest(
        messages=(Message("user", "what is this", (PNG,)), Message("user", "write me a poem"))
    )
    told = await cascade(fleet, Rules(fleet), EncoderStage(fleet)).classify(chat)
    assert len(told.evidence) == len(set(told.evidence))


async def test_probabilities_cover_only_what_is_possible_and_sum_to_one(fleet: Fleet) -> None:
    request = RouteRequest.from_text("which breed is this dog?", images=[PNG])
    told = await cascade(fleet, Rules(fleet), EncoderStage(fleet)).classify(request)
    assert set(told.probabilities) == {"max_vision", "fast_vision", "hybrid_reasoner"}
    assert sum(told.probabilities.values()) == pytest.approx(1)
    assert told.category == "fast_vision"
