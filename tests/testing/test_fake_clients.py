"""The fake as other programs see it: the official ollama client, OpenAI's, a synchronous test, a terminal."""

from __future__ import annotations

import base64
import os
import re
import signal
import struct
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

import llm_router.testing
from llm_router.testing.fake_ollama import FakeOllama, Fault
from llm_router.testing.raw_http import RawClient, chat_body

MESSAGES = [{"role": "user", "content": "hi"}]
SOURCE = str(Path(llm_router.testing.__file__).parents[2])


@pytest.fixture
def threaded() -> Iterator[FakeOllama]:
    with FakeOllama().in_thread() as server:
        yield server


@pytest.fixture
def official(threaded: FakeOllama) -> Iterator[ollama.Client]:
    with ollama.Client(host=threaded.url, timeout=10) as official:
        yield official


@pytest.fixture
async def server() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(call_tools=True) as server:
        yield server


@pytest.fixture
async def client(server: FakeOllama) -> AsyncIterator[RawClient]:
    async with RawClient(server.url) as client:
        yield client


def test_the_official_client_chats_and_streams(official: ollama.Client) -> None:
    whole = official.chat("phi4", messages=MESSAGES)
    assert whole.message.content == "phi4 heard: hi"
    assert whole.total_duration
    parts = list(official.chat("gpt-oss:20b", messages=MESSAGES, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "gpt-oss:20b heard: hi"
    assert parts[0].message.thinking
    assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")
    assert official.generate("phi4", prompt="hi").response == "phi4 heard: hi"


def test_the_official_client_reads_show_list_ps_and_embed(official: ollama.Client) -> None:
    shown = official.show("mistral:7b")
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.block_count"] == 32
    assert len(official.list().models) == 6
    assert len(official.embed("nomic-embed-text", input=["a", "b"]).embeddings) == 2
    assert len(official.embeddings("nomic-embed-text", prompt="a").embedding) == 768
    (resident,) = official.ps().models
    assert resident.name == "nomic-embed-text:latest"
    assert resident.context_length == 2048
    assert resident.expires_at is not None


def test_the_official_client_pulls_copies_and_deletes(official: ollama.Client) -> None:
    assert [step.status for step in official.pull("gemma2:9b", stream=True)][-1] == "success"
    official.copy("gemma2:9b", "mine")
    assert official.delete("mine").status == "success"
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        official.pull("no-such-model")


def test_the_official_client_raises_what_the_fake_refuses(
    official: ollama.Client, threaded: FakeOllama
) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        official.chat("nope", messages=MESSAGES)
    assert missing.value.status_code == 404
    threaded.fault(Fault.ERROR_MID_STREAM)
    with pytest.raises(ollama.ResponseError, match="running the model"):
        list(official.chat("phi4", messages=MESSAGES, stream=True))


def test_a_synchronous_test_can_wait_for_a_held_load_and_release_it(threaded: FakeOllama) -> None:
    threaded.fault(Fault.SLOW_LOAD)
    request = urllib.request.Request(
        f"{threaded.url}/api/chat", data=b'{"model": "phi4", "messages": []}', method="POST"
    )
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=0.2)
    threaded.wait_until(lambda s: s.cancelled == 1)
    threaded.release()
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200
    assert threaded.resident == ("phi4",)
    with pytest.raises(TimeoutError, match="did not hold within"):
        threaded.wait_until(lambda s: s.resident == (), timeout_s=0.01)


def test_the_thread_ends_with_the_block_and_the_server_can_start_again() -> None:
    server = FakeOllama()
    with server.in_thread():
        first = server.url
        server.fault(Fault.WEDGED)
    with server.in_thread():
        assert server.url == first
        with urllib.request.urlopen(f"{server.url}/api/version", timeout=10) as response:
            assert response.status == 200
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{server.url}/api/version", timeout=10)


async def test_the_openai_client_chats_streams_lists_and_embeds(server: FakeOllama) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=10
    ) as client:
        whole = await client.chat.completions.create(
            model="phi4", messages=[{"role": "user", "content": "hi"}]
        )
        assert whole.choices[0].message.content == "phi4 heard: hi"
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert whole.usage.total_tokens == 8
        stream = await client.chat.completions.create(
            model="phi4",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "phi4 heard: hi"
        assert (chunks[0].choices[0].delta.role, chunks[1].choices[0].delta.role) == ("assistant", None)
        assert chunks[-1].usage is not None
        assert "mistral:7b" in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve("phi4")).owned_by == "library"
        vectors = await client.embeddings.create(model="nomic-embed-text", input=["a", "b"])
        assert [len(item.embedding) for item in vectors.data] == [768, 768]
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hi"}])


