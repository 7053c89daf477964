"""The stages in order, each asked only where those before it were not sure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from llm_router.classify.base import Stage, Verdict
from llm_router.decision import Classification, Evidence, StageName, StageResult
from llm_router.fleet.fleet import Fleet
from llm_router.request import RouteRequest

Clock = Callable[[], float]

_NOTHING = Verdict()


class Cascade:
    """Asks ``stages`` in order until one is at least ``sure_from`` confident; ``clock_s`` times them.

    What none of them can tell becomes the safe default for the evidence at hand: the fleet's default
    category where that is possible, else the first category that is (never a text category for an image).
    """

    def __init__(self, fleet: Fleet, stages: Sequence[Stage], *, sure_from: float, clock_s: Clock) -> None:
        self._fleet = fleet
        self._categories = frozenset(fleet.categories)
        self._stages = tuple(stages)
        self._sure_from = sure_from
        self._clock_s = clock_s
        self._prepared = False

    async def classify(self, request: RouteRequest) -> Classification:
        if not self._prepared:
            await asyncio.to_thread(self._prepare)  # reading weights would stop every other stream
        begun_s = now_s = self._clock_s()
        allowed = self._categories
        bound: tuple[Evidence, ...] = ()
        best = _NOTHING
        decided_by: StageName = "default"
        trail: list[StageResult] = []
        for stage in self._stages:
            verdict = await stage.classify(request, allowed, best.probabilities)
            before_s, now_s = now_s, self._clock_s()
            trail.append(_result(stage.name, verdict, (now_s - before_s) * 1000))
            if verdict.allowed:
                allowed &= verdict.allowed
            if verdict.probabilities:
                best, decided_by = verdict, stage.name
                if verdict.confidence >= self._sure_from:
                    break
            elif verdict.allowed:
                bound += verdict.evidence
        if best.category is None:
            best = self._default(request, allowed)
        return Classification(
            category=best.category or self._fleet.default_category,
            confidence=best.confidence,
            stage=decided_by,
            probabilities=best.probabilities,
            evidence=bound + best.evidence,
            elapsed_ms=(now_s - begun_s) * 1000,
            trail=tuple(trail),
        )

    def _prepare(self) -> None:
        for stage in self._stages:
            stage.prepare()
        self._prepared = True

    def _default(self, request: RouteRequest, allowed: frozenset[str]) -> Verdict:
        if request.images:  # of an earlier turn, or the rules would have bound it: it may still be meant
            allowed = allowed.intersection(self._fleet.categories_needing.get("vision", ())) or allowed
        usual = self._fleet.default_category
        category = usual if usual in allowed else next(n for n in self._fleet.categories if n in allowed)
        share = 1 / len(allowed)
        probabilities = dict.fromkeys(sorted(allowed), share)
        probabilities[category] += 1e-9
        return Verdict(probabilities=probabilities, evidence=(Evidence("default", "no stage could tell"),))


def _result(name: StageName, verdict: Verdict, elapsed_ms: float) -> StageResult:
    return StageResult(
        name,
        verdict.category,
        verdict.confidence,
        elapsed_ms,
        verdict.evidence,
        verdict.note,
        verdict.broken,
    )
