"""Everything that is no task: health, the dry run, decisions later, metrics, OpenAPI, reloading."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
from tests.gateway.conftest import Here, Start

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.gateway.serving import Serving
from llm_router.gateway.wires import endpoints
from llm_router.records.settings import RecordSettings
from llm_router.records.writer import WRITE_EVERY_S
from llm_router.request import RouteRequest
from llm_router.serve_settings import ServeSettings
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "What's 2+2?"}]}


async def test_the_dry_run_decides_and_runs_nothing(here: Here) -> None:
    status, told, _ = await here.post("/router/route", {"prompt": "Write a regex for an e-mail address"})
    assert status == 200
    assert told["category"] == "structured_data"
    assert told["answer_model"] == "qwen2.5:14b"
    assert here.asked() == []


async def test_a_decision_is_explained_later(here: Here) -> None:
    _, told, _ = await here.post("/v1/chat/completions", CHAT)
    wanted = told["router"]["decision_id"]
    await here.recorded()
    status, found, _ = await here.get(f"/router/decisions/{wanted}")
    assert status == 200
    assert found["decision"]["decision_id"] == wanted
    assert found["decision"]["category"] == "simple_chat"
    assert found["attempts"][0]["model"] == "mistral:7b"
    assert (await here.get(f"/router/decisions/{wanted[:8]}"))[1]["decision_id"] == wanted
    status, told, _ = await here.get("/router/decisions/" + "0" * 32)
    assert status == 404
    assert f"written every {WRITE_EVERY_S} s" in told["error"]["message"]
    assert (await here.get("/router/decisions/xy"))[0] == 400
    assert (await here.get("/router/decisions?limit=1"))[1]["decisions"][0]["decision_id"] == wanted


async def test_health_lives_and_ready_can_answer(start: Start) -> None:
    here = await start()
    assert (await here.get("/health"))[1] == {"status": "ok"}
    status, told, _ = await here.get("/ready")
    assert (status, told["status"]) == (200, "ready")
    empty = await start(fake=FakeOllama(()))
    assert (await empty.get("/ready"))[0] == 503
    assert (await empty.get("/"))[1] == "Ollama is running"


async def test_metrics_count_with_bounded_labels(here: Here) -> None:
    for n in range(5):
        await here.post("/v1/chat/completions", CHAT | {"model": f"no-such-{n}"})
        await here.get(f"/nothing-{n}")
    await here.post("/v1/chat/completions", CHAT)
    _, text, headers = await here.get("/metrics")
    assert headers["content-type"].startswith("text/plain")
    assert 'llm_router_requests_total{path="/v1/chat/completions",status="200"} 1.0' in text
    assert 'llm_router_decisions_total{category="simple_chat",model="mistral:7b",stage="encoder"} 1.0' in text
    assert "no-such" not in text
    assert "nothing-" not in text


async def test_the_openapi_document_names_paths_that_answer(here: Here) -> None:
    _, told, _ = await here.get("/openapi.json")
    assert told["openapi"].startswith("3.1")
    assert set(told["paths"]) >= {"/v1/chat/completions", "/api/chat", "/v1/messages", "/router/route"}
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            schema = (
                operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            )
            if schema:
                jsonschema.Draft202012Validator.check_schema(schema)
            async with here.http.request(
                method, here.url + path.replace("{id}", "auto"), data=b"{}"
            ) as reply:
                passed_on = path in ("/api/push", "/api/create", "/api/copy", "/api/pull", "/api/delete")
                named = path == "/router/decisions/{id}"
                assert passed_on or named or reply.status not in (404, 405, 500), path
                assert reply.status not in (405, 500), path


TASK_PATHS = {endpoint.path for endpoint in endpoints() if endpoint.direct is None}


async def test_the_openapi_document_tells_of_the_headers_that_replies_have(here: Here) -> None:
    paths = (await here.get("/openapi.json"))[1]["paths"]
    for path, body in (("/v1/chat/completions", CHAT), ("/api/embed", {"input": "x"})):
        told = paths[path]["post"]["responses"]["200"]["headers"]
        _, _, headers = await here.post(path, body)
        assert set(told) == {name for name in headers if name.startswith("x-router-")}
    chat = paths["/v1/chat/completions"]["post"]["responses"]["200"]["headers"]
    assert "another model may take over" in chat["x-router-model"]["description"]
    assert "take over" not in told["x-router-model"]["description"]
    assert not paths["/v1/messages/count_tokens"]["post"]["responses"]["200"]["headers"]
    for path, methods in paths.items():
        asked = {p["name"] for p in methods.get("post", {}).get("parameters", ()) if p["in"] == "header"}
        answers = path in (*TASK_PATHS, "/router/route")
        assert ("x-router-timeout-s" in asked) == answers, path
        assert ("x-router-fallback" in asked) == (path in TASK_PATHS), path


async def test_a_changed_file_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    async with (
        FakeOllama(fleet_models(["mistral:7b"])) as one,
        FakeOllama(fleet_models(["gemma2:9b"])) as two,
    ):

        def settings(url: str) -> Settings:
            return Settings(
                hosts=(HostSettings(url=url, name="ollama"),),
                routing=RoutingSettings(stand_in="never"),
                serve=ServeSettings(port=0, log="off"),
                records=RecordSettings(enabled=False),
            )

        now = [settings(one.url)]
        fleet = tmp_path / "fleet.yaml"
        serving = Serving(now[0], load=lambda: now[0])
        await serving.start()
        first = serving.gateway.router
        assert (await first.decide("What's 2+2?")).answer_model == "mistral:7b"
        now[0] = settings(two.url)
        assert await serving.reload()
        assert serving.gateway.router is not first
        assert (await serving.gateway.router.decide("What's 2+2?")).answer_model == "gemma2:9b"
        fleet.write_text("models: 3\n")
        import msgspec

        now[0] = msgspec.structs.replace(settings(one.url), fleet=(str(fleet),))
        assert not await serving.reload()
        assert (await serving.gateway.router.decide("What's 2+2?")).answer_model == "gemma2:9b"
        await serving.close()


async def test_words_of_a_task_are_in_no_record_and_no_metric(here: Here) -> None:
    secret = "xylophone quarterly merger"
    await here.post("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": secret * 3}]})
    await here.recorded()
    recorder = here.serving.recorder
    assert recorder is not None
    kept = b"".join(path.read_bytes() for path in recorder.path.parent.glob("records.sqlite3*"))
    assert b"merger" not in re.sub(rb"spoken for by[^;\"]*", b"", kept)
    assert oct(recorder.path.stat().st_mode & 0o777) == "0o600"


async def test_traces_follow_the_conventions(start: Start) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from llm_router.gateway.tracing import Tracing

    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    here = await start(more=[tracing])
    await here.post("/v1/chat/completions", CHAT)
    await here.post("/v1/embeddings", {"model": "auto", "input": "x"})
    here.serving.gateway.observer.tell()
    chat, embedding = exporter.get_finished_spans()
    assert chat.name == "chat auto"
    assert chat.attributes is not None
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.response.model"] == "mistral:7b"
    assert chat.attributes["gen_ai.usage.output_tokens"]
    assert embedding.name == "embeddings auto"
    assert RouteRequest.from_text("x").task not in str(chat.attributes.keys())
    tracing.close()
