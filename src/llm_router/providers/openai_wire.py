"""The OpenAI wire, both ways: our requests as its bodies, its events as our pieces.

Where vLLM, llama-server and LM Studio go beyond OpenAI's own API, their names are used: ``top_k``, ``min_p``,
``repeat_penalty`` or ``repetition_penalty``, ``reasoning_content`` or ``reasoning``, and llama-server's
``timings``. Each of them passes over the names of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llm_router.answer import Delta, Usage
from llm_router.hosts.snapshot import InstalledModel
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.providers.ollama_wire import fold_system, tool_body
from llm_router.request import ApiKind, Json, JsonObject, Message, ToolCall

MILLISECONDS_PER_S = 1e3

_OPTIONS = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "typical_p": ("typical_p",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
    "repeat_last_n": ("repeat_last_n",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "seed": ("seed",),
    "stop": ("stop",),
    "logprobs": ("logprobs",),
    "top_logprobs": ("top_logprobs",),
}
"""Ollama's name of an option → the names under which these servers read it. Others are not sent.

``num_ctx`` and the like belong to the start of such a server, not to a request.
"""

_OLLAMA_ONLY = frozenset({"keep_alive", "shift", "truncate", "context", "template"})
"""Fields of Ollama's own bodies that mean nothing, or something else, to these servers."""

_ALWAYS_RESIDENT_OWNERS = frozenset({"vllm", "llamacpp", "sglang"})
"""Servers that load their model when they start and keep it; told by ``owned_by`` in ``/v1/models``."""


class _WireFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _WireToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _WireFunction | None = None


class _WireLogprobs(msgspec.Struct):
    content: list[Any] | None = None


class _WireDelta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_WireToolCall] | None = None


class Choice(msgspec.Struct):
    """One choice of an event; ``message`` where the reply is no stream."""

    delta: _WireDelta | None = None
    message: _WireDelta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _WireLogprobs | None = None


class _WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _WireTimings(msgspec.Struct):
    """llama-server's own; in milliseconds."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None


class Event(msgspec.Struct):
    """One event of ``/v1/chat/completions`` or ``/v1/completions``."""

    model: str | None = None
    choices: list[Choice] | None = None
    usage: _WireUsage | None = None
    timings: _WireTimings | None = None
    error: Any = None

    @property
    def choice(self) -> Choice | None:
        return self.choices[0] if self.choices else None


def completes_text(call: ChatCall) -> bool:
    """Whether the prompt must reach the model as it is, which only ``/v1/completions`` does."""
    request = call.request
    return request.kind is ApiKind.GENERATE and (request.raw or request.suffix is not None)


def chat_body(call: ChatCall) -> JsonObject:
    """``/v1/chat/completions``."""
    request = call.request
    messages = request.messages if call.quirks.system_role else fold_system(request.messages)
    body = _common(call) | {"messages": _messages(messages)}
    if request.tools:
        body["tools"] = [tool_body(tool) for tool in request.tools]
        if request.must_call:
            body["tool_choice"] = "required"
    if request.response_format == "json":
        body["response_format"] = {"type": "json_object"}
    elif isinstance(request.response_format, dict):
        schema: JsonObject = {"name": "answer", "strict": True, "schema": request.response_format}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(call.think, str):
        body["reasoning_effort"] = call.think
    elif call.think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": call.think}
    return body


def completion_body(call: ChatCall) -> JsonObject:
    """``/v1/completions``, for a raw prompt or one with a suffix."""
    request = call.request
    body = _common(call) | {"prompt": request.prompt}
    if request.suffix is not None:
        body["suffix"] = request.suffix
    if body.pop("logprobs", None):
        body["logprobs"] = body.pop("top_logprobs", None) or 1
    return body


def _common(call: ChatCall) -> JsonObject:
    options = call.request.options
    body: JsonObject = {
        **{k: v for k, v in call.request.unknown.items() if k not in _OLLAMA_ONLY},
        "model": call.model,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for option, names in _OPTIONS.items():
        if options.get(option) is not None:
            body |= dict.fromkeys(names, options[option])
    if not body.get("logprobs"):  # alone it is an error there; Ollama passes over it
        body.pop("top_logprobs", None)
    if call.request.output_limit_tokens is not None:
        body["max_tokens"] = call.request.output_limit_tokens
    return body


def _messages(messages: Sequence[Message]) -> list[Json]:
    """A tool's result must name the call it answers; where the caller did not, calls are numbered."""
    open_calls: list[tuple[str, str]] = []
    out: list[Json] = []
    for position, message in enumerate(messages):
        body: JsonObject = {"role": message.role, "content": _content(message)}
        if message.tool_calls:
            calls = [(_call_id(call, position, n), call) for n, call in enumerate(message.tool_calls)]
            open_calls += [(call.name, call_id) for call_id, call in calls]
            body["tool_calls"] = [_tool_call_body(call_id, call) for call_id, call in calls]
        if message.role == "tool":
            body["tool_call_id"] = message.tool_call_id or _answered(open_calls, message.tool_name)
        out.append(body)
    return out


def _call_id(call: ToolCall, position: int, number: int) -> str:
    return call.id or f"call_{position}_{number}"


def _answered(open_calls: list[tuple[str, str]], name: str) -> str:
    for index, (called, call_id) in enumerate(open_calls):
        if not name or called == name:
            del open_calls[index]
            return call_id
    return "call_0"


