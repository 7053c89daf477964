"""What is neither fleet nor host: settings, environment, optional parts, this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llm_router.config import Configuration
from llm_router.diagnosis.classifier import Classifier
from llm_router.diagnosis.finding import Finding
from llm_router.errors import ConfigError
from llm_router.hosts.memory import MachineMemory
from llm_router.policy import World


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything a diagnosis needs besides fleet and hosts, collected by whoever may do I/O.

    ``errors`` are settings and fleet files that could not be used; ``configuration`` is what remained.
    ``files`` are the files in use, with what each is; ``parts`` says for each optional part whether it is
    installed; ``variables`` are Ollama's own variables in this process; ``memory`` is this machine's;
    ``classifier`` is what the embedded classifier knows (None: nobody looked).
    """

    configuration: Configuration
    errors: tuple[ConfigError, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, bool] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    memory: MachineMemory | None = None
    classifier: Classifier | None = None


def settings_findings(seen: Surroundings) -> Iterator[Finding]:
    for error in seen.errors:
        yield Finding("settings", "bad_settings", "problem", str(error), error.hint or "correct or remove it")
    for path, what in seen.files.items():
        yield Finding("settings", "file", "ok", f"{what}: {path}", subject=path)
    if not seen.files:
        yield Finding(
            "settings",
            "no_files",
            "info",
            "no settings file and no fleet file of yours; the shipped fleet is used",
            "make a fleet of the models you have with: llm-router init",
        )
    if seen.configuration.settings.policy.allow_cloud:
        yield Finding(
            "settings",
            "cloud_allowed",
            "warning",
            "policy.allow_cloud is on: models whose name ends in :cloud send your tasks to the internet",
            "unset policy.allow_cloud",
        )


_PARTS = {"crewai": "the CrewAI flow", "local": "the embedded engine"}


def part_findings(world: World, seen: Surroundings) -> Iterator[Finding]:
    for part, there in seen.parts.items():
        what = _PARTS.get(part, part)
        if there:
            yield Finding(
                "optional parts", f"part_{part}", "ok", f"[{part}] is installed: {what}", subject=part
            )
        else:
            yield Finding(
                "optional parts",
                f"part_{part}",
                "info",
                f"[{part}] is not installed: {what}",
                f"pip install 'crewai-llm-router[{part}]'",
                part,
            )
    if seen.classifier is not None and not seen.classifier.problem:
        yield _arithmetic(compiled=seen.classifier.compiled)
    yield from _stand_in(world, seen)


def _arithmetic(*, compiled: bool) -> Finding:
    group, code = "optional parts", "arithmetic"
    if compiled:
        return Finding(group, code, "ok", "the built-in classifier and the token estimate are compiled")
    return Finding(
        group,
        code,
        "info",
        "the built-in classifier or the token estimate is in Python alone: the same answers, in more time",
        "install a C compiler with the headers of Python, then this package again",
    )


def _stand_in(world: World, seen: Surroundings) -> Iterator[Finding]:
    group, code = "optional parts", "stand_in"
    stand_in = world.fleet.stand_in
    if stand_in is None or seen.configuration.settings.routing.stand_in == "never":
        why = "the fleet has none" if stand_in is None else "routing.stand_in is never"
        yield Finding(group, code, "info", f"no embedded model stands in where no host can answer: {why}")
        return
    for host in world.embedded_hosts:
        if host.reachable:
            yield Finding(
                group,
                code,
                "ok",
                f"embedded {stand_in.name} stands in where no host can answer",
                "",
                host.name,
            )
        else:
            why, _, fix = host.problem.partition(": ")
            yield Finding(
                group,
                code,
                "info",
                f"no embedded model stands in where no host can answer: {why}",
                fix,
                host.name,
            )
