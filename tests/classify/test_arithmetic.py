"""The encoder's arithmetic, in Python and compiled: one answer, whatever the text."""

from __future__ import annotations

import sys
from array import array
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify import arithmetic, features
from llm_router.classify.arithmetic import Table, key_table
from llm_router.classify.compiled import compiled, is_compiled
from llm_router.classify.encoder import Encoder
from llm_router.classify.in_numpy import KeyTable, judged
from llm_router.classify.reading import Reading
from llm_router.classify.shape import NAMES, shape
from llm_router.classify.weights import Weights, read_weights
from llm_router.learn.corpus import training_rows

ROOT = Path(__file__).parents[2]
SURROGATES = ("\ud800", "\udbff", "\udfff")
WORDS = ("the", "don't", "rock'n'roll", "'", "''", "00123", "9'9", "_", "a_b", "Weathar", "summarise", "?")
ODD = (
    *WORDS,
    " ",
    "\t",
    "\x1c",
    "\x1f",
    "\x0b",
    "\x00",
    "\x01",
    "\x7f",
    "\n\n",
    "요약해",
    "東京",
    *SURROGATES,
)
LONG = ("Fix this function: x = y; ", "What's the 'plan'? ", "회의록을 요약해 주세요. ", "a", "'", " x")

QUESTIONS = ("? \"'", "?", "Summarise this: ", "Text: ", ":", ": \n", "x" * 59, "y" * 61, "z" * 80)
CODE = ("```", "{", "f(x)", "f(x y)", "(", "=>", "==", "a = -1", "a =b", "= (", ";\n", "):\n", "</p", "</")
FIGURES = ("\\alpha", "\\a", "$", "$x$", "$\n$", "^", "x^2", " ^ ", "3 * 4", "3-", "/ 7", "2\n+\n2", "7")
LISTS = ("- ", "\n- item", "\n * item", "* ", "\nA) ", "\n(b. x", "\nE) ", "\n\n\n")
OTHERS = (
    "http://",
    "https:/",
    "www.",
    '"',
    '"short"',
    '"twelve letters here"',
    " ",
    "\t",
    "\x1c",
    "\x7f",
    "\0",
    "a",
)
MARKS = QUESTIONS + CODE + FIGURES + LISTS + OTHERS
ascii_text = st.text(st.characters(max_codepoint=127), max_size=8)

needs_compiled = pytest.mark.skipif(not is_compiled(), reason="this installation is in Python alone")


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(resources.files("llm_router").joinpath("data", "encoder.npz").read_bytes())


@pytest.fixture(scope="module")
def both(weights: Weights) -> tuple[Encoder, Encoder]:
    return Encoder(weights, compiled=True), Encoder(weights, compiled=False)


@pytest.fixture(scope="module")
def table(weights: Weights) -> Table:
    return key_table(weights, compiled=True)


def told(reading: Reading, encoder: Encoder) -> tuple[object, ...]:
    category = encoder.judge(reading).category
    return reading.scores, reading.keys, category, encoder.telling(reading, category, 8), reading.vector


def assert_alike(both: tuple[Encoder, Encoder], text: str) -> None:
    compiled, plain = both
    assert told(compiled.read(text), compiled) == told(plain.read(text), plain), text
    ours, theirs = compiled.judge(compiled.read(text)), plain.judge(plain.read(text))
    assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-12)
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-12)


@needs_compiled
def test_every_fourth_text_of_the_training_is_answered_alike(both: tuple[Encoder, Encoder]) -> None:
    rows = training_rows(ROOT / "training")[::4]
    assert len(rows) > 1000
    for row in rows:
        assert_alike(both, row.text)


@needs_compiled
@given(
    st.lists(
        st.one_of(
            st.sampled_from(ODD),
            st.text(max_size=12),
        ),
        max_size=60,
    ),
    st.sampled_from(["", " "]),
)
def test_whatever_the_text_both_read_the_same(
    both: tuple[Encoder, Encoder], parts: list[str], between: str
) -> None:
    assert_alike(both, between.join(parts))


