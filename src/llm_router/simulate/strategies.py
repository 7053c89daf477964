"""Ways of choosing that are compared. ``POLICIES`` is the place where a further one is entered.

A further one is a ``Strategy`` (``play.py``), played with the settings of the box that it would set: it
sees the box as ``stage.box.snapshot()``, answers with ``stage.send``, loads and unloads with
``stage.box.preload`` and ``unload``, is told of models that come and go if it sets ``stage.box.changed``, and
waits with ``stage.engine.after``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from llm_router.fleet.schema import Choice
from llm_router.policy import decide
from llm_router.simulate.oracle import oracle
from llm_router.simulate.ours import ours
from llm_router.simulate.play import Case, Outcome, Stage, classification, play
from llm_router.simulate.traces import Task, as_request


class FixedMap:
    """Each category has its model: the first of the fleet's order that may take the task.

    Nobody looks at what is loaded; Ollama loads and evicts by itself.
    """

    def start(self, stage: Stage) -> None:
        self.stage = stage

    def arrived(self, task: Task) -> None:
        choice = self.choice(task)
        self.stage.send(task, choice.model, choice.quality, self)

    def answered(self, task: Task, model: str) -> None:
        """Nothing is learnt from it."""

    def choice(self, task: Task) -> Choice:
        return self.stage.case.acceptable(task)[0]


class AlwaysBest(FixedMap):
    """The fleet's baseline for everything that it may take, else the category's choice.

    It may not take pictures, vectors and what is too long for it.

    Where the category does not list the baseline, its answer counts as good as the best that is listed.
    """

    def start(self, stage: Stage) -> None:
        super().start(stage)
        self._known: dict[tuple[str, int], Choice] = {}

    def choice(self, task: Task) -> Choice:
        key = task.category, task.prompt_tokens
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._chosen(task)
        return known

    def _chosen(self, task: Task) -> Choice:
        case, own = self.stage.case, super().choice(task)
        baseline = case.fleet.baseline
        vectors = case.fleet.category(task.category).requires.capability == "embedding"
        if baseline is None or vectors:  # by its name a chat model would be asked for vectors, too
            return own
        request = as_request(task, case.fleet, baseline)
        answer = decide(request, classification(task.category), case.world).answer
        if answer is None:
            return own
        listed = case.fleet.category(task.category).models
        quality = next((c.quality for c in listed if c.model == baseline), max(c.quality for c in listed))
        return Choice(model=answer.model, quality=quality)


def always_best(case: Case) -> Outcome:
    return play(case, AlwaysBest())


def fixed_map(case: Case) -> Outcome:
    return play(case, FixedMap())


def fixed_map_kept(case: Case) -> Outcome:
    """The same map by an operator who lets Ollama keep as many models as fit, for ever."""
    return play(case, FixedMap(), replace(case.box, max_loaded=0, keep_alive_s=math.inf))


Policy = Callable[[Case], Outcome]

POLICIES: Mapping[str, Policy] = {
    "always_best": always_best,
    "fixed_map": fixed_map,
    "fixed_map_kept": fixed_map_kept,
    "ours": ours,
    "oracle": oracle,
}
"""Every way of choosing by its name; what ``--policies`` knows, and without it all of them, in this order."""
