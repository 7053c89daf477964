"""Why not that model? Every gate that keeps it out, its score beside the winner's, and what would flip it.

A flip is not guessed: the world is changed by each step in turn and the very same ``decide`` runs again, so
what is promised is what would come out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import msgspec

from llm_router.decision import Candidate, Decision, Rejection, RejectionCode
from llm_router.fleet.schema import Choice
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import canonical
from llm_router.policy import gates
from llm_router.policy.decide import World, case_for, decide, model_facts
from llm_router.policy.reasons import seconds, too_long
from llm_router.policy.waits import STILL, Moment
from llm_router.request import JsonObject, RouteRequest

_ROUNDS = 8
"""More gates than there are; a flip that has not come by then does not exist."""


class WhyNot(msgspec.Struct, frozen=True):
    """``kept_out`` holds the facts that keep ``model`` from answering.

    ``flips`` are the changes which, taken together, lead to ``outcome``; it is empty where nothing helps.
    """

    model: str
    answer_model: str | None
    answers_already: bool
    kept_out: tuple[str, ...]
    flips: tuple[str, ...]
    outcome: str

    def as_json(self) -> JsonObject:
        return {
            "model": self.model,
            "answer_model": self.answer_model,
            "answers_already": self.answers_already,
            "kept_out": list(self.kept_out),
            "flips": list(self.flips),
            "outcome": self.outcome,
        }


def why_not(
    model: str, request: RouteRequest, decision: Decision, world: World, moment: Moment = STILL
) -> WhyNot:
    """``world`` and ``moment`` are those of the decision, so that what would flip it is tried in them.

    Raises UnknownModel for a name that neither the fleet nor a host knows.
    """
    tag = world.fleet.find(model) or model
    model_facts(tag, world)
    if decision.answer_model == tag:
        return WhyNot(tag, tag, True, (), (), "it is the model that answers")
    kept_out = [*_not_listed(tag, decision, world), *_gates(tag, request, decision, world)]
    position = _position(tag, decision)
    if position is not None:
        kept_out.append(_outranked(decision.chain[position], decision, world))
    flips, outcome = _flips(tag, request, decision, world, moment)
    return WhyNot(tag, decision.answer_model, False, tuple(kept_out), flips, outcome)


def _not_listed(tag: str, decision: Decision, world: World) -> list[str]:
    if any(choice.model == tag for choice in world.fleet.category(decision.category).models):
        return []
    listed = [name for name, c in world.fleet.categories.items() if any(m.model == tag for m in c.models)]
    probabilities = decision.classification.probabilities
    where = ", ".join(f"{name} (probability {probabilities.get(name, 0):.2f})" for name in listed)
    return [f"the fleet does not list it for {decision.category}; it is listed for: {where or 'no category'}"]


def _gates(tag: str, request: RouteRequest, decision: Decision, world: World) -> list[str]:
    category = world.fleet.category(decision.category)
    told: dict[str, None] = {}
    for host in world.fleet_hosts or (None,):
        case = case_for(tag, request, category, world, host)
        for rejection in gates.all_rejections(case):
            told[f"{rejection.code}: {rejection.why}"] = None
    return list(told)


def _outranked(own: Candidate, decision: Decision, world: World) -> str:
    best, deadline_s = decision.chain[0], decision.deadline_s
    lead = (
        f"score {own.score:.3f} against {best.score:.3f} of {best.model}: "
        f"quality {own.quality:.2f} against {best.quality:.2f}, "
        f"about {own.estimate.total_s:.0f} s against {best.estimate.total_s:.0f} s, "
        f"{own.estimate.memory_gb:.0f} GB against {best.estimate.memory_gb:.0f} GB"
    )
    if deadline_s is not None and own.is_late(deadline_s):
        late = f"it would take about {seconds(own.estimate.total_s)}, {too_long(deadline_s)}"
        also = "; so would all others, and the quickest goes first" if best.is_late(deadline_s) else ""
        return f"{late}{also}: {lead}"
    if own.score > best.score and best.stays and best.model != own.model:
        return f"it answered the turn before, and a tool has just answered, though the {lead}"
    if own.score > best.score and world.settings.prefer != "score":
        return f"the fleet's choice goes first (policy.prefer: {world.settings.prefer}), though the {lead}"
    if own.held_up:
        return f"{lead}, and {own.held_up} under way or waiting at {own.host}"
    return lead


def _position(tag: str, decision: Decision) -> int | None:
    return next((i for i, c in enumerate(decision.chain) if c.model == tag and not c.stand_in), None)


def _flips(
    tag: str, request: RouteRequest, decision: Decision, world: World, moment: Moment
) -> tuple[tuple[str, ...], str]:
    """Mends one obstacle after the other until ``tag`` answers, or until nothing can be mended."""
    if decide(request, decision.classification, world, _quiet(moment)).answer_model == tag:
        return ("nobody else is being answered or waits at the hosts",), f"then {tag} would answer"
    steps: list[str] = []
    for _ in range(_ROUNDS):
        longer = _more_time(tag, decision, moment)
        step = _next_step(tag, request, decision, world) if longer is None else None
        if longer is not None:
            sentence, moment = longer
        elif step is not None:
            sentence, world = step
        else:
            break
        steps.append(sentence)
        decision = decide(request, decision.classification, world, moment)
        if decision.answer_model == tag:
            return tuple(steps), f"then {tag} would answer"
    position = _position(tag, decision)
    if position is not None:
        return tuple(steps), f"then {tag} would be number {position + 1} of the chain"
    return (), f"no setting makes {tag} answer this request"


def _quiet(moment: Moment) -> Moment:
    """The same conversation at the same hosts, with nothing under way: what they hold and keep stays."""
    loads = {
        host: msgspec.structs.replace(
            load, models={}, loading="", loading_left_s=0.0, loads_waiting=(), leaving=frozenset()
        )
        for host, load in moment.loads.items()
    }
    return msgspec.structs.replace(moment, loads=loads)


def _more_time(tag: str, decision: Decision, moment: Moment) -> tuple[str, Moment] | None:
    """Where it may answer and is expected to take too long, the time that it needs."""
    position = _position(tag, decision)
    if position is None or not decision.chain[position].is_late(moment.deadline_s):
        return None
    needed_s = math.ceil(decision.chain[position].estimate.total_s)
    sentence = f"the request may take {needed_s} s (its own timeout_s, and timeouts.total_s)"
    return sentence, msgspec.structs.replace(moment, deadline_s=float(needed_s))


def _next_step(tag: str, request: RouteRequest, decision: Decision, world: World) -> tuple[str, World] | None:
    category = world.fleet.category(decision.category)
    if not any(choice.model == tag for choice in category.models) and request.model is None:
        return _listed(tag, decision, world)
    host = next((h for h in world.fleet_hosts if h.reachable), next(iter(world.fleet_hosts), None))
    rejection = gates.first_rejection(case_for(tag, request, category, world, host))
    if rejection is not None:
        mend = _MENDS.get(rejection.code)
        return mend(rejection, tag, host, world) if mend else None
    if world.settings.prefer != "score" and _position(tag, decision) is not None:
        settings = msgspec.structs.replace(world.settings, prefer="score")
        return "policy.prefer is score, so that the fleet's choice no longer goes first", replace(
            world, settings=settings
        )
    return _better(tag, decision, world)


def _listed(tag: str, decision: Decision, world: World) -> tuple[str, World]:
    name = decision.category
    category = world.fleet.categories[name]
    choices = (*category.models, Choice(model=tag, quality=category.models[-1].quality))
    return (
        f"the fleet lists {tag} under categories.{name}.models (or ask for it by name: --model {tag})",
        _with_category(world, name, choices),
    )


def _better(tag: str, decision: Decision, world: World) -> tuple[str, World] | None:
    """The quality from which its score passes the winner's, where that is possible at all."""
    position = _position(tag, decision)
    if position is None:
        return None
    own, best = decision.chain[position], decision.chain[0]
    needed = own.quality + best.score - own.score + 0.001
    if needed > 1:
        return None
    category = world.fleet.categories[decision.category]
    choices = tuple(
        msgspec.structs.replace(c, quality=needed) if c.model == tag else c for c in category.models
    )
    return (
        f"its quality for {decision.category} is {needed:.3f} or more instead of {own.quality:.2f}",
        _with_category(world, decision.category, choices),
    )


