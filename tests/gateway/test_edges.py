"""Corners of the gateway: odd names, odd headers, what keys may load, statuses that say what would help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import msgspec
import openai
import pytest
from tests.gateway.conftest import HERE, Here, Start
from tests.gateway.test_security import entry, with_keys

from llm_router.config import HostSettings
from llm_router.errors import AllAttemptsFailed, LLMRouterError, NoModelAvailable
from llm_router.gateway.app import Visit
from llm_router.gateway.observers import Served
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import FakeModel, fleet_models
from llm_router.testing.fake_ollama import FakeOllama

TALK: Any = [{"role": "user", "content": "What's 2+2?"}]
CHAT: dict[str, Any] = {"model": "auto", "messages": TALK, "max_tokens": 50, "stream": False}
ODD_NAME = "hf.co/someone/Model-7B-GGUF:Q4_K_M"
LONG = "one two three four " * 50_000


@pytest.mark.parametrize("odd", [b'"\xff"', b"1e999", b"9" * 5000, b'"\\ud800"'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/messages"])
async def test_a_field_that_only_servers_would_read_is_a_400_too(here: Here, path: str, odd: bytes) -> None:
    body = msgspec.json.encode(CHAT)[:-1] + b',"unknown":' + odd + b"}"
    status, told, _ = await here.post(path, body)
    assert status == 400
    assert "cannot" in str(told) or "not JSON" in str(told)
    assert [r["status"] for r in await here.recorded()] in ([400], [])


@pytest.mark.parametrize("origin", ["http://[bad", "http://[::1", "//", "http://a]b"])
async def test_an_origin_that_is_no_address_is_refused(here: Here, origin: str) -> None:
    assert (await here.get("/health", origin=origin))[0] == 403


@pytest.mark.parametrize("query", ["limit=" + "1" * 5000, "&".join(["a=1"] * 80), "limit=-1", "limit=%00"])
async def test_odd_queries_are_told_as_such(here: Here, query: str) -> None:
    assert (await here.get(f"/router/decisions?{query}"))[0] == 400


async def test_where_the_records_are_is_not_told_to_callers(here: Here) -> None:
    status, told, _ = await here.get("/router/decisions/" + "a" * 32)
    assert status == 404
    assert "sqlite" not in str(told)
    assert "no decision" in told["error"]["message"]


class Broken:
    """An observer with a mistake of its own."""

    def served(self, served: Served) -> None:
        raise ZeroDivisionError

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        raise ZeroDivisionError

    def done(self, visit: Visit) -> None:
        raise ZeroDivisionError


async def test_an_observer_that_fails_harms_no_request(start: Start) -> None:
    here = await start(more=[Broken()])
    assert (await here.post("/api/chat", CHAT))[0] == 200
    assert (await here.post("/api/chat", b"{"))[0] == 400
    assert (await here.post("/api/chat", CHAT))[0] == 200


class TestModelNames:
    @pytest.fixture
    async def odd(self, start: Start) -> Here:
        models = [*fleet_models(HERE), FakeModel(ODD_NAME, size_bytes=4_000_000_000)]
        found = await start(fake=FakeOllama(models))
        assert isinstance(found, Here)
        return found

    @pytest.mark.parametrize("written", [ODD_NAME, ODD_NAME.replace("/", "%2F"), ODD_NAME.upper()])
    async def test_a_name_with_slashes_is_found(self, odd: Here, written: str) -> None:
        import yarl

        async with odd.http.get(yarl.URL(f"{odd.url}/v1/models/{written}", encoded=True)) as reply:
            assert reply.status == 200
            assert (await reply.json())["id"] == ODD_NAME.lower()  # as the fake tells it

    async def test_it_answers_and_is_listed_and_shown(self, odd: Here) -> None:
        status, told, _ = await odd.post("/v1/chat/completions", CHAT | {"model": ODD_NAME})
        assert (status, told["router"]["host"]) == (200, "ollama")
        assert ODD_NAME.lower() in [m["id"].lower() for m in (await odd.get("/v1/models"))[1]["data"]]
        assert (await odd.post("/api/show", {"model": ODD_NAME}))[0] == 200

    @pytest.mark.parametrize(
        "name", ["", "%00", "a b", "%FF", "../../etc/passwd", "x" * 3000, "auto:no-such"]
    )
    async def test_others_are_not_there(self, here: Here, name: str) -> None:
        import yarl

        url = yarl.URL(f"{here.url}/v1/models/{name}".replace(" ", "%20"), encoded=True)
        async with here.http.get(url) as reply:
            assert reply.status == 404
            assert len(await reply.read()) < 800

    async def test_anthropics_clients_get_one_model_in_their_shape(self, here: Here) -> None:
        _, told, _ = await here.get("/v1/models/mistral:7b", anthropic_version="2023-06-01")
        assert told["type"] == "model"
        assert told["id"] == told["display_name"] == "mistral:7b"

    async def test_blobs_have_digests(self, here: Here) -> None:
        assert (await here.post("/api/blobs/..%2f..%2fapi%2fdelete", b"x"))[0] == 400
        assert (await here.post("/api/blobs/a/b", b"x"))[0] == 400


class TestCloud:
    @pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "x:cloud", "X:Cloud:latest"])
    async def test_no_path_takes_such_a_name(self, here: Here, name: str) -> None:
        tasks = {
            "/api/chat": {"messages": TALK},
            "/api/generate": {"prompt": "x"},
            "/api/embed": {"input": "x"},
            "/api/embeddings": {"prompt": "x"},
            "/v1/chat/completions": {"messages": TALK},
            "/v1/completions": {"prompt": "x"},
            "/v1/embeddings": {"input": "x"},
            "/v1/responses": {"input": "x"},
            "/v1/messages": {"messages": TALK, "max_tokens": 5},
            "/router/route": {"messages": TALK},
            "/api/pull": {},
            "/api/push": {},
            "/api/create": {"from": "mistral:7b"},
        }
        before = len(here.ollama.requests)
        for path, body in tasks.items():
            status, told, _ = await here.post(path, {"model": name, **body})
            assert status == 400, path
            assert "internet" in str(told), path
        for path in ("/api/chat", "/api/generate", "/api/embed"):  # to be loaded
            assert (await here.post(path, {"model": name}))[0] == 400, path
        for body in ({"model": "mine", "from": name}, {"name": name}):
            assert (await here.post("/api/create", body))[0] == 400
        assert (await here.post("/api/copy", {"source": name, "destination": "mine"}))[0] == 400
        assert (await here.post("/api/copy", {"source": "mistral:7b", "destination": name}))[0] == 400
        assert (await here.post("/api/show", {"model": name}))[0] == 404
        assert (await here.get(f"/v1/models/{name}"))[0] == 404
        asked = [r for r in here.ollama.requests[before:] if r.method != "GET" and r.path != "/api/show"]
        assert asked == []


class TestKeys:
    async def test_a_key_cannot_load_or_unload_a_model_it_may_not_use(
        self, start: Start, tmp_path: Path
    ) -> None:
        here = await with_keys(start, tmp_path, entry("ann", "k", models=["gemma2:9b"]))
        for body in ({"model": "mistral:7b"}, {"model": "mistral:7b", "keep_alive": 0}):
            for path in ("/api/generate", "/api/chat"):
                assert (await here.post(path, body, x_api_key="k"))[0] == 403
        assert here.asked("/api/generate") == []
        assert (await here.post("/api/generate", {"model": "gemma2:9b"}, x_api_key="k"))[0] == 200

    async def test_the_dry_run_counts_for_the_limit(self, start: Start, tmp_path: Path) -> None:
        here = await with_keys(start, tmp_path, entry("ann", "k", requests_per_minute=1))
        assert (await here.post("/router/route", {"prompt": "hi"}, x_api_key="k"))[0] == 200
        assert (await here.post("/router/route", {"prompt": "hi"}, x_api_key="k"))[0] == 429
        assert (await here.post("/v1/chat/completions", CHAT, x_api_key="k"))[0] == 429

    async def test_pages_with_lists_need_a_key(self, start: Start, tmp_path: Path) -> None:
        here = await with_keys(start, tmp_path, entry("ann", "k"))
        for path in ("/api/tags", "/api/ps", "/v1/models", "/v1/models/auto", "/router/decisions/abcdef"):
            assert (await here.get(path))[0] == 401
        for path, body in (("/api/show", {"model": "auto"}), ("/router/route", {"prompt": "x"})):
            assert (await here.post(path, body))[0] == 401


class TestDryRun:
    async def test_of_anthropics_bodies(self, here: Here) -> None:
        png = "iVBORw0KGgoAAAANSUhEUg=="
        source = {"type": "base64", "media_type": "image/png", "data": png}
        shown = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
        system = [{"type": "text", "text": "Be brief."}]
        body = {"model": "auto", "system": system, "messages": [{"role": "user", "content": shown}]}
        status, told, _ = await here.post("/router/route", body)
        assert (status, told["answer_model"]) == (200, "llava:13b")
        tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
        status, told, _ = await here.post("/router/route", {"messages": TALK, "tools": [tool]})
        assert (status, told["category"]) == (200, "agentic_tool_use")
        plain = {"messages": TALK, "model": "auto"}
        assert (await here.post("/router/route", plain, anthropic_version="2023-06-01"))[0] == 200

    async def test_of_responses_and_of_texts_to_embed(self, here: Here) -> None:
        for body in (
            {"input": "What's 2+2?", "instructions": "Be brief."},
            {"input": [{"role": "user", "content": "What's 2+2?"}]},
        ):
            assert (await here.post("/router/route", body))[1]["category"] == "simple_chat"
        assert (await here.post("/router/route", {"input": "What's 2+2?"}))[1]["category"] == "embeddings"

    async def test_the_path_can_be_named(self, here: Here) -> None:
        asked = "/router/route?path=/v1/responses"
        assert (await here.post(asked, {"input": "What's 2+2?"}))[1]["category"] == "simple_chat"
        status, told, _ = await here.post("/router/route?path=/v1/messages", {"messages": TALK})
        assert status == 400
        assert "max_tokens" in str(told)
        assert (await here.post("/router/route?path=/nowhere", {"messages": TALK}))[0] == 400
        assert (await here.post("/router/route?path=/api/chat", {"model": "auto"}))[0] == 400
        assert here.asked() == []


class TestStatuses:
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
    async def test_what_no_model_can_read_is_the_callers_affair(self, here: Here, path: str) -> None:
        """A client that gets 503 and Retry-After would come back with the same request."""
        long = CHAT | {"messages": [{"role": "user", "content": LONG}]}
        status, told, headers = await here.post(path, long)
        assert status == 400
        assert "retry-after" not in headers
        assert "its context is" in str(told)
        if path == "/v1/chat/completions":
            assert told["error"]["code"] == "context_length_exceeded"
        if path == "/v1/messages":
            assert told["error"]["type"] == "invalid_request_error"

    async def test_what_the_named_model_cannot_do_as_well(self, here: Here) -> None:
        status, told, _ = await here.post("/v1/embeddings", {"model": "mistral:7b", "input": "x"})
        assert status == 400
        assert "does not support embeddings" in str(told)  # its host was asked, and says so
        assert (await here.post("/v1/chat/completions", CHAT | {"model": "nomic-embed-text"}))[0] == 400

    async def test_a_text_too_long_to_embed_is_cut_or_refused_as_ollama_does(self, here: Here) -> None:
        long = {"model": "auto", "input": ["short", LONG]}
        status, told, _ = await here.post("/api/embed", long)
        assert (status, len(told["embeddings"])) == (200, 2)
        assert "is cut to the 2,048" in str(told["router"]["warnings"])
        status, told, _ = await here.post("/api/embed", long | {"truncate": False})
        assert status == 400
        assert "its context is 2,048" in told["error"]
        assert (await here.post("/v1/embeddings", long))[0] == 400

    async def test_a_suffix_that_no_model_can_take_is_refused_before_any_is_asked(self, here: Here) -> None:
        filling = {"model": "auto", "prompt": "def f(", "suffix": "return 1", "stream": False}
        for path in ("/api/generate", "/v1/completions"):
            status, told, _ = await here.post(path, filling)
            assert status == 400
            assert "cannot fill in text before a suffix" in str(told)
        assert here.asked("/api/generate") == []

    async def test_a_known_model_that_is_not_installed_is_a_404(self, here: Here) -> None:
        body = CHAT | {"model": "phi4"}
        status, told, headers = await here.post("/api/chat", body, x_router_fallback="never")
        assert status == 404 or told["router"]["fallback"] is not None
        assert "retry-after" not in headers

    async def test_where_no_host_answers_it_pays_to_come_back(self, start: Start) -> None:
        here = await start()
        await here.ollama.__aexit__(None, None, None)
        await here.serving.gateway.router.hosts()
        for path, shape in (
            ("/v1/chat/completions", "error"),
            ("/api/chat", "error"),
            ("/v1/messages", "type"),
        ):
            status, told, headers = await here.post(path, CHAT)
            assert status == 503, told
            assert int(headers["retry-after"]) > 0
            assert shape in told

    async def test_where_every_model_is_out_of_memory_it_pays_to_come_back(self, here: Here) -> None:
        here.ollama.fault(Fault.OOM)
        status, _, headers = await here.post("/v1/chat/completions", CHAT)
        assert status == 503
        assert int(headers["retry-after"]) > 0

    async def test_one_transient_failure_among_others_is_worth_another_try(self) -> None:
        from llm_router.gateway.app import status_of

        assert status_of(NoModelAvailable("x")) == 503
        assert status_of(AllAttemptsFailed("x", attempts=())) == 502


class TestHosts:
    async def test_lists_leave_out_what_cannot_be_reached(self, start: Start) -> None:
        dead = HostSettings(url="http://127.0.0.1:9", name="dead")
        here = await start(hosts=(dead,))
        for path in ("/api/tags", "/api/ps", "/v1/models", "/ready", "/api/version"):
            assert (await here.get(path))[0] == 200, path
        assert (await here.post("/v1/chat/completions", CHAT))[0] == 200
        await here.ollama.__aexit__(None, None, None)
        here.serving.gateway.router.look_again("ollama")
        for path in ("/api/tags", "/api/ps", "/v1/models", "/api/version"):
            status, told, _ = await here.get(path)
            assert status == 200, path
            assert "mistral" not in str(told)
        assert (await here.get("/ready"))[0] == 503
        assert (await here.post("/api/pull", {"model": "phi4"}))[0] == 503


class TestFallbackHeader:
    @pytest.mark.parametrize("never", ["never", "Never", " NEVER "])
    async def test_never_is_never(self, here: Here, never: str) -> None:
        here.ollama.fault(Fault.OOM, model="mistral:7b")
        assert (await here.post("/v1/chat/completions", CHAT, x_router_fallback=never))[0] == 503
        status, _, headers = await here.post("/v1/chat/completions", CHAT, x_router_fallback="auto")
        assert status == 200
        assert "mistral:7b (out_of_memory)" in headers["x-router-fallback"]

    async def test_another_word_is_a_mistake(self, here: Here) -> None:
        assert (await here.post("/v1/chat/completions", CHAT, x_router_fallback="nevr"))[0] == 400


TASKS: dict[str, dict[str, Any]] = {
    "/api/chat": CHAT,
    "/api/generate": {"prompt": "What's 2+2?", "stream": False},
    "/api/embed": {"input": "x"},
    "/api/embeddings": {"prompt": "x"},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "What's 2+2?"},
    "/v1/embeddings": {"input": "x"},
    "/v1/responses": {"input": "What's 2+2?"},
    "/v1/messages": CHAT,
}


class TestTimeoutHeader:
    @pytest.mark.parametrize("path", TASKS)
    async def test_every_path_that_answers_takes_it(self, here: Here, path: str) -> None:
        status, told, headers = await here.post(path, TASKS[path], x_router_timeout_s=" 0.0001 ")
        assert status == 504, told
        assert "its own timeout_s" in str(told)
        assert headers["x-router-decision-id"]
        assert (await here.post(path, TASKS[path], x_router_timeout_s="60"))[0] == 200

    @pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions", "/v1/messages"])
    async def test_a_reply_in_one_piece_that_is_late_is_504_although_its_answer_had_begun(
        self, here: Here, path: str
    ) -> None:
        assert (await here.post(path, TASKS[path]))[0] == 200
        here.ollama.fault(Fault.SLOW_TOKENS, after=1)
        status, told, _ = await here.post(path, TASKS[path], x_router_timeout_s="0.4")
        assert status == 504, told
        assert "the answer broke off" in str(told)

    @pytest.mark.parametrize("path", TASKS)
    @pytest.mark.parametrize("bad", ["", "0", "-1", "nan", "inf", "1e999", "soon", "60s", "60, 5", "²"])
    async def test_what_is_no_time_is_a_mistake(self, here: Here, path: str, bad: str) -> None:
        status, told, _ = await here.post(path, TASKS[path], x_router_timeout_s=bad)
        assert status == 400
        error = told["error"]
        words = error if path.startswith("/api/") else error["message"]
        assert "x-router-timeout-s" in words
        assert "write it like 60 or 2.5" in words
        if path == "/v1/messages":
            assert (told["type"], error["type"]) == ("error", "invalid_request_error")
        assert not here.asked()

    async def test_a_dry_run_decides_by_it_as_well(self, here: Here) -> None:
        _, calm, _ = await here.post("/router/route", CHAT)
        _, pressed, _ = await here.post("/router/route", CHAT, x_router_timeout_s="0.001")
        assert (calm["deadline_s"], pressed["deadline_s"]) == (1800.0, 0.001)
        assert "longer than the 0.001 s that this request may take" in pressed["warnings"][0]
        assert (await here.post("/router/route", CHAT, x_router_timeout_s="x"))[0] == 400

    async def test_the_choice_keeps_to_it(self, here: Here) -> None:
        body = {"model": "auto:max_reasoning", "messages": TALK, "stream": False}
        _, _, calm = await here.post("/v1/chat/completions", body)
        status, told, pressed = await here.post("/v1/chat/completions", body, x_router_timeout_s="60")
        assert calm["x-router-model"] == "deepseek-r1:70b"
        assert (status, pressed["x-router-model"]) == (200, "gpt-oss:20b")
        assert "longer than the 60 s that this request may take" in pressed["x-router-reason"]
        assert "warnings" not in told["router"]


async def test_each_request_is_counted_once_under_its_path(here: Here) -> None:
    await here.post("/v1/chat/completions", CHAT)
    await here.post("/v1/chat/completions", b"{")
    await here.post("/v1/chat/completions", CHAT | {"model": "no-such"})
    await here.post("/v1/messages/count_tokens", {"messages": TALK})
    await here.post("/api/generate", {"model": "mistral:7b"})
    await here.get("/v1/chat/completions")
    await here.get("/nothing")
    _, text, _ = await here.get("/metrics")
    found = dict(re.findall(r"llm_router_requests_total\{(.*)\} (.*)", text))
    assert found == {
        'path="/v1/chat/completions",status="200"': "1.0",
        'path="/v1/chat/completions",status="400"': "1.0",
        'path="/v1/chat/completions",status="404"': "1.0",
        'path="/v1/chat/completions",status="405"': "1.0",
        'path="/v1/messages/count_tokens",status="200"': "1.0",
        'path="/api/generate",status="200"': "1.0",
        'path="other",status="404"': "1.0",
    }


async def test_vectors_are_counted_with_what_was_read_and_what_failed(start: Start) -> None:
    here = await start(serve={"log": "json"})
    here.ollama.fault(Fault.BUSY, model="nomic-embed-text", times=1)
    assert (await here.post("/v1/embeddings", {"input": "one two three"}))[0] == 200
    _, text, _ = await here.get("/metrics")
    assert re.search(r'llm_router_tokens_total\{kind="read",model="nomic-embed-text"\} [1-9]', text)
    assert 'llm_router_failed_attempts_total{error="host_busy",model="nomic-embed-text"} 1.0' in text
    assert 'llm_router_fallbacks_total{model="nomic-embed-text"} 1.0' in text


async def test_the_log_has_one_line_per_request(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    here = await start(serve={"log": "json"})
    await here.post("/v1/chat/completions", CHAT)
    await here.post("/v1/chat/completions", b"{")
    await here.post("/v1/messages/count_tokens", {"messages": TALK})
    await here.post("/api/generate", {"model": "mistral:7b"})
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/v1/chat/completions", 200),
        ("/v1/chat/completions", 400),
        ("/v1/messages/count_tokens", 200),
        ("/api/generate", 200),
    ]
    assert len({line["request_id"] for line in lines}) == 4


async def test_a_trace_goes_on_from_the_callers(start: Start) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from llm_router.gateway.tracing import Tracing

    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    here = await start(more=[tracing])
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    await here.post("/v1/chat/completions", CHAT, traceparent=f"00-{trace}-{parent}-01")
    await here.post("/v1/chat/completions", CHAT, traceparent="nonsense")
    here.serving.gateway.observer.tell()
    first, second = exporter.get_finished_spans()
    assert first.context is not None
    assert first.parent is not None
    assert f"{first.context.trace_id:032x}" == trace
    assert f"{first.parent.span_id:016x}" == parent
    assert second.parent is None
    tracing.close()


async def test_signs_of_life_come_in_the_middle_of_an_answer_too(start: Start) -> None:
    here = await start(serve={"heartbeat_s": 0.05})
    here.ollama.fault(Fault.SLOW_TOKENS, model="mistral:7b", after=1)
    async with here.http.post(f"{here.url}/v1/chat/completions", json=CHAT | {"stream": True}) as reply:
        first = await reply.content.readany()
        assert b"data: {" in first
        while b": waiting" not in first:
            first += await reply.content.readany()
        here.ollama.clear_faults()
        rest = first + await reply.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert isinstance(here.http, aiohttp.ClientSession)


class TestSignsOfLife:
    """The official clients wait through a cold load, and read the answer after the signs of life."""

    @pytest.fixture
    async def cold(self, start: Start) -> Here:
        found = await start(serve={"heartbeat_s": 0.03})
        found.ollama.fault(Fault.SLOW_LOAD, model="mistral:7b", times=1, seconds=0.2)
        assert isinstance(found, Here)
        return found

    async def test_openais(self, cold: Here) -> None:
        async with openai.AsyncOpenAI(base_url=f"{cold.url}/v1", api_key="x", max_retries=0) as ai:
            stream = await ai.chat.completions.create(model="auto", messages=TALK, stream=True)
            assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def test_openais_responses(self, cold: Here) -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{cold.url}/v1", api_key="x", max_retries=0) as ai,
            ai.responses.stream(model="auto", input="What's 2+2?") as stream,
        ):
            async for _ in stream:
                pass
            assert (await stream.get_final_response()).output_text

    async def test_anthropics(self, cold: Here) -> None:
        async with (
            anthropic.AsyncAnthropic(base_url=cold.url, api_key="x", max_retries=0) as claude,
            claude.messages.stream(model="auto", max_tokens=50, messages=TALK) as stream,
        ):
            assert "".join([piece async for piece in stream.text_stream])


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"stream_options": {"include_usage": True}}),
        ("/v1/chat/completions", {}),
        ("/v1/completions", {}),
        ("/v1/responses", {}),
        ("/v1/messages", {}),
        ("/api/chat", {}),
        ("/api/generate", {}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_was_cut_is_told_on_every_wire(
    here: Here, path: str, more: dict[str, Any], stream: bool
) -> None:
    words = "Summarize this story: " + "once there was a small dragon who read books " * 600
    here.ollama.fault(Fault.TRUNCATE)  # half of the 8,192 tokens that gemma2 has
    asked: dict[str, Any] = {"model": "gemma2:9b", "stream": stream, "max_tokens": 50, **more}
    if path in ("/v1/completions", "/api/generate"):
        asked["prompt"] = words
    elif path == "/v1/responses":
        asked["input"] = words
        del asked["max_tokens"]
    else:
        asked["messages"] = [{"role": "user", "content": words}]
    async with here.http.post(here.url + path, json=asked) as reply:
        text = await reply.text()
    assert reply.status == 200
    assert text.count('"warnings":["truncated: the server read ') == 1


class TestLookalikes:
    """Go reads JSON without regard to case, so a second ``Model`` would get past every check of ``model``."""

    @pytest.mark.parametrize(
        "name", ["Model", "MODEL", "Options", "Keep_Alive", "\u212aeep_alive", "\u017ftream"]
    )
    @pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
    async def test_no_task_with_one(self, here: Here, path: str, name: str) -> None:
        status, told, _ = await here.post(path, CHAT | {name: "x:cloud"})
        assert status == 400
        assert name.casefold() in str(told)
        assert here.asked() == []

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/generate", {"prompt": "x", "Model": "x:cloud"}),
            ("/api/generate", {"model": "mistral:7b", "Keep_alive": -1}),
            ("/api/embed", {"input": "x", "Model": "x:cloud"}),
            ("/api/embeddings", {"prompt": "x", "Model": "x:cloud"}),
            ("/v1/completions", {"prompt": "x", "Model": "x:cloud"}),
            ("/v1/responses", {"input": "x", "Model": "x:cloud"}),
            ("/v1/embeddings", {"input": "x", "Model": "x:cloud"}),
            ("/api/pull", {"model": "mistral:7b", "Model": "x:cloud"}),
            ("/api/show", {"model": "mistral:7b", "Model": "x:cloud"}),
            ("/api/copy", {"source": "mistral:7b", "destination": "x", "Source": "x:cloud"}),
        ],
    )
    async def test_nowhere(self, here: Here, path: str, body: Any) -> None:
        before = len(here.ollama.requests)
        assert (await here.post(path, {"stream": False, **body}))[0] == 400
        assert not any("Model" in str(r.body) for r in here.ollama.requests[before:])

    async def test_other_capitals_go_through(self, here: Here) -> None:
        assert (await here.post("/api/chat", CHAT | {"chatTemplateName": "x"}))[0] == 200
        assert here.asked()[-1]["chatTemplateName"] == "x"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/messages"])
async def test_proxies_are_told_to_pass_streams_on_as_they_come(here: Here, path: str) -> None:
    _, _, headers = await here.post(path, CHAT | {"stream": True})
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    _, _, headers = await here.post(path, CHAT)
    assert "x-accel-buffering" not in headers


class TestVectorsAreNoAnswer:
    BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": "hello"}),
        ("/v1/responses", {"input": "hello"}),
        ("/api/chat", CHAT),
        ("/api/generate", {"prompt": "hello"}),
        ("/v1/messages", CHAT),
        ("/router/route", CHAT),
    )

    @pytest.mark.parametrize("name", ["auto:embeddings", "AUTO-fast:embeddings:latest"])
    @pytest.mark.parametrize(("path", "body"), BODIES)
    async def test_a_conversation_with_embedders_is_told_where_vectors_are(
        self, here: Here, name: str, path: str, body: dict[str, Any]
    ) -> None:
        for stream in (True, False):
            status, told, _ = await here.post(path, body | {"model": name, "stream": stream})
            assert status == 400
            assert "/api/embed" in str(told)
            assert "/v1/embeddings" in str(told)
        assert not here.asked("/api/embed")

    async def test_what_is_asked_for_in_words_is_still_given(self, here: Here) -> None:
        task = "Give me the embedding vector of the sentence: the cat sat on the mat"
        _, told, headers = await here.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": task}]}
        )
        assert headers["x-router-category"] == "embeddings"
        assert told["choices"][0]["message"]["content"].startswith("[")

    @pytest.mark.parametrize(
        ("path", "body"), [("/api/embed", {"input": "x"}), ("/v1/embeddings", {"input": "x"})]
    )
    async def test_where_vectors_belong_the_name_works(self, here: Here, path: str, body: Any) -> None:
        assert (await here.post(path, body | {"model": "auto:embeddings"}))[0] == 200
