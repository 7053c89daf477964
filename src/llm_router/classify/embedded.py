"""Stage 2, the embedded classifier: calibrated probabilities in a fraction of a millisecond."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from llm_router.classify.base import Verdict
from llm_router.decision import Evidence, StageName
from llm_router.fleet.fleet import Fleet
from llm_router.request import RouteRequest

if TYPE_CHECKING:
    from llm_router.classify.encoder import Encoder

SHORT_TASK_CHARACTERS = 40
"""A follow-up this short ("yes, do it") is read together with the user's message before it."""


class EncoderStage:
    """Loads its weights at the first use. Without them it says so and the other stages go on."""

    name: StageName = "encoder"

    def __init__(self, fleet: Fleet, load: Callable[[], Encoder] | None = None) -> None:
        self._fleet = fleet
        self._load = load or _packaged
        self._encoder: Encoder | None = None
        self._problem = ""
        self._loading = threading.Lock()

    def prepare(self) -> None:
        """Loads the weights, once."""
        self._ready()

    async def classify(
        self, request: RouteRequest, allowed: frozenset[str], before: Mapping[str, float]
    ) -> Verdict:
        encoder = self._ready()
        if encoder is None:
            return Verdict(note=self._problem)
        known = allowed & set(encoder.categories)
        if not known:
            return Verdict(note="none of the possible categories is known to the encoder")
        text = task_text(request)
        verdict = Verdict(probabilities=encoder.probabilities(text, known))
        category = verdict.category
        words = encoder.top_features(text, category) if category else ()
        if not words:
            return verdict
        spoke = ", ".join(f"“{word}”" for word in words)
        return Verdict(
            probabilities=verdict.probabilities, evidence=(Evidence("words", f"spoken for by {spoke}"),)
        )

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
            new = {
                name: category.examples
                for name, category in self._fleet.categories.items()
                if name not in encoder.categories and _different(category.examples) >= MIN_EXAMPLES
            }
            self._encoder = encoder.extend(new) if new else encoder
        return self._encoder


def _different(examples: Iterable[str]) -> int:
    return len({text.strip() for text in examples} - {""})


def task_text(request: RouteRequest) -> str:
    """What is to be classified: the task, and for a short follow-up the user's message before it."""
    task = request.task
    if len(task.strip()) >= SHORT_TASK_CHARACTERS:
        return task
    earlier = [m.text for m in request.messages if m.role == "user" and m.text.strip()]
    if len(earlier) < 2:
        return task
    return f"{earlier[-2]}\n{task}"


def _packaged() -> Encoder:
    from llm_router.classify.encoder import Encoder

    return Encoder.load()
