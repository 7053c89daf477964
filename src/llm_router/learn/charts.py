"""The charts of an evaluation as shapes: one sheet each for a page, all on one sheet for an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from llm_router.drawing import Anchor, Box, Colour, Curve, Group, Line, Shape, Sheet, Text
from llm_router.learn.figures import Confusion, CurvePoint, Report

PAPER: Colour = (250, 250, 252)
INK: Colour = (28, 32, 43)
GREY: Colour = (105, 112, 130)
GRID: Colour = (222, 225, 233)
BLUE: Colour = (52, 100, 214)
GREEN: Colour = (20, 137, 104)
RED: Colour = (200, 58, 62)
AMBER: Colour = (190, 120, 16)

NAMES: Mapping[Colour, str] = {
    PAPER: "var(--paper)",
    INK: "var(--ink)",
    GREY: "var(--grey)",
    GRID: "var(--grid)",
    BLUE: "var(--blue)",
    GREEN: "var(--green)",
    RED: "var(--red)",
    AMBER: "var(--amber)",
}
"""Each colour as the variable of a page, which has one set of values for light and one for dark."""

_ROW, _CELL, _LABELS = 24.0, 26.0, 176.0
_PLOT_WIDTH, _PLOT_HEIGHT = 520.0, 340.0
_GAP = 28.0
_LABEL_CHARS = 22


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    width: float
    height: float
    groups: tuple[Group, ...]

    def sheet(self) -> Sheet:
        return Sheet(self.width, self.height, PAPER, self.title, self.groups)


def charts(report: Report) -> dict[str, Chart]:
    """Every chart by a name that a page can place it with."""
    return {
        "categories": category_bars(report),
        "confusion": confusion_matrix(report),
        "reliability": reliability_diagram(report),
        "curve": llm_share_curve(report),
        "coverage": coverage_curve(report),
    }


def overview(report: Report) -> Sheet:
    """All charts and the headline on one sheet, for an image."""
    found = charts(report)
    left, right = [found["categories"], found["reliability"], found["coverage"]], []
    right = [found["confusion"], found["curve"]]
    column = max(chart.width for chart in left)
    groups = [Group((Text(_GAP, 44, headline(report), 17, INK, bold=True),))]
    bottom = 0.0
    for x, charts_there in ((_GAP, left), (2 * _GAP + column, right)):
        y = 64.0
        for chart in charts_there:
            groups += [_moved(group, x, y + 22) for group in chart.groups]
            groups.append(Group((Text(x, y + 14, chart.title, 14, INK, bold=True),)))
            y += chart.height + 22 + _GAP
        bottom = max(bottom, y)
    width = 3 * _GAP + column + max(chart.width for chart in right)
    return Sheet(width, bottom, PAPER, headline(report), tuple(groups))


def headline(report: Report) -> str:
    figures = report.figures
    told = [f"{report.cases}: {figures.n:,} cases"]
    told += [
        f"{name} {value:.3f}"
        for name, value in (("accept", figures.accept), ("primary", figures.primary), ("ECE", figures.ece))
        if value is not None
    ]
    return " · ".join(told)


def category_bars(report: Report) -> Chart:
    """Accept of each category as a bar, recall as a mark on it."""
    rows = report.per_category
    worst = report.worst_category.category if report.worst_category else ""
    span = 250.0
    groups = []
    for index, row in enumerate(rows):
        y = index * _ROW + 8
        colour = RED if row.category == worst and row.accept < 1 else BLUE
        mark = _LABELS + span * row.recall
        told = f"{row.category}: {row.n} cases, accept {row.accept:.3f}, recall {row.recall:.3f}"
        groups.append(
            Group(
                (
                    Text(_LABELS - 10, y + 12, _label(row.category), 12, INK, "end"),
                    Box(_LABELS, y + 2, span, 13, GRID, GRID, 3, opacity=0.45),
                    Box(_LABELS, y + 2, max(span * row.accept, 1), 13, colour, colour, 3, opacity=0.85),
                    Line(((mark, y - 1), (mark, y + 18)), INK, 2),
                    Text(_LABELS + span + 10, y + 12, f"{row.accept:.2f}", 12, INK),
                    Text(_LABELS + span + 48, y + 12, f"of {row.n}", 11, GREY),
                ),
                told,
            )
        )
    y = len(rows) * _ROW + 24
    legend = Text(_LABELS, y, "bar: acceptable answers · mark: exactly the best answer", 11, GREY)
    return Chart("Categories", _LABELS + span + 100, y + 12, (*groups, Group((legend,))))


def confusion_matrix(report: Report) -> Chart:
    """Rows are the best answers, columns the given ones; red is what was not acceptable."""
    seen = {c.expected for c in report.confusion} | {c.answered for c in report.confusion}
    names = [n for n in report.categories if n in seen] + sorted(seen - set(report.categories))
    totals = {name: sum(c.n for c in report.confusion if c.expected == name) for name in names}
    side = len(names) * _CELL
    top = 152.0
    shapes: list[Shape] = []
    for index, name in enumerate(names):
        middle = index * _CELL + _CELL / 2
        shapes.append(Text(_LABELS - 8, top + middle + 4, _label(name), 11.5, INK, "end"))
        shapes.append(Text(_LABELS + middle + 4, top - 8, _label(name), 11.5, INK, upright=True))
    for index in range(len(names) + 1):
        at = index * _CELL
        shapes.append(Line(((_LABELS, top + at), (_LABELS + side, top + at)), GRID, 0.7))
        shapes.append(Line(((_LABELS + at, top), (_LABELS + at, top + side)), GRID, 0.7))
    cells = [_confusion_cell(c, names, totals, top) for c in report.confusion]
    y = top + side + 22
    foot = Text(
        _LABELS,
        y,
        "row: best answer · column: answer given · green and blue: acceptable · red: wrong",
        11,
        GREY,
    )
    groups = (Group(tuple(shapes)), *cells, Group((foot,)))
    return Chart("Confusion", _LABELS + max(side, 440) + 8, y + 12, groups)


def _confusion_cell(cell: Confusion, names: Sequence[str], totals: Mapping[str, int], top: float) -> Group:
    x = _LABELS + names.index(cell.answered) * _CELL
    y = top + names.index(cell.expected) * _CELL
    wrong = cell.n - cell.accepted
    colour = GREEN if cell.expected == cell.answered else RED if wrong * 2 >= cell.n else BLUE
    strength = 0.18 + 0.6 * math.sqrt(cell.n / max(totals[cell.expected], 1))
    told = f"{cell.n} of {totals[cell.expected]} {cell.expected} answered {cell.answered}: {wrong} wrong"
    return Group(
        (
            Box(x + 1, y + 1, _CELL - 2, _CELL - 2, colour, PAPER, 4, opacity=min(strength, 0.8)),
            Text(x + _CELL / 2, y + _CELL / 2 + 4, str(cell.n), 11, INK, "middle"),
        ),
        told,
    )


def reliability_diagram(report: Report) -> Chart:
    """Confidence against accept: bars on the diagonal mean probabilities that can be believed."""
    plot = _Plot("confidence", "acceptable")
    total = sum(one.n for one in report.reliability)
    diagonal = Line((plot.at(0, 0), plot.at(1, 1)), GREY, 1.2, dashed=True)
    groups = [Group((*plot.frame(), diagonal))]
    for one in report.reliability:
        left, top = plot.at(one.low, one.accept)
        right, bottom = plot.at(one.high, 0)
        middle = plot.at(one.confidence, one.confidence)
        gap = Line((plot.at(one.confidence, one.accept), middle), RED, 2.2)
        box = Box(
            left + 2, top, right - left - 4, bottom - top, BLUE, BLUE, 2, opacity=0.25 + 0.6 * one.n / total
        )
        count = Text((left + right) / 2, bottom - 5, str(one.n), 9.5, INK, "middle")
        told = f"{one.n} cases, confidence {one.confidence:.3f}, acceptable {one.accept:.3f}"
        groups.append(Group((box, gap, count), told))
    ece = "" if report.figures.ece is None else f": expected calibration error {report.figures.ece:.3f}"
    return plot.chart(f"Reliability{ece}", groups, "figure in a bar: cases · red: how far from the diagonal")


def llm_share_curve(report: Report) -> Chart:
    """Accuracy against the share of cases that Mission Control is asked about."""
    points = report.curve
    values = [
        v for p in points for v in (p.accept_alone, p.accept_oracle, p.accept_measured) if v is not None
    ]
    plot = _Plot("share of cases put to Mission Control", "acceptable", low=_floor(values))
    oracle = [(p.share, p.accept_oracle) for p in points]
    alone = [(p.share, p.accept_alone) for p in points]
    known = [(p.share, p.accept_measured) for p in points if p.accept_measured is not None]
    groups = [
        Group(plot.frame()),
        plot.curve(alone, GREY, dashed=True),
        plot.curve(oracle, GREEN, dashed=True),
    ]
    if len(known) > 1 and report.ask is not None:
        groups.append(plot.curve(known, BLUE))
    here = min(points, key=lambda p: abs(p.threshold - report.ask_below), default=None)
    if here is not None:
        groups.append(_here(plot, here, measured=report.ask is not None))
    words = [("an oracle", GREEN), ("encoder alone", GREY)]
    words += [("measured", BLUE)] if report.ask is not None else []
    title = "Accuracy against LLM share" + ("" if report.ask else ": bounds, Mission Control was not asked")
    return plot.chart(title, groups, "", words)


def _here(plot: _Plot, point: CurvePoint, *, measured: bool) -> Group:
    """Where the configured threshold lies."""
    value = point.accept_measured if measured and point.accept_measured is not None else point.accept_alone
    x, y = plot.at(point.share, value)
    _, bottom = plot.at(point.share, plot.low)
    told = f"asked below {point.threshold:g}: {point.share:.0%} of the cases"
    side: Anchor = "start" if point.share < 0.55 else "end"
    return Group(
        (
            Line(((x, y), (x, bottom)), AMBER, 1.2, dashed=True),
            Box(x - 4, y - 4, 8, 8, AMBER, PAPER, 4),
            Text(x + (8 if side == "start" else -8), bottom - 8, told, 11, AMBER, side),
        ),
        told,
    )


def coverage_curve(report: Report) -> Chart:
    """Accept among the most confident part of the cases."""
    values = [point.accept for point in report.risk_coverage]
    plot = _Plot("most confident share of the cases", "acceptable", low=_floor(values))
    curve = plot.curve([(point.coverage, point.accept) for point in report.risk_coverage], BLUE)
    return plot.chart("Risk and coverage", [Group(plot.frame()), curve], "")


def _label(name: str) -> str:
    """A category's name, cut to the place there is for it; the whole name is told on hovering."""
    return name if len(name) <= _LABEL_CHARS else name[: _LABEL_CHARS - 1] + "…"


