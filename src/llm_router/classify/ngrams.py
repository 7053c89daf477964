"""Text to hashed n-grams, script by script, with numpy doing the work of a loop.

Every n-gram is a span of the text, and every span's hash comes from one prefix sum: with
``prefix[i] = sum(code[j] * BASE**j for j < i)`` modulo 2**64, the span ``[s, e)`` hashes to
``(prefix[e] - prefix[s]) * BASE**-s``, whatever its place in the text. The constants are part of the
weights' file format: the same text gives the same ids in every process and on every machine.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 17
BUCKETS = 1 << HASH_BITS
MAX_CHARS = 4000
"""Longer texts are read at their head, middle and tail only, so that the cost stays bounded."""

U64 = NDArray[np.uint64]
Ints = NDArray[np.int64]

_SPACE, _LETTER, _DIGIT, _HANGUL, _CJK, _SYMBOL = range(6)
_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_PAIR = np.uint64(0x94D049BB133111EB)
_SHIFT_MIX = np.uint64(29)
_SHIFT_ID = np.uint64(64 - HASH_BITS)
_GAP = "\n"
_EDGE_TOKENS = 10

WORD, PAIR, GRAM, WIDE, STEM, EDGE = range(6)
FAMILIES = 6
_SALTS = np.array([(0xD6E8FEB86659FD93 * (2 * k + 1)) % 2**64 for k in range(FAMILIES)], dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Ngrams:
    """Hashed n-grams of one text; entry i covers ``text[starts[i]:ends[i]]``."""

    text: str
    """The text as it was read: sampled, normalised, lower case, padded by one space on both sides."""
    ids: Ints
    families: tuple[tuple[int, int], ...]
    """(family, number of n-grams), in the order of ``ids``."""
    spans: tuple[tuple[Ints, Ints], ...]
    token_starts: Ints
    token_ends: Ints


def read(text: str) -> str:
    """The part of a text that is looked at, normalised: trimmed, NFKC, lower case, no apostrophes."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        third = MAX_CHARS // 3
        middle = (len(text) - third) // 2
        text = _GAP.join((text[:third], text[middle : middle + third], text[-third:]))
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "")
    return " " + text.lower().replace("'", "")[: MAX_CHARS + 2] + " "


