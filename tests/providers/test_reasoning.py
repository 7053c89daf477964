"""Reasoning and answer come apart the same way however the text is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.fleet.schema import ReasoningMarkers
from llm_router.providers.reasoning import THINK_TAGS, ReasoningSplitter

APRIEL = ReasoningMarkers(answer_start="[BEGIN FINAL RESPONSE]", answer_end="[END FINAL RESPONSE]")


def split(pieces: list[str], markers: ReasoningMarkers = THINK_TAGS) -> tuple[str, str]:
    splitter = ReasoningSplitter(markers)
    fed = [splitter.feed(piece) for piece in pieces] + [splitter.finish()]
    return "".join(thinking for thinking, _ in fed), "".join(answer for _, answer in fed)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>two and two</think>four", "two and two", "four"),
        ("\n <think>hm</think>\n\nfour", "hm", "four"),
        ("<think></think>four", "", "four"),
        ("four", "", "four"),
        ("  four", "", "  four"),
        ("", "", ""),
        ("   ", "", "   "),
        ("I write <think>tags</think> about", "", "I write <think>tags</think> about"),
        ("<think>never ends", "never ends", ""),
        ("<think>never ends</thi", "never ends</thi", ""),
        ("<thi", "", "<thi"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
    ],
)
def test_think_tags_at_the_beginning_hold_the_reasoning(text: str, thinking: str, answer: str) -> None:
    assert split([text]) == (thinking, answer)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("steps\n[BEGIN FINAL RESPONSE]\nfour\n[END FINAL RESPONSE]\n<|end|>", "steps\n", "four\n"),
        ("steps [BEGIN FINAL RESPONSE] four", "steps ", "four"),
        ("steps [BEGIN FINAL RESPONSE] four [END", "steps ", "four [END"),
    ],
)
def test_markers_without_a_beginning_make_all_before_the_answer_reasoning(
    text: str, thinking: str, answer: str
) -> None:
    assert split([text], APRIEL) == (thinking, answer)


def test_what_is_certain_is_given_at_once() -> None:
    splitter = ReasoningSplitter()
    assert splitter.feed("<think>a") == ("a", "")
    assert splitter.feed("b</th") == ("b", "")
    assert splitter.feed("ink> c") == ("", "c")
    assert splitter.feed(" d") == ("", " d")
    assert splitter.finish() == ("", "")


fragments = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<th",
            "ink>",
            "[BEGIN FINAL RESPONSE]",
            "[END FINAL RESPONSE]",
            "[BEGIN",
            " ",
            "\n",
        ]
    )
    | st.text(max_size=4),
    max_size=8,
)


@given(fragments, st.lists(st.integers(0, 80), max_size=12), st.sampled_from([THINK_TAGS, APRIEL]))
def test_any_cutting_gives_the_same_split(
    parts: list[str], cuts: list[int], markers: ReasoningMarkers
) -> None:
    text = "".join(parts)
    at = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(at)]
    assert split(pieces, markers) == split([text], markers) == split(list(text), markers)


@given(fragments)
def test_nothing_but_markers_and_white_space_gets_lost(parts: list[str]) -> None:
    text = "".join(parts)
    thinking, answer = split([text])
    assert len(thinking) + len(answer) >= len(text) - len("<think></think>") - sum(c.isspace() for c in text)
