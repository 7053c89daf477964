"""The seam for classifier stages: one method, values in, a ``Verdict`` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, field

from llm_router.decision import Evidence, StageName
from llm_router.request import RouteRequest


class Verdict(Struct, frozen=True):
    """What one stage has to say.

    A stage that is sure gives ``probabilities`` (they sum to 1 over the allowed categories). ``chosen`` is
    its answer where that is not the likeliest single category, ``sureness`` how likely the answer serves
    the task where that is not the answer's own probability. A stage that only knows what is possible gives
    ``allowed``, which binds the stages after it. A stage with nothing to say gives neither; ``note`` then
    says why.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    chosen: str | None = None
    sureness: float | None = None
    allowed: frozenset[str] | None = None
    evidence: tuple[Evidence, ...] = ()
    note: str = ""
    broken: bool = False
    """The stage cannot work at all, and ``note`` says what to mend."""

    @property
    def category(self) -> str | None:
        """The answer: the one chosen, else the likeliest; ties go to the first name, so that is stable."""
        if self.chosen is not None or not self.probabilities:
            return self.chosen
        return max(sorted(self.probabilities), key=lambda name: self.probabilities[name])

    @property
    def confidence(self) -> float:
        if self.sureness is not None:
            return self.sureness
        return max(self.probabilities.values(), default=0.0)


class Stage(Protocol):
    """One step of the cascade."""

    name: StageName

    def prepare(self) -> None:
        """Loads what the first task would otherwise wait for. Called before the first task, on a thread."""
        ...

    async def classify(
        self, request: RouteRequest, allowed: frozenset[str], before: Mapping[str, float]
    ) -> Verdict:
        """Judges ``request`` among the ``allowed`` categories.

        ``before`` holds the probabilities of the stages so far (empty where none had any). Never raises for
        something that went wrong inside: a stage that cannot work says so in ``Verdict.note``.
        """
        ...
