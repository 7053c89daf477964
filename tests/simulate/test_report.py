"""Figures and their picture."""

from __future__ import annotations

import re

import msgspec
import pytest

from llm_router.drawing import to_svg
from llm_router.simulate.charts import chart
from llm_router.simulate.play import Answer, Outcome
from llm_router.simulate.report import Report, Run, percentile, run_of
from llm_router.simulate.traces import Task

TASK = Task(at_s=0, category="x", prompt_tokens=1, output_tokens=1)


def outcome(*totals_s: float) -> Outcome:
    return Outcome(tuple(Answer(TASK, "m", 0.5, total / 2, total) for total in totals_s), 3, 41.0, 1234.56)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (0.95, 3.85), (1.0, 4.0)])
def test_a_percentile_lies_between_its_neighbours(share: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == pytest.approx(value)


def test_a_percentile_of_one_value_and_of_none() -> None:
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) == 0.0


def test_the_figures_of_a_run() -> None:
    run = run_of("mine", 0.01, outcome(4.0, 2.0, 6.0))
    assert msgspec.json.decode(msgspec.json.encode(Report(runs=(run,)))) == {
        "runs": [
            {
                "policy": "mine",
                "rate_per_s": 0.01,
                "requests": 3,
                "mean_s": 4.0,
                "p50_s": 4.0,
                "p95_s": 5.8,
                "p99_s": 5.96,
                "ttft_p95_s": 2.9,
                "loads": 3,
                "loaded_gb": 41.0,
                "quality": 1.5,
                "gb_s": 1234.6,
            }
        ]
    }


def runs(*rates: float) -> list[Run]:
    found = []
    for rate in rates:
        found += [run_of("slow", rate, outcome(1000 * rate)), run_of("fast", rate, outcome(10 * rate))]
    return found


def test_the_picture_has_a_line_for_each_policy_in_both_charts() -> None:
    svg = to_svg(chart(runs(0.01, 0.02, 0.03), "a day"))
    assert len(re.findall(r"<title>(?:slow|fast), ", svg)) == 4
    assert "slow, mean latency, s (logarithmic): 0.01/s: 10.0, 0.02/s: 20.0, 0.03/s: 30.0" in svg


@pytest.mark.parametrize("rates", [(0.01,), (0.0001, 1000.0)])
def test_the_picture_stays_on_its_sheet(rates: tuple[float, ...]) -> None:
    sheet = chart(runs(*rates), "a day")
    for group in sheet.groups:
        for shape in group.shapes:
            points = getattr(shape, "points", None) or ((shape.x, shape.y),)  # type: ignore[union-attr]
            assert all(0 <= x <= sheet.width and 0 <= y <= sheet.height for x, y in points)


def test_nothing_waited_for_has_a_place_too() -> None:
    assert "<svg" in to_svg(chart([run_of("none", 0.01, outcome(0.0))], "a day"))
