"""Writes docs/reference/cli.md from the commands' own help: ``python -m llm_router.cli.reference``.

With ``--check`` nothing is written, and the exit code is 1 where the page is not what the help says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from llm_router.cli.app import app

PAGE = Path("docs/reference/cli.md")
WIDTH = 100

_HEAD = """\
# The command `llm-router`

Answers and data go to stdout, everything else to stderr. Errors are one line, `error: …`, and then a line
`hint: …`. Exit codes: 0 done, 1 failed, 2 misuse, 3 no model available, 130 cancelled with Ctrl-C.
`NO_COLOR` and `--no-color` switch colours off; `LLM_ROUTER_DEBUG=1` adds the traceback to an internal error.
The shapes of `--json` are in [decision.md](decision.md) and [json.md](json.md).

This page is written by `python -m llm_router.cli.reference`.
"""


def page() -> str:
    """The whole page as text."""
    settings = {**app.context_settings, "terminal_width": WIDTH}
    root = click.Context(app, info_name="llm-router", **settings)
    return "\n".join([_HEAD, *_sections(app, root)])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    depth = 2 + context.command_path.count(" ")
    yield f"{'#' * depth} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                below = click.Context(inner, parent=context, info_name=name, terminal_width=WIDTH)
                yield from _sections(inner, below)


def main() -> None:
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE} is not what the help says; run: python -m llm_router.cli.reference")


if __name__ == "__main__":
    main()
