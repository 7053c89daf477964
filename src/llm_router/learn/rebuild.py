"""One training run from folders to weights and model card: what ``llm-router train`` does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llm_router.classify.encoder import Encoder, Judgement
from llm_router.classify.rules import SURE
from llm_router.classify.weights import Weights
from llm_router.fleet import Fleet
from llm_router.learn import corpus, metrics, outside
from llm_router.learn.card import CardFacts, Unseen, card
from llm_router.learn.corpus import Example, Row
from llm_router.learn.outside import LeftOut
from llm_router.learn.train import (
    PICTURE_CATEGORIES,
    TOLERANCE,
    Trained,
    Trainer,
    calibrated,
    quality,
    to_bytes,
)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything one training run gives.

    ``unseen`` holds an answer to every outside case by weights that had not seen its source; it is empty
    where no cases were given.
    """

    trained: Trained
    data: bytes
    card: str
    unseen: tuple[LeftOut, ...]
    examples: tuple[Example, ...]
    heldout: tuple[Row, ...]

    @property
    def weights(self) -> Weights:
        return self.trained.weights


def rebuild(text: Path, cases: Path | None, fleet: Fleet, tell: Progress = lambda _doing: None) -> Run:
    """Trains, calibrates and measures.

    ``text`` is the folder of training text, ``cases`` one of labelled cases of others, or None.

    Raises:
        CorpusError: a file of the training text is missing or broken.
        InvalidRequest: the cases cannot be used.
    """
    tell("reading")
    own = corpus.build(text)
    heldout = corpus.read_rows(text / "heldout.jsonl")
    others = outside.read_folder(cases, fleet) if cases else []
    learnt = outside.examples_of(others)
    examples = [*own, *learnt, *corpus.distorted(learnt)]
    trainer = Trainer(examples, corpus.follow_ups(text))
    if others:
        tell(f"learning {outside.FOLDS} times, each time without some of the sources")
        by_fold = outside.leave_sources_out(trainer, others)
        judged = outside.judged_unseen(by_fold, others)
        unseen = outside.answers_unseen(by_fold, others, SURE)
    else:
        tell("learning several times, each time without some of the texts")
        judged, unseen = trainer.cross_validated(), []
    tell("learning from everything")
    text_digest, cases_digest = digest(text), digest(cases) if cases else ""
    whole = replace(trainer.weights(), text_digest=text_digest, cases_digest=cases_digest)
    weights = calibrated(whole, judged)
    trained = quality(weights, judged)
    data = to_bytes(weights)
    facts = CardFacts(
        version=weights.version,
        size_bytes=len(data),
        keys=len(weights.vocabulary),
        written=sum(e.original for e in own),
        copies=sum(not e.original for e in examples),
        cases=len(learnt),
        sources=len({one.source for one in others}),
        text_digest=text_digest,
        cases_digest=cases_digest,
        per_category={
            name: sum(e.original and e.category == name for e in own) for name in weights.categories
        },
        temperature=weights.temperature,
        picture_temperature=weights.picture_temperature,
        sureness=weights.sureness,
        trained=trained,
        heldout=recall_of(Encoder(weights), heldout),
        unseen=_unseen(unseen, weights.categories),
    )
    return Run(trained, data, card(facts), tuple(unseen), tuple(examples), tuple(heldout))


def digest(folder: Path) -> str:
    """Changes whenever a file of the folder does."""
    seen = hashlib.blake2s(digest_size=8)
    for path in sorted(folder.expanduser().glob("*.jsonl")):
        seen.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return seen.hexdigest()


def differences(run: Run, packaged: Encoder) -> list[str]:
    """Texts that two encoders do not answer alike, by any of their heads, within a tolerance for rounding."""
    rebuilt = Encoder(run.weights)
    texts = [example.text for example in run.examples if example.original] + [r.text for r in run.heldout]
    return [text for text in texts if not _alike(rebuilt, packaged, text)]


def _alike(left: Encoder, right: Encoder, text: str) -> bool:
    ours, theirs = left.read(text), right.read(text)
    if abs(ours.follow_up - theirs.follow_up) > TOLERANCE:
        return False
    seen = [name for name in PICTURE_CATEGORIES if name in left.categories]
    judged = [(left.judge(ours), right.judge(theirs))]
    if len(seen) > 1:
        judged.append((left.judge(ours, seen, picture=True), right.judge(theirs, seen, picture=True)))
    return all(_same(one, other) for one, other in judged)


def _same(one: Judgement, other: Judgement) -> bool:
    """The same shares, and the same answer unless two of them are as good as equal."""
    if one.probabilities.keys() != other.probabilities.keys():
        return False
    if max(abs(p - other.probabilities[name]) for name, p in one.probabilities.items()) > TOLERANCE:
        return False
    first, second = sorted(one.probabilities.values())[-1:-3:-1]
    if one.category != other.category:
        return first - second <= TOLERANCE
    return abs(one.confidence - other.confidence) <= TOLERANCE


def recall_of(encoder: Encoder, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Per category: (texts answered right, texts)."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        seen = PICTURE_CATEGORIES if row.picture else None
        answer = encoder.judge(encoder.read(row.text), seen, picture=row.picture).category
        right, count = found.get(row.category, (0, 0))
        found[row.category] = (right + (answer == row.category), count + 1)
    return dict(sorted(found.items()))


def _unseen(answers: Sequence[LeftOut], names: Sequence[str]) -> Unseen | None:
    if not answers:
        return None
    everything = metrics.judged(
        [one.case for one in answers], [metrics.Answer(one.category, one.confidence) for one in answers]
    )
    return Unseen(metrics.figures(everything), metrics.per_category(everything, names))
