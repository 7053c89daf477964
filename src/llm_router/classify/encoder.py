"""The embedded classifier: text in, calibrated probabilities over the categories out.

Hashed n-grams and structural features, weighted by sublinear tf-idf, into a multinomial logistic
regression with 8-bit weights. Numpy only, no I/O after `Encoder.load`, thread-safe (nothing changes
after construction). The weights are built by ``python -m llm_router.learn.train``.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import ngrams as grams
from llm_router.classify.shape import NAMES as SHAPE_NAMES
from llm_router.classify.shape import TELLING, shape

FORMAT = 1
MIN_EXAMPLES = 5
_WORD_EVIDENCE = 0.02
_NEW_CATEGORY_STEEPNESS = 5.0

Floats = NDArray[np.float32]


class EncoderFileError(ValueError):
    """The weights file is missing, broken, or of another version; rules can still route."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"cannot read the encoder weights ({what}): {why}\n"
            "hint: reinstall the package, or rebuild the file with 'python -m llm_router.learn.train'"
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """What the weights file holds; `Encoder.load` and the trainer are its only reader and writer."""

    categories: tuple[str, ...]
    version: str
    table: NDArray[np.int8]
    """(buckets, categories): logistic-regression weights, to be multiplied by ``scale``."""
    scale: Floats
    """(buckets,): value of one step of ``table`` in that row."""
    idf: Floats
    """(buckets,): inverse document frequency times the weight of the n-gram's family."""
    shape_table: Floats
    """(structural features, categories)."""
    background: Floats
    """(buckets,): mean text vector, taken away before new categories are compared."""
    temperature: float


@dataclass(frozen=True, slots=True)
class _NewCategory:
    name: str
    ids: NDArray[np.int64]
    values: Floats
    threshold: float


@dataclass(frozen=True, slots=True)
class Vector:
    """A text as a sparse unit vector."""

    ids: NDArray[np.int64]
    values: Floats


