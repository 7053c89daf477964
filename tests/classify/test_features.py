"""What is read of a text, however its characters are composed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify import features
from llm_router.classify.features import sample, split, tokens

MARKS = "\u0301\u0323\u0327\u0315\u3099\u0f71\u0f73\u0f75\uff9e\uff9f"


def composed(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


@given(
    st.lists(
        st.tuples(st.sampled_from("aéㅎ가カｶか😀…"), st.text(MARKS, max_size=4)).map("".join), max_size=40
    ).map("".join)
)
def test_a_few_marks_on_a_letter_are_read_as_they_are(text: str) -> None:
    assert composed(sample(text)) == composed(text)


@given(st.text(MARKS, min_size=150, max_size=400), st.sampled_from(["", "e", "か"]))
def test_of_many_marks_on_a_letter_some_are_read(marks: str, letter: str) -> None:
    found = unicodedata.normalize("NFKD", sample(letter + marks + "e" + marks))
    run = most = 0
    for char in found:
        run = run + 1 if unicodedata.combining(char) else 0
        most = max(most, run)
    assert 10 <= most <= 20  # some are two in one


def test_signs_that_are_no_marks_stay_whole() -> None:
    for text in ("😀" * 300, "—" * 300, "。" * 300, "é" * 300):
        assert sample(text) == text


@pytest.mark.parametrize("text", ["…", "½", "㎉", "ﷺ", "한글 ㎏", "ﬃ" * 3])
def test_characters_that_stand_for_several_are_read_as_these(text: str) -> None:
    assert tokens(text) == tokens(composed(text))


def test_a_text_of_characters_that_stand_for_many_is_read_as_far_as_twice_its_length() -> None:
    text = "ﷺ" * features.MAX_CHARS
    parts = split(text)
    assert len(parts.head) > 100
    assert sum(len(token) for part in parts for token in part) <= 2 * len(text) + 3 * 18
