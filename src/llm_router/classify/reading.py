"""One text as the encoder sees it: which keys it has, how much each counts, what it scores."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, repeat

import numpy as np

from llm_router.classify import features
from llm_router.classify.fewshot import Key, TextVector, unit
from llm_router.classify.shape import NAMES as SHAPE_NAMES
from llm_router.classify.shape import TELLING, shape
from llm_router.classify.spelling import Slips
from llm_router.classify.weights import Floats, Weights

COMMON = 1.6
"""How much lower than the rarest a word's rarity must be for slips to be mended towards it: e**1.6 times as
many texts as the two that a key must stand in."""

MIDDLE = 0.3
"""What a word counts that stands only in the middle of a long text."""

_GROUP_LIKENESS = 4.0
_MOST = 999
_TF = (0.0, *(1.0 + math.log(count) for count in range(1, _MOST + 1)))
"""What a word counts by how often it stands; more than `_MOST` times is no more."""


def times_of(count: int) -> float:
    return _TF[min(count, _MOST)]


_TELLING_PLACES = np.array([place for place, name in enumerate(SHAPE_NAMES) if name in TELLING])
_TELLING_NAMES = tuple(f"({name})" for name in SHAPE_NAMES if name in TELLING)


class Reading:
    """One text, read once. Made by `Encoder.read`."""

    __slots__ = (
        "__dict__",
        "_all_keys",
        "_groups",
        "_ids",
        "_known",
        "_norm",
        "_rows",
        "_strange",
        "_times",
        "_weights",
        "shape",
    )

    def __init__(self, text: str, weights: Weights, ids: Mapping[str, int], slips: Slips) -> None:
        sampled = features.sample(text)
        parts = corrected(features.split(sampled), ids, slips)
        words, middle = features.counts(parts)
        spots = features.places(parts)
        keys = [*words, *middle, *spots]
        counted = [_TF[count] if count < _MOST else _TF[-1] for count in words.values()]
        counted += [MIDDLE * times_of(count) for count in middle.values()]
        counted += [1.0] * len(spots)
        found = np.array(list(map(ids.get, keys, repeat(-1))), dtype=np.intp)
        known = found >= 0
        strange = list(compress(words, (~known[: len(words)]).tolist()))
        self._all_keys = keys
        self._known = known
        self._strange = strange
        self._groups = [group for word in strange for group in features.letter_groups(word)]
        self._weights = weights
        self._ids = found[known]
        self._times = np.array(counted, dtype=np.float32)[known]
        self.shape = shape(sampled)
        mass = weights.strange_mass * len(strange)
        mass += float((self._times * self._times) @ weights.mass[self._ids])
        if self._groups:
            mass += float(weights.group_mass[self._groups].sum())
        self._norm = math.sqrt(mass) or 1.0
        steps = self._times * weights.scale[self._ids]
        steps /= np.float32(self._norm)
        self._steps: Floats = steps
        self._shares: Floats = weights.table[self._ids] * steps[:, None]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the vocabulary that the text has."""
        return tuple(self._keys)

    @cached_property
    def _keys(self) -> list[str]:
        return list(compress(self._all_keys, self._known.tolist()))

    @cached_property
    def scores(self) -> Floats:
        """Score of every column of the heads, before any temperature."""
        weights = self._weights
        total: Floats = self._shares.sum(axis=0)
        if self._groups:
            steps = weights.group_scale[self._groups] / np.float32(self._norm)
            total += steps @ weights.groups[self._groups]
        total += self.shape @ weights.shape_table
        return total

    @cached_property
    def follow_up(self) -> float:
        """How likely the text can only be understood with the message before it, 0 to 1."""
        return 1.0 / (1.0 + math.exp(-self._weights.follow_up_steepness * float(self.scores[-1])))

    @cached_property
    def vector(self) -> TextVector:
        """The text's words, word pairs and letter groups as a direction, for likeness to a few examples.

        Rarity counts twice: five examples that all begin with "how do I" must not draw every such question.
        """
        weights = self._weights
        found: dict[Key, float] = {}
        for key, place, times in zip(self._keys, self._ids.tolist(), self._times.tolist(), strict=True):
            if key[0] > features.LAST:
                found[key] = times * float(weights.idf[place]) ** 2
                for group in features.letter_groups(key) if " " not in key else ():
                    found[group] = _GROUP_LIKENESS
        found.update(dict.fromkeys(self._strange, float(weights.idf.max()) ** 2))
        found.update(dict.fromkeys(self._groups, _GROUP_LIKENESS))
        return unit(found)

    def telling(self, column: int, centre: Centre, n: int, least: float) -> tuple[str, ...]:
        """Up to ``n`` keys and structural features that spoke most for a column, strongest first.

        ``centre`` is that of the column's head, and ``least`` the score above it from which one counts. Only
        the strongest keys are looked at, since this runs for every decision; `pull` adds up everything.
        """
        share = self._shares[:, column] - self._steps * centre.steps[self._ids]
        found: dict[str, float] = {}
        for place in np.argsort(-share).tolist():
            value = float(share[place])
            if value <= least or len(found) == n:
                break
            name = features.readable(self._keys[place])
            if name not in found and _tells(name):
                found[name] = value
        lift = self.shape[_TELLING_PLACES] * (
            self._weights.shape_table[_TELLING_PLACES, column] - centre.shape
        )
        for at in np.flatnonzero(lift > least).tolist():
            found[_TELLING_NAMES[at]] = float(lift[at])
        return tuple(sorted(found, key=lambda name: (-found[name], name))[:n])

    def pull(self, column: int, columns: int, temperature: float) -> dict[str, float]:
        """What each feature adds to the logit of one of the first ``columns`` above their mean logit."""
        weights = self._weights
        share = (self._shares[:, column] - self._shares[:, :columns].mean(axis=1)) / temperature
        found: dict[str, float] = {}
        for key, value in zip(self._keys, share.tolist(), strict=True):
            name = features.readable(key)
            found[name] = found.get(name, 0.0) + value
        for word in self._strange:
            groups = features.letter_groups(word)
            rows = weights.groups[groups, :columns] * weights.group_scale[groups][:, None]
            value = float((rows[:, column] - rows.mean(axis=1)).sum()) / (self._norm * temperature)
            found[word] = found.get(word, 0.0) + value
        table = weights.shape_table[:, :columns]
        lift = self.shape * (table[:, column] - table.mean(axis=1)) / np.float32(temperature)
        found.update({f"({name})": float(v) for name, v in zip(SHAPE_NAMES[:-1], lift, strict=False) if v})
        found[""] = float(lift[-1])  # the constant: part of the sum, evidence of nothing
        return found


