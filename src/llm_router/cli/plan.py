"""``llm-router plan``: which models should stay in memory, which come on demand, and what that saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from llm_router.cli import output, wording
from llm_router.cli.context import Options, pass_options, run, world_now
from llm_router.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_router.config import Configuration
    from llm_router.fleet import Fleet
    from llm_router.hosts.snapshot import HostSnapshot
    from llm_router.simulate.plan import NeverTogether, Plan
    from llm_router.simulate.traces import Task

LEAST_TASKS = 50
"""Fewer records than that say nothing of a day."""

MIX_RATE_PER_S = 0.01
_MOST_RECORDS = 100_000
_SEED = 1


@dataclass(frozen=True, slots=True)
class _Box:
    """What is planned for. ``fleet`` has only models that are there."""

    host: str
    memory_gb: float
    fleet: Fleet
    told: str


@dataclass(frozen=True, slots=True)
class _Day:
    tasks: tuple[Task, ...]
    source: str
    told: str


@click.command()
@click.option(
    "--hours",
    type=click.FloatRange(0, 24 * 366, min_open=True),
    default=24.0,
    show_default=True,
    help="The traffic of so many hours: the last ones of the records, or as many of the mix.",
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["records", "mix"]),
    help=f"Where tasks come from.  [default: records, where there are {LEAST_TASKS} or more, else the mix]",
)
@click.option(
    "--host", metavar="NAME", help="The host to plan for.  [default: the first Ollama that answers]"
)
@click.option(
    "--memory-gb", type=click.FloatRange(1, 100_000), help="Plan for a box of this size and the whole fleet."
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    help="OLLAMA_NUM_PARALLEL of the host, answers of one model at a time.  [default: residency.parallel]",
)
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
@pass_options
def plan(
    options: Options,
    /,
    *,
    hours: float,
    source: str | None,
    host: str | None,
    memory_gb: float | None,
    parallel: int | None,
    as_json: bool,
) -> None:
    """Proposes which models stay in memory and which come on demand, from the traffic and the memory.

    \b
      llm-router plan
      llm-router plan --hours 168 --from records
      llm-router plan --from mix --memory-gb 64

    Nothing is loaded or unloaded. What it saves is simulated: the day by the fixed map under Ollama's own
    eviction, and the same day by the plan.
    """
    from llm_router.assembly import pins_of
    from llm_router.simulate.ollama_box import BoxSettings
    from llm_router.simulate.plan import beside
    from llm_router.simulate.plan import plan as planned
    from llm_router.simulate.play import Case
    from llm_router.simulate.traces import rate_of

    configuration = options.configuration()
    fleet = options.fleet(configuration)
    box = _box(options, fleet, host, memory_gb)
    day = _day(box.fleet, configuration, hours, source)
    parallel = parallel or configuration.settings.residency.parallel
    settings = BoxSettings(box.memory_gb, num_parallel=parallel)
    max_loaded = configuration.settings.residency.max_loaded
    if max_loaded is not None:
        settings = replace(settings, max_loaded=max_loaded)
    pins = [tag for tag in pins_of(configuration.settings, fleet) if tag in box.fleet.models]
    case = beside(Case(box.fleet, day.tasks, settings, configuration.settings.policy).answerable(), pins)
    where = "beside what is pinned" if pins else "on this box"
    if not case.tasks:
        raise InvalidRequest(
            "nothing can be planned",
            why=f"no model may take any of the {len(day.tasks):,} tasks {where}",
            hint="see: llm-router models",
        )
    if len(case.tasks) < len(day.tasks):
        left_out = len(day.tasks) - len(case.tasks)
        output.warning(f"{left_out:,} of {len(day.tasks):,} tasks left out: no model may take them {where}")
    with output.waiting("playing the day with several sets of models"):
        found = planned(case, rate_of(case.tasks), pins, max_loaded)
    if as_json:
        told = {"parallel": parallel, "max_loaded": max_loaded, **_json(found, box, day, hours)}
        output.json_data(told)
    else:
        _show(_title(found, box, parallel, max_loaded), found, box, day, hours)


# ── what to plan for ─────────────────────────────────────────────────────────────────────────────────────


def _box(options: Options, fleet: Fleet, name: str | None, memory_gb: float | None) -> _Box:
    usable_gb = fleet.machine.usable_memory_gb
    if memory_gb is not None:
        return _Box("", memory_gb, fleet, "the whole fleet on a box of this size")
    hosts = [host for host in run(world_now(options)).fleet_hosts if host.kind == "ollama"]
    if name is not None:
        hosts = [_named(name, hosts)]
    found = next((host for host in hosts if host.reachable and _here(host, fleet)), None)
    if found is None:
        why = "; ".join(f"{host.name}: {host.problem or 'has no model of the fleet'}" for host in hosts)
        output.warning(
            f"no host to plan for ({why or 'none is configured'}): the whole fleet on a box of "
            f"{usable_gb:.0f} GB is taken instead"
        )
        return _Box("", usable_gb, fleet, "the whole fleet on the fleet's machine")
    from llm_router.simulate.plan import only

    there = only(fleet, _here(found, fleet))
    told = f"{len(there.models)} of {len(fleet.models)} models of the fleet are installed there"
    others = [host.name for host in hosts if host is not found and host.reachable]
    if others:
        told += f"; {', '.join(others)} not looked at, give --host NAME for another plan"
    return _Box(found.name, found.usable_memory_gb or usable_gb, there, told)


def _named(name: str, hosts: Sequence[HostSnapshot]) -> HostSnapshot:
    found = next((host for host in hosts if host.name == name), None)
    if found is None:
        known = ", ".join(host.name for host in hosts) or "none"
        raise InvalidRequest(
            f"no Ollama host {name!r}", why="the settings do not name it", hint=f"hosts: {known}"
        )
    if not found.reachable:
        raise InvalidRequest(f"cannot plan for {name}", why=found.problem, hint=found.way_out)
    return found


def _here(host: HostSnapshot, fleet: Fleet) -> list[str]:
    return [tag for tag in fleet.models if host.find_installed(tag) is not None]


# ── the day ──────────────────────────────────────────────────────────────────────────────────────────────


def _day(fleet: Fleet, configuration: Configuration, hours: float, source: str | None) -> _Day:
    if source == "mix":
        return _mix(fleet, hours, "the stated mix, as asked")
    tasks, why = _recorded(fleet, configuration, hours)
    if len(tasks) >= LEAST_TASKS:
        return _Day(tasks, "records", f"{len(tasks):,} answered tasks of the last {hours:g} hours")
    if not why:
        have = f"{len(tasks)} answered tasks, and {LEAST_TASKS} are needed"
        why = f"the records of the last {hours:g} hours have {have}"
    if source == "records":
        raise InvalidRequest("no plan from the records", why=why, hint="give more --hours, or --from mix")
    return _mix(fleet, hours, f"the stated mix: {why}")


def _recorded(fleet: Fleet, configuration: Configuration, hours: float) -> tuple[tuple[Task, ...], str]:
    """The recorded tasks, or why there are none."""
    from llm_router.records.reader import Filter, NoRecords, Records, records_path
    from llm_router.simulate.traces import from_records

    wanted = Filter(since_s=time.time() - hours * 3600)
    try:
        with Records(records_path(configuration.settings.records)) as records:
            return from_records(records.latest(_MOST_RECORDS, wanted), fleet), ""
    except NoRecords as error:
        return (), error.what


def _mix(fleet: Fleet, hours: float, told: str) -> _Day:
    from llm_router.simulate.mix import MIXED_DAY
    from llm_router.simulate.traces import synthetic

    tasks = synthetic(fleet, MIXED_DAY, rate_per_s=MIX_RATE_PER_S, seed=_SEED, hours=hours)
    if not tasks:
        raise InvalidRequest(
            "nothing can be planned",
            why=f"in {hours:g} hours of the mix no task comes",
            hint="give more --hours",
        )
    return _Day(tasks, "mix", told)


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────


def _json(found: Plan, box: _Box, day: _Day, hours: float) -> dict[str, object]:
    import msgspec

    told: dict[str, object] = msgspec.to_builtins(found)
    return {"host": box.host or None, "hours": hours, "source": day.source, "source_why": day.told, **told}


def _title(found: Plan, box: _Box, parallel: int, max_loaded: int | None) -> str:
    title = f"Plan for {box.host or 'a box'}: {wording.gigabytes(found.memory_gb)} for models"
    if max_loaded is not None:
        title += f", {max_loaded} at a time"
    if parallel > 1:
        title += f", {parallel} answers of one at a time"
    return title


def _show(title: str, found: Plan, box: _Box, day: _Day, hours: float) -> None:
    from rich.text import Text

    from llm_router.cli.render import labelled

    console = output.console()
    console.print(Text(title, style="bold"))
    labelled(list(_lines(found, box, day, hours)), console)


def _lines(found: Plan, box: _Box, day: _Day, hours: float) -> Iterator[wording.Line]:
    yield "fleet", box.told, ""
    yield "traffic", f"{found.tasks:,} tasks in {hours:g} h ({day.told})", ""
    yield from wording.listed("stays", [f"{m.model}: {m.why}" for m in found.stays] or ["nothing"])
    on_demand = [f"{m.model}: {m.why}" for m in found.on_demand]
    yield from wording.listed("on call", on_demand or ["nothing else is needed"])
    yield from wording.listed("unused", [f"{m.model}: {m.why}" for m in found.not_needed])
    yield from wording.listed("apart", _apart(found.never_together) or ["no two of these exclude each other"])
    yield from wording.listed("saves", found.saves.why.split("; "))


def _apart(pairs: Sequence[NeverTogether]) -> list[str]:
    """One sentence for each model: the others that it cannot be in memory with."""
    partners: dict[str, list[str]] = {}
    left = [pair.models for pair in pairs]
    sums = {frozenset(pair.models): pair for pair in pairs}
    while left:
        counts: dict[str, int] = {}
        for models in left:
            for model in models:
                counts[model] = counts.get(model, 0) + 1
        most = max(counts, key=lambda model: counts[model])
        partners[most] = [a if b == most else b for a, b in left if most in (a, b)]
        left = [models for models in left if most not in models]
    return [_apart_line(model, others, sums) for model, others in partners.items()]


def _apart_line(model: str, others: list[str], sums: dict[frozenset[str], NeverTogether]) -> str:
    told = [
        f"{other} ({wording.gigabytes(sums[frozenset((model, other))].needs_gb)} together)"
        for other in others
    ]
    room_gb = sums[frozenset((model, others[0]))].room_gb
    return f"{model} and {', '.join(told)}: {wording.gigabytes(room_gb)} are free beside what stays"
