"""``llm-router categories``: the kinds of task, the fleet's choice for each, and who would answer now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run, world_now
from llm_router.cli.warnings import warn_of_every_host

if TYPE_CHECKING:
    from rich.text import Text

    from llm_router.decision import Candidate
    from llm_router.diagnosis.classifier import Classifier, Knowledge
    from llm_router.fleet import Category
    from llm_router.policy import World
    from llm_router.request import JsonObject


@dataclass(frozen=True, slots=True)
class Line:
    """One category: who answers a short text now, who a task with all that its kind carries (``carrying``,
    empty where a text is all), and how the embedded classifier knows it.
    """

    name: str
    category: Category
    text: Candidate | None
    carrying: str
    whole: Candidate | None
    knowledge: Knowledge


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The categories as JSON.")
@pass_options
def categories(options: Options, as_json: bool) -> None:
    """Lists the kinds of task: what they mean, the fleet's choice, its substitutes, who answers now.

    Where pictures, tools or long texts are answered by another model than a short text, both are named.
    """
    from llm_router.diagnosis.classifier import packaged_classifier

    world = run(world_now(options))
    warn_of_every_host(world.hosts)
    classifier = packaged_classifier()
    lines = [_line(name, world, classifier) for name in world.fleet.categories]
    if as_json:
        output.json_data(as_json_object(lines, world))
    else:
        _show(lines, world, classifier)


def _line(name: str, world: World, classifier: Classifier) -> Line:
    from llm_router.diagnosis.serving import answering_text, answering_whole, carrying

    category = world.fleet.categories[name]
    return Line(
        name=name,
        category=category,
        text=answering_text(name, world),
        carrying=carrying(category),
        whole=answering_whole(name, world),
        knowledge=classifier.knows(name, category),
    )


def as_json_object(lines: Sequence[Line], world: World) -> JsonObject:
    """The documented shape (docs/reference/json.md)."""
    return {
        "default": world.fleet.default_category,
        "categories": [_category_json(line, world) for line in lines],
    }


def _category_json(line: Line, world: World) -> JsonObject:
    from llm_router.diagnosis.classifier import different_examples

    return {
        "name": line.name,
        "description": line.category.description,
        "choice": world.fleet.choice_for(line.name),
        "substitutes": [*_substitutes(line.name, world)],
        **_answer_json(line.text),
        "whole": {"carrying": line.carrying, **_answer_json(line.whole)} if line.carrying else None,
        "classifier": line.knowledge,
        "examples": different_examples(line.category),
    }


def _answer_json(answer: Candidate | None) -> JsonObject:
    return {
        "answers_now": answer.model if answer else None,
        "answer_host": answer.host if answer else None,
        "stand_in": answer.stand_in if answer else False,
    }


def _substitutes(name: str, world: World) -> list[str]:
    choice = world.fleet.choice_for(name)
    return [c.model for c in world.fleet.categories[name].models if c.model != choice]


def _show(lines: Sequence[Line], world: World, classifier: Classifier) -> None:
    from rich.text import Text

    from llm_router.cli.render import INDENT, headline, paragraph

    console = output.console()
    for line in lines:
        choice = world.fleet.choice_for(line.name)
        left = Text.assemble((output.one_line(line.name), "bold"), " → ", (output.one_line(choice), "bold"))
        apart = bool(line.carrying) and _who(line.text) != _who(line.whole)
        right = _now(choice, line.whole)
        headline(left, Text.assemble(f"{line.carrying}: ", right) if apart else right, console)
        paragraph(line.category.description, console, indent=INDENT)
        if apart:
            told = f"a short text only: {_now(choice, line.text).plain}"
            paragraph(told, console, indent=INDENT, style="yellow")
        substitutes = " → ".join(_substitutes(line.name, world))
        if substitutes:
            paragraph(f"then {substitutes}", console, indent=INDENT, style="dim")
        if line.knowledge == "unknown" and not classifier.problem:
            paragraph(_never_chosen(line, classifier), console, indent=INDENT, style="yellow")
        console.print()
    paragraph(f"Where nothing is sure: {world.fleet.default_category}", console)


def _who(answer: Candidate | None) -> str | None:
    return answer.model if answer else None


def _never_chosen(line: Line, classifier: Classifier) -> str:
    from llm_router.diagnosis.classifier import different_examples

    have = different_examples(line.category)
    told = f"{have or 'no'} different example{'' if have == 1 else 's'}"
    return f"never chosen by the built-in classifier: {told}, it needs {classifier.min_examples}"


def _now(choice: str, answer: Candidate | None) -> Text:
    from rich.text import Text

    if answer is None:
        return Text("nobody can answer now", style="red")
    if answer.stand_in:
        return Text(f"answered now by embedded {answer.model}", style="yellow")
    if answer.model == choice:
        return Text("answers now", style="green")
    return Text(f"answered now by {output.one_line(answer.model)}", style="yellow")
