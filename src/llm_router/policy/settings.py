"""The knobs of the policy, as one value that is handed in."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from llm_router.names import Preference


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True):
    prefer: Annotated[
        Literal["owner", "score"],
        Meta(
            description="owner: the fleet's choice answers whenever it may, the score orders the rest; "
            "score: the score orders all of them"
        ),
    ] = "owner"
    time_weight: Annotated[
        float, Meta(ge=0, le=5, description="what slowness costs, against quality 0 to 1")
    ] = 0.15
    time_scale_s: Annotated[
        float, Meta(gt=0, description="seconds at which half of the time weight is charged")
    ] = 60.0
    memory_weight: Annotated[float, Meta(ge=0, le=5, description="what filling the whole memory costs")] = (
        0.05
    )
    commercial_only: Annotated[
        bool, Meta(description="refuse models whose licence does not allow paid work")
    ] = False
    allow_cloud: Annotated[
        bool, Meta(description="allow names ending in :cloud, which leave this machine")
    ] = False
    max_output_reserve_tokens: Annotated[
        int,
        Meta(ge=0, description="context kept free for the answer where the caller set no limit, in tokens"),
    ] = 1024


@functools.lru_cache(maxsize=16)
def preferring(settings: PolicySettings, prefer: Preference) -> PolicySettings:
    """The same rules for one request that looks for the quickest answer, or for the best one.

    ``fast`` charges a second of waiting about as much as 0.02 of quality; ``best`` looks at quality alone.
    """
    if prefer == "best":
        return msgspec.structs.replace(settings, prefer="score", time_weight=0.0, memory_weight=0.0)
    return msgspec.structs.replace(settings, prefer="score", time_weight=1.0, time_scale_s=20.0)
