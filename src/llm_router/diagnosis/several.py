"""Checks of several hosts together: one server twice, differing versions and files, memory nobody stated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm_router.diagnosis.finding import Finding
from llm_router.diagnosis.surroundings import Surroundings
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.policy import World


def several_findings(world: World, seen: Surroundings) -> Iterator[Finding]:
    """Nothing where only one host is configured."""
    if len(world.fleet_hosts) < 2:
        return
    yield from _one_server_twice(world.fleet_hosts)
    answering = [host for host in world.fleet_hosts if host.reachable]
    ollamas = [host for host in answering if host.kind == "ollama"]
    yield from _versions(ollamas)
    yield from _memory(ollamas, world, seen)
    yield from _models(answering, world)


def _one_server_twice(hosts: Sequence[HostSnapshot]) -> Iterator[Finding]:
    by_url: dict[str, list[str]] = {}
    for host in hosts:
        by_url.setdefault(host.url.rstrip("/").lower(), []).append(host.name)
    for url, names in by_url.items():
        if len(names) > 1:
            yield Finding(
                "hosts",
                "one_server_twice",
                "warning",
                f"{' and '.join(names)} are the same server at {url}: its memory is counted {len(names)} "
                "times, and what one of them loads pushes out what the other counts on",
                "leave one of them in the settings",
                names[0],
            )


def _versions(hosts: Sequence[HostSnapshot]) -> Iterator[Finding]:
    if len({host.version for host in hosts if host.version}) > 1:
        told = ", ".join(f"{host.name} {host.version}" for host in hosts if host.version)
        yield Finding(
            "hosts",
            "versions_differ",
            "info",
            f"the hosts have different versions of Ollama: {told}; a model may load, or call tools, on "
            "one only",
            "update the older one",
        )


def _memory(hosts: Sequence[HostSnapshot], world: World, seen: Surroundings) -> Iterator[Finding]:
    stated = {host.name for host in seen.configuration.settings.hosts if host.memory_gb is not None}
    silent = [host.name for host in hosts if host.name not in stated and host.usable_memory_gb is None]
    if len(hosts) > 1 and silent:
        assumed_gb = world.fleet.machine.usable_memory_gb
        yield Finding(
            "memory",
            "memory_assumed",
            "info",
            f"nobody said how much memory {', '.join(silent)} {'has' if len(silent) == 1 else 'have'}: "
            f"{assumed_gb:.0f} GB are assumed, as for the fleet's machine ({world.fleet.machine.name})",
            "write memory_gb for each host under hosts in the settings",
        )


def _models(hosts: Sequence[HostSnapshot], world: World) -> Iterator[Finding]:
    shared, differing = [], []
    for tag in world.fleet.models:
        having = [(host.name, found) for host in hosts if (found := host.find_installed(tag)) is not None]
        if len(having) < 2:
            continue
        shared.append(tag)
        digests = {model.digest for _, model in having if model.digest}
        if len(digests) > 1:
            differing.append((tag, [name for name, _ in having]))
    for tag, names in differing:
        yield Finding(
            "hosts",
            "files_differ",
            "warning",
            f"{tag} is not the same file on {' and '.join(names)}: answers may differ with the host",
            f"pull it again where it is older: ollama pull {tag}",
            tag,
        )
    if len(hosts) > 1:
        text = f"{len(shared)} of {len(world.fleet.models)} models of the fleet are on more than one host"
        if shared:
            text += ": where it is expected to take less time answers, and a conversation prefers to stay"
        yield Finding("hosts", "shared_models", "ok", text)
