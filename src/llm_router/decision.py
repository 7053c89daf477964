"""The words for a decision: what kind of task, which model, why, who is next, why not the others.

All of them are frozen values without behaviour beyond reading; ``as_json`` of a ``Decision`` is the
documented shape that every front shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Literal

import msgspec
from msgspec import Struct

from llm_router.once import once
from llm_router.request import JsonObject

_encode = msgspec.json.Encoder().encode

StageName = Literal["explicit", "rules", "encoder", "mission_control", "default"]

RejectionCode = Literal[
    "deprecated",
    "not_installed",
    "host_unreachable",
    "ollama_version",
    "unusable",
    "memory",
    "capability",
    "context",
    "licence",
    "unhealthy",
    "cloud",
    "quality",
]


class Evidence(Struct, frozen=True):
    """One recorded fact that spoke for a category: a stable code and a sentence a person can read."""

    code: str
    text: str


class StageResult(Struct, frozen=True):
    """What one stage of the cascade said; kept so that a decision can be explained stage by stage."""

    stage: StageName
    category: str | None
    confidence: float
    elapsed_ms: float
    evidence: tuple[Evidence, ...] = ()
    note: str = ""
    broken: bool = False


class Classification(Struct, frozen=True):
    """Which kind of task this is. ``probabilities`` sum to 1 over the categories that were possible."""

    category: str
    confidence: float
    stage: StageName
    probabilities: Mapping[str, float]
    evidence: tuple[Evidence, ...] = ()
    elapsed_ms: float = 0.0
    trail: tuple[StageResult, ...] = ()


class Rejection(Struct, frozen=True):
    """Why a model may not take this task: one code and one sentence with numbers."""

    model: str
    code: RejectionCode
    why: str
    host: str = ""


class Samples(Struct, frozen=True):
    """How often the speeds behind an estimate were measured; at 0 a figure is the fleet file's."""

    load: int = 0
    prefill: int = 0
    decode: int = 0


NO_SAMPLES = Samples()


class Estimate(Struct, frozen=True):
    """What an answer is expected to cost. Seconds are for this request, GB while the model is resident.

    ``queue_s`` is the wait for what goes on at the host already; reading and writing are given as slow as
    they are beside it.
    """

    load_s: float
    prefill_s: float
    decode_s: float
    memory_gb: float
    output_tokens: int
    queue_s: float = 0.0
    samples: Samples = NO_SAMPLES

    @property
    def total_s(self) -> float:
        return self.queue_s + self.load_s + self.prefill_s + self.decode_s

    @property
    def answering_s(self) -> float:
        """Without the load: what it costs once the model is resident."""
        return self.prefill_s + self.decode_s


class Candidate(Struct, frozen=True):
    """A model on a host that may take the task, with the numbers that rank it.

    ``served_as`` is the host's own name for the model; ``num_ctx`` the one context size it is always run
    with, in tokens (None where the server fixed it). ``remote`` says that the host passes the request on to a
    server on the internet. ``leaving`` are models that must leave the memory for it, ``regret_s`` what it
    takes to load them again as far as they are likely to be wanted, ``held_up`` how many requests it holds
    up, and ``held_up_cost`` what that takes off its score. ``stays`` says that it answered the turn before.
    """

    model: str
    host: str
    served_as: str
    quality: float
    quality_source: str
    resident: bool
    estimate: Estimate
    score: float
    num_ctx: int | None
    can_think: bool = False
    stand_in: bool = False
    remote: bool = False
    leaving: tuple[str, ...] = ()
    regret_s: float = 0.0
    held_up: int = 0
    stays: bool = False
    held_up_cost: float = 0.0

    def is_late(self, deadline_s: float | None) -> bool:
        """Whether its answer is expected to take longer than a request may that has so many seconds."""
        return self.late_s(deadline_s) > 0

    def late_s(self, deadline_s: float | None) -> float:
        """What puts candidates in order by a deadline: 0 for all who keep it, else the expected seconds."""
        if deadline_s is None:
            return 0.0
        total_s = self.estimate.total_s
        return total_s if total_s > deadline_s else 0.0


class Savings(Struct, frozen=True):
    """Against always using the fleet's baseline model, both resident: GB of memory and seconds per answer."""

    baseline: str
    memory_gb: float
    seconds: float


