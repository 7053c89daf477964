"""Mission Control, embedders and loads that somebody asks for, over real HTTP: they take their turn at the
host like any request, and those that never leave wait behind nobody who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from llm_router.classify.settings import ClassifySettings, MissionControlSettings
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import ConfigError, InvalidRequest
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.policy.settings import PolicySettings
from llm_router.request import ApiKind, RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import GIB, fleet_models
from llm_router.testing.fake_ollama import FakeOllama
from llm_router.testing.raw_http import RawClient

LARGE, OTHER, SMALL, ROUTER = "qwen2.5:72b", "llama3.1:70b", "mistral:7b", "llama3.2:1b"
EMBEDDER = "nomic-embed-text"
UNCLEAR = "Could you have a look at this one for me, please?"


@pytest.fixture
async def box() -> AsyncIterator[FakeOllama]:
    models = fleet_models([LARGE, OTHER, SMALL, ROUTER, EMBEDDER])
    async with FakeOllama(models, memory_bytes=100 * GIB, max_loaded_models=9) as server:
        yield server


def settings_for(server: FakeOllama, **residency: object) -> Settings:
    return Settings(
        hosts=(HostSettings(url=server.url, name="box", memory_gb=100.0),),
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(prefer="map"),
        classify=ClassifySettings(
            ask_below=1.0, mission_control=MissionControlSettings(timeout_s=20, load_timeout_s=60)
        ),
        residency=ResidencySettings(**residency),  # type: ignore[arg-type]
    )


def loads(box: FakeOllama) -> list[tuple[str, str]]:
    return [(event.model, event.reason) for event in box.loads]


def task(model: str, words: str = "hello there") -> RouteRequest:
    return RouteRequest.from_text(words, model=model)


def embedding(text: str) -> RouteRequest:
    return RouteRequest(kind=ApiKind.EMBEDDING, inputs=(text,), model=EMBEDDER)


def bodies(box: FakeOllama, model: str) -> list[dict[str, object]]:
    return [r.body for r in box.requests if isinstance(r.body, dict) and r.body.get("model") == model]


async def test_mission_control_is_loaded_by_the_desk_once_and_stays(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        asking = [router.classify(f"{UNCLEAR} Number {n}.") for n in range(4)]
        for found in await asyncio.gather(*asking):
            assert any(stage.stage == "mission_control" and stage.category for stage in found.trail)
        load = router.loads()["box"]
        assert load.idle and load.demand_per_s[ROUTER] > 0
    assert loads(box) == [(ROUTER, "load")]
    first, *others = bodies(box, ROUTER)[-5:]
    assert first["keep_alive"] == -1
    assert all("keep_alive" not in body for body in others)


async def test_room_is_made_for_mission_control_although_it_is_the_first_thing_that_is_asked() -> None:
    """What others have loaded is there already, and leaves no room."""
    async with FakeOllama(fleet_models([LARGE, ROUTER]), memory_bytes=54 * GIB) as box:
        async with RawClient(box.url) as other:
            await other.post("/api/generate", {"model": LARGE, "options": {"num_ctx": 32768}})
        settings = settings_for(box)
        hosts = (HostSettings(url=box.url, name="box", memory_gb=58.0),)
        async with Router(settings=replace(settings, hosts=hosts)) as router:
            await router.classify(UNCLEAR)
        assert loads(box) == [(LARGE, "load"), (LARGE, "unload"), (ROUTER, "load")]


async def test_mission_control_does_not_wait_for_those_who_wait_for_large_models(box: FakeOllama) -> None:
    """One load is under way and another waits: Mission Control's comes before that."""
    async with Router(settings=settings_for(box)) as router:
        await router.hosts()
        box.fault(Fault.SLOW_LOAD, model=LARGE, times=1)
        first = asyncio.ensure_future(router.run(task(LARGE)))
        await box.until(lambda server: server.loading == LARGE)
        second = asyncio.ensure_future(router.run(task(OTHER)))
        deciding = asyncio.ensure_future(router.classify(UNCLEAR))
        while set(router.loads()["box"].loads_waiting) != {OTHER, ROUTER}:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert router.loads()["box"].loads_waiting == (ROUTER, OTHER)
        box.release()
        await asyncio.gather(first, second, deciding)
    assert [model for model, reason in loads(box) if reason == "load"] == [LARGE, ROUTER, OTHER]
    assert (ROUTER, "unload") not in loads(box) and "evict" not in {reason for _, reason in loads(box)}


