"""Speeds that are learned: they come to what was measured, and no single sample carries them away."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.hosts.speeds import (
    NOT_MEASURED,
    PRIOR_WEIGHT,
    WINDOW,
    Evidence,
    Measured,
    ModelSpeeds,
    SpeedBook,
    measured,
)

RATES = st.floats(0.01, 1e5)
ABSURD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, -1.0, 1e-300, 1e300, math.inf])
)


def evidence(*samples: float) -> Evidence:
    found = Evidence()
    for sample in samples:
        found = found.with_sample(sample)
    return found


@given(RATES, RATES, st.sampled_from([0.25, 0.5]))
def test_it_comes_to_the_truth_from_any_prior(prior: float, truth: float, quantile: float) -> None:
    known = Evidence()
    left = abs(math.log(prior / truth))
    for count in range(1, 200):
        known = known.with_sample(truth)
        off = abs(math.log(known.blended(prior, quantile=quantile) / truth))
        assert off <= left + 1e-9  # every sample brings it nearer
        left = off
        if count > 3 * PRIOR_WEIGHT:  # from here on the middle is the truth
            assert off == pytest.approx(
                abs(math.log(prior / truth)) * PRIOR_WEIGHT / (PRIOR_WEIGHT + count), abs=1e-6
            )


@given(RATES, st.lists(RATES, max_size=40), ABSURD, st.integers(0, 40), st.sampled_from([0.25, 0.5]))
def test_one_absurd_sample_moves_it_boundedly(
    prior: float, samples: list[float], absurd: float, place: int, quantile: float
) -> None:
    known = evidence(*samples[:place], absurd, *samples[place:])
    lowest, highest = min(prior, *samples, prior), max(prior, *samples, prior)
    found = known.blended(prior, quantile=quantile)
    assert lowest / 1.5 * (1 - 1e-9) <= found <= highest * 1.5 * (1 + 1e-9)


@given(RATES, st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_whatever_comes_it_is_a_positive_number(prior: float, samples: list[float]) -> None:
    for quantile in (0.25, 0.5):
        found = evidence(*samples).blended(prior, quantile=quantile)
        assert found > 0 and math.isfinite(found)


@given(RATES, st.lists(RATES, max_size=WINDOW).flatmap(lambda s: st.tuples(st.just(s), st.permutations(s))))
def test_the_order_of_the_samples_is_nothing_to_it(
    prior: float, both: tuple[list[float], list[float]]
) -> None:
    one, other = both
    assert evidence(*one).blended(prior) == pytest.approx(evidence(*other).blended(prior))


@given(RATES, st.lists(RATES, min_size=1, max_size=10), st.floats(1.0, 5.0))
def test_faster_samples_never_make_it_slower(prior: float, samples: list[float], factor: float) -> None:
    faster = evidence(*(sample * factor for sample in samples))
    assert faster.blended(prior) >= evidence(*samples).blended(prior) * (1 - 1e-9)


def test_without_samples_the_prior_counts_and_its_share_fades() -> None:
    assert Evidence().blended(40.0) == 40.0
    assert evidence(*[10.0] * 8).blended(40.0) == pytest.approx(10 * 4 ** (2 / 10))


def test_a_host_that_became_slower_is_believed() -> None:
    known = evidence(*[40.0] * 100, *[10.0] * WINDOW)
    assert known.blended(40.0) == pytest.approx(10.0, rel=0.05)


def test_prompts_whose_beginning_was_cached_do_not_count_as_fast_reading() -> None:
    samples = [300.0, 9_000.0, 310.0, 12_000.0, 8_000.0, 290.0] * 4
    speeds = ModelSpeeds()
    for sample in samples:
        speeds = speeds.with_samples(Measured(prefill_tokens_per_s=sample))
    assert 250 < speeds.prefill_from(350.0) < 500
    assert speeds.decode_from(4.0) == 4.0  # nothing was said of it


@pytest.mark.parametrize(
    "told",
    [
        {"output_tokens": 15, "decode_s": 1.0},
        {"output_tokens": 100, "decode_s": 0.0},
        {"output_tokens": 100, "decode_s": 0.01},
        {"output_tokens": 100, "decode_s": None},
        {"output_tokens": None, "decode_s": 1.0},
        {"output_tokens": 100, "decode_s": math.inf},
        {"output_tokens": 100, "decode_s": math.nan},
        {"prompt_tokens": 127, "prefill_s": 1.0},
        {"prompt_tokens": 1000, "prefill_s": 0.001},
        {"prompt_tokens": 1000, "prefill_s": 1.0, "cached": True},
    ],
)
def test_tiny_answers_short_prompts_and_no_time_tell_nothing(told: dict[str, float]) -> None:
    nothing = {"prompt_tokens": None, "prefill_s": None, "output_tokens": None, "decode_s": None}
    assert measured(**(nothing | told)) == NOT_MEASURED  # type: ignore[arg-type]


def test_an_answer_tells_how_fast_it_was_read_and_written() -> None:
    found = measured(prompt_tokens=1000, prefill_s=2.0, output_tokens=100, decode_s=4.0)
    assert found == Measured(prefill_tokens_per_s=500.0, decode_tokens_per_s=25.0)


def test_the_book_tells_the_same_until_it_matters() -> None:
    book = SpeedBook()
    assert book.of("box") == {} and book.changes == 0
    book.note("box", "phi4:latest", NOT_MEASURED)
    assert book.changes == 0
    seen = []
    for _ in range(60):
        book.note("box", "phi4:latest", Measured(decode_tokens_per_s=20.0))
        seen.append(book.of("box"))
    assert seen[0]["phi4:latest"].decode_tokens_per_s.count == 1
    assert book.changes == len({id(told) for told in seen}) < 12
    before = book.changes
    for _ in range(WINDOW):
        book.note("box", "phi4:latest", Measured(decode_tokens_per_s=10.0))
    assert book.changes > before
    assert book.of("box")["phi4:latest"].decode_from(20.0) == pytest.approx(10.0, rel=0.08)
    assert book.of("other") == {}
