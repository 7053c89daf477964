"""HTTP to one model server: limits on every wait, and what goes wrong turned into our errors.

What a server's own error texts mean differs by server, so each provider hands in a ``StatusReader``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import msgspec

from llm_router.errors import BadReply, HostTimeout, HostUnreachable, ProviderError, RequestRejected
from llm_router.http1 import client
from llm_router.http1.client import HttpError, Pool, Response
from llm_router.providers.address import masked
from llm_router.providers.base import Timeouts
from llm_router.request import Json, JsonObject

MAX_LINE_BYTES = 32 * 1024 * 1024
"""One line of a stream; a longer one is garbage. Tool calls and base64 images fit well inside."""

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""One whole reply; the largest real ones are batches of embeddings."""

END_WAIT_S = 1.0
"""How long to wait for a server to end a reply whose last piece has come."""

_JSON: Mapping[str, str] = {"content-type": "application/json"}
_NOTHING: Mapping[str, str] = {}

StatusReader = Callable[[int, str, str], ProviderError]
"""(status, error text, model) → the error it means."""


@dataclass(frozen=True, slots=True)
class _Session:
    """Connections and the generator that closes them when their event loop ends."""

    pool: Pool
    guard: AsyncGenerator[None, None]


class HttpHost:
    """Connections to one server: one pool per event loop, opened on its first use there.

    ``close`` gives back those of the running loop; a pool on another loop, where an answer may be on its way,
    ends with that loop.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeouts: Timeouts,
        read_status: StatusReader,
        api_key: str | None = None,
        start_hint: str | None = None,
        keep_idle_s: float = 30.0,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.shown_url = masked(self.url)
        """For people: without a user and a password."""
        self.timeouts = timeouts
        self._read_status = read_status
        self._api_key = api_key
        self._start_hint = start_hint
        self._keep_idle_s = keep_idle_s
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}

    def __repr__(self) -> str:
        return f"HttpHost({self.name!r}, {self.shown_url!r})"

    async def close(self) -> None:
        held = self._sessions.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.guard.aclose()

    async def get(self, path: str, *, limit_s: float | None = None) -> Json:
        """GET → parsed JSON. Raises a ProviderError."""
        return await self._json("GET", path, None, limit_s or self.timeouts.control_s)

    async def post(
        self, path: str, body: JsonObject, *, model: str = "", limit_s: float | None = None
    ) -> Json:
        """POST JSON → parsed JSON. Raises a ProviderError."""
        return await self._json("POST", path, body, limit_s or self.timeouts.control_s, model)

    def lines(
        self,
        path: str,
        body: JsonObject,
        *,
        model: str = "",
        timeouts: Timeouts | None = None,
        rest_s: float = 0.0,
    ) -> AbstractAsyncContextManager[Lines]:
        """POST JSON → the reply's lines as they come, without their ends; empty ones too.

        Leaving the block early closes the connection, which cancels the generation on the server. Else it is
        used again, but not for ``rest_s``, in which a server may still close it.
        """
        return _LinesExchange(self, path, body, model, timeouts or self.timeouts, rest_s=rest_s)

    @asynccontextmanager
    async def passed_on(
        self,
        method: str,
        path: str,
        body: AsyncIterator[bytes] | bytes | None,
        headers: Mapping[str, str],
    ) -> AsyncIterator[Passed]:
        """Any request, and its reply whatever its status. Raises a ProviderError where none comes.

        There is no limit on the whole: a pull takes as long as it takes. Nothing for ``idle_s`` ends it.
        """
        whole, pieces = (body, None) if body is None or isinstance(body, bytes) else (None, body)
        limit_s = self.timeouts.first_byte_s
        response: Response | None = None
        try:
            pool = self._pool_here() or await self._opened()
            if pieces is None:
                response = await pool.request(method, path, whole, headers, limit_s=limit_s)
            else:
                response = await pool.request(method, path, None, headers, pieces=pieces)
        except (TimeoutError, HttpError, OSError, ValueError) as error:
            raise self.foreign(error, limit_s, "", begun=False) from error
        try:
            yield Passed(self, response)
        finally:
            response.release()

    async def whole(
        self, path: str, body: JsonObject | None, limit_s: float, model: str, *, method: str = "POST"
    ) -> bytes:
        """JSON → the body of the reply, whole within ``limit_s``. Raises a ProviderError."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + limit_s
        response = await self.replied(method, path, body, limit_s, model)
        parts: list[bytes] = []
        size = 0
        try:
            while not response.at_eof:
                piece = await response.readany(max(0.0, until_s - loop.time()))
                parts.append(piece)
                size += len(piece)
                if size > MAX_REPLY_BYTES:
                    raise self.bad(model, "the reply does not end")
        except (TimeoutError, HttpError, OSError) as error:
            raise self.foreign(error, limit_s, model) from error
        finally:
            response.release()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _json(
        self, method: str, path: str, body: JsonObject | None, limit_s: float, model: str = ""
    ) -> Json:
        data = await self.whole(path, body, limit_s, model, method=method)
        try:
            value: Json = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.bad(model, "the reply is not JSON") from error
        return value

    async def replied(
        self, method: str, path: str, body: JsonObject | None, limit_s: float, model: str = ""
    ) -> Response:
        """A reply whose head is that of a success, come within ``limit_s``. Raises a ProviderError."""
        data = None if body is None else self._encoded(body, model)
        headers = _JSON if data is not None else _NOTHING
        response: Response | None = None
        try:
            pool = self._pool_here() or await self._opened()
            response = await pool.request(method, path, data, headers, limit_s=limit_s)
            if response.status >= 300 or response.content_type == "text/html":
                async with asyncio.timeout(limit_s):
                    await self._check(response, model, limit_s)
        except (TimeoutError, HttpError, OSError, ValueError) as error:
            if response is not None:
                response.close()
            raise self.foreign(error, limit_s, model, begun=response is not None) from error
        except BaseException:
            if response is not None:
                response.close()
            raise
        return response

    def _encoded(self, body: JsonObject, model: str) -> bytes:
        try:
            return msgspec.json.encode(body)
        except (UnicodeEncodeError, ValueError, TypeError) as error:
            raise RequestRejected(
                "the request cannot be sent",
                why="it holds text that is not valid Unicode"
                if isinstance(error, ValueError)
                else str(error),
                host=self.name,
                model=model,
            ) from error

    def _pool_here(self) -> Pool | None:
        """The connections of the running event loop, where there are any yet."""
        held = self._sessions.get(asyncio.get_running_loop())
        return held.pool if held is not None and not held.pool.closed else None

    async def _opened(self) -> Pool:
        """New ones; those of loops that have ended are dropped."""
        loop = asyncio.get_running_loop()
        for ended in [other for other in tuple(self._sessions) if other.is_closed()]:
            dropped = self._sessions.pop(ended, None)
            if dropped is not None:
                dropped.pool.abandon()
        pool = Pool(
            self.url,
            connect_s=self.timeouts.connect_s,
            headers={"authorization": f"Bearer {self._api_key}"} if self._api_key else None,
            keep_idle_s=self._keep_idle_s,
        )
        guard = _until_the_loop_ends(pool)
        self._sessions[loop] = _Session(pool, guard)
        await anext(guard)
        return pool

    async def _check(self, response: Response, model: str, limit_s: float) -> None:
        """Raises what a reply that is no success means."""
        if 300 <= response.status < 400:
            raise self.bad(model, f"it redirects to {response.headers.get('location', 'nowhere')}")
        if response.content_type == "text/html":
            raise self.bad(
                model,
                f"it sent an HTML page (status {response.status}), not an answer of a model server",
                "is that a proxy or another program? check address and port",
            )
        if response.status >= 400:
            raw = await _at_most(response, 65536, limit_s)
            raise self._with_place(
                self._read_status(response.status, error_text(raw), model), response.status, model
            )

    def foreign(self, error: Exception, limit_s: float, model: str, *, begun: bool = True) -> ProviderError:
        """The client's and the system's errors as ours, most specific first."""
        if isinstance(error, TimeoutError):
            return HostTimeout(
                f"{self.name} at {self.shown_url} did not answer",
                why=f"nothing came for {_seconds(limit_s)}",
                host=self.name,
                model=model,
            )
        if isinstance(error, client.ProtocolError):
            return self.bad(model, "it does not speak HTTP as expected", "check address and port")
        return HostUnreachable(
            f"{self.name} at {self.shown_url} is not reachable",
            why=self._why_unreachable(error, begun=begun),
            hint=self._start_hint,
            host=self.name,
            model=model,
        )

    def _why_unreachable(self, error: Exception, *, begun: bool) -> str:
        match error:
            case client.NameUnresolved():
                return f"the name {str(error)!r} does not resolve"
            case client.CertificateRefused() | client.TlsFailed():
                return f"no secure connection: {error}"
            case client.ConnectFailed():
                why = (error.os_error.strerror or str(error.os_error)).lower()
                return "connection refused" if "refused" in why or "connect call failed" in why else why
            case client.ConnectTimeout():
                return str(error)
            case client.InvalidAddress():
                return "that is not an address"
        if begun:
            return "the connection was closed before the answer was whole"
        return "the connection was closed without an answer"

    def bad(self, model: str, why: str, hint: str | None = None) -> BadReply:
        return BadReply(
            f"{self.name} at {self.shown_url} sent no usable answer",
            why=why,
            hint=hint,
            host=self.name,
            model=model,
        )

    def _with_place(self, error: ProviderError, status: int, model: str) -> ProviderError:
        error.host, error.model, error.status = self.name, model, status
        return error


