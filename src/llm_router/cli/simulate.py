"""``llm-router simulate``: a day of tasks on one box, in virtual time, under several ways of choosing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options
from llm_router.errors import InvalidRequest, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_router.fleet import Fleet
    from llm_router.simulate.play import Case
    from llm_router.simulate.report import Run
    from llm_router.simulate.traces import Arrivals, Task

_RATES = "0.005,0.01,0.015,0.02,0.03"
_HOURS = 24.0
_MOST_RECORDS = 1_000_000
_SQLITE = b"SQLite format 3\0"
_PICTURES = (".svg", ".png")


def _rates(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, ...]:
    """``0.01,0.02``: requests per second."""
    found = []
    for part in (value or "").split(","):
        if not part.strip():
            continue
        try:
            rate = float(part)
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1000:
            raise click.BadParameter(f"{part.strip()!r} is no rate such as 0.01", context, option)
        found.append(rate)
    return tuple(found)


@click.command()
@click.argument("trace", type=click.Path(path_type=Path), required=False)
@click.option(
    "--rates",
    callback=_rates,
    metavar="R,R,…",
    help=f"Requests per second.  [default: {_RATES}; of a TRACE: its own]",
)
@click.option(
    "--hours",
    type=click.FloatRange(0, 24 * 366, min_open=True),
    help=f"How long tasks come in.  [default: {_HOURS:g}]",
)
@click.option("--requests", type=click.IntRange(1, 1_000_000), help="So many tasks at every rate, not hours.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of everything that is drawn.")
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "bursty"]),
    default="poisson",
    show_default=True,
    help="How tasks come in.",
)
@click.option("--policies", metavar="NAME,NAME,…", help="Ways of choosing to compare.  [default: all]")
@click.option(
    "--memory-gb",
    type=click.FloatRange(1, 100_000),
    help="Memory of the box.  [default: the fleet's machine]",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="OLLAMA_NUM_PARALLEL, answers of one model at a time.",
)
@click.option(
    "--plot", "picture", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: .svg or .png."
)
@click.option(
    "--write-trace",
    "trace_out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the tasks of the first rate, one per line, to use as TRACE.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@pass_options
def simulate(
    options: Options,
    /,
    *,
    trace: Path | None,
    rates: tuple[float, ...],
    policies: str | None,
    picture: Path | None,
    trace_out: Path | None,
    as_json: bool,
    **drawn: Any,
) -> None:
    """Plays a day of tasks on one box in virtual time and compares ways of choosing a model.

    \b
      llm-router simulate
      llm-router simulate --rates 0.01 --requests 4000 --policies fixed_map,oracle
      llm-router simulate records.sqlite3 --json

    TRACE is the records of a gateway, or a file with one task per line: {"at_s", "category", "prompt_tokens",
    "output_tokens"}. Without it tasks are drawn from a stated mix. No host is needed.
    """
    names = _policies(policies)
    if picture is not None and picture.suffix.lower() not in _PICTURES:
        raise InvalidRequest(
            f"cannot draw {picture.name}",
            why=f"{picture.suffix or 'no ending'} is not a format it knows",
            hint=f"use one of {', '.join(_PICTURES)}",
        )
    fleet = options.fleet()
    traces = _read_traces(trace, rates, drawn, fleet) if trace is not None else _drawn(rates, drawn, fleet)
    cases = _cases(traces, options, fleet, drawn)
    if trace_out is not None:
        _write_trace(trace_out, cases[0][1].tasks)
    runs = tuple(_runs(cases, names))
    if picture is not None:
        _draw(picture, runs)
    if as_json:
        from llm_router.simulate.report import Report

        output.json_data(Report(runs=runs))
    else:
        _table(runs)


def _policies(told: str | None) -> tuple[str, ...]:
    from llm_router.simulate.strategies import POLICIES

    if told is None:
        return tuple(POLICIES)
    names = tuple(dict.fromkeys(part.strip() for part in told.split(",") if part.strip()))
    for name in names:
        if name not in POLICIES:
            hint = nearest(name, POLICIES) or f"policies are {', '.join(POLICIES)}"
            raise UsageError(f"--policies does not know {name!r}", hint=hint)
    if not names:
        raise UsageError("--policies names none", hint=f"policies are {', '.join(POLICIES)}")
    return names


_Traces = list[tuple[float, "tuple[Task, ...]"]]


def _drawn(rates: tuple[float, ...], drawn: dict[str, Any], fleet: Fleet) -> _Traces:
    from llm_router.simulate.mix import MIXED_DAY
    from llm_router.simulate.traces import synthetic

    hours, requests = drawn["hours"], drawn["requests"]
    if hours is not None and requests is not None:
        raise UsageError("--hours and --requests say the same in two ways", hint="leave one of them out")
    arrivals: Arrivals = drawn["arrivals"]
    found: _Traces = []
    for rate in rates or tuple(float(rate) for rate in _RATES.split(",")):
        tasks = synthetic(
            fleet,
            MIXED_DAY,
            rate_per_s=rate,
            seed=drawn["seed"],
            hours=(hours or _HOURS) if requests is None else None,
            requests=requests,
            arrivals=arrivals,
        )
        if not tasks:
            raise UsageError(f"at {rate:g} per second no task comes in that time", hint="give more --hours")
        found.append((rate, tasks))
    return found


def _read_traces(trace: Path, rates: tuple[float, ...], drawn: dict[str, Any], fleet: Fleet) -> _Traces:
    from llm_router.simulate.traces import at_rate, rate_of

    if drawn["hours"] is not None or drawn["requests"] is not None:
        raise UsageError("--hours and --requests are for tasks that are drawn", hint="leave them out")
    tasks = _read(trace, fleet)
    if not rates:
        return [(rate_of(tasks), tasks)]
    return [(rate, at_rate(tasks, rate)) for rate in rates]


def _read(trace: Path, fleet: Fleet) -> tuple[Task, ...]:
    from llm_router.simulate.traces import from_records, parsed

    try:
        with trace.open("rb") as file:
            head = file.read(len(_SQLITE))
            data = b"" if head == _SQLITE else head + file.read()
    except OSError as error:
        raise InvalidRequest(
            f"cannot read {trace}",
            why=error.strerror or str(error),
            hint="give records or a file of tasks, or leave TRACE out",
        ) from error
    if head != _SQLITE:
        return parsed(data, fleet)
    from llm_router.records.reader import Records

    with Records(trace) as records:
        tasks = from_records(records.latest(_MOST_RECORDS), fleet)
    if not tasks:
        raise InvalidRequest(
            f"cannot simulate {trace}",
            why="no answered task of a category of this fleet is in it",
            hint="leave TRACE out to draw tasks from the stated mix",
        )
    return tasks


def _cases(
    traces: _Traces, options: Options, fleet: Fleet, drawn: dict[str, Any]
) -> list[tuple[float, Case]]:
    from llm_router.simulate.ollama_box import BoxSettings
    from llm_router.simulate.play import Case

    memory_gb = drawn["memory_gb"] or fleet.machine.usable_memory_gb
    box = BoxSettings(memory_gb=memory_gb, num_parallel=drawn["parallel"])
    policy = options.configuration().settings.policy
    found = []
    for rate, tasks in traces:
        case = Case(fleet, tasks, box, policy).answerable()
        left_out = len(tasks) - len(case.tasks)
        if not case.tasks:
            raise InvalidRequest(
                "nothing can be simulated",
                why="no model of the fleet may take any of these tasks on this box",
                hint="see: llm-router models",
            )
        if left_out:
            output.warning(f"{left_out:,} of {len(tasks):,} tasks left out: no model may take them")
        found.append((rate, case))
    return found


def _runs(cases: Sequence[tuple[float, Case]], names: Sequence[str]) -> Iterator[Run]:
    from llm_router.simulate.report import run_of
    from llm_router.simulate.strategies import POLICIES

    for rate, case in cases:
        for name in names:
            with output.waiting(f"{name} at {rate:g} requests per second"):
                outcome = POLICIES[name](case)
            yield run_of(name, rate, outcome)


def _write_trace(path: Path, tasks: Sequence[Task]) -> None:
    from llm_router.drawing import write_whole
    from llm_router.simulate.traces import written

    output.say(f"wrote {write_whole(path.expanduser(), written(tasks))}")


def _draw(path: Path, runs: Sequence[Run]) -> None:
    from llm_router.drawing import to_png, to_svg, write_whole
    from llm_router.simulate.charts import chart

    most = max(run.requests for run in runs)
    sheet = chart(runs, f"One box, up to {most:,} tasks at each rate")
    data = to_png(sheet) if path.suffix.lower() == ".png" else to_svg(sheet).encode()
    output.say(f"wrote {write_whole(path.expanduser(), data)}")


def _table(runs: Sequence[Run]) -> None:
    from llm_router.cli.tables import Cell, print_table

    head = ("policy", ">rate/s", ">tasks", ">mean s", ">p50", ">p95", ">p99", ">first p95")
    print_table(
        (*head, ">loads", ">GB", ">quality", ">GB·s"),
        [
            (
                Cell(run.policy),
                Cell(f"{run.rate_per_s:.4g}"),
                Cell(f"{run.requests:,}"),
                Cell(_seconds(run.mean_s)),
                Cell(_seconds(run.p50_s)),
                Cell(_seconds(run.p95_s)),
                Cell(_seconds(run.p99_s)),
                Cell(_seconds(run.ttft_p95_s)),
                Cell(f"{run.loads:,}"),
                Cell(f"{run.loaded_gb:,.0f}"),
                Cell(f"{run.quality:,.1f}"),
                Cell(f"{run.gb_s:.2e}"),
            )
            for run in runs
        ],
        output.console(),
    )


def _seconds(value_s: float) -> str:
    return f"{value_s:.1f}" if value_s < 100 else f"{value_s:,.0f}"
