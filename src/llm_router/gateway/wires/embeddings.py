"""Vectors: OpenAI's ``/v1/embeddings``, Ollama's ``/api/embed`` and its older ``/api/embeddings``."""

from __future__ import annotations

import array
import base64
import sys
from typing import Any, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from llm_router.answer import Answer, Delta, EmbeddingAnswer
from llm_router.bodies import KNOWN_FIELDS, request_from_json
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.gateway.wires import ollama
from llm_router.gateway.wires.base import Asked, Endpoint, Preload, Told
from llm_router.gateway.wires.ollama import EMBED, EMBEDDINGS
from llm_router.gateway.wires.openai_errors import error_body
from llm_router.request import ApiKind, JsonObject, RouteRequest, SentBody

T = TypeVar("T")
Shape = Literal["openai", "openai_base64", "ollama", "ollama_one"]

OPENAI = "/v1/embeddings"
_NANOSECONDS = 1_000_000_000
_encoder = msgspec.json.Encoder()


class _Format(msgspec.Struct):
    encoding_format: str | None = None
    truncate: Any = None


class _Embed(msgspec.Struct):
    model: str | None = None
    input: Any = None
    truncate: bool | None = None


class _Embeddings(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    options: dict[str, Any] | None = None


_format_decoder = msgspec.json.Decoder(_Format)
_embed_decoder = msgspec.json.Decoder(_Embed)
_embeddings_decoder = msgspec.json.Decoder(_Embeddings)


def _parse_openai(data: bytes) -> Asked:
    request = _request(OPENAI, data)
    try:
        given = _format_decoder.decode(data)
    except msgspec.ValidationError:
        given = _Format("this value")
    wanted = given.encoding_format or "float"
    if given.truncate is True:
        request = replace(request, truncate=True)
    if wanted not in ("float", "base64"):
        raise InvalidRequest(
            "cannot use encoding_format",
            why=f"{wanted[:40]!r} is neither float nor base64",
            hint="leave it out for numbers",
        )
    return Asked(request, False, _Renderer("openai_base64" if wanted == "base64" else "openai"))


def _parse_embed(data: bytes) -> Asked | Preload:
    head = _decoded(_embed_decoder, data)
    if not head.input and head.model:  # nothing to embed: load the model, or unload it
        return Preload(head.model, _sent(EMBED, data).fields)
    request = _request(EMBED, data)
    if head.truncate is not False:  # as Ollama understands it
        request = replace(request, truncate=True)
    return Asked(request, False, _Renderer("ollama"))


def _parse_one(data: bytes) -> Asked | Preload:
    """The older path takes one ``prompt``."""
    head = _decoded(_embeddings_decoder, data)
    if not head.prompt and head.model:
        return Preload(head.model, _sent(EMBEDDINGS, data).fields)
    request = RouteRequest(
        kind=ApiKind.EMBEDDING,
        inputs=(head.prompt or "",),
        model=head.model,
        options=head.options or {},
        body=_sent(EMBEDDINGS, data),
    )
    return Asked(request, False, _Renderer("ollama_one"))


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            "cannot read the body",
            why=str(error).replace("`", "'"),
            hint="send it as Ollama's API takes it",
        ) from None


def _request(path: str, data: bytes) -> RouteRequest:
    request = request_from_json(data, sent=_sent(path, data), kind=ApiKind.EMBEDDING)
    if request.kind is not ApiKind.EMBEDDING:
        raise InvalidRequest(
            "nothing to embed", why="the body has no input", hint="send a text or a list of texts as input"
        )
    return request


def _sent(path: str, data: bytes) -> SentBody:
    return SentBody(path, data, stream=False, known=KNOWN_FIELDS | {"encoding_format"})


class _Renderer:
    stream_type = ""
    heartbeat = b""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        match self._shape:
            case "ollama":
                return _encoder.encode(_ollama(answer, told))
            case "ollama_one":
                return _encoder.encode({"embedding": answer.vectors[0], "router": told.router})
            case shape:
                return _encoder.encode(_openai(answer, told, packed=shape == "openai_base64"))

    def begin(self, told: Told) -> bytes:
        raise NotImplementedError

    def piece(self, piece: Delta) -> bytes:
        raise NotImplementedError

    def final(self, answer: Answer, told: Told) -> bytes:
        raise NotImplementedError

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        raise NotImplementedError

    def whole(self, answer: Answer, told: Told) -> bytes:
        raise NotImplementedError


def _openai(answer: EmbeddingAnswer, told: Told, *, packed: bool) -> dict[str, object]:
    read = answer.prompt_tokens or 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": n, "embedding": _packed(vector) if packed else vector}
            for n, vector in enumerate(answer.vectors)
        ],
        "model": told.model,
        "usage": {"prompt_tokens": read, "total_tokens": read},
        "router": told.router,
    }


def _packed(vector: tuple[float, ...]) -> str:
    """Little-endian 32-bit floats as base64, as OpenAI sends them."""
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _ollama(answer: EmbeddingAnswer, told: Told) -> dict[str, object]:
    counted: JsonObject = {
        "total_duration": round(answer.elapsed_s * _NANOSECONDS),
        "load_duration": round((answer.load_s or 0) * _NANOSECONDS),
        "prompt_eval_count": answer.prompt_tokens,
    }
    told_of = {name: value for name, value in counted.items() if value}  # as Ollama leaves out zeros
    return {"model": told.model, "embeddings": answer.vectors, **told_of, "router": told.router}


ENDPOINTS = (
    Endpoint("openai", OPENAI, _parse_openai, error_body),
    Endpoint("ollama", EMBED, _parse_embed, ollama.error),
    Endpoint("ollama", EMBEDDINGS, _parse_one, ollama.error),
)
