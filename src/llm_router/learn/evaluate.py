"""Runs a router over labelled cases and collects everything that an evaluation says.

The router is the one that every front uses, so what is measured is what users get. First it answers alone,
without Mission Control and without touching a host; then, where that is wanted, the cases it is unsure of
are put to Mission Control, and both answers are kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llm_router.config import Settings
from llm_router.decision import Classification
from llm_router.fleet import Fleet
from llm_router.learn.baselines import Labelled, baselines, measured
from llm_router.learn.cases import Case
from llm_router.learn.figures import Asked, BaselineFigures, CaseResult, Latency, Report
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
from llm_router.providers.base import Provider
from llm_router.router import Router
from llm_router.version import __version__

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and how many there are."""

MISSION_CONTROL = "mission_control"
GIVE_UP_AFTER = 5
"""Cases in a row without an answer after which Mission Control counts as out of reach."""

_NEVER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AskedAnswer:
    """What the whole cascade answered to a case that was put to Mission Control."""

    answer: Answer
    reached: bool
    note: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Cases with the answers that were given to them, before any figure is made of it."""

    cases: tuple[Case, ...]
    alone: tuple[Answer, ...]
    asked: Mapping[str, AskedAnswer]
    asked_below: float
    warnings: tuple[str, ...]


async def evaluate(
    fleet: Fleet,
    settings: Settings,
    cases: Sequence[Case],
    *,
    ask_with: Sequence[Provider] | None = None,
    asked_below: float = 0.0,
    progress: Progress = lambda _doing, _done, _total: None,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Evaluation:
    """Answers every case alone, and those less confident than ``asked_below`` through ``ask_with`` as well.

    Without ``ask_with`` no host is touched. Where Mission Control gives no answer ``GIVE_UP_AFTER`` times in
    a row, nothing counts as asked and a warning says why.
    """
    warnings: list[str] = []
    alone: list[Answer] = []
    async with Router(fleet, settings=_without_hosts(settings), providers=(), clock_s=clock_s) as router:
        await router.classify("What's 2+2?")  # weights are read at the first task; no case should pay for it
        notes: Counter[str] = Counter()
        for number, case in enumerate(cases, start=1):
            answer, found = await _classified(router, case, fleet, clock_s)
            alone.append(answer)
            if found.stage == "default":
                notes[_last_note(found)] += 1
            progress("classifying", number, len(cases))
        warnings += (f"cases that got the default category: {n:,}; {note}" for note, n in notes.items())
    asked: dict[str, AskedAnswer] = {}
    if ask_with is not None:
        unsure = [c for c, a in zip(cases, alone, strict=True) if (a.confidence or 0.0) < asked_below]
        asking = _asking(settings, asked_below)
        async with Router(fleet, settings=asking, providers=ask_with, clock_s=clock_s) as router:
            asked, problem = await _ask(router, unsure, fleet, progress, clock_s)
        if problem:
            warnings.append(f"Mission Control was not asked: {problem}")
    return Evaluation(tuple(cases), tuple(alone), asked, asked_below if asked else 0.0, tuple(warnings))


async def _ask(
    router: Router, cases: Sequence[Case], fleet: Fleet, progress: Progress, clock_s: Callable[[], float]
) -> tuple[dict[str, AskedAnswer], str]:
    """Answers by case id; none, and the reason, where Mission Control is out of reach."""
    asked: dict[str, AskedAnswer] = {}
    silent = 0
    for number, case in enumerate(cases, start=1):
        answer, found = await _classified(router, case, fleet, clock_s)
        stage = next((s for s in found.trail if s.stage == MISSION_CONTROL), None)
        reached = stage is not None and stage.category is not None
        note = stage.note if stage is not None else "the cascade has no such stage"
        asked[case.id] = AskedAnswer(answer, reached, note)
        silent = 0 if reached else silent + 1
        if silent >= min(GIVE_UP_AFTER, len(cases)):
            return {}, f"{note} ({silent} cases in a row)"
        progress("asking Mission Control", number, len(cases))
    return asked, ""


async def _classified(
    router: Router, case: Case, fleet: Fleet, clock_s: Callable[[], float]
) -> tuple[Answer, Classification]:
    request = case.request()
    begun_s = clock_s()
    found = await router.classify(request)
    elapsed_ms = (clock_s() - begun_s) * 1000
    possible = tuple(name for name in fleet.categories if found.probabilities.get(name, 0.0) > 0.0)
    return Answer(found.category, found.confidence, found.stage, elapsed_ms, possible), found


def _last_note(found: Classification) -> str:
    return next((stage.note for stage in reversed(found.trail) if stage.note), "no stage could tell")


def _without_hosts(settings: Settings) -> Settings:
    return _with_mission_control(settings, settings.classify.ask_below, enabled=False)


def _asking(settings: Settings, asked_below: float) -> Settings:
    """No rest after failures: an evaluation asks as much in a minute as users do in a day."""
    return _with_mission_control(settings, asked_below, enabled=True)


def _with_mission_control(settings: Settings, ask_below: float, *, enabled: bool) -> Settings:
    replaced = msgspec.structs.replace
    control = replaced(settings.classify.mission_control, enabled=enabled, failures_until_rest=_NEVER)
    classify = replaced(settings.classify, ask_below=ask_below, mission_control=control)
    return replaced(settings, classify=classify)


def report(
    evaluation: Evaluation,
    fleet: Fleet,
    *,
    name: str,
    ask_below: float,
    baseline_figures: Sequence[BaselineFigures] = (),
    warnings: Sequence[str] = (),
) -> Report:
    """All figures. ``ask_below`` is the confidence below which the router asks Mission Control."""
    cases, asked = evaluation.cases, evaluation.asked
    alone = judged(cases, evaluation.alone)
    final = judged(cases, [_final(one, asked, ask_below) for one in alone])
    order = tuple(fleet.categories)
    categories = per_category(final, order)
    return Report(
        version=__version__,
        cases=name,
        fleet=fleet.name,
        categories=order,
        ask_below=ask_below,
        figures=figures(final),
        worst_category=min(categories, key=lambda row: row.accept, default=None),
        per_category=categories,
        languages=slices(final, lambda case: case.lang),
        groups=slices(final, lambda case: case.group),
        sources=slices(final, lambda case: case.source),
        pairs=pairs(final, korean_category(fleet)),
        reliability=reliability(final),
        confusion=confusion(final),
        stages=stages(final),
        latency=latency([a.elapsed_ms for a in evaluation.alone]) or Latency(p50_ms=0, p90_ms=0, p99_ms=0),
        risk_coverage=risk_coverage(final),
        curve=llm_curve(
            alone,
            {case_id: one.answer for case_id, one in asked.items()},
            asked_below=evaluation.asked_below,
            ask_below=ask_below,
        ),
        curve_note=_curve_note(evaluation),
        ask=_asked_figures(alone, evaluation),
        baselines=tuple(baseline_figures),
        warnings=(*_unknown(cases, fleet), *evaluation.warnings, *warnings),
        results=tuple(_result(one, before, asked) for one, before in zip(final, alone, strict=True)),
    )


def compared_baselines(
    evaluation: Evaluation,
    fleet: Fleet,
    texts: Sequence[Labelled],
    *,
    progress: Callable[[str], None] = lambda _: None,
    clock_s: Callable[[], float] = time.perf_counter,
) -> tuple[BaselineFigures, ...]:
    """Every baseline on the same cases, behind the same hard evidence."""
    found = []
    for baseline in baselines(fleet, texts):
        progress(baseline.name)
        found.append(measured(baseline, fleet, evaluation.cases, evaluation.alone, clock_s))
    return tuple(found)


def korean_category(fleet: Fleet) -> str | None:
    """The fleet's category for Korean, if it has one."""
    return next((n for n, category in fleet.categories.items() if category.requires.language == "ko"), None)


