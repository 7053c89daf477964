"""How fast a host really is, model by model, learned from the timings of its answers and loads.

Values and arithmetic only. A prior (the fleet file's figure) is what counts until something was measured; it
weighs as much as ``PRIOR_WEIGHT`` samples, so it fades. What was measured is kept as logarithms, because a
speed is as likely to be twice as high as half as high, and only the last ``WINDOW`` samples count, so that a
host that becomes slower is believed. docs/concepts/memory.md has the formula.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

PRIOR_WEIGHT = 2
"""The prior counts as so many samples: after eight it has a fifth of the say."""

WINDOW = 32
"""Samples that are kept of each figure."""

SPREAD = math.log(1.5)
"""What lies farther from the middle than this factor speaks for no more than this factor."""

LEAST_OUTPUT_TOKENS = 16
LEAST_PROMPT_TOKENS = 128
LEAST_S = 0.02
"""Shorter answers, shorter prompts and shorter times tell more of the clock than of the model."""

LEAST_LOAD_S = 0.2
"""A load that takes less was none: the model was there already, which takes 0.05 to 0.14 s to be told."""

_MIDDLE = 0.5
_LOW = 0.25
"""Where the prefix of a prompt is cached its tokens are told as read in no time, and nothing makes a prompt
look slower than it is but other work: so the lower quarter is nearer to the truth than the middle."""

_NOTABLE = math.log(1.05)
_GROWTH = 1.5


class Evidence(Struct, frozen=True):
    """What was measured of one figure: the latest samples as natural logarithms, and how many ever came."""

    logs: tuple[float, ...] = ()
    count: int = 0

    def with_sample(self, value: float) -> Evidence:
        """With one more. What is no positive finite number is no sample."""
        if not (value > 0 and math.isfinite(value)):
            return self
        return Evidence((*self.logs[-WINDOW + 1 :], math.log(value)), self.count + 1)

    def blended(self, prior: float, *, quantile: float = _MIDDLE) -> float:
        """The figure to expect, from the prior and everything measured; the prior itself without samples.

        However absurd a single sample is, it stays within a factor of 1.5 of what the prior and the other
        samples say.
        """
        if not self.logs:
            return prior
        assumed = math.log(prior)
        middle = _quantile(sorted((*self.logs, *[assumed] * PRIOR_WEIGHT)), quantile)
        measured = sum(min(max(x, middle - SPREAD), middle + SPREAD) for x in self.logs) / len(self.logs)
        return math.exp((PRIOR_WEIGHT * assumed + self.count * measured) / (PRIOR_WEIGHT + self.count))


NONE = Evidence()


class ModelSpeeds(Struct, frozen=True):
    """What was measured of one model on one host: seconds of a load, tokens read and written per second."""

    load_s: Evidence = NONE
    prefill_tokens_per_s: Evidence = NONE
    decode_tokens_per_s: Evidence = NONE

    def with_samples(self, measured: Measured) -> ModelSpeeds:
        return ModelSpeeds(
            _with(self.load_s, measured.load_s),
            _with(self.prefill_tokens_per_s, measured.prefill_tokens_per_s),
            _with(self.decode_tokens_per_s, measured.decode_tokens_per_s),
        )

    def load_from(self, prior_s: float) -> float:
        return self.load_s.blended(prior_s)

    def prefill_from(self, prior_tokens_per_s: float) -> float:
        return self.prefill_tokens_per_s.blended(prior_tokens_per_s, quantile=_LOW)

    def decode_from(self, prior_tokens_per_s: float) -> float:
        return self.decode_tokens_per_s.blended(prior_tokens_per_s)


class Measured(Struct, frozen=True, omit_defaults=True):
    """What one answer, or one load, tells of its model. None where it tells nothing that can be relied on."""

    load_s: float | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None

    @property
    def empty(self) -> bool:
        return self == NOT_MEASURED


NOT_MEASURED = Measured()


def measured(
    *,
    prompt_tokens: int | None,
    prefill_s: float | None,
    output_tokens: int | None,
    decode_s: float | None,
    cached: bool = False,
) -> Measured:
    """What the timings of an answer tell that was alone at its host. Its ``load_duration`` tells nothing: it
    includes waiting for other loads.

    ``cached`` says that the model has read most of the prompt before, as in the next turn of a conversation:
    then its reading tells nothing.
    """
    return Measured(
        prefill_tokens_per_s=None if cached else _rate(prompt_tokens, prefill_s, LEAST_PROMPT_TOKENS),
        decode_tokens_per_s=_rate(output_tokens, decode_s, LEAST_OUTPUT_TOKENS),
    )


def _rate(tokens: int | None, seconds: float | None, least: int) -> float | None:
    if tokens is None or seconds is None or tokens < least or not LEAST_S <= seconds < math.inf:
        return None
    return tokens / seconds


class SpeedBook:
    """Everything that was measured, by host and by the host's own name of a model (canonical).

    What ``of`` tells changes only where that matters to a decision: with every sample while there are few,
    then where their mean has moved by 5 %. ``changes`` grows with it.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], ModelSpeeds] = {}
        self._told: dict[str, dict[str, ModelSpeeds]] = {}
        self.changes = 0

    def note(self, host: str, model: str, sample: Measured) -> None:
        if sample.empty:
            return
        key = host, model
        speeds = self._known[key] = self._known.get(key, ModelSpeeds()).with_samples(sample)
        told = self._told.get(host, {})
        if _differs(told.get(model, ModelSpeeds()), speeds):
            self._told[host] = {**told, model: speeds}
            self.changes += 1

    def of(self, host: str) -> Mapping[str, ModelSpeeds]:
        """By model; the very same mapping as long as nothing of it has changed."""
        return self._told.get(host, _NOTHING)


_NOTHING: Mapping[str, ModelSpeeds] = {}


def _with(evidence: Evidence, value: float | None) -> Evidence:
    return evidence if value is None else evidence.with_sample(value)


def _quantile(ranked: Sequence[float], share: float) -> float:
    """One of them and nothing in between: of three or more, an absurd one at either end is never it."""
    return ranked[math.ceil(share * (len(ranked) - 1))]


def _differs(told: ModelSpeeds, now: ModelSpeeds) -> bool:
    return any(
        new.count >= max(old.count * _GROWTH, old.count + 1) or abs(_mean(new) - _mean(old)) > _NOTABLE
        for old, new in (
            (told.load_s, now.load_s),
            (told.prefill_tokens_per_s, now.prefill_tokens_per_s),
            (told.decode_tokens_per_s, now.decode_tokens_per_s),
        )
    )


def _mean(evidence: Evidence) -> float:
    return sum(evidence.logs) / len(evidence.logs) if evidence.logs else 0.0
