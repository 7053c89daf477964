"""What an evaluation says, as values: the shape of ``llm-router eval --json``.

Shares are between 0 and 1 and rounded to 4 digits; a figure for which there was no case is null.
``docs/reference/evaluation.md`` documents every key.
"""

from __future__ import annotations

import msgspec

FORMAT = 1


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The headline of one way of answering. Everything but ``same`` is over the original cases only."""

    n: int
    accept: float | None
    accept_micro: float | None
    primary: float | None
    text_only: float | None
    same: float | None
    ece: float | None


class CategoryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The cases whose best answer is ``category``, and what else was answered with it."""

    category: str
    n: int
    accept: float
    recall: float
    answered: int
    precision: float | None


class SliceFigures(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    n: int
    accept: float
    primary: float


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The same request in English and in Korean."""

    n: int
    both_accepted: float
    alike: float
    identical: float


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    low: float
    high: float
    n: int
    confidence: float
    accept: float


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """How often a case of ``expected`` was answered with ``answered``; ``accepted`` of them were fine."""

    expected: str
    answered: str
    n: int
    accepted: int


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    n: int
    share: float
    accept: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    p50_ms: float
    p90_ms: float
    p99_ms: float


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Accept among the most confident ``coverage`` of all cases."""

    coverage: float
    accept: float


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """What happens where every case less confident than ``threshold`` is put to Mission Control."""

    threshold: float
    asked: int
    share: float
    alone_there: float | None
    accept_alone: float
    accept_oracle: float
    asked_there: float | None
    accept_measured: float | None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What Mission Control did with the cases below ``below`` that it was really asked about."""

    below: float
    asked: int
    answered: int
    accept_alone: float | None
    accept_asked: float | None
    mended: int
    spoilt: int
    latency: Latency | None


class BaselineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Another way of answering: by itself, and behind the same hard evidence as the router."""

    name: str
    about: str
    alone: Figures | None
    after_rules: Figures | None
    p50_ms: float | None
    missing: str = ""


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """One case and its answer. ``alone`` is the answer without Mission Control, ``asked`` the one with it."""

    id: str
    line: int
    accept: tuple[str, ...]
    category: str
    confidence: float
    stage: str
    accepted: bool
    original: bool
    elapsed_ms: float
    alone: str
    alone_confidence: float
    asked: str | None = None
    asked_note: str = ""


class CategoryChange(msgspec.Struct, frozen=True, kw_only=True):
    """A category against an earlier evaluation, over the original cases that both have."""

    category: str
    n: int
    accept_before: float | None
    accept_now: float | None
    answered_before: int
    answered_now: int
    won: int
    lost: int


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """A case that is answered otherwise than before; ``kind`` is won, lost or neither."""

    id: str
    line: int
    kind: str
    before: str
    now: str
    accept: tuple[str, ...]
    confidence: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    common: int
    only_before: int
    only_now: int
    before: Figures
    now: Figures
    new_categories: tuple[str, ...]
    gone_categories: tuple[str, ...]
    per_category: tuple[CategoryChange, ...]
    flips: tuple[Flip, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one evaluation found."""

    format: int = FORMAT
    version: str
    cases: str
    fleet: str
    categories: tuple[str, ...]
    ask_below: float
    figures: Figures
    worst_category: CategoryFigures | None
    per_category: tuple[CategoryFigures, ...]
    languages: tuple[SliceFigures, ...]
    groups: tuple[SliceFigures, ...]
    sources: tuple[SliceFigures, ...]
    pairs: PairFigures | None
    reliability: tuple[Bin, ...]
    confusion: tuple[Confusion, ...]
    stages: tuple[StageFigures, ...]
    latency: Latency
    risk_coverage: tuple[Coverage, ...]
    curve: tuple[CurvePoint, ...]
    curve_note: str
    ask: Asked | None = None
    baselines: tuple[BaselineFigures, ...] = ()
    comparison: Comparison | None = None
    warnings: tuple[str, ...] = ()
    results: tuple[CaseResult, ...]
