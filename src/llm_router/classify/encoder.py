"""The embedded classifier: text in, calibrated probabilities over the categories out.

A text is a weighted sum of its words (each with its letter groups), word pairs, words at both ends and
structural features; a multinomial logistic regression with 8-bit weights reads it. Three heads share the
features: one for requests in words, one for requests with a picture, one that tells whether a message can
only be understood together with the one before it. No I/O after `Encoder.load`, thread-safe.
The weights are built by ``llm-router train``.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from msgspec import Struct

from llm_router.classify.arithmetic import judge
from llm_router.classify.fewshot import FewShot, fewshot
from llm_router.classify.reading import Lookup, Reading
from llm_router.classify.weights import EncoderFileError, Weights, read_weights

MIN_EXAMPLES = 5
STILL = 0.7
"""How much less a message's own words count where it is a follow-up through and through."""

CONVERSATION = 0.9
"""What is left of the confidence where two turns are read together: on the conversations that are trained
with, answers serve that much less often than the encoder would say of single texts."""

_MOST_PLANS = 256
_WORD_EVIDENCE = 0.03
"""Logit from which a word is worth being told."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What judging among the same categories needs each time: their columns, and how well each serves."""

    names: tuple[str, ...]
    columns: tuple[int, ...]
    heat: float
    serves: bytes
    """(categories, categories) in float64."""
    new: tuple[FewShot, ...]


class Judgement(Struct, frozen=True):
    """What the encoder makes of a text.

    ``probabilities`` sum to 1 over the allowed categories. ``category`` is the one that serves best, given
    them: a neighbour that serves several likely kinds of task may beat the ``likeliest`` single one.
    ``confidence`` is the probability that it serves the task, 0 to 1.
    """

    category: str
    confidence: float
    probabilities: dict[str, float]
    likeliest: str


