"""From a body to what each kind of server is sent, and from pieces to bytes, without a server between."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from llm_router.answer import Answer, Delta, Usage
from llm_router.fleet.schema import Quirks
from llm_router.gateway.wires import endpoints
from llm_router.gateway.wires.base import Asked, Told
from llm_router.providers import as_sent, ollama_wire, openai_wire
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.request import ApiKind

ENDPOINTS = {endpoint.path: endpoint for endpoint in endpoints()}
PNG = "iVBORw0KGgoAAAANSUhEUg=="
ROUTER: Any = {"decision_id": "d1", "model": "m:7b"}
TOLD = Told("m:7b", ROUTER, 1_700_000_000.5, "r1")
USED = Usage(prompt_tokens=9, output_tokens=3, load_s=0.5, prefill_s=0.25, decode_s=1.0)
SCHEMA: Any = {"type": "object", "properties": {"age": {"type": "integer"}}}


def asked(path: str, body: dict[str, Any]) -> Asked:
    found = ENDPOINTS[path].parse(msgspec.json.encode(body))
    assert isinstance(found, Asked)
    return found


def to_ollama(path: str, body: dict[str, Any], *, quirks: Quirks | None = None, think: Any = ...) -> Any:
    """What Ollama's native API is sent for it."""
    request = asked(path, body).request
    if request.kind is ApiKind.EMBEDDING:
        texts = EmbedCall("m", request.inputs, 4096, request.dimensions, request)
        return ollama_wire.embed_task(texts)[1]
    wanted = request.think if think is ... else think
    call = ChatCall("m", request, num_ctx=4096, think=wanted, quirks=quirks or Quirks())
    native = request.kind is ApiKind.GENERATE
    sent = as_sent.sent_body(call, "/api/generate" if native else "/api/chat")
    if sent is not None:
        return as_sent.ollama_body(sent, call)
    return ollama_wire.generate_body(call) if native else ollama_wire.chat_body(call)


def to_openai(path: str, body: dict[str, Any], *, quirks: Quirks | None = None) -> Any:
    """What a server with OpenAI's API is sent for it."""
    request = asked(path, body).request
    if request.kind is ApiKind.EMBEDDING:
        return openai_wire.embed_body(EmbedCall("m", request.inputs, None, request.dimensions, request))
    call = ChatCall("m", request, think=request.think, quirks=quirks or Quirks())
    raw = openai_wire.completes_text(call)
    sent = as_sent.sent_body(call, "/v1/completions" if raw else "/v1/chat/completions")
    if sent is not None:
        return as_sent.openai_body(sent, call)
    return openai_wire.completion_body(call) if raw else openai_wire.chat_body(call)


def answer(*pieces: Delta, reason: str = "stop", raw_end: tuple[bytes, ...] = ()) -> Answer:
    """What the router would make of the pieces."""
    return Answer(
        text="".join(piece.text for piece in pieces),
        thinking="".join(piece.thinking for piece in pieces),
        tool_calls=tuple(call for piece in pieces for call in piece.tool_calls),
        logprobs=tuple(item for piece in pieces for item in piece.logprobs),
        decision=cast("Any", None),
        model="m:7b",
        host="h",
        attempts=(),
        done_reason=reason,
        usage=USED,
        elapsed_s=2.0,
        raw_end=raw_end,
    )


def streamed(found: Asked, *pieces: Delta, reason: str = "stop", raw_end: tuple[bytes, ...] = ()) -> bytes:
    renderer = found.renderer
    shown = renderer.begin(TOLD) + b"".join(map(renderer.piece, pieces))
    return shown + renderer.final(answer(*pieces, reason=reason, raw_end=raw_end), TOLD)


def whole(found: Asked, *pieces: Delta, reason: str = "stop") -> Any:
    return msgspec.json.decode(found.renderer.whole(answer(*pieces, reason=reason), TOLD))


def events(data: bytes) -> list[Any]:
    """Server-sent events: their data as JSON, ``[DONE]`` as a text; names must be the types."""
    found: list[Any] = []
    for block in data.decode().strip().split("\n\n"):
        fields: dict[str, str] = dict(line.split(": ", 1) for line in block.split("\n"))
        data_of = fields["data"]
        told: Any = data_of if data_of == "[DONE]" else msgspec.json.decode(data_of)
        assert "event" not in fields or fields["event"] == told["type"]
        found.append(told)
    return found


def lines(data: bytes) -> list[Any]:
    assert data.endswith(b"\n")
    return [msgspec.json.decode(line) for line in data.splitlines()]
