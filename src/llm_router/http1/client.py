"""An HTTP/1.1 client for one server: kept connections, replies as they come, every failure by its cause.

It follows no redirect, keeps no cookie, asks no proxy and offers no compression. A large part of what a
gateway adds to an answer is its client: this one costs a tenth of a general one
(docs/decisions/0001-http-client.md).
"""

from __future__ import annotations

import asyncio
import base64
import functools
import math
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import cast
from urllib.parse import unquote, urlsplit

import httptools

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
_BESIDE_BYTES = 64 * 1024
"""So much of a reply may come without a byte of its body: a head, or what follows the chunks."""

_READ_AHEAD_BYTES = 1024 * 1024
"""So much of a reply may wait to be taken before the server is held back."""

_MOST_RESTING = 64
"""Connections that rest; beyond that one is closed instead."""


class HttpError(Exception):
    """Base of what can go wrong on the way. The argument is a short reason in words."""


class InvalidAddress(HttpError):
    """That is not an address."""


class NameUnresolved(HttpError):
    """The argument is the name."""


class ConnectFailed(HttpError):
    """``os_error`` is the system's own error."""

    def __init__(self, os_error: OSError) -> None:
        self.os_error = os_error
        super().__init__(str(os_error))


class ConnectTimeout(HttpError):
    pass


class CertificateRefused(HttpError):
    """The server's certificate is not trusted; the argument says why."""


class TlsFailed(HttpError):
    pass


class ProtocolError(HttpError):
    """What came is not HTTP."""


class Disconnected(HttpError):
    """The connection ended too early. ``begun`` says whether anything of the reply had come."""

    def __init__(self, *, begun: bool) -> None:
        self.begun = begun
        super().__init__("the connection was closed")


class Response:
    """A reply whose head has come. Take its body with ``readany``, then ``release`` or ``close`` it."""

    __slots__ = (
        "_complete",
        "_connection",
        "_error",
        "_inflate",
        "_parts",
        "_waiting_bytes",
        "headers",
        "status",
    )

    def __init__(self, connection: _Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection: _Connection | None = connection
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._complete = False
        self._error: HttpError | None = None
        self._inflate: zlib._Decompress | None = None

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()

    @property
    def at_eof(self) -> bool:
        return self._complete and not self._parts

    async def readany(self, limit_s: float) -> bytes:
        """What has come and not been taken; empty at the end. Raises TimeoutError where nothing comes, or
        Disconnected or ProtocolError."""
        connection = self._connection
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._complete or connection is None:
                return b""
            await connection.wait(limit_s)
        parts, self._parts, self._waiting_bytes = self._parts, [], 0
        if connection is not None:
            connection.read_on()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, *, rest_s: float = 0.0) -> None:
        """Gives the connection back; one whose reply is not whole is closed.

        It is not used again for ``rest_s``. Some servers close a connection after certain replies, streams
        for instance, without having said so: one that comes into use just then loses its request.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.done(reusable=self._complete and self._error is None, rest_s=rest_s)

    def close(self) -> None:
        """Cuts the connection, by which the server learns that nobody waits any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.done(reusable=False)

    # What the connection tells.

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        coding = headers.get("content-encoding", "").lower()
        if coding in ("gzip", "x-gzip", "deflate"):
            wbits = zlib.MAX_WBITS if coding == "deflate" else zlib.MAX_WBITS | 16
            self._inflate = zlib.decompressobj(wbits=wbits)

    def _took(self, data: bytes) -> None:
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data)
            except zlib.error:
                self._failed(ProtocolError("the body cannot be unpacked"))
                return
            if not data:
                return
        self._parts.append(data)
        self._waiting_bytes += len(data)
        if self._connection is not None:
            if self._waiting_bytes > _READ_AHEAD_BYTES:
                self._connection.hold_back()
            self._connection.wake()

    def _completed(self) -> None:
        self._complete = True
        if self._connection is not None:
            self._connection.wake()

    def _failed(self, error: HttpError) -> None:
        if not self._complete and self._error is None:  # the first one is the cause of the others
            self._error = error
            if self._connection is not None:
                self._connection.wake()


