"""Rebuilds the embedded classifier's weights and model card from the training text.

``python -m llm_router.learn.train`` writes ``encoder.npz`` and ``encoder.card.md``; with ``--check`` it
writes nothing and proves that the packaged weights are what the training text gives. Numpy only, no clock,
one seed: the same text gives the same bytes on the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import ngrams as grams
from llm_router.classify.encoder import FORMAT, Encoder, Weights, read_weights, text_vector
from llm_router.classify.shape import shape
from llm_router.learn import corpus, regression
from llm_router.learn.card import CardFacts, card
from llm_router.learn.corpus import Example, Row

RIDGE = 0.2
SMOOTHING = 0.05
"""Share of each label spread over all categories: their borders are soft."""
SECOND_SHARE = 0.15
"""Share of the label that answers where the first is ruled out (a Korean proof: Korean, then reasoning)."""
COPY_WEIGHT = 1.0
SHAPE_SCALE = 0.25
"""Low on purpose: lengths and punctuation are habits of whoever wrote the training text."""
UNSEEN_IDF = 0.5
"""Weight of n-grams that training never met, in units of the rarest known: unknown words make it unsure."""
FAMILY_WEIGHTS = {
    grams.WORD: 1.0,
    grams.PAIR: 0.4,
    grams.GRAM: 0.5,
    grams.WIDE: 0.8,
    grams.STEM: 1.0,
    grams.EDGE: 0.7,
}
FOLDS = 5
ALSO_RIGHT = {
    "default_general": ("efficient_general", "max_quality_general"),
    "efficient_general": ("default_general", "simple_chat"),
    "efficient_reasoning": ("max_reasoning",),
    "fast_rag": ("max_rag",),
    "fast_vision": ("max_vision",),
    "hybrid_reasoner": ("max_vision",),
    "instruction_following": ("default_general", "efficient_general", "max_quality_general"),
    "max_quality_general": ("default_general",),
    "max_rag": ("fast_rag",),
    "max_reasoning": ("efficient_reasoning", "max_reasoning_moe"),
    "max_reasoning_moe": ("max_reasoning",),
    "simple_chat": ("efficient_general", "default_general"),
    "structured_data": ("max_quality_general",),
}
"""Neighbours that serve a request as well. Confidence means "this answer is acceptable", so they count."""
MAX_BYTES = 6_000_000
TOLERANCE = 0.02

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trained:
    """New weights and what cross-validation says about them."""

    weights: Weights
    accuracy: float
    acceptable: float
    recall: dict[str, float]
    log_loss: float


def categories_of(examples: Sequence[Example]) -> tuple[str, ...]:
    return tuple(sorted({example.category for example in examples}))


def inverse_document_frequency(examples: Sequence[Example]) -> Floats:
    """(buckets,): ln((1 + texts) / (1 + texts with it)) + 1, times the weight of the n-gram's family."""
    frequency = np.zeros(grams.BUCKETS, dtype=np.int64)
    family_count = np.zeros((grams.FAMILIES, grams.BUCKETS), dtype=np.int32)
    total = 0
    for example in examples:
        if not example.original:
            continue
        total += 1
        seen = grams.ngrams(example.text)
        frequency[np.unique(seen.ids)] += 1
        offset = 0
        for family, count in seen.families:
            np.add.at(family_count[family], seen.ids[offset : offset + count], 1)
            offset += count
    idf = np.log((1.0 + total) / (1.0 + frequency)) + 1.0
    idf[frequency == 0] *= UNSEEN_IDF
    weight = np.array([FAMILY_WEIGHTS[family] for family in range(grams.FAMILIES)])
    scale = np.where(frequency > 0, weight[family_count.argmax(axis=0)], FAMILY_WEIGHTS[grams.GRAM])
    return _half(idf * scale)


def sparse_texts(examples: Sequence[Example], idf: Floats) -> regression.SparseTexts:
    """The vectors of all examples, as the encoder itself computes them."""
    vectors = [text_vector(grams.ngrams(example.text).ids, idf)[0] for example in examples]
    return regression.SparseTexts(
        rows=np.repeat(np.arange(len(vectors)), [len(vector.ids) for vector in vectors]),
        ids=np.concatenate([vector.ids for vector in vectors]),
        values=np.concatenate([vector.values for vector in vectors]),
        dense=np.stack([shape(example.text) for example in examples]) * np.float32(SHAPE_SCALE),
    )


