"""The file of the encoder's weights: what it holds, and whether it can be trusted."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import features
from llm_router.classify.shape import NAMES as SHAPE_NAMES

FORMAT = 2

Floats = NDArray[np.float32]
Steps = NDArray[np.int8]


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
    table: Steps
    """(vocabulary, columns): a key's weights, a word's letter groups included, in steps of ``scale``."""
    scale: Floats
    """(vocabulary,)"""
    mass: Floats
    """(vocabulary,): what the key adds to the squared length of a text."""
    idf: Floats
    """(vocabulary,): inverse document frequency, for likeness to the examples of a new category."""
    groups: Steps
    """(letter-group buckets, columns): weights in steps of ``group_scale``."""
    group_scale: Floats
    """(letter-group buckets,)"""
    group_mass: Floats
    """(letter-group buckets,)."""
    strange_mass: float
    """What a word that training never met adds, besides its letter groups."""
    shape_table: Floats
    """(structural features, columns)."""
    serves: Floats
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
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if int(found["format"]) != FORMAT:
            raise EncoderFileError(
                "encoder.npz", f"format {int(found['format'])}, this version reads {FORMAT}"
            )
        weights = Weights(
            version=str(found["version"]),
            text_digest=str(found["text_digest"]),
            cases_digest=str(found["cases_digest"]),
            categories=tuple(str(name) for name in found["categories"]),
            picture_categories=tuple(str(name) for name in found["picture_categories"]),
            words=found["vocabulary"].tobytes(),
            table=_steps(found["table"]),
            scale=found["scale"].astype(np.float32),
            mass=found["mass"].astype(np.float32),
            idf=found["idf"].astype(np.float32),
            groups=_steps(found["groups"]),
            group_scale=found["group_scale"].astype(np.float32),
            group_mass=found["group_mass"].astype(np.float32),
            strange_mass=float(found["strange_mass"]),
            shape_table=found["shape_table"].astype(np.float32),
            serves=found["serves"].astype(np.float32),
            temperature=float(found["temperature"]),
            picture_temperature=float(found["picture_temperature"]),
            follow_up_steepness=float(found["follow_up_steepness"]),
            sureness=(float(found["sureness"][0]), float(found["sureness"][1])),
        )
    except EncoderFileError:
        raise
    except (OSError, EOFError, LookupError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise EncoderFileError("encoder.npz", f"{type(error).__name__}: {error}") from error
    _check(weights)
    return weights


def _steps(table: Steps) -> Steps:
    if table.dtype != np.int8 or table.ndim != 2:
        raise ValueError(f"a table of {table.dtype} with {table.ndim} dimensions")
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
    tables = (weights.scale, weights.mass, weights.group_scale, weights.group_mass, weights.shape_table)
    numbers = (weights.temperature, weights.picture_temperature, weights.follow_up_steepness)
    if size < 2 or not all(np.isfinite(a).all() for a in tables) or not all(n > 0 for n in numbers):
        raise EncoderFileError("encoder.npz", "its values are out of range")