def _tool_call_body(call_id: str, call: ToolCall) -> Json:
    arguments = msgspec.json.encode(call.arguments).decode()
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _content(message: Message) -> Json:
    if not message.images:
        return message.text
    parts: list[Json] = [{"type": "text", "text": message.text}] if message.text else []
    for image in message.images:
        url = f"data:{image.media_type};base64,{image.base64}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def embed_body(call: EmbedCall) -> JsonObject:
    """``/v1/embeddings``."""
    sent = call.request.unknown if call.request is not None else {}
    body: JsonObject = {name: value for name, value in sent.items() if name not in _OLLAMA_ONLY}
    body |= {"model": call.model, "input": list(call.inputs), "encoding_format": "float"}
    if call.dimensions:
        body["dimensions"] = call.dimensions
    return body


def delta(choice: Choice, raw: bytes | None = None) -> Delta:
    """The text, reasoning and logprobs of an event; its tool calls go through ``ToolCalls``."""
    piece = choice.delta or _WireDelta(content=choice.text)
    logprobs = choice.logprobs.content if choice.logprobs else None
    return Delta(
        text=piece.content or "",
        thinking=piece.reasoning_content or piece.reasoning or "",
        logprobs=tuple(logprobs or ()),
        calling=raw is not None and bool(piece.tool_calls),
        raw=raw,
    )


class ToolCalls:
    """Puts tool calls together from their pieces: the name comes first, the arguments in parts."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, _WireToolCall]] = []

    def feed(self, choice: Choice) -> None:
        for piece in (choice.delta.tool_calls if choice.delta else None) or ():
            call = self._call_of(piece)
            function, more = call.function, piece.function
            call.id = call.id or piece.id
            if function is not None and more is not None:
                function.name = function.name or more.name
                function.arguments = _joined(function.arguments, more.arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        """Every call, in order. Raises ValueError where arguments are not a JSON object."""
        return tuple(_tool_call(call) for _, call in sorted(self._calls, key=lambda pair: pair[0]))

    def _call_of(self, piece: _WireToolCall) -> _WireToolCall:
        """The call that a piece continues; without an index, a new id or name begins the next one."""
        for index, call in reversed(self._calls):
            if index == piece.index or (piece.index is None and not _begins(piece)):
                return call
        fresh = _WireToolCall(function=_WireFunction())
        self._calls.append((len(self._calls) if piece.index is None else piece.index, fresh))
        return fresh


def _begins(piece: _WireToolCall) -> bool:
    return bool(piece.id or (piece.function and piece.function.name))


def _joined(
    left: str | dict[str, Any] | None, right: str | dict[str, Any] | None
) -> str | dict[str, Any] | None:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    return left if right is None else right


def _tool_call(call: _WireToolCall) -> ToolCall:
    function = call.function or _WireFunction()
    arguments = function.arguments
    if not isinstance(arguments, dict):
        arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    return ToolCall(function.name or "", arguments, call.id or "")


def usage(counted: _WireUsage | None, timings: _WireTimings | None) -> Usage:
    counted, timings = counted or _WireUsage(), timings or _WireTimings()
    return Usage(
        prompt_tokens=counted.prompt_tokens,
        output_tokens=counted.completion_tokens,
        prefill_s=_seconds(timings.prompt_ms),
        decode_s=_seconds(timings.predicted_ms),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / MILLISECONDS_PER_S


class _Meta(msgspec.Struct):
    """llama-server's facts about its model."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_params: int | None = None
    size: int | None = None
    ftype: str | None = None


class _Status(msgspec.Struct):
    """llama-server in router mode tells which of its models are loaded."""

    value: str = ""


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    meta: _Meta | None = None
    status: _Status | None = None


class _Models(msgspec.Struct):
    data: list[_Model] | None


def installed(value: Json) -> tuple[list[InstalledModel], frozenset[str]]:
    """``/v1/models`` → the models, and the names of those that are resident as far as it can be told.

    Capabilities are not told. A server of one model has it resident, and so have servers known to load
    theirs at the start.
    """
    models = msgspec.convert(value, _Models).data or []
    resident = frozenset(model.id for model in models if _is_resident(model, alone=len(models) == 1))
    return [_installed(model) for model in models], resident


def _is_resident(model: _Model, *, alone: bool) -> bool:
    if model.status is not None:
        return model.status.value == "loaded"
    return alone or model.owned_by in _ALWAYS_RESIDENT_OWNERS


def _installed(model: _Model) -> InstalledModel:
    meta = model.meta or _Meta()
    return InstalledModel(
        name=model.id,
        size_bytes=meta.size or 0,
        context_length=model.max_model_len or meta.n_ctx or meta.n_ctx_train or model.context_length,
        params=f"{meta.n_params / 1e9:.3g}B" if meta.n_params else "",
        quantization=meta.ftype or "",
    )


class _Embedding(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: _WireUsage | None = None


def vectors(value: Json) -> tuple[tuple[tuple[float, ...], ...], int | None]:
    """``/v1/embeddings`` → the vectors in the order of the inputs, and the tokens that were read."""
    body = msgspec.convert(value, _Embeddings)
    ordered = sorted(
        enumerate(body.data), key=lambda pair: pair[0] if pair[1].index is None else pair[1].index
    )
    read = body.usage.prompt_tokens if body.usage else None
    return tuple(tuple(item.embedding) for _, item in ordered), read
