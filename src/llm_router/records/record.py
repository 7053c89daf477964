"""One request as it is remembered: values only, made when it has ended."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from llm_router.answer import Attempt, Usage
from llm_router.decision import Decision
from llm_router.hosts.speeds import NOT_MEASURED, Measured

_encode = msgspec.json.Encoder().encode


class RequestRecord(Struct, frozen=True):
    """What happened. ``at_ns`` is wall clock, nanoseconds since 1970; all durations are of a steady clock.

    ``served_as`` is the host's own name of the model, ``measured`` what the answer told of its speed there.
    ``text`` is what the task said. The writer keeps a keyed hash of it, and the words themselves only where
    the settings say so.
    """

    request_id: str
    at_ns: int
    endpoint: str
    key: str
    asked_model: str
    streamed: bool
    text: str
    messages: int
    images: int
    tools: int
    decision: Decision | None
    attempts: Sequence[Attempt]
    model: str
    host: str
    status: int
    error_code: str
    error: str
    gone: bool
    elapsed_s: float
    first_token_s: float | None
    usage: Usage
    done_reason: str
    warnings: Sequence[str] = ()
    served_as: str = ""
    measured: Measured = NOT_MEASURED

    def details(self) -> bytes:
        """Everything that has no column of its own as JSON text, the whole decision first."""
        usage = self.usage
        told = {
            "decision": Raw(self.decision.encoded()) if self.decision is not None else None,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "endpoint": self.endpoint,
            "asked_model": self.asked_model,
            "streamed": self.streamed,
            "messages": self.messages,
            "images": self.images,
            "tools": self.tools,
            "error_message": self.error,
            "client_gone": self.gone,
            "done_reason": self.done_reason,
            "load_s": usage.load_s,
            "prefill_s": usage.prefill_s,
            "decode_s": usage.decode_s,
            "warnings": self.warnings,
            "served_as": self.served_as,
            "measured": None if self.measured.empty else self.measured,
        }
        return _encode(told)
