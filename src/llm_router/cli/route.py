"""``llm-router route``: the decision without the answer, for one task or for a file of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run, run_reader
from llm_router.cli.task import TaskInput, task_options
from llm_router.errors import NoModelAvailable, UsageError

if TYPE_CHECKING:
    from llm_router.request import RouteRequest


@click.command()
@task_options
@click.option(
    "--requests",
    metavar="FILE",
    help="Route many: one OpenAI or Ollama request body per line of FILE (- is stdin), one decision per "
    "line to stdout.",
)
@click.option("--json", "as_json", is_flag=True, help="The decision as JSON.")
@pass_options
def route(options: Options, /, requests: str | None, as_json: bool, **task: Any) -> None:
    """Decides which model should answer TEXT, and asks none.

    \b
      llm-router route "Prove that √2 is irrational using proof by contradiction"
      llm-router route --requests requests.jsonl > decisions.jsonl

    In a file, a line that is no request gives {"error": …, "line": N} in its place and exit code 1 at the
    end. Exit code 3 where no model can answer a single task.
    """
    if requests is None:
        run(_one(options, TaskInput(**task).request(), as_json=as_json))
        return
    if any(task.values()):
        raise UsageError(
            "--requests cannot be used with a task",
            hint="each line of the file is a whole request",
        )
    from llm_router.cli.route_many import route_many

    run_reader(route_many(options, requests))


async def _one(options: Options, request: RouteRequest, *, as_json: bool) -> None:
    from llm_router.cli.warnings import warn_of_hosts

    configuration = options.configuration()
    with output.waiting("deciding"):
        async with options.router(configuration) as router:
            decision = await router.decide(request)
            hosts = await router.hosts()
    warn_of_hosts(configuration, hosts)
    if as_json:
        output.json_data(decision.as_json())
    else:
        from llm_router.cli.render import decision_block

        decision_block(decision, output.console())
    if decision.answer is None:
        click.get_current_context().exit(NoModelAvailable.exit_code)
