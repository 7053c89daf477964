"""Ollama's own wire: ``/api/chat`` and ``/api/generate``, as NDJSON or as one JSON object."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from llm_router.answer import Answer, Delta, EmbeddingAnswer, Usage
from llm_router.bodies import KNOWN_FIELDS, request_from_json
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.gateway.splice import with_member
from llm_router.gateway.wires.base import Asked, Endpoint, Preload, Told
from llm_router.request import ApiKind, Json, JsonObject, SentBody, ToolCall

CHAT, GENERATE = "/api/chat", "/api/generate"
EMBED, EMBEDDINGS = "/api/embed", "/api/embeddings"
_NANOSECONDS = 1_000_000_000
_encoder = msgspec.json.Encoder()


class _Function(msgspec.Struct):
    index: int
    name: str
    arguments: JsonObject


class _Call(msgspec.Struct, omit_defaults=True):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct, omit_defaults=True):
    role: str
    content: str
    thinking: str = msgspec.field(default="")
    tool_calls: list[_Call] = []


class _ChatLine(msgspec.Struct):
    model: str
    created_at: str
    message: _Message
    done: bool
    logprobs: Any = msgspec.UNSET


class _GenerateLine(msgspec.Struct):
    model: str
    created_at: str
    response: str
    done: bool
    thinking: Any = msgspec.UNSET
    tool_calls: Any = msgspec.UNSET
    logprobs: Any = msgspec.UNSET


class _Head(msgspec.Struct):
    """What of a body decides how it is read; the rest is read by ``bodies``."""

    stream: bool | None = None
    model: str | None = None
    messages: list[msgspec.Raw] | None = None
    prompt: str | None = None
    images: list[msgspec.Raw] | None = None
    keep_alive: Any = None


_head_decoder = msgspec.json.Decoder(_Head)


def _parse(path: str, data: bytes) -> Asked | Preload:
    if not data.strip():
        raise InvalidRequest(
            "missing request body", why="the body is empty", hint="send a JSON object with a model"
        )
    try:
        head = _head_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request_from_json(data)  # says what is wrong, and where
        raise InvalidRequest(
            "cannot read the body",
            why="it is not a request of this API",
            hint="send it as Ollama's API takes it",
        ) from None
    if _only_loads(path, head):
        return Preload(head.model or "", SentBody(path, data, stream=False).fields)
    stream = head.stream is not False
    sent = SentBody(path, data, stream=stream, known=KNOWN_FIELDS)
    kind = ApiKind.GENERATE if path == GENERATE else ApiKind.CHAT
    request = request_from_json(data, sent=sent, kind=kind)
    return Asked(request, stream, _Renderer(generates=path == GENERATE))


def _only_loads(path: str, head: _Head) -> bool:
    """A body without a task asks to load the model, or with ``keep_alive: 0`` to unload it."""
    if path == CHAT:
        return not head.messages
    return not head.prompt and not head.images


class _Renderer:
    """Lines for one answer. Spaces before JSON mean nothing: a sign of life that every client passes over."""

    stream_type = "application/x-ndjson"
    heartbeat = b" "

    def __init__(self, *, generates: bool) -> None:
        self._generates = generates
        self._told: Told | None = None
        self._calls = 0

    def begin(self, told: Told) -> bytes:
        self._told = told
        return b""

    def piece(self, piece: Delta) -> bytes:
        if piece.raw is not None:
            return piece.raw + b"\n" if piece.raw else b""
        if piece.empty and not piece.logprobs:
            return b""
        return _encoder.encode(self._line(piece)) + b"\n"

    def _line(self, piece: Delta) -> _ChatLine | _GenerateLine:
        told = self._told
        model, now = (told.model if told else ""), _now()
        logprobs = list(piece.logprobs) or msgspec.UNSET
        calls = [
            _Call(_Function(n, call.name, call.arguments), call.id)
            for n, call in enumerate(piece.tool_calls, self._calls)
        ]
        self._calls += len(calls)
        if not self._generates:
            message = _Message("assistant", piece.text, piece.thinking, calls)
            return _ChatLine(model, now, message, done=False, logprobs=logprobs)
        return _GenerateLine(
            model,
            now,
            piece.text,
            done=False,
            thinking=piece.thinking or msgspec.UNSET,
            tool_calls=calls or msgspec.UNSET,
            logprobs=logprobs,
        )

    def final(self, answer: Answer, told: Told) -> bytes:
        if answer.raw_end:
            lines = [*answer.raw_end[:-1], with_member(answer.raw_end[-1], "router", told.router)]
            return b"\n".join(lines) + b"\n"
        return _encoder.encode(self._last(answer, told, Delta())) + b"\n"

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        return _encoder.encode({"error": _sentence(error)}) + b"\n"

    def whole(self, answer: Answer, told: Told) -> bytes:
        piece = Delta(answer.text, answer.thinking, answer.tool_calls, answer.logprobs)
        if not answer.raw_end:
            return _encoder.encode(self._last(answer, told, piece))
        try:
            last: JsonObject = msgspec.json.decode(answer.raw_end[-1])
        except msgspec.DecodeError:  # in a field that nobody looked at
            return _encoder.encode(self._last(answer, told, piece))
        self._told = told
        return _encoder.encode(last | self._content(piece, last.get("message")) | {"router": told.router})

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        raise NotImplementedError

    def _content(self, piece: Delta, message: object) -> JsonObject:
        """The members that hold the answer's words; a message keeps what else the server put into it."""
        words: JsonObject = {"thinking": piece.thinking} if piece.thinking else {}
        if piece.tool_calls:
            words["tool_calls"] = [_call(call, n) for n, call in enumerate(piece.tool_calls)]
        if self._generates:
            whole: JsonObject = {"response": piece.text, **words}
        else:
            kept = message if isinstance(message, dict) else {}
            said: JsonObject = {**kept, "role": "assistant", "content": piece.text, **words}
            whole = {"message": said}
        return whole | ({"logprobs": list(piece.logprobs)} if piece.logprobs else {})

    def _last(self, answer: Answer, told: Told, piece: Delta) -> dict[str, Any]:
        body: dict[str, Any] = {"model": told.model, "created_at": _now()}
        body |= self._content(piece, None)
        body |= {"done": True, "done_reason": answer.done_reason}
        if self._generates and answer.context:
            body["context"] = msgspec.Raw(answer.context)
        return body | _counted(answer.usage, answer.elapsed_s) | {"router": told.router}