class Ranking(Struct, frozen=True, dict=True):
    """Who may answer and who may not: the part of a decision that many requests share.

    ``chain`` holds the models that may answer here, best first: ``chain[0]`` answers, the rest are the
    fallback. It is empty where nothing can answer. ``planned`` holds the models of the category that could
    take the task if a host had them. ``deadline_s`` is how long the request may take, None where it was
    decided without a limit.
    """

    chain: tuple[Candidate, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    planned: tuple[str, ...] = ()
    savings: Savings | None = None
    deadline_s: float | None = None

    def as_json(self) -> JsonObject:
        """Its keys of the documented shape."""
        answer = self.chain[0] if self.chain else None
        return {
            "fallback": [_candidate_json(c) for c in self.chain[1:]],
            "planned": list(self.planned),
            "rejected": [
                {"model": r.model, "host": r.host or None, "code": r.code, "why": r.why}
                for r in self.rejected
            ],
            "estimate": _estimate_json(answer.estimate) if answer else None,
            "deadline_s": self.deadline_s,
            "num_ctx": answer.num_ctx if answer else None,
            "leaving": list(answer.leaving) if answer else [],
            "saves": None
            if self.savings is None
            else {
                "baseline": self.savings.baseline,
                "memory_gb": round(self.savings.memory_gb, 1),
                "seconds": round(self.savings.seconds, 1),
            },
        }

    @once
    def encoded(self) -> bytes:
        """The same as JSON text, made once for all decisions that share it."""
        return _encode(self.as_json())


class Decision(Struct, frozen=True):
    """What the router decided for one request.

    ``selected_model`` is the fleet's choice for the category; ``ranking`` says who answers and who does not.
    """

    classification: Classification
    selected_model: str
    ranking: Ranking
    reasons: tuple[str, ...]
    model_params: str
    model_size_gb: float
    request_tokens: int
    warnings: tuple[str, ...] = ()
    decision_id: str = ""
    elapsed_ms: float = 0.0

    @property
    def category(self) -> str:
        return self.classification.category

    @property
    def confidence(self) -> float:
        return self.classification.confidence

    @property
    def chain(self) -> tuple[Candidate, ...]:
        return self.ranking.chain

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        return self.ranking.rejected

    @property
    def planned(self) -> tuple[str, ...]:
        return self.ranking.planned

    @property
    def savings(self) -> Savings | None:
        return self.ranking.savings

    @property
    def deadline_s(self) -> float | None:
        return self.ranking.deadline_s

    @property
    def answer(self) -> Candidate | None:
        return self.ranking.chain[0] if self.ranking.chain else None

    @property
    def answer_model(self) -> str | None:
        return self.ranking.chain[0].model if self.ranking.chain else None

    @property
    def routing_reasoning(self) -> str:
        return "; ".join(self.reasons)

    def stamped(self, decision_id: str, elapsed_ms: float) -> Decision:
        """The same decision with its own name and the time it took."""
        return msgspec.structs.replace(self, decision_id=decision_id, elapsed_ms=elapsed_ms)

    def with_chain(self, chain: tuple[Candidate, ...]) -> Decision:
        """The same decision, to be answered by these."""
        if chain == self.chain:
            return self
        return msgspec.structs.replace(self, ranking=msgspec.structs.replace(self.ranking, chain=chain))

    def as_json(self) -> JsonObject:
        """The documented shape (docs/reference/decision.md); numbers are rounded, nothing is dropped."""
        return {**self._own(), **self.ranking.as_json()}

    def encoded(self) -> bytes:
        """The same as JSON text."""
        return b"%b,%b" % (_encode(self._own())[:-1], self.ranking.encoded[1:])  # two objects as one

    def _own(self) -> JsonObject:
        """What no other decision shares."""
        answer, classification = self.answer, self.classification
        top = sorted(classification.probabilities.items(), key=itemgetter(1), reverse=True)
        return {
            "decision_id": self.decision_id,
            "category": classification.category,
            "selected_model": self.selected_model,
            "answer_model": answer.model if answer else None,
            "answer_host": answer.host if answer else None,
            "stand_in": answer.stand_in if answer else False,
            "confidence": round(classification.confidence, 4),
            "stage": classification.stage,
            "model_params": self.model_params,
            "model_size_gb": self.model_size_gb,
            "routing_reasoning": self.routing_reasoning,
            "reasons": list(self.reasons),
            "evidence": [{"code": e.code, "text": e.text} for e in classification.evidence],
            "probabilities": {name: round(p, 4) for name, p in top[:5]},
            "stages": [_stage_json(stage) for stage in classification.trail],
            "request_tokens": self.request_tokens,
            "warnings": list(self.warnings),
            "elapsed_ms": round(self.elapsed_ms, 3),
        }


def _stage_json(stage: StageResult) -> JsonObject:
    return {
        "stage": stage.stage,
        "category": stage.category,
        "confidence": round(stage.confidence, 4),
        "elapsed_ms": round(stage.elapsed_ms, 3),
        "note": stage.note,
    }


def _candidate_json(candidate: Candidate) -> JsonObject:
    return {
        "model": candidate.model,
        "host": candidate.host,
        "quality": candidate.quality,
        "score": round(candidate.score, 4),
        "resident": candidate.resident,
        "expected_s": round(candidate.estimate.total_s, 1),
        "leaving": list(candidate.leaving),
    }


def _estimate_json(estimate: Estimate) -> JsonObject:
    return {
        "total_s": round(estimate.total_s, 1),
        "queue_s": round(estimate.queue_s, 1),
        "load_s": round(estimate.load_s, 1),
        "prefill_s": round(estimate.prefill_s, 1),
        "decode_s": round(estimate.decode_s, 1),
        "memory_gb": round(estimate.memory_gb, 1),
        "output_tokens": estimate.output_tokens,
        "samples": {
            "load": estimate.samples.load,
            "prefill": estimate.samples.prefill,
            "decode": estimate.samples.decode,
        },
    }
