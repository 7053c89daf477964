"""The knobs of the policy, as one value that is handed in."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from llm_router.names import Preference


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True):
    prefer: Annotated[
        Literal["owner", "map", "score"],
        Meta(
            description="owner: what must be loaded is the fleet's choice, but what is in memory or holds "
            "up others less answers instead where its score is higher; map: the fleet's choice answers "
            "whenever it may, then the others in its order; score: the score orders all of them"
        ),
    ] = "owner"
    balance: Annotated[
        float,
        Meta(
            ge=0.02,
            le=1,
            description="from the fastest answer (0.02) to the best (1): 0.5 takes the weights as they "
            "stand, less makes time count more, at 1 it counts nothing",
        ),
    ] = 0.5
    time_weight: Annotated[
        float, Meta(ge=0, le=5, description="what slowness costs, against quality 0 to 1")
    ] = 1.0
    time_scale_s: Annotated[
        float, Meta(gt=0, description="seconds at which half of the time weight is charged")
    ] = 60.0
    memory_weight: Annotated[float, Meta(ge=0, le=5, description="what filling the whole memory costs")] = (
        0.05
    )
    crowd_weight: Annotated[
        float,
        Meta(
            ge=0,
            le=5,
            description="what a minute costs that keeps another one waiting, against quality 0 to 1; "
            "four who wait cost twice that",
        ),
    ] = 0.7
    stay_bonus: Annotated[
        float, Meta(ge=0, le=1, description="lead of the model that answered the turn before, in quality")
    ] = 0.03
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


FAST_BALANCE = 0.1


@functools.lru_cache(maxsize=16)
def preferring(settings: PolicySettings, prefer: Preference) -> PolicySettings:
    """The same rules for one request that looks for the quickest answer, or for the best one.

    ``fast`` charges a second of waiting as much as 0.1 of quality and more; ``best`` looks at quality alone.
    """
    if prefer == "best":
        return msgspec.structs.replace(settings, prefer="score", balance=1.0, memory_weight=0.0)
    return msgspec.structs.replace(settings, prefer="score", balance=min(settings.balance, FAST_BALANCE))
