"""What a text looks like: marks at the heads of lines, however many lines there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify.shape import NAMES, shape
from llm_router.compiled import ARITHMETIC
from llm_router.learn.corpus import training_rows

ROOT = Path(__file__).parents[2]
needs_compiled = pytest.mark.skipif(not ARITHMETIC.is_compiled(), reason="this is in Python alone")

MANY = 150_000
"""Lines. Work that grows with their square would take the better part of an hour and fail by never ending."""


def seen(text: str, *, in_python: bool = False) -> set[str]:
    values = shape(text, in_python=in_python)
    return {name for name, value in zip(NAMES, values, strict=True) if value}


@pytest.mark.parametrize("in_python", [False, True])
@pytest.mark.parametrize("blank", ["\n", "\n ", " \n\t", "\r\n", "\n#", "\n> ", "\n-", "\n*\n", "\x1c\n"])
@pytest.mark.parametrize("first", ["a", "é"])
def test_many_empty_lines_are_read_once(blank: str, first: str, in_python: bool) -> None:
    found = seen(first + blank * MANY + "b", in_python=in_python)
    assert "at least 60 lines" in found
    assert not any("passages" in name for name in found)


@pytest.mark.parametrize("in_python", [False, True])
@pytest.mark.parametrize("first", ["a", "é"])
@pytest.mark.parametrize("between", ["\n", "\n\n \n", "\n\t\x0b", "\n\u2003", "\r\n"])
def test_line_heads_are_found_after_empty_lines(between: str, first: str, in_python: bool) -> None:
    assert "bullet points" in seen(f"{first}{between}- item", in_python=in_python)
    assert "multiple-choice options" in seen(f"{first}{between}(b) item", in_python=in_python)
    assert "multiple-choice options" not in seen(f"{first} b) {between}item", in_python=in_python)
    for head in ("[1]", "Document 2", "> ## passage B", "- * source\n(3"):
        found = seen(f"{first}{between}{head} and so on", in_python=in_python)
        assert "at least 1 numbered passages" in found, head
        assert "at least 2 numbered passages" not in found


def test_numbered_passages_are_counted() -> None:
    text = "\n> \n".join(f"## Document [{n}]: words" for n in range(8))
    assert "at least 8 numbered passages" in seen(text)
    assert "at least 8 numbered passages" not in seen(text.replace("[7]", "seven"))
    assert not any("passages" in name for name in seen("see document 1\nin document 2"))


SIZED = ("x" * 81, "y" * 231, "z" * 251)
WORDS = ("document", "doc", "Passage", "textA", "page", "words of a line", "a", "H", "i", *SIZED)
MARKS = ("[", "]", "(", "#", "3", "12", "1234", "> ", "- ", "?", "? ", "_", "\0", "é")
BLANKS = ("\n", "\n\n", "\n \n", " ", "\t", "\r\n", "\x1c", "\x0b")
LINES = ("1. an item of a list, in words\n", "22. another item, in words\n", "A7-3 begins like others\n")
parts = st.one_of(*map(st.sampled_from, (WORDS, MARKS, BLANKS, LINES)), st.text(max_size=6))


@needs_compiled
@given(st.lists(parts, max_size=24), st.sampled_from(["", "a long text. " * 60]))
def test_whatever_the_lines_both_see_the_same(some: list[str], before: str) -> None:
    text = f"{before}\n{''.join(some)}\n{before}"
    assert seen(text) == seen(text, in_python=True)


@needs_compiled
def test_all_texts_of_the_training_look_the_same_to_both() -> None:
    for row in training_rows(ROOT / "training"):
        assert shape(row.text) == shape(row.text, in_python=True), row.text


@needs_compiled
@pytest.mark.parametrize("line", ["x" * 20, "document 1", " " * 40 + "[7] x", "12345678901234567890", ""])
def test_of_a_long_text_both_look_at_the_same_lines(line: str) -> None:
    text = f"a question?\n{(line + chr(10)) * 6000}and one more?"
    assert seen(text) == seen(text, in_python=True)
