"""The providers that pass the contract, each with a server of its own kind behind it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import pytest

from llm_router.answer import Chunk, Delta, Final
from llm_router.providers.base import ChatCall, Provider, Timeouts
from llm_router.providers.embedded import EmbeddedProvider
from llm_router.providers.ollama import OllamaProvider
from llm_router.providers.openai_compat import OpenAICompatProvider
from llm_router.request import RouteRequest
from llm_router.testing.fake_ollama import FakeOllama

TIMEOUTS = Timeouts(connect_s=2.0, control_s=10.0, first_byte_s=60.0, idle_s=30.0)
REAL_SERVER = os.environ.get("LLM_ROUTER_TEST_OLLAMA")
REAL_MODEL = os.environ.get("LLM_ROUTER_TEST_OLLAMA_MODEL")


@dataclass(frozen=True)
class Subject:
    """One provider under test and what its server can show. ``None`` means: nothing to show it with."""

    provider: Provider
    model: str
    fake: FakeOllama | None = None
    num_ctx: int | None = None
    toolless: str | None = None
    blind: str | None = None
    tool_model: str | None = None
    thinker: str | None = None
    embedder: str | None = None
    cuts_long_prompts: bool = False
    tells_capabilities: bool = True
    tells_resident: bool = True

    def call(
        self, request: RouteRequest | str, *, model: str | None = None, think: bool | str | None = None
    ) -> ChatCall:
        if isinstance(request, str):
            options = {"temperature": 0, "seed": 7, "num_predict": 24}
            request = RouteRequest.from_text(request, options=options)
        return ChatCall(model or self.model, request, num_ctx=self.num_ctx, think=think)

    async def answer(self, request: RouteRequest | str, *, model: str | None = None) -> Whole:
        return Whole([chunk async for chunk in self.provider.chat(self.call(request, model=model))])


class Whole:
    """A whole answer, and the chunks it came in."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self.deltas = [chunk for chunk in chunks if isinstance(chunk, Delta)]
        self.finals = [chunk for chunk in chunks if isinstance(chunk, Final)]
        self.final = self.finals[-1]
        self.text = "".join(delta.text for delta in self.deltas)
        self.thinking = "".join(delta.thinking for delta in self.deltas)


@pytest.fixture(scope="session")
def embedded_provider() -> Iterator[EmbeddedProvider]:
    """One engine for all tests, each of which has an event loop of its own."""
    provider = EmbeddedProvider(num_ctx=1024, timeouts=TIMEOUTS)
    yield provider
    asyncio.run(provider.close())


@pytest.fixture(
    params=[
        "ollama-fake",
        "openai-fake",
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param(
            "ollama-real",
            marks=[
                pytest.mark.ollama,
                pytest.mark.skipif(REAL_SERVER is None, reason="LLM_ROUTER_TEST_OLLAMA names no server"),
            ],
        ),
    ]
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "embedded":
        provider: EmbeddedProvider = request.getfixturevalue("embedded_provider")
        name = provider.model_name
        yield Subject(provider, name, toolless=name, blind=name)
    elif request.param == "ollama-real":
        async for real in _real_ollama():
            yield real
    else:
        async with FakeOllama(call_tools=True) as fake:
            faked = _fake_ollama(fake) if request.param == "ollama-fake" else _fake_openai(fake)
            yield faked
            await faked.provider.close()


def _fake_ollama(fake: FakeOllama) -> Subject:
    return Subject(
        OllamaProvider("spark", fake.url, timeouts=TIMEOUTS),
        "mistral:7b",
        fake,
        num_ctx=4096,
        toolless="phi4",
        blind="mistral:7b",
        tool_model="mistral:7b",
        thinker="gpt-oss:20b",
        embedder="nomic-embed-text",
    )


def _fake_openai(fake: FakeOllama) -> Subject:
    return Subject(
        OpenAICompatProvider("v1", f"{fake.url}/v1", timeouts=TIMEOUTS),
        "mistral:7b",
        fake,
        toolless="phi4",
        blind="mistral:7b",
        tool_model="mistral:7b",
        thinker="gpt-oss:20b",
        embedder="nomic-embed-text",
        cuts_long_prompts=True,  # as Ollama's own /v1 does
        tells_capabilities=False,
        tells_resident=False,
    )


async def _real_ollama() -> AsyncIterator[Subject]:
    provider = OllamaProvider("real", REAL_SERVER or "", timeouts=TIMEOUTS)
    snapshot = await provider.snapshot()
    assert snapshot.reachable, f"{REAL_SERVER} is not reachable: {snapshot.problem}"
    by_size = sorted(snapshot.installed.values(), key=lambda model: (model.size_bytes, model.name))

    def smallest(has: str, hasnt: str = "") -> str | None:
        able = (m for m in by_size if has in (m.capabilities or ()) and hasnt not in (m.capabilities or ()))
        return next((model.name for model in able), None)

    yield Subject(
        provider,
        REAL_MODEL or smallest("completion") or "the server has no model that completes",
        num_ctx=1024,
        toolless=smallest("completion", "tools"),
        blind=smallest("completion", "vision"),
        embedder=smallest("embedding", "completion"),
    )
    await provider.close()
