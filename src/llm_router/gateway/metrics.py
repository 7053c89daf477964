"""Figures for Prometheus. Every label has a bounded set of values: what is beyond it becomes ``other``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from llm_router.answer import Answer, Attempt
from llm_router.errors import LLMRouterError, MissingExtra
from llm_router.gateway.app import Visit, status_of
from llm_router.gateway.observers import Served
from llm_router.gateway.recording import GONE

if TYPE_CHECKING:
    from llm_router.gateway.app import Gateway
    from llm_router.records.writer import Recorder

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS_PER_S = (1, 2, 5, 10, 20, 40, 80, 160, 320)
_LOADED_S = 1.0
"""A load that took longer was a load; a resident model tells 0.05 to 0.14 s."""

_MOST_MODELS = 200


class Metrics:
    """An ``Observer`` that counts. Raises MissingExtra without the library."""

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingExtra.needed("serve", "/metrics", "prometheus_client") from None
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = prometheus.CollectorRegistry()
        self._generate: Callable[[prometheus.CollectorRegistry], bytes] = prometheus.generate_latest
        counter, histogram, gauge = prometheus.Counter, prometheus.Histogram, prometheus.Gauge
        self._requests = counter(
            "llm_router_requests", "Requests by path and status", ("path", "status"), registry=registry
        )
        self._decisions = counter(
            "llm_router_decisions",
            "Decisions by category, model and the stage that decided",
            ("category", "model", "stage"),
            registry=registry,
        )
        self._failures = counter(
            "llm_router_failed_attempts",
            "Models that failed, by error",
            ("model", "error"),
            registry=registry,
        )
        self._fallbacks = counter(
            "llm_router_fallbacks", "Answers by another model than the first", ("model",), registry=registry
        )
        self._loads = counter(
            "llm_router_loads", "Answers that waited for a model to load", ("model",), registry=registry
        )
        self._tokens = counter(
            "llm_router_tokens", "Tokens read and written", ("model", "kind"), registry=registry
        )
        self._seconds = histogram(
            "llm_router_request_seconds",
            "From request to end",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = histogram(
            "llm_router_first_token_seconds",
            "From request to the first token",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._speed = histogram(
            "llm_router_tokens_per_second",
            "Tokens written per second",
            ("model",),
            buckets=_TOKENS_PER_S,
            registry=registry,
        )
        self._running = gauge("llm_router_running", "Tasks being answered now", registry=registry)
        self._waiting = gauge("llm_router_records_waiting", "Records not yet written", registry=registry)
        self._dropped = gauge("llm_router_records_dropped", "Records that were dropped", registry=registry)
        self._models: set[str] = set()
        # Finding a child by its labels costs more than counting.
        self._request = lru_cache(4096)(self._requests.labels)
        self._decision = lru_cache(4096)(self._decisions.labels)
        self._token = lru_cache(1024)(self._tokens.labels)
        self._second = lru_cache(64)(self._seconds.labels)
        self._first_of = lru_cache(512)(self._first.labels)
        self._speed_of = lru_cache(512)(self._speed.labels)

    def served(self, served: Served) -> None:
        failure, decision = served.failure, served.decision
        status = GONE if served.gone else 200 if failure is None else status_of(failure)
        self._request(served.endpoint.path, str(status)).inc()
        self._second(served.endpoint.path).observe(served.elapsed_s)
        if decision is not None:
            model = self._known(decision.answer_model or "none")
            self._decision(decision.category, model, decision.classification.stage).inc()
        for attempt in served.attempts:
            if attempt.error is not None:
                self._failures.labels(self._known(attempt.model), attempt.error.code).inc()
        answer = served.outcome.answer
        if answer is not None:
            self._answered(answer)
        vectors = served.vectors
        if vectors is not None:
            self._counted(self._known(vectors.model), vectors.attempts, vectors.prompt_tokens)

    def _answered(self, answer: Answer) -> None:
        model, usage = self._known(answer.model), answer.usage
        self._counted(model, answer.attempts, usage.prompt_tokens)
        if answer.first_token_s is not None:
            self._first_of(model).observe(answer.first_token_s)
        if usage.output_tokens:
            self._token(model, "written").inc(usage.output_tokens)
        if usage.tokens_per_s:
            self._speed_of(model).observe(usage.tokens_per_s)
        if usage.load_s is not None and usage.load_s > _LOADED_S:
            self._loads.labels(model).inc()

    def _counted(self, model: str, attempts: Sequence[Attempt], read_tokens: int | None) -> None:
        if len(attempts) > 1:
            self._fallbacks.labels(model).inc()
        if read_tokens:
            self._token(model, "read").inc(read_tokens)

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        self._request(visit.exchange.path if visit.is_known else "other", str(status)).inc()

    def done(self, visit: Visit) -> None:
        self._request(visit.exchange.path, "200").inc()

    def _known(self, model: str) -> str:
        """Names of models come from hosts and the fleet, never from a caller; still there is a bound."""
        if model not in self._models:
            if len(self._models) >= _MOST_MODELS:
                return "other"
            self._models.add(model)
        return model

    def text(self, gateway: Gateway, recorder: Recorder | None) -> bytes:
        """Everything, as Prometheus reads it."""
        self._running.set(gateway.running)
        if recorder is not None:
            problem = recorder.problem
            self._waiting.set(recorder.waiting)
            self._dropped.set(problem.dropped if problem is not None else 0)
        return self._generate(self._registry)
