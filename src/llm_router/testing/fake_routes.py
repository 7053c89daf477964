"""The native /api routes of the fake server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiohttp import web

from llm_router.testing.fake_answers import embedding_of
from llm_router.testing.fake_dialect import NativeDialect
from llm_router.testing.fake_inference import (
    Backend,
    answer_generation,
    embed,
    fail_while_running,
    load_or_unload,
    refuse_without_pooling,
    require_embedder,
)
from llm_router.testing.fake_models import (
    FLEET_NAMES,
    NOT_IN_ANY_REGISTRY,
    FakeModel,
    canonical_name,
    fleet_models,
    show_body,
    tags_entry,
)
from llm_router.testing.fake_streams import json_answer
from llm_router.testing.fake_wire import (
    GenerationCall,
    RefusedError,
    go_json,
    go_quote,
    read_body,
    read_generation,
    read_keep_alive,
    required_model,
)


def native_routes(backend: Backend) -> list[web.RouteDef]:
    """Every native route, bound to this backend."""
    api = NativeApi(backend)
    return [
        web.get("/", api.root),
        web.get("/api/version", api.version),
        web.get("/api/status", api.status, allow_head=False),
        web.get("/api/tags", api.tags),
        web.get("/api/ps", api.ps, allow_head=False),
        web.post("/api/show", api.show),
        web.post("/api/chat", api.chat),
        web.post("/api/generate", api.generate),
        web.post("/api/embed", api.embed),
        web.post("/api/embeddings", api.embeddings),
        web.post("/api/pull", api.pull),
        web.post("/api/create", api.create),
        web.post("/api/copy", api.copy),
        web.delete("/api/delete", api.delete),
    ]


class NativeApi:
    """The handlers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def root(self, request: web.Request) -> web.Response:
        """GET /."""
        return web.Response(text="Ollama is running")

    async def version(self, request: web.Request) -> web.Response:
        """GET /api/version."""
        return json_answer({"version": self._backend.settings.version})

    async def status(self, request: web.Request) -> web.Response:
        """GET /api/status."""
        return json_answer({"cloud": {"disabled": True, "source": "env"}})

    async def tags(self, request: web.Request) -> web.Response:
        """GET /api/tags."""
        installed = tuple(self._backend.installed.values())
        return json_answer({"models": [tags_entry(model, index) for index, model in enumerate(installed)]})

    async def ps(self, request: web.Request) -> web.Response:
        """GET /api/ps."""
        return json_answer(self._backend.scheduler.ps_body())

    async def show(self, request: web.Request) -> web.Response:
        """POST /api/show."""
        body = read_body(await request.read(), "ShowRequest")
        name = required_model(body)
        model = self._backend.find(name, self._backend.strike_for(request.path, name))
        if model is None:
            raise RefusedError(404, f"model '{canonical_name(name)}' not found")
        position = list(self._backend.installed).index(model.tag)
        return json_answer(show_body(model, position, verbose=bool(body.get("verbose"))))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /api/chat."""
        call = read_generation(await request.read(), chat=True)
        return await self._generation(request, call, chat=True)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /api/generate."""
        call = read_generation(await request.read(), chat=False)
        return await self._generation(request, call, chat=False)

    async def _generation(
        self, request: web.Request, call: GenerationCall, *, chat: bool
    ) -> web.StreamResponse:
        if not call.messages:
            done_reason = await load_or_unload(self._backend, request.path, call, chat=chat)
            return json_answer(NativeDialect(call, call.model, chat=chat).bare(done_reason))
        return await answer_generation(
            self._backend, request, call, lambda name: NativeDialect(call, name, chat=chat), chat=chat
        )

    async def embed(self, request: web.Request) -> web.Response:
        """POST /api/embed."""
        body = read_body(await request.read(), "EmbedRequest")
        return json_answer(await embed(self._backend, request.path, body))

    async def embeddings(self, request: web.Request) -> web.Response:
        """POST /api/embeddings."""
        body = read_body(await request.read(), "EmbeddingRequest")
        name = required_model(body)
        strike = self._backend.strike_for(request.path, name)
        model = require_embedder(self._backend, name, strike)
        demand = self._backend.scheduler.demand(model, body.get("options", {}), read_keep_alive(body), None)
        async with self._backend.scheduler.lease(model, demand, strike) as lease, lease.runner.slots:
            prompt = body.get("prompt", "")
            if not prompt:
                return json_answer({"embedding": []})
            fail_while_running(self._backend, model, strike)
            refuse_without_pooling(model)
            return json_answer({"embedding": embedding_of(prompt, model.embedding_length)})

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """POST /api/pull."""
        body = read_body(await request.read(), "PullRequest")
        name = required_model(body)
        tag = canonical_name(name)
        lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        model = self._backend.installed.get(tag) or _pullable(tag)
        if model is None:
            lines.append({"error": "pull model manifest: file does not exist"})
        else:
            lines += _pull_progress(model)
            self._backend.installed[tag] = model
        return await _progress(request, lines, stream=body.get("stream", True))

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /api/create, from an installed model only."""
        body = read_body(await request.read(), "CreateRequest")
        tag = canonical_name(required_model(body))
        base = self._backend.installed.get(canonical_name(body.get("from", "")))
        if base is None:
            raise RefusedError(400, f"model '{body.get('from', '')}' not found")
        self._backend.installed[tag] = replace(base, name=tag)
        lines = [
            {"status": f"using existing layer sha256:{base.digest}"},
            {"status": "writing manifest"},
            {"status": "success"},
        ]
        return await _progress(request, lines, stream=body.get("stream", True))

    async def copy(self, request: web.Request) -> web.Response:
        """POST /api/copy."""
        body = read_body(await request.read(), "CopyRequest")
        source = self._backend.installed.get(canonical_name(body.get("source", "")))
        if source is None:
            raise RefusedError(404, f"model {go_quote(body.get('source', ''))} not found")
        tag = canonical_name(body.get("destination", ""))
        self._backend.installed[tag] = replace(source, name=tag)
        return web.Response()

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /api/delete."""
        name = required_model(read_body(await request.read(), "DeleteRequest"))
        model = self._backend.installed.pop(canonical_name(name), None)
        if model is None:
            raise RefusedError(404, f"model '{name}' not found")
        self._backend.scheduler.unload(model)
        return web.Response()


def _pullable(tag: str) -> FakeModel | None:
    offered = {
        canonical_name(name): name for name in FLEET_NAMES if canonical_name(name) not in NOT_IN_ANY_REGISTRY
    }
    return fleet_models([offered[tag]])[0] if tag in offered else None


def _pull_progress(model: FakeModel) -> list[dict[str, Any]]:
    layer = {
        "status": f"pulling {model.digest[:12]}",
        "digest": f"sha256:{model.digest}",
        "total": model.size_bytes,
    }
    steps = [{**layer, "completed": model.size_bytes * part // 4} for part in range(1, 5)]
    ends = [{"status": text} for text in ("verifying sha256 digest", "writing manifest", "success")]
    return [layer, *steps, *ends]


async def _progress(request: web.Request, lines: list[dict[str, Any]], *, stream: bool) -> web.StreamResponse:
    if not stream:
        if "error" in lines[-1]:
            raise RefusedError(500, lines[-1]["error"])
        return json_answer(lines[-1])
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for line in lines:
        await response.write(go_json(line) + b"\n")
    return response
