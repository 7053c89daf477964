"""Figures out of cases and answers. Pure: values in, values out.

Variants only count in ``same``; everything else is over the original cases, so that a case with many
variants weighs no more than any other. The macro mean is taken over the rounded figures of the categories,
which are the ones a reader sees.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llm_router.learn.cases import Case
from llm_router.learn.figures import (
    Bin,
    CategoryFigures,
    Confusion,
    Coverage,
    CurvePoint,
    Figures,
    Latency,
    PairFigures,
    SliceFigures,
    StageFigures,
)

BINS: Final = 15
_DIGITS = 4
_COVERAGE_STEPS = 20
_THRESHOLD_STEPS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a case. ``confidence`` is None for a classifier that has none."""

    category: str
    confidence: float | None = None
    stage: str = ""
    elapsed_ms: float = 0.0
    possible: tuple[str, ...] = ()
    """Categories that the hard evidence left over, in the fleet's order; empty where nobody knows."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A case and its answer."""

    case: Case
    answer: Answer

    @property
    def accepted(self) -> bool:
        return self.answer.category in self.case.accept

    @property
    def exact(self) -> bool:
        return self.answer.category == self.case.primary


def judged(cases: Iterable[Case], answers: Iterable[Answer]) -> tuple[Judged, ...]:
    """Raises ValueError where there are not as many answers as cases."""
    return tuple(Judged(case, answer) for case, answer in zip(cases, answers, strict=True))


def figures(everything: Sequence[Judged]) -> Figures:
    """The headline of one way of answering."""
    originals = _originals(everything)
    plain = [j for j in originals if j.case.is_text_only]
    return Figures(
        n=len(originals),
        accept=_macro(originals),
        accept_micro=_share(j.accepted for j in originals),
        primary=_share(j.exact for j in originals),
        text_only=_share(j.accepted for j in plain),
        same=_same(everything),
        ece=_ece(reliability(everything)),
    )


def per_category(everything: Sequence[Judged], order: Sequence[str]) -> tuple[CategoryFigures, ...]:
    """One row per category that has cases, in ``order``, unknown ones behind."""
    originals = _originals(everything)
    answered = Counter(j.answer.category for j in originals)
    good = Counter(j.answer.category for j in originals if j.accepted)
    rows = []
    for name, own in _grouped(originals, lambda j: j.case.primary, order).items():
        rows.append(
            CategoryFigures(
                category=name,
                n=len(own),
                accept=_rounded(_mean(j.accepted for j in own)),
                recall=_rounded(_mean(j.exact for j in own)),
                answered=answered[name],
                precision=_rounded(good[name] / answered[name]) if answered[name] else None,
            )
        )
    return tuple(rows)


def slices(everything: Sequence[Judged], key: Callable[[Case], str]) -> tuple[SliceFigures, ...]:
    """The originals by what ``key`` says of a case, sorted by name; cases without it are left out."""
    found = _grouped([j for j in _originals(everything) if key(j.case)], lambda j: key(j.case), ())
    return tuple(
        SliceFigures(
            name=name,
            n=len(own),
            accept=_rounded(_mean(j.accepted for j in own)),
            primary=_rounded(_mean(j.exact for j in own)),
        )
        for name, own in sorted(found.items())
    )


def pairs(everything: Sequence[Judged], korean: str | None) -> PairFigures | None:
    """Both languages of one request; an answer with the category for Korean counts as alike."""
    sides: dict[str, dict[str, Judged]] = defaultdict(dict)
    for one in everything:
        if one.case.pair:
            sides[one.case.pair][one.case.lang] = one
    both = [(side["en"], side["ko"]) for side in sides.values() if len(side) == 2]
    if not both:
        return None
    identical = [en.answer.category == ko.answer.category for en, ko in both]
    to_korean = [korean is not None and ko.answer.category == korean for _, ko in both]
    return PairFigures(
        n=len(both),
        both_accepted=_rounded(_mean(en.accepted and ko.accepted for en, ko in both)),
        alike=_rounded(_mean(a or b for a, b in zip(identical, to_korean, strict=True))),
        identical=_rounded(_mean(identical)),
    )


