"""Who can serve what here, by the same gates and the same ``decide`` as every request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msgspec import structs

from llm_router.decision import Candidate, Classification
from llm_router.fleet.schema import Category
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.policy import World, gates
from llm_router.policy.decide import case_for, decide
from llm_router.request import Image, RouteRequest, Tool

_ABOUT_THE_REQUEST = frozenset({"capability", "context"})
_TASK = RouteRequest.from_text("a short task")
_PICTURE = Image("image/png", "iVBORw==")
_CARRYING: Mapping[str, tuple[str, RouteRequest]] = {
    "vision": ("with a picture", RouteRequest.from_text("a short task", images=[_PICTURE])),
    "tools": ("with tools", structs.replace(_TASK, tools=(Tool("look_up"),))),
}
"""By the capability that a category needs: what its tasks carry, and the smallest such task."""


def reachable(world: World) -> tuple[HostSnapshot, ...]:
    return tuple(host for host in world.fleet_hosts if host.reachable)


def kept_out(tag: str, host: HostSnapshot, world: World, *, installed: bool = True) -> tuple[str, str] | None:
    """Code and sentence of what keeps every request from the model on that host; None where nothing does.

    With ``installed=False`` the host is taken as if it had the model.
    """
    if not installed:
        served = host.served_as(tag)
        host = replace(host, installed={**host.installed, served: InstalledModel(served)})
    for rejection in gates.all_rejections(case_for(tag, _TASK, None, world, host)):
        if rejection.code not in _ABOUT_THE_REQUEST:
            return rejection.code, rejection.why
    return None


def carrying(category: Category) -> str:
    """What tasks of the category bring besides a short text: ``with a picture``; empty where that is all."""
    capability, most_tokens = category.requires.capability or "", category.requires.min_context_tokens
    if capability in _CARRYING:
        return _CARRYING[capability][0]
    return f"of {most_tokens:,} tokens and more" if most_tokens else ""


def can_serve(tag: str, category_name: str, world: World) -> bool:
    """Whether a host can answer tasks of the category with the model now, with all that they carry."""
    category = world.fleet.category(category_name)
    request = _whole(category)
    for host in reachable(world):
        case = case_for(tag, request, category, world, host)
        wide_enough = case.num_ctx > category.requires.min_context_tokens
        if wide_enough and gates.first_rejection(case) is None:
            return True
    return False


def serving(category_name: str, world: World) -> str | None:
    """The model of a host that answers tasks of the category now, with all that they carry, or None."""
    answer = answering_whole(category_name, world)
    return answer.model if answer is not None and not answer.stand_in else None


def serving_text(category_name: str, world: World) -> str | None:
    """The model of a host that answers a short task of the category in plain text now, or None."""
    answer = answering_text(category_name, world)
    return answer.model if answer is not None and not answer.stand_in else None


def answering_text(category_name: str, world: World) -> Candidate | None:
    """Who answers a short task of the category in plain text now; the stand-in counts."""
    return next(iter(_decided(_TASK, category_name, world)), None)


def answering_whole(category_name: str, world: World) -> Candidate | None:
    """Who answers tasks of the category now, with all that they carry; the stand-in counts."""
    category = world.fleet.category(category_name)
    least = category.requires.min_context_tokens
    for candidate in _decided(_whole(category), category_name, world):
        host = next(host for host in world.hosts if host.name == candidate.host)
        if not least or case_for(candidate.model, _TASK, category, world, host).num_ctx > least:
            return candidate
    return None


def _whole(category: Category) -> RouteRequest:
    return _CARRYING.get(category.requires.capability or "", ("", _TASK))[1]


def _decided(request: RouteRequest, category_name: str, world: World) -> tuple[Candidate, ...]:
    classification = Classification(category_name, 1.0, "explicit", {category_name: 1.0})
    return decide(request, classification, world).chain


def leads(tag: str, world: World) -> tuple[str, ...]:
    """Categories whose first choice the model is."""
    fleet = world.fleet
    return tuple(name for name in fleet.categories if fleet.choice_for(name) == tag)
