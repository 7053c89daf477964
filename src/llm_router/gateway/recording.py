"""From a served task to its record."""

from __future__ import annotations

from llm_router.answer import Usage
from llm_router.errors import LLMRouterError
from llm_router.gateway.app import Visit, status_of
from llm_router.gateway.observers import Served
from llm_router.hosts.speeds import NOT_MEASURED
from llm_router.records.record import RequestRecord
from llm_router.records.writer import Recorder

GONE = 499
"""The status of a request whose client left, as nginx writes it."""


class Recording:
    """An ``Observer`` that puts every task into the records."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def served(self, served: Served) -> None:
        self._recorder.put(record_of(served))

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        """What was no task is not recorded; the log and the metrics have it."""

    def done(self, visit: Visit) -> None:
        """What was no task is not recorded."""


def record_of(served: Served) -> RequestRecord:
    visit, request, decision = served.visit, served.asked.request, served.decision
    answer, vectors, failure = served.outcome.answer, served.vectors, served.failure
    answered = answer or vectors
    status = 200
    if served.gone:
        status = GONE
    elif failure is not None:
        status = status_of(failure)
    usage = answer.usage if answer is not None else Usage()
    if vectors is not None:
        usage = Usage(prompt_tokens=vectors.prompt_tokens, load_s=vectors.load_s)
    model = answered.model if answered is not None else (decision.answer_model if decision else None) or ""
    return RequestRecord(
        request_id=visit.request_id,
        at_ns=int(visit.created_s * 1e9),
        endpoint=served.endpoint.path,
        key=visit.caller.name,
        asked_model=request.model or "auto",
        streamed=served.asked.stream,
        text=request.task,
        messages=len(request.messages),
        images=len(request.images),
        tools=len(request.tools),
        decision=decision,
        attempts=served.attempts,
        model=model,
        host=answered.host if answered is not None else "",
        status=status,
        error_code=failure.code if failure is not None else "client_gone" if served.gone else "",
        error=str(failure) if failure is not None else "",
        gone=served.gone,
        elapsed_s=served.elapsed_s,
        first_token_s=answer.first_token_s if answer is not None else None,
        usage=usage,
        done_reason=answer.done_reason if answer is not None else "",
        warnings=answer.warnings if answer is not None else (),
        served_as=answer.served_as if answer is not None else "",
        measured=answer.measured if answer is not None else NOT_MEASURED,
    )
