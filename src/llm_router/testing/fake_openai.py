"""The /v1 routes: translated to native requests on the way in and to OpenAI's shapes on the way out."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any

from aiohttp import web

from llm_router.testing.fake_answers import Generation, Piece, ToolCall, logprobs_of
from llm_router.testing.fake_dialect import tool_calls_body
from llm_router.testing.fake_inference import Backend, answer_generation, embed
from llm_router.testing.fake_models import canonical_name, modified_at
from llm_router.testing.fake_streams import GARBAGE, Metrics, json_answer
from llm_router.testing.fake_wire import (
    GenerationCall,
    RefusedError,
    generation_from,
    go_json,
    go_quote,
    read_body,
)

_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}
_IMAGE_TYPES = ("jpeg", "jpg", "png", "webp")


def openai_routes(backend: Backend) -> list[web.RouteDef]:
    """Every /v1 route, bound to this backend."""
    api = OpenAiApi(backend)
    return [
        web.get("/v1/models", api.models, allow_head=False),
        web.get("/v1/models/{model:.+}", api.model, allow_head=False),
        web.post("/v1/chat/completions", api.chat),
        web.post("/v1/embeddings", api.embeddings),
    ]


def error_body(status: int, text: str) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = _ERROR_TYPES.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


class OpenAiDialect:
    """Answers as `chat.completion` and `chat.completion.chunk`."""

    content_type = "text/event-stream"

    def __init__(self, call: GenerationCall, model_name: str, *, include_usage: bool) -> None:
        self._call = call
        self._model = model_name
        self._include_usage = include_usage
        self._created = int(time.time())
        self._role_sent = False

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": "chatcmpl-417",
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "fp_ollama",
        }

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return (
            b"data: " + go_json({**self._head("chat.completion.chunk"), "choices": choices, **more}) + b"\n\n"
        )

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
        if finish_reason is None and not self._role_sent:
            self._role_sent = True
            delta = {"role": "assistant", **delta}
        return {"index": 0, "delta": delta, "finish_reason": finish_reason, **more}

    def chunk(self, piece: Piece) -> bytes:
        """One event."""
        delta = {"content": piece.content, **({"reasoning": piece.thinking} if piece.thinking else {})}
        return self._event([self._delta(delta, **self._logprobs((piece,)))])

    def tool_chunk(self, generation: Generation) -> bytes:
        """One event with every tool call."""
        return self._event([self._delta({"content": "", "tool_calls": _tool_calls(generation.tool_calls)})])

    def last(self, generation: Generation, metrics: Metrics) -> bytes:
        """The finish event, the usage where asked for, and the end mark."""
        opening = b"" if self._role_sent else self._event([self._delta({"content": ""})])
        finish = self._event([self._delta({}, _finish_reason(generation))])
        usage = self._event([], usage=_usage(generation)) if self._include_usage else b""
        return opening + finish + usage + b"data: [DONE]\n\n"

    def error(self, text: str) -> bytes:
        """What /v1 makes of an error in mid-stream: an empty event; neither the text nor an end mark."""
        self._model = ""
        return self._event([self._delta({"content": ""})])

    def garbage(self) -> bytes:
        """An event that is no JSON."""
        return b"data: " + GARBAGE + b"\n\n"

    def whole(self, generation: Generation, metrics: Metrics | None) -> dict[str, Any]:
        """The answer without streaming."""
        message: dict[str, Any] = {"role": "assistant", "content": generation.content}
        if generation.thinking:
            message["reasoning"] = generation.thinking
        if generation.tool_calls:
            message["tool_calls"] = _tool_calls(generation.tool_calls)
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": None if metrics is None else _finish_reason(generation),
            **self._logprobs(generation.pieces),
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(generation)}

    def _logprobs(self, pieces: tuple[Piece, ...]) -> dict[str, Any]:
        if not self._call.logprobs:
            return {}
        items = [item for piece in pieces for item in logprobs_of(piece, self._call.top_logprobs)]
        return {"logprobs": {"content": items}}


def _finish_reason(generation: Generation) -> str:
    called = generation.tool_calls and generation.done_reason == "stop"
    return "tool_calls" if called else generation.done_reason


def _usage(generation: Generation) -> dict[str, int]:
    prompt, completion = generation.prompt_tokens, generation.eval_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _tool_calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": call["id"],
            "index": index,
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": go_json(call["function"]["arguments"]).decode(),
            },
        }
        for index, call in enumerate(tool_calls_body(calls))
    ]


class OpenAiApi:
    """The handlers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        installed = enumerate(tuple(self._backend.installed.values()))
        data = [_model_body(model.tag, position) for position, model in installed]
        return json_answer({"object": "list", "data": data or None})

    async def model(self, request: web.Request) -> web.Response:
        """GET /v1/models/{model}."""
        name = request.match_info["model"]
        tag = canonical_name(name)
        if tag not in self._backend.installed:
            raise RefusedError(404, f"model '{tag}' not found")
        return json_answer(_model_body(name, list(self._backend.installed).index(tag)))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        body = read_body(await request.read(), "ChatCompletionRequest")
        if not body.get("messages"):
            raise RefusedError(400, "[] is too short - 'messages'")
        call = generation_from(_native_chat(body), chat=True)
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return await answer_generation(
            self._backend,
            request,
            call,
            lambda name: OpenAiDialect(call, name, include_usage=include_usage),
            chat=True,
        )

    async def embeddings(self, request: web.Request) -> web.Response:
        """POST /v1/embeddings."""
        body = read_body(await request.read(), "EmbedRequest")
        encoding = body.get("encoding_format", "float")
        if encoding.lower() not in ("float", "base64"):
            text = f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64']."
            raise RefusedError(400, text)
        if body.get("input") in (None, []):
            raise RefusedError(400, "invalid input")
        wanted = [""] if body["input"] == "" else body["input"]
        native = {"model": body.get("model", ""), "input": wanted, "dimensions": body.get("dimensions", 0)}
        answer = await embed(self._backend, request.path, native)
        vectors = [_base64_floats(v) if encoding.lower() == "base64" else v for v in answer["embeddings"]]
        data = [{"object": "embedding", "embedding": vector, "index": n} for n, vector in enumerate(vectors)]
        tokens = answer.get("prompt_eval_count", 0)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_answer({"object": "list", "data": data, "model": native["model"], "usage": usage})


