"""The knobs of classification."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1)]


class MissionControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="ask the small language model where the encoder is unsure")] = (
        True
    )
    model: Annotated[Text | None, Meta(description="the model to ask; empty: the fleet's router")] = None
    prompt: Annotated[
        Text | None, Meta(description="file with its prompt; empty: the one that is shipped")
    ] = None
    candidates: Annotated[
        int, Meta(ge=2, le=100, description="how many of the encoder's likeliest categories it chooses among")
    ] = 6
    examples: Annotated[
        int, Meta(ge=0, le=8, description="how many examples of each category it is shown, where they fit")
    ] = 2
    max_prompt_tokens: Annotated[
        int, Meta(ge=256, le=32768, description="longest prompt in tokens; less where its context is smaller")
    ] = 2048
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="limit for its answer while it is resident")
    ] = 2.0
    load_timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="limit for its answer where it must be loaded first")
    ] = 10.0
    weight: Annotated[
        Share, Meta(description="what its word weighs: 0 the encoder alone, 1 Mission Control alone")
    ] = 0.5
    failures_until_rest: Annotated[
        int, Meta(ge=1, description="failures in a row until it is left alone")
    ] = 3
    rest_s: Annotated[float, Meta(ge=0, description="how long it is then left alone, in seconds")] = 60.0
    cache_entries: Annotated[
        int, Meta(ge=0, le=100_000, description="how many of its answers are kept; only digests, no text")
    ] = 1024
    cache_ttl_s: Annotated[float, Meta(ge=0, description="how long an answer is kept, in seconds")] = 3600.0


class ClassifySettings(msgspec.Struct, frozen=True, kw_only=True):
    # Suits a model that is right in 55 % of what it is asked; for others see docs/concepts/cascade.md.
    ask_below: Annotated[
        Share, Meta(description="Mission Control is asked where the encoder's confidence is below this")
    ] = 0.55
    weights: Annotated[
        Text | None, Meta(description="file of the encoder's weights; empty: those that are shipped")
    ] = None
    mission_control: MissionControlSettings = MissionControlSettings()
