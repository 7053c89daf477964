"""The seam for wires: how a front of the gateway reads a body and writes an answer. Pure, no I/O.

One ``Endpoint`` per path. Its ``parse`` gives an ``Asked``: the request as the router knows it, and a
``Renderer`` of its own for this one answer. In a stream the gateway calls ``begin`` before the first piece
that is shown, ``piece`` for each piece, and then exactly one of ``final`` and ``broken``; without a stream it
calls ``whole`` once. Errors before anything was sent become ``Endpoint.error``.

Where the server that answers speaks the endpoint's own wire, pieces carry ``raw``: the server's own JSON of
that line or event. Then ``piece`` and ``final`` write these very bytes, and nothing is read out of the typed
fields; only ``final`` adds the ``router`` object to the last JSON object. A piece whose ``raw`` is empty is
not written at all: its bytes come at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

from llm_router.answer import Answer, Delta, EmbeddingAnswer
from llm_router.errors import LLMRouterError
from llm_router.request import JsonObject, RouteRequest

ApiName = Literal["ollama", "openai", "anthropic"]


class Told(Struct, frozen=True):
    """What the reply says of how it came about.

    ``router`` is the object that goes into the body's final message; ``created_s`` the wall clock (seconds
    since 1970) at which the request came; ``reply_id`` a fresh id, to be used behind the wire's own prefix.
    """

    model: str
    router: JsonObject
    created_s: float
    reply_id: str


class Renderer(Protocol):
    """One answer on its wire. ``heartbeat`` may be sent between any two pieces of a stream."""

    stream_type: str
    heartbeat: bytes

    def begin(self, told: Told) -> bytes:
        """What comes before the first piece; often nothing. ``told.router`` may not be complete yet."""
        ...

    def piece(self, piece: Delta) -> bytes:
        """One piece; empty where the wire has nothing to say for it."""
        ...

    def final(self, answer: Answer, told: Told) -> bytes:
        """Everything that ends the stream, the ``router`` object included. ``answer.raw_end`` may be set."""
        ...

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        """The honest end of a stream that broke off after its first piece."""
        ...

    def whole(self, answer: Answer, told: Told) -> bytes:
        """The answer as one JSON body, for a caller that did not ask for a stream."""
        ...

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        """The reply of an embedding endpoint; others raise NotImplementedError."""
        ...


class Asked(Struct, frozen=True):
    """One body, understood. ``stream`` says whether the caller wants the answer piece by piece."""

    request: RouteRequest
    stream: bool
    renderer: Renderer


@dataclass(frozen=True, slots=True)
class Preload:
    """A body of Ollama's API without a task: load the model, or with ``keep_alive: 0`` unload it."""

    model: str
    fields: JsonObject


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of one wire.

    ``parse`` raises InvalidRequest (or another UsageError) that names the field which is wrong. ``error`` is
    the body of a failed request, in the shape that clients of the wire read, for a status and a request id.
    ``direct`` answers without a model.
    """

    api: ApiName
    path: str
    parse: Callable[[bytes], Asked | Preload]
    error: Callable[[LLMRouterError, int, str], bytes]
    direct: Callable[[Asked], bytes] | None = None


Endpoints = Mapping[str, Endpoint]
