"""Mission Control over real HTTP: bound, limited in time, and left alone when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_router.classify.mission_control import MissionControl, Target, question
from llm_router.classify.settings import MissionControlSettings
from llm_router.fleet import Fleet, load_fleet
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import RouteRequest
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

REQUEST = RouteRequest.from_text("something quite unclear")
FAST = MissionControlSettings(timeout_s=0.2, load_timeout_s=0.2)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(fleet_models(["llama3.2:1b"])) as server:
        yield server


class Stage:
    """Mission Control wired to the fake, with a clock that the test moves."""

    def __init__(
        self, fleet: Fleet, server: FakeOllama, settings: MissionControlSettings | None = None
    ) -> None:
        self.now_s = 0.0
        self.provider = OllamaProvider("ollama", server.url)
        self.stage = MissionControl(
            fleet, self.locate, settings or MissionControlSettings(), lambda: self.now_s
        )
        self.allowed = frozenset(fleet.categories)

    async def locate(self) -> Target | None:
        return Target(self.provider, "llama3.2:1b", 4096, resident=True)

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.close()


async def test_its_word_is_one_of_the_categories_and_is_blended_with_the_encoder(
    fleet: Fleet, ollama: FakeOllama
) -> None:
    async with Stage(fleet, ollama) as wired:
        before = dict.fromkeys(wired.allowed, 1 / len(wired.allowed))
        verdict = await wired.stage.classify(REQUEST, wired.allowed, before)
    assert verdict.category in fleet.categories
    assert sum(verdict.probabilities.values()) == pytest.approx(1)
    assert verdict.confidence > 0.5
    assert "llama3.2:1b says" in verdict.evidence[0].text


async def test_the_call_is_bound_by_a_schema_and_a_fixed_context(fleet: Fleet, ollama: FakeOllama) -> None:
    async with Stage(fleet, ollama) as wired:
        await wired.stage.classify(REQUEST, frozenset({"fast_rag", "max_rag"}), {})
    body = next(r.body for r in ollama.requests if r.path == "/api/chat")
    assert body["format"]["properties"]["category"]["enum"] == ["max_rag", "fast_rag"]
    assert body["options"]["num_ctx"] == 4096
    assert body["options"]["temperature"] == 0
    assert body["options"]["num_predict"] <= 160
    assert "keep_alive" not in body


def test_the_prompt_carries_the_fleets_words_and_only_part_of_a_long_task(
    fleet: Fleet,
) -> None:
    asked = question(
        fleet, RouteRequest.from_text("The committee met and agreed. " * 400), frozenset(fleet.categories)
    )
    system = asked.messages[0].text
    assert all(category.description in system for category in fleet.categories.values())
    assert any(fleet.categories["max_rag"].examples[0] in message.text for message in asked.messages)
    assert len(asked.messages[-1].text) < 2000
    assert asked.estimate().high < fleet.models["llama3.2:1b"].planned_num_ctx


async def test_silence_ends_at_the_time_limit_with_a_note(fleet: Fleet, ollama: FakeOllama) -> None:
    ollama.fault(Fault.WEDGED, model="llama3.2:1b")
    async with Stage(fleet, ollama, FAST) as wired:
        verdict = await wired.stage.classify(REQUEST, wired.allowed, {})
        ollama.clear_faults()
    assert verdict.category is None
    assert "0.2 s" in verdict.note


async def test_after_three_failures_it_rests_and_is_tried_again_later(
    fleet: Fleet, ollama: FakeOllama
) -> None:
    ollama.fault(Fault.OOM, model="llama3.2:1b")
    async with Stage(fleet, ollama) as wired:
        for _ in range(3):
            assert "failed" in (await wired.stage.classify(REQUEST, wired.allowed, {})).note
        asked = len(ollama.requests)
        assert "resting" in (await wired.stage.classify(REQUEST, wired.allowed, {})).note
        assert len(ollama.requests) == asked
        ollama.clear_faults()
        wired.now_s += 61
        assert (await wired.stage.classify(REQUEST, wired.allowed, {})).category is not None


@pytest.mark.parametrize("said", ["not json", '{"category": "nonsense"}', '{"kind": "fast_rag"}', ""])
async def test_anything_but_an_offered_category_counts_as_a_failure(fleet: Fleet, said: str) -> None:
    async with (
        FakeOllama(fleet_models(["llama3.2:1b"]), reply=lambda body: said) as server,
        Stage(fleet, server) as w,
    ):
        verdict = await w.stage.classify(REQUEST, w.allowed, {"fast_rag": 0.4})
    assert verdict.category is None and "failed" in verdict.note


async def test_it_is_not_asked_where_a_model_was_named(fleet: Fleet, ollama: FakeOllama) -> None:
    async with Stage(fleet, ollama) as wired:
        named = RouteRequest.from_text("something quite unclear", model="phi4")
        assert "by name" in (await wired.stage.classify(named, wired.allowed, {})).note
    assert not ollama.requests


async def test_without_the_model_it_is_not_asked(fleet: Fleet) -> None:
    async def nowhere() -> Target | None:
        return None

    stage = MissionControl(fleet, nowhere, MissionControlSettings(), lambda: 0.0)
    verdict = await stage.classify(REQUEST, frozenset(fleet.categories), {})
    assert "not installed" in verdict.note
