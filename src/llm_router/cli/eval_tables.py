"""An evaluation in a terminal: what is measured, plainly, and readable without colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from llm_router.cli.output import data, printable
from llm_router.cli.tables import Cell, print_table
from llm_router.learn.compare import LOST, WON
from llm_router.learn.figures import BaselineFigures, Comparison, CurvePoint, Report
from llm_router.learn.page import changes, worst_cases

WORST_SHOWN = 8
FLIPS_SHOWN = 20
_CURVE_SHOWN = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
_BAR = 20


def print_report(report: Report, console: Console) -> None:
    """Prints everything to stdout, section by section."""
    sections = [
        _headline,
        _categories,
        _confusions,
        _calibration,
        _stages,
        _languages,
        _curve,
        _baselines,
        _mistakes,
    ]
    for section in sections:
        section(report, console)
    if report.comparison is not None:
        _comparison(report.comparison, console)


def _title(text: str) -> None:
    data("")
    data(printable(text))


def _headline(report: Report, console: Console) -> None:
    figures, latency = report.figures, report.latency
    worst = report.worst_category
    data(printable(f"{report.cases}: {figures.n:,} cases, {len(report.per_category)} categories"))
    rows = [
        ("accept", figures.accept, f"mean over categories; {_figure(figures.accept_micro)} over all cases"),
        ("primary", figures.primary, "exactly the best answer"),
        ("text only", figures.text_only, "acceptable where there is nothing but words to go by"),
        ("worst category", worst.accept if worst else None, worst.category if worst else ""),
        ("variants alike", figures.same, "typos, lower case, politeness answered like the original"),
        ("calibration error", figures.ece, "confidence against acceptable, 15 bins"),
    ]
    if report.pairs is not None:
        pairs = report.pairs
        told = f"{pairs.n} pairs; both acceptable {pairs.both_accepted:.3f}, identical {pairs.identical:.3f}"
        rows.append(("languages alike", pairs.alike, told))
    print_table(
        ("", ">", "~"),
        [(Cell(name), Cell(_figure(value), "bold"), Cell(told, "dim")) for name, value, told in rows],
        console,
    )
    data(f"classification p50 {latency.p50_ms:.2f} ms, p90 {latency.p90_ms:.2f}, p99 {latency.p99_ms:.2f}")


def _categories(report: Report, console: Console) -> None:
    _title("by category (recall: exactly this one; precision: answers with it that were acceptable)")
    rows = [
        (
            Cell(row.category),
            Cell(str(row.n)),
            Cell(_figure(row.accept), "red" if row is _worst(report) else ""),
            Cell(_bar(row.accept)),
            Cell(_figure(row.recall)),
            Cell(str(row.answered)),
            Cell(_figure(row.precision)),
        )
        for row in report.per_category
    ]
    head = ("category", ">cases", ">accept", "", ">recall", ">answered", ">precision")
    print_table(head, rows, console)


def _worst(report: Report) -> object:
    return next((r for r in report.per_category if r == report.worst_category and r.accept < 1), None)


def _confusions(report: Report, console: Console) -> None:
    wrong = [(c.n - c.accepted, c) for c in report.confusion if c.n > c.accepted]
    if not wrong:
        return
    _title("most frequent confusions (the whole matrix: --html or --json)")
    ranked = sorted(wrong, key=lambda item: (-item[0], item[1].expected, item[1].answered))
    rows = [(Cell(str(n)), Cell(c.expected), Cell(f"→ {c.answered}")) for n, c in ranked[:WORST_SHOWN]]
    print_table((">wrong", "best answer", "answered"), rows, console)


def _calibration(report: Report, console: Console) -> None:
    if not report.reliability:
        return
    _title("calibration")
    rows = [
        (
            Cell(f"{one.low:.2f}–{one.high:.2f}"),
            Cell(str(one.n)),
            Cell(f"{one.confidence:.3f}"),
            Cell(f"{one.accept:.3f}"),
            Cell(_bar(one.accept)),
        )
        for one in report.reliability
    ]
    print_table(("confidence", ">cases", ">mean", ">accept", ""), rows, console)


def _stages(report: Report, console: Console) -> None:
    _title("who decided")
    rows = [
        (Cell(row.stage), Cell(str(row.n)), Cell(f"{row.share:.1%}"), Cell(_figure(row.accept)))
        for row in report.stages
    ]
    print_table(("stage", ">cases", ">share", ">accept"), rows, console)


def _languages(report: Report, console: Console) -> None:
    if len(report.languages) < 2:
        return
    _title("languages")
    rows = [
        (Cell(row.name), Cell(str(row.n)), Cell(_figure(row.accept)), Cell(_figure(row.primary)))
        for row in report.languages
    ]
    print_table(("language", ">cases", ">accept", ">primary"), rows, console)


def _curve(report: Report, console: Console) -> None:
    _title(f"asking Mission Control ({report.curve_note})")
    rows = []
    for point in _curve_points(report):
        mark = "← now" if point.threshold == report.ask_below else ""
        values = (point.alone_there, point.asked_there, point.accept_alone, point.accept_measured)
        cells = [Cell(_figure(value)) for value in (*values, point.accept_oracle)]
        rows.append((Cell(f"{point.threshold:.2f}"), Cell(f"{point.share:.1%}"), *cells, Cell(mark, "bold")))
    head = (">below", ">asked", ">alone there", ">LLM there", ">alone", ">measured", ">oracle", "")
    print_table(head, rows, console)
    ask = report.ask
    if ask is not None:
        slow = f", p50 {ask.latency.p50_ms:.0f} ms" if ask.latency else ""
        data(f"asked {ask.asked}, answered {ask.answered}: {ask.mended} mended, {ask.spoilt} spoilt{slow}")


def _curve_points(report: Report) -> Iterator[CurvePoint]:
    wanted = {*_CURVE_SHOWN, report.ask_below} | ({report.ask.below} if report.ask else set())
    return (point for point in report.curve if any(abs(point.threshold - w) < 1e-9 for w in wanted))


def _baselines(report: Report, console: Console) -> None:
    if not report.baselines:
        return
    _title("other ways of answering (alone: words only; the rest: behind the same hard evidence)")
    own = BaselineFigures(
        name="this router", about="", alone=None, after_rules=report.figures, p50_ms=report.latency.p50_ms
    )
    rows = [_baseline_row(row) for row in (own, *report.baselines) if not row.missing]
    head = ("", ">alone", ">accept", ">primary", ">text only", ">alike", ">ECE", ">p50 ms")
    print_table(head, rows, console)
    told = [(Cell(row.name), Cell(row.missing or row.about, "dim")) for row in report.baselines]
    print_table(("", "~"), told, console)


def _baseline_row(row: BaselineFigures) -> Sequence[Cell]:
    behind = row.after_rules
    values = (
        (behind.accept, behind.primary, behind.text_only, behind.same, behind.ece) if behind else (None,) * 5
    )
    speed = "–" if row.p50_ms is None else f"{row.p50_ms:.3g}"
    return (
        Cell(row.name, "bold" if not row.about else ""),
        Cell(_figure(row.alone.accept if row.alone else None)),
        *(Cell(_figure(value)) for value in values),
        Cell(speed),
    )


def _mistakes(report: Report, console: Console) -> None:
    wrong = worst_cases(report)
    if not wrong:
        return
    _title(f"most confident of {len(wrong):,} mistakes (their words: --html)")
    rows = [
        (
            Cell(f"{result.confidence:.2f}"),
            Cell(str(result.line)),
            Cell(result.category),
            Cell(", ".join(result.accept)),
            Cell(result.stage, "dim"),
        )
        for result in wrong[:WORST_SHOWN]
    ]
    print_table((">confidence", ">line", "answered", "~acceptable", "by"), rows, console)


def _comparison(found: Comparison, console: Console) -> None:
    _title(f"against the earlier evaluation: {found.common:,} cases in both")
    if found.new_categories:
        data(printable(f"new categories: {', '.join(found.new_categories)}"))
    if found.gone_categories:
        data(printable(f"categories that are gone: {', '.join(found.gone_categories)}"))
    figures = [
        (Cell(name), Cell(_figure(a)), Cell(_figure(b)), Cell(_change(a, b), "bold"))
        for name, a, b in changes(found.before, found.now)
    ]
    print_table(("", ">before", ">now", ">change"), figures, console)
    changed = [
        row for row in found.per_category if row.won or row.lost or row.answered_before != row.answered_now
    ]
    if not changed:
        _title("no category changed")
        return
    data("")
    rows = [
        (
            Cell(row.category),
            Cell(str(row.n)),
            Cell(_figure(row.accept_before)),
            Cell(_figure(row.accept_now)),
            Cell(f"+{row.won}"),
            Cell(f"-{row.lost}"),
            Cell(f"{row.answered_before} → {row.answered_now}"),
        )
        for row in changed
    ]
    head = ("category", ">cases", ">before", ">now", ">won", ">lost", ">answered with it")
    print_table(head, rows, console)
    _flips(found, console)


def _flips(found: Comparison, console: Console) -> None:
    lost = sum(flip.kind == LOST for flip in found.flips)
    won = sum(flip.kind == WON for flip in found.flips)
    _title(f"{len(found.flips):,} cases are answered otherwise: {won} won, {lost} lost")
    rows = [
        (
            Cell(flip.kind, {LOST: "red", WON: "green"}.get(flip.kind, "dim")),
            Cell(str(flip.line)),
            Cell(f"{flip.before} → {flip.now}"),
            Cell(", ".join(flip.accept), "dim"),
        )
        for flip in found.flips[:FLIPS_SHOWN]
    ]
    print_table(("", ">line", "answer", "~acceptable"), rows, console)
    if len(found.flips) > FLIPS_SHOWN:
        data(f"and {len(found.flips) - FLIPS_SHOWN:,} more: --html or --json")


def _bar(value: float) -> str:
    """A bar of characters that every terminal has."""
    full = round(value * _BAR)
    return "#" * full + "." * (_BAR - full)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _change(before: float | None, now: float | None) -> str:
    return "" if before is None or now is None else f"{now - before:+.3f}"