def example_weights(examples: Sequence[Example], labels: NDArray[np.int64], size: int) -> Floats:
    """Every category counts the same in total, and a distorted copy counts less than its original."""
    weights = np.array([1.0 if example.original else COPY_WEIGHT for example in examples])
    per_class = np.bincount(labels, weights=weights, minlength=size)
    share = weights.sum() / size / per_class
    balanced: Floats = (weights * share[labels]).astype(np.float32)
    return balanced


def folds_of(examples: Sequence[Example]) -> list[NDArray[np.int64]]:
    """Whole groups to one fold, so that no text is judged by its own copy or another filling of its frame."""
    place = np.array([int(hashlib.blake2s(str(e.group).encode()).hexdigest(), 16) % FOLDS for e in examples])
    return [np.flatnonzero(place == fold) for fold in range(FOLDS)]


def targets_of(examples: Sequence[Example], names: Sequence[str]) -> Floats:
    """One distribution over the categories per text: nearly all on its label."""
    targets = np.full((len(examples), len(names)), SMOOTHING / len(names), dtype=np.float32)
    for row, example in zip(targets, examples, strict=True):
        second = SECOND_SHARE if example.also else 0.0
        row[names.index(example.category)] += 1.0 - SMOOTHING - second
        if example.also:
            row[names.index(example.also)] += second
    return targets


def train(examples: Sequence[Example]) -> Trained:
    """Weights for these examples, with the temperature fitted on texts the fit has not seen."""
    names = categories_of(examples)
    labels = np.array([names.index(example.category) for example in examples])
    targets = targets_of(examples, names)
    counts = example_weights(examples, labels, len(names))
    idf = inverse_document_frequency(examples)
    texts = sparse_texts(examples, idf)
    gram = regression.kernel(texts)
    logits = regression.out_of_fold(gram, targets, counts, RIDGE, folds_of(examples))
    originals = np.array([example.original for example in examples])
    accepted = acceptable(names)[labels]
    temperature = regression.best_temperature(logits[originals], accepted[originals])
    duals = regression.fit(gram, targets, counts, RIDGE)
    weights = _pack(names, texts, duals, idf, temperature)
    return _judged(weights, logits[originals], labels[originals])


def acceptable(names: Sequence[str]) -> NDArray[np.bool_]:
    """(label, answer): whether the answer serves a request with that label."""
    return np.array([[a == b or b in ALSO_RIGHT.get(a, ()) for b in names] for a in names])


def _judged(weights: Weights, logits: Floats, labels: NDArray[np.int64]) -> Trained:
    right = logits.argmax(axis=1) == labels
    shares = regression.softmax(logits / np.float32(weights.temperature))
    return Trained(
        weights=weights,
        accuracy=float(right.mean()),
        acceptable=float(acceptable(weights.categories)[labels, logits.argmax(axis=1)].mean()),
        recall={name: float(right[labels == i].mean()) for i, name in enumerate(weights.categories)},
        log_loss=-float(np.log(shares[np.arange(len(labels)), labels]).mean()),
    )


def _pack(
    names: tuple[str, ...], texts: regression.SparseTexts, duals: Floats, idf: Floats, temperature: float
) -> Weights:
    table = np.zeros((grams.BUCKETS, len(names)), dtype=np.float64)
    for column in range(len(names)):
        table[:, column] = np.bincount(
            texts.ids, weights=texts.values * duals[texts.rows, column], minlength=grams.BUCKETS
        )
    scale = _half(np.abs(table).max(axis=1) / 127.0)
    steps = np.divide(table, scale[:, None], out=np.zeros_like(table), where=scale[:, None] > 0)
    mean = np.bincount(texts.ids, weights=texts.values, minlength=grams.BUCKETS) / len(texts.dense)
    weights = Weights(
        categories=names,
        version="",
        table=np.clip(np.rint(steps), -127, 127).astype(np.int8),
        scale=scale,
        idf=idf,
        shape_table=((texts.dense.T @ duals) * np.float32(SHAPE_SCALE)).astype(np.float32),
        background=_half(mean),
        temperature=temperature,
    )
    digest = hashlib.blake2s(to_bytes(weights), digest_size=4).hexdigest()
    return Weights(**{**{f: getattr(weights, f) for f in Weights.__slots__}, "version": f"{FORMAT}.{digest}"})


