"""What can be promised of requests that have not come yet, for clients that ask before they send one.

A request that is left to the router may be put into one of several kinds of task, and each has its own models
here. So what is promised is what holds for every kind that it may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_router.decision import Classification, Decision
from llm_router.fleet.fleet import Fleet
from llm_router.policy import gates
from llm_router.policy.decide import World, decide
from llm_router.policy.needs import Demand
from llm_router.request import Image, Message, RouteRequest, Tool

_PICTURE = Image("image/png", "")
_TOOL = Tool("a_tool")


@dataclass(frozen=True, slots=True)
class Promise:
    """``kept`` says whether every kind of task that such a request may be has a model here.

    ``prompt_tokens`` is how long a prompt may be, by the upper bound of its estimate, so that each kind which
    has a model still has one, with room for the answer. 0 where nothing here can answer.
    """

    kept: bool
    prompt_tokens: int


def promise(
    world: World,
    *,
    model: str | None = None,
    category: str | None = None,
    pictures: bool = False,
    tools: bool = False,
    output_tokens: int | None = None,
) -> Promise:
    """What holds for a chat with pictures, with tools, or in words alone.

    With ``model`` it is asked for by name, with ``category`` the kind of task is known; ``output_tokens`` is
    the caller's own limit on the answer. Raises UnknownModel or UnknownCategory.
    """
    request = RouteRequest(
        messages=(Message("user", "a short task", (_PICTURE,) if pictures else ()),),
        tools=(_TOOL,) if tools else (),
        model=model,
        options={} if output_tokens is None else {"num_predict": output_tokens},
    )
    kinds = _kinds(world.fleet, request, category)
    decisions = [decide(request, Classification(kind, 1.0, "explicit", {kind: 1.0}), world) for kind in kinds]
    rooms = [_room_tokens(decision, request, world) for decision in decisions if decision.chain]
    return Promise(len(rooms) == len(kinds), min(rooms, default=0))


def _kinds(fleet: Fleet, request: RouteRequest, category: str | None) -> Sequence[str]:
    """Every kind of task that it may be put into, by the hard evidence that it carries."""
    if category is not None:
        return (category,)
    if request.model is not None:
        return (fleet.default_category,)
    needing = fleet.categories_needing
    seen = needing.get("vision", ()) if request.images else ()
    called = needing.get("tools", ()) if request.tools else ()
    embedding = needing.get("embedding", ())
    others = tuple(name for name in fleet.categories if name not in embedding)
    return tuple(dict.fromkeys((*called, *seen))) or others


def _room_tokens(decision: Decision, request: RouteRequest, world: World) -> int:
    demand = Demand(request, world.fleet.category(decision.category))
    hosts = {host.name: host for host in world.hosts}
    return max(
        gates.room_tokens(world.standing(candidate.model, hosts[candidate.host]), demand)
        for candidate in decision.chain
    )
