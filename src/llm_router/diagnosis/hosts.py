"""Checks of each host: its address, what answers there, its version, its memory, what is resident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_router.diagnosis.finding import Finding, Severity
from llm_router.diagnosis.serving import kept_out
from llm_router.diagnosis.several import several_findings
from llm_router.diagnosis.surroundings import Surroundings
from llm_router.hosts.memory import is_loopback
from llm_router.hosts.snapshot import HostSnapshot, ResidentModel
from llm_router.policy import World
from llm_router.policy.gates import version_key

LARGE_HOST_GIB = 47
"""From this much memory on Ollama plans 262,144 tokens for every request that names no context."""

DEFAULT_LOADED_MODELS = 3
"""Models that Ollama keeps per GPU where OLLAMA_MAX_LOADED_MODELS is not set."""

DEFAULT_CONTEXT = 262_144

_LARGE_SHARE = 0.1
"""A model that holds more of the memory than this and never leaves is a warning."""

MOST_SUGGESTED_CONTEXT = 32_768
"""A longer context is never suggested: its KV cache can cost more than the model."""


@dataclass(frozen=True, slots=True)
class _Risk:
    """What is known to go wrong from one version on, up to but without another (empty: still there)."""

    since: str
    fixed_in: str
    severity: Severity
    text: str
    fix: str


_RISKS = (
    _Risk(
        "0.30.0",
        "0.32.2",
        "warning",
        "it reads model files through a second buffer, so a large model can stall while loading on a machine "
        "with shared memory",
        "update Ollama to 0.32.2 or later",
    ),
    _Risk(
        "0.31.1",
        "",
        "info",
        "a request with keep_alive to a model that is just being evicted can block every later load; this "
        "router never sends keep_alive with a request",
        "leave keep_alive out in other programs too; where loads hang, restart Ollama",
    ),
)


def host_findings(world: World, seen: Surroundings) -> Iterator[Finding]:
    hosts = world.fleet_hosts
    if not hosts:
        yield Finding(
            "hosts", "no_host", "problem", "no host is configured", "set OLLAMA_HOST to its address"
        )
    for host in hosts:
        yield _address(host, seen)
        if not host.reachable:
            yield _unreachable(host, seen, alone=not any(other.reachable for other in hosts))
            continue
        yield _answers(host)
        if host.kind == "ollama":
            yield from _versions(host)
            yield from _defaults(host, world, seen)
        yield from _memory(host, world, seen)
        yield from _residents(host, world)
    yield from several_findings(world, seen)


def _address(host: HostSnapshot, seen: Surroundings) -> Finding:
    origin = seen.configuration.origins.get("hosts", "the default; OLLAMA_HOST is not set")
    text = f"{host.name} is looked for at {host.url} ({origin})"
    if not is_loopback(host.url) and host.url.startswith("http://"):
        return Finding(
            "hosts",
            "unencrypted",
            "info",
            f"{text}; tasks travel there unencrypted",
            "use it only in a network you trust, or give it an https address",
            host.name,
        )
    return Finding("hosts", "address", "ok", text, subject=host.name)


def _unreachable(host: HostSnapshot, seen: Surroundings, *, alone: bool) -> Finding:
    severity: Severity = "problem" if alone else "warning"
    if host.is_foreign:
        return Finding(
            "hosts",
            "not_a_model_server",
            severity,
            f"what answers at {host.url} is no model server: {host.problem}",
            host.way_out,
            host.name,
        )
    return Finding(
        "hosts",
        "unreachable",
        severity,
        f"no answer from {host.name} at {host.url}: {host.problem}",
        host.way_out,
        host.name,
    )


def _answers(host: HostSnapshot) -> Finding:
    what = f"Ollama {host.version}" if host.kind == "ollama" else "an OpenAI-compatible server"
    text = f"{host.name} is {what} with {len(host.installed)} models"
    if host.installed:
        return Finding("hosts", "reachable", "ok", text, subject=host.name)
    return Finding(
        "hosts", "empty", "problem", f"{text}: nothing is installed", "see below what to pull", host.name
    )


def _versions(host: HostSnapshot) -> Iterator[Finding]:
    version = version_key(host.version)
    for risk in _RISKS:
        fixed = bool(risk.fixed_in) and version >= version_key(risk.fixed_in)
        if version >= version_key(risk.since) and not fixed:
            text = f"Ollama {host.version} on {host.name}: {risk.text}"
            yield Finding("hosts", "version_risk", risk.severity, text, risk.fix, host.name)
    silent = [model.name for model in host.installed.values() if model.capabilities is None]
    if silent and len(silent) == len(host.installed):
        yield Finding(
            "hosts",
            "no_capabilities",
            "warning",
            f"Ollama {host.version} does not tell what its models can do, so the fleet file is believed",
            "update Ollama",
            host.name,
        )


def _defaults(host: HostSnapshot, world: World, seen: Surroundings) -> Iterator[Finding]:
    """Two of Ollama's own defaults that surprise people with several large models."""
    usable_gb = host.usable_gb(world.fleet.machine.usable_memory_gb)
    if usable_gb * 1e9 / 2**30 >= LARGE_HOST_GIB:
        yield from _default_context(host, usable_gb, world, seen)
    told = seen.variables.get("OLLAMA_MAX_LOADED_MODELS")
    installed = [tag for tag in world.fleet.models if host.find_installed(tag)]
    if told is None and len(installed) > DEFAULT_LOADED_MODELS:
        yield Finding(
            "memory",
            "max_loaded_models",
            "info",
            f"{host.name} has {len(installed)} models of the fleet, and Ollama keeps {DEFAULT_LOADED_MODELS} "
            "loaded per GPU unless it was told otherwise (it does not say)",
            "set OLLAMA_MAX_LOADED_MODELS=6 where Ollama is started, if the memory allows",
            host.name,
        )


