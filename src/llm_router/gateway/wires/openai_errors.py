"""Errors as clients of OpenAI's API read them."""

from __future__ import annotations

import msgspec

from llm_router.errors import ContextExceeded, LLMRouterError, NoModelAvailable
from llm_router.request import JsonObject

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}

_encoder = msgspec.json.Encoder()


def error_object(error: LLMRouterError, status: int) -> JsonObject:
    """``{"message", "type", "param", "code"}``; the code is that of our own error, stable across versions."""
    message = f"{error}; hint: {error.hint}" if error.hint else str(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"message": message, "type": kind, "param": None, "code": _code(error)}


def _code(error: LLMRouterError) -> str:
    """Ours, but for a task that is too long: there clients look for OpenAI's own word, and shorten it."""
    rejected = error.rejected if isinstance(error, NoModelAvailable) else ()
    too_long = isinstance(error, ContextExceeded) or any(r.code == "context" for r in rejected)
    return "context_length_exceeded" if too_long else error.code


def error_body(error: LLMRouterError, status: int, request_id: str) -> bytes:
    return _encoder.encode({"error": error_object(error, status)})


def error_event(error: LLMRouterError) -> bytes:
    """The last event of a stream that broke off; no ``[DONE]`` follows, for nothing is done."""
    return b"data: %b\n\n" % _encoder.encode({"error": error_object(error, error.http_status)})
