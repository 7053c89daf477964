"""The mixed day: how often each kind of task comes, how long it is, how its conversations go on.

It is stated, not measured: a plausible day of a small team, with much light work and a little that needs the
largest models. docs/concepts/simulation.md shows it as a table; measure your own day with a trace of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task.

    ``share`` is of all requests. Lengths of prompts are log-normal with this median and spread (sigma of the
    logarithm), cut at ``most_tokens``. ``turns`` is how many a conversation has on average, and a follow-up
    brings ``more_tokens`` of its own (median) after everything that was said so far.
    """

    share: float
    prompt_tokens: int
    spread: float
    most_tokens: int
    turns: float = 1.0
    more_tokens: int = 60


OUTPUT_SPREAD = 0.5
"""Lengths of answers are log-normal as well, around the fleet's ``output_tokens`` of the category as mean."""

PAUSE_S = 90.0
"""Mean time (exponential) from one turn of a conversation to the next."""

MIXED_DAY: Mapping[str, Kind] = {
    "default_general": Kind(0.16, 150, 0.8, 6_000, turns=2.5),
    "efficient_general": Kind(0.13, 80, 0.7, 4_000, turns=1.5),
    "simple_chat": Kind(0.12, 40, 0.6, 3_000, turns=3.0, more_tokens=25),
    "structured_data": Kind(0.12, 500, 0.9, 8_000, turns=1.5),
    "fast_rag": Kind(0.07, 900, 0.5, 6_000, turns=1.5),
    "agentic_tool_use": Kind(0.07, 1_200, 0.5, 12_000, turns=3.0, more_tokens=300),
    "instruction_following": Kind(0.06, 200, 0.7, 2_500, turns=1.2),
    "efficient_reasoning": Kind(0.06, 120, 0.5, 3_000, turns=1.2),
    "max_quality_general": Kind(0.04, 1_200, 0.9, 10_000, turns=1.5),
    "korean_multilingual": Kind(0.03, 150, 0.7, 2_500, turns=1.5),
    "fast_vision": Kind(0.03, 1_700, 0.1, 2_500, turns=1.2),
    "max_rag": Kind(0.02, 6_000, 0.4, 12_000, turns=1.2),
    "long_context": Kind(0.02, 18_000, 0.5, 50_000, turns=1.5),
    "max_reasoning": Kind(0.02, 150, 0.5, 2_000),
    "embeddings": Kind(0.02, 300, 0.7, 1_800),
    "max_vision": Kind(0.015, 1_900, 0.2, 2_500, turns=1.2),
    "hybrid_reasoner": Kind(0.01, 1_800, 0.2, 2_500),
    "max_reasoning_moe": Kind(0.005, 250, 0.5, 2_000),
}
