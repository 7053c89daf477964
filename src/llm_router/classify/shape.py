"""What a text looks like before a word of it is read: length, lines, figures, code, numbered passages."""

from __future__ import annotations

import functools
import re
from array import array
from bisect import bisect_left
from collections import Counter

from llm_router.compiled import ARITHMETIC

_LENGTHS = (12, 25, 50, 90, 160, 300, 600, 1200, 2500, 6000, 12000, 36000)
_LINES = (2, 4, 8, 20, 60)
_PASSAGES = (1, 2, 4, 8)
_SHARES = ("many digits", "many symbols", "capital letters", "non-Latin script", "Hangul")
_BLOCKS = (2, 3, 4, 6, 10)
_HEADS = (2, 4, 8)
_BLOCK_CHARS, _HEAD_CHARS, _LINE_CHARS = 80, 5, 20
_LONG_CHARS, _QUESTION_CHARS = 600, 250
_LAYOUT_CHARS = 24_000
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
    ("bullet points", ("- ", "* ", "• "), re.compile(r"(?m)^[^\S\n]*[-*•]\s")),
    ("multiple-choice options", ("\n",), re.compile(r"(?m)^[^\S\n]*\(?[A-Da-d][).:]\s")),
    ("a quoted text", tuple('"“«「'), re.compile(r"[\"“«「][^\"“”«»「」]{12,}[\"”»」]")),
    ("a colon before a pasted text", (":",), re.compile(r":\s*\n|^[^\n:]{4,80}:\s+\S.{60}")),
)
"""(name, strings of which one must occur, pattern that must then match): most texts need no pattern.

What begins at the head of a line takes in no end of a line: of many empty lines each would look at all that
follow, and 4,000 characters would take a second.
"""
_PASSAGE = re.compile(
    r"(?im)^(?:[^\S\n]|[#*>-])*(?:\[\d{1,3}\]|(?:document|doc|passage|source|context|article|excerpt|text|file|"
    r"snippet|result|reference|abstract|report|page)\s*[\[(#]?(?:\d{1,3}|[A-H])\b)"
)

_BLANK = re.compile(r"\n\s*\n")
_FIGURE = re.compile(r"\d+")

NAMES: tuple[str, ...] = (
    *(f"longer than {n} characters" for n in _LENGTHS),
    *(f"at least {n} lines" for n in _LINES),
    *(f"at least {n} numbered passages" for n in _PASSAGES),
    *(f"at least {n} blocks of text" for n in _BLOCKS),
    *(f"at least {n} lines that begin alike" for n in _HEADS),
    "a question before a long text",
    "a question after a long text",
    *_SHARES,
    *(name for name, _, _ in _FLAGS),
    "any text",
)
"""One readable name per feature, in the order of `shape`; the last is the constant."""
_TELLING = frozenset(name for name, _, _ in _FLAGS) | {f"at least {n} numbered passages" for n in _PASSAGES}
TOLD = tuple(f"({name})" if name in _TELLING else "" for name in NAMES)
"""How each feature is told; empty for one that means nothing to a reader, as a length by itself does."""


_LINES_AT = len(_LENGTHS)
_SHARES_AT = NAMES.index(_SHARES[0])
_FLAGS_AT = _SHARES_AT + len(_SHARES)
_FLAG_TESTS = tuple(
    (place, frozenset(needle[0] for needle in needles), needles, pattern)
    for place, (_, needles, pattern) in enumerate(_FLAGS, start=_FLAGS_AT)
)
"""With the first characters of the needles: most texts have none of them."""
_OF_LENGTH = tuple(
    array("f", [1.0] * steps + [0.0] * (len(NAMES) - 1 - steps) + [1.0]) for steps in range(len(_LENGTHS) + 1)
)
"""What a text of one line has by its length alone, and the constant."""
_COMPILED = ARITHMETIC.chosen()