class Encoder:
    """Says which kind of work a text asks for.

    ``categories`` lists what it can answer; ``version`` changes whenever its answers may.
    """

    def __init__(self, weights: Weights, new_categories: tuple[_NewCategory, ...] = ()) -> None:
        self._weights = weights
        self._new = new_categories
        self.categories: tuple[str, ...] = weights.categories + tuple(new.name for new in new_categories)
        self.version: str = weights.version

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
        return cls(read_weights(data))

    def probabilities(self, text: str, allowed: Collection[str] | None = None) -> dict[str, float]:
        """Calibrated probability of each category, summing to 1 over the allowed ones.

        ``allowed`` restricts the answer (hard evidence elsewhere in the request has ruled the rest out);
        names the encoder does not know are left out. The result keeps the order of ``categories``.

        Raises:
            ValueError: no allowed category is known to the encoder.
        """
        keep = [i for i, name in enumerate(self.categories) if allowed is None or name in allowed]
        if not keep:
            raise ValueError(
                "the encoder knows none of the allowed categories: "
                f"{', '.join(sorted(allowed or ())) or 'the list is empty'}\n"
                "hint: allow at least one of its `categories`, or teach it more with `extend`"
            )
        scores = self._logits(text, keep)
        odds = np.exp(scores - scores.max())
        shares = odds / odds.sum()
        return {self.categories[i]: float(share) for i, share in zip(keep, shares, strict=True)}

    def top_features(self, text: str, category: str, n: int = 3) -> tuple[str, ...]:
        """Up to ``n`` words, word pairs or structural features that spoke most for a category.

        They are read off the weights: each n-gram's share of the category's score, above its mean over
        all categories, is added up for the word it stands in. Strongest first; what spoke against the
        category, lengths and bare punctuation are not listed, so the result may be shorter than ``n``.

        Raises:
            ValueError: the encoder does not know the category.
        """
        found = self.contributions(text, category)
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        return tuple(name for name, value in ranked if value > _WORD_EVIDENCE and _tells(name))[:n]

    def contributions(self, text: str, category: str) -> dict[str, float]:
        """Everything that moved a category's score away from the mean score, by readable name.

        The values add up to the category's logit minus the mean logit of the trained categories.

        Raises:
            ValueError: the encoder does not know the category.
        """
        if category not in self.categories:
            raise ValueError(
                f"the encoder does not know the category '{category}'\n"
                f"hint: it knows {', '.join(self.categories)}"
            )
        column = self.categories.index(category)
        if column >= len(self._weights.categories):
            return self._similarity_by_word(text, self._new[column - len(self._weights.categories)])
        seen = grams.ngrams(text)
        vector, counts = text_vector(seen.ids, self._weights.idf)
        rows = self._rows(vector)
        heat = np.float32(self._weights.temperature)
        pull = vector.values * (rows[:, column] - rows.mean(axis=1)) / heat
        found = _by_word(seen, (pull / counts)[np.searchsorted(vector.ids, seen.ids)])
        table = self._weights.shape_table
        lift = shape(text) * (table[:, column] - table.mean(axis=1)) / heat
        found.update({f"({name})": float(v) for name, v in zip(SHAPE_NAMES[:-1], lift, strict=False) if v})
        found[""] = float(lift[-1])  # the constant: part of the sum, evidence of nothing
        return found

    def extend(self, examples: Mapping[str, Sequence[str]]) -> Encoder:
        """A new encoder that can also answer the given categories, learnt from a few example texts each.

        A text is drawn to a new category by its cosine similarity to the centre of that category's
        examples. Texts unlike the examples keep their probabilities almost unchanged.

        Raises:
            ValueError: fewer than 5 examples, or a category that is already known.
        """
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
            added.append(self._new_category(name, distinct))
        return Encoder(self._weights, (*self._new, *added))

    def _logits(self, text: str, keep: Sequence[int]) -> Floats:
        """Scores of the categories at the places ``keep``."""
        weights = self._weights
        vector, _ = text_vector(grams.ngrams(text).ids, weights.idf)
        scores: Floats = vector.values @ self._rows(vector) + shape(text) @ weights.shape_table
        scores /= np.float32(weights.temperature)
        trained = [place for place in keep if place < len(scores)]
        if len(trained) == len(keep):
            return scores[trained]
        # A new category competes with the best of those that are allowed, whatever its score is.
        best = float(scores[trained].max()) if trained else 0.0
        new = [self._new[place - len(scores)] for place in keep if place >= len(scores)]
        extra = [best + _steepness(n) * (self._similarity(vector, n) - n.threshold) for n in new]
        return np.concatenate([scores[trained], np.array(extra, dtype=np.float32)])

    def _rows(self, vector: Vector) -> Floats:
        rows = self._weights.table[vector.ids].astype(np.float32)
        rows *= self._weights.scale[vector.ids, None]
        return rows

    def _centred(self, vector: Vector) -> Vector:
        """The vector without what all texts share."""
        return replace(vector, values=vector.values - self._weights.background[vector.ids])

    def _similarity(self, vector: Vector, new: _NewCategory) -> float:
        return _dot(self._centred(vector), new.ids, new.values)

    def _similarity_by_word(self, text: str, new: _NewCategory) -> dict[str, float]:
        seen = grams.ngrams(text)
        vector, counts = text_vector(seen.ids, self._weights.idf)
        vector = self._centred(vector)
        place, hit = _places(vector.ids, new.ids)
        pull: Floats = vector.values * new.values[place] * hit / counts * np.float32(_steepness(new))
        found = _by_word(seen, pull[np.searchsorted(vector.ids, seen.ids)])
        found[""] = -_steepness(new) * new.threshold
        return found

    def _new_category(self, name: str, texts: Sequence[str]) -> _NewCategory:
        """Centre of the examples, and a threshold below the likeness that they have among themselves."""
        idf = self._weights.idf
        vectors = [self._centred(text_vector(grams.ngrams(text).ids, idf)[0]) for text in texts]
        dense = np.zeros((len(vectors), grams.BUCKETS), dtype=np.float32)
        for row, vector in zip(dense, vectors, strict=True):
            row[vector.ids] = vector.values
        total = dense.sum(axis=0)
        alike = []
        for row in dense:
            rest = total - row
            alike.append(float(row @ rest) / max(float(np.linalg.norm(rest)), 1e-9))
        centre = total / max(float(np.linalg.norm(total)), 1e-9)
        ids = np.flatnonzero(centre)
        # Unrelated texts score about 0: half-way to the examples' own likeness splits the two.
        threshold = max(0.5 * float(np.mean(alike)), 0.05)
        return _NewCategory(name, ids, centre[ids], threshold)


