"""One text as the encoder sees it: which keys it has, how much each counts, what it scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cached_property, lru_cache, partial

from llm_router.classify import features
from llm_router.classify.arithmetic import Sums, Table, key_table, rows_of
from llm_router.classify.fewshot import Key, TextVector, unit
from llm_router.classify.shape import NAMES as SHAPE_NAMES
from llm_router.classify.shape import TELLING, shape
from llm_router.classify.spelling import Slips
from llm_router.classify.weights import Weights

COMMON = 1.6
"""How much lower than the rarest a word's rarity must be for slips to be mended towards it: e**1.6 times as
many texts as the two that a key must stand in."""

_GROUP_LIKENESS = 4.0
_TELLING_PLACES = tuple(place for place, name in enumerate(SHAPE_NAMES) if name in TELLING)
_TELLING_NAMES = tuple(f"({name})" for name in SHAPE_NAMES if name in TELLING)


class Lookup:
    """Weights laid out for reading. ``heads`` are the first and the last column (not included) of each head.

    ``compiled`` chooses the arithmetic, see `key_table`.
    """

    def __init__(
        self, weights: Weights, heads: Sequence[tuple[int, int]], *, compiled: bool | None = None
    ) -> None:
        self.weights = weights
        self.heads = heads
        self.in_python = compiled is False
        self.table: Table = key_table(weights, compiled=compiled)
        self._lifts: dict[tuple[int, int], list[float]] = {}
        self.slips = slips_of(lambda: (weights.vocabulary, weights.idf.values()))

    @cached_property
    def idf(self) -> Sequence[float]:
        """The rarity of every key."""
        return self.weights.idf.values()

    @cached_property
    def rarest(self) -> float:
        return max(self.idf)

    def lifts(self, column: int, head: int) -> list[float]:
        """What each telling feature of the structure adds to a column beyond the mean of its head."""
        lifts = self._lifts.get((column, head))
        if lifts is None:
            columns, (first, last) = self.weights.shape_table.shape[1], self.heads[head]
            table = self.weights.shape_table.values()
            lifts = []
            for begin in (place * columns for place in _TELLING_PLACES):
                mean = sum(table[begin + first : begin + last]) / (last - first)
                lifts.append(table[begin + column] - mean)
            self._lifts[column, head] = lifts
        return lifts


class Reading:
    """One text, read once. Made by `Encoder.read`."""

    __slots__ = ("__dict__", "_groups", "_lookup", "_strange", "_sums", "scores", "shape")

    def __init__(self, text: str, lookup: Lookup) -> None:
        sampled = features.sample(text)
        sums = _looked_up(sampled, lookup)
        self._lookup = lookup
        self._sums = sums
        self._strange = strange = sums.strange
        self._groups = groups = [group for word in strange for group in features.letter_groups(word)]
        self.shape = shape(sampled, in_python=lookup.in_python)
        self.scores = sums.settle(groups, self.shape)
        """Score of every column of the heads, before any temperature."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the vocabulary that the text has."""
        table = self._lookup.table
        return tuple([table.key(row) for row, _ in rows_of(self._sums)])

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
        for key, (row, times) in zip(self.keys, rows_of(self._sums), strict=True):
            if key[0] > features.LAST:
                found[key] = times * idf[row] ** 2
                for group in features.letter_groups(key) if " " not in key else ():
                    found[group] = _GROUP_LIKENESS
        found.update(dict.fromkeys(self._strange, self._lookup.rarest**2))
        found.update(dict.fromkeys(self._groups, _GROUP_LIKENESS))
        return unit(found)

    def telling(self, column: int, head: int, n: int, least: float) -> tuple[str, ...]:
        """Up to ``n`` keys and structural features that spoke most for a column, strongest first.

        ``head`` is the number of the column's head, and ``least`` the score above what all columns of the
        head have in common from which one counts. Only the strongest keys are looked at, since this runs for
        every decision; `pull` adds up everything.
        """
        lookup, norm = self._lookup, self._sums.norm
        found: dict[str, float] = {}
        for row, value in self._sums.strongest(column, *lookup.heads[head], least * norm):
            if len(found) == n:
                break
            name = _told(lookup.table.key(row))
            if name and name not in found:
                found[name] = value / norm
        values = self.shape
        seen = [values[place] for place in _TELLING_PLACES]
        if any(seen):
            lifts = zip(_TELLING_NAMES, seen, lookup.lifts(column, head), strict=True)
            told = {name: lift for name, value, each in lifts if (lift := value * each) > least}
            if told:
                found |= told
                return tuple(sorted(found, key=lambda name: (-found[name], name))[:n])
        return tuple(found)

    def pull(self, column: int, columns: int, temperature: float) -> dict[str, float]:
        """What each feature adds to the logit of one of the first ``columns`` above their mean logit."""
        import numpy as np  # explanations alone need it

        weights, norm = self._lookup.weights, self._sums.norm
        found: dict[str, float] = {}
        for key, (row, times) in zip(self.keys, rows_of(self._sums), strict=True):
            name = features.readable(key)
            steps = weights.table.array[row, :columns]
            share = (float(steps[column]) - float(steps.mean())) * float(weights.scale.array[row]) * times
            found[name] = found.get(name, 0.0) + share / (norm * temperature)
        for word in self._strange:
            groups = features.letter_groups(word)
            rows = weights.groups.array[groups, :columns] * weights.group_scale.array[groups][:, None]
            value = float((rows[:, column] - rows.mean(axis=1)).sum()) / (norm * temperature)
            found[word] = found.get(word, 0.0) + value
        table = weights.shape_table.array[:, :columns]
        seen = np.frombuffer(self.shape, dtype=np.float32)
        lift = seen * (table[:, column] - table.mean(axis=1)) / np.float32(temperature)
        found.update({f"({name})": float(v) for name, v in zip(SHAPE_NAMES[:-1], lift, strict=False) if v})
        found[""] = float(lift[-1])  # the constant: part of the sum, evidence of nothing
        return found


