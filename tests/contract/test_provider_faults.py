"""Which error each failure of a server becomes: one table, the same for every provider that speaks HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web
from tests.support.aiohttp_server import serving

from llm_router.answer import Chunk, Delta
from llm_router.errors import (
    BadReply,
    CapabilityMissing,
    ContextExceeded,
    HostBusy,
    HostRefused,
    HostTimeout,
    HostUnreachable,
    ModelNotInstalled,
    ModelUnusable,
    OutOfMemory,
    ProviderError,
    RequestRejected,
    RunnerFailed,
    StreamBroken,
)
from llm_router.http1.listening import stop_listening
from llm_router.providers.base import ChatCall, EmbedCall, Timeouts
from llm_router.providers.ollama import OllamaProvider
from llm_router.providers.openai_compat import OpenAICompatProvider
from llm_router.request import Message, RouteRequest, Tool
from llm_router.testing.fake_ollama import FakeOllama, Fault

HttpProvider = OllamaProvider | OpenAICompatProvider
MODEL = "mistral:7b"
QUICK = Timeouts(connect_s=0.5, control_s=0.5, first_byte_s=0.3, idle_s=0.3)
PATIENT = Timeouts(connect_s=2.0, control_s=10.0, first_byte_s=30.0, idle_s=30.0)


def ollama(url: str, timeouts: Timeouts) -> HttpProvider:
    return OllamaProvider("spark", url, timeouts=timeouts)


def openai(url: str, timeouts: Timeouts) -> HttpProvider:
    return OpenAICompatProvider("v1", url, timeouts=timeouts)


MakeProvider = Callable[[str, Timeouts], HttpProvider]


@pytest.fixture(params=[ollama, openai])
def make(request: pytest.FixtureRequest) -> MakeProvider:
    function: MakeProvider = request.param
    return function


def call(text: str = "Say something with several words.") -> ChatCall:
    return ChatCall(MODEL, RouteRequest.from_text(text))


async def streamed(provider: HttpProvider, chat: ChatCall) -> list[Chunk]:
    """As a caller who shows each piece at once."""
    chunks: list[Chunk] = []
    async for chunk in provider.chat(chat):
        chunks.append(chunk)
    return chunks


async def collected(provider: HttpProvider, chat: ChatCall) -> list[Chunk]:
    """As a caller who waits for the whole answer, on a task of its own."""

    async def whole() -> list[Chunk]:
        return [chunk async for chunk in provider.chat(chat)]

    return await asyncio.create_task(whole())


Ask = Callable[[HttpProvider, ChatCall], Awaitable[list[Chunk]]]


@dataclass(frozen=True)
class Failure:
    """A fault, with its settings, and what it means natively and, where it differs, through /v1."""

    fault: Fault
    means: type[ProviderError]
    after: int = 1
    status: int | None = None
    timeouts: Timeouts = PATIENT
    through_v1: type[ProviderError] | None = None

    def __str__(self) -> str:
        return f"{self.fault.value}-{self.status or self.after}"


TABLE = [
    Failure(Fault.NOT_FOUND, ModelNotInstalled),
    Failure(Fault.NO_TOOLS, CapabilityMissing),
    Failure(Fault.OOM, OutOfMemory),
    Failure(Fault.BUSY, HostBusy),
    Failure(Fault.UNKNOWN_ARCHITECTURE, ModelUnusable),
    Failure(Fault.RUNNER_DIED, RunnerFailed),
    Failure(Fault.DROP_BEFORE_FIRST_BYTE, HostUnreachable),
    Failure(Fault.HTML, BadReply),
    Failure(Fault.HTML, BadReply, status=200),
    Failure(Fault.HTML, BadReply, status=404),
    Failure(Fault.REDIRECT, BadReply),
    Failure(Fault.REDIRECT, BadReply, status=301),
    Failure(Fault.SLOW_LOAD, HostTimeout, timeouts=QUICK),
    Failure(Fault.WEDGED, HostTimeout, timeouts=QUICK),
    Failure(Fault.SLOW_TOKENS, HostTimeout, after=0, timeouts=QUICK),
    Failure(Fault.SLOW_TOKENS, StreamBroken, after=2, timeouts=QUICK),
    Failure(Fault.DROP_MID_STREAM, HostUnreachable, after=0),
    Failure(Fault.DROP_MID_STREAM, StreamBroken, after=2),
    Failure(Fault.ERROR_MID_STREAM, RunnerFailed, after=0, through_v1=BadReply),
    Failure(Fault.ERROR_MID_STREAM, StreamBroken, after=2),
    Failure(Fault.GARBAGE_LINE, BadReply, after=0),
    Failure(Fault.GARBAGE_LINE, StreamBroken, after=2),
    Failure(Fault.HALF_LINE, BadReply, after=0),
    Failure(Fault.HALF_LINE, StreamBroken, after=2),
    Failure(Fault.INVALID_UTF8, BadReply, after=0),
    Failure(Fault.INVALID_UTF8, StreamBroken, after=2),
    Failure(Fault.NO_DONE, StreamBroken),
]


@pytest.mark.parametrize("ask", [streamed, collected])
@pytest.mark.parametrize("failure", TABLE, ids=str)
async def test_each_failure_has_one_class(make: MakeProvider, failure: Failure, ask: Ask) -> None:
    async with FakeOllama() as fake:
        fake.fault(failure.fault, after=failure.after, status=failure.status)
        provider = make(fake.url, failure.timeouts)
        means = failure.through_v1 if failure.through_v1 and provider.kind == "openai" else failure.means
        with pytest.raises(ProviderError) as caught:
            await ask(provider, call())
        await provider.close()
    error = caught.value
    assert type(error) is means, f"{type(error).__name__}: {error}"
    assert (error.host, error.model) == (provider.name, MODEL)
    assert error.why, "every error says why"


async def test_a_failure_keeps_what_was_already_streamed(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        fake.fault(Fault.DROP_MID_STREAM, after=2)
        provider = make(fake.url, PATIENT)
        seen: list[str] = []
        with pytest.raises(StreamBroken):
            async for chunk in provider.chat(call("one two three four")):
                assert isinstance(chunk, Delta)
                seen.append(chunk.text)
        assert "".join(seen) == "mistral:7b heard:"
        await provider.close()


async def test_the_same_provider_answers_again_once_the_server_is_well(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        provider = make(fake.url, PATIENT)
        for fault in (Fault.RUNNER_DIED, Fault.DROP_BEFORE_FIRST_BYTE, Fault.GARBAGE_LINE):
            fake.fault(fault, times=1)
            with pytest.raises(ProviderError):
                await streamed(provider, call())
        assert len(await streamed(provider, call())) > 1
        await provider.close()


async def test_lines_cut_inside_a_character_are_put_together(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        fake.fault(Fault.SPLIT_LINES)
        provider = make(fake.url, PATIENT)
        chunks = await streamed(provider, call("Grüße 안녕하세요 🚀"))
        text = "".join(chunk.text for chunk in chunks if isinstance(chunk, Delta))
        assert text.endswith("Grüße 안녕하세요 🚀")
        await provider.close()


async def test_an_empty_answer_is_an_end_without_pieces(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        fake.fault(Fault.EMPTY_ANSWER)
        provider = make(fake.url, PATIENT)
        assert len(await streamed(provider, call())) == 1
        await provider.close()


async def test_a_request_waits_for_a_slow_load_within_its_limit(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        fake.fault(Fault.SLOW_LOAD, times=1)
        provider = make(fake.url, PATIENT)
        answer = asyncio.create_task(streamed(provider, call()))
        await fake.until(lambda server: server.loading == MODEL)
        assert not answer.done()
        fake.release()
        assert len(await answer) > 1
        await provider.close()


async def test_the_limits_of_a_call_go_before_those_of_the_provider(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        fake.fault(Fault.SLOW_LOAD)
        provider = make(fake.url, PATIENT)
        with pytest.raises(HostTimeout, match=r"nothing came for 0\.3 s"):
            await streamed(provider, ChatCall(MODEL, RouteRequest.from_text("hello"), timeouts=QUICK))
        await provider.close()


@pytest.mark.parametrize(
    ("fault", "means"),
    [
        (Fault.NOT_FOUND, ModelNotInstalled),
        (Fault.BUSY, HostBusy),
        (Fault.OOM, OutOfMemory),
        (Fault.RUNNER_DIED, RunnerFailed),
        (Fault.HTML, BadReply),
        (Fault.REDIRECT, BadReply),
        (Fault.DROP_BEFORE_FIRST_BYTE, HostUnreachable),
    ],
)
async def test_embedding_fails_with_the_same_classes(
    make: MakeProvider, fault: Fault, means: type[ProviderError]
) -> None:
    async with FakeOllama() as fake:
        fake.fault(fault)
        provider = make(fake.url, PATIENT)
        with pytest.raises(means):
            await provider.embed(EmbedCall("nomic-embed-text", ("text",)))
        await provider.close()


async def test_a_chat_model_asked_to_embed_is_a_missing_capability(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        provider = make(fake.url, PATIENT)
        with pytest.raises(CapabilityMissing):
            await provider.embed(EmbedCall(MODEL, ("text",)))
        await provider.close()


async def test_an_embedder_asked_to_chat_is_a_missing_capability(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        provider = make(fake.url, PATIENT)
        with pytest.raises(CapabilityMissing):
            await streamed(provider, ChatCall("nomic-embed-text", RouteRequest.from_text("hello")))
        await provider.close()


async def test_a_request_that_is_no_unicode_is_refused_before_it_is_sent(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        provider = make(fake.url, PATIENT)
        with pytest.raises(RequestRejected, match="not valid Unicode"):
            await streamed(provider, call("half a character: \ud83d"))
        assert not fake.requests
        await provider.close()


# Servers that are not what the configuration says.


@asynccontextmanager
async def tcp_server(answer: bytes | None) -> AsyncIterator[str]:
    """Accepts, sends ``answer`` where there is one, and then only listens."""
    finished = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None:
            writer.write(answer)
            await writer.drain()
        await finished.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        finished.set()
        await stop_listening(server)
        await server.wait_closed()


@asynccontextmanager
async def http_server(status: int, body: str, content_type: str = "application/json") -> AsyncIterator[str]:
    """Gives the same reply to every request."""

    async def reply(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=content_type)

    async with serving(reply) as url:
        yield url


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def test_a_closed_port_is_unreachable(make: MakeProvider) -> None:
    provider = make(f"http://127.0.0.1:{closed_port()}", PATIENT)
    with pytest.raises(HostUnreachable, match="connection refused") as caught:
        await streamed(provider, call())
    assert caught.value.hint
    snapshot = await provider.snapshot()
    assert not snapshot.reachable
    assert snapshot.problem == "connection refused"
    await provider.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[::1", "http://"])
async def test_an_address_that_is_none_is_unreachable(make: MakeProvider, url: str) -> None:
    provider = make(url, PATIENT)
    with pytest.raises(HostUnreachable, match="not an address"):
        await streamed(provider, call())
    assert not (await provider.snapshot()).reachable
    await provider.close()


async def test_a_server_that_never_answers_is_a_timeout(make: MakeProvider) -> None:
    async with tcp_server(None) as url:
        provider = make(url, QUICK)
        with pytest.raises(HostTimeout):
            await streamed(provider, call())
        snapshot = await provider.snapshot()
        assert not snapshot.reachable
        assert "nothing came for" in snapshot.problem
        await provider.close()


async def test_a_reply_that_trickles_does_not_hold_a_short_question_for_ever(make: MakeProvider) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    async with tcp_server(head) as url:
        provider = make(url, QUICK)
        assert "nothing came for" in (await provider.snapshot()).problem
        await provider.close()


@pytest.mark.parametrize(
    "noise", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x00\xff\xff", b"HTTP/9 nonsense\r\n\r\n"]
)
async def test_a_server_that_speaks_something_else_sends_a_bad_reply(
    make: MakeProvider, noise: bytes
) -> None:
    async with tcp_server(noise) as url:
        provider = make(url, PATIENT)
        with pytest.raises(BadReply):
            await streamed(provider, call())
        assert not (await provider.snapshot()).reachable
        await provider.close()


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, "hello", "text/plain"),
        (200, "{}", "application/json"),
        (200, "[]", "application/json"),
        (200, "", "application/json"),
        (404, "404 page not found", "text/plain"),
        (404, '{"detail":"Not Found"}', "application/json"),
    ],
)
async def test_a_web_server_that_is_no_model_server_sends_a_bad_reply(
    make: MakeProvider, status: int, body: str, content_type: str
) -> None:
    async with http_server(status, body, content_type) as url:
        provider = make(url, PATIENT)
        with pytest.raises(BadReply):
            await streamed(provider, call())
        with pytest.raises(BadReply):
            await provider.embed(EmbedCall(MODEL, ("text",)))
        snapshot = await provider.snapshot()
        assert not snapshot.reachable and snapshot.problem
        await provider.close()


@pytest.mark.parametrize(
    ("status", "text", "means"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, you sent 9000", ContextExceeded),
        (400, "request (9000 tokens) exceeds the available context size (4096 tokens)", ContextExceeded),
        (400, "the input length exceeds the context length", ContextExceeded),
        (400, "mistral is not a multimodal model", CapabilityMissing),
        (400, '"auto" tool choice requires --enable-auto-tool-choice', CapabilityMissing),
        (401, "Invalid API Key", HostRefused),
        (404, "The model `x` does not exist.", ModelNotInstalled),
        (422, "temperature must be non-negative", RequestRejected),
        (429, "Too many requests", HostBusy),
        (500, "unable to load model: /models/blobs/sha256-7baf", ModelUnusable),
        (500, "", RunnerFailed),
        (503, "Loading model", HostBusy),
    ],
)
async def test_other_servers_words_are_understood(
    make: MakeProvider, status: int, text: str, means: type[ProviderError]
) -> None:
    body = '{"error":{"message":"' + text.replace('"', '\\"') + '","code":null}}'
    async with http_server(status, body) as url:
        provider = make(url, PATIENT)
        with pytest.raises(ProviderError) as caught:
            await streamed(provider, call())
        assert type(caught.value) is means
        assert caught.value.status == status
        await provider.close()


async def test_a_tool_the_model_lacks_is_refused_before_it_loads(make: MakeProvider) -> None:
    async with FakeOllama() as fake:
        provider = make(fake.url, PATIENT)
        request = RouteRequest((Message("user", "hello"),), tools=(Tool("weather"),))
        with pytest.raises(CapabilityMissing):
            await streamed(provider, ChatCall("phi4", request))
        assert not fake.loads
        await provider.close()
