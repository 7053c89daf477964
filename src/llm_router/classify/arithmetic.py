"""The arithmetic of the encoder: what the keys of a text add up to, and what follows from it. Done for every
decision, it was most of what one cost.

There are two of it, with the interface that is here: ``in_numpy.py``, and ``_arithmetic.c``, which an
installation compiles where it finds a compiler and which takes less than a tenth of the time
(docs/decisions/0012). Both give the same scores, bit for bit. `key_table` and `judge` take the compiled one
where there is one.

Numbers are added one after the other, as they stand in the text, in single precision: that is what both can
do alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from llm_router.classify import features, spelling
from llm_router.classify.shape import TOLD
from llm_router.classify.weights import Weights
from llm_router.compiled import ARITHMETIC


class Sums(Protocol):
    """One text, looked up, slips of the finger mended, and added up."""

    @property
    def strange(self) -> Sequence[str]:
        """Words at the ends of the text that training never met, each once, as they stand."""

    @property
    def norm(self) -> float:
        """The length by which the sums are divided."""

    @property
    def scores(self) -> list[float]:
        """Of every column, with the letter groups of strange words and the structural features."""

    def logits(self, columns: tuple[int, ...], heat: float, /) -> list[float]:
        """Log-odds of some columns against each other: their scores divided by the temperature."""

    def places(self) -> bytes:
        """The row of each known key, as int32."""

    def times(self) -> bytes:
        """How much each of them counts, as float32."""

    def telling(self, column: int, first: int, last: int, most: int, least: float, /) -> tuple[str, ...]:
        """Names of up to ``most`` keys and structural features that spoke for a column, strongest first.

        What counts is the score above the mean of the columns from ``first`` to before ``last``; more than
        ``least`` of it is told. Marks, and numbers (which are read by their length only), are not.
        """


class Table(Protocol):
    def sums(self, text: str, /) -> Sums:
        """Of a text in ASCII."""

    def sums_of(self, head: list[str], tail: list[str], middle: list[str], seen: array[float], /) -> Sums:
        """Of tokens, and of what `shape` saw. In a short text ``head`` and ``tail`` are the same list."""

    def key(self, row: int, /) -> str:
        """The key of a row."""


Judge = Callable[
    [tuple[str, ...], list[float], bytes, float, float], tuple[str, str, float, dict[str, float]]
]
"""From names of n categories, their log-odds, and an n by n table in float64, how well each (column) serves a
task of each (row): which serves best, which is likeliest, how sure it is that the former serves the task, and
the probability of each. The last two numbers turn the log-odds of how well it is to be expected to serve into
those of being right: times the first, plus the second."""


def key_table(weights: Weights, *, compiled: bool | None = None) -> Table:
    """The table of these weights: compiled where it can be, or as told.

    Raises:
        ImportError: ``compiled`` is true and this installation was not compiled, or from other sources.
        ValueError: a key of the vocabulary occurs twice, or is empty.
    """
    module = ARITHMETIC.chosen(compiled)
    if module is None:
        from llm_router.classify.in_numpy import KeyTable

        return KeyTable(weights)
    table: Table = module.KeyTable(
        vocabulary=weights.words,
        table=weights.table.data,
        scale=weights.scale.data,
        mass=weights.mass.data,
        groups=weights.groups.data,
        group_scale=weights.group_scale.data,
        group_mass=weights.group_mass.data,
        shape_table=weights.shape_table.data,
        idf=weights.idf.data,
        told=TOLD,
        columns=weights.table.shape[1],
        strange_mass=weights.strange_mass,
        middle=features.MIDDLE,
        most_times=features.MOST_TIMES,
        edge_tokens=features.EDGE_TOKENS,
        digits=features.MOST_DIGITS,
        common=spelling.COMMON,
        least_letters=spelling.LEAST_LETTERS,
        end_chars=features.END_CHARS,
        long_chars=features.LONG_CHARS,
        max_chars=features.MAX_CHARS,
    )
    return table


def judge(*, compiled: bool | None = None) -> Judge:
    """How to judge: compiled where it can be, or as told. Raises ImportError as `key_table` does."""
    module = ARITHMETIC.chosen(compiled)
    if module is None:
        from llm_router.classify.in_numpy import judged

        return judged
    found: Judge = module.judged
    return found


def rows_of(sums: Sums) -> Iterator[tuple[int, float]]:
    """Each known key's row and how much it counts."""
    return zip(memoryview(sums.places()).cast("i"), memoryview(sums.times()).cast("f"), strict=True)
