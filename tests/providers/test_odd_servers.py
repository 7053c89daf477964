"""Servers that answer oddly, slowly or in part: one model's trouble stays that model's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from tests.support import aiohttp_server

from llm_router.answer import Chunk, Delta, Final
from llm_router.errors import BadReply, HostRefused, ModelUnusable, ProviderError, StreamBroken
from llm_router.hosts.health import Health
from llm_router.hosts.watch import HostWatch
from llm_router.providers.base import ChatCall, EmbedCall, Timeouts
from llm_router.providers.ollama import OllamaProvider
from llm_router.providers.openai_compat import OpenAICompatProvider
from llm_router.request import RELOADING_OPTIONS, ApiKind, Message, RouteRequest, ToolCall

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LAST_LINE = {"model": "phi4", "done": True, "done_reason": "stop"}


class Ollama:
    """Two models, ``odd`` and ``fine``; a test replaces what a path answers and reads what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.ports: list[int] = []
        self.digest = "d1"
        self.version = "0.24.0"
        self.shows: dict[str, Any] = {}
        self.lines: list[Any] = [{"message": {"role": "assistant", "content": "hi"}}, LAST_LINE]
        self.status = 200
        self.missing: set[str] = set()
        self.hang = asyncio.Event()
        self.hanging = asyncio.Semaphore(0)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        model = body.get("model", "")
        self.asked.append(f"{request.path} {model}".strip())
        assert request.transport is not None
        self.ports.append(request.transport.get_extra_info("peername")[1])
        if request.path == "/api/show":
            shown = self.shows.get(model, {"capabilities": ["completion"], "model_info": {}})
            if shown == "hang":
                self.hanging.release()
                await self.hang.wait()
            return (
                web.json_response({"error": "oops"}, status=shown) if isinstance(shown, int) else _json(shown)
            )
        if request.path in ("/api/chat", "/api/generate"):
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            return web.Response(text=text, status=self.status, content_type="application/x-ndjson")
        if request.path in self.missing:
            return web.Response(text="404 page not found", status=404)
        return _json(self._told(request.path), status=self.status)

    def _told(self, path: str) -> object:
        tags = [{"name": f"{name}:latest", "digest": self.digest} for name in ("odd", "fine")]
        return {"/api/version": {"version": self.version}, "/api/tags": {"models": tags}}.get(path, {})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value), content_type="application/json", status=status)


@asynccontextmanager
async def serving(ollama: Ollama) -> AsyncIterator[Ollama]:
    async with aiohttp_server.serving(ollama.answer) as ollama.url:
        yield ollama
        ollama.hang.set()


@pytest.fixture
async def server() -> AsyncIterator[Ollama]:
    async with serving(Ollama()) as ollama:
        yield ollama


@pytest.fixture
async def provider(server: Ollama) -> AsyncIterator[OllamaProvider]:
    provider = OllamaProvider("spark", server.url, timeouts=Timeouts(control_s=2.0))
    yield provider
    await provider.close()


async def answer(provider: OllamaProvider | OpenAICompatProvider, model: str = "phi4") -> list[Chunk]:
    return [chunk async for chunk in provider.chat(ChatCall(model, RouteRequest.from_text("hello")))]


def tool_line(arguments: object) -> dict[str, Any]:
    calls = [{"function": {"name": "weather", "arguments": arguments}}]
    return {"message": {"role": "assistant", "content": "", "tool_calls": calls}}


@pytest.mark.parametrize("arguments", ["not json", "[1]", "3", '"text"'])
async def test_arguments_of_a_tool_call_that_are_no_object_are_a_bad_reply(
    server: Ollama, provider: OllamaProvider, arguments: str
) -> None:
    server.lines = [tool_line(arguments), LAST_LINE]
    with pytest.raises(BadReply, match="tool call") as caught:
        await answer(provider)
    assert (caught.value.host, caught.value.model) == ("spark", "phi4")


async def test_arguments_as_text_are_read_where_they_are_an_object(
    server: Ollama, provider: OllamaProvider
) -> None:
    server.lines = [tool_line('{"city": "Lyon"}'), LAST_LINE]
    first = (await answer(provider))[0]
    assert isinstance(first, Delta)
    assert first.tool_calls[0].arguments == {"city": "Lyon"}


