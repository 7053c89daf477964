"""Plain columns: a dim header, no boxes, no blanks at the end of a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from llm_router.cli.output import data, one_line
from llm_router.cli.render import paragraph

GAP = 2
NARROWEST = 16
"""Columns that a wrapping column keeps; in a terminal too narrow even for that, lines run over its edge."""


@dataclass(frozen=True, slots=True)
class Cell:
    """``below`` are lines that stand under the row, for what no column has room for."""

    text: str
    style: str = ""
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    right: bool
    wraps: bool


def print_table(head: Sequence[str], rows: Iterable[Sequence[Cell]], console: Console) -> None:
    """Prints rows to stdout, as wide as ``console`` where that is possible. Nothing is ever cut off.

    A title that begins with ``>`` makes a column flush right, one with ``~`` a column that wraps between
    words. Only wrapping columns give way; the others are as wide as their widest cell.
    """
    with console.capture() as captured:
        table(head, rows, console)
    data(captured.get().rstrip("\n"))


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], console: Console, *, indent: int = 0) -> None:
    """The same on ``console`` itself, with so many blanks before each line."""
    columns = [_Column(t.lstrip(">~"), t.startswith(">"), t.startswith("~")) for t in head]
    whole = [tuple(row) for row in rows]
    texts = [[Text(one_line(cell.text), style=cell.style) for cell in row] for row in whole]
    titles = [Text(column.title, style="dim") for column in columns]
    widths = _widths(columns, [titles, *texts], console.width - indent)
    _print_row(titles, columns, widths, console, indent)
    for row, cells in zip(texts, whole, strict=True):
        _print_row(row, columns, widths, console, indent)
        for line in (line for cell in cells for line in cell.below):
            paragraph(line, console, indent=indent + GAP)


def _widths(columns: Sequence[_Column], table: Sequence[Sequence[Text]], room: int) -> list[int]:
    """The widest cell of each column; where that is too much, the widest wrapping columns give way."""
    widths = [max(row[index].cell_len for row in table) for index in range(len(columns))]
    excess = sum(widths) + GAP * (len(columns) - 1) - room
    while excess > 0:
        able = [i for i, column in enumerate(columns) if column.wraps and widths[i] > NARROWEST]
        if not able:
            break
        widths[max(able, key=lambda index: widths[index])] -= 1
        excess -= 1
    return widths


def _print_row(
    row: Sequence[Text], columns: Sequence[_Column], widths: Sequence[int], console: Console, indent: int
) -> None:
    wrapped = [
        list(cell.wrap(console, width, overflow="fold")) if column.wraps else [cell]
        for cell, column, width in zip(row, columns, widths, strict=True)
    ]
    for number in range(max(len(lines) for lines in wrapped)):
        line = Text(" " * indent)
        for lines, column, width in zip(wrapped, columns, widths, strict=True):
            piece = lines[number] if number < len(lines) else Text()
            piece.rstrip()
            missing = " " * (width - piece.cell_len)
            line.append_text(Text.assemble(missing, piece) if column.right else Text.assemble(piece, missing))
            line.append(" " * GAP)
        line.rstrip()
        console.print(line, no_wrap=True, crop=False, overflow="ignore")
