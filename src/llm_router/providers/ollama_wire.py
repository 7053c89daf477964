"""Ollama's native wire, both ways: our requests as its bodies, its lines as our pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from llm_router.answer import Delta, Embeddings, Final, Usage
from llm_router.hosts.snapshot import InstalledModel, ResidentModel
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.request import RELOADING_OPTIONS, Json, JsonObject, Message, Tool, ToolCall

NANOSECONDS_PER_S = 1e9

_TOP_LEVEL_OPTIONS = ("logprobs", "top_logprobs")
"""Settings that a caller may give among the options and that Ollama reads beside them."""


_OWN_FIELDS = frozenset({"keep_alive", "shift", "stream", "truncate"})
"""Fields of a body by which Ollama decides about memory and form: the router's own to say.

``keep_alive`` is sent on where the caller named the model: then its place in memory is the caller's wish.
"""


class _WireFunction(msgspec.Struct):
    name: str | None = None
    arguments: dict[str, Any] | str | None = None


class _WireToolCall(msgspec.Struct):
    function: _WireFunction
    id: str | None = None


class _WireMessage(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_WireToolCall] | None = None


class Line(msgspec.Struct):
    """One line of ``/api/chat`` or ``/api/generate``; durations in nanoseconds.

    Gateways and other servers with this API write null where Ollama leaves a field out.
    """

    model: str | None = None
    message: _WireMessage | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    error: str | None = None
    logprobs: list[Any] | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    context: msgspec.Raw = msgspec.Raw()


def chat_body(call: ChatCall) -> JsonObject:
    """``/api/chat``. ``keep_alive`` is no habit of ours: sending it re-arms a model that is being evicted.

    ``truncate: false`` asks for an error instead of a prompt that is cut in silence.
    """
    request = call.request
    messages = request.messages if call.quirks.system_role else fold_system(request.messages)
    body: JsonObject = {"messages": [_message(m) for m in messages]}
    if request.tools:
        body["tools"] = [tool_body(tool) for tool in request.tools]
    return body | _common(call)


def generate_body(call: ChatCall) -> JsonObject:
    """``/api/generate``, for prompts that must not be put into a chat."""
    request = call.request
    system = "\n".join(m.text for m in request.messages if m.role == "system")
    body: JsonObject = {"prompt": request.prompt}
    if system:
        body["system"] = system
    if request.images:
        body["images"] = [image.base64 for image in request.images]
    if request.suffix is not None:
        body["suffix"] = request.suffix
    if request.raw:
        body["raw"] = True
    return body | _common(call)


def _common(call: ChatCall) -> JsonObject:
    request = call.request
    options: JsonObject = {
        name: value
        for name, value in request.options.items()
        if value is not None and name not in RELOADING_OPTIONS and name not in _TOP_LEVEL_OPTIONS
    }
    if call.num_ctx:
        options["num_ctx"] = call.num_ctx
    body: JsonObject = {k: v for k, v in request.unknown.items() if k not in _OWN_FIELDS}
    if request.model is not None and "keep_alive" in request.unknown:
        body["keep_alive"] = request.unknown["keep_alive"]
    body |= {"model": call.model, "stream": True, "truncate": False, "options": options}
    if request.response_format is not None:
        body["format"] = request.response_format
    if call.think is not None:
        body["think"] = call.think
    body |= {k: request.options[k] for k in _TOP_LEVEL_OPTIONS if k in request.options}
    return body


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """For models without a system role: its text in front of the first user message."""
    system = "\n\n".join(m.text for m in messages if m.role == "system" and m.text)
    rest = [m for m in messages if m.role != "system"]
    if not system:
        return tuple(rest)
    for index, message in enumerate(rest):
        if message.role == "user":
            rest[index] = Message("user", f"{system}\n\n{message.text}".rstrip(), message.images)
            return tuple(rest)
    return (Message("user", system), *rest)


def _message(message: Message) -> JsonObject:
    body: JsonObject = {"role": message.role, "content": message.text}
    if message.images:
        body["images"] = [image.base64 for image in message.images]
    if message.tool_calls:
        body["tool_calls"] = [_call_body(call) for call in message.tool_calls]
    if message.thinking:
        body["thinking"] = message.thinking
    if message.tool_name:
        body["tool_name"] = message.tool_name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def _call_body(call: ToolCall) -> Json:
    told: JsonObject = {"function": {"name": call.name, "arguments": call.arguments}}
    return told | ({"id": call.id} if call.id else {})


def tool_body(tool: Tool) -> Json:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def embed_task(call: EmbedCall) -> tuple[str, JsonObject]:
    """Path and body. Ollama cuts long texts without a word unless told not to.

    Who came by the older path, which takes one text, gets what that gives: vectors as the model made them.
    On the other Ollama brings them to length one.
    """
    request = call.request
    older = request is not None and request.body is not None and request.body.endpoint == "/api/embeddings"
    body: JsonObject = {"model": call.model}
    cuts = request is not None and request.truncate
    body |= {"prompt": call.inputs[0]} if older else {"input": list(call.inputs), "truncate": cuts}
    options: JsonObject = {}
    if request is not None:
        sent = request.unknown
        body |= {name: value for name, value in sent.items() if name not in _OWN_FIELDS and name not in body}
        if request.model is not None and "keep_alive" in sent:
            body["keep_alive"] = sent["keep_alive"]
        options |= {k: v for k, v in request.options.items() if k not in RELOADING_OPTIONS and k != "num_ctx"}
    if call.num_ctx:
        options["num_ctx"] = call.num_ctx
    if options:
        body["options"] = options
    if call.dimensions and not older:
        body["dimensions"] = call.dimensions
    return "/api/embeddings" if older else "/api/embed", body


def delta(line: Line, raw: bytes | None = None) -> Delta:
    """What a line brings. Raises msgspec.DecodeError where a tool call's arguments are no JSON object."""
    message = line.message or _WireMessage(content=line.response, thinking=line.thinking)
    return Delta(
        text=message.content or "",
        thinking=message.thinking or "",
        tool_calls=tuple(map(_tool_call, message.tool_calls)) if message.tool_calls else (),
        logprobs=tuple(line.logprobs) if line.logprobs else (),
        raw=raw,
    )


