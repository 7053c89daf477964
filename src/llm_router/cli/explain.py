"""``llm-router explain``: every step of one decision, and why not that model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli import output, wording
from llm_router.cli.context import Options, pass_options, run
from llm_router.cli.task import TaskInput, task_options

if TYPE_CHECKING:
    from rich.console import Console

    from llm_router.decision import Candidate, Decision
    from llm_router.policy.why_not import WhyNot
    from llm_router.request import RouteRequest

BAR_WIDTH = 24
BARS = 6
"""Categories shown with their probability; the others share the rest."""

LEAST = 0.0005
"""A probability that would be shown as nothing is none of them."""


@click.command()
@task_options
@click.option("--why-not", metavar="MODEL", help="Why this model does not answer, and what would change it.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@pass_options
def explain(options: Options, /, why_not: str | None, as_json: bool, **task: Any) -> None:
    """Explains which model should answer TEXT: every stage, candidate and rejection.

    \b
      llm-router explain "Prove that √2 is irrational"
      llm-router explain "Prove that √2 is irrational" --why-not phi4
    """
    run(_explain(options, TaskInput(**task).request(), why_not, as_json=as_json))


async def _explain(options: Options, request: RouteRequest, model: str | None, *, as_json: bool) -> None:
    from llm_router.cli.warnings import warn_of_hosts
    from llm_router.records.reader import measured_before

    configuration = options.configuration()
    with output.waiting("deciding"):
        async with options.router(configuration) as router:
            router.remember(measured_before(configuration.settings.records))
            if model is None:
                decision, found = await router.decide(request), None
            else:
                decision, found = await router.explain(request, model)
            hosts = await router.hosts()
    warn_of_hosts(configuration, hosts)
    if as_json:
        output.json_data(decision.as_json() | ({"why_not": found.as_json()} if found else {}))
        return
    from llm_router.cli.render import decision_block

    console = output.console()
    decision_block(decision, console)
    console.print()
    if found is not None:
        _why_not(found, console)
    else:
        _steps(decision, console)


def _why_not(found: WhyNot, console: Console) -> None:
    from rich.text import Text

    from llm_router.cli.render import labelled

    if found.answers_already:
        console.print(Text(f"{output.one_line(found.model)} is the model that answers."))
        return
    console.print(Text(f"Why not {output.one_line(found.model)}", style="bold"))
    labelled(_why_not_lines(found), console)


def _why_not_lines(found: WhyNot) -> Iterator[wording.Line]:
    yield from wording.listed("kept out", found.kept_out)
    yield from wording.listed("it takes", found.flips)
    yield "outcome", found.outcome, "bold"


def _steps(decision: Decision, console: Console) -> None:
    from rich.text import Text

    from llm_router.cli.render import labelled

    console.print(Text("Stages", style="bold"))
    labelled(_stages(decision), console)
    console.print()
    console.print(Text("Probabilities", style="bold"))
    for line in _bars(decision):
        console.print(line)
    console.print()
    console.print(Text("Candidates, best first", style="bold"))
    _candidates(decision.chain, console)


def _stages(decision: Decision) -> Iterator[wording.Line]:
    for stage in decision.classification.trail:
        told = [stage.category and f"{stage.category} {stage.confidence:.2f}", stage.note]
        told += [evidence.text for evidence in stage.evidence]
        words = "; ".join(part for part in told if part) or "nothing to say"
        yield (
            _STAGE_LABELS.get(stage.stage, stage.stage),
            f"{words} ({wording.milliseconds(stage.elapsed_ms)})",
            "",
        )


_STAGE_LABELS = {"mission_control": "mission"}
"""Stage names that are longer than the column of labels."""


def _bars(decision: Decision) -> Iterator[Any]:
    from rich.text import Text

    ranked = sorted(decision.classification.probabilities.items(), key=lambda item: (-item[1], item[0]))
    shown = [item for item in ranked[:BARS] if item[1] >= LEAST] or ranked[:1]
    width = max((len(name) for name, _ in shown), default=0)
    for name, probability in shown:
        filled = round(probability * BAR_WIDTH)
        bar = Text("█" * filled + "·" * (BAR_WIDTH - filled), style="cyan")
        yield Text.assemble(f"  {output.one_line(name).ljust(width)}  ", bar, f"  {probability:.3f}")
    rest = ranked[len(shown) :]
    if rest:
        share = sum(probability for _, probability in rest)
        yield Text(f"  {len(rest)} others together {share:.3f}", style="dim")


def _candidates(chain: Sequence[Candidate], console: Console) -> None:
    from llm_router.cli.tables import Cell, print_table

    rows = [
        (
            Cell(f"  {index}. {candidate.model}"),
            Cell(candidate.host),
            Cell("stand-in" if candidate.stand_in else f"{candidate.quality:.2f}"),
            Cell("resident" if candidate.resident else wording.about(candidate.estimate.load_s)),
            Cell(wording.about(candidate.estimate.answering_s)),
            Cell(wording.gigabytes(candidate.estimate.memory_gb)),
            Cell(f"{candidate.score:.3f}"),
        )
        for index, candidate in enumerate(chain, 1)
    ]
    if rows:
        print_table(("  model", "host", ">quality", ">load", ">answer", ">memory", ">score"), rows, console)
        _basis(chain, console)
    else:
        console.print("  none")


def _basis(chain: Sequence[Candidate], console: Console) -> None:
    """Where the seconds come from: what was measured on the host, or the fleet file."""
    from llm_router.cli.render import paragraph
    from llm_router.decision import NO_SAMPLES

    measured = [candidate for candidate in chain if candidate.estimate.samples != NO_SAMPLES]
    told = [
        f"{c.model} on {c.host} (loaded {c.estimate.samples.load} times, read {c.estimate.samples.prefill}, "
        f"written {c.estimate.samples.decode})"
        for c in measured
    ]
    words = f"measured: {'; '.join(told)}; all others are the fleet's figures" if told else _NOT_MEASURED
    paragraph(f"Seconds {words}", console, style="dim", indent=2)


_NOT_MEASURED = "are the fleet's figures: none of them was measured here yet"
