"""A category learnt from a handful of examples, without training: likeness to what they share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Key = str | int
"""A word, a word pair, or the bucket of a letter group."""
TextVector = Mapping[Key, float]
"""A text as weights of length 1 in all."""

_STEEPNESS = 5.0
_LEAST_THRESHOLD = 0.05
_MARGIN = 1.1
_HIGHEST_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class FewShot:
    """``centre`` is the direction that the examples share; ``threshold`` splits like from unlike."""

    name: str
    centre: TextVector
    threshold: float

    def lead(self, vector: TextVector) -> float:
        """Logit by which the category leads the best trained one; unlike the examples it is about -5."""
        return self._steepness * (_dot(vector, self.centre) - self.threshold)

    def contributions(self, vector: TextVector) -> dict[str, float]:
        """What each word adds to the lead; the empty name is the threshold itself."""
        found = {
            key: self._steepness * value * self.centre[key]
            for key, value in vector.items()
            if key in self.centre and isinstance(key, str)
        }
        groups = sum(
            value * self.centre[key]
            for key, value in vector.items()
            if key in self.centre and not isinstance(key, str)
        )
        found[""] = self._steepness * (groups - self.threshold)
        return found

    @property
    def _steepness(self) -> float:
        return _STEEPNESS / self.threshold


def fewshot(name: str, examples: Sequence[TextVector], others: Iterable[TextVector] = ()) -> FewShot:
    """The category of these examples.

    The threshold lies half-way between no likeness and the examples' own likeness to each other (each held
    against the rest), or just above the most similar of ``others``, but always within the examples' reach.
    """
    total: dict[Key, float] = defaultdict(float)
    for vector in examples:
        for key, value in vector.items():
            total[key] += value
    alike = []
    for vector in examples:
        rest = {key: value - vector.get(key, 0.0) for key, value in total.items()}
        alike.append(_dot(vector, rest) / max(_length(rest), 1e-9))
    usual = sum(alike) / len(alike)
    length = max(_length(total), 1e-9)
    centre = {key: value / length for key, value in total.items()}
    nearest = max((_dot(vector, centre) for vector in others), default=0.0)
    threshold = min(max(0.5 * usual, _MARGIN * nearest), _HIGHEST_SHARE * usual)
    return FewShot(name, centre, max(threshold, _LEAST_THRESHOLD))


def unit(weights: Mapping[Key, float]) -> TextVector:
    """The same direction with length 1."""
    length = _length(weights)
    return {key: value / length for key, value in weights.items()} if length else {}


def _dot(a: TextVector, b: TextVector) -> float:
    return sum(value * b[key] for key, value in a.items() if key in b)


def _length(weights: Mapping[Key, float]) -> float:
    return math.sqrt(sum(value * value for value in weights.values()))
