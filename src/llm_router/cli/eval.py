"""``llm-router eval``: labelled cases in, figures out; a gate for CI, and a page to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run
from llm_router.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_router.config import Settings
    from llm_router.fleet import Fleet
    from llm_router.learn.cases import Case
    from llm_router.learn.evaluate import Evaluation, Progress
    from llm_router.learn.figures import BaselineFigures, Report

TRAINING = Path("training")
_AT_LEAST = ("accept", "accept_micro", "primary", "text_only", "same", "worst", "pairs")
_AT_MOST = ("ece", "p50_ms", "p90_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Limit:
    """One condition of a gate: a figure by name, and the value it must not be under (or over)."""

    name: str
    value: float
    at_least: bool

    def broken(self, report: Report) -> str:
        """One sentence where the report breaks it, else nothing. Raises UsageError without such a figure."""
        found = _gate_figures(report)[self.name]
        if found is None:
            raise UsageError(
                f"cannot hold {self.name} against {self.value:g}", why="no case gives that figure"
            )
        if (found >= self.value) if self.at_least else (found <= self.value):
            return ""
        return f"{self.name} is {found:.4g}, {'under' if self.at_least else 'over'} {self.value:g}"


@click.command(name="eval")
@click.argument("cases")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for programs and --compare.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with charts and mistakes."
)
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Write the charts as one image.")
@click.option("--no-text", is_flag=True, help="Leave the words of the cases out of the page.")
@click.option("--baselines", is_flag=True, help="Measure other ways of answering beside the router.")
@click.option(
    "--training",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help=f"Texts that baselines learn from.  [default: ./{TRAINING}, if it is there]",
)
@click.option("--ask", is_flag=True, help="Put the cases that the encoder is unsure of to Mission Control.")
@click.option(
    "--ask-below",
    type=click.FloatRange(0, 1),
    metavar="CONFIDENCE",
    help="With --ask, ask about every case below this confidence.  [default: classify.ask_below]",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="BASE.json",
    help="Say what changed against an earlier --json.",
)
@click.option(
    "--fail-under",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"Exit with 1 where a figure is lower: {', '.join(_AT_LEAST)}.",
)
@click.option(
    "--fail-over",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"Exit with 1 where a figure is higher: {', '.join(_AT_MOST)}.",
)
@pass_options
def evaluate(
    options: Options,
    /,
    *,
    cases: str,
    as_json: bool,
    html: Path | None,
    png: Path | None,
    no_text: bool,
    baselines: bool,
    training: Path | None,
    ask: bool,
    ask_below: float | None,
    compare: Path | None,
    fail_under: tuple[str, ...],
    fail_over: tuple[str, ...],
) -> None:
    """Measures classification on labelled CASES, one JSON object per line (- is stdin).

    \b
      llm-router eval cases.jsonl --html report.html
      llm-router eval cases.jsonl --json > base.json
      llm-router --fleet mine.yaml eval cases.jsonl --compare base.json

    A line is {"text", "category"}, {"messages": [{"role", "text", "images"}], "category"},
    {"en", "ko", "category"}, or {"task", "accept", "images", "tools", …}. Without --ask no host is needed.
    """
    limits = (*_limits(fail_under, at_least=True), *_limits(fail_over, at_least=False))
    if ask_below is not None and not ask:
        raise UsageError("--ask-below says nothing without --ask", hint="add --ask")
    from llm_router.learn.compare import compare as compared
    from llm_router.learn.compare import read_report

    base = read_report(compare) if compare is not None else None
    configuration = options.configuration()
    settings, fleet = configuration.settings, options.fleet(configuration)
    found = _cases(cases, fleet)
    evaluation = _evaluation(fleet, settings, found, ask=ask, ask_below=ask_below)
    report = _report(cases, evaluation, fleet, settings, baselines=baselines, training=training)
    if base is not None:
        import msgspec

        report = msgspec.structs.replace(report, comparison=compared(base, report, found))
    _write(report, found, html=html, png=png, no_text=no_text)
    if as_json:
        output.json_data(report)
    else:
        from llm_router.cli.eval_tables import print_report

        print_report(report, output.console())
    for warning in report.warnings:
        output.warning(warning)
    _gate(limits, report)


def _cases(name: str, fleet: Fleet) -> tuple[Case, ...]:
    from llm_router.learn.cases import read_cases
    from llm_router.learn.evaluate import korean_category

    return read_cases(name, korean=korean_category(fleet))


def _evaluation(
    fleet: Fleet, settings: Settings, cases: Sequence[Case], *, ask: bool, ask_below: float | None
) -> Evaluation:
    import msgspec

    from llm_router.assembly import providers_of
    from llm_router.learn.evaluate import evaluate as evaluated

    below = settings.classify.ask_below if ask_below is None else ask_below
    routing = msgspec.structs.replace(settings.routing, stand_in="never")  # it never is Mission Control
    providers = providers_of(msgspec.structs.replace(settings, routing=routing), fleet) if ask else None
    with _watched() as progress:
        return run(
            evaluated(fleet, settings, cases, ask_with=providers, asked_below=below, progress=progress)
        )


def _report(
    name: str,
    evaluation: Evaluation,
    fleet: Fleet,
    settings: Settings,
    *,
    baselines: bool,
    training: Path | None,
) -> Report:
    from llm_router.learn.baselines import labelled_texts
    from llm_router.learn.evaluate import report, seen_before

    folder = training if training is not None else TRAINING if TRAINING.is_dir() else None
    if folder is not None and not folder.is_dir():
        raise UsageError(f"no folder {folder}", hint="name the folder of the training texts after --training")
    texts = labelled_texts(fleet, folder)
    told = seen_before(evaluation.cases, texts, folder)
    measured: tuple[BaselineFigures, ...] = ()
    if baselines:
        from llm_router.learn.evaluate import compared_baselines

        with _watched() as progress:
            measured = compared_baselines(
                evaluation, fleet, texts, progress=lambda baseline: progress(f"measuring {baseline}", 0, 0)
            )
    return report(
        evaluation,
        fleet,
        name=Path(name).name if name != "-" else "stdin",
        ask_below=settings.classify.ask_below,
        baseline_figures=measured,
        warnings=tuple(sentence for sentence in (told, _learnt_from(name, settings)) if sentence),
    )


def _learnt_from(name: str, settings: Settings) -> str:
    """A warning where the weights in use learnt from the folder that the cases are in."""
    from llm_router.assembly import encoder_of
    from llm_router.classify.encoder import EncoderFileError
    from llm_router.learn.rebuild import digest

    if name == "-":
        return ""
    try:
        made_from = encoder_of(settings).made_from[1]
    except EncoderFileError:
        return ""  # the evaluation itself tells what a broken file means
    if not made_from or digest(Path(name).parent) != made_from:
        return ""
    return (
        "the classifier has learnt from these very cases: the figures say nothing about others; "
        "for those of sources it has not seen: llm-router train --cases FOLDER --unseen FILE"
    )


def _write(
    report: Report, cases: Sequence[Case], *, html: Path | None, png: Path | None, no_text: bool
) -> None:
    from llm_router.drawing import to_png, write_whole

    if html is not None:
        from llm_router.learn.page import page, words_of

        text = page(report, None if no_text else words_of(cases))
        output.say(f"wrote {write_whole(html.expanduser(), text.encode('utf-8', 'replace'))}")
    if png is not None:
        from llm_router.learn.charts import overview

        output.say(f"wrote {write_whole(png.expanduser(), to_png(overview(report)))}")


@contextmanager
def _watched() -> Iterator[Progress]:
    """A moving line on stderr where a person looks; nothing elsewhere."""
    talk = output.console(err=True)
    if not talk.is_terminal:
        yield lambda _doing, _done, _total: None
        return
    with talk.status("reading") as status:
        yield lambda doing, done, total: status.update(f"{doing} {done:,} of {total:,}" if total else doing)


def _limits(told: tuple[str, ...], *, at_least: bool) -> Iterator[Limit]:
    names = _AT_LEAST if at_least else _AT_MOST
    option = "--fail-under" if at_least else "--fail-over"
    for text in told:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in names:
            hint = nearest(name, names) or f"figures are {', '.join(names)}"
            raise UsageError(f"{option} does not know {name!r}", hint=hint)
        try:
            yield Limit(name, float(value), at_least)
        except ValueError as error:
            raise UsageError(
                f"{option} {text} is not NAME=VALUE", why=f"{value!r} is no number", hint=f"{name}=0.9"
            ) from error


def _gate_figures(report: Report) -> dict[str, float | None]:
    figures, worst, latency = report.figures, report.worst_category, report.latency
    return {
        "accept": figures.accept,
        "accept_micro": figures.accept_micro,
        "primary": figures.primary,
        "text_only": figures.text_only,
        "same": figures.same,
        "worst": worst.accept if worst is not None else None,
        "pairs": report.pairs.alike if report.pairs is not None else None,
        "ece": figures.ece,
        "p50_ms": latency.p50_ms,
        "p90_ms": latency.p90_ms,
        "p99_ms": latency.p99_ms,
    }


def _gate(limits: tuple[Limit, ...], report: Report) -> None:
    broken = [told for limit in limits if (told := limit.broken(report))]
    if broken:
        output.error("the figures are not good enough", why="; ".join(broken))
        click.get_current_context().exit(1)
