"""Builds the embedded classifier from the training text: features, three heads, calibration, one file.

No clock and one seed: the same text gives the same decisions everywhere, and on one machine the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_router.classify import features
from llm_router.classify.encoder import Encoder
from llm_router.classify.npz import Numbers
from llm_router.classify.weights import FORMAT, Weights, read_weights
from llm_router.learn import regression
from llm_router.learn.corpus import Example, FollowUp
from llm_router.learn.texts import SHAPE_SCALE, Vocabulary, matrix, read, vocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]

RIDGE = 1e-5
PICTURE_RIDGE = 3e-5
FOLLOW_UP_RIDGE = 1e-5
SMOOTHING = 0.05
"""Share of each label spread over all categories: their borders are soft."""
SECOND_SHARE = 0.2
"""Share of the label that goes to other answers which a fair judge would take."""
FOLDS = 5
PICTURE_CATEGORIES = ("fast_vision", "hybrid_reasoner", "max_vision")
FOLLOW_UPS = 2.0
"""What follow-ups count in all against the rest together: in a conversation they are the usual case."""
CHAT = "simple_chat"
"""Its texts are all among the messages complete in themselves: short ones are taken for follow-ups easily."""
PLACEBOS = 1200
"""Texts of the corpus that the head for follow-ups sees as messages complete in themselves."""
MAX_BYTES = 20_000_000
TOLERANCE = 0.02

SERVES: dict[str, dict[str, float]] = {
    "agentic_tool_use": {},
    "default_general": {"efficient_general": 0.9, "max_quality_general": 0.9},
    "efficient_general": {"default_general": 0.95, "simple_chat": 0.4, "efficient_reasoning": 0.3},
    "efficient_reasoning": {"max_reasoning": 0.9},
    "embeddings": {"structured_data": 0.3},
    "fast_rag": {"max_rag": 0.9},
    "fast_vision": {"max_vision": 0.95},
    "hybrid_reasoner": {"max_vision": 0.9},
    "instruction_following": {
        "default_general": 0.7,
        "efficient_general": 0.6,
        "max_quality_general": 0.8,
    },
    "korean_multilingual": {},
    "long_context": {"max_quality_general": 0.2},
    "max_quality_general": {"default_general": 0.6, "efficient_general": 0.4, "structured_data": 0.3},
    "max_rag": {"fast_rag": 0.6},
    "max_reasoning": {"efficient_reasoning": 0.5, "max_reasoning_moe": 0.7},
    "max_reasoning_moe": {"max_reasoning": 0.8},
    "max_vision": {"fast_vision": 0.4, "hybrid_reasoner": 0.3},
    "simple_chat": {"efficient_general": 0.8, "default_general": 0.8},
    "structured_data": {"max_quality_general": 0.8},
}
"""Judgement: how well another category's model does a task of this one. Tiers of one kind of work serve each
other, the larger the smaller better than the reverse; different kinds of work do not."""


LENIENCY = 0.15
"""How far a neighbour's service counts when the answer is chosen. 0 would always take the likeliest category,
1 the one that most often serves, even where it is rarely the best."""


RARE_IN_WORDS = {
    "fast_vision": 0.4,
    "hybrid_reasoner": 0.4,
    "max_vision": 0.4,
    "embeddings": 0.6,
    "long_context": 0.7,
    "max_reasoning_moe": 0.7,
}
"""What these count in all against the other categories in the head for words: a picture or a book that is
only spoken of is rare, and so are problems of an olympiad."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A text, the categories that were possible, and the logits of weights that had not seen it."""

    example: Example
    names: tuple[str, ...]
    logits: Floats


@dataclass(frozen=True, slots=True)
class Trained:
    """New weights, and what cross-validation on the training text says about them."""

    weights: Weights
    accuracy: float
    acceptable: float
    recall: dict[str, float]
    calibration_error: float


@dataclass(frozen=True, slots=True)
class _Head:
    """Which texts a head learns from (rows), and what it should say of them."""

    rows: NDArray[np.int64]
    targets: Floats
    counts: NDArray[np.float64]
    ridge: float


def categories_of(examples: Iterable[Example]) -> tuple[str, ...]:
    return tuple(sorted({example.category for example in examples}))


