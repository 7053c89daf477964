"""One text as the encoder sees it: which keys it has, how much each counts, what it scores."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import cached_property

from llm_router.classify import features
from llm_router.classify.arithmetic import Sums, Table, key_table, rows_of
from llm_router.classify.fewshot import Key, TextVector, unit
from llm_router.classify.shape import NAMES as SHAPE_NAMES
from llm_router.classify.shape import shape
from llm_router.classify.weights import Weights

_GROUP_LIKENESS = 4.0


class Lookup:
    """Weights laid out for reading; ``compiled`` chooses the arithmetic, see `key_table`."""

    def __init__(self, weights: Weights, *, compiled: bool | None = None) -> None:
        self.weights = weights
        self.in_python = compiled is False
        self.table: Table = key_table(weights, compiled=compiled)

    @cached_property
    def idf(self) -> Sequence[float]:
        """The rarity of every key."""
        return self.weights.idf.values()

    @cached_property
    def rarest(self) -> float:
        return max(self.idf)


class Reading:
    """One text, read once. Made by `Encoder.read`."""

    __slots__ = ("__dict__", "_lookup", "_text", "sums")

    def __init__(self, text: str, lookup: Lookup) -> None:
        self._lookup = lookup
        self._text = text
        self.sums = lookup.table.sums(text) if text.isascii() else _of_tokens(text, lookup)

    @property
    def scores(self) -> list[float]:
        """Score of every column of the heads, before any temperature."""
        return self.sums.scores

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the vocabulary that the text has."""
        table = self._lookup.table
        return tuple([table.key(row) for row, _ in rows_of(self.sums)])

    @property
    def follow_up(self) -> float:
        """How likely the text can only be understood with the message before it, 0 to 1."""
        steepness = self._lookup.weights.follow_up_steepness
        return 1.0 / (1.0 + math.exp(-steepness * self.scores[-1]))

    @cached_property
    def vector(self) -> TextVector:
        """The text's words, word pairs and letter groups as a direction, for likeness to a few examples.

        Rarity counts twice: five examples that all begin with "how do I" must not draw every such question.
        """
        idf = self._lookup.idf
        found: dict[Key, float] = {}
        for key, (row, times) in zip(self.keys, rows_of(self.sums), strict=True):
            if key[0] > features.LAST:
                found[key] = times * idf[row] ** 2
                for group in features.letter_groups(key) if " " not in key else ():
                    found[group] = _GROUP_LIKENESS
        strange = self.sums.strange
        found.update(dict.fromkeys(strange, self._lookup.rarest**2))
        for word in strange:
            found.update(dict.fromkeys(features.letter_groups(word), _GROUP_LIKENESS))
        return unit(found)

    def pull(self, column: int, columns: int, temperature: float) -> dict[str, float]:
        """What each feature adds to the logit of one of the first ``columns`` above their mean logit."""
        import numpy as np  # explanations alone need it

        weights, norm = self._lookup.weights, self.sums.norm
        found: dict[str, float] = {}
        for key, (row, times) in zip(self.keys, rows_of(self.sums), strict=True):
            name = features.readable(key)
            steps = weights.table.array[row, :columns]
            share = (float(steps[column]) - float(steps.mean())) * float(weights.scale.array[row]) * times
            found[name] = found.get(name, 0.0) + share / (norm * temperature)
        for word in self.sums.strange:
            groups = features.letter_groups(word)
            rows = weights.groups.array[groups, :columns] * weights.group_scale.array[groups][:, None]
            value = float((rows[:, column] - rows.mean(axis=1)).sum()) / (norm * temperature)
            found[word] = found.get(word, 0.0) + value
        table = weights.shape_table.array[:, :columns]
        seen = np.frombuffer(_seen(features.sample(self._text), self._lookup), dtype=np.float32)
        lift = seen * (table[:, column] - table.mean(axis=1)) / np.float32(temperature)
        found.update({f"({name})": float(v) for name, v in zip(SHAPE_NAMES[:-1], lift, strict=False) if v})
        found[""] = float(lift[-1])  # the constant: part of the sum, evidence of nothing
        return found


def _of_tokens(text: str, lookup: Lookup) -> Sums:
    sampled = features.sample(text)
    return lookup.table.sums_of(*features.split(sampled), _seen(sampled, lookup))


def _seen(sampled: str, lookup: Lookup) -> array[float]:
    return shape(sampled, in_python=lookup.in_python)
