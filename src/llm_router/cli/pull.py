"""``llm-router pull``: installs models of the fleet on a host, with the sizes told first."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run
from llm_router.errors import LLMRouterError, ProviderError, UnknownModel, UsageError
from llm_router.names import is_cloud

if TYPE_CHECKING:
    from llm_router.cli.progress import Progress
    from llm_router.config import HostSettings
    from llm_router.fleet import Fleet
    from llm_router.hosts.snapshot import HostSnapshot
    from llm_router.policy import World
    from llm_router.providers.ollama import OllamaProvider
    from llm_router.request import JsonObject

QUIET_S = 900.0
"""A server that checks the sum of a 40 GB file on a slow disk says nothing for minutes."""

ASK_FROM_GB = 20.0
"""From this much to download on, a person is asked first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model to install: the fleet's tag, the name to pull, GB of its file."""

    tag: str
    name: str
    size_gb: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be pulled, and what will not with the reason. ``there`` is installed already."""

    wanted: tuple[Wanted, ...]
    skipped: tuple[tuple[str, str], ...]
    there: tuple[str, ...]

    @property
    def total_gb(self) -> float:
        return sum(item.size_gb for item in self.wanted)


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]…")
@click.option("--category", metavar="NAME", help="The models of one category.")
@click.option("--all", "everything", is_flag=True, help="All models of the fleet, not only first choices.")
@click.option("--dry-run", is_flag=True, help="Say what would be pulled, and stop.")
@click.option("--host", "host_name", metavar="NAME", help="The host to install on; else the first Ollama.")
@click.option("--yes", is_flag=True, help=f"Do not ask before more than {ASK_FROM_GB:.0f} GB.")
@click.option("--force", is_flag=True, help="Pull named models even where this host could not use them.")
@click.option("--json", "as_json", is_flag=True, help="What was pulled, skipped and failed, as JSON.")
@pass_options
def pull(
    options: Options,
    *,
    models: tuple[str, ...],
    category: str | None,
    everything: bool,
    dry_run: bool,
    host_name: str | None,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Installs models that the fleet names and a host lacks.

    \b
      llm-router pull                       the first choice of every category
      llm-router pull phi4 gemma2:9b        these two
      llm-router pull --category fast_rag   whoever may answer it
      llm-router pull --all --dry-run       everything; only say what

    Models that the host could not use (too large, deprecated, not loadable by its version) are skipped and
    told. Exit code 1 where a pull failed.
    """
    if sum((bool(models), category is not None, everything)) > 1:
        raise UsageError("name models, or give --category or --all", hint="only one of the three at a time")
    if force and not models:
        raise UsageError("--force needs the names of models", hint="llm-router pull --force MODEL")
    configuration = options.configuration()
    fleet = options.fleet(configuration)
    tags = _tags(fleet, models, category, everything=everything)
    host = _host(configuration.settings.hosts, host_name)
    wish = _Wish(dry_run=dry_run, yes=yes, force=force, as_json=as_json)
    outcome = run(_pull(options, fleet, host, tags, wish))
    if as_json:
        output.json_data(outcome.as_json(host.name))
    if outcome.failed:
        click.get_current_context().exit(1)


@dataclass(frozen=True, slots=True)
class _Wish:
    dry_run: bool
    yes: bool
    force: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a plan came to: the wanted that were pulled, and those that failed with the error."""

    plan: Plan
    pulled: tuple[Wanted, ...] = ()
    failed: tuple[tuple[Wanted, ProviderError], ...] = ()

    def as_json(self, host: str) -> JsonObject:
        """The documented shape (docs/reference/json.md)."""
        return {
            "host": host,
            "wanted": [{"model": w.tag, "name": w.name, "size_gb": w.size_gb} for w in self.plan.wanted],
            "skipped": [{"model": tag, "why": why} for tag, why in self.plan.skipped],
            "there": list(self.plan.there),
            "pulled": [wanted.tag for wanted in self.pulled],
            "failed": [{"model": wanted.tag, "error": _told(error)} for wanted, error in self.failed],
        }


def _tags(fleet: Fleet, models: Sequence[str], category: str | None, *, everything: bool) -> list[str]:
    """The models that are meant, each once. Raises UnknownModel or UnknownCategory with the nearest name."""
    if models:
        unknown = [name for name in models if fleet.find(name) is None]
        if unknown:
            raise UnknownModel.named(unknown[0], fleet.models)
        found = [tag for name in models if (tag := fleet.find(name)) is not None]
    elif category is not None:
        found = [choice.model for choice in fleet.category(category).models]
    elif everything:
        found = list(fleet.models)
    else:
        found = [fleet.choice_for(name) for name in fleet.categories]
        found += [fleet.router] if fleet.router else []
    return list(dict.fromkeys(found))


def _host(hosts: Sequence[HostSettings], name: str | None) -> HostSettings:
    able = [host for host in hosts if host.kind == "ollama"]
    if not able:
        raise LLMRouterError(
            "no host can install models",
            why="only Ollama can, and none is configured",
            hint="set OLLAMA_HOST",
        )
    if name is None:
        return able[0]
    for host in able:
        if host.name == name:
            return host
    raise UsageError(f"no Ollama host is called {name!r}", hint=f"known: {', '.join(h.name for h in able)}")


async def _pull(
    options: Options, fleet: Fleet, host: HostSettings, tags: Sequence[str], wish: _Wish
) -> _Outcome:
    import msgspec

    from llm_router.assembly import providers_of
    from llm_router.policy import World
    from llm_router.providers.ollama import OllamaProvider

    settings = options.configuration().settings
    settings = msgspec.structs.replace(
        settings,
        hosts=(host,),
        routing=msgspec.structs.replace(settings.routing, stand_in="never"),
        timeouts=msgspec.structs.replace(settings.timeouts, idle_s=max(settings.timeouts.idle_s, QUIET_S)),
    )
    (provider,) = providers_of(settings, fleet)
    assert isinstance(provider, OllamaProvider)  # noqa: S101 - _host() gives no other kind
    try:
        snapshot = await provider.snapshot()
        if not snapshot.reachable:
            raise _unreachable(snapshot)
        plan = planned(tags, World(fleet, (snapshot,), settings.policy), force=wish.force)
        _tell(plan, snapshot, names=not wish.as_json)
        if wish.dry_run or not plan.wanted or not _agreed(plan, wish):
            return _Outcome(plan)
        outcome = await _each(provider, plan)
    finally:
        await provider.close()
    _report(outcome)
    return outcome


def planned(tags: Iterable[str], world: World, *, force: bool = False) -> Plan:
    """Sorts tags into what is worth pulling onto the world's one host, and why the rest is not."""
    from llm_router.diagnosis.serving import kept_out

    (host,) = world.fleet_hosts
    wanted, skipped, there = [], [], []
    for tag in tags:
        model = world.fleet.models[tag]
        name = host.served_as(tag) if model.pull is None else model.pull
        reason = kept_out(tag, host, world, installed=False)
        if host.find_installed(tag):
            there.append(tag)
        elif not name:
            skipped.append((tag, "the public library does not have it; import its file with ollama create"))
        elif is_cloud(name) and not world.settings.allow_cloud:
            skipped.append((tag, f"{name} would be answered on the internet; policy.allow_cloud is off"))
        elif reason and not force:
            skipped.append((tag, f"{reason[1]}; pull it anyway with: llm-router pull --force {tag}"))
        else:
            wanted.append(Wanted(tag, name, model.file_gb))
    return Plan(tuple(wanted), tuple(skipped), tuple(there))


