"""This evaluation against an earlier one: what a change of fleet, settings or weights did to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llm_router.errors import InvalidRequest
from llm_router.learn.cases import Case
from llm_router.learn.figures import FORMAT, CaseResult, CategoryChange, Comparison, Flip, Report
from llm_router.learn.metrics import Answer, Judged, figures

WON, LOST, NEITHER = "won", "lost", "neither"
_HINT = "write one with: llm-router eval CASES --json > base.json"


class _Format(msgspec.Struct, frozen=True):
    format: int = 0


def read_report(path: Path) -> Report:
    """An evaluation that ``llm-router eval --json`` wrote. Raises InvalidRequest where it is none."""
    try:
        data = path.expanduser().read_bytes()
        found = msgspec.json.decode(data, type=_Format).format
        if found != FORMAT:
            why = f"it has the format {found}, this version reads {FORMAT}" if found else "it says no format"
            raise InvalidRequest(f"cannot compare with {path}", why=why, hint=_HINT)
        return msgspec.json.decode(data, type=Report)
    except OSError as error:
        raise InvalidRequest(
            f"cannot read {path}", why=error.strerror or str(error), hint="check the path after --compare"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = f"it is no evaluation: {str(error).replace('`', chr(39))}"
        raise InvalidRequest(f"cannot compare with {path}", why=why, hint=_HINT) from error


@dataclass(frozen=True, slots=True)
class _Both:
    """A case and its two answers; both are judged by what the case accepts now."""

    case: Case
    before: CaseResult
    now: CaseResult

    @property
    def was_fine(self) -> bool:
        return self.before.category in self.case.accept

    @property
    def is_fine(self) -> bool:
        return self.now.category in self.case.accept

    @property
    def kind(self) -> str:
        return NEITHER if self.was_fine == self.is_fine else WON if self.is_fine else LOST


def compare(base: Report, now: Report, cases: Sequence[Case]) -> Comparison:
    """What changed from ``base`` to ``now``, over the cases (by id) that both have."""
    earlier = {result.id: result for result in base.results}
    common = [
        _Both(case, earlier[case.id], result)
        for case, result in zip(cases, now.results, strict=True)
        if case.id in earlier
    ]
    flips = [_flip(both) for both in common if both.before.category != both.now.category]
    order = {WON: 1, LOST: 0, NEITHER: 2}
    return Comparison(
        common=len(common),
        only_before=len(earlier) - len(common),
        only_now=len(now.results) - len(common),
        before=figures([_judged(both.case, both.before) for both in common]),
        now=figures([_judged(both.case, both.now) for both in common]),
        new_categories=tuple(name for name in now.categories if name not in base.categories),
        gone_categories=tuple(name for name in base.categories if name not in now.categories),
        per_category=_per_category([both for both in common if both.case.is_original], base, now),
        flips=tuple(sorted(flips, key=lambda flip: (order[flip.kind], -flip.confidence, flip.id))),
    )


def _judged(case: Case, result: CaseResult) -> Judged:
    return Judged(case, Answer(result.category, result.confidence, result.stage))


def _flip(both: _Both) -> Flip:
    return Flip(
        id=both.case.id,
        line=both.case.line,
        kind=both.kind,
        before=both.before.category,
        now=both.now.category,
        accept=both.case.accept,
        confidence=both.now.confidence,
    )


def _per_category(common: Sequence[_Both], base: Report, now: Report) -> tuple[CategoryChange, ...]:
    before = Counter(both.before.category for both in common)
    after = Counter(both.now.category for both in common)
    rows = []
    for name in dict.fromkeys((*now.categories, *base.categories, *(b.case.primary for b in common))):
        own = [both for both in common if both.case.primary == name]
        if not own and not before[name] and not after[name]:
            continue
        rows.append(
            CategoryChange(
                category=name,
                n=len(own),
                accept_before=round(sum(b.was_fine for b in own) / len(own), 4) if own else None,
                accept_now=round(sum(b.is_fine for b in own) / len(own), 4) if own else None,
                answered_before=before[name],
                answered_now=after[name],
                won=sum(both.kind == WON for both in own),
                lost=sum(both.kind == LOST for both in own),
            )
        )
    return tuple(rows)
