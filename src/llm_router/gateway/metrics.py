"""Figures for Prometheus. Every label has a bounded set of values: what is beyond it becomes ``other``."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from llm_router.answer import Answer, Attempt
from llm_router.errors import LLMRouterError, MissingExtra
from llm_router.gateway.app import Visit, status_of
from llm_router.gateway.observers import Served
from llm_router.gateway.recording import GONE

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

    from llm_router.gateway.app import Gateway
    from llm_router.records.writer import Recorder

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS_PER_S = (1, 2, 5, 10, 20, 40, 80, 160, 320)
_LOADED_S = 1.0
"""A load that took longer was a load; a resident model tells 0.05 to 0.14 s."""

_MOST_MODELS = 200


class _Counter:
    """Counts by the values of its labels. The library's takes a lock each time; here one thread counts."""

    def __init__(self, name: str, told: str, *labels: str) -> None:
        self.name, self.told, self.labels = name, told, labels
        self.of: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def family(self) -> CounterMetricFamily:
        """As the library shows it."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.told, labels=self.labels)
        for values, count in self.of.items():
            family.add_metric(values, count)
        return family


class _Histogram:
    """The same for values, counted by the upper bound that each keeps within; of one label."""

    def __init__(self, name: str, told: str, label: str, bounds: Sequence[float]) -> None:
        self.name, self.told, self.label, self.bounds = name, told, label, bounds
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(bounds) + 1))
        self._sums: defaultdict[str, float] = defaultdict(float)

    def observe(self, label: str, value: float) -> None:
        self._counts[label][bisect_left(self.bounds, value)] += 1
        self._sums[label] += value

    def family(self) -> HistogramMetricFamily:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self.told, labels=(self.label,))
        bounds = (*[str(float(bound)) for bound in self.bounds], "+Inf")
        for label, counts in self._counts.items():
            family.add_metric((label,), list(zip(bounds, accumulate(counts), strict=True)), self._sums[label])
        return family


class Metrics:
    """An ``Observer`` that counts. Raises MissingExtra without the library."""

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingExtra.needed("serve", "/metrics", "prometheus_client") from None
        self._registry = prometheus.CollectorRegistry()
        self._registry.register(self)
        self._requests = _Counter("llm_router_requests", "Requests by path and status", "path", "status")
        self._decisions = _Counter(
            "llm_router_decisions",
            "Decisions by category, model and the stage that decided",
            "category",
            "model",
            "stage",
        )
        self._failures = _Counter(
            "llm_router_failed_attempts", "Models that failed, by error", "model", "error"
        )
        self._fallbacks = _Counter("llm_router_fallbacks", "Answers by another model than the first", "model")
        self._loads = _Counter("llm_router_loads", "Answers that waited for a model to load", "model")
        self._tokens = _Counter("llm_router_tokens", "Tokens read and written", "model", "kind")
        self._seconds = _Histogram("llm_router_request_seconds", "From request to end", "path", _SECONDS)
        self._first = _Histogram(
            "llm_router_first_token_seconds", "From request to the first token", "model", _SECONDS
        )
        self._speed = _Histogram(
            "llm_router_tokens_per_second", "Tokens written per second", "model", _TOKENS_PER_S
        )
        self._now = (0, 0, 0)
        self._models: set[str] = set()

    def served(self, served: Served) -> None:
        failure, decision = served.failure, served.decision
        status = GONE if served.gone else 200 if failure is None else status_of(failure)
        path = served.endpoint.path
        self._requests.of[path, str(status)] += 1
        self._seconds.observe(path, served.elapsed_s)
        if decision is not None:
            model = self._known(decision.answer_model or "none")
            self._decisions.of[decision.category, model, decision.classification.stage] += 1
        for attempt in served.attempts:
            if attempt.error is not None:
                self._failures.of[self._known(attempt.model), attempt.error.code] += 1
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
            self._first.observe(model, answer.first_token_s)
        if usage.output_tokens is not None and usage.output_tokens > 0:
            self._tokens.of[model, "written"] += usage.output_tokens
        speed = usage.tokens_per_s
        if speed is not None and speed > 0:
            self._speed.observe(model, speed)
        if usage.load_s is not None and usage.load_s > _LOADED_S:
            self._loads.of[model,] += 1

    def _counted(self, model: str, attempts: Sequence[Attempt], read_tokens: int | None) -> None:
        if len(attempts) > 1:
            self._fallbacks.of[model,] += 1
        if read_tokens is not None and read_tokens > 0:
            self._tokens.of[model, "read"] += read_tokens

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        self._requests.of[visit.exchange.path if visit.is_known else "other", str(status)] += 1

    def done(self, visit: Visit) -> None:
        self._requests.of[visit.exchange.path, "200"] += 1

    def _known(self, model: str) -> str:
        """Names of models come from hosts and the fleet, never from a caller; still there is a bound."""
        if model not in self._models:
            if len(self._models) >= _MOST_MODELS:
                return "other"
            self._models.add(model)
        return model

    def text(self, gateway: Gateway, recorder: Recorder | None) -> bytes:
        """Everything, as Prometheus reads it."""
        from prometheus_client import generate_latest

        waiting = dropped = 0
        if recorder is not None:
            problem = recorder.problem
            waiting, dropped = recorder.waiting, problem.dropped if problem is not None else 0
        self._now = (gateway.running, waiting, dropped)
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What the library asks for when it puts the page together."""
        from prometheus_client.core import GaugeMetricFamily

        counters = (
            self._requests,
            self._decisions,
            self._failures,
            self._fallbacks,
            self._loads,
            self._tokens,
        )
        for figures in (*counters, self._seconds, self._first, self._speed):
            yield figures.family()
        running, waiting, dropped = self._now
        yield GaugeMetricFamily("llm_router_running", "Tasks being answered now", running)
        yield GaugeMetricFamily("llm_router_records_waiting", "Records not yet written", waiting)
        yield GaugeMetricFamily("llm_router_records_dropped", "Records that were dropped", dropped)
