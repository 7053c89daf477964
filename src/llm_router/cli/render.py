"""How a decision looks: one calm block that reads the same with and without colour."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from llm_router.cli import wording
from llm_router.cli.output import one_line
from llm_router.decision import Decision

INDENT = 2
LABEL_WIDTH = 8
GAP = 2
HEADLINE_COLUMN = 44
"""Where the second half of the headline begins, so that blocks under each other line up."""


def decision_block(decision: Decision, console: Console) -> None:
    """Prints the block: category → model, then why, next, rejected and saves."""
    _headline(decision, console)
    labelled(_lines(decision), console)


def labelled(lines: Iterable[wording.Line], console: Console) -> None:
    """Prints labels in one column and their texts, wrapped, in the next. An empty label continues."""
    for label, text, style in lines:
        before = Text(" " * INDENT + label.ljust(LABEL_WIDTH + GAP), style="dim")
        _hanging(before, Text(one_line(text), style=style), console)


def paragraph(
    text: str, console: Console, *, indent: int = 0, style: str = "", before: Text | None = None
) -> None:
    """Prints words, wrapped between them, to the right of ``before`` or of as many blanks as ``indent``."""
    _hanging(Text(" " * indent) if before is None else before, Text(one_line(text), style=style), console)


def headline(left: Text, right: Text, console: Console) -> None:
    """Prints two texts on one line, or on two where one is too narrow."""
    room = console.width - left.cell_len - right.cell_len
    gap = max(min(HEADLINE_COLUMN - left.cell_len, room), 3)
    if gap <= room:
        console.print(Text.assemble(left, " " * gap, right))
    else:
        _hanging(Text(), left, console)
        _hanging(Text(" " * INDENT), right, console)


def _hanging(before: Text, text: Text, console: Console) -> None:
    """``before`` once, and the text wrapped to the right of it; no blanks at the end of a line."""
    width = max(console.width - before.cell_len, 20)
    for index, line in enumerate(text.wrap(console, width, overflow="fold")):
        line.rstrip()
        shown = before if index == 0 else Text(" " * before.cell_len)
        console.print(Text.assemble(shown, line), no_wrap=True, crop=False, overflow="ignore")


def rule(console: Console) -> None:
    """The line between the block and the answer."""
    console.print(Text("─" * console.width, style="dim"))


def _headline(decision: Decision, console: Console) -> None:
    left = Text.assemble((one_line(decision.category), "bold"), " → ", _model(decision))
    told = f"confidence {decision.confidence:.2f}   {wording.decided_by(decision)}"
    headline(left, Text(told, style="dim"), console)


def _model(decision: Decision) -> Text:
    """The model of the fleet that answers, or the fleet's choice where none of the fleet can."""
    answer = decision.answer
    if answer is not None and not answer.stand_in:
        return Text(one_line(answer.model), style="bold green")
    return Text(one_line(decision.selected_model), style="bold yellow")


def _lines(decision: Decision) -> Iterable[wording.Line]:
    instead = wording.instead(decision)
    if instead:
        yield "here", instead, "yellow"
    yield "why", wording.why(decision), ""
    yield "next", wording.following(decision), ""
    known = decision.planned if decision.answer is None or decision.answer.stand_in else ()
    yield from wording.listed("rejected", wording.groups(decision.rejected, known=known))
    saved = wording.savings(decision)
    if saved:
        yield saved[0], saved[1], ""
    yield from wording.listed("note", decision.warnings)
