"""Other ways of answering, to be seen in the same table as the router: from a constant to a library.

Each is measured twice: by itself, reading words only, and behind the same hard evidence as the router, so
that nobody wins by looking at an attachment.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from llm_router.errors import ConfigError, LLMRouterError, MissingExtra
from llm_router.fleet import Fleet
from llm_router.learn.cases import Case
from llm_router.learn.figures import BaselineFigures
from llm_router.learn.keywords import hits
from llm_router.learn.metrics import Answer, figures, judged, latency
from llm_router.learn.tfidf import LogisticRegression, Vocabulary

RULES = "rules"
_SEMANTIC_WIDTH = 1024
_SEMANTIC_UTTERANCES = 120
_PLACEHOLDER = "{documents}"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text to learn from and its category."""

    text: str
    category: str


class Baseline(Protocol):
    """``scores`` of the categories for a text, among ``possible`` ones; the largest is the answer.

    An empty result means that it cannot tell. ``calibrated`` says whether scores are probabilities.
    """

    name: str
    about: str
    calibrated: bool

    def scores(self, text: str, possible: Sequence[str]) -> Mapping[str, float]: ...


class _Row(msgspec.Struct, frozen=True):
    text: str = ""
    category: str = ""
    split: str = "train"


def labelled_texts(fleet: Fleet, folder: Path | None) -> tuple[Labelled, ...]:
    """The fleet's examples, and every labelled text of the folder's ``*.jsonl``, without repetition.

    Raises ConfigError with file and line for a line that is not JSON or has fields of another kind.
    """
    found = {
        Labelled(text, name): None
        for name, category in fleet.categories.items()
        for text in (*category.examples, category.description)
    }
    for path in sorted(folder.glob("*.jsonl")) if folder is not None else ():
        for row in _rows(path):
            usable = row.text.strip() and row.category in fleet.categories and row.split == "train"
            if usable and _PLACEHOLDER not in row.text:
                found[Labelled(row.text, row.category)] = None
    return tuple(found)


def _rows(path: Path) -> Iterator[_Row]:
    decode = msgspec.json.Decoder(_Row).decode
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError("cannot be read", why=error.strerror or str(error), path=path) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigError("not a training text", why=str(error), path=path, line=number) from error


class Constant:
    """The fleet's default category, whatever is asked."""

    name = "constant"
    calibrated = False

    def __init__(self, fleet: Fleet) -> None:
        self.about = f"always {fleet.default_category}"
        self._category = fleet.default_category

    def scores(self, text: str, possible: Sequence[str]) -> Mapping[str, float]:
        return {self._category: 1.0}


class Keywords:
    name = "keywords"
    about = "substring lists per category, most hits win"
    calibrated = False

    def scores(self, text: str, possible: Sequence[str]) -> Mapping[str, float]:
        return hits(text)


class NearestDescription:
    """Cosine between the text and each category's description with its examples."""

    name = "nearest description"
    about = "TF-IDF cosine to descriptions and examples of the fleet file"
    calibrated = False

    def __init__(self, fleet: Fleet) -> None:
        self._names = tuple(fleet.categories)
        documents = [
            "\n".join((c.description, c.when_to_use, *c.examples)) for c in fleet.categories.values()
        ]
        self._vocabulary = Vocabulary(documents, at_least=1)
        table = np.zeros((len(self._vocabulary), len(documents)), dtype=np.float32)
        vectors = self._vocabulary.vectors(documents)
        rows = np.repeat(np.arange(len(documents)), np.diff(vectors.starts))
        table[vectors.columns, rows] = vectors.values
        self._table = table

    def scores(self, text: str, possible: Sequence[str]) -> Mapping[str, float]:
        row = self._vocabulary.vectors([text]).times(self._table)[0]
        return {name: float(v) for name, v in zip(self._names, row, strict=True) if v > 0}


class TfidfRegression:
    """Plain TF-IDF with multinomial logistic regression, trained on the given texts."""

    name = "TF-IDF + LR"
    calibrated = True

    def __init__(self, texts: Sequence[Labelled]) -> None:
        self.about = f"words and pairs of words, trained on {len(texts):,} texts"
        written = [one.text for one in texts]
        self._vocabulary = Vocabulary(written)
        self._model = LogisticRegression.fitted(
            self._vocabulary.vectors(written), len(self._vocabulary), [one.category for one in texts]
        )

    def scores(self, text: str, possible: Sequence[str]) -> Mapping[str, float]:
        row = self._model.probabilities(self._vocabulary.vectors([text]))[0]
        return dict(zip(self._model.labels, row.tolist(), strict=True))


