"""A request's own time: where it ends, what it is held against, and what deciding may take of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from llm_router.answering import RETRY_PAUSE_S
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import CutShort, LLMRouterError, NotInTime
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

NAMED = RouteRequest.from_text("What's 2+2?", model="mistral:7b")
LIMIT_S = 0.3


class Behind:
    """A clock that stands still, and then is a little behind that of the event loop."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def __call__(self) -> float:
        return self._now_s

    def move_on(self) -> None:
        """From now on a millisecond is missing until a request that came before is over."""
        self._now_s += LIMIT_S - 0.001


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(fleet_models(["mistral:7b", "gemma2:9b"])) as server:
        yield server


def settings_for(server: FakeOllama) -> Settings:
    return Settings(
        hosts=(HostSettings(url=server.url, name="one"),), routing=RoutingSettings(stand_in="never")
    )


@pytest.mark.parametrize("after", [0, 1])
async def test_a_timer_that_fires_a_moment_early_ends_a_request_and_is_not_held_against_the_model(
    ollama: FakeOllama, after: int
) -> None:
    clock = Behind()
    async with Router(settings=settings_for(ollama), clock_s=clock) as router:
        await router.run(NAMED)
        ollama.fault(Fault.SLOW_TOKENS, after=after)
        hurried = replace(NAMED, timeout_s=LIMIT_S)
        for _ in range(3):
            decision = (await router.decide(hurried)).stamped("", 0.0)
            asyncio.get_running_loop().call_later(LIMIT_S / 2, clock.move_on)
            with pytest.raises(LLMRouterError) as caught:
                await router.run(hurried, decision=decision)
            assert type(caught.value) is (CutShort if after else NotInTime)
        assert not (await router.hosts())[0].unhealthy
        assert not router.rests()["one"].models


async def test_the_pause_before_the_retry_is_no_longer_than_the_time_that_is_left(ollama: FakeOllama) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    ollama.fault(Fault.BUSY)
    async with Router(settings=settings_for(ollama), clock_s=lambda: 1000.0, pause=pause) as router:
        with pytest.raises(LLMRouterError):
            await router.run(replace(NAMED, timeout_s=LIMIT_S))
        with pytest.raises(LLMRouterError):
            await router.run(NAMED)
    assert pauses == [LIMIT_S, RETRY_PAUSE_S]
