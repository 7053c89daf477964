"""The encoder's arithmetic, in Python and compiled: one answer, whatever the text."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify import arithmetic, features
from llm_router.classify.arithmetic import Table, key_table
from llm_router.classify.encoder import Encoder
from llm_router.classify.in_numpy import KeyTable, judged
from llm_router.classify.reading import Reading
from llm_router.classify.shape import NAMES, shape
from llm_router.classify.weights import Weights, read_weights
from llm_router.compiled import ARITHMETIC
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
USUAL = ("summarize", "function", "weather", "there", "façade", "albarracín", "orquía", "uploadinterrupted")
"""Common words of the vocabulary."""
LETTERS = ("", "a", "e", "s", "í", "ç", "요", "７", "\ud800", "'", "0")
PASSAGES = (
    *(
        "Document 1",
        "doc",
        "DOC\n\nb",
        "docA",
        "[12]",
        "[1234]",
        "[1",
        "[]",
        "text\n[3",
        "# page H.",
        "- * >",
    ),
    *("passage #1234", "report (7", "file_1", "Abstract [99]", "source c_", "article 12a", "context\x1cD"),
)
EMPTY = ("\n", "\n\n", "\n \t\n", " \n", "\x1c\n\x0b")
BLOCKS = (*EMPTY, "x" * 79, "x" * 80, "word " * 16, "z" * 600, "a" * 249 + "?", "b" * 250 + "?")
BEGINNINGS = (
    "Item 12 of a long list",
    "item 7 of a long list:",
    "1234567 and many more ",
    "\x00aB9 short and the rest",
)
NO_SHAPE = array("f", [0.0] * len(NAMES))
MARKS = QUESTIONS + CODE + FIGURES + LISTS + OTHERS
slips = st.tuples(st.integers(0, 20), st.integers(0, 2), st.sampled_from(LETTERS))
ascii_text = st.text(st.characters(max_codepoint=127), max_size=8)

needs_compiled = pytest.mark.skipif(
    not ARITHMETIC.is_compiled(), reason="this installation is in Python alone"
)


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
    judged = encoder.judge(reading)
    words = [encoder.telling(reading, name, n) for name in encoder.categories for n in (1, 3, 8)]
    of_picture = encoder.telling(reading, "fast_vision", 8, picture=True)
    return (
        *(reading.scores, reading.keys, reading.vector, reading.pull(0, 3, 1.0)),
        *(judged.category, judged.likeliest, words, of_picture),
    )


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


def with_slips(word: str, changes: list[tuple[int, int, str]]) -> str:
    found = word
    for place, letters, instead in changes:
        found = found[:place] + instead + found[place:][letters:]
    return found


@needs_compiled
@given(st.lists(st.tuples(st.sampled_from(USUAL), st.lists(slips, max_size=2)), min_size=1, max_size=4))
def test_both_mend_the_same_slips(
    both: tuple[Encoder, Encoder], words: list[tuple[str, list[tuple[int, int, str]]]]
) -> None:
    assert_alike(both, " ".join(with_slips(*word) for word in words))


@needs_compiled
def test_every_slip_of_one_letter_is_mended_by_both(both: tuple[Encoder, Encoder]) -> None:
    for word in USUAL:
        for i in range(len(word)):
            swapped = word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
            slipped = (word[:i] + word[i + 1 :], word[:i] + "q" + word[i:], word[:i] + "ü" + word[i + 1 :])
            for text in (*slipped, swapped):
                assert_alike(both, text)


@needs_compiled
@given(st.lists(st.text(st.characters(categories=("L", "N", "M")), max_size=30), max_size=3))
def test_both_read_the_same_letters_of_strange_words(both: tuple[Encoder, Encoder], words: list[str]) -> None:
    assert_alike(both, " ".join(words))


@needs_compiled
@pytest.mark.parametrize("letter", ["q", "é", "한", "々", "Ω", "➊", "𐐀", "\udfff"])
@pytest.mark.parametrize("size", [1, 2, 3, 23, 24, 25, 2000])
def test_both_read_so_many_letters_of_a_word(both: tuple[Encoder, Encoder], letter: str, size: int) -> None:
    for text in (letter * size, letter * size + "한", "x" + letter * size):
        assert_alike(both, text)


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
def test_what_is_not_read_of_a_long_text_changes_nothing(both: tuple[Encoder, Encoder]) -> None:
    words = "Fix this function: x = y;\n" * 400
    unread = features.MAX_CHARS // 3 + 1
    changed = words[:unread] + "é" + words[unread + 1 :]
    assert_alike(both, changed)
    assert told(both[0].read(changed), both[0]) == told(both[0].read(words), both[0])


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
    found = table.sums_of([*SURROGATES, "a\ud800"], [], [*SURROGATES, "\udbff"], NO_SHAPE)
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
@given(st.lists(st.floats(-40, 40), min_size=1, max_size=20))
def test_both_judge_alike(logits: list[float]) -> None:
    serves = np.random.default_rng(len(logits)).random((len(logits), len(logits)))
    names = tuple(f"category {i}" for i in range(len(logits)))
    best, likeliest, sure, odds = arithmetic.judge(compiled=True)(names, logits, serves.tobytes(), 0.9, -0.2)
    _, _, expected, expected_odds = judged(names, logits, serves.tobytes(), 0.9, -0.2)
    assert sure == pytest.approx(expected, abs=1e-12)
    assert odds == pytest.approx(expected_odds, abs=1e-12)
    assert tuple(odds) == names
    assert odds[likeliest] == max(odds.values())
    service = np.array(list(odds.values())) @ serves
    assert service[names.index(best)] == pytest.approx(service.max(), abs=1e-12)


@needs_compiled
def test_both_judge_among_any_number_of_categories() -> None:
    random = np.random.default_rng(7)
    for count in (1, 2, 256, 257, 700):
        names = tuple(map(str, range(count)))
        logits, serves = random.normal(size=count).tolist(), random.random((count, count)).tobytes()
        best, likeliest, sure, odds = arithmetic.judge(compiled=True)(names, logits, serves, 1.1, 0.3)
        expected, expected_likeliest, expected_sure, expected_odds = judged(names, logits, serves, 1.1, 0.3)
        assert (best, likeliest) == (expected, expected_likeliest)
        assert sure == pytest.approx(expected_sure, abs=1e-12)
        assert odds == pytest.approx(expected_odds, abs=1e-12)


@needs_compiled
def test_both_choose_the_same_of_those_that_serve_as_well() -> None:
    """Where sums differ by their rounding alone, the order of adding decides."""
    random = np.random.default_rng(7)
    for count in range(3, 30):
        names, logits = tuple(map(str, range(count))), [0.0] * count
        for _ in range(20):
            serves = random.permuted(np.tile(random.random((count, 1)), count), axis=0).tobytes()
            found, expected = (
                way(names, logits, serves, 1.1, 0.3) for way in (ARITHMETIC.module().judged, judged)
            )
            assert found[:2] == expected[:2]


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_compiled), False])
def test_nobody_serves_for_certain_or_never_but_who_is_alone(compiled: bool) -> None:
    judge = arithmetic.judge(compiled=compiled)
    always, never = array("d", [1.0] * 4).tobytes(), array("d", [0.0] * 4).tobytes()
    assert judge(("a", "b"), [2.0, 1.0], always, 1.0, 0.0)[2] == pytest.approx(1 - 1e-6, abs=1e-9)
    assert judge(("a", "b"), [2.0, 1.0], never, 1.0, 0.0)[2] == pytest.approx(1e-6, abs=1e-9)
    assert judge(("a",), [2.0], never[:8], 1.0, 0.0) == ("a", "a", 1.0, {"a": 1.0})


@needs_compiled
@given(st.lists(st.one_of(st.sampled_from(MARKS), ascii_text), max_size=24))
def test_both_see_the_same_marks_in_a_text(parts: list[str]) -> None:
    assert_marked_alike("".join(parts))


@needs_compiled
@given(st.lists(st.one_of(st.sampled_from(PASSAGES + BLOCKS + BEGINNINGS), ascii_text), max_size=40))
def test_both_see_the_same_layout(parts: list[str]) -> None:
    assert_marked_alike("".join(parts))
    assert_marked_alike("\n".join(parts))


@needs_compiled
@pytest.mark.parametrize("between", ["", "\n", "\n\n", "\n- ", " "])
def test_both_see_the_same_layout_at_every_edge(between: str) -> None:
    for first in PASSAGES + BEGINNINGS:
        for second in PASSAGES:
            assert_marked_alike(f"{first}{between}{second}")
            assert_marked_alike(f"a question?\n{first}{between}{second}\n{'x ' * 400}\nanother?")


@needs_compiled
@pytest.mark.parametrize("size", [20, 599, 600, 601, 2999, 3000, 3001, 23_999, 24_000, 24_001, 36_001])
@pytest.mark.parametrize("part", ["a", "a\n", "Item 1 of a long list\n", "\n", " \n\n[1] x", "doc\n"])
def test_both_see_the_same_in_texts_of_any_size(part: str, size: int) -> None:
    for text in (part * size, f"why?\n{part * size}", f"[1]{part * size}"):
        assert_marked_alike(text[:size])
        assert_marked_alike(text[: size - 2] + "? ")


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
    zeros = NO_SHAPE[:]
    sums = table.sums("hello there")
    for other in (zeros[:-1], zeros + zeros[:1], array("f")):
        with pytest.raises(ValueError, match="number of features"):
            table.sums_of(["hello"], [], [], other)
        with pytest.raises(ValueError, match="number of features"):
            ARITHMETIC.module().shape("hello", other)
    for column, first, last in ((len(zeros) * 100, 0, 1), (-1, 0, 1), (0, 3, 3), (0, -1, 3), (0, 0, 99)):
        with pytest.raises(IndexError, match="column"):
            sums.telling(column, first, last, 3, 0.0)
    for columns in ((0, len(sums.scores)), (-1,), (sys.maxsize,)):
        with pytest.raises(IndexError, match="column"):
            sums.logits(columns, 1.0)
    assert sums.telling(0, 0, 9, 0, 0.0) == sums.telling(0, 0, 9, -1, 0.0) == ()
    with pytest.raises(IndexError, match="key"):
        table.key(weights.table.shape[0])
    with pytest.raises(IndexError, match="key"):
        table.key(-1)
    calls: tuple[Callable[[Any], object], ...] = (
        table.sums,
        lambda text: ARITHMETIC.module().shape(text, zeros),
    )
    for call in calls:
        with pytest.raises(ValueError, match="ASCII"):
            call("été")
        with pytest.raises(UnicodeEncodeError):
            call("\ud800")
        with pytest.raises(TypeError):
            call(b"bytes")
    with pytest.raises(TypeError):
        table.sums_of([1], [2], [], zeros)  # type: ignore[list-item]
    for names, logits in ((("a",), [1.0, 2.0]), (("a", "b"), [1.0, 2.0]), ((), []), (("a", "b"), [1.0])):
        with pytest.raises(ValueError, match="as many"):
            arithmetic.judge(compiled=True)(names, logits, bytes(8), 1.0, 0.0)
    assert not any(zeros)
    assert sums.scores == table.sums("hello there").scores


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
    assert not ARITHMETIC.is_compiled()
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
    assert not ARITHMETIC.is_compiled()
    with pytest.raises(ImportError, match="other sources"):
        key_table(weights, compiled=True)
