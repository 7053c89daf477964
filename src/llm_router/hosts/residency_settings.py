"""Settings of the memory of Ollama hosts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_TEN_YEARS_S = 315_360_000.0
"""Ollama takes times up to 292 years, in whole seconds here: less than one would be none."""


class ResidencySettings(msgspec.Struct, frozen=True, kw_only=True):
    manage: Annotated[
        bool,
        Meta(
            description="load and unload models on Ollama hosts in an order of the router's own; "
            "false leaves it to Ollama"
        ),
    ] = True
    keep_alive_s: Annotated[
        float,
        Meta(
            ge=1,
            le=_TEN_YEARS_S,
            description="how long a model that the router loaded stays after its last answer",
        ),
    ] = 14_400.0
    keep_alive_large_s: Annotated[
        float,
        Meta(
            ge=1,
            le=_TEN_YEARS_S,
            description="the same for a model that takes more than a third of the memory",
        ),
    ] = 1_800.0
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            description="requests that may wait at one host, here for a load or there for their turn "
            "(beyond `parallel` of one model); beyond that it counts as busy",
        ),
    ] = 512
    max_loaded: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="models that a host holds at once (OLLAMA_MAX_LOADED_MODELS, 3 per GPU where that is "
            "not set); null: learned from the models that Ollama evicts"
        ),
    ] = None
    parallel: Annotated[
        int,
        Meta(
            ge=1,
            description="requests of one model that a host answers at once (OLLAMA_NUM_PARALLEL); "
            "each takes a KV cache",
        ),
    ] = 1
    look_every_s: Annotated[
        float,
        Meta(
            ge=0,
            description="how often the gateway looks at its hosts while something goes on there, requests or "
            "not; less and less, down to once a minute, while nothing does; 0 never",
        ),
    ] = 5.0
    pins: Annotated[
        tuple[str, ...],
        Meta(description="models that never leave the memory, beside Mission Control and embedders"),
    ] = ()
    preload: Annotated[
        Literal["predicted", "kept", "off"],
        Meta(
            description="what the gateway loads when it starts, as far as there is room: kept: what never "
            "leaves; predicted: also what the last day's records say will be asked for"
        ),
    ] = "predicted"
    unload_s: Annotated[
        float, Meta(gt=0, description="how long to wait until a model that was told to leave has left")
    ] = 30.0
