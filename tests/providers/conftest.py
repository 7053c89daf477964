"""A server on loopback that says exactly what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from tests.support.aiohttp_server import serving


@dataclass
class Scripted:
    """Replies to every request with ``body``; ``asked`` holds (path, body, headers) of each request."""

    body: bytes = b"{}"
    content_type: str = "application/json"
    status: int = 200
    url: str = ""
    asked: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)

    def events(self, *data: str) -> None:
        """A stream of events, ended as OpenAI's API ends it."""
        self.content_type = "text/event-stream"
        self.body = "".join(f"data: {one}\n\n" for one in (*data, "[DONE]")).encode()

    async def reply(self, request: web.Request) -> web.Response:
        sent = await request.json() if request.can_read_body else None
        self.asked.append((request.path, sent, dict(request.headers)))
        return web.Response(body=self.body, status=self.status, content_type=self.content_type)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    async with serving(server.reply) as server.url:
        yield server
