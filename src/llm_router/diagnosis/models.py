"""Checks of each model of the fleet against the hosts: missing, too large, not loadable, not what it says."""

from __future__ import annotations

from collections.abc import Iterator

from llm_router.diagnosis.finding import Finding, Severity
from llm_router.diagnosis.serving import carrying, kept_out, leads, reachable, serving, serving_text
from llm_router.discovery import observed
from llm_router.fleet.schema import Model
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.policy import World

_GROUP = "models"


def model_findings(world: World) -> Iterator[Finding]:
    hosts = reachable(world)
    if not hosts:
        return
    good, missing = 0, False
    for tag, model in world.fleet.models.items():
        having = [host for host in hosts if host.find_installed(tag)]
        found = list(_installed(tag, model, having, world) if having else _missing(tag, model, hosts, world))
        yield from found
        missing = missing or any(f.code == "missing" for f in found)
        good += bool(having) and not any(f.severity in ("warning", "problem") for f in found)
    total = len(world.fleet.models)
    yield Finding(
        _GROUP,
        "usable",
        "ok" if good else "info",
        f"{good} of {total} models of the fleet are installed as described",
        "install the missing: llm-router pull; or use what is there: llm-router init" if missing else "",
    )


def _installed(tag: str, model: Model, hosts: list[HostSnapshot], world: World) -> Iterator[Finding]:
    reasons = [kept_out(tag, host, world) for host in hosts]
    if all(reasons):
        code, why = next(reason for reason in reasons if reason)
        if code in ("deprecated", "licence"):
            yield Finding(_GROUP, code, "info", f"{tag} is installed and never chosen: {why}", "", tag)
        else:
            text = f"{tag} is installed and cannot be used: {why}{_instead(tag, world)}"
            yield Finding(_GROUP, "unusable", "warning", text, _way_out(tag, model, code, world), tag)
    for host in hosts:
        installed = host.find_installed(tag)
        if installed is not None:
            yield from _compared(tag, model, host, installed)
    below = model.ollama.below if model.ollama else None
    if below and not all(reasons):
        text = f"{tag} loads only below Ollama {below}: updating Ollama would lose it"
        yield Finding(_GROUP, "bound_to_version", "info", text, f"keep Ollama below {below}", tag)


def _way_out(tag: str, model: Model, code: str, world: World) -> str:
    if code == "memory" and model.file_gb < world.fleet.machine.usable_memory_gb:
        return f"give it a smaller num_ctx in the fleet file, or free the disk with: ollama rm {tag}"
    if code == "unhealthy":
        return "look at the log of the server; it is tried again after its rest"
    return f"free the disk with: ollama rm {tag}; or mark it deprecated: true in the fleet file"


def _compared(tag: str, model: Model, host: HostSnapshot, installed: InstalledModel) -> Iterator[Finding]:
    if not observed.is_same_model(installed, model):
        told = ", ".join(part for part in (installed.architecture, installed.params) if part)
        yield Finding(
            _GROUP,
            "different_model",
            "warning",
            f"what {host.name} has under the name {tag} is another model ({told}); the fleet describes "
            f"{', '.join(part for part in (model.architecture, model.params) if part)}",
            ("" if model.pull == "" else f"pull the real one with: ollama pull {model.pull or tag}; or ")
            + "describe yours with: llm-router init",
            tag,
        )
        return
    if installed.capabilities is None:
        return
    lacking = sorted(set(model.capabilities) - installed.capabilities)
    gained = sorted(installed.capabilities - set(model.capabilities))
    if lacking:
        yield Finding(
            _GROUP,
            "lacks_capability",
            "warning",
            f"{tag} on {host.name} has no {', '.join(lacking)} although the fleet file says so; the host is "
            "believed",
            f"it may be an older file, pull it again with: ollama pull {model.pull or tag}",
            tag,
        )
    if gained:
        text = f"{tag} on {host.name} also has {', '.join(gained)}, which the fleet file does not say"
        yield Finding(_GROUP, "gains_capability", "info", f"{text}; the host is believed", "", tag)
    if installed.context_length and installed.context_length < model.planned_num_ctx:
        yield Finding(
            _GROUP,
            "shorter_context",
            "info",
            f"{tag} is planned with {model.planned_num_ctx:,} tokens and its file ends at "
            f"{installed.context_length:,}; that is what is used",
            f"set num_ctx: {installed.context_length} in the fleet file",
            tag,
        )


def _missing(tag: str, model: Model, hosts: tuple[HostSnapshot, ...], world: World) -> Iterator[Finding]:
    if model.deprecated:
        return
    reasons = [kept_out(tag, host, world, installed=False) for host in hosts]
    if all(reasons):
        code, why = next(reason for reason in reasons if reason)
        text = f"{tag} is not installed, and would be of no use: {why}{_instead(tag, world)}"
        yield Finding(_GROUP, "not_worth_pulling" if code != "licence" else code, "info", text, "", tag)
        return
    if model.pull == "":
        yield Finding(
            _GROUP,
            "not_in_library",
            "info",
            f"{tag} is not installed, and the public library does not have it{_instead(tag, world)}",
            f"to have it, import its GGUF file: ollama create {tag} -f Modelfile",
            tag,
        )
        return
    severity: Severity = "warning" if _is_missed(tag, world) else "info"
    yield Finding(
        _GROUP,
        "missing",
        severity,
        f"{tag} is not installed ({model.file_gb:g} GB){_instead(tag, world)}",
        f"ollama pull {model.pull or tag}",
        tag,
    )


def _is_missed(tag: str, world: World) -> bool:
    """Whether a category that the model leads is answered by nothing, or by a model rated lower."""
    for name in leads(tag, world):
        quality = {choice.model: choice.quality for choice in world.fleet.category(name).models}
        answering = serving(name, world)
        if answering is None or quality[answering] < quality[tag]:
            return True
    return False


def _instead(tag: str, world: World) -> str:
    """``; instead phi4 answers efficient_reasoning`` for the categories the model is the first choice of."""
    told = [_who_answers(name, world) for name in leads(tag, world)]
    return f"; instead {', '.join(told)}" if told else ""


def _who_answers(name: str, world: World) -> str:
    """Told apart where plain text is answered by another model, or by one where the whole task is not."""
    whole, text = serving(name, world), serving_text(name, world)
    what = carrying(world.fleet.category(name))
    if whole == text or text is None or not what:
        return f"{whole or 'nothing'} answers {name}"
    return f"{whole or 'nothing'} answers {name} {what}, and {text} where it is a short text only"
