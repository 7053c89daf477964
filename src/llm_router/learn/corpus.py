"""Reads the training text and prepares it: documents put into frames, small distortions, folds.

Everything random here is seeded by a fixed number and the text itself: the same files give the same corpus.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

SEED = 20240611
_NOT_CORPUS = frozenset(
    {
        "conversations.jsonl",
        "follow_ups.jsonl",
        "frames.jsonl",
        "heldout.jsonl",
        "parallel.jsonl",
        "passages.jsonl",
    }
)
_OPENERS = (
    "Please ",
    "please ",
    "Can you ",
    "could you please ",
    "Hi, ",
    "hello! ",
    "hey, ",
    "I need help: ",
    "Quick one: ",
    "I'd like you to ",
    "Hi there. I have a task for you. ",
    "pls ",
)
_CLOSERS = (
    " please",
    " thanks",
    " Thanks in advance!",
    " Thank you.",
    " thx",
    " asap",
    " Please help.",
    " !!",
)
_ASIDES = (
    "By the way, it has been raining all day here.",
    "I am writing this from the train.",
    "My coffee has gone cold again.",
    "Sorry for the short notice.",
    "I asked my brother first, but he had no time.",
    "It's Thursday and the office is nearly empty.",
    "We had visitors at the weekend.",
    "I'm new here.",
)
COPY_COUNT = 0.5
_LONGEST_COPY = 1500
_UNTOUCHED = frozenset({"simple_chat", "embeddings"})
"""Politeness is the content of small talk, and a text to embed must not gain words."""


T = TypeVar("T", bound=msgspec.Struct)


class CorpusError(ValueError):
    """A line of the training text that cannot be used, with file and line number."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a training file.

    ``also`` is the answer where ``category`` is ruled out; ``picture`` marks a text that is about an attached
    picture without speaking of one ("what colour is the bus?").
    """

    text: str
    category: str
    lang: str = "en"
    split: str = "train"
    also: str = ""
    picture: bool = False


class FollowUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A short message, and whether it can only be understood with the one before it."""

    text: str
    follow_up: bool
    lang: str = "en"


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: str
    text: str
    images: int = 0


class Talk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A conversation, the kind of the task at hand, and whether its last turn goes on with the one before."""

    messages: tuple[Turn, ...]
    category: str
    why: str = ""
    split: str = "train"
    lang: str = "en"
    follow_up: bool | None = None


class Passage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A short document with questions that it answers; frames are filled with these."""

    title: str
    text: str
    questions: tuple[str, ...] = ()
    kind: str = "prose"


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request around pasted documents: ``{documents}`` and ``{question}`` are filled in."""

    text: str
    category: str
    least: int
    most: int
    join: str = "\n\n"
    each: str = "{text}"
    kind: str = "prose"
    copies: int = 2


@dataclass(frozen=True, slots=True)
class Example:
    """One text to learn from; distorted copies keep the ``group`` of their original.

    ``also`` holds other answers that a fair judge would take; ``count`` is how much the text counts.
    """

    text: str
    category: str
    group: str
    original: bool = True
    also: tuple[str, ...] = ()
    picture: bool = False
    count: float = 1.0


def read_rows(path: Path) -> list[Row]:
    """The labelled texts of one file.

    Raises:
        CorpusError: a line that is not a JSON object of this form, or has no text.
    """
    return [row for row in _lines(path, Row) if row.text.strip()]


def training_rows(folder: Path) -> list[Row]:
    """All training texts of a folder, file by file in alphabetical order.

    Raises:
        CorpusError: no such file, or a broken line.
    """
    paths = sorted(path for path in folder.glob("*.jsonl") if path.name not in _NOT_CORPUS)
    if not paths:
        raise CorpusError(
            f"no training text in {folder}\nhint: run from the repository's root, or name the folder"
        )
    return [row for path in paths for row in read_rows(path) if row.split == "train"]


def follow_ups(folder: Path) -> list[FollowUp]:
    """Short messages that need the one before them, and some that do not.

    The last turns of conversations are among them, where a conversation says which of the two it is.

    Raises:
        CorpusError: a missing file or a broken line.
    """
    path = folder / "follow_ups.jsonl"
    if not path.exists():
        raise CorpusError(f"no {path.name} in {folder}")
    talks = folder / "conversations.jsonl"
    turns = _last_turns(_lines(talks, Talk)) if talks.exists() else []
    return [*_lines(path, FollowUp), *turns]


def _last_turns(talks: Iterable[Talk]) -> list[FollowUp]:
    found = []
    for talk in talks:
        said = [turn.text for turn in talk.messages if turn.role == "user"]
        if talk.split == "train" and talk.follow_up is not None and len(said) > 1:
            found.append(FollowUp(said[-1], talk.follow_up, talk.lang))
    return found


def build(folder: Path) -> list[Example]:
    """The corpus: the written texts, the filled frames, and one distorted copy of each short text.

    Raises:
        CorpusError: a broken or missing file.
    """
    written = [
        Example(
            row.text,
            row.category,
            group=f"row {index}",
            also=(row.also,) if row.also else (),
            picture=row.picture,
        )
        for index, row in enumerate(training_rows(folder))
    ]
    framed = list(_fill(folder))
    originals = written + framed
    return originals + distorted(written)


def distorted(examples: Iterable[Example]) -> list[Example]:
    """A copy of each short text as another user would have typed it; a copy counts less than its original."""
    return [_distort(example) for example in examples if len(example.text) < _LONGEST_COPY]


def _chance(text: str) -> random.Random:
    """A generator of a text's own: a new line in a file changes nothing for the other lines."""
    return random.Random(f"{SEED} {text}")  # noqa: S311 - reproducibility, not secrecy


