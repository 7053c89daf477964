"""What watches the gateway: records, metrics, traces and the log hear of every request in the same words."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from llm_router.answer import Attempt, EmbeddingAnswer
from llm_router.decision import Decision
from llm_router.errors import LLMRouterError
from llm_router.gateway.pump import Outcome
from llm_router.gateway.wires.base import Asked, Endpoint

if TYPE_CHECKING:
    from llm_router.gateway.app import Visit


log = logging.getLogger("llm_router.gateway")


class Served:
    """One task and what became of it."""

    __slots__ = ("asked", "decision", "ended_s", "endpoint", "error", "gone", "outcome", "vectors", "visit")

    def __init__(self, visit: Visit, endpoint: Endpoint, asked: Asked) -> None:
        self.visit = visit
        self.endpoint = endpoint
        self.asked = asked
        self.decision: Decision | None = None
        self.outcome = Outcome()
        self.vectors: EmbeddingAnswer | None = None
        self.error: LLMRouterError | None = None
        self.gone = False
        self.ended_s = 0.0

    @property
    def failure(self) -> LLMRouterError | None:
        """What the caller was told instead of an answer, before the first byte or in mid-stream."""
        return self.error or self.outcome.error

    @property
    def elapsed_s(self) -> float:
        return (self.ended_s or time.perf_counter()) - self.visit.begun_s

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every model that was tried, as far as it is known."""
        if self.outcome.answer is not None:
            return self.outcome.answer.attempts
        if self.vectors is not None:
            return self.vectors.attempts
        told = getattr(self.failure, "attempts", None)
        return told if told is not None else self.outcome.attempts


class Observer(Protocol):
    """Must never raise, and never wait."""

    def served(self, served: Served) -> None:
        """A task has ended: answered, failed, or its caller gone."""
        ...

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        """A request was answered with an error."""
        ...

    def done(self, visit: Visit) -> None:
        """A request to a path of tasks was answered without one: a model loaded, tokens counted."""
        ...


TELL_AFTER_S = 0.004
"""Who has its reply often asks again at once; that request goes before what is told of the one before."""


class Observers:
    """Several as one. They hear of tasks a moment later, several in a row, and of everything in its order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._told: set[type] = set()
        self._waiting: list[Served] = []

    def served(self, served: Served) -> None:
        served.ended_s = time.perf_counter()
        if not self._waiting:
            asyncio.get_running_loop().call_later(TELL_AFTER_S, self.tell)
        self._waiting.append(served)

    def tell(self) -> None:
        """Tells now what is still to be told."""
        waiting, self._waiting = self._waiting, []
        for served in waiting:
            for observer in self._observers:
                try:
                    observer.served(served)
                except Exception:
                    self._failed(observer)

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        self.tell()
        for observer in self._observers:
            self._tell(observer, partial(observer.refused, visit, error, status))

    def done(self, visit: Visit) -> None:
        self.tell()
        for observer in self._observers:
            self._tell(observer, partial(observer.done, visit))

    def _tell(self, observer: Observer, what: Callable[[], None]) -> None:
        """A mistake of ours must not become one of the request's; told once, it would come with each."""
        try:
            what()
        except Exception:
            self._failed(observer)

    def _failed(self, observer: Observer) -> None:
        kind = type(observer)
        if kind not in self._told:
            self._told.add(kind)
            log.exception("%s failed", kind.__name__)