@needs_compiled
@pytest.mark.parametrize("size", [features.LONG_CHARS, features.LONG_CHARS + 1, 2500, 60_000])
@pytest.mark.parametrize(
    "text", ["Fix this function: x = y; ", "What's the 'plan'? ", "회의록을 요약해 주세요. ", "a", "'", " x"]
)
def test_long_texts_are_read_at_their_ends_by_both(
    both: tuple[Encoder, Encoder], text: str, size: int
) -> None:
    whole = "Summarise what follows. " + text * (size // len(text) + 1)
    assert_alike(both, whole[:size])


@needs_compiled
@pytest.mark.parametrize("words", ["prove the theorem. ", "서울의 날씨 "])
@pytest.mark.parametrize("empty", ["head", "tail", "middle", "head and tail", "all"])
def test_a_part_of_a_long_text_may_have_no_tokens(
    both: tuple[Encoder, Encoder], words: str, empty: str
) -> None:
    nothing = "'" * features.END_CHARS
    some = (words * features.END_CHARS)[: features.END_CHARS - 1] + "."
    parts = (nothing if name in empty or empty == "all" else some for name in ("head", "middle", "tail"))
    assert_alike(both, "".join(parts) + "'")


@needs_compiled
def test_every_half_of_a_surrogate_pair_is_a_word_of_its_own(
    both: tuple[Encoder, Encoder], table: Table
) -> None:
    text = " hello ".join(SURROGATES)
    assert_alike(both, text)
    found = table.sums_of([*SURROGATES, "a\ud800"], [], [*SURROGATES, "\udbff"])
    assert list(found.strange) == [*SURROGATES, "a\ud800"]


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_compiled), False])
def test_slips_are_mended_at_the_ends_of_a_long_text_and_not_between(
    weights: Weights, compiled: bool
) -> None:
    encoder = Encoder(weights, compiled=compiled)
    filler = "x. " * features.LONG_CHARS
    assert "summarize" in encoder.read("Please sumarize this. " + filler).keys
    assert "summarize" in encoder.read(filler + "Please sumarize this.").keys
    assert "summarize" in encoder.read(filler + "Please summarize this. " + filler).keys
    assert "summarize" not in encoder.read(filler + "Please sumarize this. " + filler).keys


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_compiled), False])
def test_the_key_of_a_text_without_words_is_not_told(weights: Weights, compiled: bool) -> None:
    """Training may have met several such texts, which then have a key: how they begin."""
    lines = weights.words.split(b"\n")
    row = lines.index(b"prove")
    lines[row] = features.FIRST.encode()
    encoder = Encoder(replace(weights, words=b"\n".join(lines)), compiled=compiled)
    reading = encoder.read("'")
    assert reading.keys == (features.FIRST,)
    assert not any(encoder.telling(reading, category, 8) for category in encoder.categories)


@needs_compiled
def test_a_word_counts_no_more_often_than_the_most(both: tuple[Encoder, Encoder]) -> None:
    assert_alike(both, "no " * 1300)


