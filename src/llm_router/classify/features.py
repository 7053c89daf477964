"""What the encoder reads in a text: words, word pairs, the words at both ends, and letter groups.

Every feature but the letter groups is a key of a vocabulary; letter groups are hashed (CRC-32), so that a
word that training never met still says something. The same text gives the same features in every process
and on every machine.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

MAX_CHARS = 4000
"""Longer texts are read at their head, middle and tail only, so that the cost stays bounded."""

GRAM_BITS = 16
GRAMS = 1 << GRAM_BITS
_MASK = GRAMS - 1

EDGE, FIRST, LAST = "\x01", "\x02", "\x03"
"""Marks of keys that stand for a place; no token contains these characters, or a space."""

LONG_CHARS = 900
"""Above this size a text is taken for a request around a pasted document; the request sits at the ends."""

END_CHARS = 450
EDGE_TOKENS = 10
"""Words at each end of a text that are read as standing there."""

MOST_DIGITS = 4
"""Numbers are read by how many digits they have, up to this many."""

_WORD_CHARS = 24
_DIGITS = "0" * MOST_DIGITS
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+|\d+|[^\w\s]|_")
_HANGUL = re.compile("[\uac00-\ud7af]")
_MARKS = re.compile(r"[^\w\s\x00-\u02ff]{11,}")
_MOST_MARKS = 10
"""Combining marks that are read of those on one letter, more than any script puts there. Bringing them in
order takes time with the square of their number; for that reason UAX #15 has stream-safe texts of at most 30.
"""
_MANY_MARKS_CHARS = 300
"""Texts that are shorter cannot have so many marks that it matters, and are not searched for them."""
_UNUSUAL_MARKS = frozenset("\u0f73\u0f75\u0f81")
"""Those that are not called combining before they are taken apart."""
_HALF_WIDTH = (("\uff9e", "\u3099"), ("\uff9f", "\u309a"))
"""Marks that are letters before they are composed (NFKC), and what they are then."""


MIDDLE = 0.3
"""What a word counts that stands only in the middle of a long text."""

MOST_TIMES = 999
_TF = (0.0, *(1.0 + math.log(count) for count in range(1, MOST_TIMES + 1)))
"""What a word counts by how often it stands; more than `MOST_TIMES` is no more."""


class Parts(NamedTuple):
    """The tokens of a text: its ends (one and the same list in a short text), and what is between them."""

    head: list[str]
    tail: list[str]
    middle: list[str]


def times_of(count: int) -> float:
    """What a word counts that stands ``count`` times."""
    return _TF[min(count, MOST_TIMES)]


def end_chars(sampled: str) -> int:
    """How many characters at each end of a text are its head and tail; 0 where it is read in one piece."""
    return END_CHARS if len(sampled) > LONG_CHARS else 0


def split(sampled: str) -> Parts:
    """The tokens of a text that `sample` has cut to size."""
    return parted(sampled, end_chars(sampled))


def parted(text: str, ends: int) -> Parts:
    """The tokens of a text whose head and tail have so many characters; with 0 it is one piece."""
    if not ends:
        found = tokens(text)
        return Parts(found, found, [])
    return Parts(tokens(text[:ends]), tokens(text[-ends:]), tokens(text[ends:-ends]))


def counts(parts: Parts) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Words at the ends with their counts, and words that stand only in the middle.

    The middle is what a long text is about; that says less about the kind of work than the words around it.
    """
    words = Counter(parts.head)
    if parts.tail is parts.head:
        return words, {}
    words.update(parts.tail)
    middle = Counter(parts.middle)
    return words, {word: count for word, count in middle.items() if word not in words}


def sample(text: str) -> str:
    """The part of a text that is read: all of it, or head, middle and tail of a long one; composed (NFC)."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        third = (MAX_CHARS - 2) // 3
        middle = (len(text) - third) // 2
        text = "\n".join((text[:third], text[middle : middle + third], text[-third:]))
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _stream_safe(text) if len(text) >= _MANY_MARKS_CHARS else text)


def _stream_safe(text: str) -> str:
    for mark, combining in _HALF_WIDTH:
        text = text.replace(mark, combining)
    return _MARKS.sub(_few_marks, text)


def _few_marks(found: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in found[0]:
        marks = marks + 1 if unicodedata.combining(char) or char in _UNUSUAL_MARKS else 0
        if marks <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


def tokens(sampled: str) -> list[str]:
    """Words in lower case, single characters of scripts without spaces, symbols, and numbers by length."""
    if not sampled.isascii():
        # A character may stand for as many as 18; a text of them is read as far as twice its own length.
        most = 2 * len(sampled) + 18
        sampled = unicodedata.normalize("NFKC", sampled)[:most].replace("\u2019", "'")
    found = _TOKEN.findall(sampled.lower().replace("'", ""))
    return [token if not token[0].isdigit() else _DIGITS[: len(token)] for token in found]


def places(parts: Parts) -> list[str]:
    """Keys of word pairs, of the words at both ends, and of how the text begins and ends; none twice.

    Their order is that of the text: sums over them must not depend on how a process hashes.
    """
    head, tail = parts.head, parts.tail
    keys = [*map(" ".join, pairwise(head))]
    if tail is not head:
        keys += map(" ".join, pairwise(tail))
    keys += [EDGE + token for token in head[:EDGE_TOKENS]]
    keys += [EDGE + token for token in tail[-EDGE_TOKENS:]]
    keys += [FIRST + " ".join(head[:count]) for count in (1, 2, 3)]
    keys += [LAST + " ".join(tail[-count:]) for count in (1, 2)]
    return list(dict.fromkeys(keys))


def is_word(key: str) -> bool:
    return key[0] > LAST and " " not in key


def letter_groups(word: str) -> list[int]:
    """Buckets of a word's letter 3- to 5-groups, its border counting as a letter; Hangul by syllables.

    Korean particles hang on to the end of a word: syllable groups and the stem find the noun under any.
    """
    if len(word) < 2 or not word[0].isalpha():
        return []
    if _HANGUL.search(word):
        return [crc32(group.encode()) & _MASK for group in _syllable_groups(word)]
    framed = f"_{word[:_WORD_CHARS]}_"
    if framed.isascii():
        raw = framed.encode()
        return [crc32(raw[i : i + n]) & _MASK for n in (3, 4, 5) for i in range(len(raw) - n + 1)]
    return [
        crc32(framed[i : i + n].encode("utf-8", "surrogatepass")) & _MASK
        for n in (3, 4, 5)
        for i in range(len(framed) - n + 1)
    ]


def _syllable_groups(word: str) -> Iterator[str]:
    yield f"^{word[:2]}"
    for n in (1, 2, 3):
        for start in range(len(word[:_WORD_CHARS]) - n + 1):
            yield word[start : start + n]


def readable(key: str) -> str:
    """A key as a person may read it."""
    return key.lstrip(EDGE + FIRST + LAST)
