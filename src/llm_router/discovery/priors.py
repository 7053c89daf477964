"""How well a model may serve a category, where nobody measured it: a documented prior, and the order by it.

quality   0.34 + 0.31 * log10(billions of parameters), which meets the shipped fleet's numbers at 1B (0.36),
          7B (0.60), 14B (0.70) and 72B (0.91); a mixture of experts counts as the geometric mean of its
          total and its active parameters
newer     + 0.06 where it can think, + 0.04 where it can call tools: signs of a later generation
thinking  + 0.06 more where the category is about reasoning
light     0.3 + 0.7 * quality, at most 0.86, where the shipped choice is a small model: a greeting cannot be
          answered brilliantly
long      + 0.03 for every doubling of the planned context above 32,768 tokens, less below
language  - 0.08 where a model's languages are not known, - 0.35 where its makers name others
category  + what the shipped fleet's numbers for the category are above all this on average, over the models
          it lists that think, or over those that do not, as the model itself; over all where these are few.
          Without it, any unknown model would go before those whose weakness at a kind of task is known

None of this was measured. A number of the shipped fleet goes before the prior.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, Choice, Machine, Model
from llm_router.policy import estimates
from llm_router.policy.settings import PolicySettings

MOST_CANDIDATES = 6
"""Models listed for a category; a chain of more is never walked to its end."""

LIGHT_BELOW_GB = 7.0
"""A category whose shipped choice is smaller than this is light work."""

ROOM_OVER_SHIPPED = 1.5
"""Models that read more than this times the shipped choice's GB per token come after the others …"""

GOOD_ENOUGH = 0.22
"""… unless those others are worse by more than this."""

CONTEXT_MARGIN = 1.2
"""A planned context must exceed a category's least request by this much, or no such request ever fits."""

EMBEDDER_QUALITY = 0.6
"""Prior of every embedder: size says little about them."""

FEWEST_ALIKE = 2
"""Of the models that a category lists, so many must think, or not, to say anything about others like them."""

_REASONING = frozenset({"max_reasoning", "max_reasoning_moe", "efficient_reasoning", "hybrid_reasoner"})


def can_chat(model: Model) -> bool:
    return "completion" in model.capabilities and "embedding" not in model.capabilities


def may_serve(model: Model, category: Category) -> bool:
    """Whether a model fits a category at all: an embedder only embeddings, vision only where it sees."""
    needed = category.requires.capability
    if needed == "embedding":
        return "embedding" in model.capabilities
    if not can_chat(model) or (needed is not None and needed not in model.capabilities):
        return False
    least = category.requires.min_context_tokens
    return model.planned_num_ctx >= least * CONTEXT_MARGIN


def strength(model: Model) -> float:
    """The prior of a model for ordinary work, 0.05 to 0.92."""
    billions = model.params_b or model.file_gb / 0.6
    if model.active_params_b:
        billions = math.sqrt(billions * model.active_params_b)
    newer = 0.06 * ("thinking" in model.capabilities) + 0.04 * ("tools" in model.capabilities)
    return min(max(0.34 + 0.31 * math.log10(max(billions, 0.01)) + newer, 0.05), 0.92)


def choices_for(
    name: str, category: Category, models: Mapping[str, Model], known: Collection[str], shipped: Fleet
) -> tuple[Choice, ...]:
    """The models that fit a category, best first, at most six. Empty where none does.

    ``known`` are the tags whose models are those of the shipped fleet; they keep its quality numbers.
    """
    choices: dict[str, Choice] = {}
    for tag, model in models.items():
        if may_serve(model, category):
            listed = _shipped_prior(tag, category) if tag in known else None
            choices[tag] = listed or _prior(tag, model, name, category, shipped)
    most_gb = _shipped_choice(category, shipped).file_gb * ROOM_OVER_SHIPPED
    modest = {tag for tag in choices if _gb_per_token(models[tag]) <= most_gb}
    good = max((choices[tag].quality for tag in modest), default=0.0)

    def key(tag: str) -> tuple[bool, float, str]:
        quality = choices[tag].quality
        behind = tag not in modest and good >= quality - GOOD_ENOUGH
        return behind, -_score(models[tag], quality, category, shipped.machine), tag

    return tuple(choices[tag] for tag in sorted(choices, key=key)[:MOST_CANDIDATES])


def _shipped_prior(tag: str, category: Category) -> Choice | None:
    listed = next((choice for choice in category.models if choice.model == tag), None)
    if listed is None:
        return None
    return Choice(model=tag, quality=listed.quality, source=f"shipped fleet, {listed.source or 'no source'}")


def _prior(tag: str, model: Model, name: str, category: Category, shipped: Fleet) -> Choice:
    quality, told = _by_facts(model, name, category, shipped)
    if category.requires.capability != "embedding":
        quality += _shipped_above_facts(model, name, category, shipped)
    return Choice(
        model=tag, quality=round(min(max(quality, 0.02), 0.95), 2), source=f"prior: {', '.join(told)}"
    )


def _by_facts(model: Model, name: str, category: Category, shipped: Fleet) -> tuple[float, list[str]]:
    """The quality that follows from a model's facts alone, and which they were."""
    told = [
        f"{model.params} parameters" if model.params != "unknown" else f"a file of {model.file_gb:.1f} GB"
    ]
    if category.requires.capability == "embedding":
        return EMBEDDER_QUALITY, ["an embedder", *told]
    quality = strength(model)
    if _is_light(category, shipped):
        quality = min(0.3 + 0.7 * quality, 0.86)
    if name in _REASONING and "thinking" in model.capabilities:
        quality += 0.06
        told.append("thinks")
    if category.requires.min_context_tokens:
        quality += 0.03 * math.log2(model.planned_num_ctx / 32768)
        told.append(f"planned for {model.planned_num_ctx:,} tokens")
    if category.requires.language and category.requires.language not in model.languages:
        quality -= 0.35 if model.languages else 0.08
        told.append("its makers name other languages" if model.languages else "its languages are not known")
    return min(max(quality, 0.02), 0.95), told


def _shipped_above_facts(model: Model, name: str, category: Category, shipped: Fleet) -> float:
    alike: list[float] = []
    every: list[float] = []
    for choice in category.models:
        listed = shipped.models[choice.model]
        if not may_serve(listed, category):
            continue
        above = choice.quality - _by_facts(listed, name, category, shipped)[0]
        every.append(above)
        if ("thinking" in listed.capabilities) == ("thinking" in model.capabilities):
            alike.append(above)
    told = alike if len(alike) >= FEWEST_ALIKE else every
    return sum(told) / len(told) if told else 0.0


def _is_light(category: Category, shipped: Fleet) -> bool:
    return _shipped_choice(category, shipped).file_gb < LIGHT_BELOW_GB


def _shipped_choice(category: Category, shipped: Fleet) -> Model:
    return shipped.models[category.models[0].model]


_PATIENT = 0.15


def _gb_per_token(model: Model) -> float:
    share = model.active_params_b / model.params_b if model.active_params_b and model.params_b else 1.0
    return model.file_gb * share


def _score(model: Model, quality: float, category: Category, machine: Machine) -> float:
    """The policy's own score for a resident model and a short prompt, by one who has time: a fleet file says
    what a model is good for, and how much waiting counts is decided request by request."""
    settings = PolicySettings(time_weight=_PATIENT)
    cost = estimates.estimate(
        estimates.speed_of(model, machine),
        prompt_tokens=200,
        answer_tokens=category.output_tokens + model.thinking_tokens,
        resident=True,
    )
    return quality - settings.time_weight * cost.total_s / (cost.total_s + settings.time_scale_s)
