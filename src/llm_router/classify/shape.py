"""What a text looks like before a word of it is read: length, lines, figures, code, numbered passages."""

from __future__ import annotations

import functools
import re

import numpy as np
from numpy.typing import NDArray

_LENGTHS = (12, 25, 50, 90, 160, 300, 600, 1200, 2500, 6000, 12000, 36000)
_LINES = (2, 4, 8, 20, 60)
_PASSAGES = (1, 2, 4, 8)
_SHARES = ("many digits", "many symbols", "capital letters", "non-Latin script", "Hangul")
_PASSAGE_CHARS = 24_000
_FLAG_CHARS = 3_000

_GROUPS = 7
_LAST = 0xFFFF

_FLAGS: tuple[tuple[str, tuple[str, ...], re.Pattern[str] | None], ...] = (
    ("ends in a question mark", ("?", "？"), re.compile(r"[?？][\s\"')]*\Z")),
    ("question mark", ("?", "？"), None),
    ("code fence", ("```",), None),
    ("braces", ("{", "}"), None),
    ("code punctuation", ("(", "=", ";\n", "</"), re.compile(r"\w\(\w*\)|=>|==|;\n|\):\n|</\w")),
    (
        "mathematical signs",
        ("\\", "$", "^", *"√∫∑∏≤≥≠∈∀∃π∞⊂≡"),
        re.compile(r"[√∫∑∏≤≥≠∈∀∃π∞⊂≡]|\\[a-z]{2,}|\$[^$\n]{1,80}\$|\w\^\w"),
    ),
    ("an equation", ("=",), re.compile(r"\w\s*=\s*[-\w(]")),
    ("arithmetic", tuple("+-*/×÷"), re.compile(r"\d\s*[-+*/×÷]\s*\d")),
    ("a link", ("http://", "https://", "www."), None),
    ("bullet points", ("- ", "* ", "• "), re.compile(r"(?m)^\s*[-*•]\s")),
    ("multiple-choice options", ("\n",), re.compile(r"(?m)^\s*\(?[A-Da-d][).:]\s")),
    ("a quoted text", tuple('"“«「'), re.compile(r"[\"“«「][^\"”»」]{12,}[\"”»」]")),
    ("a colon before a pasted text", (":",), re.compile(r":\s*\n|^[^\n:]{4,80}:\s+\S.{60}")),
)
"""(name, strings of which one must occur, pattern that must then match): most texts need no pattern."""
_PASSAGE = re.compile(
    r"(?im)^[\s#*>-]*(?:\[\d{1,3}\]|(?:document|doc|passage|source|context|article|excerpt|text|file|"
    r"snippet|result|reference|abstract|report|page)\s*[\[(#]?(?:\d{1,3}|[A-H])\b)"
)

NAMES: tuple[str, ...] = (
    *(f"longer than {n} characters" for n in _LENGTHS),
    *(f"at least {n} lines" for n in _LINES),
    *(f"at least {n} numbered passages" for n in _PASSAGES),
    *_SHARES,
    *(name for name, _, _ in _FLAGS),
    "any text",
)
"""One readable name per feature, in the order of `shape`; the last is the constant."""
TELLING = frozenset(name for name, _, _ in _FLAGS) | {f"at least {n} numbered passages" for n in _PASSAGES}
"""Features that mean something to a reader of an explanation (a length by itself does not)."""


def shape(text: str) -> NDArray[np.float32]:
    """The structural features of a text, one number between 0 and 1 for each of `NAMES`."""
    text = text.strip()
    size = len(text)
    lines = text.count("\n") + 1
    passages = len(_PASSAGE.findall(text[:_PASSAGE_CHARS])) if lines > 1 else 0
    both_ends = text if size <= _FLAG_CHARS else text[: _FLAG_CHARS - 500] + "\n" + text[-500:]
    values = [size > n for n in _LENGTHS]
    values += [lines >= n for n in _LINES]
    values += [passages >= n for n in _PASSAGES]
    flags = [
        any(map(both_ends.__contains__, needles))
        and (pattern is None or pattern.search(both_ends) is not None)
        for _, needles, pattern in _FLAGS
    ]
    return np.array([*values, *_shares(both_ends), *flags, 1.0], dtype=np.float32)


def _shares(text: str) -> list[float]:
    if not text:
        return [0.0] * len(_SHARES)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    counts = np.bincount(_groups()[np.minimum(codes, _LAST)], minlength=_GROUPS) / len(codes)
    _, _, digits, capitals, symbols, wide, hangul = counts.tolist()
    return [min(1.0, 4 * digits), min(1.0, 4 * symbols), min(1.0, 4 * capitals), wide + hangul, hangul]


@functools.cache
def _groups() -> NDArray[np.uint8]:
    """Group of each character: small letter, space, digit, capital, symbol, non-Latin, Hangul."""
    table = np.full(_LAST + 1, 5, dtype=np.uint8)
    table[:0x370] = 0
    table[:0xC0] = 4
    for first, last, group in ((0, 32, 1), (48, 57, 2), (65, 90, 3), (97, 122, 0), (0xAC00, 0xD7A3, 6)):
        table[first : last + 1] = group
    table[0x2000:0x2E00] = 4
    return table
