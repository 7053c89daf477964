"""The command ``llm-router``: global options and a table of commands that are imported when they run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from llm_router.cli import output
from llm_router.cli.context import Options
from llm_router.cli.ending import ending
from llm_router.cli.lazy import LazyGroup, LazySection
from llm_router.version import __version__

SECTIONS = (
    LazySection(
        "Tasks",
        {
            "ask": ("llm_router.cli.ask:ask", "answer a task with the model that suits it best"),
            "route": ("llm_router.cli.route:route", "only decide: which model, why, who is next"),
            "explain": ("llm_router.cli.explain:explain", "every step of a decision, or why not that model"),
        },
    ),
    LazySection(
        "Fleet",
        {
            "models": ("llm_router.cli.models:models", "all models and the state each of them is in"),
            "categories": ("llm_router.cli.categories:categories", "all kinds of task and who answers them"),
            "pull": ("llm_router.cli.pull:pull", "install models that a host lacks"),
            "ps": ("llm_router.cli.ps:ps", "what is in the memory of each host, who waits, what loads"),
            "plan": ("llm_router.cli.plan:plan", "which models should stay in memory, and what that saves"),
            "doctor": ("llm_router.cli.doctor:doctor", "find what is wrong, and what to do about it"),
        },
    ),
    LazySection(
        "Serving",
        {
            "serve": ("llm_router.cli.serve:serve", "one address for OpenAI, Ollama and Anthropic clients"),
            "logs": ("llm_router.cli.logs:logs", "what was decided and answered, and why"),
            "keys": ("llm_router.cli.keys:keys", "API keys of those who may call"),
        },
    ),
    LazySection(
        "Quality",
        {
            "eval": ("llm_router.cli.eval:evaluate", "measure classification on labelled cases"),
            "train": ("llm_router.cli.train:train", "rebuild the embedded classifier from text"),
            "simulate": (
                "llm_router.cli.simulate:simulate",
                "a day of tasks on one box, in virtual time: what each way of choosing costs",
            ),
        },
    ),
    LazySection(
        "Setting up",
        {
            "init": ("llm_router.cli.init:init", "write a fleet file of the models your hosts have"),
            "config": ("llm_router.cli.config:config", "every setting and where its value comes from"),
            "demo": ("llm_router.cli.demo:demo", "six example tasks routed, two of them answered"),
            "plot": ("llm_router.cli.plot:plot", "draw the CrewAI flow as a picture"),
        },
    ),
)


class Command(LazyGroup):
    """The whole command. Every way it can end is told in one place, without a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        del prog_name  # ``python -m llm_router`` should call itself llm-router too
        try:
            code = super().main(args, "llm-router", complete_var, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort) as error:
            code = ending(error)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()
        except click.exceptions.Exit:
            raise
        except BaseException as error:
            raise click.exceptions.Exit(ending(error)) from error
        return value


@click.group(
    cls=Command,
    sections=SECTIONS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings file to use.", is_eager=True
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Fleet file laid over the shipped one; may be given several times.",
)
@click.option("--no-color", is_flag=True, help="No colours; the variable NO_COLOR does the same.")
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context, config: Path | None, fleet: tuple[Path, ...], no_color: bool) -> None:
    """Routes each task to the local model that should answer it, and says why.

    \b
      llm-router ask "Generate JSON schema for user profile with name, email, age"
      llm-router route "Prove that √2 is irrational using proof by contradiction"

    Answers and data go to stdout, everything else to stderr.
    Exit codes: 0 done, 1 failed, 2 misuse, 3 no model available.
    """
    ctx.color = False if no_color else output.colour()
    ctx.obj = Options(config=config, fleets=fleet)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