def _model_body(name: str, position: int) -> dict[str, Any]:
    owner = name.rsplit("/", 2)[-2] if "/" in name else "library"
    return {
        "id": name,
        "object": "model",
        "created": int(modified_at(position).timestamp()),
        "owned_by": owner,
    }


def _base64_floats(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _native_chat(body: dict[str, Any]) -> dict[str, Any]:
    # What is not listed here is dropped without a word, num_ctx and keep_alive among it.
    options: dict[str, Any] = {"temperature": body.get("temperature", 1.0), "top_p": body.get("top_p", 1.0)}
    if "max_tokens" in body:
        options["num_predict"] = body["max_tokens"]
    options |= {key: body[key] for key in ("seed", "frequency_penalty", "presence_penalty") if key in body}
    if "stop" in body:
        options["stop"] = [body["stop"]] if isinstance(body["stop"], str) else body["stop"]
    native: dict[str, Any] = {
        "model": body.get("model", ""),
        "messages": [part for message in body["messages"] for part in _native_messages(message)],
        "stream": body.get("stream", False),
        "options": options,
    }
    native |= {key: body[key] for key in ("tools", "logprobs", "top_logprobs") if key in body}
    return {**native, **_native_format(body), **_native_think(body)}


def _native_format(body: dict[str, Any]) -> dict[str, Any]:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return {"format": "json"}
    if wanted.get("type") == "json_schema" and wanted.get("json_schema"):
        return {"format": wanted["json_schema"].get("schema")}
    return {}


def _native_think(body: dict[str, Any]) -> dict[str, Any]:
    effort = (body.get("reasoning") or {}).get("effort") or body.get("reasoning_effort")
    if not effort:
        return {}
    if effort not in _EFFORTS:
        known = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise RefusedError(400, f"invalid reasoning value: {go_quote(effort)} (must be {known})")
    return {"think": _EFFORTS[effort]}


def _native_messages(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{**message, "content": content}]
    if isinstance(content, list):
        return [_native_part(message.get("role", "user"), part) for part in content]
    if message.get("tool_calls"):
        return [{**message, "content": ""}]
    raise RefusedError(400, "invalid message content type: <nil>")


def _native_part(role: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"role": role, "content": part["text"]}
    if kind == "image_url":
        link = part.get("image_url")
        return {
            "role": role,
            "content": "",
            "images": [_image_data(link.get("url") if isinstance(link, dict) else link)],
        }
    raise RefusedError(400, "invalid message format")


def _image_data(url: object) -> str:
    if not isinstance(url, str):
        raise RefusedError(400, "invalid message format")
    if url.startswith(("http://", "https://")):
        raise RefusedError(
            400, "image URLs are not currently supported, please use base64 encoded data instead"
        )
    for kind in _IMAGE_TYPES:
        prefix = f"data:image/{kind};base64,"
        if url.startswith(prefix):
            return url.removeprefix(prefix)
    raise RefusedError(400, "invalid image input")
