"""Managed memory behind the gateway while hosts misbehave and clients leave: one answer or one error each."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from tests.gateway.conftest import HERE, Here, Start
from tests.support.days import box, check_books, loads_of, told_to_load

from llm_router.hosts import residency as module
from llm_router.testing.fake_ollama import FakeOllama, Fault

SMALL, LIGHT = "mistral:7b", "gemma2:9b"
NATIVE, OPENAI, ANTHROPIC = "/api/chat", "/v1/chat/completions", "/v1/messages"


def body(model: str, words: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": words}], "stream": False, **more}


def waiting(here: Here) -> int:
    loads = here.serving.gateway.router.loads().values()
    return sum(work.waiting for load in loads for work in load.models.values())


async def quiet(here: Here) -> None:
    """Until nothing is under way at the router or behind it; a guard against a test that never ends."""
    async with asyncio.timeout(30.0):
        while not all(load.idle for load in here.serving.gateway.router.loads().values()):  # noqa: ASYNC110
            await asyncio.sleep(0)
    await here.ollama.until(lambda server: server.in_flight == 0)


@pytest.mark.parametrize("path", [NATIVE, OPENAI, ANTHROPIC])
async def test_ten_of_twenty_clients_leave_during_a_slow_load(start: Start, path: str) -> None:
    here: Here = await start(fake=box(HERE))
    here.ollama.fault(Fault.SLOW_LOAD, model=SMALL, times=1)
    asking = [
        asyncio.ensure_future(here.post(path, body(SMALL, f"task {n}", max_tokens=50))) for n in range(20)
    ]
    async with asyncio.timeout(30.0):
        while waiting(here) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0)
    for leaving in asking[::2]:
        leaving.cancel()
    await here.ollama.until(lambda server: server.loading == SMALL)
    here.ollama.release()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends[::2]] == [asyncio.CancelledError] * 10
    assert [end[0] for end in ends[1::2] if isinstance(end, tuple)] == [200] * 10
    await quiet(here)
    check_books(here.ollama)
    assert loads_of(here.ollama) == told_to_load(here.ollama) == [SMALL]


async def test_all_clients_leave_during_a_slow_load_and_it_is_given_up(start: Start) -> None:
    here: Here = await start(fake=box(HERE))
    here.ollama.fault(Fault.SLOW_LOAD, model=SMALL, times=1)
    asking = [asyncio.ensure_future(here.post(OPENAI, body(SMALL, f"task {n}"))) for n in range(5)]
    await here.ollama.until(lambda server: server.loading == SMALL)
    for leaving in asking:
        leaving.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await here.ollama.until(lambda server: server.loading is None)
    await quiet(here)
    assert loads_of(here.ollama) == []
    status, told, _ = await here.post(OPENAI, body(SMALL))
    assert status == 200
    assert told["model"] == SMALL
    assert loads_of(here.ollama) == [SMALL]


@pytest.mark.parametrize("path", [NATIVE, OPENAI, ANTHROPIC])
async def test_a_wedged_loader_is_one_error_on_each_wire_and_what_is_in_memory_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(module, "HUNG_OVERHEAD_S", 0.5)
    monkeypatch.setattr(module, "HUNG_GB_PER_S", 1e9)
    here: Here = await start(fake=box(HERE))
    assert (await here.post(path, body(LIGHT, max_tokens=50)))[0] == 200
    here.ollama.fault(Fault.WEDGED)
    asking = [here.post(path, body(model, max_tokens=50)) for model in (SMALL, LIGHT, SMALL, LIGHT)]
    async with asyncio.timeout(30.0):
        ends = await asyncio.gather(*asking)
    assert [end[0] for end in ends] == [504, 200, 504, 200]
    for _, told, _ in ends[::2]:
        error = told["error"]
        assert "hang" in (error if isinstance(error, str) else error["message"])
    await quiet(here)
    assert told_to_load(here.ollama) == [LIGHT, SMALL]


async def test_a_host_that_goes_down_during_a_load_is_an_error_for_each_who_waits(start: Start) -> None:
    fake: FakeOllama = box(HERE)
    here: Here = await start(fake=fake)
    fake.fault(Fault.SLOW_LOAD, model=SMALL)
    asking = [asyncio.ensure_future(here.post(OPENAI, body(SMALL, f"task {n}"))) for n in range(4)]
    async with asyncio.timeout(30.0):
        while waiting(here) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await fake.until(lambda server: server.loading == SMALL)
    await fake.__aexit__(None, None, None)
    async with asyncio.timeout(30.0):
        ends = await asyncio.gather(*asking)
    for status, told, _ in ends:
        assert status in (502, 503)
        assert told["error"]["message"]
    assert all(load.idle for load in here.serving.gateway.router.loads().values())
    with pytest.raises(aiohttp.ClientConnectionError):
        await here.http.get(fake.url)
