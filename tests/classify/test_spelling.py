"""Slips of the finger are mended towards common words, and only these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify.spelling import Slips, one_slip

WORDS = ("translate", "function", "weather", "summarise", "there", "three")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("transalte", "translate"),
        ("functon", "function"),
        ("funcction", "function"),
        ("weathar", "weather"),
        ("summarize", "summarise"),
        ("thre", None),
        ("functions", "function"),
        ("fnucitno", None),
        ("", None),
    ],
)
def test_one_slip_is_mended_and_two_are_not(typed: str, meant: str | None) -> None:
    assert Slips(lambda: WORDS).meant(typed) == meant


def test_a_word_of_any_length_is_looked_up_at_once() -> None:
    """Here, trying every rest of it would never end; words next to the longest are mended as ever."""
    slips = Slips(lambda: WORDS)
    assert slips.meant("q" * 30_000_000) is None
    assert slips.meant("translatee") == "translate"
    assert slips.meant("summarisse") == "summarise"
    assert slips.meant("summarissse") is None
    assert Slips(lambda: ()).meant("weather") is None


def test_of_several_words_those_that_can_be_told_are() -> None:
    slips = Slips(lambda: WORDS)
    assert slips.meant_by(["theres", "xylophone", "there"]) == {"theres": "there"}
    assert slips.meant_by([]) == {}


def test_the_more_usual_word_wins() -> None:
    assert Slips(lambda: ("there", "three")).meant("thhere") == "there"
    assert Slips(lambda: ("horse", "house")).meant("houre") is not None


letters = st.text("abcdefghij", min_size=5, max_size=9)


@given(letters, st.data())
def test_every_single_slip_is_recognised(word: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(word) - 1))
    dropped = word[:place] + word[place + 1 :]
    doubled = word[:place] + "z" + word[place:]
    changed = word[:place] + "z" + word[place + 1 :]
    for typed in (dropped, doubled, changed):
        assert one_slip(typed, word) and one_slip(word, typed)
    if place + 1 < len(word) and word[place] != word[place + 1]:
        swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        assert one_slip(swapped, word)


@given(letters, letters)
def test_one_slip_is_symmetric_and_never_the_word_itself(left: str, right: str) -> None:
    assert one_slip(left, right) == one_slip(right, left)
    assert not one_slip(left, left)
