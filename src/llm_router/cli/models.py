"""``llm-router models``: the fleet beside what the hosts really have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from llm_router.cli import output, wording
from llm_router.cli.context import Options, pass_options, run, world_now
from llm_router.cli.warnings import warn_of_every_host

if TYPE_CHECKING:
    from llm_router.cli.tables import Cell
    from llm_router.hosts.snapshot import HostSnapshot
    from llm_router.policy import World
    from llm_router.policy.inventory import ModelState, UnlistedModel
    from llm_router.request import JsonObject

_STYLES = {
    "resident": "bold green",
    "installed": "green",
    "resting": "yellow",
    "not_installed": "",
    "unusable": "red",
    "deprecated": "dim",
    "unknown": "dim",
}
_WORDS = {"not_installed": "not installed", "unknown": "unknown (no host)"}

_NAMED = 5
"""Categories that are named in a cell; a fleet of one model serves all of them with it."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Models, stand-in and hosts as JSON.")
@pass_options
def models(options: Options, as_json: bool) -> None:
    """Lists every model of the fleet: its size, what it serves, and the state it is in.

    States: resident (in memory), installed, not installed, resting (failed repeatedly a moment ago),
    unusable (its host can never run it), deprecated, unknown (no host answers).
    """
    world = run(world_now(options))
    warn_of_every_host(world.hosts)
    if as_json:
        output.json_data(as_json_object(world))
    else:
        _show(world)


def as_json_object(world: World) -> JsonObject:
    """The documented shape (docs/reference/json.md)."""
    from llm_router.policy.inventory import model_states, unlisted_models

    return {
        "models": [_model_json(state) for state in model_states(world)],
        "unlisted": [
            {
                "name": model.name,
                "host": model.host,
                "size_gb": round(model.size_bytes / 1e9, 1),
                "params": model.params or None,
                "resident": model.resident,
            }
            for model in unlisted_models(world)
        ],
        "stand_in": _stand_in_json(world),
        "hosts": [_host_json(host) for host in world.fleet_hosts],
    }


def _show(world: World) -> None:
    from llm_router.cli.render import labelled
    from llm_router.cli.tables import print_table
    from llm_router.policy.inventory import model_states, unlisted_models

    console = output.console()
    states, unlisted = model_states(world), unlisted_models(world)
    print_table(_HEAD, (_row(state, world) for state in states), console)
    if unlisted:
        output.data("\nAlso installed, not in the fleet file; ask for them with --model:")
        print_table(_HEAD_UNLISTED, (_unlisted_row(model) for model in unlisted), console)
    output.data("")
    labelled(_notes(world, states), console)


_HEAD = ("model", ">size", ">params", "~serves", "state")
_HEAD_UNLISTED = ("model", ">size", ">params", "host", "state")


def _row(state: ModelState, world: World) -> Sequence[Cell]:
    from llm_router.cli.tables import Cell

    quiet = "dim" if state.state in ("deprecated", "unusable") else ""
    serves = _few(state.serves)
    if not serves:
        serves = "Mission Control" if state.tag == world.fleet.router else "substitute only"
    return (
        Cell(state.tag + ("" if _commercial(state) else " *"), quiet),
        Cell(wording.gigabytes(state.model.size_gb), quiet),
        Cell(state.model.params.partition(" (")[0], quiet),
        Cell(serves, quiet if state.serves else "dim"),
        Cell(_WORDS.get(state.state, state.state), _STYLES[state.state]),
    )


def _few(names: Sequence[str]) -> str:
    """All names, or the first and how many more there are."""
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _unlisted_row(model: UnlistedModel) -> Sequence[Cell]:
    from llm_router.cli.tables import Cell

    state = "resident" if model.resident else "installed"
    return (
        Cell(model.name),
        Cell(wording.gigabytes(model.size_bytes / 1e9)),
        Cell(model.params or "?"),
        Cell(model.host),
        Cell(state, _STYLES[state]),
    )


def _notes(world: World, states: Sequence[ModelState]) -> Iterator[wording.Line]:
    for word in ("unusable", "resting"):
        told = [f"{s.tag}: {s.why.partition(': ')[0]}" for s in states if s.state == word]
        yield from wording.listed(word, told)
    yield from wording.listed("hosts", [wording.host(host) for host in world.fleet_hosts])
    yield "stand-in", _stand_in_words(world), ""
    restricted = [state.tag for state in states if not _commercial(state)]
    if restricted:
        yield "*", f"no commercial use under the licence of {', '.join(restricted)}", ""


def _stand_in_words(world: World) -> str:
    stand_in = world.fleet.stand_in
    if stand_in is None:
        return "none in the fleet file"
    problem = _stand_in_problem(world)
    if problem:
        return f"embedded {stand_in.name} cannot answer: {problem}"
    return f"embedded {stand_in.name} answers where no host can, in a small way"


def _stand_in_problem(world: World) -> str:
    if not world.embedded_hosts:
        return "routing.stand_in is never"
    return next((host.problem for host in world.embedded_hosts if not host.reachable), "")


def _commercial(state: ModelState) -> bool:
    licence = state.model.licence
    return licence is None or licence.commercial


def _model_json(state: ModelState) -> JsonObject:
    model = state.model
    return {
        "name": state.tag,
        "size_gb": model.size_gb,
        "params": model.params,
        "specialization": model.specialization or None,
        "serves": list(state.serves),
        "listed_in": list(state.listed_in),
        "capabilities": list(model.capabilities),
        "memory_gb": round(model.memory_gb, 1),
        "num_ctx": model.planned_num_ctx,
        "licence": model.licence.id if model.licence else None,
        "commercial": _commercial(state),
        "state": state.state,
        "why": state.why or None,
        "host": state.host or None,
    }


def _stand_in_json(world: World) -> JsonObject | None:
    stand_in = world.fleet.stand_in
    if stand_in is None:
        return None
    problem = _stand_in_problem(world)
    return {"name": stand_in.name, "available": not problem, "why": problem or None}


def _host_json(host: HostSnapshot) -> JsonObject:
    return {
        "name": host.name,
        "kind": host.kind,
        "url": host.url,
        "reachable": host.reachable,
        "version": host.version or None,
        "problem": host.problem or None,
        "installed": len(host.installed),
        "resident": list(host.resident),
        "usable_memory_gb": host.usable_memory_gb,
    }