def text_vector(ids: NDArray[np.int64], idf: Floats) -> tuple[Vector, Floats]:
    """Unit vector of sublinear tf-idf, and how often each of its n-grams occurs."""
    ordered = np.sort(ids)
    first = np.empty(len(ordered), dtype=bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    places = np.flatnonzero(first)
    unique = ordered[places]
    tally = np.diff(places, append=len(ordered)).astype(np.float32)
    values: Floats = (np.float32(1.0) + np.log(tally)) * idf[unique]
    norm = float(np.sqrt(values @ values))
    if norm > 0.0:
        values /= np.float32(norm)
    return Vector(unique, values), tally


def read_weights(data: bytes) -> Weights:
    """Weights from the bytes of an .npz file.

    Raises:
        EncoderFileError: not such a file, cut short, of another format, or with shapes that do not fit.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if int(found["format"]) != FORMAT:
            raise EncoderFileError(
                "encoder.npz", f"format {int(found['format'])}, this version reads {FORMAT}"
            )
        weights = Weights(
            categories=tuple(str(name) for name in found["categories"]),
            version=str(found["version"]),
            table=found["table"],
            scale=found["scale"].astype(np.float32),
            idf=found["idf"].astype(np.float32),
            shape_table=found["shape_table"].astype(np.float32),
            background=found["background"].astype(np.float32),
            temperature=float(found["temperature"]),
        )
    except EncoderFileError:
        raise
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise EncoderFileError("encoder.npz", f"{type(error).__name__}: {error}") from error
    _check(weights)
    return weights


def _check(weights: Weights) -> None:
    size = len(weights.categories)
    expected = {
        "table": (weights.table.shape, (grams.BUCKETS, size)),
        "scale": (weights.scale.shape, (grams.BUCKETS,)),
        "idf": (weights.idf.shape, (grams.BUCKETS,)),
        "shape_table": (weights.shape_table.shape, (len(SHAPE_NAMES), size)),
        "background": (weights.background.shape, (grams.BUCKETS,)),
    }
    for name, (got, want) in expected.items():
        if got != want:
            raise EncoderFileError("encoder.npz", f"'{name}' has the shape {got}, expected {want}")
    finite = all(
        np.isfinite(a).all() for a in (weights.scale, weights.idf, weights.shape_table, weights.background)
    )
    if size < 2 or weights.table.dtype != np.int8 or not finite or not weights.temperature > 0:
        raise EncoderFileError("encoder.npz", "its values are out of range")


def _tells(name: str) -> bool:
    """Whether a contribution is worth a reader's time."""
    if name.startswith("(") and name.endswith(")"):
        return name[1:-1] in TELLING
    return any(char.isalnum() or not char.isascii() for char in name)


def _steepness(new: _NewCategory) -> float:
    """So that a text unlike the examples ends e**-5 (under 1 %) below the best trained category."""
    return _NEW_CATEGORY_STEEPNESS / new.threshold


def _places(ids: NDArray[np.int64], among: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return place, among[place] == ids


def _dot(vector: Vector, ids: NDArray[np.int64], values: Floats) -> float:
    place, hit = _places(vector.ids, ids)
    return float(vector.values[hit] @ values[place[hit]])


def _by_word(seen: grams.Ngrams, pull: Floats) -> dict[str, float]:
    """Adds the pull of every n-gram to the word (or word pair, or CJK n-gram) in which it stands."""
    found: dict[str, float] = {}
    offset = 0
    for (family, count), (starts, ends) in zip(seen.families, seen.spans, strict=True):
        part = pull[offset : offset + count]
        offset += count
        if family not in (grams.PAIR, grams.WIDE):
            token = np.searchsorted(seen.token_starts, (starts + ends) // 2, side="right") - 1
            first, last = seen.token_starts[token], seen.token_ends[token]
        else:
            first, last = starts, ends
        for start, end, value in zip(first.tolist(), last.tolist(), part.tolist(), strict=True):
            word = seen.text[start:end]
            found[word] = found.get(word, 0.0) + value
    return found
