"""The arithmetic of the encoder in numpy, for installations that were not compiled; see ``arithmetic.py``."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import features
from llm_router.classify.weights import Weights

Floats = NDArray[np.float32]


def judged(logits: list[float], serves: bytes) -> tuple[int, float, list[float]]:
    """See ``arithmetic.Judge``."""
    highest = max(logits)
    odds = np.exp(np.array(logits) - highest)
    odds /= np.add.reduce(odds)
    service = odds @ np.frombuffer(serves).reshape(len(logits), len(logits))
    best = int(service.argmax())
    return best, float(service[best]), odds.tolist()


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

    def sums(self, text: str, end_chars: int = 0, /) -> NumpySums:
        return NumpySums(self, features.parted(text, end_chars))

    def sums_of(self, head: list[str], tail: list[str], middle: list[str], /) -> NumpySums:
        return NumpySums(self, features.Parts(head, tail, middle))

    def key(self, row: int, /) -> str:
        return self._keys[row]


class NumpySums:
    """See ``arithmetic.Sums``."""

    __slots__ = ("_mass", "_places", "_table", "_times", "_total", "norm", "strange")

    def __init__(self, table: KeyTable, parts: features.Parts) -> None:
        find = table.ids.get
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
        self._table = table
        self._places = np.array(places, dtype=np.int32)
        self._times: Floats = np.array(times, dtype=np.float32)
        shares = table.rows.take(self._places, axis=0)
        shares *= self._times[:, None]
        shares[:, -1] *= self._times
        total = np.add.reduce(shares, axis=0)
        self._total: Floats = total[:-1]
        self._mass = float(total[-1])
        self.norm = 1.0

    def settle(self, groups: list[int], shape: array[float], /) -> list[float]:
        structure: Floats = np.frombuffer(shape, dtype=np.float32)
        table, total = self._table, self._total
        mass = table.strange_mass * len(self.strange) + self._mass
        if groups:
            shares = table.groups[groups] * table.group_scale[groups, None]
            total = np.add.reduce(np.vstack((total, shares)), axis=0)
            mass += float(np.add.accumulate(table.group_mass[groups])[-1])
        self.norm = math.sqrt(mass) or 1.0
        parts = np.vstack((total / np.float32(self.norm), structure[:, None] * table.shape_table))
        scores: list[float] = np.add.reduce(parts, axis=0).tolist()
        return scores

    def places(self) -> bytes:
        return self._places.tobytes()

    def times(self) -> bytes:
        return self._times.tobytes()

    def strongest(self, column: int, first: int, last: int, least: float, /) -> list[tuple[int, float]]:
        table, places = self._table, self._places
        rows = table.table[places]
        centres = rows[:, first:last].sum(axis=1, dtype=np.int32).astype(np.float32) / np.float32(
            last - first
        )
        share = (rows[:, column] - centres) * table.scale[places] * self._times
        found = zip(places.tolist(), share.tolist(), strict=True)
        return sorted((pair for pair in found if pair[1] > least), key=lambda pair: -pair[1])