class Trainer:
    """Reads the texts once; all fits then work on the same features."""

    def __init__(self, examples: Sequence[Example], follow_ups: Sequence[FollowUp]) -> None:
        self.examples = tuple(examples)
        self.follow_ups = tuple(follow_ups)
        self.names = categories_of(examples)
        self._texts = [read(example.text) for example in examples]
        self._asides = [read(row.text) for row in follow_ups]
        self._start: dict[str, Floats] = {}

    def weights(self, without: frozenset[str] = frozenset()) -> Weights:
        """Weights from all texts but those of the groups in ``without``; not calibrated."""
        use = [i for i, example in enumerate(self.examples) if example.group not in without]
        examples = [self.examples[i] for i in use]
        texts = [self._texts[i] for i in use]
        known = vocabulary([t for t, e in zip(texts, examples, strict=True) if e.original])
        rows = matrix([*texts, *self._asides], known)
        tables = [self._fitted(name, rows, head) for name, head in self._heads(examples).items()]
        return _packed(self.names, known, np.hstack(tables))

    def _fitted(self, name: str, rows: csr_matrix, head: _Head) -> Floats:
        table = regression.fit(rows[head.rows], head.targets, head.counts, head.ridge)
        return table if name != "follow_up" else (table[:, 1:] - table[:, :1])

    def _heads(self, examples: Sequence[Example]) -> dict[str, _Head]:
        picture = [n for n in PICTURE_CATEGORIES if n in self.names]
        words = np.array([i for i, e in enumerate(examples) if not e.picture])
        seen = np.array([i for i, e in enumerate(examples) if e.category in picture])
        return {
            "words": self._head(examples, words, self.names, RIDGE, RARE_IN_WORDS),
            "picture": self._head(examples, seen, picture, PICTURE_RIDGE, {}),
            "follow_up": self._follow_up_head(examples),
        }

    def _head(
        self,
        examples: Sequence[Example],
        rows: NDArray[np.int64],
        names: Sequence[str],
        ridge: float,
        rare: Mapping[str, float],
    ) -> _Head:
        chosen = [examples[i] for i in rows]
        return _Head(rows, targets_of(chosen, names), example_counts(chosen, rare), ridge)

    def _follow_up_head(self, examples: Sequence[Example]) -> _Head:
        """Short messages that need the one before them, against those that do not and tasks of all kinds."""
        first = len(examples)
        asides = np.arange(first, first + len(self.follow_ups))
        step = max(1, first // PLACEBOS)
        chats = [i for i, e in enumerate(examples) if e.category == CHAT and e.original]
        others = np.array(sorted({*range(0, first, step), *chats}))
        yes = np.array([row.follow_up for row in self.follow_ups])
        answers = np.concatenate([yes, np.zeros(len(others), dtype=bool)])
        counts = np.concatenate(
            [
                np.where(yes, FOLLOW_UPS / yes.sum(), 0.5 / (~yes).sum()),
                np.full(len(others), 0.5 / len(others)),
            ]
        )
        targets = np.full((len(answers), 2), SMOOTHING / 2, dtype=np.float32)
        targets[np.arange(len(answers)), answers.astype(int)] += 1 - SMOOTHING
        return _Head(np.concatenate([asides, others]), targets, counts, FOLLOW_UP_RIDGE)

    def cross_validated(self, folds: int = FOLDS) -> list[Judged]:
        """Logits of original texts of one's own, each by weights that have not seen its group."""
        place = [int(hashlib.blake2s(e.group.encode()).hexdigest(), 16) % folds for e in self.examples]
        judged = []
        for fold in range(folds):
            members = [e for e, at in zip(self.examples, place, strict=True) if at == fold]
            encoder = Encoder(self.weights(frozenset(e.group for e in members)))
            judged += [
                Judged(e, self.names, logits_of(encoder, e.text, self.names))
                for e in members
                if e.original and not e.picture
            ]
        return judged


def logits_of(encoder: Encoder, text: str, names: Sequence[str], *, picture: bool = False) -> Floats:
    """What the encoder makes of a text, for each of the names."""
    return np.array(encoder.logits(encoder.read(text), names, picture=picture), dtype=np.float32)


def calibrated(weights: Weights, judged: Sequence[Judged]) -> Weights:
    """The same weights with temperature and sureness fitted to logits of texts they had not seen."""
    words = [one for one in judged if one.names == weights.categories]
    seen = [one for one in judged if one.names != weights.categories]
    heat = _temperature(words)
    picture_heat = _temperature(seen) if seen else heat
    weights = replace(weights, temperature=heat, picture_temperature=picture_heat)
    service = _service(weights, words, heat) + _service(weights, seen, picture_heat)
    said = np.array([share for share, _ in service])
    good = np.array([right for _, right in service])
    return _versioned(replace(weights, sureness=regression.best_sureness(said, good)))


def _temperature(judged: Sequence[Judged]) -> float:
    """Of logits as they come from weights that are not calibrated (their own temperature is 1)."""
    names = judged[0].names
    logits = np.stack([one.logits for one in judged])
    return regression.best_temperature(logits, targets_of([one.example for one in judged], names))


def _service(weights: Weights, judged: Sequence[Judged], heat: float) -> list[tuple[float, bool]]:
    """For each text, how well the encoder's answer is expected to serve, and whether it did."""
    found = []
    for one in judged:
        shares = regression.softmax(one.logits[None] / np.float32(heat))[0]
        places = [weights.categories.index(name) for name in one.names]
        service = shares @ weights.serves.array[np.ix_(places, places)]
        best = int(service.argmax())
        found.append((float(service[best]), one.names[best] in accepted(one.example)))
    return found


def accepted(example: Example) -> frozenset[str]:
    """The answers that serve: those that the text names, else the neighbours that serve at least half."""
    also = example.also or tuple(n for n, s in SERVES.get(example.category, {}).items() if s >= 0.5)
    return frozenset((example.category, *also))


def quality(weights: Weights, judged: Sequence[Judged]) -> Trained:
    """What calibrated weights make of texts that the fit had not seen."""
    right: dict[str, list[bool]] = {name: [] for name in weights.categories}
    sure, good = [], []
    for one in judged:
        heat = weights.temperature if one.names == weights.categories else weights.picture_temperature
        ((service, serves),) = _service(weights, [one], heat)
        shares = one.logits
        right[one.example.category].append(one.names[int(shares.argmax())] == one.example.category)
        sure.append(service)
        good.append(serves)
    every = [hit for hits in right.values() for hit in hits]
    said = sureness(np.array(sure), weights.sureness)
    return Trained(
        weights=weights,
        accuracy=sum(every) / len(every),
        acceptable=float(np.mean(good)),
        recall={name: sum(hits) / len(hits) for name, hits in right.items() if hits},
        calibration_error=calibration_error(said, np.array(good)),
    )


def sureness(service: NDArray[np.floating], pair: tuple[float, float]) -> NDArray[np.float64]:
    clipped = np.clip(service.astype(np.float64), 1e-6, 1 - 1e-6)
    result: NDArray[np.float64] = 1 / (1 + np.exp(-(pair[0] * np.log(clipped / (1 - clipped)) + pair[1])))
    return result


def calibration_error(sure: NDArray[np.float64], good: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error over equal-width bins of confidence."""
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        (place == b).sum() * abs(float(sure[place == b].mean()) - float(good[place == b].mean()))
        for b in np.unique(place)
    ]
    return float(sum(gaps) / len(sure))


def targets_of(examples: Sequence[Example], names: Sequence[str]) -> Floats:
    """One distribution over the categories per text: nearly all on its label."""
    targets = np.full((len(examples), len(names)), SMOOTHING / len(names), dtype=np.float32)
    for row, example in zip(targets, examples, strict=True):
        others = [name for name in example.also if name in names]
        second = SECOND_SHARE if others else 0.0
        row[names.index(example.category)] += 1.0 - SMOOTHING - second
        for name in others:
            row[names.index(name)] += second / len(others)
    return targets


def example_counts(examples: Sequence[Example], rare: Mapping[str, float]) -> NDArray[np.float64]:
    """What each text counts, so that every category counts the same in total, or as much as ``rare`` says."""
    names = categories_of(examples)
    labels = np.array([names.index(example.category) for example in examples])
    counts = np.array([example.count for example in examples])
    per_category = np.bincount(labels, weights=counts, minlength=len(names))
    wanted = np.array([rare.get(name, 1.0) for name in names]) * counts.sum() / len(names)
    balanced: NDArray[np.float64] = counts * (wanted / per_category)[labels]
    return balanced


def serves_matrix(names: Sequence[str]) -> Floats:
    """(kind of task, answer): 1 for the own category, for its neighbours as far as they count."""
    rows = [[1.0 if a == b else LENIENCY * SERVES.get(a, {}).get(b, 0.0) for b in names] for a in names]
    return np.array(rows, dtype=np.float32)


def _packed(names: tuple[str, ...], known: Vocabulary, learnt: Floats) -> Weights:
    """Tables in which a key's weights are ready to be added up: kind and rarity folded in."""
    keys = len(known.keys)
    groups = learnt[keys : keys + features.GRAMS] * known.group_weights[:, None]
    table = learnt[:keys] * known.weights[:, None]
    for place, key in enumerate(known.keys):
        if features.is_word(key):
            held = features.letter_groups(key)
            if held:
                table[place] += groups[held].sum(axis=0)
    steps, scale = _steps(table)
    group_steps, group_scale = _steps(groups)
    weights = Weights(
        version="",
        text_digest="",
        cases_digest="",
        categories=names,
        picture_categories=tuple(n for n in PICTURE_CATEGORIES if n in names),
        words="\n".join(known.keys).encode(),
        table=Numbers.of(steps),
        scale=Numbers.of(scale),
        mass=Numbers.of(known.mass()),
        idf=Numbers.of(known.idf),
        groups=Numbers.of(group_steps),
        group_scale=Numbers.of(group_scale),
        group_mass=Numbers.of(known.group_weights**2),
        strange_mass=round(known.strange_weight**2, 4),
        shape_table=Numbers.of(np.round(learnt[keys + features.GRAMS :] * np.float32(SHAPE_SCALE), 5)),
        serves=Numbers.of(serves_matrix(names)),
        temperature=1.0,
        picture_temperature=1.0,
        follow_up_steepness=1.0,
        sureness=(1.0, 0.0),
    )
    return _versioned(weights)


def _versioned(weights: Weights) -> Weights:
    """As the file gives it back, with a version that changes with every number in it."""
    digest = hashlib.blake2s(to_bytes(replace(weights, version="")), digest_size=4).hexdigest()
    return read_weights(to_bytes(replace(weights, version=f"{FORMAT}.{digest}")))


def to_bytes(weights: Weights) -> bytes:
    """The weights as an .npz file; the archive carries no time stamp."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        format=np.array(FORMAT),
        version=np.array(weights.version),
        text_digest=np.array(weights.text_digest),
        cases_digest=np.array(weights.cases_digest),
        categories=np.array(weights.categories),
        picture_categories=np.array(weights.picture_categories),
        vocabulary=np.frombuffer(weights.words, dtype=np.uint8),
        table=weights.table.array,
        scale=weights.scale.array.astype(np.float16),
        mass=weights.mass.array.astype(np.float16),
        idf=weights.idf.array.astype(np.float16),
        groups=weights.groups.array,
        group_scale=weights.group_scale.array.astype(np.float16),
        group_mass=weights.group_mass.array.astype(np.float16),
        strange_mass=np.array(weights.strange_mass),
        shape_table=weights.shape_table.array,
        serves=weights.serves.array,
        temperature=np.array(weights.temperature),
        picture_temperature=np.array(weights.picture_temperature),
        follow_up_steepness=np.array(weights.follow_up_steepness),
        sureness=np.array(weights.sureness),
    )
    return buffer.getvalue()


def _steps(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """The table row by row in 254 steps, and the size of a step, as the file keeps it."""
    scale = (np.abs(table).max(axis=1) / 127.0).astype(np.float16).astype(np.float32)
    wide = scale[:, None]
    steps = np.divide(table, wide, out=np.zeros_like(table), where=wide > 0)
    return np.clip(np.rint(steps), -127, 127).astype(np.int8), scale


__all__ = [
    "MAX_BYTES",
    "TOLERANCE",
    "Judged",
    "Trained",
    "Trainer",
    "calibrated",
    "quality",
    "to_bytes",
]
