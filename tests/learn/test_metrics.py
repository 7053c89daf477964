"""Figures against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.learn.conftest import WriteCases

from llm_router.learn.case_bodies import Said
from llm_router.learn.cases import Case, read_cases
from llm_router.learn.figures import Confusion
from llm_router.learn.metrics import (
    Answer,
    Judged,
    confusion,
    figures,
    judged,
    latency,
    llm_curve,
    pairs,
    per_category,
    reliability,
    risk_coverage,
    slices,
    stages,
)

LINES = (
    {"id": "a", "task": "a", "accept": ["x", "y"], "source": "one"},
    {"id": "b", "task": "b", "accept": ["x"], "source": "one", "lang": "ko"},
    {"id": "c", "task": "c", "accept": ["y", "x"], "source": "two"},
    {"id": "d", "task": "d", "accept": ["y"], "images": 1, "lang": "ko:form"},
    {"id": "e", "task": "A", "accept": ["x", "y"], "variant": "case", "variant_of": "a"},
    {"id": "f", "task": "bb", "accept": ["x"], "variant": "typo", "variant_of": "b"},
    {"id": "g", "task": "q", "accept": ["x"], "variant": "typo", "variant_of": "of another file"},
)
ANSWERS = (
    Answer("x", 0.9, "encoder", 1.0),  # right
    Answer("y", 0.5, "encoder", 2.0),  # wrong
    Answer("x", 0.7, "encoder", 3.0),  # acceptable, not the best
    Answer("y", 0.95, "rules", 4.0),  # right
    Answer("x", 0.2, "encoder", 5.0),  # the same as its original
    Answer("x", 0.2, "encoder", 6.0),  # right by itself, but not the same as its original
    Answer("z", 0.1, "default", 7.0),  # its original is not here: counts nowhere
)


@pytest.fixture
def everything(write_cases: WriteCases) -> tuple[Judged, ...]:
    return judged(read_cases(write_cases(*LINES)), ANSWERS)


def test_the_headline(everything: tuple[Judged, ...]) -> None:
    found = figures(everything)
    assert found.n == 4
    assert found.accept == 0.75  # x: 1 of 2, y: 2 of 2
    assert found.accept_micro == 0.75
    assert found.primary == 0.5
    assert found.text_only == 0.6667  # a and c of a, b, c; d has an image
    assert found.same == 0.5
    # four bins with one case each: gaps of 0.1, 0.5, 0.3 and 0.05
    assert found.ece == 0.2375


def test_one_row_per_category(everything: tuple[Judged, ...]) -> None:
    x, y = per_category(everything, ("y", "x"))[::-1]
    assert (x.category, x.n, x.accept, x.recall, x.answered, x.precision) == ("x", 2, 0.5, 0.5, 2, 1.0)
    assert (y.category, y.n, y.accept, y.recall, y.answered, y.precision) == ("y", 2, 1.0, 0.5, 2, 0.5)


def test_slices_leave_out_what_a_case_does_not_say(everything: tuple[Judged, ...]) -> None:
    one, two = slices(everything, lambda case: case.source)
    assert (one.name, one.n, one.accept, one.primary) == ("one", 2, 0.5, 0.5)
    assert (two.name, two.n, two.accept, two.primary) == ("two", 1, 1.0, 0.0)
    assert {row.name: row.n for row in slices(everything, lambda case: case.lang)} == {"en": 2, "ko": 2}


def test_the_bins(everything: tuple[Judged, ...]) -> None:
    bins = reliability(everything)
    assert [round(one.low * 15) for one in bins] == [7, 10, 13, 14]
    assert [(one.n, one.confidence, one.accept) for one in bins] == [
        (1, 0.5, 0.0),
        (1, 0.7, 1.0),
        (1, 0.9, 1.0),
        (1, 0.95, 1.0),
    ]


def test_the_confusions(everything: tuple[Judged, ...]) -> None:
    assert confusion(everything) == (
        Confusion(expected="x", answered="x", n=1, accepted=1),
        Confusion(expected="x", answered="y", n=1, accepted=0),
        Confusion(expected="y", answered="x", n=1, accepted=1),
        Confusion(expected="y", answered="y", n=1, accepted=1),
    )


def test_the_stages(everything: tuple[Judged, ...]) -> None:
    rules, encoder = stages(everything)
    assert (rules.stage, rules.n, rules.share, rules.accept) == ("rules", 1, 0.25, 1.0)
    assert (encoder.stage, encoder.n, encoder.share, encoder.accept) == ("encoder", 3, 0.75, 0.6667)


def test_the_most_confident_part(everything: tuple[Judged, ...]) -> None:
    found = {point.coverage: point.accept for point in risk_coverage(everything)}
    assert found[0.25] == found[0.75] == 1.0
    assert found[0.8] == 0.9375  # three right, and a fifth of the wrong one: 3 of 3.2
    assert found[1.0] == 0.75


def test_equally_confident_cases_count_in_part(write_cases: WriteCases) -> None:
    cases = read_cases(write_cases(*LINES[:2]))
    for answers in (("x", "y"), ("y", "x")):
        tied = judged(cases, [Answer(answer, 0.8) for answer in answers])
        right = sum(one.accepted for one in tied) / 2
        assert {point.accept for point in risk_coverage(tied)} == {right}


def test_what_a_threshold_would_ask(everything: tuple[Judged, ...]) -> None:
    asked = {"b": Answer("x"), "c": Answer("z")}
    points = llm_curve(everything, asked, asked_below=0.75, ask_below=0.6)
    found = {point.threshold: point for point in points}
    assert {0.6, 0.75} < set(found)
    low, here, above = found[0.5], found[0.75], found[1.0]
    assert (low.asked, low.accept_measured, low.alone_there) == (0, 0.75, None)
    assert (here.asked, here.share, here.alone_there, here.asked_there) == (2, 0.5, 0.5, 0.5)
    assert (here.accept_alone, here.accept_measured, here.accept_oracle) == (0.75, 0.75, 1.0)
    assert found[0.6].accept_measured == 1.0  # only b was asked, and mended
    assert (above.asked, above.accept_measured, above.asked_there) == (4, None, None)


def test_nothing_is_measured_where_nobody_was_asked(everything: tuple[Judged, ...]) -> None:
    points = llm_curve(everything, {}, asked_below=0.0, ask_below=0.6)
    assert {point.accept_measured for point in points} == {None}


def test_two_languages(write_cases: WriteCases) -> None:
    pair = {"en": "thanks", "ko": "고마워", "category": "x"}
    cases = read_cases(write_cases(*({"id": name, **pair} for name in "abc")), korean="k")
    answers = ("x", "k", "x", "x", "x", "y")  # own category, the same, another one
    found = pairs(judged(cases, [Answer(answer) for answer in answers]), "k")
    assert found is not None
    assert (found.n, found.both_accepted, found.alike, found.identical) == (3, 0.6667, 0.6667, 0.3333)
    assert pairs((), "k") is None


def test_quantiles_lie_between_the_nearest_values() -> None:
    found = latency([float(value) for value in range(101)])
    assert found is not None
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (50.0, 90.0, 99.0)
    assert latency([]) is None


def test_no_case_gives_no_figure() -> None:
    found = figures(())
    assert (found.n, found.accept, found.same, found.ece) == (0, None, None, None)


@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz"), st.floats(0, 1)), min_size=1, max_size=40
    )
)
def test_figures_stay_within_their_bounds(told: list[tuple[str, str, float]]) -> None:
    cases = [Case(str(n), n, (Said("user", "t"),), (best,)) for n, (best, _, _) in enumerate(told)]
    everything = judged(cases, [Answer(answer, confidence) for _, answer, confidence in told])
    found = figures(everything)
    values = (found.accept, found.accept_micro, found.primary, found.text_only, found.ece)
    assert all(value is not None and 0 <= value <= 1 for value in values)
    assert found.accept_micro == found.primary  # one category each: acceptable is exact
    for point in llm_curve(everything, {}, asked_below=0.0, ask_below=0.5):
        assert point.accept_alone <= point.accept_oracle <= 1
    assert risk_coverage(everything)[-1].accept == found.accept_micro
