"""HTTP to one model server: limits on every wait, and aiohttp's errors turned into ours.

What a server's own error texts mean differs by server, so each provider hands in a ``StatusReader``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from llm_router.errors import BadReply, HostTimeout, HostUnreachable, ProviderError, RequestRejected
from llm_router.providers.base import Timeouts
from llm_router.request import Json, JsonObject

if TYPE_CHECKING:
    import aiohttp

MAX_LINE_BYTES = 32 * 1024 * 1024
"""One line of a stream; a longer one is garbage. Tool calls and base64 images fit well inside."""

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""One whole reply; the largest real ones are batches of embeddings."""

END_WAIT_S = 1.0
"""How long to wait for a server to end a reply whose last piece has come."""

StatusReader = Callable[[int, str, str], ProviderError]
"""(status, error text, model) → the error it means."""


@dataclass(frozen=True, slots=True)
class _Session:
    """A session and the generator that closes it when its event loop ends."""

    session: aiohttp.ClientSession
    guard: AsyncGenerator[None, None]


class HttpHost:
    """Connections to one server: one session per event loop, opened on its first use there.

    ``close`` gives back those of the running loop; a session on another loop, where an answer may be on its
    way, ends with that loop.
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
        keep_connections: bool = True,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.timeouts = timeouts
        self._read_status = read_status
        self._api_key = api_key
        self._start_hint = start_hint
        self._keep_connections = keep_connections
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}

    def __repr__(self) -> str:
        return f"HttpHost({self.name!r}, {self.url!r})"

    async def close(self) -> None:
        held = self._sessions.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.guard.aclose()

    async def get(self, path: str, *, limit_s: float | None = None) -> Json:
        """GET → parsed JSON. Raises a ProviderError."""
        return await self._whole("GET", path, None, limit_s or self.timeouts.control_s)

    async def post(
        self, path: str, body: JsonObject, *, model: str = "", limit_s: float | None = None
    ) -> Json:
        """POST JSON → parsed JSON. Raises a ProviderError."""
        return await self._whole("POST", path, body, limit_s or self.timeouts.control_s, model)

    @asynccontextmanager
    async def lines(
        self, path: str, body: JsonObject, *, model: str = "", timeouts: Timeouts | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """POST JSON → the reply's lines as they come, without their ends; empty ones too.

        Leaving the block early closes the connection, which cancels the generation on the server.
        """
        timeouts = timeouts or self.timeouts
        begins_by_s = asyncio.get_running_loop().time() + timeouts.first_byte_s
        async with (
            self._exchange("POST", path, body, timeouts.first_byte_s, model) as response,
            aclosing(self._split(response, model, timeouts, begins_by_s)) as lines,
        ):
            yield lines

    async def _whole(
        self, method: str, path: str, body: JsonObject | None, limit_s: float, model: str = ""
    ) -> Json:
        timeouts = msgspec.structs.replace(self.timeouts, idle_s=limit_s)
        try:
            async with (
                asyncio.timeout(limit_s),
                self._exchange(method, path, body, limit_s, model) as response,
            ):
                return await self._whole_json(response, model, timeouts)
        except TimeoutError as error:
            raise self._foreign(error, limit_s, model) from error

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: JsonObject | None, limit_s: float, model: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        data = None if body is None else self._encoded(body, model)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(limit_s):
                response = await (await self._opened()).request(
                    method, self.url + path, data=data, headers=headers, allow_redirects=False
                )
                await self._check(response, model)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if response is not None:
                response.close()
            raise self._foreign(error, limit_s, model, begun=response is not None) from error
        except BaseException:
            if response is not None:
                response.close()
            raise
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

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

    async def _opened(self) -> aiohttp.ClientSession:
        """The session of the running event loop; those of loops that have ended are dropped."""
        loop = asyncio.get_running_loop()
        held = self._sessions.get(loop)
        if held is not None and not held.session.closed:
            return held.session
        for ended in [other for other in tuple(self._sessions) if other.is_closed()]:
            dropped = self._sessions.pop(ended, None)
            if dropped is not None:
                dropped.session.detach()
        session = self._connected()
        guard = _until_the_loop_ends(session)
        self._sessions[loop] = _Session(session, guard)
        await anext(guard)
        return session

    def _connected(self) -> aiohttp.ClientSession:
        import aiohttp

        connector = (
            aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            if self._keep_connections
            else aiohttp.TCPConnector(limit=0, force_close=True)
        )
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._api_key}"} if self._api_key else {},
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timeouts.connect_s, sock_read=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _check(self, response: aiohttp.ClientResponse, model: str) -> None:
        """Raises what a reply that is no success means; leaves a success unread."""
        if 300 <= response.status < 400:
            raise self._bad(model, f"it redirects to {response.headers.get('Location', 'nowhere')}")
        if response.content_type == "text/html":
            raise self._bad(
                model,
                f"it sent an HTML page (status {response.status}), not an answer of a model server",
                "is that a proxy or another program? check address and port",
            )
        if response.status >= 400:
            raw = await response.content.read(65536)
            raise self._with_place(
                self._read_status(response.status, error_text(raw), model), response.status, model
            )

    async def _whole_json(self, response: aiohttp.ClientResponse, model: str, timeouts: Timeouts) -> Json:
        data = bytearray()
        async with aclosing(self._pieces(response, model, timeouts)) as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > MAX_REPLY_BYTES:
                    raise self._bad(model, "the reply does not end")
        try:
            value: Json = msgspec.json.decode(bytes(data))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._bad(model, "the reply is not JSON") from error
        return value

    async def _split(
        self, response: aiohttp.ClientResponse, model: str, timeouts: Timeouts, begins_by_s: float
    ) -> AsyncGenerator[bytes, None]:
        rest = b""
        async with aclosing(self._pieces(response, model, timeouts, begins_by_s)) as pieces:
            async for piece in pieces:
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line.rstrip(b"\r")
                if len(rest) > MAX_LINE_BYTES:
                    raise self._bad(model, "a line of the stream does not end")
        if rest:
            yield rest.rstrip(b"\r")

    async def _pieces(
        self,
        response: aiohttp.ClientResponse,
        model: str,
        timeouts: Timeouts,
        begins_by_s: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """What comes, with a limit on every wait; some servers send their head long before the first byte."""
        import aiohttp

        limit_s = timeouts.idle_s
        if begins_by_s is not None:
            limit_s = max(0.001, begins_by_s - asyncio.get_running_loop().time())
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    piece = await response.content.readany()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                raise self._foreign(error, limit_s, model) from error
            if not piece:
                return
            limit_s = timeouts.idle_s
            yield piece

    def _foreign(self, error: Exception, limit_s: float, model: str, *, begun: bool = True) -> ProviderError:
        """aiohttp's and the system's errors as ours, most specific first."""
        import aiohttp

        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
            return HostTimeout(
                f"{self.name} at {self.url} did not answer",
                why=f"nothing came for {_seconds(limit_s)}",
                host=self.name,
                model=model,
            )
        if isinstance(error, aiohttp.ClientResponseError):
            return self._bad(model, "it does not speak HTTP as expected", "check address and port")
        return HostUnreachable(
            f"{self.name} at {self.url} is not reachable",
            why=self._why_unreachable(error, begun=begun),
            hint=self._start_hint,
            host=self.name,
            model=model,
        )

    def _why_unreachable(self, error: Exception, *, begun: bool) -> str:
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"the name {error.host!r} does not resolve"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return f"no secure connection: {error.certificate_error}"
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return f"no secure connection: {error.os_error}"
        if isinstance(error, aiohttp.ClientConnectorError):
            why = (error.os_error.strerror or str(error.os_error)).lower()
            return "connection refused" if "refused" in why or "connect call failed" in why else why
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"no connection within {self.timeouts.connect_s:g} s"
        if isinstance(error, aiohttp.InvalidURL):
            return "that is not an address"
        if begun:
            return "the connection was closed before the answer was whole"
        return "the connection was closed without an answer"

    def _bad(self, model: str, why: str, hint: str | None = None) -> BadReply:
        return BadReply(
            f"{self.name} at {self.url} sent no usable answer",
            why=why,
            hint=hint,
            host=self.name,
            model=model,
        )

    def _with_place(self, error: ProviderError, status: int, model: str) -> ProviderError:
        error.host, error.model, error.status = self.name, model, status
        return error


async def _until_the_loop_ends(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """An event loop finishes its asynchronous generators before it closes, and so the session."""
    try:
        yield
    finally:
        await session.close()


async def drain(lines: AsyncIterator[bytes]) -> None:
    """Reads what follows the last line that matters, so that the connection can be used again.

    A server that does not end its reply, or breaks it off now, no longer matters: the answer is whole.
    """
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
