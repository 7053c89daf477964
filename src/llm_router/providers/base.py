"""The seam for model servers: four methods, one contract suite (tests/contract) that each of them passes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from llm_router.answer import Chunk, Embeddings
from llm_router.fleet.schema import Quirks
from llm_router.hosts.snapshot import HostKind, HostSnapshot
from llm_router.request import RouteRequest


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for what, in seconds. Nothing waits without a limit."""

    connect_s: Annotated[float, Meta(gt=0, description="until a connection stands")] = 3.0
    control_s: Annotated[
        float, Meta(gt=0, description="until a short question (what is installed, resident) is answered")
    ] = 10.0
    first_byte_s: Annotated[
        float, Meta(gt=0, description="until an answer begins; a 70B model may load for a minute first")
    ] = 300.0
    idle_s: Annotated[float, Meta(gt=0, description="between two pieces of an answer")] = 120.0
    total_s: Annotated[
        float,
        Meta(gt=0, description="one request from its arrival to the last word, all models tried included"),
    ] = 1800.0


class ChatCall(msgspec.Struct, frozen=True):
    """One request for one model of one server.

    ``model`` is the server's own name. ``num_ctx`` is sent where the server takes one. ``think`` is None
    where nothing should be said about thinking. ``timeouts`` None means the provider's own. ``whole`` says
    that only the whole answer matters: pieces that come together may be given as one.
    """

    model: str
    request: RouteRequest
    num_ctx: int | None = None
    think: bool | str | None = None
    quirks: Quirks = Quirks()
    timeouts: Timeouts | None = None
    whole: bool = False


class EmbedCall(msgspec.Struct, frozen=True):
    """Texts to embed. Over-long input is an error, never cut in silence unless the caller wants it cut.

    ``request`` is where they come from: what else its body holds goes to the server too.
    """

    model: str
    inputs: tuple[str, ...]
    num_ctx: int | None = None
    dimensions: int | None = None
    request: RouteRequest | None = None


class Provider(Protocol):
    """One model server. Every method may raise a ProviderError; ``snapshot`` never does."""

    name: str
    kind: HostKind

    async def snapshot(self) -> HostSnapshot:
        """What is true of the server now; a server that is down is a snapshot too."""
        ...

    def chat(self, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece: any number of Delta, then exactly one Final.

        An error before the first non-empty Delta is the error itself; after it, it is StreamBroken.
        Closing the iterator early cancels the generation.
        """
        ...

    async def embed(self, call: EmbedCall) -> Embeddings:
        """One vector per input, in order."""
        ...

    async def close(self) -> None:
        """Gives back connections, threads and memory. May be called twice."""
        ...