def _tool_call(call: _WireToolCall) -> ToolCall:
    arguments = call.function.arguments
    if isinstance(arguments, str):
        arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    return ToolCall(call.function.name or "", arguments or {}, call.id or "")


def final(line: Line, raw_end: tuple[bytes, ...] = ()) -> Final:
    return Final(
        model=line.model or "",
        done_reason=line.done_reason or "stop",
        usage=Usage(
            prompt_tokens=line.prompt_eval_count,
            output_tokens=line.eval_count,
            load_s=(line.load_duration or 0) / NANOSECONDS_PER_S,
            prefill_s=(line.prompt_eval_duration or 0) / NANOSECONDS_PER_S,
            decode_s=(line.eval_duration or 0) / NANOSECONDS_PER_S,
        ),
        raw_end=raw_end,
        context=b"" if raw_end or line.context == b"null" else bytes(line.context),
    )


class _Details(msgspec.Struct):
    parameter_size: str | None = None
    quantization_level: str | None = None
    family: str | None = None
    context_length: int | None = None


class _Tag(msgspec.Struct):
    name: str = ""
    model: str = ""
    size: int = 0
    digest: str = ""
    details: _Details | None = None
    capabilities: list[str] | None = None
    remote_host: str | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


class _Running(msgspec.Struct):
    name: str = ""
    model: str = ""
    size: int = 0
    size_vram: int = 0
    context_length: int | None = None
    expires_at: str = ""


class _Ps(msgspec.Struct):
    models: list[_Running] | None = None


class Show(msgspec.Struct):
    """What of ``/api/show`` is used. ``model_info`` holds the keys of the GGUF file."""

    capabilities: list[str] | None = None
    details: _Details | None = None
    model_info: dict[str, Any] | None = None
    license: str | None = None


