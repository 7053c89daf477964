"""Other servers than Ollama behind all wires: one with OpenAI's API, and the embedded engine."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.gateway.conftest import HERE, Here, Start
from tests.providers.conftest import Scripted, scripted  # noqa: F401 - a fixture

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.gateway.serving import Serving
from llm_router.names import canonical
from llm_router.records.settings import RecordSettings
from llm_router.router import Router
from llm_router.serve_settings import ServeSettings
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama, Pace

CHAT: Any = [{"role": "user", "content": "What's 2+2?"}]
MODELS = '{"object":"list","data":[{"id":"served","object":"model"}]}'


@asynccontextmanager
async def before(server: Scripted, tag: str) -> AsyncIterator[tuple[str, Router]]:
    """The address of a gateway before a server that gives one model, and its router."""
    settings = Settings(
        hosts=(HostSettings(url=server.url, name="vllm", kind="openai", models={tag: "served"}),),
        routing=RoutingSettings(stand_in="never", snapshot_max_age_s=60),
        serve=ServeSettings(port=0, log="off"),
        records=RecordSettings(enabled=False),
    )
    server.body = MODELS.encode()
    serving = Serving(settings)
    host, port = await serving.start()
    try:
        await serving.gateway.router.hosts()
        yield f"http://{host}:{port}", serving.gateway.router
    finally:
        await serving.close()


@pytest.fixture
async def gateway(scripted: Scripted) -> AsyncIterator[tuple[str, Scripted]]:  # noqa: F811
    async with before(scripted, "mistral:7b") as (url, _):
        yield url, scripted


async def post(url: str, body: Any) -> bytes:
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.read()


async def test_on_the_same_wire_every_byte_of_an_event_goes_through(gateway: tuple[str, Scripted]) -> None:
    url, server = gateway
    events = [
        '{"id":"x","model":"served","choices":[{"index":0,"delta":{"role":"assistant"}}],  "odd": [1, 2.50]}',
        '{"id":"x","model":"served","choices":[{"index":0,"delta":{"content":"four"}}]}',
        '{"id":"x","model":"served","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
        '{"id":"x","model":"served","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}',
    ]
    server.events(*events)
    sent = {
        "model": "auto",
        "messages": CHAT,
        "stream": True,
        "guided_regex": "[0-9]+",
        "logit_bias": {"1": 2},
    }
    told = (await post(f"{url}/v1/chat/completions", sent)).decode().strip().split("\n\n")
    assert told[0] == f"data: {events[0]}"
    assert told[1] == f"data: {events[1]}"
    assert told[2].startswith(f"data: {events[2][:-1]}")
    assert '"router":{' in told[2]
    assert told[3:] == ["data: [DONE]"]  # the count was not asked for
    asked = server.asked[-1][1]
    assert asked["guided_regex"] == "[0-9]+"
    assert asked["logit_bias"] == {"1": 2}
    assert asked["model"] == "served"


async def test_the_count_is_sent_where_it_was_asked_for(gateway: tuple[str, Scripted]) -> None:
    url, server = gateway
    server.events(
        '{"model":"served","choices":[{"index":0,"delta":{"content":"four"},"finish_reason":"stop"}]}',
        '{"model":"served","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}',
    )
    sent = {"model": "auto", "messages": CHAT, "stream": True, "stream_options": {"include_usage": True}}
    told = (await post(f"{url}/v1/chat/completions", sent)).decode().strip().split("\n\n")
    assert "router" not in told[0]
    assert '"usage":{"prompt_tokens":9,"completion_tokens":1},"router":' in told[1]


async def test_a_whole_reply_stays_as_the_server_wrote_it(gateway: tuple[str, Scripted]) -> None:
    url, server = gateway
    reply = (
        b'{ "id": "x", "model": "served", "choices": [{"index": 0, "message": {"role": "assistant", '
        b'"content": "four", "extra": {"a": 1.50}}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3} '
        b"}"
    )
    server.body, server.content_type = reply, "application/json"
    told = await post(f"{url}/v1/chat/completions", {"model": "auto", "messages": CHAT})
    assert told.startswith(reply[:-2])
    assert msgspec.json.decode(told)["router"]["model"] == "mistral:7b"


async def test_where_no_stream_is_wanted_none_is_asked_for_even_if_the_body_is_written_anew(
    gateway: tuple[str, Scripted],
) -> None:
    url, server = gateway
    server.body = (
        b'{"model":"served","choices":[{"message":{"content":"<think>two and two</think>four",'
        b'"tool_calls":[{"id":"c1","function":{"name":"sum","arguments":"{\\"of\\":[2,2]}"}}]},'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5}}'
    )
    asked = {"model": "auto", "messages": CHAT, "stream": False}
    told = msgspec.json.decode(await post(f"{url}/api/chat", asked))
    assert told["message"]["content"] == "four"
    assert told["message"]["thinking"] == "two and two"
    assert told["message"]["tool_calls"][0]["function"]["arguments"] == {"of": [2, 2]}
    assert (told["prompt_eval_count"], told["eval_count"]) == (9, 5)
    sent = server.asked[-1][1]
    assert sent["stream"] is False
    assert "stream_options" not in sent


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["mistral:7b", "gemma2:9b", "apriel-1.5-15b-thinker"])
async def test_the_context_of_a_prompt_goes_both_ways(start: Start, model: str, *, stream: bool) -> None:
    """Through models that are told things in another way, or whose thinking is cut out, as through others."""
    here = await start(fake=FakeOllama(fleet_models([*HERE, "apriel-1.5-15b-thinker"])))
    asked = {
        "model": model,
        "prompt": "one two",
        "system": "Be brief.",
        "context": [1, 2, 3],
        "stream": stream,
    }
    async with here.http.post(f"{here.ollama.url}/api/generate", json=asked | {"stream": False}) as reply:
        expected = (await reply.json())["context"]
    async with here.http.post(f"{here.url}/api/generate", json=asked) as reply:
        last = msgspec.json.decode((await reply.text()).splitlines()[-1])
    assert here.asked("/api/generate")[-1]["context"] == [1, 2, 3]
    assert last["context"] == expected
    assert "warnings" not in last["router"]


async def test_a_context_that_may_be_another_models_is_told(here: Here) -> None:
    asked = {"model": "auto", "prompt": "What's 2+2?", "context": [1, 2], "stream": False}
    (warning,) = (await here.post("/api/generate", asked))[1]["router"]["warnings"]
    assert warning == "the context of the request was read as one of mistral:7b; name the model that gave it"


async def test_a_context_that_a_server_cannot_go_on_with_is_told(gateway: tuple[str, Scripted]) -> None:
    url, server = gateway
    server.body = b'{"model":"served","choices":[{"message":{"content":"4"},"finish_reason":"stop"}]}'
    for given, warnings in (([1, 2], 1), ([], 0), (None, 0)):
        asked = {"model": "mistral:7b", "prompt": "What's 2+2?", "context": given, "stream": False}
        told = msgspec.json.decode(await post(f"{url}/api/generate", asked))
        assert "context" not in told
        found = told["router"].get("warnings", [])
        assert len(found) == warnings
        assert all("the context of the request was left out: vllm cannot go on" in text for text in found)
    assert "context" not in server.asked[-1][1]


@pytest.mark.parametrize("model", ["auto", "nomic-embed-text"])
async def test_vectors_are_those_that_ollama_gives_on_the_same_path(here: Here, model: str) -> None:
    """The older path does not bring them to length one, and tells nothing else; ``/api/embed`` does both."""
    own = {"model": "nomic-embed-text", "prompt": "the cat", "input": "the cat"}
    for path in ("/api/embeddings", "/api/embed"):
        async with here.http.post(here.ollama.url + path, json=own) as reply:
            expected = await reply.json()
        status, told, headers = await here.post(path, own | {"model": model})
        assert status == 200
        assert headers["x-router-model"] == "nomic-embed-text"
        vectors = [told["embedding"]] if path == "/api/embeddings" else told["embeddings"]
        assert vectors == ([expected["embedding"]] if path == "/api/embeddings" else expected["embeddings"])
        assert (math.hypot(*vectors[0]) == pytest.approx(1)) is (path == "/api/embed")
        assert set(told) >= set(expected)


async def test_the_time_of_loading_an_embedder_is_told_and_recorded(start: Start) -> None:
    here = await start(fake=FakeOllama(fleet_models(HERE), pace=Pace(load_s_per_gb=1.0, real_time=True)))
    told = (await here.post("/api/embed", {"model": "auto", "input": ["a", "b"]}))[1]
    assert told["load_duration"] > 100_000_000
    assert told["prompt_eval_count"] == 2
    await here.recorded()
    _, record, _ = await here.get(f"/router/decisions/{told['router']['decision_id']}")
    assert record["load_s"] == pytest.approx(told["load_duration"] / 1e9)


async def test_its_pieces_become_ollamas_lines_and_anthropics_events(gateway: tuple[str, Scripted]) -> None:
    url, server = gateway
    call = '{"index":0,"id":"c1","function":{"name":"look","arguments":"{\\"a\\":"}}'
    rest = '{"index":0,"function":{"arguments":"1}"}}'
    server.events(
        '{"model":"served","choices":[{"index":0,"delta":{"content":"four"}}]}',
        '{"model":"served","choices":[{"index":0,"delta":{"tool_calls":[' + call + "]}}]}",
        '{"model":"served","choices":[{"index":0,"delta":{"tool_calls":[' + rest + "]}}]}",
        '{"model":"served","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
        '{"model":"served","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}',
    )
    lines = (await post(f"{url}/api/chat", {"model": "mistral:7b", "messages": CHAT})).splitlines()
    found = [msgspec.json.decode(line) for line in lines]
    assert found[0]["message"]["content"] == "four"
    calls = [c for line in found for c in line["message"].get("tool_calls", [])]
    assert calls == [{"function": {"index": 0, "name": "look", "arguments": {"a": 1}}, "id": "c1"}]
    assert found[-1]["done"]
    assert found[-1]["prompt_eval_count"] == 9
    body = {"model": "mistral:7b", "messages": CHAT, "stream": True, "max_tokens": 9}
    text = (await post(f"{url}/v1/messages", body)).decode()
    assert '"type":"tool_use","id":"c1","name":"look","input":{}' in text
    assert '"partial_json":"{\\"a\\":1}"' in text
    assert '"stop_reason":"tool_use"' in text


@pytest.mark.embedded
async def test_with_no_host_the_embedded_engine_answers_on_every_wire() -> None:
    settings = Settings(
        hosts=(HostSettings(url="http://127.0.0.1:9", name="ollama"),),
        serve=ServeSettings(port=0, log="off"),
        records=RecordSettings(enabled=False),
    )
    serving = Serving(settings)
    host, port = await serving.start()
    url = f"http://{host}:{port}"
    try:
        asked: dict[str, Any] = {"model": "auto", "messages": CHAT, "max_tokens": 8}
        for path, more, found in (
            ("/v1/chat/completions", {}, b'"chat.completion"'),
            ("/v1/chat/completions", {"stream": True}, b"data: [DONE]"),
            ("/api/chat", {"options": {"num_predict": 8}}, b'"done":true'),
            ("/v1/messages", {"stream": True}, b"message_stop"),
        ):
            told = await post(url + path, asked | more)
            assert found in told, path
            assert b'"host":"embedded"' in told
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/v1/models") as reply:
                listed = [model["id"] for model in (await reply.json())["data"]]
            async with http.get(f"{url}/api/tags") as reply:
                tagged = [model["name"].removesuffix(":latest") for model in (await reply.json())["models"]]
            async with http.post(f"{url}/api/show", json={"model": "smollm2:135m"}) as reply:
                assert reply.status == 200
                assert (await reply.json())["capabilities"] == ["completion"]
        assert listed == tagged
        assert "smollm2:135m" in listed
        for name in listed:  # what is listed answers
            assert await post(f"{url}/v1/chat/completions", asked | {"model": name, "max_tokens": 1})
    finally:
        await serving.close()


async def test_a_virtual_model_has_the_context_of_whatever_server_answers(
    gateway: tuple[str, Scripted],
) -> None:
    url, _ = gateway
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{url}/api/show", json={"model": "auto"}) as reply:
            shown = await reply.json()
        async with http.get(f"{url}/v1/models/auto") as reply:
            listed = await reply.json()
    assert shown["model_info"]["router.context_length"] == listed["context_length"] > 2048


async def test_a_model_that_two_servers_hold_is_listed_once(
    start: Start,
    scripted: Scripted,  # noqa: F811
) -> None:
    scripted.body = MODELS.replace("served", "mistral:7b").encode()
    here = await start(hosts=(HostSettings(url=scripted.url, name="vllm", kind="openai"),))
    assert [m["name"] for m in (await here.get("/api/ps"))[1]["models"]] == ["mistral:7b"]
    async with here.http.post(f"{here.ollama.url}/api/generate", json={"model": "mistral:7b"}) as loaded:
        assert loaded.status == 200
    (model,) = (await here.get("/api/ps"))[1]["models"]
    assert model["name"] == "mistral:7b" and model["size"] > 0  # as Ollama tells it


async def test_words_that_ask_for_vectors_get_them_from_any_server(scripted: Scripted) -> None:  # noqa: F811
    words = "Generate embedding vectors for the following support tickets"
    async with before(scripted, "nomic-embed-text") as (url, _):
        scripted.body = b'{"data":[{"index":0,"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":3}}'
        asked = {"model": "auto", "messages": [{"role": "user", "content": words}]}
        told = msgspec.json.decode(await post(f"{url}/v1/chat/completions", asked))
    assert told["choices"][0]["message"]["content"] == "[0.5,0.25]"
    assert scripted.asked[-1][0] == "/v1/embeddings"


async def test_the_speeds_that_a_whole_reply_tells_are_learned(scripted: Scripted) -> None:  # noqa: F811
    async with before(scripted, "mistral:7b") as (url, router):
        scripted.body = (
            b'{"choices":[{"message":{"content":"four"},"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":400,"completion_tokens":200},'
            b'"timings":{"prompt_ms":100.0,"predicted_ms":2000.0}}'
        )
        await post(f"{url}/v1/chat/completions", {"model": "auto", "messages": CHAT})
        scripted.body = MODELS.encode()
        host = next(seen for seen in await router.hosts() if seen.name == "vllm")
    (log_speed,) = host.speeds[canonical("served")].decode_tokens_per_s.logs
    assert log_speed == pytest.approx(math.log(100))
