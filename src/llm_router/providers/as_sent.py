"""A body as its caller sent it, for a server of the same wire: only what the router decides is changed.

What this library has no name for reaches the server, and what the server says reaches the caller, byte for
byte. Where a model's quirks ask for changes inside the messages, the body is written anew instead.
"""

from __future__ import annotations

from llm_router.providers.base import ChatCall
from llm_router.request import RELOADING_OPTIONS, Json, JsonObject, SentBody

_RELOADING_FIELDS = ("shift",)
"""Fields beside the options by which Ollama decides that a model must be loaded anew."""


def sent_body(call: ChatCall, endpoint: str) -> SentBody | None:
    """The caller's own body, where the server's ``endpoint`` can be given it."""
    sent = call.request.body
    quirks, request = call.quirks, call.request
    told_how = not quirks.system_role and any(m.role == "system" for m in request.messages)
    plain = quirks.reasoning_markers is None and not told_how
    fits = sent is not None and sent.as_is and sent.endpoint == endpoint
    return sent if plain and fits else None


def ollama_body(sent: SentBody, call: ChatCall) -> JsonObject:
    """For ``/api/chat`` and ``/api/generate``. The answer is always asked for as a stream.

    A model's place in memory is the router's: ``keep_alive`` counts only where the caller named the model,
    and options that would load it anew are left out. An over-long prompt is an error unless the caller wants
    it cut.
    """
    body = dict(sent.fields)
    given = body.get("options")
    options: dict[str, Json] = {}
    if isinstance(given, dict):
        options = {name: value for name, value in given.items() if name not in RELOADING_OPTIONS}
    options.pop("num_ctx", None)
    if call.num_ctx:
        options["num_ctx"] = call.num_ctx
    for name in _RELOADING_FIELDS:
        body.pop(name, None)
    if call.request.model is None:
        body.pop("keep_alive", None)
    body.pop("think", None)
    if call.think is not None:
        body["think"] = call.think
    body.setdefault("truncate", False)
    return body | {"model": call.model, "stream": True, "options": options}


def openai_body(sent: SentBody, call: ChatCall) -> JsonObject:
    """For ``/v1/chat/completions`` and ``/v1/completions``; a stream always ends with what was counted."""
    body = sent.fields | {"model": call.model}
    if sent.stream:
        asked = body.get("stream_options")
        body["stream_options"] = (asked if isinstance(asked, dict) else {}) | {"include_usage": True}
    return body


def wants_usage(sent: SentBody) -> bool:
    """Whether the caller of a stream asked for the event that holds what was counted."""
    asked = sent.fields.get("stream_options")
    return isinstance(asked, dict) and bool(asked.get("include_usage"))
