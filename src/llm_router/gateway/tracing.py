"""One OpenTelemetry span per task, named as the conventions for generative AI say. No words of a task in it.

Spans are made when a task has ended, with the times that were measured. Where they go is set by the variables
of OpenTelemetry, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``. Nothing is sent unless ``serve.traces`` is on.
"""

from __future__ import annotations

import importlib
from typing import Any

from llm_router.errors import LLMRouterError, MissingExtra
from llm_router.gateway.app import Visit
from llm_router.gateway.observers import Served
from llm_router.request import ApiKind
from llm_router.version import __version__

_NS = 1_000_000_000


class Tracing:
    """An ``Observer`` that makes spans. Raises MissingExtra without the library."""

    def __init__(self, exporter: Any | None = None) -> None:
        try:
            trace = importlib.import_module("opentelemetry.sdk.trace")
            export = importlib.import_module("opentelemetry.sdk.trace.export")
            resources = importlib.import_module("opentelemetry.sdk.resources")
            otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            self._api = importlib.import_module("opentelemetry.trace")
            # A caller that traces too says in its headers which of its spans this one belongs to.
            self._extract = importlib.import_module("opentelemetry.propagate").extract
        except ImportError as error:
            raise MissingExtra.needed("otel", "serve.traces", error.name or "opentelemetry") from None
        resource = resources.Resource.create({"service.name": "llm-router", "service.version": __version__})
        self._provider = trace.TracerProvider(resource=resource)
        if exporter is not None:
            self._provider.add_span_processor(export.SimpleSpanProcessor(exporter))
        else:
            self._provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("llm_router", __version__)

    def served(self, served: Served) -> None:
        begun_ns = int(served.visit.created_s * _NS)
        request, failure = served.asked.request, served.failure
        operation = "embeddings" if request.kind is ApiKind.EMBEDDING else "chat"
        span = self._tracer.start_span(
            f"{operation} {request.model or 'auto'}",
            context=self._extract(served.visit.exchange.headers),
            start_time=begun_ns,
            kind=self._api.SpanKind.SERVER,
        )
        span.set_attributes({name: value for name, value in _attributes(served, operation).items() if value})
        if failure is not None:
            span.set_attribute("error.type", failure.code)
            span.set_status(self._api.Status(self._api.StatusCode.ERROR, failure.code))
        for attempt in served.attempts:
            if attempt.error is not None:
                told = {"llm_router.model": attempt.model, "error.type": attempt.error.code}
                span.add_event("failed attempt", told)
        span.end(end_time=begun_ns + int(served.elapsed_s * _NS))

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        """What was no task has no span."""

    def done(self, visit: Visit) -> None:
        """What was no task has no span."""

    def close(self) -> None:
        """Sends what waits."""
        self._provider.shutdown()


def _attributes(served: Served, operation: str) -> dict[str, Any]:
    request, decision, answer = served.asked.request, served.decision, served.outcome.answer
    answered = answer or served.vectors
    usage = answer.usage if answer is not None else None
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "llm_router",
        "gen_ai.request.model": request.model or "auto",
        "gen_ai.response.model": answered.model if answered is not None else None,
        "gen_ai.response.finish_reasons": [answer.done_reason] if answer is not None else None,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if usage is not None else None,
        "gen_ai.usage.output_tokens": usage.output_tokens if usage is not None else None,
        "gen_ai.output.type": "json" if request.response_format is not None else None,
        "server.address": answered.host if answered is not None else None,
        "llm_router.decision_id": decision.decision_id if decision is not None else None,
        "llm_router.category": decision.category if decision is not None else None,
        "llm_router.confidence": decision.confidence if decision is not None else None,
        "llm_router.stage": decision.classification.stage if decision is not None else None,
        "llm_router.first_token_s": answer.first_token_s if answer is not None else None,
        "llm_router.client_gone": served.gone,
    }
