"""The official clients against the gateway: their own calls, unchanged, for every feature they have."""

from __future__ import annotations

import base64
from typing import Any

import anthropic
import ollama
import openai
import pytest
from tests.gateway.conftest import HERE, Here, Start

from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import Answer, FakeOllama, Token, ToolCall

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 64).decode()
CHAT: Any = [{"role": "user", "content": "What's 2+2?"}]
WEATHER = {
    "name": "get_weather",
    "description": "the weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.fixture
async def ai(here: Here) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def llama(here: Here) -> Any:
    client = ollama.AsyncClient(host=here.url)
    yield client
    await client._client.aclose()


@pytest.fixture
async def claude(here: Here) -> Any:
    async with anthropic.AsyncAnthropic(base_url=here.url, api_key="none", max_retries=0) as client:
        yield client


class TestOpenAI:
    async def test_a_chat(self, ai: openai.AsyncOpenAI) -> None:
        reply = await ai.chat.completions.create(model="auto", messages=CHAT)
        assert reply.object == "chat.completion"
        assert reply.model == "mistral:7b"
        assert reply.choices[0].message.role == "assistant"
        assert reply.choices[0].message.content
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage is not None
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
        told = reply.model_extra["router"]  # type: ignore[index]
        assert told["category"] == "simple_chat"
        assert told["model"] == "mistral:7b"
        assert told["decision_id"]

    async def test_a_stream_gives_the_same_words_and_the_usage_where_it_is_asked_for(
        self, ai: openai.AsyncOpenAI
    ) -> None:
        whole = await ai.chat.completions.create(model="auto", messages=CHAT, seed=1)
        chunks = [
            chunk
            async for chunk in await ai.chat.completions.create(
                model="auto",
                messages=CHAT,
                seed=1,
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].model_extra["router"]["category"] == "simple_chat"  # type: ignore[index]
        assert len({c.id for c in chunks}) == 1

    async def test_without_the_wish_no_chunk_is_without_a_choice(self, ai: openai.AsyncOpenAI) -> None:
        stream = await ai.chat.completions.create(model="auto", messages=CHAT, stream=True)
        chunks = [chunk async for chunk in stream]
        assert all(chunk.choices for chunk in chunks)
        assert "router" in (chunks[-1].model_extra or {})

    async def test_the_headers_tell_the_reason(self, ai: openai.AsyncOpenAI) -> None:
        raw = await ai.chat.completions.with_raw_response.create(model="auto", messages=CHAT)
        assert raw.headers["x-router-model"] == "mistral:7b"
        assert raw.headers["x-router-category"] == "simple_chat"
        assert 0.5 < float(raw.headers["x-router-confidence"]) <= 1
        assert raw.headers["x-router-fallback"] == "none"
        assert "simple_chat" in raw.headers["x-router-reason"]
        assert len(raw.headers["x-router-decision-id"]) == 32
        assert raw.headers["x-request-id"]

    async def test_tools_are_called_whole_and_in_a_stream(self, start: Start) -> None:
        call = Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
        here = await start(fake=FakeOllama(fleet_models(HERE), reply=lambda *_: call))
        async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key="x", max_retries=0) as ai:
            asked: dict[str, Any] = {
                "model": "auto",
                "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
                "tools": [{"type": "function", "function": WEATHER}],
            }
            whole = await ai.chat.completions.create(**asked)
            found = whole.choices[0].message.tool_calls
            assert found is not None
            assert found[0].function.name == "get_weather"
            assert found[0].function.arguments == '{"city":"Oslo"}'
            assert found[0].id
            assert whole.choices[0].finish_reason == "tool_calls"
            chunks = [c async for c in await ai.chat.completions.create(**asked, stream=True)]
            deltas = [d for c in chunks if c.choices for d in c.choices[0].delta.tool_calls or ()]
            assert [d.function.name for d in deltas] == ["get_weather"]
            assert [d.index for d in deltas] == [0]
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
            follow_up = [
                *asked["messages"],
                whole.choices[0].message.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": found[0].id, "content": "rain"},
            ]
            await ai.chat.completions.create(model="auto", messages=follow_up, tools=asked["tools"])
        sent = here.asked()[-1]["messages"]
        assert sent[1]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": {"city": "Oslo"}}
        assert sent[2]["role"] == "tool"
        assert sent[2]["content"] == "rain"

    async def test_an_image_goes_to_a_model_that_sees(self, ai: openai.AsyncOpenAI, here: Here) -> None:
        content = [
            {"type": "text", "text": "What animal is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ]
        messages: Any = [{"role": "user", "content": content}]
        reply = await ai.chat.completions.create(model="auto", messages=messages)
        assert reply.model == "llava:13b"
        assert here.asked()[-1]["messages"][0]["images"] == [PNG]

    async def test_options_reach_the_model_under_its_own_names(
        self, ai: openai.AsyncOpenAI, here: Here
    ) -> None:
        create: Any = ai.chat.completions.create
        await create(
            model="auto",
            messages=CHAT,
            temperature=0.1,
            top_p=0.5,
            seed=7,
            stop=["END"],
            max_completion_tokens=9,
            presence_penalty=0.2,
            frequency_penalty=0.3,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
            logprobs=True,
            top_logprobs=2,
            extra_body={"top_k": 3, "min_p": 0.1, "something_new": {"a": 1}},
        )
        body = here.asked()[-1]
        expected = {
            "temperature": 0.1,
            "top_p": 0.5,
            "seed": 7,
            "stop": ["END"],
            "num_predict": 9,
            "presence_penalty": 0.2,
            "frequency_penalty": 0.3,
            "top_k": 3,
            "min_p": 0.1,
        }
        assert {name: body["options"][name] for name in expected} == expected
        assert body["format"] == SCHEMA
        assert body["logprobs"] is True
        assert body["top_logprobs"] == 2
        assert body["something_new"] == {"a": 1}
        assert body["options"]["num_ctx"] > 0
        assert "keep_alive" not in body

    async def test_logprobs_come_back_as_openai_writes_them(self, start: Start) -> None:
        tokens = (Token("fo", -0.1, {"fo": -0.1, "ba": -2.0}), Token("ur", -0.2))
        here = await start(fake=FakeOllama(fleet_models(HERE), reply=lambda *_: Answer(tokens=tokens)))
        async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key="x", max_retries=0) as ai:
            reply = await ai.chat.completions.create(
                model="auto",
                messages=CHAT,
                logprobs=True,
                top_logprobs=2,
            )
        assert reply.choices[0].logprobs is not None
        content = reply.choices[0].logprobs.content
        assert content is not None
        assert [item.token for item in content] == ["fo", "ur"]
        assert content[0].logprob == -0.1

    async def test_thinking_is_kept_apart(self, ai: openai.AsyncOpenAI, here: Here) -> None:
        reply = await ai.chat.completions.create(
            model="gpt-oss:20b",
            messages=CHAT,
            reasoning_effort="high",
        )
        message = reply.choices[0].message
        assert (message.model_extra or {})["reasoning"]
        assert (message.model_extra or {})["reasoning"] not in (message.content or "")
        assert here.asked()[-1]["think"] == "high"

    async def test_a_completion(self, ai: openai.AsyncOpenAI, here: Here) -> None:
        reply = await ai.completions.create(model="mistral:7b", prompt="Once upon a time", max_tokens=5)
        assert reply.object == "text_completion"
        assert reply.choices[0].text
        assert here.asked("/api/generate")[-1]["prompt"] == "Once upon a time"
        stream = await ai.completions.create(model="mistral:7b", prompt="Once", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

    async def test_embeddings_as_numbers_and_packed(self, ai: openai.AsyncOpenAI) -> None:
        packed = await ai.embeddings.create(model="auto", input=["one", "two"])
        plain = await ai.embeddings.create(model="auto", input=["one", "two"], encoding_format="float")
        assert packed.model == "nomic-embed-text"
        assert [item.index for item in packed.data] == [0, 1]
        assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
        assert packed.data[0].embedding != packed.data[1].embedding

    async def test_models(self, ai: openai.AsyncOpenAI) -> None:
        names = [model.id async for model in ai.models.list()]
        assert names[:3] == ["auto", "auto-fast", "auto-best"]
        assert "auto:structured_data" in names
        assert "mistral:7b" in names
        assert (await ai.models.retrieve("auto")).owned_by == "llm-router"
        assert (await ai.models.retrieve("mistral:7b")).id == "mistral:7b"
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("nothing:1b")

    async def test_responses(self, ai: openai.AsyncOpenAI) -> None:
        reply = await ai.responses.create(model="auto", input="What's 2+2?", instructions="Be brief.")
        assert reply.status == "completed"
        assert reply.output_text
        assert reply.usage is not None
        assert reply.usage.total_tokens > 0
        async with ai.responses.stream(model="auto", input="What's 2+2?", instructions="Be brief.") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == reply.output_text
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"

    async def test_responses_call_tools(self, start: Start) -> None:
        call = Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
        here = await start(fake=FakeOllama(fleet_models(HERE), reply=lambda *_: call))
        async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key="x", max_retries=0) as ai:
            tool: Any = {"type": "function", "strict": False, **WEATHER}
            reply = await ai.responses.create(model="auto", input="Weather in Oslo?", tools=[tool])
            item = reply.output[-1]
            assert item.type == "function_call"
            assert item.arguments == '{"city":"Oslo"}'
            async with ai.responses.stream(model="auto", input="Weather in Oslo?", tools=[tool]) as stream:
                async for _ in stream:
                    pass
                streamed = (await stream.get_final_response()).output[-1]
            assert streamed.type == "function_call"
            assert streamed.name == "get_weather"

    async def test_a_mistake_is_a_400_that_says_what_to_do(self, ai: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await ai.chat.completions.create(model="auto", messages=CHAT, n=3)
        assert "n = 3" in caught.value.message
        with pytest.raises(openai.NotFoundError, match="unknown model"):
            await ai.chat.completions.create(model="no-such:7b", messages=CHAT)
        with pytest.raises(openai.BadRequestError, match="unknown category"):
            await ai.chat.completions.create(model="auto:cooking", messages=CHAT)
        with pytest.raises(openai.BadRequestError, match="internet"):
            await ai.chat.completions.create(model="gpt-oss:120b-cloud", messages=CHAT)


class TestOllama:
    async def test_a_chat_whole_and_in_a_stream(self, llama: ollama.AsyncClient) -> None:
        whole = await llama.chat(model="auto", messages=CHAT, options={"seed": 1})
        assert whole.model == "mistral:7b"
        assert whole.message.content
        assert whole.done
        assert whole.done_reason == "stop"
        assert whole.eval_count
        parts = [
            p async for p in await llama.chat(model="auto", messages=CHAT, options={"seed": 1}, stream=True)
        ]
        assert "".join(p.message.content or "" for p in parts) == whole.message.content
        assert [p.done for p in parts][-1]
        assert not any(p.done for p in parts[:-1])

    @pytest.mark.parametrize("name", ["auto", "auto:latest", "", "AUTO"])
    async def test_every_way_to_say_auto(self, llama: ollama.AsyncClient, name: str) -> None:
        assert (await llama.chat(model=name or "auto", messages=CHAT)).model == "mistral:7b"

    async def test_bytes_of_the_server_go_through_as_they_are(self, here: Here) -> None:
        body = {"model": "auto", "messages": CHAT, "options": {"seed": 1}}
        async with here.http.post(f"{here.url}/api/chat", json=body) as reply:
            through = (await reply.read()).splitlines()
        body["model"] = "mistral:7b"
        async with here.http.post(f"{here.ollama.url}/api/chat", json=body) as reply:
            direct = (await reply.read()).splitlines()
        assert len(through) == len(direct) > 2
        for line, expected in zip(through, direct, strict=True):
            assert _without_times(line) == _without_times(expected)

    async def test_unknown_fields_reach_the_server(self, here: Here) -> None:
        await here.post("/api/chat", {"model": "auto", "messages": CHAT, "stream": False, "new_thing": [1]})
        assert here.asked()[-1]["new_thing"] == [1]

    async def test_generate(self, llama: ollama.AsyncClient, here: Here) -> None:
        reply = await llama.generate(model="auto", prompt="What's 2+2?", system="Be brief.")
        assert reply.response
        assert reply.model == "mistral:7b"
        assert here.asked("/api/generate")[-1]["system"] == "Be brief."
        parts = [p async for p in await llama.generate(model="auto", prompt="What's 2+2?", stream=True)]
        assert parts[-1].done
        assert "".join(p.response or "" for p in parts)

    async def test_embed_and_the_older_embeddings(self, llama: ollama.AsyncClient) -> None:
        reply = await llama.embed(model="auto", input=["one", "two"])
        assert reply.model == "nomic-embed-text"
        assert len(reply.embeddings) == 2
        one = await llama.embeddings(model="auto", prompt="one")
        assert len(one.embedding) == len(reply.embeddings[0])

    async def test_list_show_and_ps(self, llama: ollama.AsyncClient, here: Here) -> None:
        names = [model.model for model in (await llama.list()).models]
        assert names[:3] == ["auto:latest", "auto-fast:latest", "auto-best:latest"]
        assert "mistral:7b" in names
        auto = await llama.show("auto")
        assert set(auto.capabilities or ()) >= {"completion", "tools", "vision"}
        assert "embedding" not in (auto.capabilities or ())  # else `ollama run auto` shows vectors
        assert (await llama.show("auto:embeddings")).capabilities == ["embedding"]
        assert (await llama.show("mistral:7b")).details is not None
        with pytest.raises(ollama.ResponseError) as caught:
            await llama.show("no-such:1b")
        assert caught.value.status_code == 404
        await llama.chat(model="auto", messages=CHAT)
        assert [model.model for model in (await llama.ps()).models] == ["mistral:7b"]
        assert (await here.get("/api/version"))[1] == {"version": "0.33.0"}

    async def test_a_virtual_model_promises_no_context_that_its_weakest_task_lacks(
        self, llama: ollama.AsyncClient
    ) -> None:
        auto = (await llama.show("auto")).modelinfo or {}
        every = [m.model for m in (await llama.list()).models if (m.model or "").startswith("auto:")]
        assert auto["router.context_length"] > 2048  # that of the embedder, which no chat is limited by
        for name in every:
            if name == "auto:embeddings":
                continue
            shown = (await llama.show(str(name))).modelinfo or {}
            assert shown["router.context_length"] >= auto["router.context_length"]

    async def test_pull_copy_and_delete_are_passed_on(self, llama: ollama.AsyncClient, here: Here) -> None:
        steps = [step.status async for step in await llama.pull("phi4", stream=True)]
        assert steps[-1] == "success"
        assert here.asked("/api/pull")[-1]["model"] == "phi4"
        await llama.copy("mistral:7b", "mine")
        assert "mine:latest" in [model.model for model in (await llama.list()).models]
        await llama.delete("mine")
        with pytest.raises(ollama.ResponseError):
            await llama.delete("auto")

    async def test_loading_and_unloading(self, llama: ollama.AsyncClient, here: Here) -> None:
        assert (await llama.generate(model="auto")).done_reason == "load"
        assert not list(here.ollama.resident)
        loaded = await llama.generate(model="mistral:7b", keep_alive=300)
        assert loaded.done_reason == "load"
        assert list(here.ollama.resident) == ["mistral:7b"]
        assert here.asked("/api/generate")[-1]["options"]["num_ctx"] > 0
        before = len(here.ollama.loads)
        await llama.chat(model="mistral:7b", messages=CHAT)
        assert len(here.ollama.loads) == before
        assert (await llama.chat(model="mistral:7b", messages=[], keep_alive=0)).done_reason == "unload"
        assert not list(here.ollama.resident)

    async def test_keep_alive_counts_only_where_the_model_was_named(
        self, llama: ollama.AsyncClient, here: Here
    ) -> None:
        await llama.chat(model="auto", messages=CHAT, keep_alive="1h")
        assert "keep_alive" not in here.asked()[-1]
        await llama.chat(model="mistral:7b", messages=CHAT, keep_alive="1h")
        assert here.asked()[-1]["keep_alive"] == "1h"

    async def test_two_clients_with_different_num_ctx_cause_one_load(
        self, llama: ollama.AsyncClient, here: Here
    ) -> None:
        for num_ctx in (2048, 8192, 4096):
            await llama.chat(model="auto", messages=CHAT, options={"num_ctx": num_ctx, "num_gpu": num_ctx})
        assert len(here.ollama.loads) == 1


class TestAnthropic:
    async def test_a_message(self, claude: anthropic.AsyncAnthropic) -> None:
        reply = await claude.messages.create(
            model="auto",
            max_tokens=100,
            system="Be brief.",
            messages=CHAT,
        )
        assert reply.type == "message"
        assert reply.model == "mistral:7b"
        assert reply.content[0].type == "text"
        assert reply.content[0].text
        assert reply.stop_reason == "end_turn"
        assert reply.usage.input_tokens > 0
        assert reply.usage.output_tokens > 0
        assert (reply.model_extra or {})["router"]["category"] == "simple_chat"

    async def test_a_stream(self, claude: anthropic.AsyncAnthropic) -> None:
        asked: Any = {"model": "auto", "max_tokens": 100, "messages": CHAT}
        whole = await claude.messages.create(**asked)
        async with claude.messages.stream(**asked) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert whole.content[0].type == "text"
        assert text == whole.content[0].text
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens > 0

    async def test_thinking_comes_first_in_a_block_of_its_own(self, claude: anthropic.AsyncAnthropic) -> None:
        asked: Any = {
            "model": "gpt-oss:20b",
            "max_tokens": 2000,
            "messages": CHAT,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }
        whole = await claude.messages.create(**asked)
        assert [block.type for block in whole.content] == ["thinking", "text"]
        async with claude.messages.stream(**asked) as stream:
            final = await stream.get_final_message()
        assert [block.type for block in final.content] == ["thinking", "text"]

    async def test_tools_and_their_results(self, start: Start) -> None:
        call = Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
        here = await start(fake=FakeOllama(fleet_models(HERE), reply=lambda *_: call))
        tool: Any = {"name": "get_weather", "input_schema": WEATHER["parameters"]}
        question: Any = {"role": "user", "content": "Weather in Oslo?"}
        async with anthropic.AsyncAnthropic(base_url=here.url, api_key="x", max_retries=0) as claude:
            asked: Any = {"model": "auto", "max_tokens": 99, "tools": [tool], "messages": [question]}
            whole = await claude.messages.create(**asked)
            assert whole.stop_reason == "tool_use"
            use = whole.content[-1]
            assert use.type == "tool_use"
            assert use.input == {"city": "Oslo"}
            async with claude.messages.stream(**asked) as stream:
                final = await stream.get_final_message()
            streamed = final.content[-1]
            assert streamed.type == "tool_use"
            assert streamed.input == {"city": "Oslo"}
            result: Any = {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"}],
            }
            said: Any = {"role": "assistant", "content": whole.content}
            await claude.messages.create(**{**asked, "messages": [question, said, result]})
        sent = here.asked()[-1]["messages"]
        assert sent[-1]["role"] == "tool"
        assert sent[-1]["tool_name"] == "get_weather"
        assert sent[-1]["content"] == "rain"

    async def test_an_image(self, claude: anthropic.AsyncAnthropic, here: Here) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What animal is this?"}]
        reply = await claude.messages.create(
            model="auto", max_tokens=50, messages=[{"role": "user", "content": content}]
        )
        assert reply.model == "llava:13b"
        assert here.asked()[-1]["messages"][0]["images"] == [PNG]

    async def test_counting_tokens_asks_no_model(self, claude: anthropic.AsyncAnthropic, here: Here) -> None:
        reply = await claude.messages.count_tokens(model="auto", messages=CHAT)
        assert 3 < reply.input_tokens < 40
        assert here.asked() == []

    async def test_mistakes_have_anthropics_shape(self, claude: anthropic.AsyncAnthropic) -> None:
        content: Any = [{"type": "image", "source": {"type": "url", "url": "http://example.org/a.png"}}]
        with pytest.raises(anthropic.BadRequestError, match="never fetches"):
            await claude.messages.create(
                model="auto", max_tokens=5, messages=[{"role": "user", "content": content}]
            )
        with pytest.raises(anthropic.NotFoundError):
            await claude.messages.create(model="no-such:1b", max_tokens=5, messages=CHAT)


def _without_times(line: bytes) -> dict[str, Any]:
    import json

    told: dict[str, Any] = json.loads(line)
    for name in ("created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"):
        told.pop(name, None)
    told.pop("router", None)
    return told