async def test_mission_control_in_memory_answers_while_a_large_model_loads(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.classify(UNCLEAR)
        box.fault(Fault.SLOW_LOAD, model=LARGE, times=1)
        coming = asyncio.ensure_future(router.run(task(LARGE)))
        await box.until(lambda server: server.loading == LARGE)
        found = await router.classify(f"{UNCLEAR} Again.")
        assert any(stage.stage == "mission_control" and stage.category for stage in found.trail)
        assert not coming.done()
        box.release()
        await coming


async def test_the_embedder_takes_its_turn_and_stays(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await asyncio.gather(*(router.embed(embedding(f"text {n}")) for n in range(3)))
        for model in (LARGE, OTHER):
            await router.run(task(model))
        await router.embed(embedding("one more"))
    assert loads(box).count((EMBEDDER, "load")) == 1
    assert not {(EMBEDDER, "unload"), (EMBEDDER, "evict")} & set(loads(box))


async def test_a_load_that_somebody_asks_for_has_room_made_for_it(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.preload(LARGE)
        await asyncio.gather(*(router.preload(OTHER, keep_alive="10m") for _ in range(3)))
        assert loads(box) == [(LARGE, "load"), (LARGE, "unload"), (OTHER, "load")]
        assert bodies(box, OTHER)[-1]["keep_alive"] == "10m"
        assert bodies(box, OTHER)[-1]["options"] == {
            "num_ctx": (await router.decide(task(OTHER))).chain[0].num_ctx
        }
        assert router.loads()["box"].idle


async def test_an_unload_waits_until_the_model_is_idle_and_nobody_is_lost(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.preload(SMALL)
        box.fault(Fault.SLOW_TOKENS, model=SMALL, times=1)
        answering = asyncio.ensure_future(router.run(task(SMALL, "one")))
        await box.until(lambda server: server.in_flight == 1)
        leaving = asyncio.ensure_future(router.preload(SMALL, keep_alive=0))
        while not router.loads()["box"].leaving:  # noqa: ASYNC110
            await asyncio.sleep(0)
        late = asyncio.ensure_future(router.run(task(SMALL, "two")))
        while router.loads()["box"].of(SMALL).waiting < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        box.release()
        answers = await asyncio.gather(answering, late)
        await leaving
        assert [answer.model for answer in answers] == [SMALL, SMALL]
        await router.preload(SMALL, keep_alive="0s")
    assert loads(box) == [
        (SMALL, "load"),
        (SMALL, "unload"),
        (SMALL, "load"),
        (SMALL, "unload"),
    ]
    assert box.resident == ()


async def test_what_never_leaves_is_not_unloaded_for_anybody(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box)) as router:
        await router.preload(ROUTER, keep_alive="5m")
        with pytest.raises(InvalidRequest, match="stays in memory") as caught:
            await router.preload(ROUTER, keep_alive=0)
        assert "residency" in (caught.value.hint or "")
        assert [body.get("keep_alive") for body in bodies(box, ROUTER) if "keep_alive" in body] == [-1]
        assert loads(box) == [(ROUTER, "load")]


async def test_where_ollama_manages_its_memory_loads_and_unloads_are_its_own(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box, manage=False)) as router:
        await router.preload(ROUTER, keep_alive="5m")
        await router.preload(ROUTER, keep_alive=0)
    assert loads(box) == [(ROUTER, "load"), (ROUTER, "unload")]


async def test_room_for_mission_control_is_left_before_it_is_loaded(box: FakeOllama) -> None:
    """So that nobody has to leave for it when it comes."""
    async with Router(settings=settings_for(box)) as router:
        await router.run(task(SMALL))
        assert router.loads()["box"].owed_gb > 1
        await router.classify(UNCLEAR)
        await router.embed(embedding("text"))
        assert router.loads()["box"].owed_gb == 0


async def test_a_pin_is_loaded_once_and_never_leaves(box: FakeOllama) -> None:
    async with Router(settings=settings_for(box, pins=("mistral:7b",))) as router:
        await router.run(task(SMALL))
        for model in (LARGE, OTHER, LARGE):
            await router.run(task(model))
        assert {SMALL, ROUTER, EMBEDDER} == {
            name.removesuffix(":latest") for name in router.loads()["box"].kept
        }
        with pytest.raises(InvalidRequest, match="stays in memory"):
            await router.preload(SMALL, keep_alive=0)
    assert [reason for model, reason in loads(box) if model == SMALL] == ["load"]
    assert [body["keep_alive"] for body in bodies(box, SMALL) if "keep_alive" in body] == [-1]


async def test_a_pin_is_kept_under_the_name_that_its_host_has_for_it(box: FakeOllama) -> None:
    given = settings_for(box, pins=("phi4",))
    host = HostSettings(url=box.url, name="box", memory_gb=100.0, models={"phi4": SMALL})
    async with Router(settings=replace(given, hosts=(host,))) as router:
        await router.run(task("phi4"))
        assert SMALL in router.loads()["box"].kept
        await router.run(task(LARGE))
    assert [reason for model, reason in loads(box) if model == SMALL] == ["load"]


@pytest.mark.parametrize(
    ("pins", "memory_gb", "told"),
    [
        (("mistral:7c",), 100.0, ["residency.pins names 'mistral:7c'", "mistral:7b"]),
        ((LARGE, OTHER), 100.0, ["residency.pins", "GB together", f"{LARGE} ", "100.0 GB", "80 %"]),
        ((LARGE,), 40.0, ["residency.pins", "40.0 GB of box"]),
    ],
)
def test_pins_that_cannot_be_kept_are_told_with_their_figures(
    pins: tuple[str, ...], memory_gb: float, told: list[str]
) -> None:
    settings = Settings(
        hosts=(HostSettings(url="http://127.0.0.1:9", name="box", memory_gb=memory_gb),),
        residency=ResidencySettings(pins=pins),
    )
    with pytest.raises(ConfigError) as caught:
        Router(settings=settings)
    assert all(words in f"{caught.value} {caught.value.hint}" for words in told), str(caught.value)
