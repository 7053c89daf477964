"""The sentences of the terminal, built from a Decision's recorded values; plain text, no layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from llm_router.answer import Answer, Attempt
from llm_router.decision import Candidate, Decision, Rejection, Savings
from llm_router.hosts.snapshot import HostSnapshot

Line: TypeAlias = tuple[str, str, str]
"""A label, a text and the style of the text."""

_STAGES = {
    "explicit": "asked for by name",
    "rules": "decided by rules",
    "encoder": "decided by encoder",
    "mission_control": "decided by Mission Control",
    "default": "decided by default",
}

_STATES = {
    "host_unreachable": "not reachable",
    "not_installed": "not installed",
    "deprecated": "marked deprecated",
    "unhealthy": "resting after failures",
    "unusable": "cannot be loaded",
}
"""Rejections that are told by their kind; the others have numbers of their own and are told in full."""


_NAMED = 2
"""Names of a long list that stand for all of them."""


def milliseconds(value_ms: float) -> str:
    if value_ms >= 1000:
        return seconds(value_ms / 1000)
    return f"{value_ms:.1f} ms" if value_ms < 10 else f"{value_ms:.0f} ms"


def seconds(value_s: float) -> str:
    if value_s >= 120:
        minutes, rest = divmod(round(value_s), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{value_s:.1f} s" if value_s < 10 else f"{value_s:.0f} s"


def about(value_s: float) -> str:
    """An estimate; more digits would promise too much."""
    if value_s < 0.5:
        return "< 1 s"
    return f"≈ {value_s:.0f} s" if value_s < 120 else f"≈ {value_s / 60:.0f} min"


def gigabytes(value_gb: float) -> str:
    return f"{value_gb:.1f} GB" if value_gb < 10 else f"{value_gb:.0f} GB"


def listed(label: str, texts: Iterable[str]) -> Iterator[Line]:
    """Several lines under one label."""
    for index, text in enumerate(texts):
        yield ("" if index else label), text, ""


def decided_by(decision: Decision) -> str:
    """``decided by encoder in 0.3 ms``"""
    classification = decision.classification
    return f"{_STAGES[classification.stage]} in {milliseconds(classification.elapsed_ms)}"


def instead(decision: Decision) -> str | None:
    """One line where another model answers than the fleet's choice, with the true reason; else None."""
    answer, selected = decision.answer, decision.selected_model
    if answer is not None and answer.model == selected:
        return None
    rejection = _rejection_of_the_choice(decision)
    why = "has the lower score" if rejection is None else state(rejection)
    if answer is None:
        return f"{selected} {why} → nothing here can answer"
    who = f"embedded {answer.model}" if answer.stand_in else answer.model
    return f"{selected} {why} → answered by {who}"


def _rejection_of_the_choice(decision: Decision) -> Rejection | None:
    return next((r for r in decision.rejected if r.model == decision.selected_model), None)


def state(rejection: Rejection) -> str:
    """A rejection as the end of a sentence about its model: ``is not installed here``."""
    if rejection.code in ("not_installed", "host_unreachable"):
        return f"is {_STATES[rejection.code]} here"
    if rejection.code == "unusable":
        return "cannot be loaded here"
    if rejection.code in _STATES:
        return f"is {_STATES[rejection.code]}"
    return rejection.why.partition(": ")[0]  # the numbers; the background stands under ``rejected``


def why(decision: Decision) -> str:
    """What spoke for the category, and then for the model; without what ``instead`` already says."""
    told = [evidence.text for evidence in decision.classification.evidence[:2]]
    rejection = _rejection_of_the_choice(decision)
    reasons = [r for r in decision.reasons[1:] if rejection is None or rejection.why not in r]
    return "; ".join((*told, *reasons))


def following(decision: Decision) -> str:
    """The fallback in order, or what would answer if a host had it."""
    answer = decision.answer
    if answer is None or answer.stand_in:
        planned = " → ".join(decision.planned)
        return f"{_once(decision)}: {planned}" if planned else "no model of the fleet may take this task"
    rest = decision.chain[1:]
    if not rest:
        return "no other model may take it"
    several_hosts = len({candidate.host for candidate in decision.chain}) > 1
    return " → ".join(_next(candidate, several_hosts) for candidate in rest)


def _once(decision: Decision) -> str:
    codes = {rejection.code for rejection in decision.rejected}
    return "once reachable" if "host_unreachable" in codes else "once installed"


def _next(candidate: Candidate, with_host: bool) -> str:
    where = f"on {candidate.host}, " if with_host else ""
    cost = "resident" if candidate.resident else f"load {about(candidate.estimate.load_s)}"
    return f"{candidate.model} ({where}{cost})"


