"""What chat, generate, embed and their /v1 twins share: find the model, load it, answer or refuse."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from llm_router.testing.fake_answers import (
    Generation,
    Reply,
    check_capabilities,
    check_images,
    embedding_of,
    generate,
    normalised,
)
from llm_router.testing.fake_faults import (
    BUSY_TEXT,
    OOM_RUN_TEXT,
    RUNNER_DIED_TEXT,
    Fault,
    FaultScript,
    Strike,
)
from llm_router.testing.fake_models import FakeModel, canonical_name
from llm_router.testing.fake_scheduler import FakeSettings, Pace, Scheduler
from llm_router.testing.fake_streams import Dialect, Metrics, send
from llm_router.testing.fake_wire import (
    GenerationCall,
    RefusedError,
    count_tokens,
    go_quote,
    nanoseconds,
    read_keep_alive,
    required_model,
    without_empty,
)

_NO_EMBEDDINGS_TEXT = "This server does not support embeddings. Start it with `--embeddings`"


@dataclass(slots=True)
class Backend:
    """The state behind the routes."""

    settings: FakeSettings
    script: FaultScript
    scheduler: Scheduler
    installed: dict[str, FakeModel]
    reply: Reply | None

    def strike_for(self, path: str, model: str | None) -> Strike:
        """One request's view of the fault script."""
        return lambda fault: self.script.strike(fault, path, model)

    def find(self, name: str, strike: Strike) -> FakeModel | None:
        """The installed model of that name, unless the script hides it."""
        if strike(Fault.NOT_FOUND):
            return None
        return self.installed.get(canonical_name(name))


def require_model(backend: Backend, name: str, strike: Strike) -> FakeModel:
    """The installed model that chat and generate ask for.

    Raises:
        RefusedError: 404 in the words of those two routes.
    """
    model = backend.find(name, strike)
    if model is None:
        raise RefusedError(404, f"model '{name}' not found")
    return model


def require_embedder(backend: Backend, name: str, strike: Strike) -> FakeModel:
    """The installed model that the embedding routes ask for.

    Raises:
        RefusedError: 404 in the words of those routes, 503 when the script says busy.
    """
    model = backend.find(name, strike)
    if model is None:
        raise RefusedError(404, f"model {go_quote(name)} not found, try pulling it first")
    refuse_when_busy(strike)
    return model


def refuse_when_busy(strike: Strike) -> None:
    """Refuse with 503 when the script says that the queue is full."""
    if strike(Fault.BUSY):
        raise RefusedError(503, BUSY_TEXT)


def fail_while_running(backend: Backend, model: FakeModel, strike: Strike) -> None:
    """Fail with 500 where the script says so, with what that does to the resident models."""
    if strike(Fault.RUNNER_DIED):
        backend.scheduler.died(model)
        raise RefusedError(500, RUNNER_DIED_TEXT)
    if strike(Fault.OOM):
        backend.scheduler.out_of_memory()
        raise RefusedError(500, OOM_RUN_TEXT)


def refuse_without_pooling(model: FakeModel) -> None:
    """Refuse, with the runner's own 501, to embed with a model that was not made for it."""
    if not model.can("embedding"):
        raise RefusedError(501, _NO_EMBEDDINGS_TEXT)


async def load_or_unload(backend: Backend, path: str, call: GenerationCall, *, chat: bool) -> str:
    """Serve a request without messages or prompt; returns its done_reason, `load` or `unload`.

    Raises:
        RefusedError: as for a request that has some.
    """
    strike = backend.strike_for(path, call.model)
    model = require_model(backend, call.model, strike)
    if call.keep_alive_s == 0:
        backend.scheduler.unload(model)
        return "unload"
    check_capabilities(model, call, chat=chat, strike=strike)
    refuse_when_busy(strike)
    demand = backend.scheduler.demand(model, call.options, call.keep_alive_s, call.shift)
    async with backend.scheduler.lease(model, demand, strike):
        return "load"


async def answer_generation(
    backend: Backend,
    request: web.Request,
    call: GenerationCall,
    dialect_for: Callable[[str], Dialect],
    *,
    chat: bool,
) -> web.StreamResponse:
    """Answer a chat or generate request in the dialect made for the name the answer will carry.

    Raises:
        RefusedError: whatever the server answers instead.
    """
    started = time.monotonic()
    strike = backend.strike_for(request.path, call.model)
    model = require_model(backend, call.model, strike)
    check_capabilities(model, call, chat=chat, strike=strike)
    refuse_when_busy(strike)
    settings = backend.settings
    demand = backend.scheduler.demand(model, call.options, call.keep_alive_s, call.shift)
    async with backend.scheduler.lease(model, demand, strike) as lease, lease.runner.slots:
        check_images(model, call)
        fail_while_running(backend, model, strike)
        generation = generate(
            model, call, lease.runner.options.num_ctx, settings=settings, reply=backend.reply, strike=strike
        )
        return await send(
            request,
            dialect_for(generation.model),
            generation,
            metrics_of(started, lease.load_s, generation, settings.pace),
            stream=call.stream,
            strike=strike,
            pace=settings.pace,
        )


def metrics_of(started: float, lease_s: float, generation: Generation, pace: Pace) -> Metrics:
    """The request's durations: what really passed, or what the pretended hardware takes if that is more."""
    prompt_s = generation.prompt_tokens / pace.prompt_tokens_per_s
    eval_s = generation.eval_tokens / pace.tokens_per_s
    total_s = max(time.monotonic() - started, lease_s + prompt_s + eval_s)
    return Metrics(total_s, lease_s, prompt_s, eval_s)


async def embed(backend: Backend, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer of POST /api/embed, which /v1/embeddings translates.

    Raises:
        RefusedError: whatever the server answers instead.
    """
    started = time.monotonic()
    name = required_model(body)
    texts = _texts_of(body.get("input"))
    strike = backend.strike_for(path, name)
    model = require_embedder(backend, name, strike)
    demand = backend.scheduler.demand(model, body.get("options", {}), read_keep_alive(body), None)
    async with backend.scheduler.lease(model, demand, strike) as lease, lease.runner.slots:
        if not texts:
            return {"model": name, "embeddings": []}
        fail_while_running(backend, model, strike)
        refuse_without_pooling(model)
        limit = lease.runner.options.num_ctx
        counts = [_embedded_tokens(text, limit, truncate=body.get("truncate", True)) for text in texts]
        dimensions = body.get("dimensions", 0)
        durations = {
            "total_duration": nanoseconds(max(time.monotonic() - started, lease.load_s)),
            "load_duration": nanoseconds(lease.load_s),
            "prompt_eval_count": sum(counts),
        }
        vectors = [_vector(text, limit, model, dimensions) for text in texts]
        return {"model": name, "embeddings": vectors, **without_empty(durations, *durations)}


def _texts_of(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    raise RefusedError(400, "invalid input type")


def _embedded_tokens(text: str, limit: int, *, truncate: bool) -> int:
    tokens = count_tokens(text)
    if tokens > limit and not truncate:
        raise RefusedError(400, "the input length exceeds the context length")
    return min(tokens, limit)


def _vector(text: str, limit: int, model: FakeModel, dimensions: int) -> list[float]:
    kept = text.encode("utf-8", "replace")[: 4 * limit].decode("utf-8", "ignore")
    vector = normalised(embedding_of(kept, model.embedding_length))
    return normalised(vector[:dimensions]) if 0 < dimensions < len(vector) else vector
