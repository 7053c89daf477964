"""A plain HTTP client for tests of a server: statuses, JSON and lines as they arrive, and nothing clever."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

import aiohttp

_TIMEOUT_S = 10.0


def chat_body(model: str, text: str = "hi", **more: Any) -> dict[str, Any]:
    """A native chat request with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


class RawClient:
    """Talks to one server; an async context manager. Follows no redirect and waits ten seconds at most."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, for what the methods here do not cover."""
        assert self._session is not None, "use `async with RawClient(url) as client`"  # noqa: S101
        return self._session

    def open(self, method: str, path: str, **more: Any) -> Any:
        """A request whose response the caller reads: `async with client.open(...) as response`."""
        return self.session.request(method, self.url + path, allow_redirects=False, **more)

    async def request(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """The status and the JSON (or, where it is none, the text) of the answer."""
        async with self.open(method, path, json=body, **more) as response:
            text = await response.text()
            try:
                return response.status, json.loads(text)
            except ValueError:
                return response.status, text

    async def get(self, path: str) -> Any:
        """The JSON of a GET that must succeed."""
        return _only_success(await self.request("GET", path))

    async def post(self, path: str, body: Any) -> Any:
        """The JSON of a POST that must succeed."""
        return _only_success(await self.request("POST", path, body))

    async def lines(self, path: str, body: Any) -> list[Any]:
        """The objects of a streamed answer that must begin well."""
        async with self.open("POST", path, json=body) as response:
            text = await response.text()
            _only_success((response.status, text))
            return [json.loads(line) for line in text.splitlines()]

    async def chat(self, model: str, text: str = "hi", **more: Any) -> Any:
        """One native chat without streaming that must succeed."""
        return await self.post("/api/chat", chat_body(model, text, stream=False, **more))


def _only_success(answer: tuple[int, Any]) -> Any:
    status, body = answer
    if status != 200:
        raise AssertionError(f"status {status}: {body}")
    return body
