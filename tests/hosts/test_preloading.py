"""Models that are loaded before anybody asks, over real HTTP."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.support.days import (
    EMBEDDER,
    LARGE,
    LIGHT,
    OTHER,
    SMALL,
    ask_all,
    check_books,
    check_quiet,
    loads_of,
    nothing_left,
    settings_for,
    task,
    told_to_load,
)

from llm_router.gateway.serving import Serving
from llm_router.hosts.predict import LEAST_ANSWERS
from llm_router.preloading import preload_predicted
from llm_router.records.settings import RecordSettings
from llm_router.router import Router
from llm_router.serve_settings import ServeSettings
from llm_router.testing.fake_ollama import FakeOllama, Fault
from llm_router.testing.raw_http import RawClient


async def test_what_never_leaves_and_what_was_asked_for_is_loaded_as_far_as_there_is_room(
    here: FakeOllama,
) -> None:
    answers = {("box0", SMALL): 40, ("box0", LARGE): 30, ("box0", OTHER): 20, ("box0", LIGHT): 1}
    with nothing_left():
        async with Router(settings=settings_for(here)) as router:
            loaded = await preload_predicted(router, answers)
            # Both 70B models do not fit beside each other, and who was asked for once is not expected again.
            assert loaded == [("box0", EMBEDDER), ("box0", SMALL), ("box0", LARGE)]
            assert told_to_load(here) == [SMALL, LARGE]
            assert loads_of(here) == [EMBEDDER, SMALL, LARGE]
            await check_quiet(router, here)
            # What is asked for makes room for itself as ever.
            assert len(await ask_all(router, [task(OTHER)])) == 1
            assert await preload_predicted(router, {}) == []
    check_books(here)


async def test_pins_come_before_all_others_and_what_cannot_be_loaded_is_passed_over(here: FakeOllama) -> None:
    here.fault(Fault.BUSY, model=SMALL, times=9)
    with nothing_left():
        async with Router(settings=settings_for(here, pins=(LIGHT,))) as router:
            loaded = await preload_predicted(router, {("box0", SMALL): 40, ("elsewhere", LARGE): 90})
            assert ("box0", LIGHT) in loaded
            assert ("box0", SMALL) not in loaded and ("box0", LARGE) not in loaded
    assert LIGHT in here.resident


@pytest.mark.parametrize("preload", ["predicted", "kept", "off"])
async def test_the_gateway_does_it_when_it_starts(here: FakeOllama, tmp_path: Path, preload: str) -> None:
    def serving(preload: str) -> Serving:
        return Serving(
            msgspec.structs.replace(
                settings_for(here, pins=(LIGHT,), preload=preload),
                serve=ServeSettings(port=0, log="off"),
                records=RecordSettings(path=str(tmp_path / "records.sqlite3")),
            )
        )

    yesterday = serving("off")
    host, port = await yesterday.start()
    async with aiohttp.ClientSession() as http:
        body = {"model": SMALL, "messages": [{"role": "user", "content": "hello there"}]}
        for _ in range(LEAST_ANSWERS):
            async with http.post(f"http://{host}:{port}/v1/chat/completions", json=body) as reply:
                assert reply.status == 200
    await yesterday.close()
    async with RawClient(here.url) as other:
        for name in here.resident:
            await other.post("/api/generate", {"model": name, "keep_alive": 0})
    await here.until(lambda server: not server.resident)

    today = serving(preload)
    await today.start()
    assert today._warming is not None
    await today._warming
    await today.close()
    wanted = {"predicted": {EMBEDDER, LIGHT, SMALL}, "kept": {EMBEDDER, LIGHT}, "off": set()}[preload]
    assert set(here.resident) == wanted
    check_books(here)


async def test_settings_that_are_read_again_meanwhile_have_the_new_router_go_on(here: FakeOllama) -> None:
    settings = msgspec.structs.replace(
        settings_for(here, pins=(LIGHT, SMALL)),
        serve=ServeSettings(port=0, log="off"),
        records=RecordSettings(enabled=False),
    )
    serving = Serving(settings, load=lambda: settings)
    here.fault(Fault.SLOW_LOAD)
    with nothing_left():
        await serving.start()
        before = serving.gateway.router
        await here.until(lambda server: server.loading is not None)
        assert await serving.reload()
        here.release()
        await here.until(lambda server: set(server.resident) == {EMBEDDER, LIGHT, SMALL})
        assert serving.gateway.router is not before and before.loads()["box0"].idle
        await serving.close()
    check_books(here)
