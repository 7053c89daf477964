"""The reason in the reply: headers for programs, and the ``router`` object for clients that drop headers."""

from __future__ import annotations

from collections.abc import Sequence

from llm_router.answer import Answer, Attempt
from llm_router.decision import Decision
from llm_router.request import JsonObject

MAX_REASON_CHARS = 400
"""A header line that every proxy still takes."""


def headers(decision: Decision, model: str, failed: Sequence[Attempt]) -> list[tuple[str, str]]:
    """``x-router-*``: who answers, the kind of task, how sure, the decision's id, why, what failed before."""
    return [
        ("x-router-model", model),
        ("x-router-category", decision.category),
        ("x-router-confidence", f"{decision.confidence:.4f}"),
        ("x-router-decision-id", decision.decision_id),
        ("x-router-reason", _shortened(decision.routing_reasoning)),
        ("x-router-fallback", ", ".join(map(_failure, failed)) or "none"),
    ]


def headers_of_failure(decision: Decision) -> list[tuple[str, str]]:
    """What of it holds although no model answered; the id leads to the rest."""
    return [
        ("x-router-category", decision.category),
        ("x-router-confidence", f"{decision.confidence:.4f}"),
        ("x-router-decision-id", decision.decision_id),
    ]


def router_object(
    decision: Decision, model: str, host: str, failed: Sequence[Attempt], answer: Answer | None = None
) -> JsonObject:
    """The same for the body, and what is known only at the end."""
    told: JsonObject = {
        "decision_id": decision.decision_id,
        "model": model,
        "host": host,
        "category": decision.category,
        "confidence": round(decision.confidence, 4),
        "stage": decision.classification.stage,
        "selected_model": decision.selected_model,
        "reason": decision.routing_reasoning,
        "fallback": [{"model": a.model, "host": a.host, "error": a.error.code} for a in failed if a.error],
    }
    warnings = [*decision.warnings, *(answer.warnings if answer is not None else ())]
    if warnings:
        told["warnings"] = list(warnings)
    return told


def _failure(attempt: Attempt) -> str:
    return f"{attempt.model} ({attempt.error.code})" if attempt.error is not None else attempt.model


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 1] + "…"
