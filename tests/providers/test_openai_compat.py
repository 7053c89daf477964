"""What OpenAI-compatible servers send beyond the common, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from llm_router.answer import Chunk, Delta, Final, Usage
from llm_router.errors import BadReply, CapabilityMissing, ContextExceeded, StreamBroken
from llm_router.fleet.schema import Quirks, ReasoningMarkers
from llm_router.providers.base import ChatCall, EmbedCall, Timeouts
from llm_router.providers.openai_compat import OpenAICompatProvider
from llm_router.request import ApiKind, Image, Message, RouteRequest, ToolCall

if TYPE_CHECKING:
    from tests.providers.conftest import Scripted

LIMITS = Timeouts(connect_s=2.0, control_s=5.0, first_byte_s=10.0, idle_s=10.0)


@pytest.fixture
async def provider(scripted: Scripted) -> AsyncIterator[OpenAICompatProvider]:
    provider = OpenAICompatProvider("lab", f"{scripted.url}/v1/", timeouts=LIMITS, api_key="sesame")
    yield provider
    await provider.close()


async def ask(
    provider: OpenAICompatProvider, request: RouteRequest | str = "hello", quirks: Quirks | None = None
) -> list[Chunk]:
    if isinstance(request, str):
        request = RouteRequest.from_text(request)
    return [chunk async for chunk in provider.chat(ChatCall("m", request, quirks=quirks or Quirks()))]


def text_of(chunks: Sequence[Chunk]) -> tuple[str, str]:
    deltas = [chunk for chunk in chunks if isinstance(chunk, Delta)]
    return "".join(delta.thinking for delta in deltas), "".join(delta.text for delta in deltas)


def content(*texts: str) -> list[str]:
    return [f'{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}' for text in texts]


STOP = '{"choices":[{"delta":{},"finish_reason":"stop"}]}'


async def test_the_path_the_key_and_the_body_are_right(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(*content("hi"), STOP)
    await ask(provider)
    ((path, body, headers),) = scripted.asked
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert headers["Authorization"] == "Bearer sesame"


async def test_a_stream_of_llama_server_gives_text_counts_and_seconds(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(
        '{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"model":"tiny"}',
        *content("Par", "is."),
        STOP,
        '{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":2},'
        '"timings":{"prompt_ms":100.0,"predicted_ms":50.0}}',
    )
    assert await ask(provider) == [
        Delta("Par"),
        Delta("is."),
        Final("tiny", "stop", Usage(12, 2, None, 0.1, 0.05)),
    ]


async def test_think_tags_in_the_text_become_thinking(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(*content("<th", "ink>so", " so</thi", "nk>\\n\\nfour"), STOP)
    assert text_of(await ask(provider)) == ("so so", "four")


async def test_reasoning_of_its_own_field_is_thinking(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events('{"choices":[{"delta":{"reasoning_content":"so"}}]}', *content("four"), STOP)
    assert text_of(await ask(provider)) == ("so", "four")


async def test_the_markers_of_a_model_are_used_in_place_of_think_tags(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    markers = ReasoningMarkers(answer_start="[BEGIN]", answer_end="[END]")
    scripted.events(*content("steps [BE", "GIN] four[", "END] noise"), STOP)
    chunks = await ask(provider, quirks=Quirks(reasoning_markers=markers))
    assert text_of(chunks) == ("steps ", "four")


async def test_what_is_held_back_at_the_end_is_not_lost(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(*content("<thi"), STOP)
    assert text_of(await ask(provider)) == ("", "<thi")


async def test_tool_calls_in_pieces_come_whole_before_the_end(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"weather","arguments":""}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":"}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\"Lyon\\"}"}}]}}]}',
        '{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}',
    )
    first, last = await ask(provider)
    assert first == Delta(tool_calls=(ToolCall("weather", {"city": "Lyon"}, "c1"),))
    assert isinstance(last, Final) and last.done_reason == "stop"


async def test_a_tool_call_that_breaks_off_is_a_bad_reply(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{"}}]}}]}', STOP
    )
    with pytest.raises(BadReply, match="tool call"):
        await ask(provider)


async def test_an_error_inside_the_stream_is_read_like_one_outside(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(
        '{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size"}}'
    )
    with pytest.raises(ContextExceeded):
        await ask(provider)
    scripted.events(*content("hi"), '{"error":{"code":500,"message":"it broke"}}')
    with pytest.raises(StreamBroken, match="it broke"):
        await ask(provider)


async def test_done_without_a_reason_is_an_end_and_nothing_at_all_is_none(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(*content("hi"))
    assert (await ask(provider))[-1] == Final("m", "stop")
    scripted.body = scripted.body.removesuffix(b"data: [DONE]\n\n")
    with pytest.raises(StreamBroken, match="without its last event"):
        await ask(provider)


async def test_a_reply_that_is_no_stream_is_a_bad_reply(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.body = b'{"choices":[{"message":{"content":"hi"}}]}'
    with pytest.raises(BadReply):
        await ask(provider)


async def test_a_raw_prompt_is_completed_and_its_text_left_as_it_is(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.events(
        '{"choices":[{"text":"<think>"}]}', '{"choices":[{"text":" x","finish_reason":"length"}]}'
    )
    request = RouteRequest((Message("user", "def f("),), kind=ApiKind.GENERATE, raw=True)
    chunks = await ask(provider, request)
    assert scripted.asked[0][0] == "/v1/completions"
    assert scripted.asked[0][1]["prompt"] == "def f("
    assert text_of(chunks) == ("", "<think> x")
    assert isinstance(chunks[-1], Final) and chunks[-1].done_reason == "length"


async def test_a_raw_prompt_with_an_image_is_refused(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    message = Message("user", "look", (Image("image/png", "iVBORw0KGgo="),))
    request = RouteRequest((message,), kind=ApiKind.GENERATE, raw=True)
    with pytest.raises(CapabilityMissing):
        await ask(provider, request)
    assert not scripted.asked


async def test_too_few_vectors_are_a_bad_reply(scripted: Scripted, provider: OpenAICompatProvider) -> None:
    scripted.body = b'{"data":[{"index":0,"embedding":[1.0]}]}'
    with pytest.raises(BadReply, match="1 vectors for 2 texts"):
        await provider.embed(EmbedCall("e", ("a", "b")))


async def test_a_server_of_one_model_has_it_resident(
    scripted: Scripted, provider: OpenAICompatProvider
) -> None:
    scripted.body = b'{"object":"list","data":[{"id":"tiny","owned_by":"llamacpp","meta":{"n_ctx":2048}}]}'
    snapshot = await provider.snapshot()
    assert scripted.asked[0][0] == "/v1/models"
    assert snapshot.url == scripted.url
    resident = snapshot.find_resident("tiny")
    assert resident is not None and resident.context_length == 2048


@pytest.mark.parametrize("closes", [True, False])
async def test_a_stream_after_another_loses_nothing_where_the_server_closes_its_connections(
    closes: bool,
) -> None:
    """As llama-server does after a stream; where it does not, the connection is used again."""
    connections = 0

    async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with closing(writer):
            while head := await head_of(reader):
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r")[0]))
                events = "".join(f"data: {one}\n\n" for one in (*content("hi"), STOP, "[DONE]")).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(
                    b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(events), events)
                )
                if closes:
                    return

    async with await asyncio.start_server(streams, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = OpenAICompatProvider("lab", f"http://127.0.0.1:{port}", timeouts=LIMITS)
        for _ in range(4):
            assert text_of(await ask(provider)) == ("", "hi")
            pool = provider._http._pool_here()
            assert pool is not None
            async with asyncio.timeout(10):
                while any(kept.rests_until_s > kept.loop.time() for kept in pool._resting):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        await provider.close()
    assert connections == (4 if closes else 1)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """Empty where nothing more is asked for."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