def groups(rejected: Sequence[Rejection], *, known: Sequence[str] = ()) -> list[str]:
    """One line per reason, in order: ``not installed on spark-1: phi4, solar``.

    A long list is cut short where the reader has all of its names before them already (``known``).
    """
    grouped: dict[tuple[str, str], list[str]] = {}
    for rejection in rejected:
        grouped.setdefault((rejection.code, rejection.why), []).append(rejection.model)
    return [_group(code, sentence, _names(models, known)) for (code, sentence), models in grouped.items()]


def _names(models: Sequence[str], known: Sequence[str]) -> str:
    if len(models) > _NAMED + 1 and set(models) <= set(known):
        return f"{', '.join(models[:_NAMED])} and {len(models) - _NAMED} more"
    return ", ".join(models)


def _group(code: str, sentence: str, names: str) -> str:
    if code == "host_unreachable":
        return f"not reachable: {names} ({sentence})"
    return f"{sentence}: {names}" if code in _STATES else f"{names}: {sentence}"


def savings(decision: Decision) -> tuple[str, str] | None:
    """A label and a line, such as ``saves`` and ``38 GB memory and ≈ 84 s against always using …``."""
    saved = decision.savings
    if saved is None:
        return None
    answer = decision.answer
    about = "" if answer is not None and not answer.stand_in else f" (with {decision.selected_model})"
    less, more = _less_and_more(saved)
    always = f"always using {saved.baseline}{about}"
    if less and more:
        return "saves", f"{' and '.join(less)}, costs {' and '.join(more)} more, against {always}"
    if less:
        return "saves", f"{' and '.join(less)} against {always}"
    if more:
        return "costs", f"{' and '.join(more)} more than {always}"
    return "saves", f"nothing against {always}"


def _less_and_more(saved: Savings) -> tuple[list[str], list[str]]:
    less: list[str] = []
    more: list[str] = []
    if round(saved.memory_gb) != 0:
        (less if saved.memory_gb > 0 else more).append(f"{abs(saved.memory_gb):.0f} GB memory")
    if round(saved.seconds) != 0:
        (less if saved.seconds > 0 else more).append(about(abs(saved.seconds)))
    return less, more


def switched(failed: Attempt, next_model: str) -> str:
    """A model of the chain failed before its first word."""
    return f"{failed.model} on {failed.host} failed ({failed.error}) → asking {next_model}"


def answered_by(answer: Answer) -> str:
    """``embedded smollm2:135m``, or ``phi4 on spark-1``"""
    stand_in = any(c.stand_in and c.model == answer.model for c in answer.decision.chain)
    return f"embedded {answer.model}" if stand_in else f"{answer.model} on {answer.host}"


def footer(answer: Answer) -> str:
    """``qwen2.5:14b on spark-1 · 132 tokens · 20 tokens/s · first token 0.4 s · 7.0 s``"""
    usage = answer.usage
    parts = [answered_by(answer)]
    if usage.output_tokens is not None:
        cut = " (the limit)" if answer.done_reason == "length" else ""
        parts.append(f"{usage.output_tokens:,} tokens{cut}")
    if usage.tokens_per_s is not None:
        digits = 1 if usage.tokens_per_s < 10 else 0
        parts.append(f"{usage.tokens_per_s:.{digits}f} tokens/s")
    if answer.first_token_s is not None:
        parts.append(f"first token {seconds(answer.first_token_s)}")
    parts.append(seconds(answer.elapsed_s))
    return " · ".join(parts)


def waiting(candidate: Candidate) -> tuple[str, str]:
    """What a person is told until the first token comes, and how long it should take."""
    model = candidate.model
    where = f"embedded {model}" if candidate.stand_in else f"{model} on {candidate.host}"
    if candidate.resident or candidate.estimate.load_s < 1:
        return f"waiting for {where}", ""
    return f"loading {where}", f"{about(candidate.estimate.load_s)} expected"


def host(snapshot: HostSnapshot) -> str:
    """``spark-1 at http://spark-1:11434, Ollama 0.33.0, 19 installed, 2 resident``"""
    if not snapshot.reachable:
        return f"{snapshot.name} at {snapshot.url} does not answer: {snapshot.problem}"
    parts = [f"{snapshot.name} at {snapshot.url}"]
    if snapshot.version:
        parts.append(f"Ollama {snapshot.version}" if snapshot.kind == "ollama" else snapshot.version)
    parts.append(f"{len(snapshot.installed)} installed")
    if snapshot.kind == "ollama":
        parts.append(f"{len(snapshot.resident)} resident")
    return ", ".join(parts)
