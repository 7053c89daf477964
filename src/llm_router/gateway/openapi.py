"""The gateway's paths as an OpenAPI 3.1 document, made from the same tables that answer requests."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from llm_router.gateway.wires import endpoints
from llm_router.version import __version__

_TEXT = {"type": "string"}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {"role": {"enum": ["system", "user", "assistant", "tool"]}, "content": _TEXT},
        "required": ["role", "content"],
    },
}
_TASKS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "/api/chat": ("Ollama chat", {"messages": _MESSAGES}, ["messages"]),
    "/api/generate": ("Ollama completion", {"prompt": _TEXT, "system": _TEXT}, ["prompt"]),
    "/v1/chat/completions": ("OpenAI chat", {"messages": _MESSAGES}, ["messages"]),
    "/v1/completions": ("OpenAI completion", {"prompt": _TEXT}, ["prompt"]),
    "/v1/embeddings": ("OpenAI embeddings", {"input": _TEXT}, ["input"]),
    "/api/embed": ("Ollama embeddings", {"input": _TEXT}, ["input"]),
    "/api/embeddings": ("Ollama embedding of one text", {"prompt": _TEXT}, ["prompt"]),
    "/v1/responses": ("OpenAI responses", {"input": _TEXT}, ["input"]),
    "/v1/messages": (
        "Anthropic messages",
        {"messages": _MESSAGES, "max_tokens": {"type": "integer", "minimum": 1}},
        ["messages", "max_tokens"],
    ),
}
_PAGES: dict[str, tuple[str, str, str | None]] = {
    "/health": ("get", "Whether the process lives", None),
    "/ready": ("get", "Whether a task could be answered now", None),
    "/api/version": ("get", "The version of Ollama that clients may count on", None),
    "/api/tags": ("get", "Models, the virtual ones first", None),
    "/api/ps": ("get", "Models in memory", None),
    "/api/show": ("post", "One model", "model"),
    "/v1/models": ("get", "Models", None),
    "/router/route": ("post", "The decision for a body, without running it", "prompt"),
}


@functools.lru_cache(maxsize=2)
def document(manages: bool) -> bytes:
    """JSON text."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints():
        if endpoint.path in _TASKS:
            about, fields, required = _TASKS[endpoint.path]
            paths[endpoint.path] = {"post": _task(about, endpoint.api, fields, required)}
    for path, (method, about, field) in _PAGES.items():
        paths[path] = {method: _page(about, field)}
    paths["/v1/models/{id}"] = {
        "get": _page("One model", None)
        | {"parameters": [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]}
    }
    if manages:
        for name in ("pull", "push", "create", "copy"):
            paths[f"/api/{name}"] = {"post": _page(f"Passed on to the first Ollama host: {name}", "model")}
        paths["/api/delete"] = {"delete": _page("Passed on to the first Ollama host: delete", "model")}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "llm-router",
                "version": __version__,
                "description": "One address for a fleet of local models; the model `auto` leaves the choice.",
            },
            "paths": paths,
            "components": {
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
                "schemas": {"Error": {"type": "object", "required": ["error"]}},
            },
        }
    )


def _task(about: str, api: str, fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    model = {"type": "string", "default": "auto", "description": "auto, auto-fast, auto-best, or a model"}
    stream = {"type": "boolean", "default": api == "ollama"}
    schema = {
        "type": "object",
        "properties": {"model": model, "stream": stream, **fields},
        "required": required,
    }
    return {"summary": about, "tags": [api], "requestBody": _body(schema), "responses": _responses()}


def _page(about: str, field: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": about, "responses": _responses()}
    if field is not None:
        schema = {"type": "object", "properties": {field: _TEXT}, "required": [field]}
        told["requestBody"] = _body(schema)
    return told


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _responses() -> dict[str, Any]:
    told = {
        "200": "The answer",
        "400": "The body cannot be used; the error says which field",
        "401": "No key, or an unknown one",
        "403": "Not allowed",
        "404": "No such model",
        "405": "Another method is meant",
        "413": "Too large",
        "415": "An unknown compression",
        "429": "A limit of the key",
        "501": "A part that is not installed",
        "502": "Every model that could answer failed",
        "503": "No model can answer now, or too many requests",
        "504": "No model answered in time",
    }
    return {status: {"description": about} for status, about in told.items()}