def installed(value: Json, *, allow_cloud: bool = False) -> list[InstalledModel]:
    """``/api/tags``. Entries that only point to a server elsewhere are left out, or marked as such."""
    tags = msgspec.convert(value, _Tags).models or []
    out = []
    for tag in tags:
        if tag.remote_host and not allow_cloud:
            continue
        details = tag.details or _Details()
        out.append(
            InstalledModel(
                name=tag.name or tag.model,
                size_bytes=tag.size,
                capabilities=None if tag.capabilities is None else frozenset(tag.capabilities),
                context_length=details.context_length,
                architecture=details.family or "",
                params=details.parameter_size or "",
                quantization=details.quantization_level or "",
                digest=tag.digest,
                remote_host=tag.remote_host or "",
            )
        )
    return out


def resident(value: Json) -> list[ResidentModel]:
    """``/api/ps``."""
    return [
        ResidentModel(
            name=running.name or running.model,
            size_bytes=running.size,
            vram_bytes=running.size_vram,
            context_length=running.context_length,
            expires_at=running.expires_at,
        )
        for running in msgspec.convert(value, _Ps).models or []
    ]


def with_details(model: InstalledModel, value: Json) -> InstalledModel:
    """What ``/api/show`` adds to an entry of ``/api/tags``."""
    show = msgspec.convert(value, Show)
    info = show.model_info or {}
    architecture = str(info.get("general.architecture") or model.architecture)
    context = info.get(f"{architecture}.context_length")
    vocabulary = info.get(f"{architecture}.vocab_size")
    capabilities = model.capabilities
    if show.capabilities is not None:
        capabilities = frozenset(show.capabilities)
    return InstalledModel(
        name=model.name,
        size_bytes=model.size_bytes,
        capabilities=capabilities,
        context_length=int(context) if isinstance(context, int | float) else model.context_length,
        architecture=architecture,
        params=model.params,
        quantization=model.quantization,
        digest=model.digest,
        kv_kib_per_token=_kv_kib_per_token(info, architecture),
        licence=((show.license or "").strip().split("\n")[0] or str(info.get("general.license") or ""))[:120],
        expert_share=_expert_share(info, architecture),
        vocab_size=vocabulary if isinstance(vocabulary, int) else None,
        remote_host=model.remote_host,
    )


def _expert_share(info: dict[str, Any], architecture: str) -> float | None:
    """Experts that one token uses, of all; None for a model without experts."""
    count, used = info.get(f"{architecture}.expert_count"), info.get(f"{architecture}.expert_used_count")
    if not isinstance(count, int) or not isinstance(used, int) or not 0 < used < count:
        return None
    return used / count


def _kv_kib_per_token(info: dict[str, Any], architecture: str) -> float | None:
    """f16 keys and values of every layer: 2 bytes x layers x KV heads x (key + value length)."""

    def number(key: str) -> float | None:
        value = info.get(f"{architecture}.{key}")
        return float(value) if isinstance(value, int | float) and value > 0 else None

    layers, heads = number("block_count"), number("attention.head_count")
    kv_heads = number("attention.head_count_kv") or heads
    width = number("embedding_length")
    head_dim = width / heads if width and heads else None
    key = number("attention.key_length") or head_dim
    value = number("attention.value_length") or head_dim
    if not (layers and kv_heads and key and value):
        return None
    return 2 * layers * kv_heads * (key + value) / 1024


def vectors(value: Json, model: str) -> Embeddings:
    """What either path gives. Raises KeyError, TypeError or ValueError where it is something else."""
    body = cast("dict[str, Any]", value)
    rows = [body["embedding"]] if "embedding" in body else body["embeddings"]
    return Embeddings(
        tuple(tuple(map(float, vector)) for vector in rows),
        model,
        body.get("prompt_eval_count"),
        load_s=(body.get("load_duration") or 0) / NANOSECONDS_PER_S,
    )
