"""The arithmetic of the encoder in numpy, for installations that were not compiled; see ``arithmetic.py``."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import features
from llm_router.classify.shape import TOLD, shape
from llm_router.classify.spelling import mended, slips_of
from llm_router.classify.weights import Weights

Floats = NDArray[np.float32]


def judged(
    names: tuple[str, ...], logits: list[float], serves: bytes, slope: float, offset: float
) -> tuple[str, str, float, dict[str, float]]:
    """See ``arithmetic.Judge``."""
    highest = max(logits)
    odds = np.exp(np.array(logits) - highest)
    odds /= np.add.reduce(odds)
    service = np.add.reduce(odds[:, None] * np.frombuffer(serves).reshape(len(logits), -1), axis=0)
    best, likeliest = int(service.argmax()), int(odds.argmax())
    sure = _sure(float(service[best]), slope, offset) if len(names) > 1 else 1.0
    return names[best], names[likeliest], sure, dict(zip(names, odds.tolist(), strict=True))


def _sure(service: float, slope: float, offset: float) -> float:
    odds = math.log(max(service, 1e-6) / max(1.0 - service, 1e-6))
    return 1.0 / (1.0 + math.exp(-(slope * odds + offset)))


class KeyTable:
    """In numpy. Rows hold what is needed of a key side by side, since those of a text are scattered over the
    memory and each visit costs more than the arithmetic: the weight of every column, then the key's mass."""

    def __init__(self, weights: Weights) -> None:
        keys, columns = weights.table.shape
        self.table, self.scale = weights.table.array, weights.scale.array
        self.groups, self.group_scale = weights.groups.array, weights.group_scale.array
        self.group_mass, self.shape_table = weights.group_mass.array, weights.shape_table.array
        self.strange_mass = weights.strange_mass
        rows: Floats = np.empty((keys, columns + 1), dtype=np.float32)
        np.multiply(self.table, self.scale[:, None], out=rows[:, :columns])
        rows[:, columns] = weights.mass.array
        self.rows = rows
        self._keys = weights.vocabulary
        self.ids: Mapping[str, int] = {key: row for row, key in enumerate(self._keys)}
        if len(self.ids) != keys:
            raise ValueError("a key of the vocabulary occurs twice")
        if "" in self.ids:
            raise ValueError("a key of the vocabulary is empty")
        self.slips = slips_of(lambda: (weights.vocabulary, weights.idf.values()))

    def sums(self, text: str, /) -> NumpySums:
        sampled = features.sample(text)
        return NumpySums(self, features.split(sampled), shape(sampled, in_python=True))

    def sums_of(
        self, head: list[str], tail: list[str], middle: list[str], seen: array[float], /
    ) -> NumpySums:
        return NumpySums(self, features.Parts(head, tail, middle), seen)

    def key(self, row: int, /) -> str:
        return self._keys[row]


class NumpySums:
    """See ``arithmetic.Sums``."""

    __slots__ = ("_places", "_shape", "_table", "_times", "norm", "scores", "strange")

    def __init__(self, table: KeyTable, parts: features.Parts, seen: array[float]) -> None:
        self._table, self._shape = table, seen
        self._look_up(parts)
        meant = table.slips.meant_by(self.strange)
        if meant:
            self._look_up(mended(parts, meant))
        self._add_up()

    def _look_up(self, parts: features.Parts) -> None:
        find = self._table.ids.get
        words, middle = features.counts(parts)
        places: list[int] = []
        times: list[float] = []
        self.strange: list[str] = []
        for word, count in words.items():
            place = find(word)
            if place is None:
                self.strange.append(word)
            else:
                places.append(place)
                times.append(features.times_of(count))
        for word, count in middle.items():
            place = find(word)
            if place is not None:
                places.append(place)
                times.append(features.MIDDLE * features.times_of(count))
        spots = [place for place in map(find, features.places(parts)) if place is not None]
        places += spots
        times += [1.0] * len(spots)
        self._places = np.array(places, dtype=np.int32)
        self._times: Floats = np.array(times, dtype=np.float32)

    def _add_up(self) -> None:
        table = self._table
        shares = table.rows.take(self._places, axis=0)
        shares *= self._times[:, None]
        shares[:, -1] *= self._times
        sums = np.add.reduce(shares, axis=0)
        total: Floats = sums[:-1]
        mass = table.strange_mass * len(self.strange) + float(sums[-1])
        groups = [group for word in self.strange for group in features.letter_groups(word)]
        if groups:
            shares = table.groups[groups] * table.group_scale[groups, None]
            total = np.add.reduce(np.vstack((total, shares)), axis=0)
            mass += float(np.add.accumulate(table.group_mass[groups])[-1])
        self.norm = math.sqrt(mass) or 1.0
        structure: Floats = np.frombuffer(self._shape, dtype=np.float32)
        parts = np.vstack((total / np.float32(self.norm), structure[:, None] * table.shape_table))
        self.scores: list[float] = np.add.reduce(parts, axis=0).tolist()

    def logits(self, columns: tuple[int, ...], heat: float, /) -> list[float]:
        scores = self.scores
        return [scores[column] / heat for column in columns]

    def places(self) -> bytes:
        return self._places.tobytes()

    def times(self) -> bytes:
        return self._times.tobytes()

    def telling(self, column: int, first: int, last: int, most: int, least: float, /) -> tuple[str, ...]:
        found: dict[str, float] = {}
        for row, value in self._strongest(column, first, last, least * self.norm):
            if len(found) == most:
                break
            name = _told(self._table.key(row))
            if name and name not in found:
                found[name] = value / self.norm
        rows = self._table.shape_table.astype(np.float64)
        told = {}
        for name, value, row in zip(TOLD, self._shape, rows, strict=True):
            if name and value:
                lift = value * float(row[column] - np.add.accumulate(row[first:last])[-1] / (last - first))
                if lift > least:
                    told[name] = lift
        if not told:
            return tuple(found)
        found |= told
        return tuple(sorted(found, key=lambda name: (-found[name], name))[:most])

    def _strongest(self, column: int, first: int, last: int, least: float) -> list[tuple[int, float]]:
        """Rows of which the share is above ``least``, with it."""
        table, places = self._table, self._places
        rows = table.table[places]
        centres = rows[:, first:last].sum(axis=1, dtype=np.int32).astype(np.float32) / np.float32(
            last - first
        )
        share = (rows[:, column] - centres) * table.scale[places] * self._times
        found = zip(places.tolist(), share.tolist(), strict=True)
        return sorted((pair for pair in found if pair[1] > least), key=lambda pair: -pair[1])


@lru_cache(maxsize=8192)
def _told(key: str) -> str:
    """How a key is told, empty where it is not worth a reader's time: words are, marks and numbers (read by
    their length only, as zeros) are not."""
    name = features.readable(key)
    tells = "0" not in name and any(char.isalpha() or not char.isascii() for char in name)
    return name if tells else ""