async def test_null_means_nothing_in_every_field_of_a_line(server: Ollama, provider: OllamaProvider) -> None:
    nulls: dict[str, Any] = dict.fromkeys(("content", "thinking", "tool_calls"))
    last: dict[str, Any] = dict.fromkeys(("message", "response", "thinking", "logprobs", "load_duration"))
    server.lines = [
        {"message": nulls, "logprobs": None, "done": False, "done_reason": None, "model": None},
        {"message": {**nulls, "content": "hi"}},
        {"message": {"tool_calls": [{"id": None, "function": {"name": "a", "arguments": None}}]}},
        {**last, **LAST_LINE, "eval_duration": None, "prompt_eval_duration": None, "error": None},
    ]
    text, call, final = await answer(provider)
    assert isinstance(text, Delta) and isinstance(call, Delta) and isinstance(final, Final)
    assert (text.text, call.tool_calls[0].arguments, final.done_reason) == ("hi", {}, "stop")


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
async def test_a_server_that_speaks_only_part_of_the_api_is_told_so(
    server: Ollama, provider: OllamaProvider, path: str
) -> None:
    server.missing.add(path)
    snapshot = await provider.snapshot()
    assert not snapshot.reachable
    assert f"it has no {path}" in (snapshot.problem or "")


@pytest.mark.parametrize("shown", [{"model_info": None}, {"model_info": 3}, [], 500, 404])
async def test_one_odd_model_leaves_the_host_and_its_other_models_usable(
    server: Ollama, provider: OllamaProvider, shown: object
) -> None:
    server.shows["odd"] = server.shows["odd:latest"] = shown
    snapshot = await provider.snapshot()
    assert snapshot.reachable, snapshot.problem
    assert set(snapshot.installed) == {"odd:latest", "fine:latest"}
    assert snapshot.installed["fine:latest"].capabilities == frozenset({"completion"})


async def test_one_slow_model_leaves_the_host_usable_and_is_not_waited_for_again_at_once(
    server: Ollama, provider: OllamaProvider
) -> None:
    server.shows["odd:latest"] = "hang"
    quick = OllamaProvider("spark", server.url, timeouts=Timeouts(control_s=0.4))
    for _ in range(2):
        snapshot = await quick.snapshot()
        assert snapshot.reachable, snapshot.problem
        assert snapshot.installed["fine:latest"].capabilities == frozenset({"completion"})
    assert server.asked.count("/api/show odd:latest") == 1
    await quick.close()


async def test_a_passing_failure_to_tell_details_is_asked_again_and_a_success_is_kept(
    server: Ollama, provider: OllamaProvider
) -> None:
    server.shows["odd:latest"] = 500
    assert (await provider.snapshot()).installed["odd:latest"].capabilities is None
    server.shows.clear()
    for _ in range(2):
        assert (await provider.snapshot()).installed["odd:latest"].capabilities == frozenset({"completion"})
    assert server.asked.count("/api/show odd:latest") == 2
    assert server.asked.count("/api/show fine:latest") == 1


async def test_another_file_or_another_server_version_is_asked_anew(
    server: Ollama, provider: OllamaProvider
) -> None:
    await provider.snapshot()
    server.digest = "d2"
    assert (await provider.snapshot()).installed["odd:latest"].digest == "d2"
    server.version = "0.30.0"
    await provider.snapshot()
    assert server.asked.count("/api/show odd:latest") == 3


async def test_a_snapshot_that_fails_leaves_no_task_behind(server: Ollama) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/tags":
            return web.json_response({"error": "oops"}, status=500)
        if request.path == "/api/ps":
            await server.hang.wait()
        return _json({"version": "0.24.0"})

    other = Ollama()
    other.answer = half  # type: ignore[method-assign]
    async with serving(other) as broken:
        provider = OllamaProvider("spark", broken.url)
        before = asyncio.all_tasks()
        snapshot = await provider.snapshot()
        assert not snapshot.reachable
        ours = [
            task
            for task in asyncio.all_tasks() - before
            if "OllamaProvider" in repr(task) or "HttpHost" in repr(task)
        ]
        assert ours == []
        server.hang.set()
        await provider.close()


async def test_two_live_event_loops_keep_a_connection_each(server: Ollama, provider: OllamaProvider) -> None:
    await answer(provider)
    await asyncio.to_thread(asyncio.run, answer(provider))
    await answer(provider)
    here, elsewhere, here_again = server.ports
    assert here == here_again != elsewhere


async def test_a_look_at_a_host_is_shared_within_a_loop_while_another_loop_looks_too(server: Ollama) -> None:
    server.shows["odd:latest"] = "hang"
    provider = OllamaProvider("spark", server.url, timeouts=Timeouts(control_s=20.0))
    watch = HostWatch([provider], Health(lambda: 0.0), lambda: 0.0)
    first = asyncio.create_task(watch.snapshots())
    await server.hanging.acquire()
    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, watch.snapshots()))
    await server.hanging.acquire()
    second = asyncio.create_task(watch.snapshots())
    await asyncio.sleep(0)
    server.hang.set()
    for (snapshot,) in await asyncio.gather(first, elsewhere, second):
        assert snapshot.reachable
    assert server.asked.count("/api/version") == 2
    await provider.close()


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "x:cloud", "x:120B-cloud:latest", "x-cloud:latest"])
@pytest.mark.parametrize("kind", [OllamaProvider, OpenAICompatProvider])
async def test_a_name_that_means_the_internet_never_reaches_a_server(
    server: Ollama, kind: type[OllamaProvider | OpenAICompatProvider], name: str
) -> None:
    provider = kind("spark", server.url)
    with pytest.raises(ModelUnusable, match="internet"):
        await answer(provider, name)
    with pytest.raises(ModelUnusable, match="internet"):
        await provider.embed(EmbedCall(name, ("text",)))
    if isinstance(provider, OllamaProvider):
        with pytest.raises(ModelUnusable, match="internet"):
            async for _ in provider.pull(name):
                pass
    assert server.asked == []
    await provider.close()


