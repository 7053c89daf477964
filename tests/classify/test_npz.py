"""Arrays of an .npz file, without numpy and as numpy reads them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from llm_router.classify.npz import Numbers, read_npz
from llm_router.compiled import ARITHMETIC

KINDS = ("<f2", "<f4", "<f8", "|i1", "|u1", "<i8")


def written(**values: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **values)
    return buffer.getvalue()


@given(st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0))))
def test_numbers_are_those_that_numpy_wrote(values: NDArray[np.generic]) -> None:
    found = read_npz(written(it=values))["it"]
    expected = values.astype(np.float32) if values.dtype == np.float16 else values
    assert found.shape == values.shape
    np.testing.assert_array_equal(found.array, expected)
    np.testing.assert_array_equal(np.array(found.values()), values.ravel())
    singles = found.singles()
    assert singles.kind == "<f4"
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(singles.array, values.astype(np.float32))


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), max_size=5
    )
)
def test_texts_are_those_that_numpy_wrote(texts: list[str]) -> None:
    found = read_npz(written(it=np.array(texts, dtype=str), one=np.array("".join(texts))))
    if any(texts):
        assert found["it"].texts() == tuple(texts)
    assert found["one"].text() == "".join(texts)


def test_the_only_value_is_asked_for_only_where_it_is_one() -> None:
    found = read_npz(written(one=np.array(2.5), two=np.array([1, 2]), names=np.array(["a", "b"])))
    assert found["one"].value() == 2.5
    with pytest.raises(ValueError, match="too many"):
        found["two"].value()
    with pytest.raises(ValueError, match="too many"):
        found["names"].text()


def repacked(change: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("it.npy", change)
    return buffer.getvalue()


def test_what_is_no_array_is_refused() -> None:
    with zipfile.ZipFile(io.BytesIO(written(it=np.arange(6.0).reshape(2, 3)))) as archive:
        whole = archive.read("it.npy")
    assert read_npz(repacked(whole))["it"].values() == (0, 1, 2, 3, 4, 5)
    broken = {
        "not an array": b"PK" + whole[2:],
        "cut short": whole[:-1],
        "column after column": whole.replace(b"False", b"True "),
        "an array of": whole.replace(b"<f8", b">f8"),
    }
    for why, data in broken.items():
        with pytest.raises(ValueError, match=why):
            read_npz(repacked(data))
    with pytest.raises((ValueError, SyntaxError)):
        read_npz(repacked(whole.replace(b"{'descr'", b"__import")))
    with pytest.raises(ValueError, match="an array of"):
        read_npz(repacked(whole.replace(b"'<f8'", b"'|O' ")))


@pytest.mark.skipif(not ARITHMETIC.is_compiled(), reason="this installation is in Python alone")
@given(arrays.arrays("<u2", 40) | arrays.arrays("<u4", 20))
def test_both_know_what_is_no_number(bits: NDArray[np.generic]) -> None:
    halves = bits.dtype == np.uint16
    values = bits.view(np.float16 if halves else np.float32)
    assert ARITHMETIC.module().is_finite(bits.tobytes(), halves) == bool(np.isfinite(values).all())


def test_of_an_array() -> None:
    numbers = Numbers.of(np.arange(4, dtype=np.int8).reshape(2, 2))
    assert (numbers.kind, numbers.shape, numbers.values()) == ("|i1", (2, 2), (0, 1, 2, 3))
