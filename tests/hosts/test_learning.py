"""What the router learns of a host's speed from its answers and loads, over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from llm_router.answer import Answer
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.hosts.speeds import NOT_MEASURED, Measured, ModelSpeeds
from llm_router.policy.settings import PolicySettings
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import Message, RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import GIB, fleet_models
from llm_router.testing.fake_ollama import FakeOllama, Pace

MODEL, OTHER = "mistral:7b", "gemma2:9b"
LONG_TASK = "Please tell me about the history of the town and its harbour. " * 20
LONG_ANSWER = "It was founded by the sea and traded with all of its neighbours. " * 8


@pytest.fixture
async def box() -> AsyncIterator[FakeOllama]:
    pace = Pace(load_s_per_gb=1.0, prompt_tokens_per_s=700.0, tokens_per_s=9.0)
    async with FakeOllama(
        fleet_models([MODEL, OTHER, "nomic-embed-text"]),
        memory_bytes=100 * GIB,
        max_loaded_models=9,
        pace=pace,
        reply=lambda _: LONG_ANSWER,
    ) as server:
        yield server


class Clock:
    """Goes as the machine's does, and may be set forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.perf_counter() + self.ahead_s


async def run_cold(router: Router, box: FakeOllama, clock: Clock, load_s: float) -> Answer:
    """Has an answer whose model takes so long to load."""
    box.fault(Fault.SLOW_LOAD, model=MODEL, times=1)
    coming = asyncio.ensure_future(router.run(task()))
    await box.until(lambda server: server.loading == MODEL)
    clock.ahead_s += load_s
    box.release()
    return await coming


def settings_for(server: FakeOllama, *, manage: bool = True) -> Settings:
    return Settings(
        hosts=(HostSettings(url=server.url, name="box", memory_gb=100.0),),
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(prefer="map"),
        residency=ResidencySettings(manage=manage),
    )


def task(model: str = MODEL, words: str = LONG_TASK) -> RouteRequest:
    return RouteRequest.from_text(words, model=model)


async def learned(router: Router, model: str = MODEL) -> ModelSpeeds:
    (host,) = await router.hosts()
    return host.find_speeds(model) or ModelSpeeds()


async def test_an_answer_teaches_how_fast_its_model_loads_reads_and_writes(box: FakeOllama) -> None:
    clock = Clock()
    async with Router(settings=settings_for(box), clock_s=clock) as router:
        first = (await router.decide(task())).chain[0].estimate
        answer = await run_cold(router, box, clock, 60.0)
        assert 60 <= (answer.measured.load_s or 0) < 70
        assert answer.measured.prefill_tokens_per_s == pytest.approx(700.0)
        assert answer.measured.decode_tokens_per_s == pytest.approx(9.0)
        first_load_s = first.load_s
        assert first_load_s < 10  # as the fleet says
        for _ in range(9):
            await router.run(task())
        speeds = await learned(router)
        assert speeds.load_s.count == 1 and speeds.load_from(first_load_s) > first_load_s
        assert speeds.decode_tokens_per_s.count >= 8
        later = (await router.decide(task())).chain[0].estimate
        assert later.samples.decode >= 8
        assert later.decode_s > 2 * first.decode_s  # the fleet says 45 tokens a second


async def test_one_load_that_many_wait_for_is_one_sample(box: FakeOllama) -> None:
    clock = Clock()
    async with Router(settings=settings_for(box), clock_s=clock) as router:
        await router.decide("hello there")  # from here on all of them come in the same moment
        box.fault(Fault.SLOW_LOAD, model=MODEL, times=1)
        coming = asyncio.gather(*(router.run(task()) for _ in range(8)))
        await box.until(lambda server: server.loading == MODEL)
        clock.ahead_s += 60
        box.release()
        answers = await coming
        assert (await learned(router)).load_s.count == 1
        assert len([answer for answer in answers if answer.measured.load_s]) == 1


async def test_answers_side_by_side_teach_nothing_of_reading_and_writing(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        for model in (MODEL, OTHER):
            await router.preload(model)
        box.fault(Fault.SLOW_TOKENS, model=MODEL, times=1)
        slow = asyncio.ensure_future(router.run(task()))
        await box.until(lambda server: server.in_flight == 1)
        beside = await router.run(task(OTHER))
        box.release()
        assert (await slow).measured == beside.measured == NOT_MEASURED
        alone = await router.run(task(OTHER))
        assert alone.measured.decode_tokens_per_s == pytest.approx(9.0)


async def test_answers_of_one_model_in_turn_teach_and_those_at_once_do_not() -> None:
    """A busy gateway learns as well, where its host answers one request of a model after the other."""
    pace = Pace(load_s_per_gb=0.01, prompt_tokens_per_s=5000.0, tokens_per_s=500.0, real_time=True)
    counts = []
    for parallel in (1, 3):
        async with (
            FakeOllama(
                fleet_models([MODEL]),
                memory_bytes=100 * GIB,
                pace=pace,
                reply=lambda _: LONG_ANSWER,
                num_parallel=parallel,
            ) as server,
            Router(settings=settings_for(server)) as router,
        ):
            await router.run(task())
            for _ in range(3):
                await asyncio.gather(*(router.run(task(words=f"{n} {LONG_TASK}")) for n in range(3)))
            counts.append((await learned(router)).decode_tokens_per_s.count)
    assert counts[0] > counts[1]


async def test_the_next_turn_of_a_conversation_teaches_nothing_of_reading(box: FakeOllama) -> None:
    """Most of its prompt is in the model's cache, and counted as if it had been read."""
    async with Router(settings=settings_for(box)) as router:
        first = task()
        answer = await router.run(first)
        turn = replace(
            first,
            messages=(
                *first.messages,
                Message("assistant", answer.text),
                Message("user", "And then? " + LONG_TASK),
            ),
        )
        following = await router.run(turn)
        assert following.decision.chain[0].stays
        assert following.measured.prefill_tokens_per_s is None
        assert following.measured.decode_tokens_per_s == pytest.approx(9.0)


async def test_a_load_behind_somebody_elses_is_no_sample(box: FakeOllama) -> None:
    """Ollama loads one after the other, and what it tells of a load includes waiting for the one before."""
    other, clock = OllamaProvider("other", box.url), Clock()
    async with Router(settings=settings_for(box), clock_s=clock) as router:
        await router.decide("hello there")
        box.fault(Fault.SLOW_LOAD, model=OTHER, times=1)
        theirs = asyncio.ensure_future(other.preload(OTHER, num_ctx=None, keep_alive="5m"))
        await box.until(lambda server: server.loading == OTHER)
        ours = asyncio.ensure_future(router.run(task()))
        await box.until(lambda server: server.in_flight == 2)
        clock.ahead_s += 60
        box.release()
        answer = await ours
        await theirs
        assert answer.measured.load_s is None and (answer.usage.load_s or 0) > 60
        assert (await learned(router)).load_s.count == 0
    await other.close()


async def test_where_loads_are_left_to_ollama_none_is_learned(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box, manage=False)) as router:
        answer = await router.run(task())
        assert answer.usage.load_s and answer.measured.load_s is None
        assert answer.measured.decode_tokens_per_s == pytest.approx(9.0)


async def test_what_was_learned_before_can_be_told(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        for _ in range(30):
            router.learn("box", MODEL, Measured(decode_tokens_per_s=3.0))
        estimate = (await router.decide(task())).chain[0].estimate
        assert estimate.samples.decode > 20 and estimate.samples.load == 0