def _looked_up(sampled: str, lookup: Lookup) -> Sums:
    """What the text's keys add up to, slips of the finger mended."""
    table, parts = lookup.table, None
    if sampled.isascii():
        sums = table.sums(sampled, features.end_chars(sampled))
    else:
        parts = features.split(sampled)
        sums = table.sums_of(*parts)
    meant = lookup.slips.meant_by(sums.strange)
    return table.sums_of(*mended(parts or features.split(sampled), meant)) if meant else sums


def mended(parts: features.Parts, meant: Mapping[str, str]) -> features.Parts:
    """The same with every word in ``meant`` replaced by what it stands for, but in the middle: what a long
    text is about is told by many words."""
    if not meant:
        return parts
    head = [meant.get(token, token) for token in parts.head]
    if parts.tail is parts.head:
        return features.Parts(head, head, [])
    return features.Parts(head, [meant.get(token, token) for token in parts.tail], parts.middle)


def corrected(parts: features.Parts, known: Container[str], slips: Slips) -> features.Parts:
    """The same with slips of the finger mended, ``known`` being the words that are none."""
    words = {*parts.head, *parts.tail}
    return mended(parts, slips.meant_by([word for word in words if word not in known]))


def slips_of(known: Callable[[], tuple[Sequence[str], Sequence[float]]]) -> Slips:
    """Knows the common words of a vocabulary, the most usual first; ``known`` gives keys and their rarity."""
    return Slips(partial(_common_words, known))


def _common_words(known: Callable[[], tuple[Sequence[str], Sequence[float]]]) -> list[str]:
    keys, idf = known()
    most = max(idf) - COMMON
    common = ((rare, key) for key, rare in zip(keys, idf, strict=True) if rare <= most)
    return [key for _, key in sorted(common) if features.is_word(key)]


@lru_cache(maxsize=8192)
def _told(key: str) -> str:
    """How a key is told, empty where it is not worth a reader's time: words are, marks and numbers (read by
    their length only) are not."""
    name = features.readable(key)
    if not name or any(map(str.isdigit, name)):
        return ""
    tells = name[0].isalpha() or any(char.isalpha() or not char.isascii() for char in name)
    return name if tells else ""
