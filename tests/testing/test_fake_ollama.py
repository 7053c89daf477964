"""The native API of the fake: shapes, statuses and texts, over real HTTP."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_router.testing.fake_ollama import (
    Answer,
    FakeModel,
    FakeOllama,
    Pace,
    ToolCall,
    fleet_models,
)
from llm_router.testing.raw_http import RawClient, chat_body

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
IMAGE = base64.b64encode(b"not really a picture").decode()


@pytest.fixture
async def server() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as server:
        yield server


@pytest.fixture
async def client(server: FakeOllama) -> AsyncIterator[RawClient]:
    async with RawClient(server.url) as client:
        yield client


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_root_version_tags_and_ps_answer_get(client: RawClient) -> None:
    assert await client.request("GET", "/") == (200, "Ollama is running")
    assert await client.get("/api/version") == {"version": "0.33.0"}
    assert await client.get("/api/ps") == {"models": []}
    first = (await client.get("/api/tags"))["models"][0]
    assert first["name"] == first["model"] == "mistral:7b"
    assert first["details"]["context_length"] == 32_768
    assert first["capabilities"] == ["completion", "tools"]
    assert len(first["digest"]) == 64


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/api/version", 200), ("/api/tags", 200), ("/api/ps", 405)]
)
async def test_head_is_answered_where_ollama_answers_it(client: RawClient, path: str, status: int) -> None:
    assert (await client.request("HEAD", path))[0] == status


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/chat"), ("PUT", "/api/ps"), ("POST", "/api/delete")]
)
async def test_a_wrong_method_gets_405(client: RawClient, method: str, path: str) -> None:
    assert await client.request(method, path) == (405, "405 method not allowed")


async def test_an_unknown_path_gets_404(client: RawClient) -> None:
    assert await client.request("GET", "/api/tokenize") == (404, "404 page not found")


async def test_a_foreign_host_header_gets_a_bare_403(client: RawClient) -> None:
    status, text = await client.request("GET", "/api/tags", headers={"Host": "evil.example"})
    assert (status, text) == (403, "")
    assert (await client.request("GET", "/api/tags", headers={"Host": "localhost:1"}))[0] == 200


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b"{nonsense}", "invalid character 'n' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b"{}", "model is required"),
        (
            b'{"model": 7}',
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
        (b'{"model": "phi4", "think": "hard"}', 'invalid think value: "hard"'),
        (b'{"model": "phi4", "keep_alive": "300"}', 'time: missing unit in duration "300"'),
        (b'{"model": "phi4", "keep_alive": "soon"}', 'time: invalid duration "soon"'),
        (b'{"model": "phi4", "top_logprobs": 21}', "top_logprobs must be between 0 and 20"),
        (b'{"model": "phi4", "messages": [{"content": []}]}', "Message.messages.content of type string"),
    ],
)
async def test_a_body_that_cannot_be_read_gets_400(client: RawClient, raw: bytes, text: str) -> None:
    async with client.open("POST", "/api/chat", data=raw) as response:
        body = await response.json()
    assert response.status == 400
    assert text in body["error"]


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/api/chat", "model 'nope' not found"),
        ("/api/generate", "model 'nope' not found"),
        ("/api/show", "model 'nope:latest' not found"),
        ("/api/embed", 'model "nope" not found, try pulling it first'),
        ("/api/embeddings", 'model "nope" not found, try pulling it first'),
    ],
)
async def test_a_missing_model_gets_404_in_the_words_of_the_route(
    client: RawClient, path: str, quoted: str
) -> None:
    assert await client.request("POST", path, {"model": "nope"}) == (404, {"error": quoted})


async def test_a_cloud_name_is_refused(client: RawClient) -> None:
    for name in ("gpt-oss:cloud", "gpt-oss:120b-cloud"):
        status, body = await client.request("POST", "/api/chat", chat_body(name))
        assert (status, body["error"]) == (403, "ollama cloud is disabled: remote model is unavailable")


async def test_chat_streams_ndjson_by_default(client: RawClient) -> None:
    async with client.open("POST", "/api/chat", json=chat_body("mistral:7b")) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert response.content_type == "application/x-ndjson"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert {line["done"] for line in lines[:-1]} == {False}
    assert "".join(line["message"]["content"] for line in lines) == "mistral:7b heard: hi"
    last = lines[-1]
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert all("total_duration" not in line and "done_reason" not in line for line in lines[:-1])


async def test_the_last_chunk_counts_tokens_and_nanoseconds() -> None:
    pace = Pace(load_s_per_gb=0.5, prompt_tokens_per_s=100, tokens_per_s=10)
    async with FakeOllama(pace=pace) as server, RawClient(server.url) as client:
        answer = await client.chat("mistral:7b", "x" * 40)
    assert answer["prompt_eval_count"] == 14
    assert answer["eval_count"] == 3
    assert answer["prompt_eval_duration"] == 140_000_000
    assert answer["eval_duration"] == 300_000_000
    assert answer["load_duration"] == 2_200_000_000
    assert answer["total_duration"] == sum(
        answer[key] for key in ("prompt_eval_duration", "eval_duration", "load_duration")
    )


async def test_stream_false_answers_in_one_json_object(client: RawClient) -> None:
    answer = await client.chat("phi4", "Grüße & <b>")
    assert answer["message"] == {"role": "assistant", "content": "phi4 heard: Grüße & <b>"}
    assert answer["done"] is True
    created = datetime.fromisoformat(answer["created_at"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60


async def test_angle_brackets_are_escaped_as_go_escapes_them(client: RawClient) -> None:
    body = chat_body("phi4", "<&>", stream=False)
    async with client.open("POST", "/api/chat", json=body) as response:
        assert b"\\u003c\\u0026\\u003e" in await response.read()


async def test_generate_answers_with_response_and_context(client: RawClient) -> None:
    lines = await client.lines("/api/generate", {"model": "phi4", "prompt": "hi", "system": "be brief"})
    assert "".join(line["response"] for line in lines) == "phi4 heard: hi"
    assert lines[-1]["context"]
    raw = await client.post("/api/generate", {"model": "phi4", "prompt": "hi", "raw": True, "stream": False})
    assert "context" not in raw


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat_body("phi4", tools=[TOOL]), "registry.ollama.ai/library/phi4:latest does not support tools"),
        (chat_body("phi4", think=True), '"phi4" does not support thinking'),
        (chat_body("phi4", think="high"), '"phi4" does not support thinking'),
        (chat_body("nomic-embed-text"), '"nomic-embed-text" does not support chat'),
    ],
)
async def test_a_missing_capability_gets_400_before_anything_loads(
    client: RawClient, server: FakeOllama, body: dict[str, Any], text: str
) -> None:
    assert await client.request("POST", "/api/chat", body) == (400, {"error": text})
    assert server.loads == []


async def test_generate_refuses_an_embedder_and_a_suffix(client: RawClient) -> None:
    refused = await client.request("POST", "/api/generate", {"model": "nomic-embed-text", "prompt": "hi"})
    assert refused == (400, {"error": '"nomic-embed-text" does not support generate'})
    refused = await client.request("POST", "/api/generate", {"model": "phi4", "prompt": "a", "suffix": "b"})
    assert refused == (400, {"error": "registry.ollama.ai/library/phi4:latest does not support insert"})


async def test_an_image_reaches_only_a_vision_model(client: RawClient, server: FakeOllama) -> None:
    message = {"role": "user", "content": "what is it", "images": [IMAGE]}
    seen = await client.post("/api/chat", {"model": "llava:13b", "messages": [message], "stream": False})
    assert seen["prompt_eval_count"] > 576
    status, body = await client.request("POST", "/api/chat", {"model": "phi4", "messages": [message]})
    assert status == 500
    assert "image input is not supported" in body["error"]
    assert server.resident == ("llava:13b", "phi4")


async def test_a_thinking_model_thinks_unless_told_not_to() -> None:
    thinkers = fleet_models(["deepseek-r1:70b", "gpt-oss:20b"])
    async with FakeOllama(thinkers) as server, RawClient(server.url) as client:
        assert (await client.chat("deepseek-r1:70b"))["message"]["thinking"]
        assert "thinking" not in (await client.chat("deepseek-r1:70b", think=False))["message"]
        assert (await client.chat("gpt-oss:20b", think=False))["message"]["thinking"]
        lines = await client.lines("/api/chat", chat_body("gpt-oss:20b", think="low"))
    assert lines[0]["message"]["thinking"]
    assert lines[0]["message"]["content"] == ""


async def test_apriel_reasons_in_band_between_markers_ollama_does_not_know() -> None:
    apriel = fleet_models(["apriel-1.5-15b-thinker"])
    async with FakeOllama(apriel) as server, RawClient(server.url) as client:
        message = (await client.chat("apriel-1.5-15b-thinker"))["message"]
    assert "thinking" not in message
    assert message["content"].startswith("Here are my reasoning steps:")
    assert (
        "[BEGIN FINAL RESPONSE]\napriel-1.5-15b-thinker heard: hi\n[END FINAL RESPONSE]" in message["content"]
    )


async def test_a_json_schema_is_honoured_with_a_minimal_instance(client: RawClient) -> None:
    schema = {
        "type": "object",
        "properties": {
            "category": {"enum": ["code", "chat"]},
            "confidence": {"type": "number", "minimum": 0.5},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1},
            "note": {"type": "string"},
        },
        "required": ["category", "confidence", "tags"],
        "$defs": {"tag": {"type": "string", "minLength": 6}},
    }
    content = (await client.chat("llama3.2:1b", format=schema))["message"]["content"]
    assert json.loads(content) == {"category": "code", "confidence": 0.5, "tags": ["textxx"]}
    assert json.loads((await client.chat("llama3.2:1b", format="json"))["message"]["content"]) == {
        "answer": "llama3.2:1b heard: hi"
    }


async def test_any_other_format_gets_500(client: RawClient) -> None:
    status, body = await client.request("POST", "/api/chat", chat_body("phi4", format="xml"))
    assert status == 500
    assert body["error"] == 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'


async def test_the_reply_callable_decides_the_answer_from_the_body() -> None:
    def reply(body: dict[str, Any]) -> Answer | str | None:
        return f"{len(body['messages'])} messages" if body["model"] == "phi4" else None

    async with FakeOllama(reply=reply) as server, RawClient(server.url) as client:
        assert (await client.chat("phi4"))["message"]["content"] == "1 messages"
        assert (await client.chat("mistral:7b"))["message"]["content"] == "mistral:7b heard: hi"


async def test_tools_can_be_called_and_their_results_answered() -> None:
    async with FakeOllama(call_tools=True) as server, RawClient(server.url) as client:
        called = (await client.chat("mistral:7b", tools=[TOOL]))["message"]
        lines = await client.lines("/api/chat", chat_body("mistral:7b", tools=[TOOL]))
        messages = [
            {"role": "user", "content": "hi"},
            {"role": "tool", "content": "rain", "tool_name": "weather"},
        ]
        body = {"model": "mistral:7b", "messages": messages, "tools": [TOOL], "stream": False}
        answered = (await client.post("/api/chat", body))["message"]
    (call,) = called["tool_calls"]
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "text"}}
    assert call["id"].startswith("call_")
    assert lines[0]["message"]["tool_calls"] == [call]
    assert answered == {"role": "assistant", "content": "mistral:7b heard: hi"}


async def test_an_answer_can_be_scripted_whole() -> None:
    scripted = Answer("done", "hm", (ToolCall("stop", {"now": True}),))
    async with FakeOllama(reply=lambda body: scripted) as server, RawClient(server.url) as client:
        message = (await client.chat("gpt-oss:20b", tools=[TOOL]))["message"]
    assert (message["content"], message["thinking"]) == ("done", "hm")
    assert message["tool_calls"][0]["function"]["arguments"] == {"now": True}


async def test_logprobs_come_with_every_token_when_asked_for(client: RawClient) -> None:
    lines = await client.lines("/api/chat", chat_body("phi4", logprobs=True, top_logprobs=2))
    (first,) = lines[0]["logprobs"]
    assert first["token"] == lines[0]["message"]["content"] == "phi4"
    assert first["bytes"] == list(b"phi4")
    assert first["logprob"] < 0
    assert len(first["top_logprobs"]) == 2
    whole = await client.chat("phi4", logprobs=True)
    assert [item["token"] for item in whole["logprobs"]] == ["phi4", " heard:", " hi"]
    assert "top_logprobs" not in whole["logprobs"][0]


async def test_num_predict_and_stop_end_an_answer(client: RawClient) -> None:
    short = await client.chat("phi4", options={"num_predict": 2})
    assert (short["message"]["content"], short["done_reason"], short["eval_count"]) == (
        "phi4 heard:",
        "length",
        2,
    )
    stopped = await client.chat("phi4", options={"stop": ["heard"]})
    assert (stopped["message"]["content"], stopped["done_reason"]) == ("phi4 ", "stop")


async def test_an_option_of_the_wrong_type_gets_500_and_an_unknown_one_passes(client: RawClient) -> None:
    status, body = await client.request("POST", "/api/chat", chat_body("phi4", options={"num_ctx": "8k"}))
    assert (status, body["error"]) == (500, 'option "num_ctx" must be of type integer')
    await client.chat("phi4", options={"no_such_option": 1})


async def test_an_over_long_prompt_is_cut_to_half_the_context_without_a_word(client: RawClient) -> None:
    answer = await client.chat("phi4", "x" * 40_000)
    assert answer["prompt_eval_count"] == 4096 // 2 + 2
    assert answer["done_reason"] == "stop"


async def test_oldest_messages_go_first_and_the_system_prompt_stays(client: RawClient) -> None:
    old = {"role": "user", "content": "x" * 16_000}
    messages = [{"role": "system", "content": "s" * 40}, old, {"role": "assistant", "content": "y" * 40}]
    messages.append({"role": "user", "content": "hi"})
    body = {"model": "phi4", "messages": messages, "stream": False}
    fits = await client.post("/api/chat", body)
    assert fits["prompt_eval_count"] == 4 * 4 + 10 + 4000 + 10 + 1
    messages.insert(1, {"role": "user", "content": "z" * 400})
    cut = await client.post("/api/chat", body)
    assert cut["prompt_eval_count"] == 4 * 4 + 10 + 4000 + 10 + 1


async def test_truncate_false_gets_400_with_both_numbers(client: RawClient) -> None:
    status, body = await client.request("POST", "/api/chat", chat_body("phi4", "x" * 40_000, truncate=False))
    inner = json.loads(body["error"])["error"]
    assert status == 400
    assert (inner["type"], inner["n_prompt_tokens"], inner["n_ctx"]) == (
        "exceed_context_size_error",
        10_004,
        4096,
    )


async def test_without_context_shift_an_over_long_prompt_gets_400(client: RawClient) -> None:
    status, body = await client.request("POST", "/api/chat", chat_body("phi4", "x" * 40_000, shift=False))
    assert status == 400
    assert body["error"].startswith("the prompt is longer than the context length currently available")


async def test_embed_answers_normalised_vectors_that_depend_on_the_words(client: RawClient) -> None:
    texts = ["the cat sat on the mat", "a cat on a mat", "quarterly revenue by region"]
    answer = await client.post("/api/embed", {"model": "nomic-embed-text", "input": texts})
    near, other, far = answer["embeddings"]
    assert len(near) == 768
    assert math.isclose(sum(x * x for x in near), 1.0, abs_tol=1e-9)
    assert cosine(near, other) > cosine(near, far) + 0.2
    again = await client.post(
        "/api/embed", {"model": "nomic-embed-text", "input": texts[0], "dimensions": 64}
    )
    assert len(again["embeddings"][0]) == 64
    assert math.isclose(sum(x * x for x in again["embeddings"][0]), 1.0, abs_tol=1e-9)
    assert answer["prompt_eval_count"] > 0


async def test_the_old_embeddings_route_does_not_normalise(client: RawClient) -> None:
    answer = await client.post("/api/embeddings", {"model": "nomic-embed-text", "prompt": "the cat"})
    assert set(answer) == {"embedding"}
    assert sum(x * x for x in answer["embedding"]) > 4
    assert await client.post("/api/embeddings", {"model": "nomic-embed-text"}) == {"embedding": []}


async def test_embed_cuts_silently_or_refuses_and_takes_only_text(client: RawClient) -> None:
    body = {"model": "nomic-embed-text", "input": "x" * 40_000}
    assert (await client.post("/api/embed", body))["prompt_eval_count"] == 2048
    refused = await client.request("POST", "/api/embed", {**body, "truncate": False})
    assert refused == (400, {"error": "the input length exceeds the context length"})
    refused = await client.request("POST", "/api/embed", {**body, "input": [1, 2]})
    assert refused == (400, {"error": "invalid input type"})
    assert (await client.request("POST", "/api/embed", {"model": "phi4", "input": "x"}))[0] == 501
    assert await client.post("/api/embed", {"model": "nomic-embed-text", "input": ""}) == {
        "model": "nomic-embed-text",
        "embeddings": [],
    }


async def test_names_match_without_case_and_with_the_default_tag_and_registry(
    client: RawClient, server: FakeOllama
) -> None:
    for name in ("PHI4", "phi4:latest", "registry.ollama.ai/library/phi4"):
        assert (await client.chat(name))["model"] == name
    assert [event.reason for event in server.loads] == ["load"]


async def test_requests_are_recorded_in_order_with_body_and_headers(
    client: RawClient, server: FakeOllama
) -> None:
    await client.request("GET", "/api/tags", headers={"X-Trace": "7"})
    await client.chat("phi4", "remember me")
    tags, chat = server.requests
    assert (tags.method, tags.path, tags.body, tags.headers["x-trace"]) == ("GET", "/api/tags", None, "7")
    assert (chat.path, chat.body["messages"][0]["content"]) == ("/api/chat", "remember me")


async def test_a_model_can_be_made_by_hand() -> None:
    tiny = FakeModel("tiny:1b", size_bytes=1_000, answer="forty-two")
    async with FakeOllama([tiny]) as server, RawClient(server.url) as client:
        assert (await client.chat("tiny:1b"))["message"]["content"] == "forty-two"
