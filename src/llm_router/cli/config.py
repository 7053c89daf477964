"""``llm-router config``: every setting, its value, and where the value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options

if TYPE_CHECKING:
    from llm_router.config import Configuration

_SHORT = 24
"""Characters of a value that stands beside its name."""


@click.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Shows the settings in force. Later ones win: defaults, file, environment, options."""
    if ctx.invoked_subcommand is None:
        output.data(ctx.get_help())


@config.command(short_help="every setting with its origin")
@click.option("--json", "as_json", is_flag=True, help="The settings as JSON.")
@pass_options
def show(options: Options, as_json: bool) -> None:
    """Shows each setting with where its value comes from; passwords in addresses are masked."""
    configuration = options.configuration()
    if as_json:
        rows = ({"name": n, "value": v, "origin": o} for n, v, o in configuration.rows())
        output.json_data({"settings": list(rows)})
        return
    from llm_router.cli.tables import print_table

    print_table(("setting", "value", "~from"), _rows(configuration), output.console())


@config.command(short_help="the path of the settings file")
@click.option("--json", "as_json", is_flag=True, help="Path, existence and origin as JSON.")
@pass_options
def path(options: Options, as_json: bool) -> None:
    """Prints the path of the settings file that is read; it need not exist."""
    found, origin = _path(options)
    if as_json:
        output.json_data({"path": str(found), "exists": found.is_file(), "origin": origin})
        return
    output.data(str(found))
    if not found.is_file():
        output.say("it is not there yet; defaults are in force", dim=True)


def _path(options: Options) -> tuple[Path, str]:
    from llm_router.config import user_directory

    if options.config is not None:
        return options.config.expanduser(), "flag"
    told = os.environ.get("LLM_ROUTER_CONFIG")
    if told:
        return Path(told).expanduser(), "environment: LLM_ROUTER_CONFIG"
    return user_directory() / "config.yaml", "default"


def _rows(configuration: Configuration) -> Iterator[Any]:
    from llm_router.cli.tables import Cell

    for name, value, origin in configuration.rows():
        changed = origin != "default"
        yield (
            Cell(name, "bold" if changed else ""),
            _value(value),
            Cell(origin, "green" if changed else "dim"),
        )


def _value(value: object) -> Any:
    """In its column where it is short; a list of hosts or files stands below, one a line."""
    from llm_router.cli.tables import Cell

    if isinstance(value, list | tuple) and value:
        return Cell("", below=tuple(_plain(item) for item in value))
    told = _plain(value)
    return Cell(told) if len(told) <= _SHORT else Cell("", below=(told,))


def _plain(value: object) -> str:
    """As it would stand in a settings file, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, dict):
        told = {key: item for key, item in value.items() if item not in (None, {}, [])}
        return ", ".join(f"{key}: {_plain(item)}" for key, item in told.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or "none"
    return str(value)