def _default_context(
    host: HostSnapshot, usable_gb: float, world: World, seen: Surroundings
) -> Iterator[Finding]:
    """What programs get that name no context, by the example of the model that it costs most."""
    told = seen.variables.get("OLLAMA_CONTEXT_LENGTH", "")
    if told.isdecimal() and 0 < int(told) < DEFAULT_CONTEXT and is_loopback(host.url):
        return
    text = (
        f"with {usable_gb:.0f} GB Ollama plans {DEFAULT_CONTEXT:,} tokens for every program that names none"
    )
    example = _dearest(host, world)
    if example is not None:
        tag, tokens, cache_gb = example
        model = world.fleet.models[tag]
        own_gb = model.memory_gb - model.file_gb
        text += (
            f": {tag} then takes {cache_gb:.0f} GB for its KV cache ({tokens:,} tokens) beside "
            f"{model.file_gb:.0f} GB of weights, and {own_gb:.1f} GB with the {model.planned_num_ctx:,} "
            "planned here"
        )
    text += (
        "; this router always sends each model's own num_ctx, and every change between the two loads it again"
    )
    yield Finding(
        "memory",
        "default_context",
        "info",
        text,
        "for other programs set OLLAMA_CONTEXT_LENGTH=8192 where Ollama is started",
        host.name,
    )


def _dearest(host: HostSnapshot, world: World) -> tuple[str, int, float] | None:
    """The installed model whose KV cache grows most at the default context: its tokens then, and GB."""
    found = []
    for tag, model in world.fleet.models.items():
        installed = host.find_installed(tag)
        if installed is None or model.kv_kib_per_token is None:
            continue
        tokens = min(DEFAULT_CONTEXT, installed.context_length or model.context_length)
        if tokens > model.planned_num_ctx:
            found.append((tag, tokens, model.kv_kib_per_token * 1024 * tokens / 1e9))
    return max(found, key=lambda example: (example[2], example[0]), default=None)


def _memory(host: HostSnapshot, world: World, seen: Surroundings) -> Iterator[Finding]:
    usable_gb = host.usable_gb(world.fleet.machine.usable_memory_gb)
    yield from _planned_more_than_there_is(host, usable_gb, seen)
    resident = tuple(host.resident.values())
    held_gb = sum(model.size_bytes for model in resident) / 1e9
    left_gb = usable_gb - held_gb
    text = f"{_held(resident, held_gb)} of {usable_gb:.0f} GB that models may fill on {host.name}"
    if left_gb < 0:
        yield Finding(
            "memory",
            "overfull",
            "warning",
            f"{text}: {-left_gb:.1f} GB too much",
            f"unload one with: ollama stop {max(resident, key=lambda m: m.size_bytes).name}",
            host.name,
        )
        return
    yield Finding("memory", "memory", "ok", f"{text}; {_fits(host, world, left_gb)}", subject=host.name)


def _held(resident: Sequence[ResidentModel], held_gb: float) -> str:
    if not resident:
        return "nothing is resident: 0 GB"
    names = ", ".join(f"{model.name} {model.size_bytes / 1e9:.1f} GB" for model in resident)
    return f"resident: {names}; {held_gb:.1f} GB" if len(resident) > 1 else f"resident: {names}"


