"""One trace, one way of choosing, one box: played to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from llm_router.decision import Classification
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Choice
from llm_router.policy import PolicySettings, World, decide
from llm_router.simulate.engine import Engine
from llm_router.simulate.ollama_box import BoxSettings, OllamaBox, Work
from llm_router.simulate.traces import Task, as_request


def classification(category: str) -> Classification:
    """What kind of task it is, is known here: the simulation asks what is made of it."""
    return Classification(category, 1.0, "explicit", {category: 1.0})


@dataclass(frozen=True)
class Case:
    """What every way of choosing is given. ``box`` is the machine with Ollama's own settings."""

    fleet: Fleet
    tasks: tuple[Task, ...]
    box: BoxSettings
    policy: PolicySettings = field(default_factory=PolicySettings)

    @cached_property
    def world(self) -> World:
        """The fleet and the box with nothing loaded."""
        return World(
            self.fleet, (OllamaBox(Engine(), self.fleet, self.box).snapshot(),), settings=self.policy
        )

    @cached_property
    def _chains(self) -> dict[tuple[str, int], tuple[Choice, ...]]:
        return {}

    def acceptable(self, task: Task) -> tuple[Choice, ...]:
        """Who may answer it, by the gates of ``decide``; in the fleet's order."""
        key = task.category, task.prompt_tokens
        known = self._chains.get(key)
        if known is None:
            decision = decide(as_request(task, self.fleet), classification(task.category), self.world)
            may = {candidate.model for candidate in decision.chain if not candidate.stand_in}
            known = tuple(c for c in self.fleet.category(task.category).models if c.model in may)
            self._chains[key] = known
        return known

    def answerable(self) -> Case:
        """Without the tasks that no model of the fleet may take on this box."""
        return replace(self, tasks=tuple(task for task in self.tasks if self.acceptable(task)))


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered a task, how good that is for its category, and when, in seconds from its arrival."""

    task: Task
    model: str
    quality: float
    first_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """``answers`` in the order in which they ended; ``gb_s`` is memory over time, to the last."""

    answers: tuple[Answer, ...]
    loads: int
    loaded_gb: float
    gb_s: float

    @property
    def mean_s(self) -> float:
        return sum(answer.total_s for answer in self.answers) / max(len(self.answers), 1)

    @property
    def quality(self) -> float:
        return sum(answer.quality for answer in self.answers)


class Stage:
    """What a strategy acts on: the clock, the box, and the way to have a task answered."""

    def __init__(self, case: Case, settings: BoxSettings) -> None:
        self.case = case
        self.engine = Engine()
        self.box = OllamaBox(self.engine, case.fleet, settings)
        self.answers: list[Answer] = []
        self.loads = 0
        self.loaded_gb = self.gb_s = 0.0

    @property
    def now_s(self) -> float:
        return self.engine.now_s

    def send(
        self, task: Task, model: str, quality: float, strategy: Strategy, keep_alive_s: float | None = None
    ) -> None:
        """Has the box answer the task with this model. Once for every task, now or later."""
        first_s = 0.0

        def first() -> None:
            nonlocal first_s
            first_s = self.now_s - task.at_s

        def done() -> None:
            self.answers.append(Answer(task, model, quality, first_s, self.now_s - task.at_s))
            # What a strategy does behind the last answer costs nobody anything: the books are closed with it.
            self.loads, self.loaded_gb, self.gb_s = self.box.loads, self.box.loaded_gb, self.box.gb_s
            strategy.answered(task, model)

        self.box.submit(
            Work(
                model,
                task.prompt_tokens,
                task.output_tokens,
                self.thinking_tokens(task, model),
                task.conversation,
                keep_alive_s,
                first,
                done,
            )
        )

    def thinking_tokens(self, task: Task, model: str) -> int:
        if not task.output_tokens:
            return 0
        return task.thinking_tokens(self.case.fleet.model(model).thinking_tokens)


class Strategy(Protocol):
    """A way of choosing. It sees a task when it arrives, and answers it with ``stage.send``."""

    def start(self, stage: Stage) -> None:
        """Called once, before anything arrives."""

    def arrived(self, task: Task) -> None:
        """A task is there. It has to be sent once, now or later."""

    def answered(self, task: Task, model: str) -> None:
        """The last token of an answer is there."""


def play(case: Case, strategy: Strategy, settings: BoxSettings | None = None) -> Outcome:
    """Plays the whole trace. ``settings`` are the box where the strategy sets the server up itself."""
    stage = Stage(case, settings or case.box)
    strategy.start(stage)
    _arrive(stage, strategy, case.tasks, 0)
    stage.engine.run()
    if len(stage.answers) != len(case.tasks):
        raise AssertionError(f"{len(case.tasks)} tasks came, {len(stage.answers)} were answered")
    return Outcome(tuple(stage.answers), stage.loads, stage.loaded_gb, stage.gb_s)


def _arrive(stage: Stage, strategy: Strategy, tasks: Sequence[Task], index: int) -> None:
    """One arrival leads to the next, so that no more than one of them waits in the engine."""
    if index < len(tasks):

        def arrive() -> None:
            _arrive(stage, strategy, tasks, index + 1)
            strategy.arrived(tasks[index])

        stage.engine.at(tasks[index].at_s, arrive)
