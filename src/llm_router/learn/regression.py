"""Multinomial logistic regression over sparse texts, and the calibration of what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]

ITERATIONS = 80
"""The loss hardly moves any more; the ridge, not the last digit, decides."""


def fit(texts: csr_matrix, targets: Floats, weights: NDArray[np.float64], ridge: float) -> Floats:
    """(features, classes): the weights that minimise cross-entropy plus a ridge penalty, by L-BFGS.

    ``targets`` holds one distribution over the classes per text, ``weights`` how much each text counts
    (they are scaled to sum to 1).
    """
    from scipy.optimize import minimize

    turned = texts.T.tocsr()
    shape = (texts.shape[1], targets.shape[1])
    share = (weights / weights.sum()).astype(np.float32)[:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        table = flat.reshape(shape).astype(np.float32)
        logits = texts @ table
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1, keepdims=True)
        value = -float((share * targets * (logits - np.log(total))).sum())
        value += 0.5 * ridge * float((table * table).sum())
        slope = turned @ (share * (odds / total - targets)) + ridge * table
        return value, slope.ravel().astype(np.float64)

    begin = np.zeros(shape[0] * shape[1])
    found: Any = minimize(
        loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 8}
    )
    result: Floats = found.x.reshape(shape).astype(np.float32)
    return result


def softmax(logits: Floats) -> Floats:
    """Row by row, logits to shares that sum to 1."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


def best_temperature(logits: Floats, targets: Floats) -> float:
    """The divisor of the logits under which their shares best predict ``targets`` (cross-entropy)."""
    grid = np.exp(np.linspace(np.log(0.1), np.log(3.0), 120))
    losses = []
    for temperature in grid:
        shares = np.clip(softmax(logits / np.float32(temperature)), 1e-7, 1.0)
        losses.append(-float((targets * np.log(shares)).sum()))
    return round(float(grid[int(np.argmin(losses))]), 4)


def best_sureness(said: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, float]:
    """(slope, offset) that turn the log-odds of ``said`` into those of being right (Platt scaling).

    The slope is kept positive: whatever the data say, a surer answer stays a surer answer.
    """
    from scipy.optimize import minimize

    clipped = np.clip(said, 1e-6, 1 - 1e-6)
    odds = np.log(clipped / (1 - clipped))

    def loss(pair: NDArray[np.float64]) -> float:
        sure = np.clip(1 / (1 + np.exp(-(np.exp(pair[0]) * odds + pair[1]))), 1e-9, 1 - 1e-9)
        miss = -float(np.where(right, np.log(sure), np.log(1 - sure)).mean())
        return miss + 1e-3 * float(pair[0] ** 2 + pair[1] ** 2)

    found: Any = minimize(loss, np.zeros(2), method="Nelder-Mead")
    return round(float(np.exp(found.x[0])), 4), round(float(found.x[1]), 4)
