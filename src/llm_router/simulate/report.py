"""What a run comes to, in figures."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from llm_router.simulate.play import Outcome


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One way of choosing at one rate. Seconds are from a task's arrival to its last token (``ttft``: to its
    first). ``quality`` is the sum over all answers of the fleet's quality of who answered, for that category;
    ``gb_s`` the memory filled by models, summed over time, from the first second to the last answer."""

    policy: str
    rate_per_s: float
    requests: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    ttft_p95_s: float
    loads: int
    loaded_gb: float
    quality: float
    gb_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    runs: tuple[Run, ...]


def run_of(policy: str, rate_per_s: float, outcome: Outcome) -> Run:
    """The figures of an outcome, rounded to what can be read."""
    totals = sorted(answer.total_s for answer in outcome.answers)
    firsts = sorted(answer.first_s for answer in outcome.answers)
    return Run(
        policy=policy,
        rate_per_s=round(rate_per_s, 6),
        requests=len(outcome.answers),
        mean_s=round(outcome.mean_s, 3),
        p50_s=round(percentile(totals, 0.50), 3),
        p95_s=round(percentile(totals, 0.95), 3),
        p99_s=round(percentile(totals, 0.99), 3),
        ttft_p95_s=round(percentile(firsts, 0.95), 3),
        loads=outcome.loads,
        loaded_gb=round(outcome.loaded_gb, 1),
        quality=round(outcome.quality, 3),
        gb_s=round(outcome.gb_s, 1),
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """Between the two nearest values in proportion; 0 of nothing."""
    if not ascending:
        return 0.0
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (place - below) * (ascending[above] - ascending[below])
