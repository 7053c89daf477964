"""Texts to the sparse matrix that the regression learns from, read as the encoder reads them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import features
from llm_router.classify.shape import NAMES as SHAPE_NAMES
from llm_router.classify.shape import shape
from llm_router.classify.spelling import corrected, slips_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]

WORD, PAIR, EDGE, PLACE, GROUP = 1.0, 0.4, 0.7, 0.7, 0.5
"""How much each kind of feature counts, before its rarity."""
STRANGE = 0.5
"""What a word that training never met counts: it makes the encoder less sure, and says nothing."""
SHAPE_SCALE = 0.2
"""Low on purpose: lengths and punctuation are habits of whoever wrote the training text."""
LEAST_TEXTS = 2
"""Keys of fewer texts are not learnt: a word of one text would bring that text back, not its kind."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text, read once: its tokens and its structure."""

    parts: features.Parts
    shape: Floats


def read(text: str) -> Text:
    sampled = features.sample(text)
    return Text(features.split(sampled), np.frombuffer(shape(sampled), dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Which keys count, and how much: ``weights`` and ``group_weights`` are kind times rarity."""

    keys: tuple[str, ...]
    ids: dict[str, int]
    idf: Floats
    weights: Floats
    group_weights: Floats
    strange_weight: float

    @property
    def columns(self) -> int:
        return len(self.keys) + features.GRAMS + len(SHAPE_NAMES)

    def mass(self) -> Floats:
        """(keys,): squared length of each key, a word's letter groups included."""
        mass = self.weights.astype(np.float64) ** 2
        for place, key in enumerate(self.keys):
            if features.is_word(key):
                mass[place] += (self.group_weights[features.letter_groups(key)].astype(np.float64) ** 2).sum()
        return mass.astype(np.float32)


def vocabulary(texts: Iterable[Text]) -> Vocabulary:
    """The keys of at least `LEAST_TEXTS` texts, with ln((1 + texts) / (1 + texts with it)) + 1 as rarity."""
    count = 0
    seen: Counter[str] = Counter()
    groups = np.zeros(features.GRAMS, dtype=np.int64)
    for text in texts:
        count += 1
        words, middle = features.counts(text.parts)
        seen.update(words.keys())
        seen.update(middle.keys())
        seen.update(features.places(text.parts))
        held = {group for word in words for group in features.letter_groups(word)}
        groups[list(held)] += 1
    keys = tuple(sorted(key for key, texts_with in seen.items() if texts_with >= LEAST_TEXTS))
    rarity = np.log((1 + count) / (1 + np.array([seen[key] for key in keys]))) + 1
    rarest = math.log((1 + count) / 2) + 1
    return Vocabulary(
        keys=keys,
        ids={key: place for place, key in enumerate(keys)},
        idf=rarity.astype(np.float32),
        weights=(rarity * np.array([_kind(key) for key in keys])).astype(np.float32),
        group_weights=(GROUP * (np.log((1 + count) / (1 + groups)) + 1)).astype(np.float32),
        strange_weight=STRANGE * rarest,
    )


def _times(count: int) -> float:
    return 1.0 + math.log(count)


def _kind(key: str) -> float:
    if key[0] == features.EDGE:
        return EDGE
    if key[0] in (features.FIRST, features.LAST):
        return PLACE
    return PAIR if " " in key else WORD


def matrix(texts: Sequence[Text], known: Vocabulary) -> csr_matrix:
    """(texts, keys + letter groups + structure): what `llm_router.classify.encoder.Reading` adds up."""
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    values: list[float] = []
    ends = [0]
    weights, group_weights = known.weights.tolist(), known.group_weights.tolist()
    shape_at = len(known.keys) + features.GRAMS
    slips = slips_of(lambda: (known.keys, known.idf.tolist()))
    for text in texts:
        row: dict[int, float] = {}
        mass = 0.0
        parts = corrected(text.parts, known.ids, slips)
        words, middle = features.counts(parts)
        weighed = {word: features.times_of(count) for word, count in words.items()}
        weighed |= {
            w: features.MIDDLE * features.times_of(count) for w, count in middle.items() if w in known.ids
        }
        for word, times in weighed.items():
            place = known.ids.get(word)
            if place is None:
                mass += known.strange_weight**2
            else:
                row[place] = times * weights[place]
                mass += row[place] ** 2
            counts = 1.0 if place is None else times
            for group in features.letter_groups(word):
                value = counts * group_weights[group]
                mass += value * value
                at = len(known.keys) + group
                row[at] = row.get(at, 0.0) + value
        for key in features.places(parts):
            place = known.ids.get(key)
            if place is not None:
                row[place] = weights[place]
                mass += row[place] ** 2
        norm = math.sqrt(mass) or 1.0
        columns += row.keys()
        values += [value / norm for value in row.values()]
        structure = text.shape * SHAPE_SCALE
        present = np.flatnonzero(structure).tolist()
        columns += [shape_at + place for place in present]
        values += structure[present].tolist()
        ends.append(len(columns))
    return csr_matrix((np.array(values, dtype=np.float32), columns, ends), shape=(len(texts), known.columns))
