"""``llm-router categories``: the kinds of task, the fleet's choice for each, and who would answer now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run, world_now
from llm_router.cli.warnings import warn_of_every_host

if TYPE_CHECKING:
    from rich.text import Text

    from llm_router.decision import Candidate
    from llm_router.policy import World
    from llm_router.request import JsonObject


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The categories as JSON.")
@pass_options
def categories(options: Options, as_json: bool) -> None:
    """Lists the kinds of task: what they mean, the fleet's choice, its substitutes, who answers now."""
    from llm_router.policy.inventory import answering

    world = run(world_now(options))
    warn_of_every_host(world.hosts)
    answers = answering(world)
    if as_json:
        output.json_data(as_json_object(world, answers))
    else:
        _show(world, answers)


def as_json_object(world: World, answers: Mapping[str, Candidate | None]) -> JsonObject:
    """The documented shape (docs/reference/decision.md)."""
    return {
        "default": world.fleet.default_category,
        "categories": [_category_json(name, world, answer) for name, answer in answers.items()],
    }


def _category_json(name: str, world: World, answer: Candidate | None) -> JsonObject:
    category = world.fleet.categories[name]
    return {
        "name": name,
        "description": category.description,
        "choice": world.fleet.choice_for(name),
        "substitutes": [*_substitutes(name, world)],
        "answers_now": answer.model if answer else None,
        "answer_host": answer.host if answer else None,
        "stand_in": answer.stand_in if answer else False,
    }


def _substitutes(name: str, world: World) -> list[str]:
    choice = world.fleet.choice_for(name)
    return [c.model for c in world.fleet.categories[name].models if c.model != choice]


def _show(world: World, answers: Mapping[str, Candidate | None]) -> None:
    from rich.text import Text

    from llm_router.cli.render import INDENT, headline, paragraph

    console = output.console()
    for name, answer in answers.items():
        choice = world.fleet.choice_for(name)
        left = Text.assemble((name, "bold"), " → ", (output.one_line(choice), "bold"))
        headline(left, _now(choice, answer), console)
        paragraph(world.fleet.categories[name].description, console, indent=INDENT)
        substitutes = " → ".join(_substitutes(name, world))
        if substitutes:
            paragraph(f"then {substitutes}", console, indent=INDENT, style="dim")
        console.print()
    console.print(f"Where nothing is sure: {world.fleet.default_category}")


def _now(choice: str, answer: Candidate | None) -> Text:
    from rich.text import Text

    if answer is None:
        return Text("nobody can answer now", style="red")
    if answer.stand_in:
        return Text(f"answered now by embedded {answer.model}", style="yellow")
    if answer.model == choice:
        return Text("answers now", style="green")
    return Text(f"answered now by {output.one_line(answer.model)}", style="yellow")
