"""Data to stdout, talk to stderr; errors are one line and then a hint. Colour only where a person looks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from llm_router.errors import LLMRouterError, NoModelAvailable

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_ELSEWHERE = 100
"""Columns of a block that goes into a file or a pipe."""

WIDEST = 120
"""Wider lines are hard to read, however wide the terminal is."""

_MOVING = "llm_router.cli.moving_line"

_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_BREAKS = re.compile(r"[ ]*[\n\t\u2028\u2029]\s*")


def printable(text: str) -> str:
    """Without control characters: what a model, a host or a task says must not steer the terminal."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """Printable, with a blank for every line feed and tab: for a label, a cell or a sentence of a block."""
    return _BREAKS.sub(" ", printable(text).strip("\n"))


def colour() -> bool | None:
    """False where the environment asks for none; None leaves it to the stream."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def data(text: str) -> None:
    """One line or block of data."""
    click.echo(text)


def json_data(value: object) -> None:
    """One JSON document: indented for a person at a terminal, on one line for a program."""
    import msgspec

    encoded = msgspec.json.encode(value)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    data(encoded.decode())


def json_line(value: object) -> None:
    """One JSON document on one line, wherever it goes: for what has no end."""
    import msgspec

    data(msgspec.json.encode(value).decode())


def say(text: str, *, dim: bool = False) -> None:
    """One line of talk."""
    _end_moving_line()
    click.echo(click.style(printable(text), dim=True) if dim else printable(text), err=True)


def warning(text: str, *, hint: str | None = None) -> None:
    _labelled("warning", "yellow", text, hint)


def error(what: str, *, why: str | None = None, hint: str | None = None) -> None:
    _labelled("error", "red", f"{what}: {why}" if why else what, hint)


def failure(failed: LLMRouterError) -> None:
    """An error of ours: one line, then its hint."""
    if isinstance(failed, NoModelAvailable) and failed.rejected:
        from llm_router.cli.wording import groups

        error(failed.what, why="; ".join(groups(failed.rejected)), hint=failed.hint)
    else:
        error(str(failed), hint=failed.hint)


def _labelled(label: str, style: str, text: str, hint: str | None) -> None:
    one_line = " ".join(printable(text).split())
    _echo(f"{click.style(f'{label}:', fg=style, bold=True)} {one_line}")
    if hint:
        _echo(f"{click.style('hint:', fg='cyan')} {' '.join(printable(hint).split())}")


def on_talk(stop: Callable[[], None] | None) -> None:
    """Before each line of talk ``stop`` takes a moving line off the terminal; None: nothing moves now."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_MOVING] = stop


def _end_moving_line() -> None:
    context = click.get_current_context(silent=True)
    stop = context.meta.get(_MOVING) if context is not None else None
    if stop is not None:
        stop()


def _echo(text: str) -> None:
    _end_moving_line()
    context = click.get_current_context(silent=True)
    click.echo(text, err=True, color=colour() if context is None else context.color)


def console(*, err: bool = False) -> Console:
    """A rich console for stdout or stderr, in colour or not as the user and the stream want it."""
    from rich.console import Console

    context = click.get_current_context(silent=True)
    no_color = context is not None and context.color is False
    stream = sys.stderr if err else sys.stdout
    made = Console(
        file=stream, no_color=no_color or None, highlight=False, markup=False, emoji=False, soft_wrap=False
    )
    made.width = min(made.width, WIDEST) if made.is_terminal else _width_elsewhere()
    return made


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A moving line on stderr while something takes its time; nothing where nobody watches."""
    talk = console(err=True)
    if not talk.is_terminal:
        yield
        return
    with talk.status(text) as status:
        on_talk(status.stop)
        try:
            yield
        finally:
            on_talk(None)


def _width_elsewhere() -> int:
    """As COLUMNS says, else as wide as the terminal that a pipe most likely ends in, else 100."""
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return max(int(told), 20)
    try:
        return min(os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH_ELSEWHERE, WIDEST)
    except (OSError, ValueError):
        return WIDTH_ELSEWHERE
