"""The file of the encoder's weights: what it holds, and whether it can be trusted."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass

from llm_router.classify import features
from llm_router.classify.npz import Numbers, read_npz
from llm_router.classify.shape import NAMES as SHAPE_NAMES
from llm_router.compiled import ARITHMETIC

FORMAT = 2


class EncoderFileError(ValueError):
    """The weights file is missing, broken, or of another version; rules can still route."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"cannot read the encoder weights ({what}): {why}\n"
            "hint: reinstall the package, or rebuild the file with: llm-router train"
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """What the weights file holds; `read_weights` and the trainer are its only reader and writer.

    The columns of every table are those of the heads one after the other: ``categories``,
    ``picture_categories``, and one for follow-ups.
    """

    version: str
    text_digest: str
    """Of the folder of training text, and ``cases_digest`` of that of outside cases ("" where none were)."""
    cases_digest: str
    categories: tuple[str, ...]
    picture_categories: tuple[str, ...]
    words: bytes
    """The vocabulary: its keys in UTF-8, a line each."""
    table: Numbers
    """(vocabulary, columns): a key's weights, a word's letter groups included, in steps of ``scale``."""
    scale: Numbers
    """(vocabulary,)"""
    mass: Numbers
    """(vocabulary,): what the key adds to the squared length of a text."""
    idf: Numbers
    """(vocabulary,): inverse document frequency, for likeness to the examples of a new category."""
    groups: Numbers
    """(letter-group buckets, columns): weights in steps of ``group_scale``."""
    group_scale: Numbers
    """(letter-group buckets,)"""
    group_mass: Numbers
    """(letter-group buckets,)."""
    strange_mass: float
    """What a word that training never met adds, besides its letter groups."""
    shape_table: Numbers
    """(structural features, columns)."""
    serves: Numbers
    """(categories, categories): how well the second serves a task that is of the first, 0 to 1."""
    temperature: float
    picture_temperature: float
    follow_up_steepness: float
    sureness: tuple[float, float]
    """(slope, offset) from the log-odds of the expected service to those of being right."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The keys in the order of their rows; taken apart anew each time."""
        return tuple(self.words.decode().split("\n"))


def read_weights(data: bytes) -> Weights:
    """Weights from the bytes of an .npz file.

    Raises:
        EncoderFileError: not such a file, cut short, of another format, or with shapes that do not fit.
    """
    try:
        found = read_npz(data)
        if int(found["format"].value()) != FORMAT:
            raise EncoderFileError(
                "encoder.npz", f"format {int(found['format'].value())}, this version reads {FORMAT}"
            )
        slope, offset = found["sureness"].values()
        weights = Weights(
            version=found["version"].text(),
            text_digest=found["text_digest"].text(),
            cases_digest=found["cases_digest"].text(),
            categories=found["categories"].texts(),
            picture_categories=found["picture_categories"].texts(),
            words=_in_utf_8(found["vocabulary"].data),
            table=_steps(found["table"]),
            scale=found["scale"],
            mass=found["mass"],
            idf=found["idf"],
            groups=_steps(found["groups"]),
            group_scale=found["group_scale"],
            group_mass=found["group_mass"],
            strange_mass=float(found["strange_mass"].value()),
            shape_table=found["shape_table"].singles(),
            serves=found["serves"],
            temperature=float(found["temperature"].value()),
            picture_temperature=float(found["picture_temperature"].value()),
            follow_up_steepness=float(found["follow_up_steepness"].value()),
            sureness=(float(slope), float(offset)),
        )
    except EncoderFileError:
        raise
    except _BROKEN as error:
        raise EncoderFileError("encoder.npz", f"{type(error).__name__}: {error}") from error
    _check(weights)
    return weights


_BROKEN = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    SyntaxError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a broken or foreign file may raise."""


def _in_utf_8(words: bytes) -> bytes:
    words.decode()  # or the first task that has such a key would fail
    return words


def _steps(table: Numbers) -> Numbers:
    if table.kind != "|i1" or len(table.shape) != 2:
        raise ValueError(f"a table of {table.kind} with {len(table.shape)} dimensions")
    return table


def _check(weights: Weights) -> None:
    size, keys = len(weights.categories), weights.words.count(b"\n") + 1
    columns = size + len(weights.picture_categories) + 1
    expected = {
        "table": (weights.table.shape, (keys, columns)),
        "scale": (weights.scale.shape, (keys,)),
        "group_scale": (weights.group_scale.shape, (features.GRAMS,)),
        "mass": (weights.mass.shape, (keys,)),
        "idf": (weights.idf.shape, (keys,)),
        "groups": (weights.groups.shape, (features.GRAMS, columns)),
        "group_mass": (weights.group_mass.shape, (features.GRAMS,)),
        "shape_table": (weights.shape_table.shape, (len(SHAPE_NAMES), columns)),
        "serves": (weights.serves.shape, (size, size)),
    }
    for name, (got, want) in expected.items():
        if got != want:
            raise EncoderFileError("encoder.npz", f"'{name}' has the shape {got}, expected {want}")
    if weights.scale.kind != weights.mass.kind or weights.group_scale.kind != weights.group_mass.kind:
        raise EncoderFileError("encoder.npz", "a scale and the mass beside it are of different precision")
    rows = (weights.scale, weights.mass, weights.idf, weights.group_scale, weights.group_mass)
    tables = (*rows, weights.shape_table, weights.serves)
    positive = (weights.temperature, weights.picture_temperature, weights.follow_up_steepness)
    numbers = (*positive, *weights.sureness, weights.strange_mass)
    fits = all(map(math.isfinite, numbers)) and all(n > 0 for n in positive) and weights.strange_mass >= 0
    masses = (weights.mass, weights.group_mass)
    if size < 2 or not fits or not all(map(_is_finite, tables)) or any(map(_has_sign, masses)):
        raise EncoderFileError("encoder.npz", "its values are out of range")


def _has_sign(numbers: Numbers) -> bool:
    """Whether any number is below zero, which no sum of squares is: the sign is the highest bit."""
    width = int(numbers.kind[2:])
    return not numbers.data[width - 1 :: width].isascii()


def _is_finite(numbers: Numbers) -> bool:
    if numbers.kind not in ("<f2", "<f4"):
        return False
    module = ARITHMETIC.chosen()
    if module is not None:
        return bool(module.is_finite(numbers.data, numbers.kind == "<f2"))
    import numpy as np

    return bool(np.isfinite(numbers.array).all())
