"""A body whose decision is wanted without running it: of which wire is it?

The path it would be sent to says so where the caller names it; else the body's own fields do. Where they
leave it open (a conversation in plain texts is the same on every wire), so does the decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from llm_router.bodies import request_from_json
from llm_router.errors import InvalidRequest
from llm_router.gateway.wires import endpoints
from llm_router.gateway.wires.anthropic import COUNT_TOKENS
from llm_router.gateway.wires.base import Preload
from llm_router.gateway.wires.responses import RESPONSES
from llm_router.request import RouteRequest

_OF_RESPONSES = frozenset(
    {"instructions", "max_output_tokens", "text", "reasoning", "tools", "previous_response_id"}
)
_BLOCKS = frozenset({"document", "image", "redacted_thinking", "thinking", "tool_result", "tool_use"})
_decoder = msgspec.json.Decoder(dict[str, Any])


def request_of(data: bytes, path: str | None, *, anthropic: bool) -> RouteRequest:
    """The task of a body. ``anthropic``: the caller speaks Anthropic's API. Raises InvalidRequest."""
    path = path or (COUNT_TOKENS if anthropic else _path_of(data))
    if path is None:
        return request_from_json(data)
    endpoint = next((endpoint for endpoint in endpoints() if endpoint.path == path), None)
    if endpoint is None:
        raise InvalidRequest(
            f"no tasks are sent to {path[:80]!r}",
            why="it is none of the paths that answer",
            hint=f"name one of {', '.join(endpoint.path for endpoint in endpoints())}",
        )
    asked = endpoint.parse(data)
    if isinstance(asked, Preload):
        raise InvalidRequest(
            "the body asks nothing", why="it would only load a model", hint="send messages, a prompt or input"
        )
    return asked.request


def _path_of(data: bytes) -> str | None:
    try:
        body = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # what is wrong with it is told by who reads it
    given = body.get("input")
    if given is not None and "messages" not in body:
        items = given if isinstance(given, list) else []
        if any(isinstance(item, dict) for item in items) or not _OF_RESPONSES.isdisjoint(body):
            return RESPONSES
    tools = body.get("tools")
    described = isinstance(tools, list) and any(isinstance(t, dict) and "input_schema" in t for t in tools)
    if isinstance(body.get("system"), list) or described or not _BLOCKS.isdisjoint(_kinds(body)):
        return COUNT_TOKENS  # as messages, without a word on how long the answer may be
    return None


def _kinds(body: dict[str, Any]) -> Iterator[str]:
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            kind = block.get("type") if isinstance(block, dict) else None
            if isinstance(kind, str):
                yield kind
