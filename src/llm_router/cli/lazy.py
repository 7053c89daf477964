"""A click group whose commands are named in a table and imported when they run.

The table carries each command's short help, so that ``--help`` imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from llm_router.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class LazySection:
    """A heading of the help page and its commands: name to (``module:attribute``, short help)."""

    title: str
    commands: Mapping[str, tuple[str, str]]


class LazyGroup(click.Group):
    """Looks a command up in ``sections``, imports its module and hands it over."""

    def __init__(self, *args: Any, sections: Sequence[LazySection] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections = tuple(sections)
        self._table = {name: entry for section in sections for name, entry in section.commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module_name, _, attribute = self._table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong table is a mistake of ours
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._table and not args[0].startswith("-"):
            hint = nearest(args[0], self._table) or f"see: {ctx.command_path} --help"
            raise UsageError(f"no such command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self._table)
        for section in self.sections:
            with formatter.section(section.title):
                rows = [(name.ljust(width), text) for name, (_, text) in section.commands.items()]
                formatter.write_dl(rows)