class SemanticRouter:
    """The package ``semantic-router``, with TF-IDF vectors as its encoder: nothing is downloaded.

    Raises MissingExtra where the package is not installed or has another API than version 1.1.
    """

    name = "semantic-router"
    calibrated = False

    def __init__(self, texts: Sequence[Labelled]) -> None:
        self._library = _semantic_router()
        self._texts: dict[str, list[str]] = {}
        for one in texts:
            own = self._texts.setdefault(one.category, [])
            if len(own) < _SEMANTIC_UTTERANCES:
                own.append(one.text)
        utterances = [text for own in self._texts.values() for text in own]
        vocabulary = Vocabulary([one.text for one in texts])
        self._encoder = _dense_encoder(
            lambda documents: vocabulary.folded(documents, _SEMANTIC_WIDTH).tolist()
        )
        version = importlib.metadata.version("semantic-router")
        self.about = f"version {version}, TF-IDF vectors, {len(utterances):,} utterances"
        self._routers: dict[tuple[str, ...], Any] = {}

    def scores(self, text: str, possible: Sequence[str]) -> Mapping[str, float]:
        chosen = self._router(tuple(possible))(text)
        return {chosen.name: float(chosen.confidence or 0.0)} if chosen.name else {}

    def _router(self, possible: tuple[str, ...]) -> Any:
        """It cannot be told at a call what is possible: one router for each set of categories."""
        if possible not in self._routers:
            routes = [
                self._library.Route(name=name, utterances=own)
                for name, own in self._texts.items()
                if not possible or name in possible
            ]
            self._routers[possible] = self._library.IndexedRouter(encoder=self._encoder, routes=routes)
        return self._routers[possible]


def _semantic_router() -> Any:
    try:
        library = importlib.import_module("semantic_router")
    except ImportError as error:
        raise MissingExtra(
            "the baseline semantic-router is left out",
            why="the package is not installed",
            hint="pip install 'semantic-router>=1.1,<2'",
        ) from error
    if not hasattr(library, "IndexedRouter"):
        raise MissingExtra(
            "the baseline semantic-router is left out",
            why=f"version {importlib.metadata.version('semantic-router')} has another API",
            hint="pip install 'semantic-router>=1.1,<2'",
        )
    return library


def _dense_encoder(vectors: Callable[[Sequence[str]], list[list[float]]]) -> Any:
    """An encoder of theirs over vectors of ours. The class can only be made once theirs is imported."""
    base: Any = importlib.import_module("semantic_router.encoders").DenseEncoder

    def encode(self: object, docs: Sequence[str]) -> list[list[float]]:
        return vectors(docs)

    async def encode_async(self: object, docs: Sequence[str]) -> list[list[float]]:
        return vectors(docs)

    made: Any = type("TfidfVectors", (base,), {"__call__": encode, "acall": encode_async})
    return made(name="tfidf")


@dataclass(frozen=True, slots=True)
class Missing:
    """A baseline that cannot run here, and what to do about it."""

    name: str
    about: str
    why: str


def baselines(fleet: Fleet, texts: Sequence[Labelled]) -> Iterator[Baseline | Missing]:
    """All of them, cheapest first; each is only built when it is its turn."""
    yield Constant(fleet)
    yield Keywords()
    yield NearestDescription(fleet)
    yield TfidfRegression(texts)
    try:
        yield SemanticRouter(texts)
    except MissingExtra as error:
        yield Missing("semantic-router", "", _told(error))


def _told(error: LLMRouterError) -> str:
    return f"{error.why}; {error.hint}" if error.hint else str(error.why)


def measured(
    baseline: Baseline | Missing,
    fleet: Fleet,
    cases: Sequence[Case],
    routed: Sequence[Answer],
    clock_s: Callable[[], float],
) -> BaselineFigures:
    """Its figures by itself and behind the hard evidence that the router saw (``routed``)."""
    if isinstance(baseline, Missing):
        return BaselineFigures(
            name=baseline.name,
            about=baseline.about,
            alone=None,
            after_rules=None,
            p50_ms=None,
            missing=baseline.why,
        )
    everything = tuple(fleet.categories)
    alone, behind = [], []
    for case, seen in zip(cases, routed, strict=True):
        begun_s = clock_s()
        answer = _answer(baseline, case.task, everything, fleet.default_category)
        alone.append(replace(answer, elapsed_ms=(clock_s() - begun_s) * 1000))
        if seen.stage == RULES:
            behind.append(seen)
        elif len(seen.possible) in (0, len(everything)):
            behind.append(answer)
        else:
            behind.append(_answer(baseline, case.task, seen.possible, fleet.default_category))
    p50 = latency([answer.elapsed_ms for answer in alone])
    if not baseline.calibrated:  # a rule's confidence alone would make a figure of it
        behind = [replace(answer, confidence=None) for answer in behind]
    return BaselineFigures(
        name=baseline.name,
        about=baseline.about,
        alone=figures(judged(cases, alone)),
        after_rules=figures(judged(cases, behind)),
        p50_ms=p50.p50_ms if p50 else None,
    )


def _answer(baseline: Baseline, text: str, possible: Sequence[str], default: str) -> Answer:
    """The best of the possible categories; ties go to the fleet's order, nothing to the default."""
    found = baseline.scores(text, possible)
    left = {name: found[name] for name in possible if found.get(name, 0.0) > 0.0}
    if not left:
        return Answer(default if default in possible else possible[0])
    best = max(left, key=lambda name: left[name])
    confidence = left[best] / sum(left.values()) if baseline.calibrated else None
    return Answer(best, confidence)
