"""What an answer is expected to cost: seconds to load, to read and to write, and memory. Pure arithmetic.

Speeds come from what was measured at the host, and as long as that is little also from the fleet file. Where
it has none they follow from the memory bandwidth: every token of an answer reads the active weights once, and
about 70 % of the bandwidth is reached (docs/concepts/decision.md shows the formula, its sources and how far
it is off for measured models).
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_router.decision import NO_SAMPLES, Estimate, Samples
from llm_router.fleet.schema import Machine, Model
from llm_router.hosts.speeds import ModelSpeeds
from llm_router.policy.needs import Demand

BANDWIDTH_SHARE = 0.7
"""Reached share of the memory bandwidth while decoding; 0.67 to 0.8 was seen on a DGX Spark."""

PREFILL_TOKENS_PER_S_TIMES_B = 25_000.0
"""Prompt tokens per second times active parameters in billions; 350 x 70 and 1800 x 14 on a DGX Spark."""


def decode_tokens_per_s(model: Model, machine: Machine) -> float:
    if model.decode_tokens_per_s:
        return model.decode_tokens_per_s
    share = 1.0
    if model.active_params_b and model.params_b:
        share = model.active_params_b / model.params_b
    return BANDWIDTH_SHARE * machine.memory_gb_per_s / max(model.file_gb * share, 0.05)


def prefill_tokens_per_s(model: Model) -> float:
    if model.prefill_tokens_per_s:
        return model.prefill_tokens_per_s
    active = model.active_params_b or model.params_b or max(model.file_gb / 0.6, 0.1)
    return PREFILL_TOKENS_PER_S_TIMES_B / active


def output_tokens(demand: Demand, model: Model) -> int:
    """Expected length of the answer, thinking included, capped by the caller's own limit."""
    if demand.embeds:
        return 0
    category, limit = demand.category, demand.output_limit
    usual = (category.output_tokens if category else 400) + model.thinking_tokens
    return min(usual, limit) if limit else usual


def output_reserve(demand: Demand, model: Model, most: int) -> int:
    """Context to keep free for the answer: its usual length up to ``most``, and the usual thinking.

    A caller's limit can only lower it: many clients send a large one with every request, and it is a bound,
    not a demand.
    """
    if demand.embeds:
        return 0
    category, limit = demand.category, demand.output_limit
    usual = min(category.output_tokens if category else 400, most) + model.thinking_tokens
    return min(limit, usual) if limit else usual


@dataclass(frozen=True, slots=True)
class Speed:
    """What a model costs on a machine, whatever the request: GB, seconds of a load, tokens per second.
    ``samples`` says how much of it was measured."""

    memory_gb: float
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    samples: Samples = NO_SAMPLES


def speed_of(model: Model, machine: Machine, measured: ModelSpeeds | None = None) -> Speed:
    """``measured`` is what was seen of it on the host in question; without it the fleet's figures count."""
    prior = Speed(
        memory_gb=model.memory_gb,
        load_s=machine.load_overhead_s + model.file_gb / machine.load_gb_per_s,
        prefill_tokens_per_s=prefill_tokens_per_s(model),
        decode_tokens_per_s=decode_tokens_per_s(model, machine),
    )
    if measured is None:
        return prior
    return Speed(
        memory_gb=prior.memory_gb,
        load_s=measured.load_from(prior.load_s),
        prefill_tokens_per_s=measured.prefill_from(prior.prefill_tokens_per_s),
        decode_tokens_per_s=measured.decode_from(prior.decode_tokens_per_s),
        samples=Samples(
            measured.load_s.count, measured.prefill_tokens_per_s.count, measured.decode_tokens_per_s.count
        ),
    )


def estimate(speed: Speed, *, prompt_tokens: int, answer_tokens: int, resident: bool) -> Estimate:
    """Seconds and GB for one answer. A resident model loads in no time; nothing is said about queues."""
    return Estimate(
        0.0 if resident else speed.load_s,
        prompt_tokens / speed.prefill_tokens_per_s,
        answer_tokens / speed.decode_tokens_per_s,
        speed.memory_gb,
        answer_tokens,
        samples=speed.samples,
    )