def reliability(everything: Sequence[Judged]) -> tuple[Bin, ...]:
    """Confidence against accept in bins of equal width; empty bins are left out."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for one in _originals(everything):
        if one.answer.confidence is not None:
            place = min(int(one.answer.confidence * BINS), BINS - 1)
            bins[place].append((one.answer.confidence, one.accepted))
    return tuple(
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            n=len(inside),
            confidence=statistics.fmean(confidence for confidence, _ in inside),
            accept=_mean(ok for _, ok in inside),
        )
        for place, inside in sorted(bins.items())
    )


def confusion(everything: Sequence[Judged]) -> tuple[Confusion, ...]:
    """Counts of (best answer, given answer) that occur."""
    counts: Counter[tuple[str, str]] = Counter()
    fine: Counter[tuple[str, str]] = Counter()
    for one in _originals(everything):
        cell = (one.case.primary, one.answer.category)
        counts[cell] += 1
        fine[cell] += one.accepted
    return tuple(
        Confusion(expected=expected, answered=answered, n=n, accepted=fine[expected, answered])
        for (expected, answered), n in sorted(counts.items())
    )


def stages(everything: Sequence[Judged]) -> tuple[StageFigures, ...]:
    """Which stage decided how often, and how often an acceptable answer came of it."""
    originals = _originals(everything)
    found = _grouped(originals, lambda j: j.answer.stage, ("rules", "encoder", "mission_control", "default"))
    return tuple(
        StageFigures(
            stage=name,
            n=len(own),
            share=_rounded(len(own) / len(originals)),
            accept=_rounded(_mean(j.accepted for j in own)),
        )
        for name, own in found.items()
    )


def latency(values_ms: Sequence[float]) -> Latency | None:
    """Quantiles between the two nearest values; None without any."""
    if not values_ms:
        return None
    ordered = sorted(values_ms)
    p50, p90, p99 = (round(_quantile(ordered, share), 4) for share in (0.5, 0.9, 0.99))
    return Latency(p50_ms=p50, p90_ms=p90, p99_ms=p99)


def risk_coverage(everything: Sequence[Judged]) -> tuple[Coverage, ...]:
    """Accept among the most confident 5 %, 10 % … 100 % of the cases.

    Where the border falls among equally confident cases, each of them counts in part: their order in the
    file must not matter.
    """
    by_confidence: dict[float, list[bool]] = defaultdict(list)
    for one in _originals(everything):
        by_confidence[one.answer.confidence or 0.0].append(one.accepted)
    ranked = sorted(by_confidence.items(), reverse=True)
    total = sum(len(same) for _, same in ranked)
    if not total:
        return ()
    points = []
    for step in range(1, _COVERAGE_STEPS + 1):
        wanted = total * step / _COVERAGE_STEPS
        left, good = wanted, 0.0
        for _, same in ranked:
            taken = min(float(len(same)), left)
            good += _mean(same) * taken
            left -= taken
        points.append(Coverage(coverage=step / _COVERAGE_STEPS, accept=_rounded(good / wanted)))
    return tuple(points)


def llm_curve(
    everything: Sequence[Judged], asked: Mapping[str, Answer], *, asked_below: float, ask_below: float
) -> tuple[CurvePoint, ...]:
    """What each threshold would ask Mission Control, and what is known of the outcome.

    ``everything`` are the answers without Mission Control; ``asked`` are those with it, by case id, for every
    case less confident than ``asked_below``. A point above that has bounds only.
    """
    originals = _originals(everything)
    steps = {step / _THRESHOLD_STEPS for step in range(_THRESHOLD_STEPS + 1)}
    return tuple(
        _curve_point(originals, asked if threshold <= asked_below else {}, threshold)
        for threshold in sorted(steps | {ask_below, asked_below})
        if originals
    )


def _curve_point(originals: Sequence[Judged], asked: Mapping[str, Answer], threshold: float) -> CurvePoint:
    below = [j for j in originals if (j.answer.confidence or 0.0) < threshold]
    alone = sum(j.accepted for j in originals)
    alone_there = sum(j.accepted for j in below)
    known = bool(asked)
    there = sum((asked[j.case.id].category if known else "") in j.case.accept for j in below)
    total = len(originals)
    return CurvePoint(
        threshold=threshold,
        asked=len(below),
        share=_rounded(len(below) / total),
        alone_there=_rounded(alone_there / len(below)) if below else None,
        accept_alone=_rounded(alone / total),
        accept_oracle=_rounded((alone - alone_there + len(below)) / total),
        asked_there=_rounded(there / len(below)) if below and known else None,
        accept_measured=_rounded((alone - alone_there + there) / total) if known else None,
    )


def _originals(everything: Sequence[Judged]) -> list[Judged]:
    return [one for one in everything if one.case.is_original]


def _same(everything: Sequence[Judged]) -> float | None:
    answers = {one.case.id: one.answer.category for one in everything}
    variants = [one for one in everything if not one.case.is_original and one.case.variant_of in answers]
    return _share(one.answer.category == answers[one.case.variant_of] for one in variants)


def _macro(originals: Sequence[Judged]) -> float | None:
    per = _grouped(originals, lambda j: j.case.primary, ())
    rounded = [_rounded(_mean(j.accepted for j in own)) for own in per.values()]
    return _rounded(statistics.fmean(rounded)) if rounded else None


def _ece(bins: Sequence[Bin]) -> float | None:
    total = sum(one.n for one in bins)
    return _rounded(sum(b.n * abs(b.confidence - b.accept) for b in bins) / total) if total else None


def _grouped(
    items: Iterable[Judged], key: Callable[[Judged], str], order: Sequence[str]
) -> dict[str, list[Judged]]:
    """Items by key: those of ``order`` first, then the others by name. No group is empty."""
    found: dict[str, list[Judged]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    names = [name for name in order if name in found]
    return {name: found[name] for name in [*names, *sorted(found.keys() - set(names))]}


def _mean(values: Iterable[bool]) -> float:
    return statistics.fmean(values)


def _share(values: Iterable[bool]) -> float | None:
    listed = list(values)
    return _rounded(_mean(listed)) if listed else None


def _rounded(value: float) -> float:
    return round(value, _DIGITS)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