def _floor(values: Sequence[float]) -> float:
    """A round figure below all values, so that differences can be seen."""
    return max(0.0, min(0.9, math.floor(min(values, default=0.0) * 10 - 0.3) / 10))


class _Plot:
    """A frame with both axes from 0 (or ``low``, upwards) to 1."""

    def __init__(self, across: str, up: str, *, low: float = 0.0) -> None:
        self.low = low
        self._across, self._up = across, up
        self._left, self._top = 52.0, 14.0
        self._width, self._height = _PLOT_WIDTH - 52 - 20, _PLOT_HEIGHT - 14 - 48

    def at(self, across: float, up: float) -> tuple[float, float]:
        share = (up - self.low) / (1 - self.low)
        return self._left + self._width * across, self._top + self._height * (1 - share)

    def frame(self) -> tuple[Shape, ...]:
        return tuple(self._frame())

    def _frame(self) -> Iterator[Shape]:
        for step in range(6):
            share = step / 5
            up = self.low + (1 - self.low) * share
            _, y = self.at(0, up)
            yield Line(((self._left, y), (self._left + self._width, y)), GRID, 1)
            yield Text(self._left - 8, y + 4, f"{up:.2f}".rstrip("0").rstrip("."), 11, GREY, "end")
            x, bottom = self.at(share, self.low)
            yield Text(x, bottom + 17, f"{share:.0%}", 11, GREY, "middle")
        middle = self._left + self._width / 2
        yield Text(middle, self._top + self._height + 38, self._across, 11.5, INK, "middle")
        yield Text(14, self._top + self._height / 2, self._up, 11.5, INK, "middle", upright=True)

    def curve(self, points: Sequence[tuple[float, float]], colour: Colour, *, dashed: bool = False) -> Group:
        placed = tuple(self.at(across, up) for across, up in sorted(points))
        line = Line(placed, colour, 2.2, dashed)
        dots = () if dashed else tuple(Box(x - 2.5, y - 2.5, 5, 5, colour, colour, 2.5) for x, y in placed)
        return Group((line, *dots))

    def chart(
        self, title: str, groups: Sequence[Group], foot: str, words: Sequence[tuple[str, Colour]] = ()
    ) -> Chart:
        shapes: list[Shape] = [Text(self._left, _PLOT_HEIGHT + 12, foot, 11, GREY)] if foot else []
        x = self._left
        for name, colour in words:
            shapes.append(Line(((x, _PLOT_HEIGHT + 8), (x + 18, _PLOT_HEIGHT + 8)), colour, 2.4))
            shapes.append(Text(x + 24, _PLOT_HEIGHT + 12, name, 11, GREY))
            x += 46 + 6.2 * len(name)
        return Chart(title, _PLOT_WIDTH, _PLOT_HEIGHT + 22, (*groups, Group(tuple(shapes))))


def _moved(group: Group, dx: float, dy: float) -> Group:
    return Group(tuple(_moved_shape(shape, dx, dy) for shape in group.shapes), group.title)


def _moved_shape(shape: Shape, dx: float, dy: float) -> Shape:
    if isinstance(shape, Line):
        return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))
    if isinstance(shape, Curve):
        return replace(shape, x1=shape.x1 + dx, y1=shape.y1 + dy, x2=shape.x2 + dx, y2=shape.y2 + dy)
    return replace(shape, x=shape.x + dx, y=shape.y + dy)
