"""``llm-router plot``: the CrewAI flow as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options
from llm_router.errors import InvalidRequest


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("llm_router_flow.html"),
    metavar="FILE",
    show_default=True,
    help="Where to write it; the ending says how: .html, .svg or .png.",
)
@click.option("--json", "as_json", is_flag=True, help="Path and format as JSON.")
@pass_options
def plot(options: Options, /, out: Path, as_json: bool) -> None:
    """Draws the CrewAI flow of your fleet and prints the path of the picture. Needs the extra [crewai]."""
    if out.is_dir():
        raise InvalidRequest(f"cannot write {out}", why="it is a directory", hint="name a file in it")
    from llm_router.flow import DynamicModelFlow

    path = DynamicModelFlow(fleet=options.fleet()).plot(out)
    if as_json:
        output.json_data({"path": path, "format": Path(path).suffix.lower().lstrip(".")})
    else:
        output.data(path)
