"""One text as the encoder sees it: which keys it has, how much each counts, what it scores."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache, partial

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


class Lookup:
    """Weights laid out for reading: all that is needed of a key stands in one row, since the rows of a text
    are scattered over the memory and each visit costs more than the arithmetic.

    ``heads`` are the first and the last column (not included) of each head. A row has the score of every
    column, then the key's mass, then for each head the mean score of its columns: what all categories of a
    head have in common, since evidence is what goes beyond it.
    """

    __slots__ = ("columns", "ids", "mass", "rows", "shape_centres", "slips", "weights")

    def __init__(self, weights: Weights, heads: Sequence[tuple[int, int]]) -> None:
        keys, columns = weights.table.shape
        rows: Floats = np.empty((keys, columns + 1 + len(heads)), dtype=np.float32)
        np.multiply(weights.table, weights.scale[:, None], out=rows[:, :columns])
        rows[:, columns] = weights.mass
        for at, (first, last) in enumerate(heads, start=columns + 1):
            rows[:, at] = weights.table[:, first:last].mean(axis=1, dtype=np.float32)
            rows[:, at] *= weights.scale
        self.weights = weights
        self.rows = rows
        self.columns = columns
        self.mass = columns
        self.shape_centres: tuple[Floats, ...] = tuple(
            weights.shape_table[_TELLING_PLACES, first:last].mean(axis=1) for first, last in heads
        )
        self.ids: Mapping[str, int] = {key: place for place, key in enumerate(weights.vocabulary)}
        self.slips = slips_of(weights.vocabulary, weights.idf)


class Reading:
    """One text, read once. Made by `Encoder.read`."""

    __slots__ = (
        "__dict__",
        "_groups",
        "_lookup",
        "_norm",
        "_places",
        "_shares",
        "_strange",
        "_times",
        "scores",
        "shape",
    )

    def __init__(self, text: str, lookup: Lookup) -> None:
        weights, find = lookup.weights, lookup.ids.get
        sampled = features.sample(text)
        parts = corrected(features.split(sampled), lookup.ids, lookup.slips)
        words, middle = features.counts(parts)
        places: list[int] = []
        times: list[float] = []
        strange: list[str] = []
        for word, count in words.items():
            place = find(word)
            if place is None:
                strange.append(word)
            else:
                places.append(place)
                times.append(times_of(count))
        for word, count in middle.items():
            place = find(word)
            if place is not None:
                places.append(place)
                times.append(MIDDLE * times_of(count))
        spots = [place for place in map(find, features.places(parts)) if place is not None]
        places += spots
        times += [1.0] * len(spots)
        self._lookup = lookup
        self._places = places
        self._strange = strange
        self._groups = groups = [group for word in strange for group in features.letter_groups(word)]
        self._times: Floats = np.array(times, dtype=np.float32)
        self.shape = shape(sampled)
        self._shares: Floats = lookup.rows.take(np.array(places, dtype=np.intp), axis=0)
        self._shares *= self._times[:, None]
        mass = weights.strange_mass * len(strange) + float(self._shares[:, lookup.mass] @ self._times)
        total = np.add.reduce(self._shares, axis=0)[: lookup.columns]
        if groups:
            mass += float(weights.group_mass[groups].sum())
            total += weights.group_scale[groups] @ weights.groups[groups]
        self._norm = norm = math.sqrt(mass) or 1.0
        total /= np.float32(norm)
        total += self.shape @ weights.shape_table
        self.scores: Floats = total
        """Score of every column of the heads, before any temperature."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the vocabulary that the text has."""
        vocabulary = self._lookup.weights.vocabulary
        return tuple([vocabulary[place] for place in self._places])

    @property
    def follow_up(self) -> float:
        """How likely the text can only be understood with the message before it, 0 to 1."""
        steepness = self._lookup.weights.follow_up_steepness
        return 1.0 / (1.0 + math.exp(-steepness * float(self.scores[-1])))

    @cached_property
    def vector(self) -> TextVector:
        """The text's words, word pairs and letter groups as a direction, for likeness to a few examples.

        Rarity counts twice: five examples that all begin with "how do I" must not draw every such question.
        """
        weights = self._lookup.weights
        found: dict[Key, float] = {}
        for key, place, times in zip(self.keys, self._places, self._times.tolist(), strict=True):
            if key[0] > features.LAST:
                found[key] = times * float(weights.idf[place]) ** 2
                for group in features.letter_groups(key) if " " not in key else ():
                    found[group] = _GROUP_LIKENESS
        found.update(dict.fromkeys(self._strange, float(weights.idf.max()) ** 2))
        found.update(dict.fromkeys(self._groups, _GROUP_LIKENESS))
        return unit(found)

    def telling(self, column: int, head: int, n: int, least: float) -> tuple[str, ...]:
        """Up to ``n`` keys and structural features that spoke most for a column, strongest first.

        ``head`` is the number of the column's head, and ``least`` the score above what all columns of the
        head have in common from which one counts. Only the strongest keys are looked at, since this runs for
        every decision; `pull` adds up everything.
        """
        lookup = self._lookup
        share = self._shares[:, column] - self._shares[:, lookup.mass + 1 + head]
        least_share = least * self._norm
        vocabulary = lookup.weights.vocabulary
        found: dict[str, float] = {}
        values = share.tolist()
        for at in (-share).argsort().tolist():
            value = values[at]
            if value <= least_share or len(found) == n:
                break
            name = _told(vocabulary[self._places[at]])
            if name and name not in found:
                found[name] = value / self._norm
        lift = self.shape[_TELLING_PLACES] * (
            lookup.weights.shape_table[_TELLING_PLACES, column] - lookup.shape_centres[head]
        )
        if float(np.maximum.reduce(lift)) > least:
            for at in (lift > least).nonzero()[0].tolist():
                found[_TELLING_NAMES[at]] = float(lift[at])
            return tuple(sorted(found, key=lambda name: (-found[name], name))[:n])
        return tuple(found)

    def pull(self, column: int, columns: int, temperature: float) -> dict[str, float]:
        """What each feature adds to the logit of one of the first ``columns`` above their mean logit."""
        weights = self._lookup.weights
        share = self._shares[:, column] - self._shares[:, :columns].mean(axis=1)
        share /= self._norm * temperature
        found: dict[str, float] = {}
        for key, value in zip(self.keys, share.tolist(), strict=True):
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


def corrected(parts: features.Parts, known: Collection[str], slips: Slips) -> features.Parts:
    """The same with slips of the finger mended."""
    head = slips.corrected(parts.head, known)
    if parts.tail is parts.head:
        return features.Parts(head, head, [])
    return features.Parts(head, slips.corrected(parts.tail, known), parts.middle)


def slips_of(vocabulary: Sequence[str], idf: Floats) -> Slips:
    """Knows the common words of a vocabulary, the most usual first."""
    return Slips(partial(_common_words, vocabulary, idf))


def _common_words(vocabulary: Sequence[str], idf: Floats) -> list[str]:
    common = np.flatnonzero(idf <= idf.max() - COMMON).tolist()
    words = [place for place in common if features.is_word(vocabulary[place])]
    usual_first = sorted(words, key=lambda place: (idf[place], vocabulary[place]))
    return [vocabulary[place] for place in usual_first]


@lru_cache(maxsize=8192)
def _told(key: str) -> str:
    """How a key is told, empty where it is not worth a reader's time: words are, marks and numbers (read by
    their length only) are not."""
    name = features.readable(key)
    if any(map(str.isdigit, name)):
        return ""
    tells = name[0].isalpha() or any(char.isalpha() or not char.isascii() for char in name)
    return name if tells else ""
