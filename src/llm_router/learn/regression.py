"""Multinomial logistic regression over sparse text vectors, solved through their kernel.

With far fewer texts than features, the best weights are a weighted sum of the training vectors
(``weights = vectors.T @ duals``), so everything is learnt in a matrix of texts by texts. That keeps
cross-validation cheap: the kernel is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

ITERATIONS = 200
_COLUMNS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class SparseTexts:
    """Unit vectors of all texts as parallel arrays (row, feature, value), plus dense features."""

    rows: Ints
    ids: Ints
    values: Floats
    dense: Floats
    """(texts, structural features), already scaled."""


def kernel(texts: SparseTexts) -> Floats:
    """Inner products of all pairs of texts."""
    size = len(texts.dense)
    gram: Floats = texts.dense @ texts.dense.T
    _, inverse, counts = np.unique(texts.ids, return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    lonely = np.bincount(texts.rows[~shared], weights=texts.values[~shared] ** 2, minlength=size)
    gram[np.diag_indices(size)] += lonely.astype(np.float32)  # what one text has alone meets only itself
    order = np.flatnonzero(shared)[np.argsort(inverse[shared], kind="stable")]
    rows, values = texts.rows[order], texts.values[order]
    _, column = np.unique(inverse[order], return_inverse=True)
    last = int(column[-1]) + 1
    for start in range(0, last, _COLUMNS_AT_ONCE):
        low, high = np.searchsorted(column, (start, start + _COLUMNS_AT_ONCE))
        block = np.zeros((size, min(_COLUMNS_AT_ONCE, last - start)), dtype=np.float32)
        block[rows[low:high], column[low:high] - start] = values[low:high]
        gram += block @ block.T
    return gram


def fit(gram: Floats, targets: Floats, weights: Floats, ridge: float) -> Floats:
    """Duals of the ridge-penalised fit, by accelerated gradient descent.

    ``targets`` holds one distribution over the categories per text; ``weights`` how much each text counts.
    """
    step = 1.0 / (0.5 * _largest_eigenvalue(gram * np.sqrt(np.outer(weights, weights))) + ridge)
    duals = np.zeros_like(targets)
    ahead = duals
    momentum = 1.0
    for _ in range(ITERATIONS):
        slope = weights[:, None] * (softmax(gram @ ahead) - targets) + np.float32(ridge) * ahead
        new = ahead - np.float32(step) * slope
        if float(np.sum(slope * (new - duals))) > 0:  # overshot: start the momentum again
            momentum = 1.0
        following = (1.0 + float(np.sqrt(1.0 + 4.0 * momentum * momentum))) / 2.0
        ahead = new + np.float32((momentum - 1.0) / following) * (new - duals)
        duals, momentum = new, following
    return duals


def out_of_fold(
    gram: Floats, targets: Floats, weights: Floats, ridge: float, folds: Sequence[Ints]
) -> Floats:
    """Logits of every text from a fit that has not seen its fold."""
    logits = np.zeros_like(targets)
    everything = np.arange(len(targets))
    for held in folds:
        seen = np.setdiff1d(everything, held)
        duals = fit(gram[np.ix_(seen, seen)], targets[seen], weights[seen], ridge)
        logits[held] = gram[np.ix_(held, seen)] @ duals
    return logits


def best_temperature(logits: Floats, acceptable: NDArray[np.bool_]) -> float:
    """The divisor of the logits under which the first answer's share best tells whether it is acceptable."""
    answers = logits.argmax(axis=1)
    good = acceptable[np.arange(len(logits)), answers]
    grid = np.exp(np.linspace(np.log(0.1), np.log(5.0), 240))
    losses = []
    for temperature in grid:
        sure = np.clip(softmax(logits / np.float32(temperature)).max(axis=1), 1e-6, 1 - 1e-6)
        losses.append(-float(np.where(good, np.log(sure), np.log(1.0 - sure)).mean()))
    return round(float(grid[int(np.argmin(losses))]), 4)


def softmax(logits: Floats) -> Floats:
    """Row by row, logits to shares that sum to 1."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


def _largest_eigenvalue(matrix: Floats) -> float:
    vector = np.ones(len(matrix), dtype=np.float32) / np.float32(np.sqrt(len(matrix)))
    value = 1.0
    for _ in range(30):
        vector = matrix @ vector
        value = float(np.linalg.norm(vector))
        vector = vector / np.float32(value)
    return value * 1.05