@dataclass(frozen=True, slots=True)
class Centre:
    """What all categories of a head have in common, worked out once: evidence is what goes beyond it."""

    steps: Floats
    """(vocabulary,): mean of a key's weights over the head's columns, in steps of its scale."""
    shape: Floats
    """(telling structural features,): the same for these."""

    @classmethod
    def of(cls, weights: Weights, first: int, last: int) -> Centre:
        """Of the head whose columns are ``first`` to ``last``, the last one not included."""
        steps = weights.table[:, first:last].mean(axis=1, dtype=np.float32)
        return cls(steps, weights.shape_table[_TELLING_PLACES, first:last].mean(axis=1))


def corrected(parts: features.Parts, known: Collection[str], slips: Slips) -> features.Parts:
    """The same with slips of the finger mended."""
    head = slips.corrected(parts.head, known)
    if parts.tail is parts.head:
        return features.Parts(head, head, [])
    return features.Parts(head, slips.corrected(parts.tail, known), parts.middle)


def slips_of(vocabulary: Sequence[str], idf: Floats) -> Slips:
    """Knows the common words of a vocabulary, the most usual first."""
    common = np.flatnonzero(idf <= idf.max() - COMMON).tolist()
    words = [place for place in common if features.is_word(vocabulary[place])]
    usual_first = sorted(words, key=lambda place: (idf[place], vocabulary[place]))
    return Slips(vocabulary[place] for place in usual_first)


def _tells(name: str) -> bool:
    """Whether it is worth a reader's time: words, not marks, nor numbers (read by length only)."""
    if any(map(str.isdigit, name)):
        return False
    return name[0].isalpha() or any(char.isalpha() or not char.isascii() for char in name)
