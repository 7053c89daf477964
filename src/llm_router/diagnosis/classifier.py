"""Which of the fleet's categories the embedded classifier knows, and which it can never choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llm_router.compiled import all_compiled
from llm_router.diagnosis.finding import Finding
from llm_router.fleet import Category, Fleet

Knowledge = Literal["trained", "examples", "unknown"]
"""trained: it came with it; examples: learnt from the fleet file's examples; unknown: never chosen by it."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """What the embedded classifier brings along: the categories it was trained on, and from how many
    different examples it learns another. ``problem`` says why it cannot be used at all. ``compiled`` is
    whether its arithmetic is, and the estimate of tokens that it rests on.
    """

    trained: frozenset[str]
    min_examples: int
    problem: str = ""
    compiled: bool = True

    def knows(self, name: str, category: Category) -> Knowledge:
        if self.problem:
            return "unknown"
        if name in self.trained:
            return "trained"
        return "examples" if different_examples(category) >= self.min_examples else "unknown"


def packaged_classifier() -> Classifier:
    """The classifier of this installation; reads its weights."""
    from llm_router.classify.encoder import MIN_EXAMPLES, Encoder, EncoderFileError

    try:
        encoder = Encoder.load()
    except EncoderFileError as error:
        return Classifier(frozenset(), MIN_EXAMPLES, str(error).split("\n", 1)[0])
    compiled = all_compiled()
    return Classifier(frozenset(encoder.categories), MIN_EXAMPLES, compiled=compiled)


def different_examples(category: Category) -> int:
    """How many examples count: those that differ and are not empty."""
    return len({text.strip() for text in category.examples} - {""})


def classifier_findings(fleet: Fleet, classifier: Classifier) -> Iterator[Finding]:
    if classifier.problem:
        yield Finding(
            "categories",
            "no_classifier",
            "warning",
            f"the built-in classifier is out of order: {classifier.problem}",
            "install the package again; until then rules and Mission Control decide alone",
        )
        return
    for name, category in fleet.categories.items():
        if classifier.knows(name, category) != "unknown":
            continue
        have, need = different_examples(category), classifier.min_examples
        yield Finding(
            "categories",
            "too_few_examples",
            "warning",
            f"the built-in classifier never chooses {name}: it has {_counted(have)}, and a category of your "
            f"own is learnt from {need}",
            f"write {need - have} more under categories.{name}.examples in your fleet file, as people would "
            "type them",
            name,
        )


def _counted(examples: int) -> str:
    return f"{examples or 'no'} different example{'' if examples == 1 else 's'}"