def to_bytes(weights: Weights) -> bytes:
    """The weights as an .npz file; the archive carries no time stamp."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        format=np.array(FORMAT),
        version=np.array(weights.version),
        categories=np.array(weights.categories),
        table=weights.table,
        scale=weights.scale.astype(np.float16),
        idf=weights.idf.astype(np.float16),
        shape_table=np.round(weights.shape_table, 5),
        background=weights.background.astype(np.float16),
        temperature=np.array(weights.temperature),
    )
    return buffer.getvalue()


def differences(new: Encoder, old: Encoder, texts: Sequence[str]) -> list[str]:
    """Texts on which two encoders do not agree, within a small tolerance for rounding."""
    apart = []
    for text in texts:
        ours, theirs = new.probabilities(text), old.probabilities(text)
        same = max(ours, key=ours.__getitem__) == max(theirs, key=theirs.__getitem__)
        gap = max(abs(ours[name] - theirs.get(name, 0.0)) for name in ours)
        if gap > TOLERANCE or (not same and gap > TOLERANCE / 4):
            apart.append(text)
    return apart


def recall_of(encoder: Encoder, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Per category: (texts answered right, texts)."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        answer = encoder.probabilities(row.text)
        hit = int(max(answer, key=answer.__getitem__) == row.category)
        right, count = found.get(row.category, (0, 0))
        found[row.category] = (right + hit, count + 1)
    return dict(sorted(found.items()))


def _half(values: NDArray[np.float64]) -> Floats:
    """Rounded to what the file keeps, so that training and routing see the same numbers."""
    return values.astype(np.float16).astype(np.float32)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llm_router.learn.train", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="compare with the packaged weights, write nothing"
    )
    parser.add_argument("--text", type=Path, default=Path("training"), help="folder of the training text")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[1] / "data",
        help="folder for the weights and the card",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 done (or checked and equal), 1 not equal or too large, 2 unusable training text."""
    arguments = _arguments(argv)
    say = sys.stderr.write
    try:
        examples = corpus.build(arguments.text)
        heldout = corpus.read_rows(arguments.text / "heldout.jsonl")
    except (OSError, corpus.CorpusError) as error:
        say(f"cannot train: {error}\n")
        return 2
    trained = train(examples)
    data = to_bytes(trained.weights)
    encoder = Encoder(read_weights(data))
    if arguments.check:
        texts = [e.text for e in examples if e.original] + [row.text for row in heldout]
        apart = differences(encoder, Encoder.load(arguments.out / "encoder.npz"), texts)
        say(f"{len(texts) - len(apart)} of {len(texts)} texts answered the same by the packaged weights\n")
        return 1 if apart else 0
    if len(data) > MAX_BYTES:
        say(f"the weights take {len(data)} bytes, at most {MAX_BYTES} are allowed\n")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "encoder.npz").write_bytes(data)
    facts = CardFacts(
        version=trained.weights.version,
        size_bytes=len(data),
        written=sum(e.original for e in examples),
        copies=sum(not e.original for e in examples),
        per_category={
            name: sum(e.original and e.category == name for e in examples) for name in encoder.categories
        },
        temperature=trained.weights.temperature,
        accuracy=trained.accuracy,
        acceptable=trained.acceptable,
        log_loss=trained.log_loss,
        recall=trained.recall,
        heldout=recall_of(encoder, heldout),
    )
    (arguments.out / "encoder.card.md").write_text(card(facts), encoding="utf-8")
    right, count = (sum(pair[i] for pair in facts.heldout.values()) for i in (0, 1))
    say(
        f"version {facts.version}: {len(data) / 1e6:.2f} MB, {facts.written} texts, cross-validation "
        f"{facts.accuracy:.3f}, held back {right}/{count}, temperature {facts.temperature}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
