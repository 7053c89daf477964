"""``llm-router ask``: a task in words, the answer on stdout, everything about it on stderr."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli.context import Options, pass_options, run
from llm_router.cli.task import TaskInput, task_options

if TYPE_CHECKING:
    from llm_router.request import RouteRequest


@click.command()
@task_options
@click.option("--think/--no-think", default=None, help="Let a thinking model think, or not.")
@click.option("--show-thinking", is_flag=True, help="Show what it thinks, dimmed, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with decision and answer; no stream.")
@click.option("-q", "--quiet", is_flag=True, help="The answer alone: no decision block, no figures.")
@pass_options
def ask(options: Options, /, show_thinking: bool, as_json: bool, quiet: bool, **task: Any) -> None:
    """Answers TEXT with the model that suits it best, streaming the answer to stdout.

    \b
      llm-router ask "Generate JSON schema for user profile with name, email, age"
      llm-router ask --image chart.png "Which quarter was best?"
      llm-router ask --file report.txt "Summarise this in three sentences" > summary.txt
      git diff | llm-router ask "Review this change" -

    TEXT - is stdin; without TEXT and with something piped in, stdin is the task.
    """
    request = TaskInput(**task).request()
    run(_ask(options, request, show_thinking=show_thinking, as_json=as_json, quiet=quiet))


async def _ask(
    options: Options, request: RouteRequest, *, show_thinking: bool, as_json: bool, quiet: bool
) -> None:
    from llm_router.answer import Decided, Finished
    from llm_router.cli import output
    from llm_router.cli.streaming import Talk
    from llm_router.cli.warnings import warn_of_hosts

    configuration = options.configuration()
    talk = Talk(quiet=quiet, text=not as_json, show_thinking=show_thinking)
    with talk:
        async with (
            options.router(configuration, progress=talk.progress) as router,
            aclosing(router.stream(request)) as events,
        ):
            async for event in events:
                if isinstance(event, Decided):
                    warn_of_hosts(configuration, await router.hosts())
                talk.show(event)
                if as_json and isinstance(event, Finished):
                    output.json_data(event.answer.as_json())
