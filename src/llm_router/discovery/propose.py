"""From snapshots of hosts and the shipped fleet to the fleet that these hosts can serve. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from llm_router.discovery import observed, priors
from llm_router.errors import LLMRouterError
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, Machine, Model, StandIn
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import canonical, is_cloud
from llm_router.policy import gates
from llm_router.policy.needs import Demand
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest

ROUTER_PARAMS_B = (0.5, 4.0)
"""Mission Control must be small enough to stay resident and large enough to tell 18 categories apart."""

_LASTING = frozenset({"cloud", "deprecated", "memory", "ollama_version", "unusable"})
"""Reasons that no request and no wait changes; they keep a model out of the file."""

_LONG_KV_GB = 4.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """A fleet of what is installed.

    ``known`` are the models whose facts come from the shipped fleet, ``left_out`` the installed models that
    are not in it with the reason, ``unserved`` the shipped categories that nothing installed can serve with
    the reason. ``memory_source`` says where the machine's memory comes from, ``made_on`` is for the header.
    """

    models: Mapping[str, Model]
    categories: Mapping[str, Category]
    default_category: str
    machine: Machine
    router: str | None
    baseline: str
    stand_in: StandIn | None
    known: frozenset[str]
    left_out: Mapping[str, str]
    unserved: Mapping[str, str]
    hosts: tuple[HostSnapshot, ...]
    memory_source: str
    made_on: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """One installed model under the name it gets in the file, and the hosts that have it."""

    tag: str
    installed: InstalledModel
    known: Model | None
    hosts: tuple[HostSnapshot, ...]


def propose(
    hosts: Sequence[HostSnapshot],
    shipped: Fleet,
    *,
    memory_gb: float | None = None,
    memory_source: str = "",
    made_on: str = "",
) -> Proposal:
    """The fleet that the reachable hosts can serve today.

    ``memory_gb`` is what models may fill; None takes the shipped fleet's figure. A host that was configured
    with its own memory keeps it. Raises LLMRouterError where no installed model can answer.
    """
    reachable = tuple(host for host in hosts if host.reachable and host.kind != "embedded")
    machine = _machine(shipped, memory_gb, memory_source)
    found, left_out = _without_copies(_found(reachable, shipped))
    models: dict[str, Model] = {}
    for item in sorted(found, key=lambda f: f.tag):
        model = _planned(item, shipped, machine)
        reason = _kept_out(item, model, machine)
        if reason:
            left_out[item.tag] = reason
        else:
            models[item.tag] = model
    if not any(priors.can_chat(model) for model in models.values()):
        raise _nothing_answers(reachable, models, left_out)
    models = _with_a_long_context(models, shipped, machine)
    known = frozenset(item.tag for item in found if item.known is not None) & models.keys()
    categories = {
        name: msgspec.structs.replace(category, models=choices)
        for name, category in shipped.categories.items()
        if (choices := priors.choices_for(name, category, models, known, shipped))
    }
    return Proposal(
        models=_with_specialization(models, categories),
        categories=categories,
        default_category=_default_category(shipped, categories),
        machine=machine,
        router=_router(models),
        baseline=_baseline(models),
        stand_in=shipped.stand_in,
        known=known,
        left_out=left_out,
        unserved=_unserved(shipped, categories, models, machine),
        hosts=reachable,
        memory_source=machine.source,
        made_on=made_on,
    )


def _machine(shipped: Fleet, memory_gb: float | None, source: str) -> Machine:
    if memory_gb is None:
        usable, source = shipped.machine.usable_memory_gb, "the shipped fleet's figure; write your machine's"
    else:
        usable, source = memory_gb, source or "as given"
    return msgspec.structs.replace(
        shipped.machine, name="local", usable_memory_gb=round(usable, 1), source=source
    )


def _found(hosts: Iterable[HostSnapshot], shipped: Fleet) -> list[_Found]:
    """Every installed model once, whichever hosts have it; the first host's facts count."""
    found: dict[str, _Found] = {}
    for host in hosts:
        fleet_names = {canonical(served): name for name, served in host.served_names.items()}
        for installed in host.installed.values():
            name = fleet_names.get(canonical(installed.name), installed.name)
            key = canonical(name)
            if key in found:
                found[key] = replace(found[key], hosts=(*found[key].hosts, host))
                continue
            listed = shipped.find(name)
            known = shipped.models[listed] if listed else None
            if known is not None and not observed.is_same_model(installed, known):
                known = None
            tag = listed or name.strip().removesuffix(":latest")
            found[key] = _Found(tag, installed, known, (host,))
    return list(found.values())


def _without_copies(found: Iterable[_Found]) -> tuple[list[_Found], dict[str, str]]:
    """One name per model file: a second name is the same answers, and loading one evicts the other."""
    kept: dict[str, _Found] = {}
    copies: dict[str, str] = {}
    for item in sorted(found, key=lambda f: (f.known is None, len(f.tag), f.tag)):
        digest = item.installed.digest
        if digest and digest in kept:
            copies[item.tag] = f"it is the same file as {kept[digest].tag}"
        else:
            kept[digest or f"name:{item.tag}"] = item
    return list(kept.values()), copies


def _planned(item: _Found, shipped: Fleet, machine: Machine) -> Model:
    model = observed.observed_model(item.installed, item.known, shipped.models.values())
    usable_gb = max(host.usable_gb(machine.usable_memory_gb) for host in item.hosts)
    return observed.model_with(model, observed.planned_num_ctx(model, usable_gb))


