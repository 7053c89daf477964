"""The memory of a host, managed over real HTTP: one load for many, room made before it, nothing lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import msgspec
import pytest

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import AllAttemptsFailed, HostBusy, HostTimeout
from llm_router.hosts import residency as module
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import GIB, fleet_models
from llm_router.testing.fake_ollama import FakeOllama

LARGE, OTHER, SMALL = "qwen2.5:72b", "llama3.1:70b", "mistral:7b"
HERE = [LARGE, OTHER, SMALL, "gemma2:9b", "qwen2.5:14b", "nomic-embed-text"]


def task(model: str, words: str = "hello there") -> RouteRequest:
    return RouteRequest.from_text(words, model=model)


def settings_for(server: FakeOllama, memory_gb: float = 100.0, **residency: float) -> Settings:
    return Settings(
        hosts=(HostSettings(url=server.url, name="box", memory_gb=memory_gb),),
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(prefer="map"),
        residency=ResidencySettings(**residency),  # type: ignore[arg-type]
    )


@pytest.fixture
async def box() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(fleet_models(HERE), memory_bytes=100 * GIB, max_loaded_models=9) as server:
        yield server


def reasons(box: FakeOllama) -> list[tuple[str, str]]:
    return [(event.model, event.reason) for event in box.loads]


async def test_many_at_once_cause_one_load(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.decide("hello there")  # from here on all of them come in the same moment
        answers = await asyncio.gather(*(router.run(task(SMALL, f"task {n}")) for n in range(20)))
    assert [answer.model for answer in answers] == [SMALL] * 20
    assert reasons(box) == [(SMALL, "load")]


async def test_room_is_made_before_a_load_and_ollama_never_evicts(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        for model in (LARGE, OTHER, LARGE):
            assert (await router.run(task(model))).model == model
    assert "evict" not in {reason for _, reason in reasons(box)}
    assert reasons(box) == [
        (LARGE, "load"),
        (LARGE, "unload"),
        (OTHER, "load"),
        (OTHER, "unload"),
        (LARGE, "load"),
    ]


async def test_two_that_cannot_share_the_memory_are_both_answered(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.decide("hello there")  # from here on all of them come in the same moment
        tasks = [task((LARGE, OTHER)[n % 2], f"task {n}") for n in range(12)]
        answers = await asyncio.gather(*map(router.run, tasks))
    assert [answer.model for answer in answers] == [one.model for one in tasks]
    assert len([reason for _, reason in reasons(box) if reason == "load"]) == 2


async def test_who_leaves_does_not_end_a_load_that_others_wait_for(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        box.fault(Fault.SLOW_LOAD, model=SMALL, times=1)
        first = asyncio.ensure_future(router.run(task(SMALL, "one")))
        await box.until(lambda server: server.loading == SMALL)
        second = asyncio.ensure_future(router.run(task(SMALL, "two")))
        while sum(work.waiting for work in router.loads()["box"].models.values()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        box.release()
        assert (await second).model == SMALL
    assert reasons(box) == [(SMALL, "load")]


async def test_a_load_that_nobody_waits_for_is_given_up(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        box.fault(Fault.SLOW_LOAD, model=SMALL, times=1)
        only = asyncio.ensure_future(router.run(task(SMALL)))
        await box.until(lambda server: server.loading == SMALL)
        only.cancel()
        await asyncio.gather(only, return_exceptions=True)
        await box.until(lambda server: server.cancelled == 1)
        assert router.loads()["box"].idle


async def test_a_load_that_hangs_ends_for_all_who_wait(
    box: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_OVERHEAD_S", 0.2)
    monkeypatch.setattr(module, "HUNG_GB_PER_S", 1e6)
    async with Router(settings=settings_for(box)) as router:
        await router.decide("hello there")  # from here on all of them come in the same moment
        box.fault(Fault.WEDGED, model=SMALL)
        found = await asyncio.gather(
            *(router.run(task(SMALL, f"task {n}")) for n in range(3)), return_exceptions=True
        )
        assert all(isinstance(error, AllAttemptsFailed) for error in found)
        assert {type(a.error) for error in found for a in error.attempts} == {HostTimeout}  # type: ignore[union-attr]
        assert router.loads()["box"].idle


async def test_who_waits_when_the_router_is_closed_is_told_so(box: FakeOllama) -> None:
    router = Router(settings=settings_for(box))
    box.fault(Fault.SLOW_LOAD)
    asking = [asyncio.ensure_future(router.run(task(model, "hello"))) for model in (SMALL, "qwen2.5:14b")]
    await box.until(lambda server: server.loading is not None)
    async with asyncio.timeout(10):
        while router.loads()["box"].of("qwen2.5:14b").waiting == 0:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)
        await router.close()
        ends = await asyncio.gather(*asking, return_exceptions=True)
    assert all("the router was closed" in str(end) for end in ends), ends
    box.release()


async def test_a_full_queue_says_that_the_host_is_busy(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box, max_waiting=1)) as router:
        box.fault(Fault.SLOW_LOAD, model=SMALL, times=1)
        first = asyncio.ensure_future(router.run(task(SMALL, "one")))
        await box.until(lambda server: server.loading == SMALL)
        with pytest.raises(AllAttemptsFailed) as caught:
            await router.run(task(SMALL, "two"))
        assert isinstance(caught.value.attempts[-1].error, HostBusy)
        box.release()
        assert (await first).model == SMALL


async def test_what_fails_to_load_fails_for_all_and_the_next_model_answers(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.decide("hello there")  # from here on all of them come in the same moment
        box.fault(Fault.OOM, model=SMALL)
        answers = await asyncio.gather(*(router.run("What's 2+2?") for _ in range(4)))
    assert {answer.model for answer in answers}.isdisjoint({SMALL})
    assert all(answer.attempts[0].model == SMALL for answer in answers)


async def test_what_is_in_memory_answers_where_it_is_good_enough(box: FakeOllama) -> None:
    settings = settings_for(box)
    async with Router(
        settings=Settings(hosts=settings.hosts, routing=settings.routing, residency=settings.residency)
    ) as router:
        await router.run(task("qwen2.5:14b"))
        decision = await router.decide("What's 2+2?")
        assert (decision.selected_model, decision.answer_model) == (SMALL, "qwen2.5:14b")
        assert "answers instead" in decision.routing_reasoning


@pytest.mark.parametrize("seconds", [0.4, 1e10, math.inf, math.nan])
def test_a_time_that_no_host_takes_is_refused(seconds: float) -> None:
    """Below a second it would be none at all, and Ollama refuses every load with what is too long for it."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"keep_alive_s": seconds}, ResidencySettings)
