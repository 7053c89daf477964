"""What a client sees when the fake misbehaves, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from llm_router.testing.fake_ollama import FakeOllama, Fault
from llm_router.testing.raw_http import RawClient, chat_body

STREAM = chat_body("phi4", "one two three four")
WHOLE = chat_body("phi4", "one two three four", stream=False)


@pytest.fixture
async def server() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as server:
        yield server


@pytest.fixture
async def client(server: FakeOllama) -> AsyncIterator[RawClient]:
    async with RawClient(server.url) as client:
        yield client


async def raw_lines(client: RawClient, body: dict[str, Any], path: str = "/api/chat") -> list[bytes]:
    async with client.open("POST", path, json=body) as response:
        assert response.status == 200
        data: bytes = await response.read()
    return data.split(b"\n")


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (Fault.NOT_FOUND, 404, "model 'phi4' not found"),
        (Fault.NO_TOOLS, 400, "registry.ollama.ai/library/phi4:latest does not support tools"),
        (Fault.BUSY, 503, "server busy, please try again.  maximum pending requests exceeded"),
        (Fault.OOM, 500, "cudaMalloc failed: out of memory"),
        (Fault.UNKNOWN_ARCHITECTURE, 500, "unknown model architecture: 'phi3'"),
        (Fault.RUNNER_DIED, 500, "model runner has unexpectedly stopped"),
        (Fault.ERROR_MID_STREAM, 500, "an error was encountered while running the model"),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_an_error_before_the_first_byte_has_its_real_status_and_the_shape_of_the_route(
    client: RawClient, server: FakeOllama, path: str, fault: Fault, status: int, text: str
) -> None:
    server.fault(fault, times=1)
    got, body = await client.request("POST", path, WHOLE)
    error = body["error"]
    assert got == status
    if path.startswith("/v1"):
        kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
        assert (error["type"], error["param"], error["code"]) == (kind, None, None)
        error = error["message"]
    assert text in error
    assert (await client.request("POST", path, WHOLE))[0] == 200


async def test_running_out_of_memory_in_an_answer_unloads_everything(
    client: RawClient, server: FakeOllama
) -> None:
    for model in ("phi4", "mistral:7b"):
        await client.chat(model)
    server.fault(Fault.OOM, model="phi4", times=1)
    assert (await client.request("POST", "/api/chat", WHOLE))[0] == 500
    assert server.resident == ()
    assert {event.reason for event in server.loads[-2:]} == {"oom"}


async def test_a_runner_that_died_is_loaded_again(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.RUNNER_DIED, times=1)
    assert (await client.request("POST", "/api/chat", WHOLE))[0] == 500
    await client.chat("phi4")
    assert [event.reason for event in server.loads] == ["load", "died", "load"]


async def test_a_dropped_connection_has_no_answer_at_all(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.DROP_BEFORE_FIRST_BYTE, times=1, path="/api/chat")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.request("POST", "/api/chat", STREAM)
    assert server.cancelled == 0
    await client.chat("phi4")


@pytest.mark.parametrize("body", [STREAM, WHOLE])
async def test_a_connection_cut_in_mid_answer_is_an_incomplete_payload(
    client: RawClient, server: FakeOllama, body: dict[str, Any]
) -> None:
    server.fault(Fault.DROP_MID_STREAM, after=2)
    received = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.open("POST", "/api/chat", json=body) as response:
            async for part in response.content.iter_any():
                received += part
    assert b"phi4" in received
    assert b"eval_duration" not in received
    assert server.cancelled == 0


async def test_an_error_in_mid_stream_is_the_last_line_under_status_200(
    client: RawClient, server: FakeOllama
) -> None:
    server.fault(Fault.ERROR_MID_STREAM, after=2)
    lines = await client.lines("/api/chat", STREAM)
    assert len(lines) == 3
    assert lines[-1] == {"error": "an error was encountered while running the model: unexpected EOF"}


async def test_on_v1_an_error_in_mid_stream_is_lost(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.ERROR_MID_STREAM, after=2)
    text = b"\n".join(await raw_lines(client, {**STREAM, "stream": True}, "/v1/chat/completions"))
    assert text.startswith(b"data: {")
    assert b"error" not in text
    assert b"[DONE]" not in text
    assert b'"finish_reason":"stop"' not in text


async def test_a_garbage_line_breaks_into_a_stream_that_goes_on(
    client: RawClient, server: FakeOllama
) -> None:
    server.fault(Fault.GARBAGE_LINE)
    lines = await raw_lines(client, STREAM)
    assert lines[1] == b"<<<not json>>>"
    assert json.loads(lines[-2])["done"] is True


async def test_on_v1_a_garbage_event_breaks_in_too(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.GARBAGE_LINE)
    events = await raw_lines(client, {**STREAM, "stream": True}, "/v1/chat/completions")
    assert events[2] == b"data: <<<not json>>>"
    assert events[-3] == b"data: [DONE]"


async def test_half_a_line_ends_the_stream_politely(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.HALF_LINE, after=2)
    lines = await raw_lines(client, STREAM)
    assert len(lines) == 3
    assert lines[-1].startswith(b'{"model":"phi4"')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(lines[-1])


async def test_a_stream_can_end_without_done(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.NO_DONE)
    lines = await client.lines("/api/chat", STREAM)
    assert "".join(line["message"]["content"] for line in lines) == "phi4 heard: one two three four"
    assert not any(line["done"] for line in lines)
    assert (await client.chat("phi4"))["done"] is False


async def test_an_empty_answer_is_a_good_answer_without_text(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.EMPTY_ANSWER)
    answer = await client.chat("phi4")
    assert (answer["message"]["content"], answer["done_reason"], answer["eval_count"]) == ("", "stop", 1)
    (only,) = await client.lines("/api/chat", STREAM)
    assert only["done"] is True


async def test_invalid_utf8_arrives_inside_a_line(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.INVALID_UTF8)
    lines = await raw_lines(client, STREAM)
    assert b'"content":"\xff\xfe"' in lines[1]
    with pytest.raises(UnicodeDecodeError):
        lines[1].decode()


async def test_lines_can_arrive_in_two_parts_cut_inside_a_character(
    client: RawClient, server: FakeOllama
) -> None:
    server.fault(Fault.SPLIT_LINES)
    async with client.open("POST", "/api/chat", json=chat_body("phi4", "Grüße")) as response:
        parts = [chunk async for chunk, _ in response.content.iter_chunks()]
    assert any(part.endswith(b"\xc3") for part in parts)
    lines = b"".join(parts).decode().splitlines()
    assert "".join(json.loads(line)["message"]["content"] for line in lines) == "phi4 heard: Grüße"


@pytest.mark.parametrize(("fault", "problem"), [(Fault.GARBAGE_LINE, "not json"), (Fault.HALF_LINE, "phi4")])
async def test_a_whole_answer_can_be_no_json_too(
    client: RawClient, server: FakeOllama, fault: Fault, problem: str
) -> None:
    server.fault(fault)
    status, text = await client.request("POST", "/api/chat", WHOLE)
    assert status == 200
    assert isinstance(text, str)
    assert problem in text


async def test_a_truncated_prompt_shows_in_the_count_only(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.TRUNCATE)
    answer = await client.chat("phi4", options={"num_ctx": 8192})
    assert answer["prompt_eval_count"] == 8192 // 2 + 2


async def test_an_answer_can_name_another_model(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.WRONG_MODEL)
    assert {line["model"] for line in await client.lines("/api/chat", STREAM)} == {"some-other-model:latest"}


@pytest.mark.parametrize(("status", "expected"), [(None, 502), (200, 200)])
async def test_a_proxy_page_replaces_every_answer(
    client: RawClient, server: FakeOllama, status: int | None, expected: int
) -> None:
    server.fault(Fault.HTML, status=status)
    for method, path in (("GET", "/api/tags"), ("POST", "/api/chat")):
        async with client.open(method, path, json=STREAM) as response:
            assert (response.status, response.content_type) == (expected, "text/html")
            assert "<html>" in await response.text()


async def test_a_redirect_points_to_where_nothing_is(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.REDIRECT, path="/api/tags")
    async with client.open("GET", "/api/tags") as response:
        assert response.status == 307
        assert response.headers["Location"] == f"{server.url}/elsewhere/api/tags"
    await client.get("/api/version")


async def test_slow_tokens_hold_the_stream_until_released(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.SLOW_TOKENS, after=2)
    async with client.open("POST", "/api/chat", json=STREAM) as response:
        first = [json.loads(await response.content.readline()) for _ in range(2)]
        assert server.in_flight == 1
        server.release("phi4")
        rest = [json.loads(line) async for line in response.content]
    assert "".join(line["message"]["content"] for line in first + rest) == "phi4 heard: one two three four"


async def test_a_slow_fault_with_seconds_ends_by_itself(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.SLOW_LOAD, seconds=0.05)
    answer = await client.chat("llama3.2:1b", keep_alive=0)
    assert answer["message"]["content"] == "llama3.2:1b heard: hi"
    server.fault(Fault.SLOW_TOKENS, seconds=0.01)
    assert (await client.lines("/api/chat", STREAM))[-1]["done"] is True


async def test_a_client_that_leaves_cancels_the_answer_and_is_counted(
    client: RawClient, server: FakeOllama
) -> None:
    server.fault(Fault.SLOW_TOKENS)
    response = await client.open("POST", "/api/chat", json=STREAM)
    await response.content.readline()
    response.close()
    await server.until(lambda s: s.cancelled == 1)
    assert server.in_flight == 0
    server.clear_faults()
    await client.chat("phi4")
    assert server.cancelled == 1


async def test_a_fault_strikes_its_model_its_path_and_its_number_of_times(
    client: RawClient, server: FakeOllama
) -> None:
    server.fault(Fault.BUSY, model="PHI4", path="/api/generate", times=2)
    body = {"model": "phi4", "prompt": "hi", "stream": False}
    assert (await client.request("POST", "/api/generate", {**body, "model": "mistral:7b"}))[0] == 200
    assert (await client.request("POST", "/api/chat", WHOLE))[0] == 200
    assert [(await client.request("POST", "/api/generate", body))[0] for _ in range(3)] == [503, 503, 200]


async def test_clear_faults_brings_back_good_behaviour(client: RawClient, server: FakeOllama) -> None:
    server.fault(Fault.OOM)
    server.fault(Fault.HTML)
    server.clear_faults()
    await client.chat("phi4")


async def test_embed_fails_as_chat_does(client: RawClient, server: FakeOllama) -> None:
    body = {"model": "nomic-embed-text", "input": "hi"}
    for fault, status in ((Fault.BUSY, 503), (Fault.RUNNER_DIED, 500), (Fault.NOT_FOUND, 404)):
        server.fault(fault, times=1)
        assert (await client.request("POST", "/api/embed", body))[0] == status
    assert (await client.request("POST", "/api/embed", body))[0] == 200


async def test_closing_the_server_ends_what_is_held() -> None:
    async with RawClient("http://127.0.0.1") as client:
        async with FakeOllama() as server:
            client.url = server.url
            server.fault(Fault.WEDGED)
            stuck = asyncio.create_task(client.request("POST", "/api/chat", STREAM))
            await server.until(lambda s: s.wedged)
        with pytest.raises(aiohttp.ClientError):
            await stuck
    assert server.cancelled == 0
