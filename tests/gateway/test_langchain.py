"""LangChain's own clients for OpenAI and Ollama against the gateway, whole and streamed."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from tests.gateway.conftest import HERE, Here, Start

from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import Answer, FakeOllama, ToolCall

pytest.importorskip("langchain_openai")
pytest.importorskip("langchain_ollama")

TASK = "What's 2+2?"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 64).decode()


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


Chat = Callable[..., Any]


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    """Makes a chat model; what it leaves open is closed at the end of the test."""
    from langchain_ollama import ChatOllama
    from langchain_openai import ChatOpenAI

    openai: Any = ChatOpenAI
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(httpx.AsyncClient())

        def make(kind: str, url: str, model: str = "auto", **more: Any) -> Any:
            if kind == "openai":
                address = {"base_url": f"{url}/v1", "api_key": "none"}
                return openai(model=model, http_async_client=connections, max_retries=0, **address, **more)
            llm = ChatOllama(model=model, base_url=url, **more)
            stack.push_async_callback(llm._async_client._client.aclose)
            return llm

        yield make


BOTH = pytest.mark.parametrize("kind", ["openai", "ollama"])


@BOTH
async def test_a_chat_names_the_model_that_answered(here: Here, chat: Chat, kind: str) -> None:
    reply = await chat(kind, here.url).ainvoke(TASK)
    assert reply.content.startswith("mistral:7b heard")
    told = reply.response_metadata
    assert (told.get("model_name") or told["model"]) == "mistral:7b"
    assert reply.usage_metadata["total_tokens"] > 0


@BOTH
async def test_a_stream_gives_the_same_words(here: Here, chat: Chat, kind: str) -> None:
    llm = chat(kind, here.url)
    chunks = [chunk async for chunk in llm.astream(TASK)]
    assert len(chunks) > 2
    assert "".join(chunk.content for chunk in chunks) == (await llm.ainvoke(TASK)).content


@BOTH
async def test_tools_are_called_and_their_results_go_back(start: Start, chat: Chat, kind: str) -> None:
    def reply(body: dict[str, Any]) -> Answer | None:
        if any(message["role"] == "tool" for message in body["messages"]):
            return None
        return Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))

    here = await start(fake=FakeOllama(fleet_models(HERE), reply=reply))
    llm = chat(kind, here.url).bind_tools([get_weather])
    asked: list[Any] = [("user", "How is the weather in Oslo?")]
    first = await llm.ainvoke(asked)
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Oslo"})]
    chunks = [chunk async for chunk in llm.astream(asked)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [call["name"] for call in whole.tool_calls] == ["get_weather"]
    result = {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "rain"}
    last = await llm.ainvoke([*asked, first, result])
    assert last.content.startswith("gpt-oss:20b heard")
    sent = here.asked()[-1]["messages"]
    assert sent[-2]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": {"city": "Oslo"}}
    assert sent[-1]["content"] == "rain"


@BOTH
async def test_a_form_gives_an_instance(start: Start, chat: Chat, kind: str) -> None:
    fake = FakeOllama(fleet_models(HERE), reply=lambda _: '{"name": "Ada", "age": 36}')
    here = await start(fake=fake)
    llm = chat(kind, here.url).with_structured_output(Person, method="json_schema")
    assert await llm.ainvoke("Who is it?") == Person(name="Ada", age=36)
    assert here.asked()[-1]["format"]["required"] == ["name", "age"]
    assert here.asked()[-1]["model"] == "qwen2.5:14b"


@BOTH
async def test_a_picture_goes_to_a_model_that_sees(here: Here, chat: Chat, kind: str) -> None:
    content: list[Any] = [
        {"type": "text", "text": "What animal is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    await chat(kind, here.url).ainvoke([("user", content)])
    assert here.asked()[-1]["model"] == "llava:13b"
    assert here.asked()[-1]["messages"][-1]["images"] == [PNG]


@BOTH
async def test_a_real_name_and_options_are_honoured(here: Here, chat: Chat, kind: str) -> None:
    await chat(kind, here.url, model="gemma2:9b", temperature=0.1, seed=7).ainvoke(TASK)
    assert here.asked()[-1]["model"] == "gemma2:9b"
    options = here.asked()[-1]["options"]
    assert (options["temperature"], options["seed"]) == (0.1, 7)


async def test_embeddings(here: Here) -> None:
    from langchain_ollama import OllamaEmbeddings
    from langchain_openai import OpenAIEmbeddings

    openai: Any = OpenAIEmbeddings
    ours: Any = OllamaEmbeddings(model="auto", base_url=here.url)
    async with httpx.AsyncClient() as connections:
        theirs = openai(
            model="auto",
            base_url=f"{here.url}/v1",
            api_key="none",
            check_embedding_ctx_length=False,
            http_async_client=connections,
        )
        first = await theirs.aembed_documents(["one", "two"])
    second = await ours.aembed_documents(["one", "two"])
    await ours._async_client._client.aclose()
    assert len(first) == len(second) == 2
    assert first[0] == pytest.approx(second[0], abs=1e-6)
    assert first[0] != first[1]
