"""Sentences for a decision, built only from what was recorded while deciding. No model writes them."""

from __future__ import annotations

from collections.abc import Sequence

from llm_router.decision import Candidate, Classification, Ranking, Rejection
from llm_router.request import RELOADING_OPTIONS, RouteRequest

_STAGES = {
    "explicit": "asked for",
    "rules": "decided by rules",
    "encoder": "decided by the encoder",
    "mission_control": "decided by Mission Control",
    "default": "nothing was sure, the safe default",
}


def of_category(classification: Classification) -> str:
    """Why this kind of task: the first of the reasons."""
    stage = _STAGES[classification.stage]
    because = "; ".join([evidence.text for evidence in classification.evidence[:2]])
    return f"{classification.category}, {stage}" + (f": {because}" if because else "")


def of_selected(selected: str, category: str, *, named: bool) -> str:
    """Why this model was meant; ``named`` says that the caller asked for it."""
    return (
        f"{selected} was asked for by name" if named else f"{selected} is the fleet's choice for {category}"
    )


def of_ranking(ranking: Ranking, selected: str, *, considered: int) -> tuple[str, ...]:
    """Who answers and why, and what it costs here. ``considered`` is how many models came into question."""
    chain, rejected = ranking.chain, ranking.rejected
    if not chain:
        return (f"nothing here can answer: {_because(selected, rejected)}",)
    best = chain[0]
    if best.stand_in:
        return (f"{_because(selected, rejected)}, so the embedded {best.model} stands in",)
    told = []
    own = next((candidate for candidate in chain if candidate.model == selected), None)
    if best.model != selected:
        why = _because(selected, rejected) if own is None else _outweighed(own, best, ranking.deadline_s)
        told.append(f"{best.model} answers instead: {why}")
    eligible = len({candidate.model for candidate in chain})
    told.append(f"{eligible} of {considered} candidates may take it" if considered > 1 else "it may take it")
    told.append(_residency(best))
    return tuple(told)


def warnings_of_ranking(ranking: Ranking) -> tuple[str, ...]:
    """What a caller should know of who answers, whatever else it asks for."""
    if not ranking.chain:
        return ()
    best, deadline_s = ranking.chain[0], ranking.deadline_s
    told = []
    if best.remote:
        told.append(f"{best.served_as} is answered on the internet: the task leaves {best.host}")
    if deadline_s is not None and best.is_late(deadline_s):
        told.append(
            f"{best.model} is expected to take about {seconds(best.estimate.total_s)}, {too_long(deadline_s)}"
        )
    return tuple(told)


def warnings(
    request: RouteRequest,
    classification: Classification,
    chain: Sequence[Candidate],
    of_ranking: Sequence[str],
) -> tuple[str, ...]:
    """What a caller should know although nothing failed, with what ``warnings_of_ranking`` has found."""
    told = [stage.note for stage in classification.trail if stage.broken]
    told += of_ranking
    if not chain or not (request.options or request.think):
        return tuple(told)
    best = chain[0]
    asked = request.options.get("num_ctx")
    if best.num_ctx and asked is not None and asked != best.num_ctx:
        told.append(
            f"num_ctx {asked} was not used: {best.model} always runs with {best.num_ctx}, "
            "because another value reloads it"
        )
    reloading = sorted(RELOADING_OPTIONS & set(request.options))
    if reloading and best.num_ctx:
        told.append(f"{', '.join(reloading)} not used: they reload a model that others are using")
    if request.think and not best.can_think:
        told.append(f"{best.model} cannot think aloud; it was not asked to")
    return tuple(told)


def _because(selected: str, rejected: Sequence[Rejection]) -> str:
    for rejection in rejected:
        if rejection.model == selected:
            return f"{selected} {_verb(rejection)}"
    return f"{selected} is not available"


def _verb(rejection: Rejection) -> str:
    if rejection.code == "host_unreachable":
        return "is not reachable (" + rejection.why + ")"
    if rejection.code in ("not_installed", "deprecated", "unhealthy"):
        return "is " + rejection.why
    return rejection.why


def too_long(deadline_s: float) -> str:
    """What is said of an expected time that is above it."""
    return f"longer than the {deadline_s:g} s that this request may take"


def _outweighed(own: Candidate, best: Candidate, deadline_s: float | None) -> str:
    """Why the fleet's choice, which may answer too, does not: quality on one side, waiting on the other."""
    apart = best.quality - own.quality
    quality = "as good" if abs(apart) < 0.005 else f"{abs(apart):.2f} {'better' if apart > 0 else 'lower'}"
    others = ""
    if not best.resident and own.held_up:
        waiting = f"{own.held_up} others wait" if own.held_up > 1 else "another one waits"
        others = f" while {waiting}"
    if deadline_s is not None and own.is_late(deadline_s):
        others += f", {too_long(deadline_s)}"
    return (
        f"{own.model} would take about {seconds(own.estimate.total_s)}{_load(own)}{others}, "
        f"{best.model} is {quality} in quality and takes about {seconds(best.estimate.total_s)}{_load(best)}"
    )


def _load(candidate: Candidate) -> str:
    if candidate.remote or candidate.resident:
        return " (resident)" if candidate.resident else ""
    return f" (load {seconds(candidate.estimate.load_s)})"


def seconds(about: float) -> str:
    """An expected time, as it is written in sentences."""
    return f"{about:.0f} s" if about >= 1 else f"{about:.1f} s"


def _residency(candidate: Candidate) -> str:
    if candidate.remote:
        return f"{candidate.host} passes it on to the internet, no load here"
    told = f"resident on {candidate.host}, no load"
    if not candidate.resident:
        told = f"not resident on {candidate.host}, load about {candidate.estimate.load_s:.0f} s"
    if candidate.leaving:
        told += f", {', '.join(candidate.leaving)} must leave for it"
    if candidate.estimate.queue_s >= 1:
        told += f", about {seconds(candidate.estimate.queue_s)} in the queue before"
    return told