def _with_category(world: World, name: str, choices: tuple[Choice, ...]) -> World:
    category = msgspec.structs.replace(world.fleet.categories[name], models=choices)
    return replace(world, fleet=replace(world.fleet, categories={**world.fleet.categories, name: category}))


def _with_host(world: World, changed: HostSnapshot) -> World:
    hosts = tuple(changed if host.name == changed.name else host for host in world.hosts)
    return replace(world, hosts=hosts)


_Mend = Callable[[Rejection, str, HostSnapshot | None, World], tuple[str, World] | None]


def _mend_reachable(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    if host is None:
        return None
    return f"{host.name} at {host.url} answers", _with_host(world, replace(host, reachable=True, problem=""))


def _mend_installed(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    if host is None:
        return None
    name = host.served_as(tag)
    installed = {**host.installed, name: InstalledModel(name)}
    return f"it is installed on {host.name} (ollama pull {name})", _with_host(
        world, replace(host, installed=installed)
    )


def _mend_version(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    wanted = world.fleet.model(tag).ollama
    if host is None or wanted is None:
        return None
    text = f"below {wanted.below}" if wanted.below else f"{wanted.minimum} or later"
    return f"{host.name} runs Ollama {text}", _with_host(world, replace(host, version=""))


def _mend_memory(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    needed = world.standing(tag, host).memory_gb
    changed = replace(
        world,
        fleet=replace(
            world.fleet, machine=msgspec.structs.replace(world.fleet.machine, usable_memory_gb=needed)
        ),
    )
    if host is not None and host.usable_memory_gb is not None:
        changed = _with_host(changed, replace(host, usable_memory_gb=needed))
    where = host.name if host else world.fleet.machine.name
    return f"{where} has {needed:.0f} GB of usable memory", changed


def _mend_licence(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    settings = msgspec.structs.replace(world.settings, commercial_only=False)
    return "policy.commercial_only is off", replace(world, settings=settings)


def _mend_deprecated(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    model = msgspec.structs.replace(world.fleet.models[tag], deprecated=False)
    fleet = replace(world.fleet, models={**world.fleet.models, tag: model})
    return "it is no longer marked deprecated", replace(world, fleet=fleet)


def _mend_context(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    model = model_facts(tag, world)
    if tag not in world.fleet.models or model.planned_num_ctx >= model.context_length:
        return None
    larger = msgspec.structs.replace(model, num_ctx=model.context_length)
    fleet = replace(world.fleet, models={**world.fleet.models, tag: larger})
    return f"models.{tag}.num_ctx is {model.context_length} (its longest)", replace(world, fleet=fleet)


def _mend_health(
    rejection: Rejection, tag: str, host: HostSnapshot | None, world: World
) -> tuple[str, World] | None:
    if host is None:
        return None
    own = canonical(host.served_as(tag))
    rested = {name: why for name, why in host.unhealthy.items() if name != own}
    return "its rest after the failures is over", _with_host(world, replace(host, unhealthy=rested))


_MENDS: dict[RejectionCode, _Mend] = {
    "host_unreachable": _mend_reachable,
    "not_installed": _mend_installed,
    "ollama_version": _mend_version,
    "memory": _mend_memory,
    "licence": _mend_licence,
    "deprecated": _mend_deprecated,
    "context": _mend_context,
    "unhealthy": _mend_health,
}
"""What can be mended from outside. A missing capability, a cloud name and an unloadable model cannot."""