def _fits(host: HostSnapshot, world: World, left_gb: float) -> str:
    fits = {
        tag: model.memory_gb_for(host.parallel)
        for tag, model in world.fleet.models.items()
        if model.memory_gb_for(host.parallel) <= left_gb
        and host.find_installed(tag)
        and not host.find_resident(tag)
        and kept_out(tag, host, world) is None
    }
    if not fits:
        return f"{left_gb:.1f} GB are left, and no other installed model fits beside"
    largest = max(fits, key=lambda tag: fits[tag])
    return f"{left_gb:.1f} GB are left: room for {largest} ({fits[largest]:.1f} GB with its context)"


def _planned_more_than_there_is(
    host: HostSnapshot, usable_gb: float, seen: Surroundings
) -> Iterator[Finding]:
    memory = seen.memory
    if memory is None or not is_loopback(host.url) or usable_gb <= memory.total_gb:
        return
    fitting = f"{memory.total_gb - memory.reserve_gb:.0f}"
    yield Finding(
        "memory",
        "memory_plan",
        "warning",
        f"{usable_gb:.0f} GB are planned for models on {host.name}, this machine has "
        f"{memory.total_gb:.0f} GB (a graphics card's own memory is not counted)",
        f"write machine: {{usable_memory_gb: {fitting}}} into your fleet file, or let llm-router init do it",
        host.name,
    )


def _residents(host: HostSnapshot, world: World) -> Iterator[Finding]:
    for resident in host.resident.values():
        tag = next((t for t in world.fleet.models if host.find_resident(t) is resident), None)
        yield from _never_leaves(host, world, tag, resident)
        if tag is None:
            yield Finding(
                "memory",
                "foreign_resident",
                "info",
                f"{resident.name} is resident on {host.name} and not in the fleet: another program uses "
                f"{resident.size_bytes / 1e9:.1f} GB",
                "",
                resident.name,
            )
            continue
        yield from _context(host, world, tag, resident)
        if 0 < resident.vram_bytes < resident.size_bytes:
            on_cpu_gb = (resident.size_bytes - resident.vram_bytes) / 1e9
            yield Finding(
                "memory",
                "partly_on_cpu",
                "warning",
                f"{tag} is resident with {on_cpu_gb:.1f} GB of {resident.size_bytes / 1e9:.1f} GB outside "
                "the GPU, which makes it much slower",
                "give it a smaller num_ctx in the fleet file, or unload another model",
                tag,
            )


def _never_leaves(
    host: HostSnapshot, world: World, tag: str | None, resident: ResidentModel
) -> Iterator[Finding]:
    """A model that somebody else keeps for ever. The router itself does so with what the fleet reserves."""
    if tag in world.fleet.reserved or not resident.for_ever:
        return
    size_gb, usable_gb = resident.size_bytes / 1e9, host.usable_gb(world.fleet.machine.usable_memory_gb)
    large = size_gb > _LARGE_SHARE * usable_gb
    yield Finding(
        "memory",
        "kept_by_others",
        "warning" if large else "info",
        f"{resident.name} is kept in memory on {host.name} by another program, without an end (keep_alive "
        f"-1): {size_gb:.1f} GB of {usable_gb:.0f} GB; where this router needs the room it unloads it, and "
        "the other program loads it again",
        "give it a keep_alive with an end in the other program, or leave it its room: write "
        f"memory_gb: {max(usable_gb - size_gb, 1):.0f} for {host.name} under hosts in the settings",
        resident.name,
    )


def _context(host: HostSnapshot, world: World, tag: str, resident: ResidentModel) -> Iterator[Finding]:
    planned = world.fleet.models[tag].planned_num_ctx
    installed = host.find_installed(tag)
    if installed is not None and installed.context_length:
        planned = min(planned, installed.context_length)
    if not resident.context_length or resident.context_length == planned:
        return
    here = resident.context_length
    wider = f", or set num_ctx: {here} in the fleet file" if planned < here <= MOST_SUGGESTED_CONTEXT else ""
    yield Finding(
        "memory",
        "context_mismatch",
        "warning",
        f"{tag} is resident with {resident.context_length:,} tokens of context and is planned with "
        f"{planned:,}: another program loaded it with other options, and every change between the two "
        "loads it again",
        f"send num_ctx {planned} in the other program" + wider,
        tag,
    )
