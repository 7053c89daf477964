"""Which models the fake keeps in memory: loads, reloads, evictions and keep_alive, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_router.testing.fake_ollama import FakeOllama, Fault, LoadEvent, Pace, fleet_models
from llm_router.testing.raw_http import RawClient, chat_body

GB = 10**9


@pytest.fixture
async def server() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as server:
        yield server


@pytest.fixture
async def client(server: FakeOllama) -> AsyncIterator[RawClient]:
    async with RawClient(server.url) as client:
        yield client


def reasons(server: FakeOllama) -> list[tuple[str, str]]:
    return [(event.model, event.reason) for event in server.loads]


async def stay_s(client: RawClient, model: str) -> float:
    (entry,) = [one for one in (await client.get("/api/ps"))["models"] if one["name"] == model]
    return (datetime.fromisoformat(entry["expires_at"]) - datetime.now(UTC)).total_seconds()


async def test_ps_lists_what_is_resident_with_its_memory_and_context(
    client: RawClient, server: FakeOllama
) -> None:
    await client.chat("mistral:7b", options={"num_ctx": 8192})
    (entry,) = (await client.get("/api/ps"))["models"]
    assert entry["name"] == entry["model"] == "mistral:7b"
    assert entry["context_length"] == 8192
    assert entry["size"] == entry["size_vram"] == 4_400_000_000 + 8192 * 128 * 1024
    assert server.loads == [LoadEvent("mistral:7b", 8192, "load")]


async def test_only_the_first_request_loads(client: RawClient, server: FakeOllama) -> None:
    first, second = await client.chat("phi4"), await client.chat("phi4")
    assert first["load_duration"] > 2_000_000_000
    assert second["load_duration"] < 200_000_000
    assert reasons(server) == [("phi4", "load")]


async def test_simultaneous_requests_share_one_load(client: RawClient, server: FakeOllama) -> None:
    answers = await asyncio.gather(*(client.chat("phi4", f"number {n}") for n in range(8)))
    assert [answer["message"]["content"] for answer in answers] == [
        f"phi4 heard: number {n}" for n in range(8)
    ]
    assert reasons(server) == [("phi4", "load")]


@pytest.mark.parametrize(
    ("first", "second", "option"),
    [
        ({"num_ctx": 2048}, {"num_ctx": 8192}, "num_ctx"),
        ({"num_ctx": 8192}, {}, "num_ctx"),
        ({}, {"num_batch": 64}, "num_batch"),
        ({}, {"num_thread": 4}, "num_thread"),
        ({}, {"num_gpu": 0}, "num_gpu"),
        ({}, {"use_mmap": False}, "use_mmap"),
    ],
)
async def test_another_runner_option_reloads(
    client: RawClient, server: FakeOllama, first: dict[str, Any], second: dict[str, Any], option: str
) -> None:
    await client.chat("mistral:7b", options=first)
    await client.chat("mistral:7b", options=second)
    assert reasons(server) == [("mistral:7b", "load"), ("mistral:7b", f"reload:{option}")]


async def test_shift_reloads_and_sampling_options_do_not(client: RawClient, server: FakeOllama) -> None:
    await client.chat("mistral:7b")
    await client.chat("mistral:7b", options={"temperature": 0.1, "seed": 7, "num_predict": 5})
    await client.chat("mistral:7b", options={"num_ctx": 4096})
    assert reasons(server) == [("mistral:7b", "load")]
    await client.chat("mistral:7b", shift=False)
    assert server.loads[-1] == LoadEvent("mistral:7b", 4096, "reload:shift")


async def test_num_ctx_is_clamped_to_the_model_and_raised_for_vision(
    client: RawClient, server: FakeOllama
) -> None:
    await client.chat("llava:13b", options={"num_ctx": 100_000})
    await client.chat("phi4", options={"num_ctx": 1})
    await client.chat("llava:13b", options={"num_ctx": 16})
    assert [event.num_ctx for event in server.loads] == [4096, 4, 2048]


async def test_empty_messages_preload_and_unload(client: RawClient, server: FakeOllama) -> None:
    loaded = await client.post("/api/chat", {"model": "phi4", "messages": []})
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert loaded["message"] == {"role": "assistant", "content": ""}
    assert "total_duration" not in loaded
    gone = await client.post("/api/chat", {"model": "phi4", "messages": [], "keep_alive": 0})
    assert gone["done_reason"] == "unload"
    generated = await client.post("/api/generate", {"model": "phi4", "keep_alive": "0s"})
    assert (generated["done_reason"], generated["response"]) == ("unload", "")
    assert server.resident == ()
    assert reasons(server) == [("phi4", "load"), ("phi4", "unload")]


async def test_keep_alive_zero_unloads_after_the_answer(client: RawClient, server: FakeOllama) -> None:
    answer = await client.chat("phi4", keep_alive=0)
    assert answer["message"]["content"] == "phi4 heard: hi"
    await server.until(lambda s: s.resident == ())
    assert reasons(server) == [("phi4", "load"), ("phi4", "unload")]


async def test_an_embedder_is_preloaded_and_kept_by_embed(client: RawClient, server: FakeOllama) -> None:
    await client.post("/api/embed", {"model": "nomic-embed-text", "input": [], "keep_alive": -1})
    assert server.resident == ("nomic-embed-text",)
    assert await stay_s(client, "nomic-embed-text:latest") > 1e9


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [(None, 300), (90, 90), ("1h30m", 5400), ("1.5m", 90), (-1, 9.2e9), ("-1m", 9.2e9)],
)
async def test_keep_alive_takes_seconds_durations_and_forever(
    client: RawClient, keep_alive: float | str | None, seconds: float
) -> None:
    await client.chat("phi4", keep_alive=keep_alive)
    assert await stay_s(client, "phi4:latest") == pytest.approx(seconds, abs=10, rel=0.01)


async def test_a_request_without_keep_alive_keeps_the_stored_one(client: RawClient) -> None:
    await client.chat("phi4", keep_alive="2h")
    await client.chat("phi4")
    assert await stay_s(client, "phi4:latest") > 7000


async def test_a_model_leaves_when_its_keep_alive_ran_out(client: RawClient, server: FakeOllama) -> None:
    await client.chat("phi4", keep_alive="20ms")
    await server.until(lambda s: s.resident == ())
    assert reasons(server) == [("phi4", "load"), ("phi4", "expire")]


async def test_ps_lists_the_longest_stay_first(client: RawClient) -> None:
    for model, keep_alive in (("phi4", "1h"), ("mistral:7b", "3h"), ("llama3.2:1b", "2h")):
        await client.chat(model, keep_alive=keep_alive)
    names = [entry["name"] for entry in (await client.get("/api/ps"))["models"]]
    assert names == ["mistral:7b", "llama3.2:1b", "phi4:latest"]


async def test_the_shortest_keep_alive_is_evicted_and_then_the_first_name(
    client: RawClient, server: FakeOllama
) -> None:
    await client.chat("phi4", keep_alive="1h")
    await client.chat("mistral:7b", keep_alive="5m")
    await client.chat("llava:13b", keep_alive=-1)
    await client.chat("llama3.2:1b", keep_alive="1h")
    assert server.loads[-2:] == [
        LoadEvent("mistral:7b", 4096, "evict"),
        LoadEvent("llama3.2:1b", 4096, "load"),
    ]
    await client.chat("mistral:7b")
    assert server.loads[-2] == LoadEvent("llama3.2:1b", 4096, "evict")
    assert set(server.resident) == {"phi4", "llava:13b", "mistral:7b"}


async def test_an_idle_model_is_evicted_before_a_busy_one(client: RawClient, server: FakeOllama) -> None:
    await client.chat("phi4", keep_alive="1m")
    await client.chat("mistral:7b", keep_alive="1h")
    await client.chat("llava:13b", keep_alive="2h")
    server.fault(Fault.SLOW_TOKENS, model="phi4")
    busy = asyncio.create_task(client.chat("phi4"))
    await server.until(lambda s: s.in_flight == 1)
    await client.chat("llama3.2:1b")
    assert ("mistral:7b", "evict") in reasons(server)
    server.release()
    await busy


async def test_memory_evicts_before_the_count_does() -> None:
    models = fleet_models(["llama3.1:70b", "qwen2.5:72b", "command-r-plus"])
    async with FakeOllama(models, memory_bytes=120 * GB) as server, RawClient(server.url) as client:
        resident = []
        for name in ("llama3.1:70b", "qwen2.5:72b", "command-r-plus"):
            await client.chat(name)
            resident.append(server.resident)
    assert resident == [("llama3.1:70b",), ("llama3.1:70b", "qwen2.5:72b"), ("command-r-plus",)]


async def test_a_large_context_takes_the_room_of_another_model() -> None:
    async with (
        FakeOllama(fleet_models(["llama3.1:70b", "command-r"])) as server,
        RawClient(server.url) as client,
    ):
        await client.chat("command-r")
        await client.chat("llama3.1:70b", options={"num_ctx": 131_072})
        assert server.resident == ("llama3.1:70b",)


async def test_a_model_larger_than_the_machine_runs_out_of_memory() -> None:
    async with FakeOllama(fleet_models(["deepseek-v3", "phi4"])) as server, RawClient(server.url) as client:
        await client.chat("phi4")
        status, body = await client.request("POST", "/api/chat", chat_body("deepseek-v3"))
        assert status == 500
        assert body["error"].startswith("llama-server process has terminated:")
        assert body["error"].endswith("cudaMalloc failed: out of memory")
        assert server.resident == ()


async def test_mllama_loads_on_an_old_version_only() -> None:
    vision = fleet_models(["llama3.2-vision:90b"])
    async with FakeOllama(vision) as server, RawClient(server.url) as client:
        status, body = await client.request("POST", "/api/chat", chat_body("llama3.2-vision:90b"))
        assert status == 500
        assert body["error"].endswith("unknown model architecture: 'mllama'")
        assert "vision" in (await client.post("/api/show", {"model": "llama3.2-vision:90b"}))["capabilities"]
    async with FakeOllama(vision, version="0.24.1") as server, RawClient(server.url) as client:
        await client.chat("llama3.2-vision:90b")
        message = {"role": "user", "content": "compare", "images": ["aGk=", "aGk="]}
        body = {"model": "llama3.2-vision:90b", "messages": [message]}
        assert (await client.request("POST", "/api/chat", body))[0] == 400


async def test_a_held_load_blocks_other_loads_but_not_resident_models(
    client: RawClient, server: FakeOllama
) -> None:
    await client.chat("mistral:7b")
    server.fault(Fault.SLOW_LOAD, model="phi4")
    held = asyncio.create_task(client.chat("phi4"))
    await server.until(lambda s: s.loading == "phi4")
    behind = asyncio.create_task(client.chat("llama3.2:1b"))
    await client.chat("mistral:7b")
    assert [entry["name"] for entry in (await client.get("/api/ps"))["models"]] == ["mistral:7b"]
    assert not held.done()
    assert not behind.done()
    server.release()
    await asyncio.gather(held, behind)
    assert [event.model for event in server.loads] == ["mistral:7b", "phi4", "llama3.2:1b"]


async def test_a_full_load_queue_answers_503() -> None:
    async with FakeOllama(max_queue=1) as server, RawClient(server.url) as client:
        server.fault(Fault.SLOW_LOAD, model="phi4")
        tasks = [asyncio.create_task(client.chat(model)) for model in ("phi4", "mistral:7b")]
        await server.until(lambda s: s.in_flight == 2)
        status, body = await client.request("POST", "/api/chat", chat_body("llama3.2:1b"))
        assert (status, body["error"][:11]) == (503, "server busy")
        server.release()
        await asyncio.gather(*tasks)


async def test_a_client_that_leaves_aborts_the_load(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.SLOW_LOAD)
    held = asyncio.create_task(client.chat("phi4"))
    await server.until(lambda s: s.loading == "phi4")
    held.cancel()
    await server.until(lambda s: s.cancelled == 1)
    assert reasons(server) == [("phi4", "abort")]
    assert server.resident == ()
    server.release()
    await client.chat("phi4")


async def test_a_wedge_blocks_every_load_while_health_checks_stay_green(
    client: RawClient, server: FakeOllama
) -> None:
    await client.chat("mistral:7b")
    server.fault(Fault.WEDGED, model="phi4", times=1)
    stuck = asyncio.create_task(client.chat("phi4"))
    await server.until(lambda s: s.wedged)
    stuck.cancel()
    await server.until(lambda s: s.cancelled == 1)
    behind = asyncio.create_task(client.chat("llama3.2:1b"))
    await server.until(lambda s: s.in_flight == 1)
    server.release()
    for path in ("/api/tags", "/api/ps", "/api/version"):
        await client.get(path)
    await client.chat("mistral:7b")
    assert not behind.done()
    server.clear_faults()
    await behind
    assert not server.wedged


async def test_keep_alive_on_a_model_that_is_leaving_stalls_the_load_that_waits_for_it() -> None:
    async with FakeOllama(max_loaded_models=1) as server, RawClient(server.url) as client:
        server.fault(Fault.SLOW_TOKENS, model="phi4", times=1)
        busy = asyncio.create_task(client.chat("phi4"))
        await server.until(lambda s: s.resident == ("phi4",))
        waiting = asyncio.create_task(client.chat("mistral:7b"))
        await server.until(lambda s: s.in_flight == 2)
        rescuer = asyncio.create_task(client.chat("phi4", keep_alive="1h"))
        await server.until(lambda s: s.in_flight == 3)
        server.release()
        await asyncio.gather(busy, rescuer)
        assert server.resident == ("phi4",)
        assert not waiting.done()
        await client.post("/api/chat", {"model": "phi4", "messages": [], "keep_alive": 0})
        await waiting
        assert server.resident == ("mistral:7b",)


async def test_one_model_answers_one_request_at_a_time(client: RawClient, server: FakeOllama) -> None:
    await client.chat("phi4")
    server.fault(Fault.SLOW_TOKENS, model="phi4", times=1)
    first = asyncio.create_task(client.chat("phi4", "first"))
    await server.until(lambda s: s.in_flight == 1)
    second = asyncio.create_task(client.chat("phi4", "second"))
    await server.until(lambda s: s.in_flight == 2)
    assert not second.done()
    server.release()
    assert (await second)["message"]["content"] == "phi4 heard: second"
    await first


async def test_real_time_makes_the_pace_felt() -> None:
    pace = Pace(load_s_per_gb=0.01, prompt_tokens_per_s=1000, tokens_per_s=100, real_time=True)
    async with FakeOllama(pace=pace) as server, RawClient(server.url) as client:
        started = asyncio.get_running_loop().time()
        answer = await client.chat("mistral:7b")
        passed_s = asyncio.get_running_loop().time() - started
    assert passed_s > 0.044
    assert answer["load_duration"] > 44_000_000


async def test_the_most_that_waited_for_the_loader_at_a_time_is_told(
    client: RawClient, server: FakeOllama
) -> None:
    assert server.most_pending == 0
    server.fault(Fault.SLOW_LOAD, times=1)
    asking = [asyncio.ensure_future(client.chat(model)) for model in ("phi4", "mistral:7b", "mistral:7b")]
    await server.until(lambda server: server.loading is not None and server.in_flight == 3)
    server.release()
    await asyncio.gather(*asking)
    await client.chat("phi4")
    assert server.most_pending == 3


async def test_its_clock_may_be_ahead_of_this_machines() -> None:
    async with FakeOllama(clock_ahead_s=7200.0) as server, RawClient(server.url) as client:
        await client.chat("phi4", keep_alive="1h")
        assert 3 * 3600 - 60 < await stay_s(client, "phi4:latest") <= 3 * 3600
