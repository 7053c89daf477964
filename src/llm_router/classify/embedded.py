"""Stage 2, the embedded classifier: calibrated probabilities in a fraction of a millisecond."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llm_router.classify.base import Verdict
from llm_router.classify.conversation import (
    Conversation,
    conversation_of,
    earlier_tasks,
    without_past_pictures,
)
from llm_router.classify.rules import Rules
from llm_router.classify.vectors import asks_for_vectors
from llm_router.decision import Evidence, StageName
from llm_router.fleet.fleet import Fleet
from llm_router.request import RouteRequest

if TYPE_CHECKING:
    from llm_router.classify.encoder import Encoder, Judgement, Reading

FOLLOW_UP_FROM = 0.2
"""From this probability on the task before is read too, and counts as far as the message is a follow-up."""

PAST_PICTURE_FROM = 0.6
"""How sure the encoder must be that an earlier turn's picture is still meant."""

LAST_PICTURE = 0.4
"""How sure it is beforehand, where the picture came with the turn just before: people go on looking."""

_TURNS_BACK = 12
_TOLD_FROM = 0.5
_SERVES_TOO = 0.1
_FIRST_TEXT = "Is this a first text?\n이것이 첫 글인가요?"
_BARE_CHOICE = re.compile(r"\W*(?:\d{1,2}|[a-zA-Z])\W*")
"""A number or a letter alone picks one of what was offered."""


class EncoderStage:
    """Loads its weights at the first use. Without them it says so and the other stages go on."""

    name: StageName = "encoder"

    def __init__(self, fleet: Fleet, load: Callable[[], Encoder] | None = None) -> None:
        self._fleet = fleet
        self._load = load or _packaged
        self._encoder: Encoder | None = None
        self._problem = ""
        self._loading = threading.Lock()
        self._rules = Rules(fleet)
        self._embedding = frozenset(fleet.categories_needing.get("embedding", ()))
        self._seeing = frozenset(fleet.categories_needing.get("vision", ()))
        self._of_any_language = frozenset(
            name for name, category in fleet.categories.items() if not category.requires.language
        )

    def prepare(self) -> None:
        """Loads the weights, once, and reads a first text: what is made at first use is then there."""
        encoder = self._ready()
        if encoder is not None:
            reading = encoder.read(_FIRST_TEXT)
            encoder.telling(reading, encoder.judge(reading).category)

    async def classify(
        self, request: RouteRequest, allowed: frozenset[str], before: Mapping[str, float]
    ) -> Verdict:
        encoder = self._encoder or self._ready()
        if encoder is None:
            return Verdict(note=self._problem, broken=True)
        if allowed.isdisjoint(encoder.categories):
            return Verdict(note="none of the possible categories is known to the encoder")
        reading = encoder.read(request.task)
        share, earlier = self._task_before(encoder, reading, request)
        talk = conversation_of(request)
        evidence: tuple[Evidence, ...] = ()
        picture = talk.pictures > 0
        if talk.past_pictures and not picture:
            picture = self._still_meant(encoder, reading, share, talk)
            evidence = (_past_picture(talk, meant=picture),)
            seeing = allowed & self._seeing
            allowed = (seeing if picture else allowed - seeing) or allowed
            told = Verdict() if picture else self._rules.judge_words(without_past_pictures(request), allowed)
            if told.probabilities:
                return replace(told, allowed=allowed, evidence=evidence + told.evidence)
        judged = encoder.judge(reading, allowed, picture=picture, earlier=earlier, share=share)
        spoken_of = judged.category in self._embedding and not asks_for_vectors(request.task)
        if spoken_of and allowed - self._embedding:
            allowed -= self._embedding
            judged = encoder.judge(reading, allowed, picture=picture, earlier=earlier, share=share)
            evidence += (Evidence("no_vectors", "speaks of vectors and asks for none"),)
        if earlier is not None and share >= _TOLD_FROM:
            evidence += (Evidence("follow_up", "goes on with the task before it"),)
            reading = earlier
        return Verdict(
            probabilities=judged.probabilities,
            chosen=judged.category,
            sureness=judged.confidence,
            allowed=allowed if talk.past_pictures or spoken_of else None,
            evidence=evidence + _evidence(encoder, reading, judged, picture=picture),
        )

    def _task_before(
        self, encoder: Encoder, reading: Reading, request: RouteRequest
    ) -> tuple[float, Reading | None]:
        """How far what is asked now goes on with the task before, and that task; (0, None) where it does not.

        The task before is the last one that stood on its own.
        """
        if len(request.messages) < 2:
            return 0.0, None
        share = 1.0 if _BARE_CHOICE.fullmatch(request.task) else reading.follow_up
        if share < FOLLOW_UP_FROM:
            return 0.0, None
        found = None
        for text in islice(earlier_tasks(request), _TURNS_BACK):
            found = encoder.read(text)
            if found.follow_up < FOLLOW_UP_FROM and not _BARE_CHOICE.fullmatch(text):
                break
        return (share, found) if found is not None else (0.0, None)

    def _still_meant(self, encoder: Encoder, reading: Reading, share: float, talk: Conversation) -> bool:
        """Whether the picture of an earlier turn is meant: the task says so, or goes on with one that was."""
        spoken = encoder.judge(reading, self._of_any_language).probabilities
        speaks = sum(spoken.get(name, 0.0) for name in self._seeing)
        expected = LAST_PICTURE if talk.picture_just_before else 0.0
        return speaks + max(share, reading.follow_up) + expected >= PAST_PICTURE_FROM

    def _ready(self) -> Encoder | None:
        with self._loading:  # tasks that arrive together load the weights once
            return self._loaded()

    def _loaded(self) -> Encoder | None:
        if self._encoder is None and not self._problem:
            from llm_router.classify.encoder import MIN_EXAMPLES, EncoderFileError

            try:
                encoder = self._load()
            except EncoderFileError as error:
                self._problem = f"the encoder is out of order: {error}".split("\n", 1)[0]
                return None
            self._encoder = with_new_categories(encoder, self._fleet, MIN_EXAMPLES)
        return self._encoder


