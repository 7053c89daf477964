"""Numbers in an .npz file, read without numpy: importing it takes longer than everything else of a first
decision, and what is compiled does not need it.

The format is numpy's own (NEP 1): an uncompressed zip of .npy files, each a short header and the plain bytes.
"""

from __future__ import annotations

import ast
import io
import math
import struct
import zipfile
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"
_CODES = {"<f2": "e", "<f4": "f", "<f8": "d", "|i1": "b", "|u1": "B", "<i8": "q"}


class Numbers:
    """An array as it stands in the file: ``kind`` in numpy's words, little-endian, row after row."""

    __slots__ = ("_array", "data", "kind", "shape")

    def __init__(self, kind: str, shape: tuple[int, ...], data: bytes) -> None:
        self.kind = kind
        self.shape = shape
        self.data = data
        self._array: NDArray[Any] | None = None

    @classmethod
    def of(cls, values: NDArray[Any]) -> Numbers:
        return cls(values.dtype.str, values.shape, values.tobytes())

    @property
    def array(self) -> NDArray[Any]:
        """For numpy; what are halves in the file are single precision here. Not to be written to."""
        if self._array is None:
            import numpy as np

            found = np.frombuffer(self.data, dtype=self.kind).reshape(self.shape)
            self._array = found.astype(np.float32) if self.kind == "<f2" else found
        return self._array

    def values(self) -> Sequence[Any]:
        """All of them in a row, as Python's own numbers; made anew each time."""
        return struct.unpack(f"<{math.prod(self.shape)}{_CODES[self.kind]}", self.data)

    def value(self) -> Any:
        """The only one. Raises ValueError where there are more."""
        (found,) = self.values()
        return found

    def texts(self) -> tuple[str, ...]:
        """Texts of a fixed width, as numpy keeps them."""
        size = 4 * int(self.kind[2:])
        rows = [self.data[at : at + size] for at in range(0, len(self.data), size)] if size else []
        return tuple(row.decode("utf-32-le").rstrip("\0") for row in rows)

    def text(self) -> str:
        """The only one. Raises ValueError where there are more."""
        if not int(self.kind[2:]):
            return ""
        (found,) = self.texts()
        return found

    def singles(self) -> Numbers:
        """The same in single precision."""
        if self.kind == "<f4":
            return self
        return Numbers("<f4", self.shape, array("f", self.values()).tobytes())


def read_npz(data: bytes) -> Mapping[str, Numbers]:
    """The arrays of a file by name. Raises ValueError, KeyError, struct.error or zipfile.BadZipFile."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {
            name.removesuffix(".npy"): _read_npy(archive.read(name))
            for name in archive.namelist()
            if name.endswith(".npy")
        }


def _read_npy(data: bytes) -> Numbers:
    if data[:6] != _MAGIC or data[6] not in (1, 2, 3):
        raise ValueError("not an array")
    begin, form = (10, "<H") if data[6] == 1 else (12, "<I")
    (size,) = struct.unpack(form, data[8:begin])
    told = ast.literal_eval(data[begin : begin + size].decode("utf-8"))
    kind, shape = str(told["descr"]), tuple(int(length) for length in told["shape"])
    if told["fortran_order"] and len(shape) > 1:
        raise ValueError("an array column after column")
    if kind not in _CODES and not (kind.startswith("<U") and kind[2:].isdigit()):
        raise ValueError(f"an array of {kind}")
    width = 4 * int(kind[2:]) if kind.startswith("<U") else struct.calcsize(f"<{_CODES[kind]}")
    body = data[begin + size :]
    if len(body) != width * math.prod(shape):
        raise ValueError("an array that is cut short")
    return Numbers(kind, shape, body)
