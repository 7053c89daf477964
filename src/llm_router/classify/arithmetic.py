"""The arithmetic of the encoder: what the keys of a text add up to, and what follows from it. Done for every
decision, it was most of what one cost.

There are two of it, with the same interface: the one here, in numpy, and that of ``_arithmetic.c``, which an
installation compiles where it finds a compiler and which takes a tenth of the time (docs/decisions/0012).
Both give the same scores, bit for bit. `key_table` and `judge` take the compiled one where there is one.

Numbers are added one after the other, as they stand in the text, in single precision: that is what both can
do alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from llm_router.classify import features
from llm_router.classify.compiled import compiled as the_compiled
from llm_router.classify.compiled import is_compiled
from llm_router.classify.weights import Floats, Weights

MIDDLE = 0.3
"""What a word counts that stands only in the middle of a long text."""

_MOST = 999
_TF = (0.0, *(1.0 + math.log(count) for count in range(1, _MOST + 1)))
"""What a word counts by how often it stands; more than `_MOST` times is no more."""


def times_of(count: int) -> float:
    return _TF[min(count, _MOST)]


class Sums(Protocol):
    """One text, looked up. Scores come after `settle`, since strange words may turn out to be slips."""

    @property
    def strange(self) -> Sequence[str]:
        """Words at the ends of the text that training never met, each once, as they stand."""

    @property
    def strange_middle(self) -> Sequence[str]:
        """The same of words that stand only in the middle of a long text."""

    @property
    def norm(self) -> float:
        """The length by which the sums are divided; after `settle`."""

    def settle(self, groups: list[int], shape: Floats, /) -> list[float]:
        """The score of every column, with the letter groups of strange words and the structural
        features added."""

    def places(self) -> bytes:
        """The row of each known key, as int32."""

    def times(self) -> bytes:
        """How much each of them counts, as float32."""

    def strongest(self, column: int, first: int, last: int, least: float, /) -> list[tuple[int, float]]:
        """Rows that speak for a column, strongest first, each with its share above the mean of the columns
        from ``first`` to before ``last``; none whose share is not above ``least``."""


class Table(Protocol):
    def sums(self, text: str, end_chars: int = 0, /) -> Sums:
        """Of a text in ASCII; with ``end_chars`` that many characters at each end are its head and tail."""

    def sums_of(self, head: list[str], tail: list[str], middle: list[str], /) -> Sums:
        """Of tokens. In a short text ``head`` and ``tail`` are one and the same list."""

    def key(self, row: int, /) -> str:
        """The key of a row."""


Judge = Callable[[list[float], bytes], tuple[int, float, list[float]]]
"""From log-odds of n categories and an n by n table in float64, how well each (column) serves a task of each
(row): which serves best, how well that is to be expected, and the probability of each."""


def key_table(weights: Weights, *, compiled: bool | None = None) -> Table:
    """The table of these weights: compiled where it can be, or as told.

    Raises:
        ImportError: ``compiled`` is true and this installation was not compiled, or from other sources.
        ValueError: a key of the vocabulary occurs twice.
    """
    if not (is_compiled() if compiled is None else compiled):
        return KeyTable(weights)
    table: Table = the_compiled().KeyTable(
        vocabulary=weights.words,
        table=np.ascontiguousarray(weights.table),
        scale=weights.scale,
        mass=weights.mass,
        groups=np.ascontiguousarray(weights.groups),
        group_scale=weights.group_scale,
        group_mass=weights.group_mass,
        shape_table=np.ascontiguousarray(weights.shape_table),
        columns=weights.table.shape[1],
        strange_mass=weights.strange_mass,
        middle=MIDDLE,
        most_times=_MOST,
        edge_tokens=features.EDGE_TOKENS,
        digits=features.MOST_DIGITS,
    )
    return table


def judge(*, compiled: bool | None = None) -> Judge:
    """How to judge: compiled where it can be, or as told. Raises ImportError as `key_table` does."""
    if not (is_compiled() if compiled is None else compiled):
        return judged
    found: Judge = the_compiled().judged
    return found


def judged(logits: list[float], serves: bytes) -> tuple[int, float, list[float]]:
    """See `Judge`."""
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
        rows: Floats = np.empty((keys, columns + 1), dtype=np.float32)
        np.multiply(weights.table, weights.scale[:, None], out=rows[:, :columns])
        rows[:, columns] = weights.mass
        self.weights = weights
        self.rows = rows
        self._keys = weights.vocabulary
        self.ids: Mapping[str, int] = {key: row for row, key in enumerate(self._keys)}
        if len(self.ids) != keys:
            raise ValueError("a key of the vocabulary occurs twice")

    def sums(self, text: str, end_chars: int = 0, /) -> NumpySums:
        if not end_chars:
            tokens = features.tokens(text)
            return self.sums_of(tokens, tokens, [])
        head, tail = features.tokens(text[:end_chars]), features.tokens(text[-end_chars:])
        return self.sums_of(head, tail, features.tokens(text[end_chars:-end_chars]))

    def sums_of(self, head: list[str], tail: list[str], middle: list[str], /) -> NumpySums:
        return NumpySums(self, features.Parts(head, tail, middle))

    def key(self, row: int, /) -> str:
        return self._keys[row]


class NumpySums:
    """See `Sums`."""

    __slots__ = ("_mass", "_places", "_table", "_times", "_total", "norm", "strange", "strange_middle")

    def __init__(self, table: KeyTable, parts: features.Parts) -> None:
        find = table.ids.get
        words, middle = features.counts(parts)
        places: list[int] = []
        times: list[float] = []
        self.strange: list[str] = []
        self.strange_middle: list[str] = []
        for word, count in words.items():
            place = find(word)
            if place is None:
                self.strange.append(word)
            else:
                places.append(place)
                times.append(times_of(count))
        for word, count in middle.items():
            place = find(word)
            if place is None:
                self.strange_middle.append(word)
            else:
                places.append(place)
                times.append(MIDDLE * times_of(count))
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

    def settle(self, groups: list[int], shape: Floats, /) -> list[float]:
        table, total = self._table.weights, self._total
        mass = table.strange_mass * len(self.strange) + self._mass
        if groups:
            shares = table.groups[groups] * table.group_scale[groups, None]
            total = np.add.reduce(np.vstack((total, shares)), axis=0)
            mass += float(np.add.accumulate(table.group_mass[groups])[-1])
        self.norm = math.sqrt(mass) or 1.0
        parts = np.vstack((total / np.float32(self.norm), shape[:, None] * table.shape_table))
        scores: list[float] = np.add.reduce(parts, axis=0).tolist()
        return scores

    def places(self) -> bytes:
        return self._places.tobytes()

    def times(self) -> bytes:
        return self._times.tobytes()

    def strongest(self, column: int, first: int, last: int, least: float, /) -> list[tuple[int, float]]:
        table, places = self._table.weights, self._places
        rows = table.table[places]
        centres = rows[:, first:last].sum(axis=1, dtype=np.int32).astype(np.float32) / np.float32(
            last - first
        )
        share = (rows[:, column] - centres) * table.scale[places] * self._times
        found = zip(places.tolist(), share.tolist(), strict=True)
        return sorted((pair for pair in found if pair[1] > least), key=lambda pair: -pair[1])


def rows_of(sums: Sums) -> Iterator[tuple[int, float]]:
    """Each known key's row and how much it counts."""
    return zip(
        np.frombuffer(sums.places(), dtype=np.int32).tolist(),
        np.frombuffer(sums.times(), dtype=np.float32).tolist(),
        strict=True,
    )
