"""Checks of what the fleet means for requests: categories, language, Mission Control, licences."""

from __future__ import annotations

from collections.abc import Iterator

from llm_router.diagnosis.classifier import classifier_findings
from llm_router.diagnosis.finding import Finding, Severity
from llm_router.diagnosis.serving import can_serve, carrying, kept_out, reachable, serving, serving_text
from llm_router.diagnosis.surroundings import Surroundings
from llm_router.discovery.observed import forbids_paid_work
from llm_router.policy import World

_GROUP = "categories"


def routing_findings(world: World, seen: Surroundings) -> Iterator[Finding]:
    if reachable(world):
        yield from _categories(world)
    yield from _languages(world)
    if seen.classifier is not None:
        yield from classifier_findings(world.fleet, seen.classifier)
    yield from _mission_control(world, seen)


def _categories(world: World) -> Iterator[Finding]:
    served = 0
    for name in world.fleet.categories:
        if serving(name, world) is not None:
            served += 1
            continue
        usual = name == world.fleet.default_category
        what, text = carrying(world.fleet.category(name)), serving_text(name, world)
        told = f"no installed model can serve {name}" + (f" {what}" if what else "")
        told += ", the default category" if usual else ""
        told += f"; {text} answers it where it is a short text only" if text else ""
        severity: Severity = "problem" if usual and text is None else "warning"
        yield Finding(_GROUP, "unserved", severity, told, _pull_for(name, world), name)
    total = len(world.fleet.categories)
    if served:
        yield Finding(_GROUP, "served", "ok", f"{served} of {total} categories can be answered here")


def _pull_for(name: str, world: World) -> str:
    """The first model of the category that can be pulled and would then serve it."""
    needed = world.fleet.category(name).requires.capability or "completion"
    for choice in world.fleet.category(name).models:
        model = world.fleet.models[choice.model]
        if model.pull == "" or needed not in model.capabilities:
            continue
        if any(kept_out(choice.model, host, world, installed=False) is None for host in reachable(world)):
            return f"ollama pull {model.pull or choice.model}"
    return "list a model for it in your fleet file, or see: llm-router init"


def _languages(world: World) -> Iterator[Finding]:
    """A category for a language whose answering model was not made for it; unknown languages stay silent."""
    fleet = world.fleet
    for name, category in fleet.categories.items():
        language = category.requires.language
        answering = serving(name, world) or fleet.choice_for(name)
        languages = fleet.models[answering].languages
        if language is None or not languages or language in languages:
            continue
        better = [
            choice
            for choice in category.models
            if language in fleet.models[choice.model].languages
            and (can_serve(choice.model, name, world) or not reachable(world))
        ]
        best = max(better, key=lambda choice: choice.quality, default=None)
        text = f"{answering} answers {name}, and its makers list only {', '.join(languages)} as its languages"
        fix = "install a model that speaks it and list it first in your fleet file"
        if best is not None:
            text += f"; {best.model} lists {language} (quality {best.quality:.2f})"
            fix = f"put {best.model} first under categories.{name}.models in your fleet file"
            fix += ", or set LLM_ROUTER_POLICY__PREFER=score"
        yield Finding(_GROUP, "wrong_language", "warning", text, fix, name)


def _mission_control(world: World, seen: Surroundings) -> Iterator[Finding]:
    code, settings = "mission_control", seen.configuration.settings.classify.mission_control
    name = settings.model or world.fleet.router
    if name is None or not settings.enabled:
        why = "the fleet names none" if name is None else "it is switched off"
        text = f"no Mission Control ({why}): the built-in classifier decides alone"
        yield Finding(_GROUP, code, "info", text)
        return
    hosts = [host for host in reachable(world) if host.find_installed(name)]
    if any(host.find_resident(name) for host in hosts):
        yield Finding(_GROUP, code, "ok", f"Mission Control {name} is resident", "", name)
    elif hosts:
        text = f"Mission Control {name} is installed and not resident: the first unsure task loads it"
        yield Finding(_GROUP, code, "ok", text, "", name)
    elif reachable(world):
        known = world.fleet.find(name)
        yield Finding(
            _GROUP,
            code,
            "info",
            f"Mission Control {name} is not installed: the built-in classifier decides alone",
            f"ollama pull {(world.fleet.models[known].pull if known else None) or name}",
            name,
        )


def licence_findings(world: World) -> Iterator[Finding]:
    """Models whose licence forbids paid work while nothing keeps them from being used for it."""
    if world.settings.commercial_only:
        yield Finding("licences", "commercial_only", "ok", "models that forbid paid work are never chosen")
        return
    hosts = reachable(world)
    for tag, model in world.fleet.models.items():
        having = [host.find_installed(tag) for host in hosts]
        told = next((i.licence for i in having if i is not None and forbids_paid_work(i.licence)), "")
        by_fleet = model.licence is not None and not model.licence.commercial
        if not (by_fleet or told) or not any(having) or model.deprecated:
            continue
        licence = model.licence.id if model.licence is not None and by_fleet else told
        used = [n for n, c in world.fleet.categories.items() if any(m.model == tag for m in c.models)]
        yield Finding(
            "licences",
            "non_commercial",
            "warning",
            f"{tag} ({licence}) may not be used for paid work, and may answer {', '.join(used) or 'by name'}",
            "for paid work set LLM_ROUTER_POLICY__COMMERCIAL_ONLY=true",
            tag,
        )