def _kept_out(item: _Found, model: Model, machine: Machine) -> str | None:
    """Why no request could ever go to the model, in the words of the policy; None where one could."""
    if not item.tag.isprintable():
        return "a fleet file takes no name with characters that cannot be seen"
    if item.installed.remote_host or is_cloud(item.installed.name):
        return "it would be answered on the internet; add it by hand, with policy.allow_cloud on"
    if not {"completion", "embedding"} & set(model.capabilities):
        return (
            f"it neither answers nor embeds; it has: {', '.join(model.capabilities) or 'nothing known here'}"
        )
    told = ""
    for host in item.hosts:
        standing = gates.Standing(item.tag, model, machine, PolicySettings(), host)
        case = gates.Case(standing, Demand(RouteRequest.from_text("hello"), None))
        lasting = next((r.why for r in gates.all_rejections(case) if r.code in _LASTING), None)
        if lasting is None:
            return None
        told = told or lasting
    return told


def _nothing_answers(
    hosts: Sequence[HostSnapshot], models: Mapping[str, Model], left_out: Mapping[str, str]
) -> LLMRouterError:
    where = ", ".join(f"{host.name} at {host.url}" for host in hosts) or "no reachable host"
    if models:
        why = f"{where} has only embedding models: {', '.join(models)}"
    elif left_out:
        why = "; ".join(f"{tag}: {reason}" for tag, reason in left_out.items())
    else:
        why = f"nothing is installed on {where}"
    return LLMRouterError(
        "there is no model to route to",
        why=why,
        hint="install one first, for example: ollama pull mistral:7b; then run this again",
    )


def _with_a_long_context(models: dict[str, Model], shipped: Fleet, machine: Machine) -> dict[str, Model]:
    """Where the shipped fleet has a category for long documents and no plan reaches it, one plan is raised.

    It is that of the strongest model whose longer KV cache stays below its own weights (or 4 GB) and fits.
    """
    least = max((c.requires.min_context_tokens for c in shipped.categories.values()), default=0)
    wanted = least * 2
    chat = {tag: model for tag, model in models.items() if priors.can_chat(model)}
    if not least or any(m.planned_num_ctx >= least * priors.CONTEXT_MARGIN for m in chat.values()):
        return models
    longer = {
        tag: observed.model_with(model, wanted)
        for tag, model in chat.items()
        if model.context_length >= wanted
    }
    able = {
        tag: model
        for tag, model in longer.items()
        if observed.kv_gb(model) <= max(model.file_gb, _LONG_KV_GB)
        and model.memory_gb <= machine.usable_memory_gb
    }
    best = max(able, key=lambda tag: (priors.strength(able[tag]), tag), default=None)
    return models if best is None else models | {best: able[best]}


def _with_specialization(models: Mapping[str, Model], categories: Mapping[str, Category]) -> dict[str, Model]:
    """Each model says which category it is the first choice of, as the shipped fleet does."""
    leads: dict[str, str] = {}
    for name, category in categories.items():
        leads.setdefault(category.models[0].model, name)
    return {
        tag: msgspec.structs.replace(
            model, specialization=leads[tag], when_to_use=categories[leads[tag]].when_to_use
        )
        if tag in leads
        else model
        for tag, model in models.items()
    }


def _default_category(shipped: Fleet, categories: Mapping[str, Category]) -> str:
    answering = [n for n, c in categories.items() if c.requires.capability != "embedding"]
    return shipped.default_category if shipped.default_category in answering else answering[0]


def _router(models: Mapping[str, Model]) -> str | None:
    """The smallest model that can sort tasks quickly: one that thinks first would not, nor one that sees."""
    least, most = ROUTER_PARAMS_B
    small = {
        tag: model
        for tag, model in models.items()
        if priors.can_chat(model)
        and "thinking" not in model.capabilities
        and least <= (model.params_b or model.file_gb / 0.6) <= most
    }
    return min(
        small, key=lambda tag: ("vision" in small[tag].capabilities, small[tag].file_gb, tag), default=None
    )


def _baseline(models: Mapping[str, Model]) -> str:
    chat = {tag: model for tag, model in models.items() if priors.can_chat(model)}
    return max(chat, key=lambda tag: (chat[tag].file_gb, tag))


_NOBODY = {
    "vision": "no installed model can see pictures",
    "tools": "no installed model can call tools",
    "embedding": "no embedding model is installed",
}


def _unserved(
    shipped: Fleet, categories: Mapping[str, Category], models: Mapping[str, Model], machine: Machine
) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, category in shipped.categories.items():
        if name in categories:
            continue
        needed, least = category.requires.capability, category.requires.min_context_tokens
        told[name] = _NOBODY.get(
            needed or "", f"no installed model can be planned for {least:,} tokens and more"
        )
        example = _example(category, shipped, models, machine)
        if example:
            told[name] += f"; for example: ollama pull {example}"
    return told


def _example(category: Category, shipped: Fleet, models: Mapping[str, Model], machine: Machine) -> str | None:
    """The first model of the shipped category that can be pulled, fits, and loads on every server."""
    for choice in category.models:
        model = shipped.models[choice.model]
        fits = model.memory_gb <= machine.usable_memory_gb and not model.deprecated
        if choice.model in models:
            continue
        if fits and model.pull != "" and model.ollama is None and priors.may_serve(model, category):
            return model.pull or choice.model
    return None