def seen_before(cases: Sequence[Case], texts: Sequence[Labelled], folder: Path | None) -> str:
    """A warning where cases stand in what is learnt from; empty where none does."""
    known = {one.text.strip() for one in texts}
    count = sum(case.task.strip() in known for case in cases)
    if not count:
        return ""
    where = f"{folder} or the fleet's examples" if folder is not None else "the fleet's examples"
    return f"{count:,} of {len(cases):,} cases stand word for word in {where}: on them figures say little"


def _final(one: Judged, asked: Mapping[str, AskedAnswer], ask_below: float) -> Answer:
    if (one.answer.confidence or 0.0) < ask_below and one.case.id in asked:
        return asked[one.case.id].answer
    return one.answer


def _result(one: Judged, alone: Judged, asked: Mapping[str, AskedAnswer]) -> CaseResult:
    put = asked.get(one.case.id)
    return CaseResult(
        id=one.case.id,
        line=one.case.line,
        accept=one.case.accept,
        category=one.answer.category,
        confidence=round(one.answer.confidence or 0.0, 4),
        stage=one.answer.stage,
        accepted=one.accepted,
        original=one.case.is_original,
        elapsed_ms=round(one.answer.elapsed_ms, 4),
        alone=alone.answer.category,
        alone_confidence=round(alone.answer.confidence or 0.0, 4),
        asked=put.answer.category if put else None,
        asked_note=put.note if put else "",
    )


def _asked_figures(alone: Sequence[Judged], evaluation: Evaluation) -> Asked | None:
    asked = evaluation.asked
    if not asked:
        return None
    put = [one for one in alone if one.case.is_original and one.case.id in asked]
    now = [asked[one.case.id].answer.category in one.case.accept for one in put]
    before = [one.accepted for one in put]
    return Asked(
        below=evaluation.asked_below,
        asked=len(put),
        answered=sum(asked[one.case.id].reached for one in put),
        accept_alone=round(sum(before) / len(put), 4) if put else None,
        accept_asked=round(sum(now) / len(put), 4) if put else None,
        mended=sum(n and not b for n, b in zip(now, before, strict=True)),
        spoilt=sum(b and not n for n, b in zip(now, before, strict=True)),
        latency=latency([one.answer.elapsed_ms for one in asked.values() if one.reached]),
    )


def _curve_note(evaluation: Evaluation) -> str:
    bounds = "bounds only: the encoder alone, and an oracle that is right about every case it is asked"
    if not evaluation.asked:
        return f"Mission Control was not asked: {bounds}"
    if evaluation.asked_below >= 1.0:
        return "measured: every unsure case was put to Mission Control"
    return f"measured up to the threshold {evaluation.asked_below:g}, above it {bounds}"


def _unknown(cases: Sequence[Case], fleet: Fleet) -> tuple[str, ...]:
    lost = [case for case in cases if not any(name in fleet.categories for name in case.accept)]
    if not lost:
        return ()
    names = sorted({name for case in lost for name in case.accept})
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return (f"cases that can only be wrong: {len(lost):,}; the fleet does not have {shown}",)