def shape(text: str, *, in_python: bool = False) -> array[float]:
    """The structural features of a text, one number between 0 and 1 for each of `NAMES`.

    In single precision. Where ``_arithmetic.c`` was compiled, and not ``in_python``, it finds those of a text
    in ASCII, which are the same.
    """
    here = None if in_python else _COMPILED
    if here is not None and text.isascii():
        found = array("f", bytes(4 * len(NAMES)))
        here.shape(text, found)
        return found
    text = text.strip()
    size = len(text)
    values = _OF_LENGTH[bisect_left(_LENGTHS, size)][:]
    if "\n" in text:
        values[_LINES_AT:_SHARES_AT] = array("f", _layout(text))
    both_ends = text if size <= _FLAG_CHARS else text[: _FLAG_CHARS - 500] + "\n" + text[-500:]
    if both_ends:
        _mark(both_ends, values, in_python=here is None)
    return values


def _mark(both_ends: str, values: array[float], *, in_python: bool) -> None:
    """The shares of kinds of characters, and the flags."""
    values[_SHARES_AT:_FLAGS_AT] = array("f", _shares(both_ends, in_python=in_python))
    characters = set(both_ends)
    for place, firsts, needles, pattern in _FLAG_TESTS:
        if characters.isdisjoint(firsts):
            continue
        if any(map(both_ends.__contains__, needles)) and (pattern is None or pattern.search(both_ends)):
            values[place] = 1.0


def _layout(text: str) -> list[bool]:
    """Of a text of several lines: how many there are, numbered passages, blocks of prose, the most lines that
    begin alike (figures do not count), and whether a question stands before or after much text."""
    lines = [line.strip() for line in text[:_LAYOUT_CHARS].split("\n")]
    filled = [line for line in lines if line]
    heads = Counter(
        _FIGURE.sub("0", line[:_HEAD_CHARS].lower()) for line in filled if len(line) >= _LINE_CHARS
    )
    alike = max(heads.values(), default=0)
    blocks = sum(len(block) >= _BLOCK_CHARS for block in _BLANK.split(text))
    passages = len(_PASSAGE.findall(text))
    asks = [line.endswith(("?", "？")) and len(line) <= _QUESTION_CHARS for line in (filled[0], filled[-1])]
    return [
        *(len(lines) >= n for n in _LINES),
        *(passages >= n for n in _PASSAGES),
        *(blocks >= n for n in _BLOCKS),
        *(alike >= n for n in _HEADS),
        *(len(text) >= _LONG_CHARS and asked for asked in asks),
    ]


_DIGITS = b"0123456789"
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SYMBOLS = bytes(c for c in range(33, 128) if not chr(c).isalnum())


def _shares(text: str, *, in_python: bool) -> list[float]:
    if text.isascii():
        raw = text.encode()
        size = len(raw)
        digits, symbols, capitals = (
            (size - len(raw.translate(None, kind))) / size for kind in (_DIGITS, _SYMBOLS, _CAPITALS)
        )
        return [min(1.0, 4 * digits), min(1.0, 4 * symbols), min(1.0, 4 * capitals), 0.0, 0.0]
    raw = text.encode("utf-32-le", "surrogatepass")
    counts = _counted(raw) if in_python or _COMPILED is None else _COMPILED.kinds(raw)
    size = len(text)
    digits, capitals, symbols, wide, hangul = (count / size for count in counts)
    return [min(1.0, 4 * digits), min(1.0, 4 * symbols), min(1.0, 4 * capitals), wide + hangul, hangul]


def _counted(utf_32: bytes) -> list[int]:
    """How many digits, capitals, symbols, letters of other scripts but Hangul, and Hangul."""
    import numpy as np

    codes = np.frombuffer(utf_32, dtype=np.uint32)
    groups = np.frombuffer(_groups(), dtype=np.uint8)
    counts: list[int] = np.bincount(groups[np.minimum(codes, _LAST)], minlength=_GROUPS).tolist()
    return counts[2:]


@functools.cache
def _groups() -> bytes:
    """Group of each character: small letter, space, digit, capital, symbol, non-Latin, Hangul."""
    table = bytearray([5]) * (_LAST + 1)
    ranges = (
        *((0, 0x370, 0), (0, 0xC0, 4), (0, 33, 1), (48, 58, 2), (65, 91, 3), (97, 123, 0)),
        *((0xAC00, 0xD7A4, 6), (0x2000, 0x2E00, 4)),
    )
    for first, end, group in ranges:
        table[first:end] = bytes([group]) * (end - first)
    return bytes(table)
