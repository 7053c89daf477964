"""The gateway's paths as an OpenAPI 3.1 document; every path that answers tasks is in it, for it must be."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from llm_router.gateway.openapi_schemas import (
    ANY_OBJECT,
    SCHEMAS,
    SWITCH,
    TEXT,
    Schema,
    listed,
    one_of,
    ref,
    thing,
)
from llm_router.gateway.wires import endpoints
from llm_router.version import __version__


@dataclass(frozen=True, slots=True)
class _Task:
    about: str
    asks: str
    answers: str
    streams: Literal["", "text/event-stream", "application/x-ndjson"] = ""


_SSE: Literal["text/event-stream"] = "text/event-stream"
_LINES: Literal["application/x-ndjson"] = "application/x-ndjson"
_TASKS: dict[str, _Task] = {
    "/api/chat": _Task("Ollama: a conversation goes on", "OllamaChat", "OllamaChatAnswer", _LINES),
    "/api/generate": _Task("Ollama: one prompt", "OllamaGenerate", "OllamaGenerateAnswer", _LINES),
    "/api/embed": _Task("Ollama: vectors of texts", "OllamaEmbed", "OllamaEmbedAnswer"),
    "/api/embeddings": _Task("Ollama: the vector of one text", "OllamaEmbeddings", "OllamaEmbeddingsAnswer"),
    "/v1/chat/completions": _Task("OpenAI: a conversation goes on", "OpenAIChat", "OpenAIChatAnswer", _SSE),
    "/v1/completions": _Task("OpenAI: one prompt", "OpenAICompletion", "OpenAICompletionAnswer", _SSE),
    "/v1/embeddings": _Task("OpenAI: vectors of texts", "OpenAIEmbeddings", "OpenAIEmbeddingsAnswer"),
    "/v1/responses": _Task("OpenAI: responses, without a memory", "Responses", "ResponsesAnswer", _SSE),
    "/v1/messages": _Task("Anthropic: messages", "AnthropicMessages", "AnthropicAnswer", _SSE),
    "/v1/messages/count_tokens": _Task(
        "Anthropic: about how many tokens a body has", "AnthropicCount", "AnthropicCountAnswer"
    ),
}
_ERRORS = {"ollama": "OllamaError", "openai": "OpenAIError", "anthropic": "AnthropicError"}

_HEADERS = {
    "x-router-model": "Who answers",
    "x-router-category": "The kind of task",
    "x-router-confidence": "How sure that is, from 0 to 1",
    "x-router-decision-id": "Leads to the decision at /router/decisions/{id}",
    "x-router-reason": "Why, in at most 400 characters",
    "x-router-fallback": "none, or each model that failed before, with its error",
}
_ASKED: dict[str, tuple[str, Schema]] = {
    "x-router-timeout-s": (
        "How many seconds the whole task may take, where that is less than timeouts.total_s",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "x-router-fallback": (
        "never: if the first model fails, no other is asked; auto: another is. Else serve.fallback counts",
        {"enum": ["auto", "never"]},
    ),
}
_OF_A_STREAM = (
    ". As it was when the first byte was sent: after a sign of life another model may take over. Then streams"
    " of events have this header again as a comment; the router object at the end of any stream is right"
)

_STATUSES = {
    "400": "The body cannot be used, or no model can take it; the error says which field, or why",
    "401": "No key, or an unknown one",
    "403": "Not allowed",
    "404": "No such model",
    "405": "Another method is meant",
    "408": "The body came too slowly",
    "413": "Too large",
    "415": "An unknown compression",
    "429": "A limit of the key; see Retry-After",
    "501": "A part that is not installed",
    "502": "Every model that could answer failed",
    "503": "No model can answer now, or too many requests; see Retry-After",
    "504": "No model answered in time",
}

_NAMED_MODEL: Schema = {**TEXT, "examples": ["auto", "auto:structured_data"]}
_HOSTS = listed(
    thing(("name", "reachable", "models"), name=TEXT, reachable=SWITCH, models={"type": "integer"})
)
_MODEL_ENTRY = thing(("id", "object", "owned_by"), id=TEXT, object={"const": "model"}, owned_by=TEXT)
_RECORD = thing(("request_id", "decision_id", "status"), request_id=TEXT, status={"type": "integer"})


@functools.lru_cache(maxsize=2)
def document(manages: bool) -> bytes:
    """JSON text."""
    paths = {endpoint.path: {"post": _task(endpoint.path, endpoint.api)} for endpoint in endpoints()}
    paths |= _pages()
    if manages:
        paths |= _managing()
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "llm-router",
                "version": __version__,
                "description": "One address for a fleet of local models; the model `auto` leaves the choice.",
            },
            "paths": paths,
            "security": [{}, {"bearer": []}, {"key": []}],
            "components": {
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
                "schemas": SCHEMAS,
            },
        }
    )


def _task(path: str, api: str) -> dict[str, Any]:
    told = _TASKS[path]
    content: dict[str, Any] = {"application/json": {"schema": ref(told.answers)}}
    if told.streams:
        content[told.streams] = {"schema": TEXT}
    asked = {} if told.asks == "AnthropicCount" else {"parameters": [*map(_asked_header, _ASKED)]}
    return {
        "summary": told.about,
        "tags": [api],
        **asked,
        "requestBody": _body(ref(told.asks)),
        "responses": {"200": {"description": "The answer", "content": content, "headers": _told(told)}}
        | _failures(_ERRORS[api]),
    }


def _asked_header(name: str) -> dict[str, Any]:
    about, schema = _ASKED[name]
    return {"name": name, "in": "header", "description": about, "schema": schema}


def _told(task: _Task) -> dict[str, Any]:
    """The headers that say how the answer came about; a path that asks no model has none."""
    if task.asks == "AnthropicCount":
        return {}
    about = dict(_HEADERS)
    if task.streams:
        about["x-router-model"] += _OF_A_STREAM
        about["x-router-fallback"] += _OF_A_STREAM
    return {name: {"description": text, "schema": TEXT} for name, text in about.items()}


def _pages() -> dict[str, Any]:
    """Those without a wire of their own."""
    models = {"schema": one_of(thing(("data",), data=listed(_MODEL_ENTRY)), thing(("data", "has_more")))}
    decided = {"description": "The decision", "content": {"application/json": {"schema": ref("Decision")}}}
    path = {"name": "path", "in": "query", "schema": {"enum": [*_TASKS]}, "description": "Whose body it is"}
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}}
    text = {"description": "Text", "content": {"text/plain": {"schema": TEXT}}}
    return {
        "/": {"get": _page("What Ollama says, for programs that look for it", answer=text)},
        "/health": {"get": _page("Whether the process lives", thing(("status",), status={"const": "ok"}))},
        "/ready": {
            "get": _page(
                "Whether a task could be answered now",
                thing(("status", "hosts"), status=TEXT, hosts=_HOSTS),
                unready=thing(("status", "hosts"), status=TEXT, hosts=_HOSTS),
            )
        },
        "/metrics": {"get": _page("Figures for Prometheus", answer=text)},
        "/openapi.json": {"get": _page("This document", ANY_OBJECT)},
        "/api/version": {
            "get": _page(
                "The version of Ollama that clients may count on",
                thing(("version",), version=TEXT),
                error="OllamaError",
            )
        },
        "/api/tags": {
            "get": _page(
                "Models, the virtual ones first",
                thing(("models",), models=listed(thing(("name", "model", "size", "digest")))),
                error="OllamaError",
            )
        },
        "/api/ps": {
            "get": _page(
                "Models in memory",
                thing(("models",), models=listed(thing(("name", "model")))),
                error="OllamaError",
            )
        },
        "/api/show": {
            "post": _page(
                "One model",
                thing(("details", "model_info", "capabilities"), capabilities=listed(TEXT)),
                error="OllamaError",
                asks=thing(("model",), model=_NAMED_MODEL, verbose=SWITCH),
            )
        },
        "/v1/models": {"get": _page("Models", models["schema"])},
        "/v1/models/{id}": {
            "get": _page("One model", one_of(_MODEL_ENTRY, thing(("id", "display_name"))))
            | {"parameters": [{"name": "id", "in": "path", "required": True, "schema": _NAMED_MODEL}]}
        },
        "/router/route": {
            "post": _page(
                "The decision for a body of any of the paths that answer, without running it",
                answer=decided,
                asks=one_of(*(ref(task.asks) for task in _TASKS.values())),
            )
            | {"parameters": [path, _asked_header("x-router-timeout-s")]}
        },
        "/router/hosts": {
            "get": _page(
                "What is in the memory of each host, who waits and what is loaded there",
                thing(("hosts",), hosts=listed(ref("HostNow"))),
            )
        },
        "/router/decisions": {
            "get": _page("The last decisions", thing(("decisions",), decisions=listed(_RECORD)))
            | {"parameters": [limit]}
        },
        "/router/decisions/{id}": {
            "get": _page("One decision, explained later", _RECORD)
            | {"parameters": [{"name": "id", "in": "path", "required": True, "schema": TEXT}]}
        },
    }


def _managing() -> dict[str, Any]:
    about = "Passed on to the first Ollama host: "
    bodies = {
        "pull": thing(("model",), model=TEXT, stream=SWITCH),
        "push": thing(("model",), model=TEXT, stream=SWITCH),
        "create": thing(("model",), model=TEXT, from_=TEXT, system=TEXT, stream=SWITCH),
        "copy": thing(("source", "destination"), source=TEXT, destination=TEXT),
    }
    passed = {"description": "What the host answers"}
    told: dict[str, Any] = {
        f"/api/{name}": {"post": _page(about + name, answer=passed, asks=body, error="OllamaError")}
        for name, body in bodies.items()
    }
    told["/api/delete"] = {
        "delete": _page(
            about + "delete", answer=passed, asks=thing(("model",), model=TEXT), error="OllamaError"
        )
    }
    digest = {"name": "digest", "in": "path", "required": True, "schema": {**TEXT, "format": "digest"}}
    blob = _page(about + "a blob", answer=passed, error="OllamaError") | {"parameters": [digest]}
    told["/api/blobs/{digest}"] = {"post": blob}
    return told


def _page(
    about: str,
    schema: Schema | None = None,
    *,
    answer: dict[str, Any] | None = None,
    asks: Schema | None = None,
    error: str = "OpenAIError",
    unready: Schema | None = None,
) -> dict[str, Any]:
    answer = answer or {"description": "The answer", "content": {"application/json": {"schema": schema}}}
    responses = {"200": answer} | _failures(error)
    if unready is not None:
        content = {"application/json": {"schema": unready}}
        responses["503"] = {"description": "Not ready", "content": content}
    told: dict[str, Any] = {"summary": about, "responses": responses}
    if asks is not None:
        told["requestBody"] = _body(asks)
    return told


def _body(schema: Schema) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _failures(schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": ref(schema)}}
    return {status: {"description": about, "content": content} for status, about in _STATUSES.items()}