class Pool:
    """Connections to one server. Belongs to the event loop that first uses it.

    ``base_url`` may hold a path before those that are asked for, and a user and password, which become an
    ``Authorization`` header. Raises InvalidAddress.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connect_s: float,
        headers: Mapping[str, str] | None = None,
        keep_idle_s: float = 30.0,
    ) -> None:
        try:
            url = urlsplit(base_url)
            self._host, self._port = url.hostname or "", url.port
        except ValueError as error:
            raise InvalidAddress(str(error)) from error
        if url.scheme not in ("http", "https") or not self._host:
            raise InvalidAddress(base_url)
        self._tls = url.scheme == "https"
        self._path = url.path.rstrip("/")
        self._connect_s = connect_s
        self._keep_idle_s = keep_idle_s
        self._idle: list[_Connection] = []
        self._resting: list[_Connection] = []
        self._open: set[_Connection] = set()
        self.closed = False
        self._head = self._fixed_head(dict(headers or {}), url.username, url.password)
        self._beginning = functools.lru_cache(maxsize=64)(self._beginning_of)

    def _fixed_head(self, headers: dict[str, str], user: str | None, password: str | None) -> bytes:
        name = f"[{self._host}]" if ":" in self._host else _ascii_name(self._host)
        usual = 443 if self._tls else 80
        told = {"host": name if self._port in (None, usual) else f"{name}:{self._port}", "accept": "*/*"}
        told |= {"user-agent": "llm-router"}
        if user is not None:
            pair = f"{unquote(user)}:{unquote(password or '')}".encode()
            told["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        told |= {key.lower(): value for key, value in headers.items()}
        return b"".join(b"%b: %b\r\n" % (_header(k), _header(v)) for k, v in told.items())

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        pieces: AsyncIterator[bytes] | None = None,
        limit_s: float | None = None,
    ) -> Response:
        """Sends a request and waits for the head of its reply, ``limit_s`` at most.

        Raises an HttpError, or TimeoutError.

        A kept connection that the server closes without a byte of a reply was most likely closed before the
        request could be read. That is asked again, once, on a fresh one, but only where asking twice does
        nothing twice: not for POST. ``pieces`` is a body whose length is not known.
        """
        head = self._request_head(method, path, body, headers or {}, chunked=pieces is not None)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        while (connection := self._kept(begun_s)) is not None:
            try:
                return await connection.exchange(method, head, body, pieces, limit_s)
            except Disconnected as error:
                if error.begun or method not in _REPEATABLE:
                    raise
                break
        left_s = None if limit_s is None else limit_s - (loop.time() - begun_s)
        connection = await self._connect(loop, left_s)
        if limit_s is not None:
            left_s = limit_s - (loop.time() - begun_s)
        return await connection.exchange(method, head, body, pieces, left_s)

    async def close(self) -> None:
        self.closed = True
        for connection in tuple(self._open):
            connection.shut()
        self._idle.clear()
        self._resting.clear()
        await asyncio.sleep(0)

    def abandon(self) -> None:
        """For a loop that has ended: what it held cannot be closed in order any more."""
        self.closed = True
        self._idle.clear()
        self._resting.clear()
        self._open.clear()

    def give_back(self, connection: _Connection, rest_s: float) -> None:
        if self._keep_idle_s <= 0 or self.closed or (rest_s and len(self._resting) >= _MOST_RESTING):
            connection.shut()
            return
        now_s = connection.loop.time()
        connection.rests_until_s, connection.idle_until_s = now_s + rest_s, now_s + self._keep_idle_s
        (self._resting if rest_s else self._idle).append(connection)
        self._drop_stale(now_s)

    def _kept(self, now_s: float) -> _Connection | None:
        """An open connection that may be used now: the one given back last, unless it still rests."""
        while self._resting and self._resting[0].rests_until_s <= now_s:
            self._idle.append(self._resting.pop(0))
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(now_s):
                return connection
            connection.shut()
        return None

    def _drop_stale(self, now_s: float) -> None:
        """The oldest are at the front: the last one given back is used first."""
        for kept in (self._idle, self._resting):
            while kept and kept[0].idle_until_s < now_s:
                kept.pop(0).shut()

    def lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        for kept in (self._idle, self._resting):
            if connection in kept:
                kept.remove(connection)

    def _request_head(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, chunked: bool
    ) -> bytes:
        own = b"".join(map(_line, headers.items()))
        if chunked:
            own += b"transfer-encoding: chunked\r\n"
        elif body is not None:
            own += b"content-length: %d\r\n" % len(body)
        return b"%b%b\r\n" % (self._beginning(method, path), own)

    def _beginning_of(self, method: str, path: str) -> bytes:
        """The first line of a request, and what stands in all of them. Raises InvalidAddress."""
        target = f"{self._path}{path}"
        if not target.isascii() or any(c <= " " for c in target):
            raise InvalidAddress(target)
        return b"%b %b HTTP/1.1\r\n%b" % (method.encode("ascii"), target.encode("ascii"), self._head)

    async def _connect(self, loop: asyncio.AbstractEventLoop, limit_s: float | None) -> _Connection:
        connect_s = self._connect_s if limit_s is None else min(self._connect_s, limit_s)
        port = self._port or (443 if self._tls else 80)
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, loop),
                    _ascii_name(self._host),
                    port,
                    ssl=ssl.create_default_context() if self._tls else None,
                )
        except TimeoutError as error:
            raise ConnectTimeout(f"no connection within {connect_s:.3g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(str(error)) from error
        except ssl.SSLError as error:
            raise TlsFailed(str(error)) from error
        except socket.gaierror as error:
            raise NameUnresolved(self._host) from error
        except UnicodeError as error:
            raise InvalidAddress(self._host) from error
        except ConnectionResetError as error:
            if self._tls:
                raise TlsFailed(str(error)) from error
            raise ConnectFailed(error) from error
        except OSError as error:
            raise ConnectFailed(error) from error
        self._open.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One connection: one reply after the other."""

    __slots__ = (
        "_begun",
        "_beside_bytes",
        "_headers",
        "_keep_alive",
        "_parser",
        "_paused",
        "_pool",
        "_response",
        "_timer",
        "_transport",
        "_until_close",
        "_until_s",
        "_waiter",
        "_without_body",
        "_writable",
        "idle_until_s",
        "loop",
        "rests_until_s",
    )

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rests_until_s = self.idle_until_s = 0.0
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._headers: dict[str, str] = {}
        self._beside_bytes = 0
        self._begun = False
        self._until_close = False
        self._without_body = False
        self._keep_alive = False
        self._paused = False
        self._writable: asyncio.Future[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def usable(self, now_s: float) -> bool:
        """Still open, and not idle for so long that the server may be closing it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self.idle_until_s >= now_s

    async def exchange(
        self,
        method: str,
        head: bytes,
        body: bytes | None,
        pieces: AsyncIterator[bytes] | None,
        limit_s: float | None,
    ) -> Response:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Disconnected(begun=False)
        response = self._response = Response(self)
        self._beside_bytes = 0
        self._begun = self._until_close = self._keep_alive = False
        self._without_body = method == "HEAD"
        try:
            if pieces is None:
                # at the end of this step of the loop, with what others send: a peer that sleeps is woken once
                # for all of it, and each waking costs as much as several writes
                self.loop.call_soon(self._write, head if not body else head + body)
            else:
                transport.write(head if not body else head + body)
                await self._send(transport, pieces)
            while not response.status:
                if response._error is not None:
                    raise response._error
                await self.wait(limit_s)
        except BaseException:
            self.shut()
            raise
        return response

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def wait(self, limit_s: float | None) -> None:
        """Until something has come. Raises TimeoutError.

        One timer for many waits, those of later replies too: it is set anew only when it goes off too early.
        """
        if limit_s is None:
            self._until_s = math.inf
        else:
            self._until_s = self.loop.time() + limit_s
            if self._timer is None or self._timer.when() > self._until_s:
                self._stop_timer()
                self._timer = self.loop.call_at(self._until_s, self._late)
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _late(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self.loop.time() >= self._until_s:
            self._waiter.set_exception(TimeoutError())
        elif self._until_s < math.inf:
            self._timer = self.loop.call_at(self._until_s, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _send(self, transport: asyncio.Transport, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            if piece:
                transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if self._writable is not None:
                await self._writable
            if transport.is_closing():
                return
        transport.write(b"0\r\n\r\n")

    def done(self, *, reusable: bool, rest_s: float = 0.0) -> None:
        self._response = None
        if reusable and self._keep_alive and self._transport is not None:
            self.read_on()
            self._pool.give_back(self, rest_s)
        else:
            self.shut()

    def shut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def hold_back(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def read_on(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_timer()
        self.resume_writing()
        self._pool.lost(self)
        response = self._response
        if response is None:
            return
        if self._until_close and exc is None:
            response._completed()
            return
        response._failed(Disconnected(begun=self._begun))

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # a server that speaks without being asked
            self.shut()
            return
        self._begun = True
        self._beside_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._garbage(response, "another protocol, which was not asked for")
        except httptools.HttpParserError as error:
            self._garbage(response, str(error))
        else:
            if self._beside_bytes > _BESIDE_BYTES and not response._complete:
                what = "what follows the body" if response.status else "the head"
                self._garbage(response, f"{what} does not end")

    def _garbage(self, response: Response, why: str) -> None:
        response._failed(ProtocolError(why))
        self.shut()

    # httptools

    def on_message_begin(self) -> None:
        self._headers = {}
        if self._response is None or self._response._complete:
            raise ProtocolError("more than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        parser, response = self._parser, self._response
        status = parser.get_status_code()
        if response is None or status < 200:
            return
        headers = self._headers
        response._begin(status, headers)
        self._keep_alive = parser.should_keep_alive()
        framed = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
        empty = self._without_body or status in (204, 304)
        self._until_close = not framed and not empty
        self.wake()
        if self._without_body:
            self._keep_alive = False  # the parser waits for a body that a reply to HEAD never has
            response._completed()

    def on_body(self, data: bytes) -> None:
        self._beside_bytes = 0
        if self._response is not None and not self._without_body:
            self._response._took(data)

    def on_message_complete(self) -> None:
        response = self._response
        if response is not None and response.status:
            response._completed()


def _ascii_name(host: str) -> str:
    """The name as DNS takes it. Raises UnicodeError where it cannot be one."""
    return host if host.isascii() else host.encode("idna").decode("ascii")


@functools.lru_cache(maxsize=64)
def _line(header: tuple[str, str]) -> bytes:
    name, value = header
    return b"%b: %b\r\n" % (_header(name), _header(value))


def _header(text: str) -> bytes:
    """Raises InvalidAddress for what would begin a header of its own."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise InvalidAddress("a header with a line end")
    return text.encode("latin-1", "replace")