async def test_v1_writes_tool_calls_with_arguments_as_text(client: RawClient) -> None:
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    body = {**chat_body("mistral:7b"), "tools": [tool]}
    (choice,) = (await client.post("/v1/chat/completions", body))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
    async with client.open("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        text = await response.text()
    assert '"tool_calls":[{"id":"call_' in text
    assert '"finish_reason":"tool_calls"' in text
    assert text.endswith("data: [DONE]\n\n")


async def test_v1_ignores_num_ctx_and_keep_alive(client: RawClient, server: FakeOllama) -> None:
    extra = {"options": {"num_ctx": 16_384}, "keep_alive": 0, "tool_choice": "none"}
    await client.post("/v1/chat/completions", {**chat_body("phi4"), **extra})
    assert [(event.num_ctx, event.reason) for event in server.loads] == [(4096, "load")]
    assert server.resident == ("phi4",)


async def test_v1_maps_reasoning_effort_and_returns_reasoning(client: RawClient) -> None:
    body = {**chat_body("gpt-oss:20b"), "reasoning_effort": "minimal"}
    assert (await client.post("/v1/chat/completions", body))["choices"][0]["message"]["reasoning"]
    refused, error = await client.request(
        "POST", "/v1/chat/completions", {**body, "reasoning_effort": "some"}
    )
    assert refused == 400
    assert error["error"]["type"] == "invalid_request_error"
    refused, error = await client.request("POST", "/v1/chat/completions", {**body, "model": "phi4"})
    assert (refused, error["error"]["message"]) == (400, '"phi4" does not support thinking')


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("data:image/png;base64,aGk=", 200),
        ("https://example.org/a.png", 400),
        ("data:image/gif;base64,aGk=", 400),
    ],
)
async def test_v1_takes_images_as_base64_only(client: RawClient, url: str, status: int) -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    body = {"model": "llava:13b", "messages": [{"role": "user", "content": parts}]}
    assert (await client.request("POST", "/v1/chat/completions", body))[0] == status


async def test_v1_honours_a_response_schema(client: RawClient) -> None:
    schema = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}, "required": ["kind"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await client.post("/v1/chat/completions", {**chat_body("phi4"), "response_format": wanted})
    assert answer["choices"][0]["message"]["content"] == '{"kind": "a"}'


async def test_v1_embeddings_come_as_base64_when_asked_for(client: RawClient) -> None:
    body = {"model": "nomic-embed-text", "input": "hi", "encoding_format": "base64"}
    (item,) = (await client.post("/v1/embeddings", body))["data"]
    assert len(struct.unpack("<768f", base64.b64decode(item["embedding"]))) == 768
    assert (await client.request("POST", "/v1/embeddings", {**body, "encoding_format": "hex"}))[0] == 400


async def test_v1_refuses_an_empty_conversation(client: RawClient) -> None:
    status, body = await client.request("POST", "/v1/chat/completions", {"model": "phi4", "messages": []})
    assert (status, body["error"]["message"]) == (400, "[] is too short - 'messages'")


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llm_router.testing.fake_ollama", *arguments],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_until_interrupted_and_ends_cleanly() -> None:
    process = command("--port", "0", "--models", "mistral:7b,phi4", "--load-seconds-per-gb", "0",
                      "--tokens-per-s", "5000", "--fault", "not_found=phi4")  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + process.communicate(timeout=10)[1]
    with ollama.Client(host=found.group(), timeout=10) as official:
        assert official.chat("mistral:7b", messages=MESSAGES).message.content == "mistral:7b heard: hi"
        with pytest.raises(ollama.ResponseError, match="not found"):
            official.chat("phi4", messages=MESSAGES)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "stopped\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--host", "0.0.0.0"], "cannot listen on '0.0.0.0': the fake has no access control"),
        (["--models", "nope"], "no fleet model is called 'nope'"),
        (["--fault", "lazy=phi4"], "no fault is called 'lazy'"),
        (["--fault", "slow_load=phi4@long"], "cannot read 'long'"),
    ],
)
def test_the_command_refuses_bad_arguments_in_one_message(arguments: list[str], problem: str) -> None:
    _, errors = (process := command("--port", "0", *arguments)).communicate(timeout=20)
    assert process.returncode == 2
    assert problem in errors
    assert "hint:" in errors
    assert "Traceback" not in errors


def test_the_command_says_when_its_port_is_taken(threaded: FakeOllama) -> None:
    _, errors = (process := command("--port", str(threaded.port))).communicate(timeout=20)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{threaded.port}" in errors
    assert "Traceback" not in errors


def test_importing_the_package_loads_no_server() -> None:
    code = "import sys, llm_router.testing; sys.exit('aiohttp' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=20, check=False)
    assert done.returncode == 0
