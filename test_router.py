"""Does the router do what it promises, with the fleet that is here?

    python test_router.py          the acceptance suite: at least four tasks for each of the 18 categories
    python test_router.py quick    a smoke test: the six promised routes and one answer

Both print a table and write ``test_results.json`` into the current directory. The exit code is 0 where every
case passed, else 1. Routing is judged always; answers only where a host or the embedded engine can give them.

``test_results.json`` holds ``version``, ``mode``, ``fleet``, ``hosts`` (name, kind, reachable, models,
problem), ``summary`` (passed, failed, total), ``categories`` (name → passed, total), ``cases`` (task,
evidence, expected_category, expected_model, category, selected_model, confidence, stage, passed) and
``answers`` (task, status ok, failed or skipped, model, host, elapsed_s, why).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from llm_router import strict_yaml
from llm_router.errors import LLMRouterError, NoModelAvailable
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.request import ApiKind, Image, Message, RouteRequest, Tool
from llm_router.sync import SyncRouter

RESULTS = Path("test_results.json")
ANSWERED = ("What's 2+2?", "What is the capital of New Zealand?", "Hi there! How are you today?")
ANSWER_TOKENS = 48
"""Short tasks and short answers, because the suite may run on any machine, with the embedded engine too."""

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_PAGE = "The crew checked the valves, wrote down the pressure and went on to the next station. " * 28


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One task with its evidence. ``category`` and ``model`` are named only in the promised routes."""

    task: str
    category: str = ""
    model: str = ""
    image: bool = False
    tools: bool = False
    schema: bool = False
    embed: bool = False
    pages: int = 0

    @property
    def evidence(self) -> list[str]:
        told = [name for name in ("image", "tools", "schema", "embed") if getattr(self, name)]
        return [*told, f"{self.pages} pages"] if self.pages else told

    def request(self) -> RouteRequest:
        if self.embed:
            return RouteRequest(kind=ApiKind.EMBEDDING, inputs=(self.task,))
        text = self.task + "\n\n" + _PAGE * self.pages if self.pages else self.task
        images = (Image("image/png", _PNG),) if self.image else ()
        return RouteRequest(
            messages=(Message("user", text, images),),
            tools=(Tool("get_weather", "Weather of a city", {"type": "object"}),) if self.tools else (),
            response_format={"type": "object"} if self.schema else None,
        )


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    routes: tuple[Case, ...]
    cases: dict[str, tuple[Case, ...]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one case was routed."""

    task: str
    evidence: list[str]
    expected_category: str
    expected_model: str
    category: str
    selected_model: str
    confidence: float
    stage: str
    passed: bool


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """Whether one task was really answered; ``skipped`` where nothing here can answer."""

    task: str
    status: str
    model: str = ""
    host: str = ""
    elapsed_s: float = 0.0
    why: str = ""


def load_suite() -> Suite:
    text = resources.files("llm_router.data").joinpath("acceptance.yaml").read_text(encoding="utf-8")
    document = strict_yaml.parse(text, "acceptance.yaml")
    return strict_yaml.convert(document, document.values, Suite)


def judge(router: SyncRouter, expected_category: str, case: Case) -> Verdict:
    """Routes one case. A category that the user's fleet gave another model is expected to select that one."""
    fleet = router.router.fleet
    shipped = not router.router.settings.fleet
    decision = router.decide(case.request())
    known = expected_category in fleet.categories
    model = case.model if case.model and shipped else fleet.choice_for(expected_category) if known else ""
    return Verdict(
        task=case.task,
        evidence=case.evidence,
        expected_category=expected_category,
        expected_model=model,
        category=decision.category,
        selected_model=decision.selected_model,
        confidence=round(decision.confidence, 4),
        stage=decision.classification.stage,
        passed=(decision.category, decision.selected_model) == (expected_category, model),
    )


def answer(router: SyncRouter, task: str) -> AnswerCheck:
    try:
        given = router.run(RouteRequest.from_text(task, options={"num_predict": ANSWER_TOKENS}))
    except NoModelAvailable as error:
        return AnswerCheck(task, "skipped", why=error.hint or str(error))
    except LLMRouterError as error:
        return AnswerCheck(task, "failed", why=str(error))
    status = "ok" if given.text.strip() else "failed"
    return AnswerCheck(task, status, given.model, given.host, round(given.elapsed_s, 3))


def by_category(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    total: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for verdict in verdicts:
        total[verdict.expected_category] += 1
        passed[verdict.expected_category] += verdict.passed
    return {name: {"passed": passed[name], "total": total[name]} for name in total}


def show_routes(console: Console, verdicts: Sequence[Verdict], title: str) -> None:
    table = Table(title=title, title_justify="left", expand=True)
    for name, ratio in (("", None), ("task", 3), ("routed to", 2), ("by", None)):
        table.add_column(name, ratio=ratio, no_wrap=not ratio)
    for v in verdicts:
        evidence = f"[{', '.join(v.evidence)}] " if v.evidence else ""
        mark = "[green]pass[/]" if v.passed else "[red]FAIL[/]"
        got = f"{v.category} → {v.selected_model}"
        if not v.passed:
            got += f"\nexpected {v.expected_category} → {v.expected_model or 'no model'}"
        table.add_row(mark, _plain(evidence + v.task), _plain(got), f"{v.stage} {v.confidence:.2f}")
    console.print(table)


def show_categories(console: Console, categories: dict[str, dict[str, int]]) -> None:
    table = Table(title="Per category", title_justify="left")
    for name in ("category", "passed", "of"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for name, counts in categories.items():
        style = "" if counts["passed"] == counts["total"] else "red"
        table.add_row(name, str(counts["passed"]), str(counts["total"]), style=style)
    console.print(table)


def show_answers(console: Console, answers: Sequence[AnswerCheck]) -> None:
    for check in answers:
        if check.status == "ok":
            console.print(
                f"[green]ok[/]       {_plain(check.task)}  answered by {check.model} on {check.host}"
                f" in {check.elapsed_s:.1f} s"
            )
        else:
            colour = "yellow" if check.status == "skipped" else "red"
            console.print(f"[{colour}]{check.status:<8}[/] {_plain(check.task)}  {_plain(check.why)}")


def _plain(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", r"\[")


def host_row(host: HostSnapshot) -> dict[str, object]:
    return {
        "name": host.name,
        "kind": host.kind,
        "reachable": host.reachable,
        "models": len(host.installed),
        "problem": host.problem,
    }


def run(mode: str, console: Console) -> int:
    """Runs the suite and returns the exit code."""
    suite = load_suite()
    with SyncRouter() as router:
        hosts = [host_row(host) for host in router.hosts()]
        for host in hosts:
            state = f"{host['models']} models" if host["reachable"] else f"not reachable: {host['problem']}"
            console.print(f"{host['name']} ({host['kind']}): {state}")
        routes = [judge(router, case.category, case) for case in suite.routes]
        show_routes(console, routes, "The promised routes")
        verdicts = routes
        if mode == "full":
            cases = [judge(router, name, case) for name, listed in suite.cases.items() for case in listed]
            show_routes(console, cases, "Cases of every category")
            verdicts = [*cases, *routes]
            show_categories(console, by_category(verdicts))
        answers = [answer(router, task) for task in (ANSWERED if mode == "full" else ANSWERED[:1])]
        show_answers(console, answers)
        name = router.router.fleet.name
    passed = sum(verdict.passed for verdict in verdicts)
    results = {
        "version": 1,
        "mode": mode,
        "fleet": name,
        "hosts": hosts,
        "summary": {"passed": passed, "failed": len(verdicts) - passed, "total": len(verdicts)},
        "categories": by_category(verdicts),
        "cases": [asdict(verdict) for verdict in verdicts],
        "answers": [asdict(check) for check in answers],
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    answered = Counter(check.status for check in answers)
    told = ", ".join(f"{count} {status}" for status, count in answered.items())
    console.print(f"\n{passed} of {len(verdicts)} routes pass; answers: {told}; details in {RESULTS}")
    return 0 if passed == len(verdicts) and not answered["failed"] else 1


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["quick"], ["full"]):
        print("usage: python test_router.py [quick]", file=sys.stderr)
        return 2
    try:
        return run(arguments[0] if arguments else "full", Console())
    except (LLMRouterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        if hint := getattr(error, "hint", None):
            print(f"hint: {hint}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