def with_new_categories(encoder: Encoder, fleet: Fleet, least: int) -> Encoder:
    """The encoder and what the fleet adds: categories that it was not trained on, from their examples."""
    new = {
        name: category.examples
        for name, category in fleet.categories.items()
        if name not in encoder.categories and _different(category.examples) >= least
    }
    if not new:
        return encoder
    others = [
        text for name, category in fleet.categories.items() if name not in new for text in category.examples
    ]
    return encoder.extend(new, others)


def _different(examples: Iterable[str]) -> int:
    return len({text.strip() for text in examples} - {""})


def _past_picture(talk: Conversation, *, meant: bool) -> Evidence:
    what = "the picture of an earlier turn is" if talk.past_pictures == 1 else "pictures of earlier turns are"
    if meant:
        return Evidence("past_picture", f"{what} still the subject")
    return Evidence("past_picture_left", f"{what} no longer the subject and not sent along")


def _evidence(
    encoder: Encoder, reading: Reading, judged: Judgement, *, picture: bool
) -> tuple[Evidence, ...]:
    found = []
    words = encoder.telling(reading, judged.category, picture=picture)
    if words:
        spoke = ", ".join(f"“{word}”" for word in words)
        found.append(Evidence("words", f"spoken for by {spoke}"))
    likeliest = judged.likeliest
    if judged.probabilities[likeliest] - judged.probabilities[judged.category] > _SERVES_TOO:
        found.append(Evidence("serves", f"{likeliest} is likelier, and {judged.category} serves that too"))
    return tuple(found)


def _packaged() -> Encoder:
    from llm_router.classify.encoder import Encoder

    return Encoder.load()
