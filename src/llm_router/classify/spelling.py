"""Words one slip of the finger away from a common word, read as that word."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial

from llm_router.classify import features

LEAST_LETTERS = 5
"""Shorter words have too many neighbours that mean something else."""

COMMON = 1.6
"""How much lower than the rarest a word's rarity must be for slips to be mended towards it: e**1.6 times as
many texts as the two that a key must stand in."""


class Slips:
    """Knows words by what is left of each when one letter is taken away.

    Two words that share such a rest are at most one slip apart, or two: the second look tells.
    ``words``, which gives them with the most usual first, is asked when the first strange word comes, since
    gathering the rests would be a tenth of the time that a program takes to start.
    """

    def __init__(self, words: Callable[[], Iterable[str]]) -> None:
        self._words = words
        self._longest = 0  # letters of the longest that is known, once `_rests` was asked for

    @functools.cached_property
    def _rests(self) -> dict[str, str]:
        rests: dict[str, str] = {}
        for word in self._words():
            if len(word) >= LEAST_LETTERS:
                self._longest = max(self._longest, len(word))
                for rest in (word, *_rests(word)):
                    rests.setdefault(rest, word)
        return rests

    def meant(self, word: str) -> str | None:
        """The most usual word from which ``word`` comes by one letter too many, too few, wrong or swapped."""
        if len(word) < LEAST_LETTERS:
            return None
        known = self._rests
        if len(word) > self._longest + 1:
            return None  # to try all its rests would take time with the square of its length
        for rest in (word, *_rests(word)):
            found = known.get(rest)
            if found is not None and one_slip(word, found):
                return found
        return None

    def meant_by(self, words: Iterable[str]) -> dict[str, str]:
        """What was meant by each of these strange words, where that can be told."""
        return {word: found for word in words if (found := self.meant(word)) is not None}


def _rests(word: str) -> Iterator[str]:
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]


def one_slip(left: str, right: str) -> bool:
    """Whether one letter more, less, another, or two neighbours swapped make one word of the other."""
    if left == right:
        return False
    start = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        start += 1
    rest, other = left[start:], right[start:]
    if len(left) == len(right):
        swapped = rest[:2] == other[1::-1] and rest[2:] == other[2:]
        return rest[1:] == other[1:] or swapped
    return rest[1:] == other if len(left) > len(right) else rest == other[1:]


def mended(parts: features.Parts, meant: Mapping[str, str]) -> features.Parts:
    """The same with every word in ``meant`` replaced by what it stands for, but in the middle: what a long
    text is about is told by many words."""
    if not meant:
        return parts
    head = [meant.get(token, token) for token in parts.head]
    if parts.tail is parts.head:
        return features.Parts(head, head, [])
    return features.Parts(head, [meant.get(token, token) for token in parts.tail], parts.middle)


def corrected(parts: features.Parts, known: Container[str], slips: Slips) -> features.Parts:
    """The same with slips of the finger mended, ``known`` being the words that are none."""
    words = {*parts.head, *parts.tail}
    return mended(parts, slips.meant_by([word for word in words if word not in known]))


def slips_of(known: Callable[[], tuple[Sequence[str], Sequence[float]]]) -> Slips:
    """Knows the common words of a vocabulary, the most usual first; ``known`` gives keys and their rarity."""
    return Slips(partial(_common_words, known))


def _common_words(known: Callable[[], tuple[Sequence[str], Sequence[float]]]) -> list[str]:
    keys, idf = known()
    most = max(idf) - COMMON
    common = ((rare, key) for key, rare in zip(keys, idf, strict=True) if rare <= most)
    return [key for _, key in sorted(common) if features.is_word(key)]
