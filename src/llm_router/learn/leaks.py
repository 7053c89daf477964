"""Texts that stand twice in the training text, or in it and in the cases that measure it.

    python -m llm_router.learn.leaks [--text training] [--cases FOLDER]

Two texts are alike where, without case, marks and white space, they are the same, or where most runs of
words of the shorter one stand in the other too. Prints one line per pair; exit status 1 where there is one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

RUN = 4
"""Words in a row that are compared."""
ALIKE = 0.7
"""Share of the runs of the shorter text from which two texts count as one."""
LEAST_WORDS = 8
"""Shorter texts must be the same: "thank you very much" is nobody's."""
USUAL = 25
"""Runs of more texts than this are turns of phrase, not traces."""

_NO_TASKS = frozenset({"follow_ups.jsonl", "frames.jsonl", "passages.jsonl"})
"""Files of the training text whose lines are no tasks."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two places with one text; ``share`` is 1 where they are the same."""

    first: Place
    second: Place
    share: float


class _Line(msgspec.Struct):
    text: str = ""
    task: str = ""
    variant: str = "orig"


def texts_of(folder: Path) -> list[Place]:
    """The texts of all ``*.jsonl`` files of a folder; variants of a case are not texts of their own."""
    found = []
    for path in sorted(folder.expanduser().glob("*.jsonl")):
        if path.name in _NO_TASKS:
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            row = msgspec.json.decode(line, type=_Line)
            text = row.text or row.task
            if text.strip() and row.variant == "orig":
                found.append(Place(path.name, number, text))
    return found


def pairs(texts: Sequence[Place], others: Sequence[Place] = ()) -> list[Pair]:
    """Pairs among ``texts``, or between them and ``others`` where these are given."""
    every = [*texts, *others]
    words = [_WORD.findall(place.text.lower()) for place in every]
    return sorted(
        [*_same(every, words, len(texts)), *_alike(every, words, len(texts))],
        key=lambda pair: (-pair.share, pair.first.file, pair.first.line),
    )


def _wanted(left: int, right: int, own: int, count: int) -> bool:
    return own == count or (left < own <= right)


def _same(every: Sequence[Place], words: Sequence[Sequence[str]], own: int) -> Iterator[Pair]:
    seen: dict[str, int] = {}
    for place, (one, spoken) in enumerate(zip(every, words, strict=True)):
        key = " ".join(spoken) or one.text.strip()
        first = seen.setdefault(key, place)
        if first != place and _wanted(first, place, own, len(every)):
            yield Pair(every[first], one, 1.0)


def _alike(every: Sequence[Place], words: Sequence[Sequence[str]], own: int) -> Iterator[Pair]:
    runs = [
        {" ".join(spoken[i : i + RUN]) for i in range(len(spoken) - RUN + 1)}
        if len(spoken) >= LEAST_WORDS
        else set()
        for spoken in words
    ]
    holders: dict[str, list[int]] = defaultdict(list)
    for place, held in enumerate(runs):
        for run in held:
            holders[run].append(place)
    for right, held in enumerate(runs):
        shared = Counter(
            left for run in held if len(holders[run]) <= USUAL for left in holders[run] if left < right
        )
        for left, count in shared.items():
            share = count / min(len(runs[left]), len(held))
            same = words[left] == words[right]
            if share >= ALIKE and not same and _wanted(left, right, own, len(every)):
                yield Pair(every[left], every[right], share)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m llm_router.learn.leaks", description=__doc__)
    parser.add_argument("--text", type=Path, default=Path("training"), help="the training text")
    parser.add_argument("--cases", type=Path, help="cases to compare it with")
    arguments = parser.parse_args(argv)
    own = texts_of(arguments.text)
    found = pairs(own)
    if arguments.cases is not None:
        found += pairs(own, texts_of(arguments.cases))
    for pair in found:
        first, second = (f"{place.file}:{place.line}" for place in (pair.first, pair.second))
        sys.stdout.write(f"{pair.share:.2f}  {first}  {second}  {pair.first.text[:60]!r}\n")
    sys.stderr.write(f"{len(own)} texts, {len(found)} pairs\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
