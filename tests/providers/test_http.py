"""Connections: kept where that is safe, given back with the event loop they belong to."""

from __future__ import annotations

import asyncio
import gc

from llm_router.answer import Chunk
from llm_router.providers.base import ChatCall
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import RouteRequest
from llm_router.testing.fake_ollama import FakeOllama


async def answer(provider: OllamaProvider) -> list[Chunk]:
    call = ChatCall("mistral:7b", RouteRequest.from_text("hello"))
    return [chunk async for chunk in provider.chat(call)]


def test_one_event_loop_after_another_can_use_a_provider_that_nobody_closed() -> None:
    with FakeOllama().in_thread() as fake:
        provider = OllamaProvider("spark", fake.url)
        for _ in range(3):
            assert len(asyncio.run(answer(provider))) > 1
        gc.collect()  # a connection left open would warn here, and a warning is an error


async def test_a_whole_answer_is_no_disconnect_to_the_server() -> None:
    async with FakeOllama() as fake:
        provider = OllamaProvider("spark", fake.url)
        for _ in range(3):
            await answer(provider)
        await provider.close()
        assert fake.cancelled == 0


async def test_an_address_with_a_path_keeps_it() -> None:
    async with FakeOllama() as fake:
        provider = OllamaProvider("spark", f"{fake.url}/ollama/")
        snapshot = await provider.snapshot()
        assert fake.requests[0].path == "/ollama/api/version"
        assert "not Ollama" in snapshot.problem
        await provider.close()