def _call(call: ToolCall, number: int) -> Json:
    told: JsonObject = {"function": {"index": number, "name": call.name, "arguments": call.arguments}}
    return told | ({"id": call.id} if call.id else {})


def _counted(usage: Usage, elapsed_s: float) -> JsonObject:
    """Durations in nanoseconds; what a server did not tell is left out, as Ollama leaves out zeros."""
    told = {
        "total_duration": round(elapsed_s * _NANOSECONDS),
        "load_duration": _nanoseconds(usage.load_s),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(usage.prefill_s),
        "eval_count": usage.output_tokens,
        "eval_duration": _nanoseconds(usage.decode_s),
    }
    return {name: value for name, value in told.items() if value}


def _nanoseconds(value_s: float | None) -> int | None:
    return None if value_s is None else round(value_s * _NANOSECONDS)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _sentence(error: LLMRouterError) -> str:
    return f"{error}; hint: {error.hint}" if error.hint else str(error)


def preloaded(path: str, model: str, done_reason: str) -> bytes:
    """The reply to a body without a task."""
    if path == EMBED:
        return _encoder.encode({"model": model, "embeddings": []})
    if path == EMBEDDINGS:
        return _encoder.encode({"embedding": []})
    content: JsonObject = {"response": ""}
    if path == CHAT:
        content = {"message": {"role": "assistant", "content": ""}}
    return _encoder.encode(
        {"model": model, "created_at": _now()} | content | {"done": True, "done_reason": done_reason}
    )


def error(error: LLMRouterError, status: int, request_id: str) -> bytes:
    """``{"error": "sentence"}``, as every client of Ollama reads it."""
    return _encoder.encode({"error": _sentence(error)})


@lru_cache(maxsize=1)
def endpoints() -> tuple[Endpoint, ...]:
    return (
        Endpoint("ollama", CHAT, lambda data: _parse(CHAT, data), error),
        Endpoint("ollama", GENERATE, lambda data: _parse(GENERATE, data), error),
    )
