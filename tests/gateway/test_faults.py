"""What goes wrong behind or before the gateway: a right answer by another model, or one honest error."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import anthropic
import openai
import pytest
from tests.gateway.conftest import HERE, Here, Start

from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama, Pace

CHAT: Any = [{"role": "user", "content": "What's 2+2?"}]
OWNER = "mistral:7b"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": CHAT, **more}


BEFORE = (
    Fault.NOT_FOUND,
    Fault.OOM,
    Fault.BUSY,
    Fault.UNKNOWN_ARCHITECTURE,
    Fault.RUNNER_DIED,
    Fault.DROP_BEFORE_FIRST_BYTE,
    Fault.EMPTY_ANSWER,
    Fault.HTML,
    Fault.REDIRECT,
)
MIDWAY = (
    Fault.DROP_MID_STREAM,
    Fault.ERROR_MID_STREAM,
    Fault.GARBAGE_LINE,
    Fault.HALF_LINE,
    Fault.NO_DONE,
    Fault.INVALID_UTF8,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE)
async def test_before_the_first_byte_the_next_model_answers(
    here: Here, fault: Fault, *, stream: bool
) -> None:
    here.ollama.fault(fault, model=OWNER, path=None if fault is Fault.UNKNOWN_ARCHITECTURE else "/api/chat")
    status, told, headers = await here.post("/v1/chat/completions", body(stream=stream))
    assert status == 200
    assert headers["x-router-model"] != OWNER
    assert headers["x-router-fallback"].startswith(OWNER)
    router = told["router"] if not stream else _events(told)[-1]["router"]
    assert router["model"] == headers["x-router-model"]
    assert [failed["model"] for failed in router["fallback"]] == [OWNER]


@pytest.mark.parametrize("fault", MIDWAY)
async def test_after_the_first_byte_the_stream_ends_with_an_error_and_no_other_model(
    here: Here, fault: Fault
) -> None:
    here.ollama.fault(fault, model=OWNER, after=2)
    status, told, headers = await here.post("/v1/chat/completions", body(stream=True))
    assert (status, headers["x-router-model"]) == (200, OWNER)
    events = _events(told)
    assert "[DONE]" not in told
    assert events[-1]["error"]["message"]
    assert {event["model"] for event in events[:-1]} == {OWNER}
    assert {asked["model"] for asked in here.asked()} == {OWNER}


@pytest.mark.parametrize("fault", MIDWAY)
async def test_a_reply_in_one_piece_that_breaks_off_upstream_is_another_models(
    here: Here, fault: Fault
) -> None:
    here.ollama.fault(fault, model=OWNER, after=2)
    status, told, headers = await here.post("/api/chat", body(stream=False))
    assert status == 200
    assert told["model"] == headers["x-router-model"] != OWNER
    assert headers["x-router-fallback"] == f"{OWNER} (stream_broken)"
    (record,) = await here.recorded()
    _, kept, _ = await here.get(f"/router/decisions/{record['decision_id']}")
    assert [a["error"]["code"] if a["error"] else None for a in kept["attempts"]] == ["stream_broken", None]


async def test_the_clients_raise_what_broke_off(here: Here) -> None:
    here.ollama.fault(Fault.ERROR_MID_STREAM, model=OWNER, after=2)
    async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key="x", max_retries=0) as ai:
        with pytest.raises(openai.APIError):
            async for _ in await ai.chat.completions.create(model="auto", messages=CHAT, stream=True):
                pass
    async with anthropic.AsyncAnthropic(base_url=here.url, api_key="x", max_retries=0) as claude:
        with pytest.raises(anthropic.APIError):
            async with claude.messages.stream(model="auto", max_tokens=50, messages=CHAT) as stream:
                await stream.until_done()


async def test_ollamas_wire_says_it_in_its_last_line(here: Here) -> None:
    here.ollama.fault(Fault.DROP_MID_STREAM, model=OWNER, after=2)
    _, told, _ = await here.post("/api/chat", body())
    lines = told.strip().split("\n")
    assert "error" in json.loads(lines[-1])
    assert len(lines) >= 3


async def test_where_all_fail_there_is_one_error_with_every_attempt(here: Here) -> None:
    here.ollama.fault(Fault.OOM, path="/api/chat")
    status, told, headers = await here.post("/v1/chat/completions", body())
    assert status == 503
    assert headers["retry-after"]
    assert headers["x-router-category"] == "simple_chat"
    assert len(headers["x-router-decision-id"]) == 32
    assert OWNER in told["error"]["message"]
    assert "gemma2:9b" in told["error"]["message"]


@pytest.mark.parametrize("by", ["header", "setting"])
async def test_without_fallback_the_first_failure_is_the_answer(start: Start, by: str) -> None:
    here = await start(serve={"fallback": "never"} if by == "setting" else {})
    here.ollama.fault(Fault.RUNNER_DIED, model=OWNER)
    more = {"x_router_fallback": "never"} if by == "header" else {}
    status, _, _ = await here.post("/v1/chat/completions", body(), **more)
    assert status == 502
    assert {asked["model"] for asked in here.asked()} == {OWNER}


async def test_a_truncated_prompt_and_a_wrong_model_are_told(here: Here) -> None:
    here.ollama.fault(Fault.WRONG_MODEL, model=OWNER)
    _, told, _ = await here.post("/v1/chat/completions", body())
    assert any("answered although" in warning for warning in told["router"]["warnings"])


async def test_a_cold_load_shows_signs_of_life_that_clients_pass_over(start: Start) -> None:
    here = await start(serve={"heartbeat_s": 0.05})
    here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
    told = f": waiting for {OWNER}, which is being loaded on ollama: about ".encode()
    beats = {
        "/v1/chat/completions": (told,),
        "/api/chat": (b" ",),
        "/v1/messages": (told, b" s\nevent: ping\n"),
    }
    for path, wanted in beats.items():
        asked = body(stream=True, max_tokens=20)
        async with here.http.post(here.url + path, json=asked) as reply:
            beat = await reply.content.readany()
            assert all(part in beat for part in wanted), beat
            assert path != "/api/chat" or not beat.strip()
            here.ollama.release()
            data = (await reply.read()).decode()
            assert "error" not in data
        here.ollama.clear_faults()
        await here.post("/api/generate", {"model": OWNER, "keep_alive": 0})
        here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
    here.ollama.clear_faults()


async def test_ollamas_client_reads_a_stream_with_signs_of_life(start: Start) -> None:
    import ollama

    here = await start(serve={"heartbeat_s": 0.05})
    here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1, seconds=0.3)
    client = ollama.AsyncClient(host=here.url)
    parts = [part async for part in await client.chat(model="auto", messages=CHAT, stream=True)]
    assert parts[-1].done
    await client._client.aclose()


async def test_a_failure_after_a_sign_of_life_is_told_in_the_stream(start: Start) -> None:
    here = await start(serve={"heartbeat_s": 0.05, "fallback": "never"})
    here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
    async with here.http.post(f"{here.url}/v1/chat/completions", json=body(stream=True)) as reply:
        assert reply.status == 200
        assert await reply.content.readany()
        here.ollama.fault(Fault.RUNNER_DIED, model=OWNER)
        here.ollama.release()
        assert '"error"' in (await reply.read()).decode()


TOOK_OVER = {
    "/v1/chat/completions": True,
    "/v1/completions": True,
    "/v1/responses": True,
    "/v1/messages": True,
    "/api/chat": False,
}


@pytest.mark.parametrize("path", TOOK_OVER)
async def test_who_takes_over_after_a_sign_of_life_is_told_where_the_wire_has_comments(
    start: Start, path: str
) -> None:
    here = await start(serve={"heartbeat_s": 0.05})
    asked = body(stream=True, prompt="What's 2+2?", input="What's 2+2?", max_tokens=20)
    for fails in (True, False):
        here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
        async with here.http.post(here.url + path, json=asked) as reply:
            assert reply.headers["x-router-model"] == OWNER
            assert await reply.content.readany()
            if fails:
                here.ollama.fault(Fault.RUNNER_DIED, model=OWNER)
            here.ollama.release()
            lines = (await reply.read()).decode().splitlines()
        told = dict(line[2:].split(": ", 1) for line in lines if line.startswith(": x-router-"))
        if not fails or not TOOK_OVER[path]:
            assert not told
        else:
            router = re.search(r'"router":{.*?"model":"([^"]+)"', "".join(lines))
            assert router is not None
            assert told["x-router-model"] == router[1] != OWNER
            assert told["x-router-fallback"].startswith(f"{OWNER} (")
            assert set(told) == {"x-router-model", "x-router-fallback"}
            assert not lines[lines.index(f": x-router-fallback: {told['x-router-fallback']}") + 1]
        here.ollama.clear_faults()
        await here.post("/api/generate", {"model": OWNER, "keep_alive": 0})


async def test_a_client_that_leaves_ends_its_generation(start: Start) -> None:
    here = await start(fake=FakeOllama(fleet_models(HERE)))
    here.ollama.fault(Fault.SLOW_TOKENS, model=OWNER, after=1)
    async with here.http.post(f"{here.url}/v1/chat/completions", json=body(stream=True)) as reply:
        assert await reply.content.readany()
        reply.close()
    await here.ollama.until(lambda fake: fake.cancelled == 1 and fake.in_flight == 0)
    records = await here.recorded()
    assert [record["status"] for record in records] == [499]


async def test_a_client_that_leaves_does_not_end_a_load_that_another_waits_for(start: Start) -> None:
    here = await start()
    here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
    first = asyncio.ensure_future(here.post("/v1/chat/completions", body()))
    await here.ollama.until(lambda fake: fake.loading == OWNER)
    second = asyncio.ensure_future(here.post("/v1/chat/completions", body()))
    loads = here.serving.gateway.router.loads
    await _until(lambda: sum(work.waiting for work in loads()["ollama"].models.values()) == 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    here.ollama.release()
    status, _, _ = await second
    assert status == 200
    assert len(here.ollama.loads) == 1


async def test_a_client_that_leaves_alone_ends_its_load(start: Start) -> None:
    here = await start()
    here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
    only = asyncio.ensure_future(here.post("/v1/chat/completions", body()))
    await here.ollama.until(lambda fake: fake.loading == OWNER)
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    await here.ollama.until(lambda fake: fake.cancelled == 1)


async def test_too_many_at_once_are_told_to_come_back(start: Start) -> None:
    here = await start(serve={"max_requests": 2})
    here.ollama.fault(Fault.SLOW_TOKENS, after=1)
    held = [asyncio.ensure_future(here.post("/v1/chat/completions", body())) for _ in range(2)]
    await here.ollama.until(lambda fake: sum(r.path == "/api/chat" for r in fake.requests) >= 1)
    await _until(lambda: here.serving.gateway.running == 2)
    status, told, headers = await here.post("/v1/chat/completions", body())
    assert status == 503
    assert headers["retry-after"] == "1"
    assert told["error"]["type"] == "overloaded_error"
    here.ollama.clear_faults()
    assert [status for status, _, _ in await asyncio.gather(*held)] == [200, 200]


async def test_an_end_lets_streams_finish_and_takes_no_more(start: Start) -> None:
    here = await start()
    here.ollama.fault(Fault.SLOW_TOKENS, model=OWNER, after=1)
    async with here.http.post(f"{here.url}/v1/chat/completions", json=body(stream=True)) as reply:
        begun = await reply.content.readany()
        closing = asyncio.ensure_future(here.serving.server.shutdown(5.0))
        await _until(lambda: here.serving.server.ending)
        here.ollama.clear_faults()
        rest = await reply.read()
        await closing
    assert b"[DONE]" in begun + rest
    with pytest.raises(OSError, match=r"refused|Connect"):
        await here.get("/health")


async def test_a_thousand_aborted_clients_leave_nothing_behind(start: Start) -> None:
    here = await start(fake=FakeOllama(fleet_models(HERE), pace=Pace(), num_parallel=8))
    host, port = here.url.removeprefix("http://").split(":")
    data = json.dumps(body(stream=True)).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(data)
    for cut in (len(head) // 2, len(head) + 3, len(head) + len(data)):
        for _ in range(330):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write((head + data)[:cut])
            writer.transport.abort()
    await _until(lambda: here.serving.server.running == 0 and here.serving.server.connections <= 1)
    assert here.serving.gateway.running == 0
    status, _, _ = await here.post("/v1/chat/completions", body())
    assert status == 200


async def test_every_task_is_recorded_once_whatever_became_of_it(here: Here) -> None:
    await here.post("/v1/chat/completions", body())
    await here.post("/api/chat", body())
    await here.post("/v1/messages", body(max_tokens=9))
    await here.post("/v1/embeddings", {"model": "auto", "input": "x"})
    here.ollama.fault(Fault.ERROR_MID_STREAM, model=OWNER, after=2)
    await here.post("/v1/chat/completions", body(stream=True))
    here.ollama.fault(Fault.OOM)
    await here.post("/v1/chat/completions", body())
    records = await here.recorded()
    assert len(records) == 6
    assert [record["status"] for record in records[:4]] == [200] * 4
    assert records[4]["error"] == "stream_broken"
    assert records[5]["status"] == 503
    assert all(record["task"] is None and record["task_chars"] > 0 for record in records)


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)
