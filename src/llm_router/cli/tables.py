"""Plain columns: a dim header, no boxes, no blanks at the end of a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llm_router.cli.output import data, printable


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    style: str = ""


def print_table(head: Sequence[str], rows: Iterable[Sequence[Cell]], console: Console) -> None:
    """Prints rows to stdout, at most as wide as ``console``.

    A title that begins with ``>`` makes a column flush right, one with ``~`` a column that may wrap.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in head:
        table.add_column(
            title.lstrip(">~"),
            justify="right" if title.startswith(">") else "left",
            no_wrap=not title.startswith("~"),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(printable(cell.text), style=cell.style) for cell in row))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        data(line.rstrip())
