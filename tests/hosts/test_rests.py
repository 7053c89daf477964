"""How long a loader that hangs is left alone: a router over real HTTP, with a clock that the test moves."""

from __future__ import annotations

import pytest
from tests.support.days import (
    LIGHT,
    MIDDLE,
    SMALL,
    Clock,
    ask_all,
    nothing_left,
    settings_for,
    task,
    told_to_load,
)

from llm_router.answer import Answer
from llm_router.hosts import residency as module
from llm_router.router import Router
from llm_router.testing.fake_ollama import FakeOllama, Fault


@pytest.fixture(autouse=True)
def hangs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HUNG_OVERHEAD_S", 0.3)
    monkeypatch.setattr(module, "HUNG_GB_PER_S", 1e9)


async def fails(router: Router, model: str) -> None:
    (end,) = await ask_all(router, [task(model)])
    assert not isinstance(end, Answer)


def left_s(router: Router) -> float:
    loads = router.rests()["box0"].loads
    return loads.left_s if loads is not None else 0.0


async def test_each_time_it_hangs_again_fewer_requests_pay_for_it(here: FakeOllama) -> None:
    clock = Clock()
    with nothing_left():
        async with Router(settings=settings_for(here), clock_s=clock) as router:
            await router.run(task(LIGHT))
            here.fault(Fault.WEDGED)
            await fails(router, SMALL)
            assert 15 < left_s(router) <= 30
            tried = len(told_to_load(here))
            await fails(router, MIDDLE)
            assert len(told_to_load(here)) == tried, "it rests"
            clock.ahead_s += 31
            await fails(router, SMALL)
            assert len(told_to_load(here)) == tried + 1
            assert 45 < left_s(router) <= 60
            clock.ahead_s += 31
            await fails(router, SMALL)
            assert len(told_to_load(here)) == tried + 1, "it still rests"
            assert isinstance((await ask_all(router, [task(LIGHT)]))[0], Answer)
            here.clear_faults()
            clock.ahead_s += 31
            assert isinstance((await ask_all(router, [task(MIDDLE)]))[0], Answer)
            assert left_s(router) == 0
            here.fault(Fault.WEDGED)
            await fails(router, SMALL)
            assert 15 < left_s(router) <= 30, "a load came to its end in between"


async def test_a_load_that_somebody_asks_for_shows_that_the_loader_works_again(here: FakeOllama) -> None:
    clock = Clock()
    async with Router(settings=settings_for(here), clock_s=clock) as router:
        here.fault(Fault.WEDGED)
        await fails(router, SMALL)
        clock.ahead_s += 31
        here.clear_faults()
        await router.preload(MIDDLE)
        here.fault(Fault.WEDGED)
        await fails(router, SMALL)
        assert left_s(router) <= 30