@needs_compiled
@given(
    st.lists(st.floats(-40, 40), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_both_judge_alike(logits: list[float], chance: object) -> None:
    serves = np.random.default_rng(len(logits)).random((len(logits), len(logits)))
    best, service, odds = arithmetic.judge(compiled=True)(logits, serves.tobytes())
    _, expected, expected_odds = judged(logits, serves.tobytes())
    assert service == pytest.approx(expected, abs=1e-12)
    assert odds == pytest.approx(expected_odds, abs=1e-12)
    assert (np.array(odds) @ serves)[best] == pytest.approx(service, abs=1e-12)


@needs_compiled
def test_both_judge_among_any_number_of_categories() -> None:
    random = np.random.default_rng(7)
    for count in (1, 2, 256, 257, 700):
        logits, serves = random.normal(size=count).tolist(), random.random((count, count))
        best, service, odds = arithmetic.judge(compiled=True)(logits, serves.tobytes())
        expected, expected_service, expected_odds = judged(logits, serves.tobytes())
        assert best == expected
        assert service == pytest.approx(expected_service, abs=1e-12)
        assert odds == pytest.approx(expected_odds, abs=1e-12)


@needs_compiled
@given(st.lists(st.one_of(st.sampled_from(MARKS), ascii_text), max_size=24))
def test_both_see_the_same_marks_in_a_text(parts: list[str]) -> None:
    assert_marked_alike("".join(parts))


@needs_compiled
@pytest.mark.parametrize("mark", MARKS)
def test_both_see_the_same_marks_at_every_edge(mark: str) -> None:
    for before in ("", "a", "7", "word word ", "x\n"):
        for after in ("", "b", "8", " words after it", "\n", "-", "(", '"'):
            assert_marked_alike(before + mark + after)


def assert_marked_alike(text: str) -> None:
    found, expected = shape(text).tolist(), shape(text, in_python=True).tolist()
    assert dict(zip(NAMES, found, strict=True)) == dict(zip(NAMES, expected, strict=True)), text


@needs_compiled
def test_what_does_not_fit_is_refused_and_nothing_else_happens(weights: Weights, table: Table) -> None:
    zeros = array("f", [0.0] * weights.shape_table.shape[0])
    sums = table.sums("hello there")
    with pytest.raises(ValueError, match="number of features"):
        sums.settle([], zeros[:-1])
    with pytest.raises(IndexError, match="letter group"):
        sums.settle([features.GRAMS], zeros)
    with pytest.raises(IndexError, match="letter group"):
        sums.settle([-1], zeros)
    with pytest.raises(IndexError, match="column"):
        sums.strongest(len(zeros) * 100, 0, 1, 0.0)
    with pytest.raises(IndexError, match="column"):
        sums.strongest(0, 3, 3, 0.0)
    with pytest.raises(IndexError, match="key"):
        table.key(weights.table.shape[0])
    with pytest.raises(IndexError, match="key"):
        table.key(-1)
    with pytest.raises(ValueError, match="ASCII"):
        table.sums("été")
    for ends in (3, -1, sys.maxsize, sys.maxsize // 2 + 2):
        with pytest.raises(ValueError, match="ends"):
            table.sums("short", ends)
    with pytest.raises(TypeError):
        table.sums_of([1], [2], [])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="as many"):
        arithmetic.judge(compiled=True)([1.0, 2.0], bytes(8))
    for text, offset in (
        ("", 0),
        ("été", 0),
        ("hello", -1),
        ("hello", len(zeros) - 17),
        ("hello", sys.maxsize),
    ):
        with pytest.raises(ValueError, match="marks"):
            compiled().marks(text, zeros, offset)
    assert not any(zeros)
    assert sums.settle([], zeros) == table.sums("hello there").settle([], zeros)


@needs_compiled
def test_a_vocabulary_with_a_key_twice_is_refused_by_both(weights: Weights) -> None:
    lines = weights.words.split(b"\n")
    lines[5] = lines[4]
    twice = replace(weights, words=b"\n".join(lines))
    for way in (True, False):
        with pytest.raises(ValueError, match="twice"):
            key_table(twice, compiled=way)


@needs_compiled
@pytest.mark.parametrize("place", [0, 7, -1])
def test_a_vocabulary_with_an_empty_key_is_refused_by_both(weights: Weights, place: int) -> None:
    lines = weights.words.split(b"\n")
    lines[place] = b""
    for way in (True, False):
        with pytest.raises(ValueError, match="empty"):
            key_table(replace(weights, words=b"\n".join(lines)), compiled=way)


@needs_compiled
def test_a_vocabulary_of_another_size_is_refused(weights: Weights) -> None:
    for words in (weights.words + b"\none more", weights.words.rpartition(b"\n")[0]):
        with pytest.raises(ValueError, match="number of keys"):
            key_table(replace(weights, words=words), compiled=True)


def test_without_the_compiled_one_python_takes_over(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llm_router.classify._arithmetic", None)
    assert not is_compiled()
    assert isinstance(key_table(weights), KeyTable)
    with pytest.raises(ImportError):
        key_table(weights, compiled=True)
    encoder = Encoder(weights)
    assert encoder.judge(encoder.read("Prove that √2 is irrational")).category == "max_reasoning"


def test_what_was_compiled_from_other_sources_is_not_used(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ModuleType("llm_router.classify._arithmetic")
    old.REVISION = -1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llm_router.classify._arithmetic", old)
    assert not is_compiled()
    with pytest.raises(ImportError, match="other sources"):
        key_table(weights, compiled=True)
