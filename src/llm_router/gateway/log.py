"""One line per request on stderr, as text or as JSON. Words of a task are never in it.

Lines of requests that end in the same step of the loop are written together, at its end.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from datetime import datetime
from typing import TextIO

import msgspec

from llm_router.errors import LLMRouterError
from llm_router.gateway.app import Visit, status_of
from llm_router.gateway.observers import Served
from llm_router.gateway.recording import GONE
from llm_router.request import JsonObject

_encode_lines = msgspec.json.Encoder().encode_lines


class RequestLog:
    """An ``Observer`` that writes lines."""

    def __init__(self, *, as_json: bool, stream: TextIO | None = None) -> None:
        self._as_json = as_json
        self._stream = stream or sys.stderr
        self._second = -1.0
        self._before = self._after = ""
        self._lines: list[JsonObject] = []

    def served(self, served: Served) -> None:
        failure, decision = served.failure, served.decision
        answered = served.outcome.answer or served.vectors
        status = GONE if served.gone else 200 if failure is None else status_of(failure)
        told: JsonObject = {
            "at": self._stamp(served.visit.created_s),
            "status": status,
            "path": served.endpoint.path,
            "ms": round(served.elapsed_s * 1000, 1),
            "category": decision.category if decision is not None else None,
            "confidence": round(decision.confidence, 3) if decision is not None else None,
            "model": answered.model if answered is not None else None,
            "host": answered.host if answered is not None else None,
            "decision_id": decision.decision_id if decision is not None else None,
            "key": served.visit.caller.name or None,
            "error": failure.code if failure is not None else None,
            "request_id": served.visit.request_id,
        }
        self._write(told)

    def refused(self, visit: Visit, error: LLMRouterError, status: int) -> None:
        told: JsonObject = {
            "at": self._stamp(visit.created_s),
            "status": status,
            "path": visit.exchange.path[:120],
            "error": error.code,
            "request_id": visit.request_id,
        }
        self._write(told)

    def done(self, visit: Visit) -> None:
        told: JsonObject = {
            "at": self._stamp(visit.created_s),
            "status": 200,
            "path": visit.exchange.path,
            "key": visit.caller.name or None,
            "request_id": visit.request_id,
        }
        self._write(told)

    def _write(self, told: JsonObject) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(told)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        text = _encode_lines(lines).decode() if self._as_json else "".join(map(_in_words, lines))
        with suppress(OSError, ValueError):  # nobody reads stderr any more
            self._stream.write(text)

    def _stamp(self, at_s: float) -> str:
        """The local time with its offset; worked out once a second."""
        second, rest = divmod(at_s, 1.0)
        if second != self._second:
            self._second = second
            told = datetime.fromtimestamp(second).astimezone().isoformat()
            self._before, self._after = told[:19], told[19:]
        return f"{self._before}.{int(rest * 1000):03d}{self._after}"


def _in_words(told: JsonObject) -> str:
    """The time of day, and what is known."""
    rest = " ".join(
        [f"{k}={v}" for k, v in told.items() if v is not None and k not in ("at", "status", "path")]
    )
    path = str(told["path"]).encode("ascii", "backslashreplace").decode()
    return f"{str(told['at'])[11:19]} {told['status']} {path} {rest}\n"
