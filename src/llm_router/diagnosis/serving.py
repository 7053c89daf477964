"""Who can serve what here, by the same gates as every request."""

from __future__ import annotations

from dataclasses import replace

from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.policy import World, gates
from llm_router.policy.decide import case_for
from llm_router.request import RouteRequest

_ABOUT_THE_REQUEST = frozenset({"capability", "context"})
_TASK = RouteRequest.from_text("a short task")


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


def can_serve(tag: str, category_name: str, world: World) -> bool:
    """Whether a host can answer tasks of the category with the model now, whatever the task carries."""
    category = world.fleet.category(category_name)
    needed = category.requires.capability or "completion"
    for host in reachable(world):
        case = case_for(tag, _TASK, category, world, host)
        if case.installed is None or kept_out(tag, host, world):
            continue
        if needed in case.capabilities and case.num_ctx > category.requires.min_context_tokens:
            return True
    return False


def serving(category_name: str, world: World) -> str | None:
    """The model that answers tasks of the category now; None where none can."""
    choices = world.fleet.category(category_name).models
    return next((c.model for c in choices if can_serve(c.model, category_name, world)), None)


def leads(tag: str, world: World) -> tuple[str, ...]:
    """Categories whose first choice the model is."""
    fleet = world.fleet
    return tuple(name for name in fleet.categories if fleet.choice_for(name) == tag)