def _unreachable(snapshot: HostSnapshot) -> LLMRouterError:

    return LLMRouterError(
        f"cannot use {snapshot.name} at {snapshot.url}",
        why=snapshot.problem,
        hint=f"{snapshot.way_out}; look closer with: llm-router doctor",
    )


def _tell(plan: Plan, host: HostSnapshot, *, names: bool) -> None:
    for tag, why in plan.skipped:
        output.say(f"skipped  {tag}: {why}")
    if plan.there:
        output.say(f"there    {', '.join(plan.there)}", dim=True)
    for item in plan.wanted if names else ():
        output.data(output.printable(f"{item.name}  {item.size_gb:.3g} GB"))
    if plan.wanted:
        output.say(f"{len(plan.wanted)} to pull onto {host.name}, {plan.total_gb:.3g} GB of its disk")
    else:
        output.say("nothing to pull")


def _agreed(plan: Plan, wish: _Wish) -> bool:
    """Whether to go on; asked only where much is to come and somebody is there to answer."""
    if wish.yes or plan.total_gb <= ASK_FROM_GB:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            f"{plan.total_gb:.0f} GB are to come and nobody can be asked",
            why="the input is no terminal",
            hint="say --yes, or see what it is with --dry-run",
        )
    from llm_router.cli.context import interruptible

    with interruptible():
        agreed = click.confirm(f"Pull {plan.total_gb:.0f} GB?", err=True)
    if not agreed:
        output.say("nothing was pulled")
    return agreed


async def _each(provider: OllamaProvider, plan: Plan) -> _Outcome:
    from llm_router.cli.progress import progress_on

    pulled: list[Wanted] = []
    failed: list[tuple[Wanted, ProviderError]] = []
    with progress_on(output.console(err=True)) as progress:
        for item in plan.wanted:
            try:
                await _one(provider, item, progress)
                pulled.append(item)
            except ProviderError as error:
                progress.failed(item.name)
                failed.append((item, error))
    return _Outcome(plan, tuple(pulled), tuple(failed))


async def _one(provider: OllamaProvider, item: Wanted, progress: Progress) -> None:
    from contextlib import aclosing

    from llm_router.errors import BadReply

    layers: dict[str, tuple[int, int]] = {}
    last = ""
    progress.began(item.name)
    async with aclosing(provider.pull(item.name)) as steps:
        async for step in steps:
            last = step.status
            if step.total_bytes:
                layers[step.digest] = (step.completed_bytes, step.total_bytes)
            done, total = (sum(values) for values in zip(*layers.values(), strict=True)) if layers else (0, 0)
            # Layers are told one by one; the expected size keeps the first small one from looking like all.
            expected = max(total, round(item.size_gb * 1e9)) if total else 0
            progress.moved(item.name, step.status, done, expected)
    if last != "success":
        raise BadReply(f"{item.name} was not pulled whole", why=f"the server ended with: {last or 'nothing'}")
    progress.ended(item.name)


def _report(outcome: _Outcome) -> None:
    for _, error in outcome.failed:
        output.error(str(error), hint=_hint(error))
    if outcome.pulled:
        told = f"{len(outcome.pulled)} of {len(outcome.plan.wanted)} pulled"
        output.say(f"{told}; see them with: llm-router models")


def _hint(error: ProviderError) -> str | None:
    unknown = "file does not exist" in (error.why or "")
    return "the library has no such name; set pull: in your fleet file" if unknown else error.hint


def _told(error: ProviderError) -> JsonObject:
    told: JsonObject = {"code": error.code, "message": str(error)}
    hint = _hint(error)
    if hint:
        told["hint"] = hint
    return told