async def test_cloud_names_pass_where_they_were_allowed(server: Ollama) -> None:
    provider = OllamaProvider("spark", server.url, allow_cloud=True)
    assert await answer(provider, "gpt-oss:120b-cloud")
    await provider.close()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", [OllamaProvider, OpenAICompatProvider])
async def test_a_host_that_refuses_this_client_leaves_the_other_hosts_to_try(
    server: Ollama, kind: type[OllamaProvider | OpenAICompatProvider], status: int
) -> None:
    server.status, server.lines = status, [{"error": "no"}]
    provider = kind("spark", server.url)
    with pytest.raises(ProviderError) as caught:
        await answer(provider)
    assert type(caught.value) is HostRefused
    assert caught.value.next_may_help and caught.value.blames_host
    await provider.close()


@pytest.mark.parametrize("kind", [ApiKind.CHAT, ApiKind.GENERATE])
async def test_options_that_would_load_the_model_anew_are_not_sent(scripted: Any, kind: ApiKind) -> None:
    scripted.body, scripted.content_type = json.dumps(LAST_LINE).encode(), "application/x-ndjson"
    provider = OllamaProvider("spark", scripted.url)
    options: dict[str, Any] = dict.fromkeys(RELOADING_OPTIONS, 1) | {"temperature": 0.5}
    for name in ("f16_kv", "logits_all", "low_vram", "numa", "use_mlock", "use_mmap", "vocab_only"):
        if name in options:
            options[name] = True
    request = RouteRequest((Message("user", "hello"),), kind=kind, options=options)
    assert [chunk async for chunk in provider.chat(ChatCall("phi4", request, num_ctx=4096))]
    assert scripted.asked[0][1]["options"] == {"temperature": 0.5, "num_ctx": 4096}
    await provider.close()


async def whole(provider: OllamaProvider) -> list[Chunk]:
    call = ChatCall("phi4", RouteRequest.from_text("hello"), whole=True)
    return [chunk async for chunk in provider.chat(call)]


@pytest.mark.parametrize("last", [{"error": "out of memory"}, "not a line"])
async def test_what_came_before_an_error_is_not_lost_with_it(
    server: Ollama, provider: OllamaProvider, last: Any
) -> None:
    server.lines = [{"message": {"content": "half"}}, {"message": {"content": " an answer"}}, last]
    got: list[Chunk] = []
    with pytest.raises(StreamBroken):
        async for chunk in provider.chat(ChatCall("phi4", RouteRequest.from_text("hello"), whole=True)):
            got.append(chunk)
    assert "".join(chunk.text for chunk in got if isinstance(chunk, Delta)) == "half an answer"


async def test_two_values_in_one_line_cost_no_line_after_them(scripted: Any) -> None:
    word = json.dumps({"message": {"content": "word"}})
    lines = [word + word, json.dumps(tool_line({"city": "Lyon"})), json.dumps(LAST_LINE)]
    scripted.body, scripted.content_type = "\n".join(lines).encode(), "application/x-ndjson"
    provider = OllamaProvider("spark", scripted.url)
    with pytest.raises(BadReply, match="a line of the answer cannot be read"):
        await whole(provider)
    await provider.close()


WORDS = [
    {"message": {"role": "assistant", "thinking": "two and "}},
    {"message": {"role": "assistant", "thinking": "two", "content": None}},
    {"message": {"role": "assistant", "content": "fo"}, "done": False},
    {"message": {"role": "assistant", "content": "ur"}},
]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], []),
        ([tool_line({"city": "Lyon"})], [Delta(tool_calls=(ToolCall("weather", {"city": "Lyon"}),))]),
        (
            [{"message": {"content": "!"}, "logprobs": [{"token": "!"}]}],
            [Delta("!", logprobs=({"token": "!"},))],
        ),
    ],
)
async def test_words_of_a_whole_answer_come_in_one_piece_and_the_rest_is_not_lost(
    server: Ollama, provider: OllamaProvider, more: list[Any], expected: list[Chunk]
) -> None:
    server.lines = [*WORDS, *more, LAST_LINE]
    apart, (*pieces, last) = await answer(provider), await whole(provider)
    assert len(apart) == len(WORDS) + len(more) + 1
    assert last == apart[-1]
    assert pieces == [Delta("four", "two and two"), *expected]