def ngrams(text: str) -> Ngrams:
    """Every hashed n-gram of a text: words, word pairs, letter 3-5-grams, CJK and Hangul 1-3-grams."""
    seen = read(text)
    raw = np.frombuffer(seen.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kind = _kinds()[np.minimum(raw, 0xFFFF)]
    codes = np.where(kind == _DIGIT, np.uint64(48), raw.astype(np.uint64))
    token_starts, token_ends = _tokens(kind)
    parts: list[tuple[int, U64, Ints, Ints]] = []
    words = _span_hashes(_prefix(codes), token_starts, token_ends)
    parts.append((WORD, words, token_starts, token_ends))
    parts.append((PAIR, words[:-1] * _PAIR + words[1:], token_starts[:-1], token_ends[1:]))
    edge = _edge_tokens(len(words))
    parts.append((EDGE, words[edge], token_starts[edge], token_ends[edge]))
    parts.extend(_letter_grams(kind, codes))
    if int(kind.max()) >= _HANGUL and bool(((kind == _HANGUL) | (kind == _CJK)).any()):
        parts.extend(_wide_grams(kind, codes, token_starts, token_ends))
    return Ngrams(
        text=seen,
        ids=_buckets(parts),
        families=tuple((family, len(h)) for family, h, _, _ in parts),
        spans=tuple((s, e) for _, _, s, e in parts),
        token_starts=token_starts,
        token_ends=token_ends,
    )


def is_cjk(char: str) -> bool:
    """Whether a character is written without spaces between words (Han, kana)."""
    return bool(_kinds()[min(ord(char), 0xFFFF)] == _CJK)


def _edge_tokens(count: int) -> Ints:
    """Indices of the first and last tokens: a request sits at an end of a pasted document."""
    if count <= 2 * _EDGE_TOKENS:
        return np.arange(count)
    return np.concatenate([np.arange(_EDGE_TOKENS), np.arange(count - _EDGE_TOKENS, count)])


def _tokens(kind: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Runs of one kind of character; every symbol stands alone; spaces belong to none."""
    border = np.empty(len(kind) + 1, dtype=bool)
    border[0] = border[-1] = True
    border[1:-1] = (kind[1:] != kind[:-1]) | (kind[1:] == _SYMBOL)
    inside = kind != _SPACE
    starts = np.flatnonzero(border[:-1] & inside)
    ends = np.flatnonzero(border[1:] & inside) + 1
    return starts, ends


def _letter_grams(kind: NDArray[np.uint8], codes: U64) -> list[tuple[int, U64, Ints, Ints]]:
    """3-, 4- and 5-grams inside words, where a word's border counts as one character."""
    letter = kind == _LETTER
    prefix = _prefix(np.where(letter, codes, np.uint64(32)))
    run = np.concatenate(([0], np.cumsum(letter)))
    out = []
    for n in (3, 4, 5):
        if len(kind) < n:
            break
        inner = run[n - 1 : len(kind)] - run[1 : len(kind) - n + 2]
        starts = np.flatnonzero(inner == n - 2)
        ends = starts + n
        out.append((GRAM, _span_hashes(prefix, starts, ends), starts, ends))
    return out


def _wide_grams(
    kind: NDArray[np.uint8], codes: U64, token_starts: Ints, token_ends: Ints
) -> list[tuple[int, U64, Ints, Ints]]:
    """Syllable or character n-grams inside a run, and the first two syllables of Hangul words.

    Korean particles hang on to the end of a word: pairs and the stem find the noun under any of them.
    """
    prefix = _prefix(codes)
    out = []
    for n in (1, 2, 3):
        same = kind[: len(kind) - n + 1] >= _HANGUL
        same &= kind[: len(kind) - n + 1] <= _CJK
        for step in range(1, n):
            same &= kind[: len(kind) - n + 1] == kind[step : len(kind) - n + 1 + step]
        if n == 1:
            same &= kind == _CJK
        starts = np.flatnonzero(same)
        out.append((WIDE, _span_hashes(prefix, starts, starts + n), starts, starts + n))
    stems = token_starts[(kind[token_starts] == _HANGUL) & (token_ends - token_starts >= 2)]
    out.append((STEM, _span_hashes(prefix, stems, stems + 2), stems, stems + 2))
    return out


def _prefix(codes: U64) -> U64:
    powers, _ = _powers()
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=prefix[1:])
    return prefix


def _span_hashes(prefix: U64, starts: Ints, ends: Ints) -> U64:
    _, inverse = _powers()
    hashes: U64 = (prefix[ends] - prefix[starts]) * inverse[starts]
    return hashes


def _buckets(parts: list[tuple[int, U64, Ints, Ints]]) -> Ints:
    """One id below `BUCKETS` per n-gram; equal spans of different families get different ids."""
    mixed = np.concatenate([hashes for _, hashes, _, _ in parts])
    mixed += np.repeat(_SALTS[[part[0] for part in parts]], [len(part[1]) for part in parts])
    mixed *= _MIX
    mixed ^= mixed >> _SHIFT_MIX
    mixed *= _PAIR
    return (mixed >> _SHIFT_ID).astype(np.int64)


@functools.cache
def _powers() -> tuple[U64, U64]:
    size = MAX_CHARS + 8
    inverse_base = pow(_BASE, -1, 2**64)
    powers, inverse = [1], [1]
    for _ in range(size):
        powers.append(powers[-1] * _BASE % 2**64)
        inverse.append(inverse[-1] * inverse_base % 2**64)
    return np.array(powers, dtype=np.uint64), np.array(inverse, dtype=np.uint64)


@functools.cache
def _kinds() -> NDArray[np.uint8]:
    """Kind of every character of the basic plane; what lies above (emoji) counts as a symbol."""
    table = np.full(0x10000, _SYMBOL, dtype=np.uint8)
    for code in range(0xFFFF):
        char = chr(code)
        if char.isspace() or unicodedata.category(char) in ("Cc", "Cf", "Mn"):
            table[code] = _SPACE
        elif char.isalpha():
            table[code] = _LETTER
        elif char.isdigit():
            table[code] = _DIGIT
    for first, last in ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7FF)):
        table[first : last + 1] = _HANGUL
    for first, last in (
        (0x3040, 0x30FF),
        (0x31F0, 0x31FF),
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF),
    ):
        table[first : last + 1] = _CJK
    table[0x0E00:0x0E80] = _CJK
    return table
