"""An evaluation as one page that holds everything it shows, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from llm_router.drawing import to_svg
from llm_router.learn.cases import Case
from llm_router.learn.charts import NAMES, charts
from llm_router.learn.compare import LOST, WON
from llm_router.learn.figures import BaselineFigures, CaseResult, Comparison, Figures, Report

WORST_SHOWN = 40
FLIPS_SHOWN = 60
FLIPS_OPEN = 12
"""So many are shown at once; more are folded up, so that the charts are not far below."""

GROUPS_SHOWN = 10
_SHOWN_CHARS = 420


def page(report: Report, texts: Mapping[str, str] | None) -> str:
    """The whole page. ``texts`` holds the words of each case by id; None leaves all words out."""
    drawings = {
        name: f"<h2>{escape(chart.title)}</h2>{to_svg(chart.sheet(), NAMES)}"
        for name, chart in charts(report).items()
    }
    parts = [
        _head(report),
        _tiles(report),
        _notes(report),
        _section(_comparison(report.comparison, texts)) if report.comparison else "",
        f'<div class="two matrix"><section>{drawings["categories"]}{_stages(report)}{_languages(report)}'
        "</section>"
        f"<section>{drawings['confusion']}</section></div>",
        f'<div class="two"><section>{drawings["reliability"]}</section>'
        f"<section>{drawings['curve']}<p>{escape(report.curve_note)}.</p>{_asked(report)}</section></div>",
        f'<div class="two"><section>{drawings["coverage"]}</section>'
        f"<section>{_groups(report)}</section></div>",
        _section(_baselines(report)) if report.baselines else "",
        _section(_worst(report, texts)),
    ]
    before, between, after = _PAGE.split("{}")
    title = escape(f"Evaluation of {report.cases}")
    return "".join((before, title, between, "\n".join(part for part in parts if part), after))


def words_of(cases: Sequence[Case]) -> dict[str, str]:
    """What each case asks, shortened for reading."""
    return {case.id: _shortened(case) for case in cases}


def _shortened(case: Case) -> str:
    text = " ".join(case.task.split())
    if len(text) > _SHOWN_CHARS:
        text = f"{text[: _SHOWN_CHARS * 2 // 3]} […] {text[-_SHOWN_CHARS // 3 :]}"
    turns = sum(said.role == "user" for said in case.conversation) - 1
    extras = [
        (case.images, "image", "images"),
        (case.tools, "tool", "tools"),
        (turns, "turn before it", "turns before it"),
    ]
    told = [f"{n} {one if n == 1 else many}" for n, one, many in extras if n > 0]
    told += ["embedding call"] if case.kind == "embedding" else []
    told += [f"about {case.context_tokens:,} tokens"] if case.context_tokens else []
    return f"{text} [{', '.join(told)}]" if told else text


def _section(inner: str) -> str:
    return f"<section>{inner}</section>"


def _head(report: Report) -> str:
    fleet = f"fleet {report.fleet}" if report.fleet else "a fleet without a name"
    categories = f"{len(report.categories)} categories"
    about = f"{report.figures.n:,} cases · {fleet} · {categories} · version {report.version}"
    return f"<header><h1>{escape(report.cases)}</h1><p>{escape(about)}</p></header>"


def _tiles(report: Report) -> str:
    figures, worst = report.figures, report.worst_category
    tiles = [
        ("accept", _figure(figures.accept), f"categories' mean; {_figure(figures.accept_micro)} of cases"),
        ("primary", _figure(figures.primary), "exactly the best answer"),
        ("text only", _figure(figures.text_only), "nothing but words to go by"),
        ("variants alike", _figure(figures.same), "typos, case, politeness"),
        ("calibration error", _figure(figures.ece), "15 bins, against accept"),
        ("worst category", _figure(worst.accept if worst else None), worst.category if worst else ""),
        ("classification", f"{report.latency.p50_ms:.2f} ms", f"p99 {report.latency.p99_ms:.1f} ms"),
    ]
    if report.pairs is not None:
        alike = f"{report.pairs.n} pairs, both fine {report.pairs.both_accepted:.3f}"
        tiles.append(("languages alike", _figure(report.pairs.alike), alike))
    inner = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span><small>{escape(about)}</small></div>"
        for name, value, about in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _notes(report: Report) -> str:
    return "".join(f'<p class="note">{escape(warning)}</p>' for warning in report.warnings)


def _asked(report: Report) -> str:
    ask = report.ask
    if ask is None:
        return ""
    told = (
        f"Mission Control was asked about {ask.asked} cases and answered {ask.answered}: acceptable "
        f"{_figure(ask.accept_alone)} without it, {_figure(ask.accept_asked)} with it; "
        f"{ask.mended} mended, {ask.spoilt} spoilt"
    )
    slow = f", {ask.latency.p50_ms:.0f} ms at p50" if ask.latency else ""
    return f"<p>{escape(told + slow)}.</p>"


def _stages(report: Report) -> str:
    rows = [
        [row.stage.replace("_", " "), str(row.n), f"{row.share:.1%}", _figure(row.accept)]
        for row in report.stages
    ]
    return "<h2>Who decided</h2>" + _table(["stage", ">cases", ">share", ">acceptable"], rows)


def _languages(report: Report) -> str:
    if len(report.languages) < 2:
        return ""
    rows = [[row.name, str(row.n), _figure(row.accept), _figure(row.primary)] for row in report.languages]
    return "<h2>Languages</h2>" + _table(["language", ">cases", ">acceptable", ">primary"], rows)


def _groups(report: Report) -> str:
    """Where it goes wrong most, by the group or else the source that cases name."""
    kind, found = ("group", report.groups) if report.groups else ("source", report.sources)
    if not found:
        return "<h2>Weakest groups</h2><p>No case names a group or a source.</p>"
    weakest = sorted(found, key=lambda row: ((1 - row.accept) * -row.n, row.name))[:GROUPS_SHOWN]
    rows = [[row.name, str(row.n), _figure(row.accept), _figure(row.primary)] for row in weakest]
    told = f"The {len(weakest)} of {len(found)} with the most mistakes."
    return f"<h2>Weakest groups</h2><p>{told}</p>" + _table([kind, ">cases", ">acceptable", ">primary"], rows)


def _baselines(report: Report) -> str:
    rows = [_baseline_row(_own(report))] + [_baseline_row(row) for row in report.baselines]
    head = [
        "way of answering",
        ">accept alone",
        ">behind the rules",
        ">primary",
        ">text only",
        ">variants alike",
        ">calibration error",
        ">p50 ms",
    ]
    told = (
        "Alone: words only. Behind the rules: with the same hard evidence (pictures, tools, size, script) as "
        "the router; all columns but the first and the last are behind the rules."
    )
    return f"<h2>Other ways of answering</h2><p>{told}</p>" + _table(head, rows)


def _own(report: Report) -> BaselineFigures:
    return BaselineFigures(
        name="this router",
        about="rules, encoder" + (", Mission Control" if report.ask else ""),
        alone=None,
        after_rules=report.figures,
        p50_ms=report.latency.p50_ms,
    )


def _baseline_row(row: BaselineFigures) -> list[str]:
    behind = row.after_rules
    if behind is None:
        return [f"{row.name}: {row.missing}", *[""] * 7]
    return [
        f"{row.name} ({row.about})" if row.about else row.name,
        _figure(row.alone.accept if row.alone else None),
        *(_figure(v) for v in (behind.accept, behind.primary, behind.text_only, behind.same, behind.ece)),
        "" if row.p50_ms is None else f"{row.p50_ms:.3g}",
    ]


def _worst(report: Report, texts: Mapping[str, str] | None) -> str:
    wrong = worst_cases(report)
    if not wrong:
        return "<h2>Mistakes</h2><p>There are none.</p>"
    told = f"The most confident of {len(wrong):,} mistakes first."
    head = [">confidence", "answered", "acceptable", "by", "case"]
    rows = [
        [f"{r.confidence:.2f}", r.category, ", ".join(r.accept), r.stage, _case_cell(r.id, r.line, texts)]
        for r in wrong[:WORST_SHOWN]
    ]
    return f"<h2>Mistakes worth reading</h2><p>{told}</p>" + _table(head, rows, raw_last=True)


def worst_cases(report: Report) -> list[CaseResult]:
    """Original cases with an answer that is not acceptable, the most confident first."""
    wrong = [result for result in report.results if result.original and not result.accepted]
    return sorted(wrong, key=lambda result: (-result.confidence, result.line))


def _case_cell(case_id: str, line: int, texts: Mapping[str, str] | None) -> str:
    where = f"<small>line {line} · {escape(case_id)}</small>"
    if texts is None:
        return where
    return f'<span class="words" dir="auto">{escape(texts.get(case_id, ""))}</span>{where}'


def _comparison(found: Comparison, texts: Mapping[str, str] | None) -> str:
    told = [f"{found.common:,} cases are in both."]
    if found.only_now or found.only_before:
        told.append(f"{found.only_now:,} are new, {found.only_before:,} are gone.")
    if found.new_categories:
        told.append(f"New categories: {', '.join(found.new_categories)}.")
    if found.gone_categories:
        told.append(f"Categories that are gone: {', '.join(found.gone_categories)}.")
    figures = _table(
        ["", ">before", ">now", ">change"],
        [[name, _figure(a), _figure(b), _change(a, b)] for name, a, b in changes(found.before, found.now)],
    )
    rows = [
        [
            row.category,
            str(row.n),
            _figure(row.accept_before),
            _figure(row.accept_now),
            _change(row.accept_before, row.accept_now),
            f"{row.won}",
            f"{row.lost}",
            f"{row.answered_before} → {row.answered_now}",
        ]
        for row in found.per_category
        if row.won or row.lost or row.answered_before != row.answered_now
    ]
    head = ["category", ">cases", ">before", ">now", ">change", ">won", ">lost", ">answered with it"]
    categories = _table(head, rows) if rows else "<p>No category changed.</p>"
    flips = [
        [
            {WON: "won", LOST: "lost"}.get(f.kind, "other"),
            f"{f.before} → {f.now}",
            ", ".join(f.accept),
            _case_cell(f.id, f.line, texts),
        ]
        for f in found.flips[:FLIPS_SHOWN]
    ]
    more = f" The first {FLIPS_SHOWN} of {len(found.flips):,}." if len(found.flips) > FLIPS_SHOWN else ""
    is_open = " open" if len(flips) <= FLIPS_OPEN else ""
    shown = (
        f"<details{is_open}><summary>{len(found.flips):,} cases are answered otherwise, lost first.{more}"
        f"</summary>{_table(['', 'answer', 'acceptable', 'case'], flips, raw_last=True)}</details>"
        if flips
        else ""
    )
    return (
        f"<h2>Against the earlier evaluation</h2><p>{escape(' '.join(told))}</p>{figures}{categories}{shown}"
    )


def changes(before: Figures, now: Figures) -> Iterator[tuple[str, float | None, float | None]]:
    """The headline figures of both, by name."""
    yield "accept", before.accept, now.accept
    yield "primary", before.primary, now.primary
    yield "text only", before.text_only, now.text_only
    yield "variants alike", before.same, now.same
    yield "calibration error", before.ece, now.ece


def _change(before: float | None, now: float | None) -> str:
    if before is None or now is None:
        return ""
    return f"{now - before:+.3f}" if now != before else "0"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, raw_last: bool = False) -> str:
    """A title that begins with ``>`` makes a column of figures; the last column may be HTML already."""
    numeric = [title.startswith(">") for title in head]

    def cell(tag: str, place: int, text: str) -> str:
        inner = text if raw_last and tag == "td" and place == len(head) - 1 else escape(text)
        return f'<{tag} class="n">{inner}</{tag}>' if numeric[place] else f"<{tag}>{inner}</{tag}>"

    titles = "".join(cell("th", place, title.lstrip(">")) for place, title in enumerate(head))
    body = "\n".join(
        f"<tr>{''.join(cell('td', place, text) for place, text in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{}</title>
<style>
:root { color-scheme: light dark; --back: #f0f1f5; --paper: #fafafc; --ink: #1c202b; --grey: #697082;
  --grid: #dee1e9; --blue: #3464d6; --green: #148968; --red: #c83a3e; --amber: #a8690a; }
@media (prefers-color-scheme: dark) { :root { --back: #12141a; --paper: #1a1d26; --ink: #e6e8ef;
  --grey: #98a0b4; --grid: #323746; --blue: #6d97ff; --green: #35b58d; --red: #f0686b; --amber: #e0a33c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem 1rem 4rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 Inter, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
header p, p { color: var(--grey); margin: .3rem 0 .8rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
summary { cursor: pointer; margin: 1rem 0 .4rem; }
* + h2 { margin-top: 1.4rem; }
section, .tiles > div { background: var(--paper); border: 1px solid var(--grid); border-radius: 10px; }
section { padding: 1.1rem 1.2rem; margin: 0 0 1rem; min-width: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.4rem, 1fr)); gap: .7rem;
  margin: 1rem 0; }
.tiles > div { padding: .7rem .9rem; display: flex; flex-direction: column; }
.tiles b { font-size: 1.45rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tiles small, td small { color: var(--grey); overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 0 1rem; }
@media (min-width: 66rem) { .matrix { grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); } }
.note { border-left: 3px solid var(--amber); padding: .2rem .8rem; color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin-bottom: .6rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--grid); vertical-align: top; }
th { color: var(--grey); font-weight: 500; white-space: nowrap; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.words { display: block; min-width: 16rem; max-width: 46rem; overflow-wrap: anywhere; }
@media print { body { background: none; } section { break-inside: avoid; } }
</style>
<body>
{}
</body>
</html>
"""
