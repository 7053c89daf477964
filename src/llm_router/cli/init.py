"""``llm-router init``: a fleet file made of the models that are really installed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run
from llm_router.errors import LLMRouterError, UsageError

if TYPE_CHECKING:
    from llm_router.config import Configuration
    from llm_router.discovery import Proposal
    from llm_router.hosts.snapshot import HostSnapshot


@click.command()
@click.option(
    "--output",
    "output_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write it; by default fleet.yaml in your configuration directory, where it is found.",
)
@click.option(
    "--memory-gb",
    type=click.FloatRange(min=0.1, max=100_000),
    metavar="GB",
    help="Memory that models may fill; by default what this machine has, if the host is this machine.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the file and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="What was found and written, as JSON.")
@pass_options
def init(
    options: Options,
    *,
    output_path: Path | None,
    memory_gb: float | None,
    force: bool,
    to_stdout: bool,
    as_json: bool,
) -> None:
    """Writes a fleet file of the models that are installed on your hosts.

    \b
      llm-router init
      llm-router ask "Explain how vaccines work"

    What a model can do is asked of the host, never read from its name. Kinds of task that nothing installed
    can serve are left out with a comment. Exit code 1 where no host answers or nothing is installed.
    """
    if to_stdout and (as_json or output_path):
        raise UsageError("--stdout goes with neither --json nor --output", hint="choose one of them")
    configuration = options.configuration()
    path = None if to_stdout else _target(output_path, force=force)
    proposal = _proposal(configuration, memory_gb)
    if path is None:
        from llm_router.discovery import as_yaml

        output.data(as_yaml(proposal).rstrip("\n"))
        return
    _write(path, proposal)
    if as_json:
        output.json_data(_as_json(path, proposal))
    else:
        _tell(path, proposal, configuration, by_default=output_path is None)


def _target(path: Path | None, *, force: bool) -> Path:
    """The file to write, checked before any host is asked."""
    from llm_router.config import user_directory

    path = (path.expanduser() if path else user_directory() / "fleet.yaml").resolve()
    if path.is_dir():
        raise LLMRouterError(f"cannot write {path}", why="it is a directory", hint="name a file in it")
    if path.exists() and not force:
        raise LLMRouterError(
            f"{path} exists",
            why="it may hold your own edits",
            hint="replace it with --force, look first with --stdout, or name another file with --output",
        )
    return path


def _proposal(configuration: Configuration, memory_gb: float | None) -> Proposal:
    from llm_router.discovery import propose
    from llm_router.fleet import load_fleet

    hosts = run(_snapshots(configuration))
    _refuse_unreachable(hosts, configuration)
    memory_gb, source = _memory(hosts, configuration, memory_gb)
    today = datetime.now(UTC).astimezone().date().isoformat()
    return propose(hosts, load_fleet(), memory_gb=memory_gb, memory_source=source, made_on=today)


async def _snapshots(configuration: Configuration) -> tuple[HostSnapshot, ...]:
    import msgspec

    from llm_router.assembly import hosts_of
    from llm_router.fleet import load_fleet

    settings = configuration.settings
    routing = msgspec.structs.replace(settings.routing, stand_in="never")
    return await hosts_of(msgspec.structs.replace(settings, routing=routing), load_fleet())


def _refuse_unreachable(hosts: Sequence[HostSnapshot], configuration: Configuration) -> None:
    down = [f"{host.name} at {host.url}: {host.problem}" for host in hosts if not host.reachable]
    if len(down) < len(hosts):
        for sentence in down:
            output.warning(f"left out, {sentence}")
        return
    origin = configuration.origins.get("hosts", "the default")
    way = hosts[0].way_out if hosts else "set OLLAMA_HOST to the address of an Ollama"
    raise LLMRouterError(
        "no model server to look at",
        why="; ".join(down) or "no host is configured",
        hint=f"{way} (used now: {origin}); look closer with: llm-router doctor",
    )


def _memory(
    hosts: Sequence[HostSnapshot], configuration: Configuration, given: float | None
) -> tuple[float | None, str]:
    """GB that models may fill and where the figure comes from; None where nobody can tell."""
    from llm_router.hosts.memory import is_loopback, machine_memory

    if given is not None:
        return given, "given with --memory-gb"
    told = [host.memory_gb for host in configuration.settings.hosts if host.memory_gb]
    if told:
        return max(told), "memory_gb of your settings"
    reachable = [host for host in hosts if host.reachable]
    memory = machine_memory() if all(is_loopback(host.url) for host in reachable) else None
    if memory is None:
        return None, ""
    resident_gb = sum(m.size_bytes for host in reachable for m in host.resident.values()) / 1e9
    return memory.usable_gb(resident_gb), memory.sentence(resident_gb)


def _write(path: Path, proposal: Proposal) -> None:
    """The whole file or nothing: written beside it, read back as the router would, then moved there."""
    from llm_router.discovery import as_yaml
    from llm_router.fleet import load_fleet

    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("x", encoding="utf-8") as file:
                file.write(as_yaml(proposal))
                file.flush()
                os.fsync(file.fileno())
            load_fleet([beside])
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise LLMRouterError(
            f"cannot write {path}", why=error.strerror or str(error), hint="name another file with --output"
        ) from error


def _as_json(path: Path, proposal: Proposal) -> dict[str, object]:
    return {
        "path": str(path),
        "models": list(proposal.models),
        "categories": {name: [c.model for c in cat.models] for name, cat in proposal.categories.items()},
        "router": proposal.router,
        "baseline": proposal.baseline,
        "usable_memory_gb": proposal.machine.usable_memory_gb,
        "memory_source": proposal.memory_source,
        "left_out": dict(proposal.left_out),
        "unserved": dict(proposal.unserved),
    }


def _tell(path: Path, proposal: Proposal, configuration: Configuration, *, by_default: bool) -> None:
    _show_categories(proposal)
    for tag, why in proposal.left_out.items():
        output.warning(f"{tag} is not used: {why}")
    used_gb = proposal.machine.usable_memory_gb
    output.say(f"wrote {path}: {len(proposal.models)} models, {used_gb:g} GB for them")
    for line in _next_steps(path, configuration, by_default=by_default):
        output.say(line)


def _show_categories(proposal: Proposal) -> None:
    from rich.text import Text

    from llm_router.cli.render import paragraph

    console = output.console()
    width = max(len(name) for name in (*proposal.categories, *proposal.unserved))
    for name, category in proposal.categories.items():
        first, *others = (choice.model for choice in category.models)
        more = f", +{len(others) - 2}" if len(others) > 2 else ""
        then = f"   then {', '.join(others[:2])}{more}" if others else ""
        paragraph(f"{first}{then}", console, before=Text(f"{output.one_line(name).ljust(width)}  → "))
    for name, why in proposal.unserved.items():
        paragraph(f"left out: {why}", console, before=Text(f"{output.one_line(name).ljust(width)}  – "))


def _next_steps(path: Path, configuration: Configuration, *, by_default: bool) -> list[str]:
    ask = 'llm-router ask "What is the capital of Mongolia?"'
    elsewhere = configuration.origins.get("fleet")
    if not by_default:
        return [f'next: llm-router --fleet {path} ask "What is the capital of Mongolia?"']
    if elsewhere and elsewhere != "found in the user directory":
        return [
            f"it is not used yet: {elsewhere} names other fleet files",
            f"next: remove that, or llm-router --fleet {path} ask …",
        ]
    return [
        f"next: {ask}",
        "      llm-router doctor",
        "      edit the file: the first model of a category is asked first",
    ]