def _fill(folder: Path) -> Iterator[Example]:
    frames_path, passages_path = folder / "frames.jsonl", folder / "passages.jsonl"
    if not frames_path.exists():
        return
    passages = list(_lines(passages_path, Passage))
    for index, frame in enumerate(_lines(frames_path, Frame)):
        stock = [passage for passage in passages if passage.kind == frame.kind]
        chance = _chance(frame.text)
        for _ in range(frame.copies):
            yield Example(_filled(frame, stock, chance), frame.category, f"frame {index}")


def _filled(frame: Frame, stock: Sequence[Passage], chance: random.Random) -> str:
    count = chance.randint(frame.least, frame.most)
    chosen = chance.sample(stock, count) if count <= len(stock) else chance.choices(stock, k=count)
    documents = frame.join.join(
        frame.each.replace("{n}", str(n)).replace("{title}", p.title).replace("{text}", p.text)
        for n, p in enumerate(chosen, start=1)
    )
    asked = chance.choice([p for p in chosen if p.questions] or chosen)
    question = chance.choice(asked.questions) if asked.questions else asked.title
    return (
        frame.text.replace("{documents}", documents)
        .replace("{question}", question)
        .replace("{title}", asked.title)
    )


def _distort(example: Example) -> Example:
    """A copy as another user would have typed it."""
    text, chance = example.text, _chance(example.text)
    if example.category not in _UNTOUCHED and "\n" not in text:
        if chance.random() < 0.4:
            text = _join_opener(chance.choice(_OPENERS), text)
        if chance.random() < 0.2:
            text = text.rstrip(".") + chance.choice(_CLOSERS)
        if chance.random() < 0.2:
            aside = chance.choice(_ASIDES)
            text = f"{text} {aside}" if chance.random() < 0.5 else f"{aside} {text}"
    if chance.random() < 0.4:
        text = text.lower()
    if chance.random() < 0.3:
        text = text.rstrip(".?!")
    if chance.random() < 0.6:
        text = _typos(text, chance)
    return replace(example, text=text, original=False, count=example.count * COPY_COUNT)


def _join_opener(opener: str, text: str) -> str:
    if opener.rstrip()[-1] in ".!:":
        return opener + text
    return opener + (text[:1].lower() + text[1:] if text[1:2].islower() else text)


def _typos(text: str, chance: random.Random) -> str:
    letters = list(text)
    for _ in range(max(1, len(text) // 45)):
        spots = [i for i in range(1, len(letters) - 1) if letters[i].isalpha() and letters[i].isascii()]
        if not spots:
            break
        spot = chance.choice(spots)
        slip = chance.random()
        if slip < 0.4:
            letters[spot : spot + 2] = letters[spot : spot + 2][::-1]
        elif slip < 0.7:
            del letters[spot]
        else:
            letters.insert(spot, letters[spot])
    return "".join(letters)


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    decode = msgspec.json.Decoder(kind).decode
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                raise CorpusError(f"{path.name}, line {number}: {error}") from error
