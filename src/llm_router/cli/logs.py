"""``llm-router logs``: what the gateway decided and answered, the newest last; one decision in full."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli import output, wording
from llm_router.cli.context import Options, pass_options

if TYPE_CHECKING:
    from rich.console import Console

    from llm_router.records.reader import Filter, Records
    from llm_router.request import JsonObject

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _span(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """``90s``, ``15m``, ``2h``, ``3d``: how long ago, in seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip().lower())
    if found is None:
        raise click.BadParameter(f"{value!r} is no time span such as 15m, 2h or 3d", context, option)
    return float(found[1]) * _UNITS_S[found[2]]


@click.command()
@click.argument("decision_id", required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@click.option("--category", metavar="NAME", help="Only tasks of this kind.")
@click.option("--model", metavar="NAME", help="Only answers of this model.")
@click.option("--key", metavar="NAME", help="Only requests with this API key.")
@click.option("--errors", is_flag=True, help="Only what failed.")
@click.option("--since", callback=_span, metavar="SPAN", help="Only the last 15m, 2h, 3d …")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@pass_options
def logs(
    options: Options, /, decision_id: str | None, limit: int, follow: bool, as_json: bool, **chosen: Any
) -> None:
    """Shows what was decided and answered; with DECISION_ID (or its first 6 characters) one decision in full.

    \b
      llm-router logs --since 1h --errors
      llm-router logs 3f9a1c
    """
    from llm_router.records.reader import Filter, Records, records_path

    since = chosen.pop("since")
    wanted = Filter(**chosen, since_s=None if since is None else time.time() - since)
    with Records(records_path(options.configuration().settings.records)) as records:
        if decision_id is not None:
            _one(records, decision_id, as_json=as_json)
            return
        rows = records.latest(limit, wanted)
        if as_json:
            for row in rows:
                output.json_data(row)
        elif rows:
            _table(rows, output.console())
        else:
            output.say("nothing recorded that fits")
        if follow:
            _follow(records, wanted, as_json=as_json)


def _one(records: Records, decision_id: str, *, as_json: bool) -> None:
    from llm_router.errors import InvalidRequest

    found = records.decision(decision_id)
    if found is None:
        raise InvalidRequest(
            f"no decision {decision_id[:60]!r}", why="no record has it", hint="see the ids: llm-router logs"
        )
    if as_json:
        output.json_data(found)
        return
    from rich.text import Text

    from llm_router.cli.render import labelled

    console = output.console()
    console.print(Text(f"Decision {found['decision_id']}", style="bold"))
    labelled(list(_lines(found)), console)


def _lines(found: JsonObject) -> Any:
    decision: Any = found.get("decision") or {}
    yield "at", _when(found, "%Y-%m-%d %H:%M:%S"), ""
    yield "task", f"{found['category']}, {_number(found['confidence']):.2f} sure ({found['stage']})", "bold"
    yield "answer", f"{found['model'] or 'none'} on {found['host'] or 'no host'}", ""
    for reason in decision.get("reasons", []):
        yield "why", str(reason), ""
    attempts: Any = found.get("attempts") or []
    for attempt in attempts:
        if attempt.get("error"):
            yield "failed", f"{attempt['model']} on {attempt['host']}: {attempt['error']['message']}", ""
    for rejection in decision.get("rejected", []):
        yield "not", f"{rejection['model']}: {rejection['why']}", ""
    yield "status", f"{found['status']} {found['error'] or ''}".strip(), ""
    yield "took", wording.seconds(_number(found["elapsed_ms"]) / 1000), ""
    if found["first_token_ms"] is not None:
        yield "first", wording.seconds(_number(found["first_token_ms"]) / 1000), ""
    yield "tokens", f"{found['prompt_tokens'] or '?'} read, {found['output_tokens'] or '?'} written", ""
    warnings: Any = [*decision.get("warnings", []), *(found.get("warnings") or [])]  # type: ignore[misc]
    for warning in warnings:
        yield "warning", str(warning), ""


def _table(rows: list[JsonObject], console: Console) -> None:
    from llm_router.cli.tables import Cell, print_table

    print_table(
        ("time", "decision", "~task", "~model", ">took", ">status"),
        [
            (
                Cell(_when(row, "%m-%d %H:%M:%S")),
                Cell(str(row["decision_id"] or "")[:8]),
                Cell(f"{row['category'] or ''}"),
                Cell(f"{row['model'] or ''}"),
                Cell(wording.seconds(_number(row["elapsed_ms"]) / 1000)),
                Cell(str(row["status"]), style="" if row["status"] == 200 else "red"),
            )
            for row in rows
        ],
        console,
    )


def _follow(records: Records, wanted: Filter, *, as_json: bool) -> None:
    for row in records.follow(wanted):
        if as_json:
            output.json_data(row)
        else:
            told = (
                _when(row, "%m-%d %H:%M:%S"),
                str(row["decision_id"] or "")[:8],
                str(row["category"] or ""),
                str(row["model"] or ""),
                wording.seconds(_number(row["elapsed_ms"]) / 1000),
                str(row["status"]),
            )
            output.data("  ".join(told))


def _when(row: JsonObject, form: str) -> str:
    return datetime.fromtimestamp(_number(row["at_ns"]) / 1e9).strftime(form)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
