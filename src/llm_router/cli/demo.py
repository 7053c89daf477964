"""``llm-router demo``: the whole idea in a minute, with whatever models there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from llm_router.cli import output, wording
from llm_router.cli.context import Options, pass_options, run
from llm_router.errors import LLMRouterError

if TYPE_CHECKING:
    from rich.console import Console

    from llm_router.answer import Answer
    from llm_router.cli.streaming import Talk
    from llm_router.decision import Decision
    from llm_router.request import JsonObject
    from llm_router.router import Router

MAX_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Example:
    """A task and the category in which the fleet's owner wants it; ``answered`` ones are run for real."""

    task: str
    category: str
    answered: bool = False


EXAMPLES = (
    Example("Analyze this sales chart and extract quarterly revenue trends", "max_vision"),
    Example("Prove that √2 is irrational using proof by contradiction", "max_reasoning"),
    Example("What's 2+2?", "simple_chat", answered=True),
    Example("Generate JSON schema for user profile with name, email, age", "structured_data", answered=True),
    Example("Search 500 PDFs for 'quantum computing' with full citations", "max_rag"),
    Example("Call the weather API and book a restaurant if it's sunny", "agentic_tool_use"),
)


@dataclass(slots=True)
class Outcome:
    """What the demo came to; ``differing`` and ``answers`` are sentences."""

    routes: list[tuple[Example, Decision]] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    answered: list[tuple[Example, Answer | LLMRouterError]] = field(default_factory=list)

    @property
    def routed(self) -> int:
        return len(self.routes) - len(self.differing)

    @property
    def failed(self) -> bool:
        return bool(self.differing) or not self.answers

    def as_json(self) -> JsonObject:
        """The documented shape (docs/reference/json.md)."""
        return {
            "ok": not self.failed,
            "routed": self.routed,
            "routes": [
                {
                    "task": example.task,
                    "wanted": example.category,
                    "ok": decision.category == example.category,
                    "decision": decision.as_json(),
                }
                for example, decision in self.routes
            ],
            "answers": [
                {"task": example.task, **_outcome_json(outcome)} for example, outcome in self.answered
            ],
        }


def _outcome_json(outcome: Answer | LLMRouterError) -> JsonObject:
    if isinstance(outcome, LLMRouterError):
        error: JsonObject = {"code": outcome.code, "message": str(outcome), "hint": outcome.hint}
        return {"answer": None, "error": error}
    return {"answer": outcome.as_json(), "error": None}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Decisions and answers as JSON.")
@pass_options
def demo(options: Options, as_json: bool) -> None:
    """Routes six example tasks, answers two of them for real, and says what to do next.

    Without any model server the small embedded model answers; its file (93 MB) is fetched once. Exit code 1
    where a route is not the one that the fleet's owner wants, or where nothing could answer.
    """
    outcome = Outcome()
    run(_demo(options, outcome, as_json=as_json))
    if as_json:
        output.json_data(outcome.as_json())
    if outcome.failed:
        click.get_current_context().exit(1)


async def _demo(options: Options, outcome: Outcome, *, as_json: bool) -> None:
    from llm_router.cli.streaming import Talk

    console = output.console(err=as_json)
    with Talk(block=False, text=not as_json) as talk:
        async with options.router(progress=talk.progress) as router:
            _title("Six tasks, and the model that should answer each", console)
            for example in EXAMPLES:
                await _route(router, example, outcome, console)
            answered = [example for example in EXAMPLES if example.answered]
            _title(f"{len(answered)} of them answered here, at most {MAX_TOKENS} tokens each", console)
            for example in answered:
                await _answer(router, example, talk, outcome, console)
    _summary(outcome, console)


async def _route(router: Router, example: Example, outcome: Outcome, console: Console) -> None:
    from llm_router.cli.render import decision_block

    decision = await router.decide(example.task)
    _quoted(example.task, console)
    decision_block(decision, console)
    console.print()
    outcome.routes.append((example, decision))
    difference = _difference(example, decision, router)
    if difference:
        outcome.differing.append(difference)


def _difference(example: Example, decision: Decision, router: Router) -> str | None:
    if decision.category == example.category:
        return None
    known = example.category in router.fleet.categories
    wanted = f"wanted {example.category}" if known else f"the fleet has no category {example.category}"
    return f"“{example.task}” went to {decision.category}; {wanted}"


async def _answer(router: Router, example: Example, talk: Talk, outcome: Outcome, console: Console) -> None:
    from llm_router.answer import Decided, Finished
    from llm_router.request import RouteRequest

    _quoted(example.task, console)
    request = RouteRequest.from_text(example.task, options={"num_predict": MAX_TOKENS})
    try:
        async with aclosing(router.stream(request)) as events:
            async for event in events:
                if isinstance(event, Decided):
                    _who(event.decision, console)
                talk.show(event)
                if isinstance(event, Finished):
                    outcome.answered.append((example, event.answer))
                    outcome.answers.append(f"“{example.task}” by {wording.answered_by(event.answer)}")
    except LLMRouterError as error:
        outcome.answered.append((example, error))
        output.failure(error)
    console.print()


def _who(decision: Decision, console: Console) -> None:
    from rich.text import Text

    told = wording.instead(decision) or f"answered by {decision.answer_model}"
    console.print(Text(output.printable(told), style="yellow" if wording.instead(decision) else "green"))


def _title(text: str, console: Console) -> None:
    from rich.text import Text

    console.print(Text(text, style="bold underline"))
    console.print()


def _quoted(task: str, console: Console) -> None:
    from rich.text import Text

    console.print(Text(f"“{task}”", style="italic"))


def _summary(outcome: Outcome, console: Console) -> None:
    from llm_router.cli.render import labelled

    _title("What happened", console)
    labelled(_summary_lines(outcome), console)


def _summary_lines(outcome: Outcome) -> Iterator[wording.Line]:
    style = "red" if outcome.differing else "green"
    yield "routes", f"{outcome.routed} of {len(EXAMPLES)} as the fleet's owner wants them", style
    yield from wording.listed("wrong", outcome.differing)
    yield from wording.listed("answers", outcome.answers or ["none: nothing here could answer"])
    yield from wording.listed("next", _NEXT)


_NEXT = (
    "OLLAMA_HOST=http://your-host:11434 llm-router demo: with your models",
    "llm-router init: a fleet file of what your hosts have",
    "llm-router doctor: what is missing, and what to do about it",
)