class Passed:
    """The reply to a request that was passed on."""

    def __init__(self, host: HttpHost, response: Response) -> None:
        self._host = host
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("content-type", "application/json")

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises a ProviderError."""
        idle_s = self._host.timeouts.idle_s
        try:
            return await self._response.readany(idle_s)
        except (TimeoutError, HttpError, OSError) as error:
            raise self._host.foreign(error, idle_s, "") from error


class _LinesExchange:
    """A reply as lines, for the time of a block."""

    __slots__ = ("_body", "_host", "_model", "_path", "_response", "_rest_s", "_timeouts")

    def __init__(
        self, host: HttpHost, path: str, body: JsonObject, model: str, timeouts: Timeouts, *, rest_s: float
    ) -> None:
        self._host = host
        self._path = path
        self._body = body
        self._model = model
        self._timeouts = timeouts
        self._rest_s = rest_s
        self._response: Response | None = None

    async def __aenter__(self) -> Lines:
        timeouts = self._timeouts
        begins_by_s = asyncio.get_running_loop().time() + timeouts.first_byte_s
        self._response = response = await self._host.replied(
            "POST", self._path, self._body, timeouts.first_byte_s, self._model
        )
        return Lines(self._host, response, self._model, timeouts, begins_by_s)

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.release(rest_s=self._rest_s)


class Lines:
    """The lines of a reply as they come, with a limit on every wait; one given back without waiting where it
    is here already. Some servers send their head long before the first byte of the answer."""

    def __init__(
        self, host: HttpHost, response: Response, model: str, timeouts: Timeouts, begins_by_s: float
    ) -> None:
        self._host = host
        self._response = response
        self._model = model
        self._idle_s = timeouts.idle_s
        self._begins_by_s: float | None = begins_by_s
        self._ready: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._ended = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._more()
        return self._ready.popleft()

    @property
    def whole(self) -> bool:
        """Whether all of the reply has come."""
        return self._response.at_eof

    def here(self) -> list[bytes]:
        """All that can be taken without waiting."""
        found = list(self._ready)
        self._ready.clear()
        return found

    async def _more(self) -> None:
        limit_s = self._idle_s
        if self._begins_by_s is not None:
            limit_s = max(0.001, self._begins_by_s - asyncio.get_running_loop().time())
        try:
            piece = await self._response.readany(limit_s)
        except (TimeoutError, HttpError, OSError) as error:
            raise self._host.foreign(error, limit_s, self._model) from error
        self._begins_by_s = None
        if not piece:
            self._ended = True
            if self._rest:
                self._ready.append(b"".join(self._rest).rstrip(b"\r"))
            return
        if b"\n" not in piece:
            self._rest.append(piece)
            self._rest_bytes += len(piece)
            if self._rest_bytes > MAX_LINE_BYTES:
                raise self._host.bad(self._model, "a line of the stream does not end")
            return
        if self._rest:
            self._rest.append(piece)
            piece = b"".join(self._rest)
        *whole, rest = piece.split(b"\n")
        self._rest = [rest] if rest else []
        self._rest_bytes = len(rest)
        self._ready.extend([line.rstrip(b"\r") for line in whole])


async def _at_most(response: Response, size: int, limit_s: float) -> bytes:
    """The beginning of a body."""
    data = b""
    while len(data) < size and (piece := await response.readany(limit_s)):
        data += piece
    return data[:size]


async def _until_the_loop_ends(pool: Pool) -> AsyncGenerator[None, None]:
    """An event loop finishes its asynchronous generators before it closes, and so the connections."""
    try:
        yield
    finally:
        await pool.close()


async def drain(lines: Lines) -> None:
    """Reads what follows the last line that matters, so that the connection can be used again.

    A server that does not end its reply, or breaks it off now, no longer matters: the answer is whole.
    """
    if lines.whole:
        return
    try:
        async with asyncio.timeout(END_WAIT_S):
            async for _ in lines:
                pass
    except (TimeoutError, ProviderError):
        return


def _seconds(value_s: float) -> str:
    return f"{value_s:.0f} s" if value_s >= 10 else f"{value_s:.2g} s"


def error_text(raw: bytes) -> str:
    """The sentence inside an error body, whichever of the known shapes it has."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw.decode("utf-8", "replace").strip()[:500]
    return text_of_error(value) or str(value)[:500]


def text_of_error(value: object) -> str | None:
    """``{"error": "text"}`` or ``{"error": {"message": "text"}}`` → the text; None where there is none."""
    if not isinstance(value, dict) or "error" not in value:
        return None
    inner = value["error"]
    if isinstance(inner, dict):
        inner = inner.get("message", inner)
    return str(inner)
