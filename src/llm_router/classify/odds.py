"""From the logprobs of an answer to a probability for each category, and its pool with the encoder's.

A model writes a category's name token by token. At each token the server tells how probable it was and what
else it might have been, so the names that part there can be weighed against each other:

    answer   {"category": "max_reasoning"}
    tokens   {"  category  ":  "  max  _re  asoning  "}
                               │    │             └ or `_m`: max_reasoning_moe
                               │    └ or `_vision`, `_rag`: max_vision, max_rag
                               └ or `fast`: fast_rag and fast_vision, which share that token

What parts no two names (quotes, blanks) says nothing. What no name begins with is left out: servers tell
probabilities from before the JSON schema forbade it. Names that no listed token leads to get what the rarest
listed one has, at most what is left over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from llm_router.request import Json

FLOOR = 1e-6
"""Nobody is so sure that the other one no longer counts."""

_VALUE = re.compile(rb'"category"\s*:\s*"')


@dataclass(frozen=True, slots=True)
class Share:
    """``weight`` of the whole for these categories together; which of them, was not told."""

    categories: frozenset[str]
    weight: float


class _Token(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    octets: list[int] | None = msgspec.field(default=None, name="bytes")
    top_logprobs: list[_Token] | None = None

    @property
    def raw(self) -> bytes:
        if self.octets:
            try:
                return bytes(self.octets)
            except ValueError:
                return self.token.encode("utf-8", "replace")
        return self.token.encode("utf-8", "replace")

    @property
    def probability(self) -> float:
        return 0.0 if self.logprob is None else math.exp(min(self.logprob, 0.0))


def shares(answer: str, logprobs: Sequence[Json], categories: Sequence[str]) -> tuple[Share, ...] | None:
    """How the model divided its trust among ``categories``; the weights sum to 1.

    None where that cannot be told: no logprobs, logprobs of another text, a value that is no category.
    """
    try:
        tokens = msgspec.convert(list(logprobs), list[_Token])
    except msgspec.ValidationError:
        return None
    spelt = {name: msgspec.json.encode(name)[1:-1] + b'"' for name in categories}
    written = b"".join(token.raw for token in tokens)
    begin = written.rfind(answer.strip().encode("utf-8", "replace")) if answer.strip() else -1
    value = _VALUE.search(written, begin) if begin >= 0 else None
    if value is None:
        return None
    return _walked(tokens, written, value.end(), spelt)


def _walked(
    tokens: Sequence[_Token], written: bytes, value: int, spelt: Mapping[str, bytes]
) -> tuple[Share, ...] | None:
    """Follows the tokens of the value; at each that parts names, those left behind get their share."""
    alive, mass, told = frozenset(spelt), 1.0, []
    for token, begin, end in _placed(tokens):
        if end <= value or len(alive) == 1:
            continue
        lead, done = written[begin:value], max(0, begin - value)
        ahead = {name: lead + spelt[name][done:] for name in alive}
        kept, others = _weighed(token, ahead)
        if not kept:
            return None
        if kept == alive:
            continue
        total = sum(others.values())
        if not others[kept] > 0:  # it was written, so that it had no chance cannot be what the server means
            return None
        told += [Share(g, mass * w / total) for g, w in others.items() if g != kept]
        mass *= others[kept] / total
        alive = kept
    return (*told, Share(alive, mass)) if _ends_in(alive, spelt, written, value) else None


def _placed(tokens: Sequence[_Token]) -> Iterator[tuple[_Token, int, int]]:
    end = 0
    for token in tokens:
        begin, end = end, end + len(token.raw)
        yield token, begin, end


def _ends_in(alive: frozenset[str], spelt: Mapping[str, bytes], written: bytes, value: int) -> bool:
    return any(written.startswith(spelt[name], value) for name in alive)


def _weighed(token: _Token, ahead: Mapping[str, bytes]) -> tuple[frozenset[str], dict[frozenset[str], float]]:
    """The names that ``token`` goes on with, and the weight of each group of names that part here."""
    kept = _led_to(token.raw, ahead)
    listed = {one.raw: one.probability for one in token.top_logprobs or ()}
    listed[token.raw] = max(token.probability, listed.get(token.raw, 0.0))
    weights = {kept: 0.0}
    for raw, probability in listed.items():
        group = _led_to(raw, ahead)
        if group and group <= kept:
            weights[kept] += probability
        elif group and len(group) < len(ahead):
            weights[group] = weights.get(group, 0.0) + probability
    unseen = frozenset(ahead).difference(*weights)
    if unseen:
        rarest = min(listed.values()) if len(listed) > 1 else 1.0
        weights[unseen] = min(rarest * len(unseen), max(0.0, 1.0 - sum(listed.values())))
    return kept, weights


def _led_to(raw: bytes, ahead: Mapping[str, bytes]) -> frozenset[str]:
    """The names that a token is a beginning of, or that it completes. Blanks before a value do not count."""
    found = []
    for name, text in ahead.items():
        quoted = text[:1].isspace() or text[:1] in (b'"', b":")
        left, right = (raw.lstrip(), text.lstrip()) if quoted else (raw, text)
        if left and (right.startswith(left) or left.startswith(right)):
            found.append(name)
    return frozenset(found)


def spread(told: Sequence[Share], before: Mapping[str, float]) -> dict[str, float]:
    """One probability per category: within a share the encoder's ratios hold, for nothing else was said."""
    names = frozenset[str]().union(*(share.categories for share in told))
    out = dict.fromkeys(sorted(names), 0.0)
    for share in told:
        known = {name: max(before.get(name, 0.0), FLOOR) for name in share.categories}
        whole = sum(known.values())
        for name, part in known.items():
            out[name] += share.weight * part / whole
    return out


def pooled(before: Mapping[str, float], said: Mapping[str, float], weight: float) -> dict[str, float]:
    """The logarithmic opinion pool of two judges over the categories of ``said``:

        p(c) ∝ before(c) ^ (1 - weight) · said(c) ^ weight

    Categories that were not offered keep what they had, and the offered ones together what they had. Without
    an opinion ``before``, what was said stands alone.
    """
    if not before:
        return dict(said)
    offered = sum(before.get(name, 0.0) for name in said)
    raw = {
        name: max(before.get(name, 0.0) / max(offered, FLOOR), FLOOR) ** (1 - weight)
        * max(p, FLOOR) ** weight
        for name, p in said.items()
    }
    whole = sum(raw.values())
    return dict(before) | {name: offered * value / whole for name, value in raw.items()}