class Encoder:
    """Says which kind of work a text asks for.

    ``categories`` lists what it can answer; ``version`` changes whenever its answers may.
    """

    def __init__(
        self,
        weights: Weights,
        new_categories: tuple[FewShot, ...] = (),
        *,
        compiled: bool | None = None,
    ) -> None:
        self._weights = weights
        self._new = new_categories
        self._columns = {name: place for place, name in enumerate(weights.categories)}
        first = len(weights.categories)
        self._picture_columns = {name: first + i for i, name in enumerate(weights.picture_categories)}
        columns = first + len(weights.picture_categories)
        self._compiled = compiled
        self._judged = judge(compiled=compiled)
        self._heads = (0, first), (first, columns)
        self._lookup = Lookup(weights, compiled=compiled)
        self.categories: tuple[str, ...] = weights.categories + tuple(new.name for new in new_categories)
        self.version: str = weights.version
        self._plans: dict[tuple[frozenset[str] | None, bool], _Plan] = {}

    @classmethod
    def load(cls, path: Path | None = None) -> Encoder:
        """The encoder from a weights file, by default the packaged one.

        Raises:
            EncoderFileError: the file is missing or broken; a router can go on with its rules alone.
        """
        try:
            if path is None:
                data = resources.files("llm_router").joinpath("data", "encoder.npz").read_bytes()
            else:
                data = path.read_bytes()
        except OSError as error:
            raise EncoderFileError(
                path.name if path else "encoder.npz", error.strerror or str(error)
            ) from error
        weights = read_weights(data)
        try:
            return cls(weights)
        except ValueError as error:
            raise EncoderFileError(path.name if path else "encoder.npz", str(error)) from error

    @property
    def made_from(self) -> tuple[str, str]:
        """Digests of the training text and of the outside cases ("" where there were none)."""
        return self._weights.text_digest, self._weights.cases_digest

    def read(self, text: str) -> Reading:
        """Everything about a text that judging needs, read once."""
        return Reading(text, self._lookup)

    def judge(
        self,
        reading: Reading,
        allowed: Collection[str] | None = None,
        *,
        picture: bool = False,
        earlier: Reading | None = None,
        share: float = 0.0,
    ) -> Judgement:
        """The category that serves best, and how sure that is.

        ``allowed`` restricts the answer (hard evidence elsewhere in the request has ruled the rest out);
        names the encoder does not know are left out. ``picture`` says that the task comes with a picture.
        ``earlier`` is the task before, which counts by ``share``, 0 to 1: how far the text goes on with it.

        Raises:
            ValueError: no allowed category is known to the encoder.
        """
        plan = self._plan(allowed, picture=picture)
        logits = _logits(reading, plan)
        if earlier is not None:
            own = 1.0 - STILL * share
            logits = [own * a + share * b for a, b in zip(logits, _logits(earlier, plan), strict=True)]
        best, likeliest, sure, odds = self._judged(plan.names, logits, plan.serves, *self._weights.sureness)
        return Judgement(best, sure if earlier is None else sure * CONVERSATION, odds, likeliest)

    def probabilities(self, text: str, allowed: Collection[str] | None = None) -> dict[str, float]:
        """Probability of each category, summing to 1 over the allowed ones, in the order of ``categories``.

        Raises:
            ValueError: no allowed category is known to the encoder.
        """
        return self.judge(self.read(text), allowed).probabilities

    def telling(
        self, reading: Reading, category: str, n: int = 3, *, picture: bool = False
    ) -> tuple[str, ...]:
        """Up to ``n`` words, word pairs or structural features that spoke most for a category.

        They are read off the weights that judge: with ``picture`` those for requests with one. Strongest
        first; what spoke against the category, lengths and bare punctuation are not listed, so the result may
        be shorter than ``n``.

        Raises:
            ValueError: the encoder does not know the category.
        """
        least = _WORD_EVIDENCE * self._weights.temperature
        if picture and category in self._picture_columns:
            return reading.sums.telling(self._picture_columns[category], *self._heads[1], n, least)
        if category in self._columns:
            return reading.sums.telling(self._columns[category], *self._heads[0], n, least)
        found = self.contributions(reading, category)
        ranked = sorted((-value, name) for name, value in found.items() if name and value > 0)
        return tuple(name for _, name in ranked[:n])

    def contributions(self, reading: Reading, category: str) -> dict[str, float]:
        """Everything that moved a category's score away from the mean score, by readable name.

        For a trained category the values add up to its logit minus the mean logit of all trained ones.

        Raises:
            ValueError: the encoder does not know the category.
        """
        column = self._columns.get(category)
        if column is not None:
            return reading.pull(column, len(self._columns), self._weights.temperature)
        for new in self._new:
            if new.name == category:
                return new.contributions(reading.vector)
        raise ValueError(
            f"the encoder does not know the category '{category}'\n"
            f"hint: it knows {', '.join(self.categories)}"
        )

    def extend(self, examples: Mapping[str, Sequence[str]], others: Iterable[str] = ()) -> Encoder:
        """A new encoder that can also answer the given categories, learnt from a few example texts each.

        A text is drawn to a new category by its likeness to the examples. Texts unlike them keep their
        probabilities almost unchanged. ``others`` are texts of other categories, which must stay there.

        Raises:
            ValueError: fewer than 5 examples, or a category that is already known.
        """
        against = [self.read(text).vector for text in others]
        added = []
        for name, texts in examples.items():
            if name in self.categories:
                raise ValueError(f"the category '{name}' is already known\nhint: choose another name")
            distinct = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
            if len(distinct) < MIN_EXAMPLES:
                raise ValueError(
                    f"the category '{name}' has {len(distinct)} different examples, at least "
                    f"{MIN_EXAMPLES} are needed\nhint: add texts as users would type them"
                )
            added.append(fewshot(name, [self.read(text).vector for text in distinct], against))
        return Encoder(self._weights, (*self._new, *added), compiled=self._compiled)

    def logits(self, reading: Reading, allowed: Collection[str], *, picture: bool = False) -> list[float]:
        """Log-odds of the allowed categories against each other, in the order of ``categories``."""
        return _logits(reading, self._plan(allowed, picture=picture))

    def _plan(self, allowed: Collection[str] | None, *, picture: bool) -> _Plan:
        key = (None if allowed is None else frozenset(allowed), picture)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[key] = self._planned(allowed, picture=picture)
        return plan

    def _planned(self, allowed: Collection[str] | None, *, picture: bool) -> _Plan:
        names = tuple(name for name in self.categories if allowed is None or name in allowed)
        if not names:
            raise ValueError(
                "the encoder knows none of the allowed categories: "
                f"{', '.join(sorted(allowed or ())) or 'the list is empty'}\n"
                "hint: allow at least one of its `categories`, or teach it more with `extend`"
            )
        weights = self._weights
        trained = [self._columns[name] for name in names if name in self._columns]
        columns, heat = trained, weights.temperature
        if picture and all(name in self._picture_columns for name in names if name in self._columns):
            columns = [self._picture_columns[name] for name in names if name in self._columns]
            heat = weights.picture_temperature
        all_serve, size = weights.serves.values(), len(weights.categories)
        serves = array("d", bytes(8 * len(names) ** 2))
        for row in range(len(names)):
            serves[row * len(names) + row] = 1.0
        for row, own in enumerate(trained):
            for column, other in enumerate(trained):
                serves[row * len(names) + column] = all_serve[own * size + other]
        new = tuple(one for one in self._new if one.name in names)
        return _Plan(names, tuple(columns), heat, serves.tobytes(), new)


def _logits(reading: Reading, plan: _Plan) -> list[float]:
    logits = reading.sums.logits(plan.columns, plan.heat)
    if plan.new:
        # A new category competes with the best of those that are allowed, whatever its score is.
        best = max(logits, default=0.0)
        logits += [best + one.lead(reading.vector) for one in plan.new]
    return logits


__all__ = ["MIN_EXAMPLES", "Encoder", "EncoderFileError", "Judgement", "Reading"]
