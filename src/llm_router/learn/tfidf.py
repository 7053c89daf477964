"""Plain TF-IDF vectors and a multinomial logistic regression over them: the afternoon's work to beat.

It shares nothing with the encoder that the router uses; a baseline must not be helped by what it measures.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

READ_CHARS: Final = 8000
"""Of a longer text only the head is read, as such classifiers commonly do."""

_WORDS = re.compile(r"[^\W_]+")
_RIDGE = 2e-5
_ITERATIONS = 80
_CONSTANT = np.float32(0.2)
"""The feature that every text has. A larger one would be the steepest direction and slow down all others."""

_POWER_STEPS = 30


@dataclass(frozen=True, slots=True)
class Sparse:
    """Rows of (column, value) one behind the other; row ``i`` is ``starts[i]:starts[i + 1]``."""

    starts: Ints
    columns: Ints
    values: Floats

    def times(self, table: Floats) -> Floats:
        """Inner products of every row with the columns of ``table``."""
        out = np.zeros((len(self.starts) - 1, table.shape[1]), dtype=np.float32)
        filled = np.flatnonzero(np.diff(self.starts))
        if len(filled):
            products = table[self.columns] * self.values[:, None]
            out[filled] = np.add.reduceat(products, self.starts[filled], axis=0)
        return out

    def turned(self, width: int) -> Sparse:
        """Columns become rows."""
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        order = np.argsort(self.columns, kind="stable")
        starts = np.zeros(width + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.columns, minlength=width), out=starts[1:])
        return Sparse(starts, rows[order], self.values[order])


class Vocabulary:
    """Words, pairs of words and, where there are no spaces to rely on, pairs of characters."""

    def __init__(self, texts: Sequence[str], *, at_least: int = 2) -> None:
        counts = Counter(term for text in texts for term in set(terms(text)))
        kept = sorted(term for term, count in counts.items() if count >= at_least)
        self._place = {term: place for place, term in enumerate(kept)}
        seen = np.array([counts[term] for term in kept], dtype=np.float32)
        self._idf: Floats = np.log((1 + len(texts)) / (1 + seen)).astype(np.float32) + 1

    def __len__(self) -> int:
        return len(self._place)

    def vectors(self, texts: Sequence[str]) -> Sparse:
        """One unit vector per text; a text without a known word has an empty one."""
        starts, columns, values = [0], [], []
        for text in texts:
            counts = Counter(p for term in terms(text) if (p := self._place.get(term)) is not None)
            places = np.array(sorted(counts), dtype=np.int64)
            tally = np.array([counts[p] for p in places.tolist()], dtype=np.float32)
            row = (1 + np.log(tally)) * self._idf[places] if len(places) else tally
            norm = float(np.sqrt(row @ row))
            columns.append(places)
            values.append(row / np.float32(norm) if norm else row)
            starts.append(starts[-1] + len(places))
        return Sparse(np.array(starts), np.concatenate(columns), np.concatenate(values).astype(np.float32))

    def folded(self, texts: Sequence[str], width: int) -> Floats:
        """The same in ``width`` numbers: every term is added to one of them, with a sign.

        A text without a known word has its whole weight in the last number, which no term uses: some
        libraries divide by the length of a vector.
        """
        hashes = np.array(
            [zlib.crc32(term.encode("utf-8", "replace")) for term in self._place], dtype=np.int64
        )
        sparse = self.vectors(texts)
        rows = np.repeat(np.arange(len(texts)), np.diff(sparse.starts))
        found = hashes[sparse.columns]
        out = np.zeros((len(texts), width), dtype=np.float32)
        signed = np.where(found & 1, 1, -1) * sparse.values
        np.add.at(out, (rows, (found >> 1) % (width - 1)), signed)
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        out[norms[:, 0] == 0, -1] = 1.0
        np.divide(out, norms, out=out, where=norms > 0)
        return out


class LogisticRegression:
    """Multinomial, ridge-penalised, fitted by accelerated gradient descent from zero: no chance in it."""

    def __init__(self, labels: Sequence[str], weights: Floats, bias: Floats) -> None:
        self.labels = tuple(labels)
        self._weights = weights
        self._bias = bias

    @classmethod
    def fitted(cls, vectors: Sparse, width: int, answers: Sequence[str]) -> Self:
        """``answers`` holds one label per row; every label counts the same, however many rows it has."""
        labels = sorted(set(answers))
        column = np.array([labels.index(answer) for answer in answers])
        targets = np.eye(len(labels), dtype=np.float32)[column]
        share = (1 / (len(labels) * np.bincount(column)))[column].astype(np.float32)[:, None]
        turned = vectors.turned(width)
        steepest = 0.5 * (_largest(vectors, turned, width, share) + float(_CONSTANT) ** 2) + _RIDGE
        step = np.float32(1 / steepest)
        weights: Floats = np.zeros((width, len(labels)), dtype=np.float32)
        bias: Floats = np.zeros(len(labels), dtype=np.float32)
        ahead: Floats = weights
        bias_ahead: Floats = bias
        momentum = 1.0
        for _ in range(_ITERATIONS):
            error: Floats = share * (softmax(vectors.times(ahead) + _CONSTANT * bias_ahead) - targets)
            slope: Floats = turned.times(error) + np.float32(_RIDGE) * ahead
            new = ahead - step * slope
            new_bias = bias_ahead - step * _CONSTANT * error.sum(axis=0, dtype=np.float32)
            if float(np.sum(slope * (new - weights))) > 0:  # overshot: start the momentum again
                momentum = 1.0
            following = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
            push = np.float32((momentum - 1) / following)
            ahead = new + push * (new - weights)
            bias_ahead = new_bias + push * (new_bias - bias)
            weights, bias, momentum = new, new_bias, float(following)
        return cls(labels, weights, _CONSTANT * bias)

    def probabilities(self, vectors: Sparse) -> Floats:
        """One row per vector, in the order of ``labels``."""
        return softmax(vectors.times(self._weights) + self._bias)


def terms(text: str) -> list[str]:
    """The words of a text in small letters, pairs of neighbours, and character pairs of other scripts."""
    words = _WORDS.findall(text[:READ_CHARS].lower())
    found = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    for word in words:
        if not word.isascii():
            found += (a + b for a, b in pairwise(word))
    return found


def softmax(scores: Floats) -> Floats:
    shares: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _largest(vectors: Sparse, turned: Sparse, width: int, share: Floats) -> float:
    """Largest eigenvalue of the weighted scatter of the rows, by power iteration; a little too large."""
    direction = np.ones((width, 1), dtype=np.float32)
    size = 1.0
    for _ in range(_POWER_STEPS):
        direction = turned.times(share * vectors.times(direction))
        size = float(np.linalg.norm(direction))
        if not size:
            return 1.0
        direction /= np.float32(size)
    return 1.1 * size
