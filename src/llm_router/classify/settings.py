"""The knobs of classification."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]


class MissionControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="ask the small language model where the encoder is unsure")] = (
        True
    )
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="limit for its answer while it is resident")
    ] = 2.0
    load_timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="limit for its answer where it must be loaded first")
    ] = 10.0
    weight: Annotated[Share, Meta(description="what its word weighs against the encoder, 0 to 1")] = 0.5
    failures_until_rest: Annotated[
        int, Meta(ge=1, description="failures in a row until it is left alone")
    ] = 3
    rest_s: Annotated[float, Meta(ge=0, description="how long it is then left alone, in seconds")] = 60.0


class ClassifySettings(msgspec.Struct, frozen=True, kw_only=True):
    ask_below: Annotated[
        Share, Meta(description="Mission Control is asked where the encoder's confidence is below this")
    ] = 0.45
    mission_control: MissionControlSettings = MissionControlSettings()
