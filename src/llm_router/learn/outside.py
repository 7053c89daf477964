"""Labelled cases of others as a second training input, and how the encoder does on sources it has not seen.

Their sentences stay where they are: the weights keep single keys and numbers, and only keys that stand in at
least two texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm_router.classify.conversation import conversation_of
from llm_router.classify.encoder import Encoder
from llm_router.classify.rules import Rules
from llm_router.classify.weights import Weights
from llm_router.errors import InvalidRequest
from llm_router.fleet import Fleet
from llm_router.learn.cases import Case, read_cases
from llm_router.learn.corpus import Example
from llm_router.learn.train import Judged, Trainer, calibrated, logits_of
from llm_router.request import RouteRequest

FOLDS = 6
CASE_COUNT = 2.5
"""What a case of others counts against a text of one's own: it is worded by those who will ask."""


@dataclass(frozen=True, slots=True)
class Outside:
    """One case, with its request and the categories that hard evidence leaves possible."""

    case: Case
    request: RouteRequest
    allowed: frozenset[str]
    decided: str
    """The category, where hard evidence alone decides."""

    @property
    def source(self) -> str:
        """Where it comes from; files of one repository count as one source."""
        return self.case.source.partition(":")[0] or "unnamed"

    @property
    def has_picture(self) -> bool:
        return conversation_of(self.request).pictures > 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was answered to a case by weights that had not seen its source."""

    case: Case
    category: str
    confidence: float
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Of the possible categories, as a stage after the encoder would be told; empty for hard evidence."""


def read_folder(folder: Path, fleet: Fleet) -> list[Outside]:
    """The cases of all ``*.jsonl`` files of a folder, in order of file names.

    Raises:
        InvalidRequest: no such file, or a line that is no case.
    """
    paths = sorted(folder.expanduser().glob("*.jsonl"))
    if not paths:
        raise InvalidRequest(
            f"no cases in {folder}", why="it holds no .jsonl file", hint="name the folder that holds them"
        )
    rules = Rules(fleet)
    every = frozenset(fleet.categories)
    found = []
    for path in paths:
        for case in read_cases(str(path)):
            request = case.request()
            verdict = rules.judge(request, every)
            found.append(Outside(case, request, verdict.allowed or every, verdict.category or ""))
    return found


def examples_of(outside: Sequence[Outside]) -> list[Example]:
    """What the encoder can learn from: originals whose kind hard evidence does not tell already."""
    return [
        Example(
            text=one.request.task,
            category=one.case.primary,
            group=one.source,
            also=one.case.accept[1:],
            picture=one.has_picture,
            count=CASE_COUNT,
        )
        for one in _open(outside)
    ]


def leave_sources_out(trainer: Trainer, outside: Sequence[Outside], *, folds: int = FOLDS) -> list[Weights]:
    """One set of weights per fold of sources, each without its fold and not yet calibrated."""
    return [
        trainer.weights(frozenset(one.source for one in outside if fold_of(one.source, folds) == fold))
        for fold in range(folds)
    ]


def fold_of(source: str, folds: int = FOLDS) -> int:
    return int(hashlib.blake2s(source.encode()).hexdigest(), 16) % folds


def judged_unseen(by_fold: Sequence[Weights], outside: Sequence[Outside]) -> list[Judged]:
    """Logits of originals that only words can tell, each from weights without its source."""
    encoders = [Encoder(weights) for weights in by_fold]
    found = []
    for one, example in zip(_open(outside), examples_of(outside), strict=True):
        encoder = encoders[fold_of(one.source, len(encoders))]
        names = [name for name in encoder.categories if name in one.allowed]
        logits = logits_of(encoder, example.text, names, picture=one.has_picture)
        found.append(Judged(example, tuple(names), logits))
    return found


def answers_unseen(by_fold: Sequence[Weights], outside: Sequence[Outside], sure: float) -> list[LeftOut]:
    """The answer to every case, each from weights that saw nothing of its source, calibration included.

    ``sure`` is the confidence of an answer by hard evidence alone.
    """
    judged = judged_unseen(by_fold, outside)
    encoders = []
    for fold, weights in enumerate(by_fold):
        others = [one for one in judged if fold_of(one.example.group, len(by_fold)) != fold]
        encoders.append(Encoder(calibrated(weights, others)))
    return [_answer(encoders[fold_of(one.source, len(encoders))], one, sure) for one in outside]


def _answer(encoder: Encoder, one: Outside, sure: float) -> LeftOut:
    if one.decided:
        return LeftOut(one.case, one.decided, sure)
    judged = encoder.judge(encoder.read(one.request.task), one.allowed, picture=one.has_picture)
    return LeftOut(one.case, judged.category, judged.confidence, judged.probabilities)


def _open(outside: Sequence[Outside]) -> list[Outside]:
    return [
        one for one in outside if one.case.is_original and not one.decided and one.case.primary in one.allowed
    ]


__all__ = [
    "LeftOut",
    "Outside",
    "answers_unseen",
    "examples_of",
    "judged_unseen",
    "leave_sources_out",
    "read_folder",
]
