"""An HTTP/1.1 server for a gateway: one task per request, hard limits, replies in one write.

It knows nothing of what is served. A ``Handler`` gets an ``Exchange``, reads the body if it wants it and
replies, whole or piece by piece. When the client goes away first, the handler's task is cancelled.

Time is watched by one sweep over all connections instead of a timer for each: limits are kept to within half
a second (less where a limit is shorter).
"""

from __future__ import annotations

import asyncio
import email.utils
import http
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import httptools

from llm_router.http1.listening import stop_listening

log = logging.getLogger("llm_router.http")

Headers = Iterable[tuple[str, str]]

_WRITE_AHEAD_BYTES = 256 * 1024
"""A client that reads more slowly than the answer comes may be so far behind before ``drain`` waits."""

_UNREAD_BYTES = 256 * 1024
"""So much of a body is taken in before the handler asks for it, or for the next piece of it."""

_PIPELINED = 8
"""Requests that may wait behind the one being answered before reading stops."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus
}
_WITHOUT_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost. Sizes in bytes, times in seconds."""

    head_bytes: int = 32 * 1024
    header_count: int = 100
    body_bytes: int = 64 * 1024 * 1024
    head_s: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_idle_s: float = 30.0
    body_bytes_per_s: float = 200.0
    """A body that comes more slowly is given up, after a start of ``body_idle_s``."""
    idle_s: float = 75.0
    """Between two requests of a connection."""
    write_stalled_s: float = 60.0
    """A client that reads nothing of an answer for so long is cut off."""
    linger_s: float = 5.0
    linger_bytes: int = 64 * 1024 * 1024
    """So long, and for so many bytes, what a client still sends after an early reply is thrown away."""
    connections: int = 2048


class BodyTooLarge(Exception):
    """The body is larger than the limit, which is the only argument."""


class ClientGone(Exception):
    """The client closed the connection while its body was being read."""


class Exchange:
    """One request and its reply."""

    __slots__ = (
        "_body_limit",
        "_chunked",
        "_complete",
        "_connection",
        "_continued",
        "_head",
        "_keep_alive",
        "_parts",
        "_pending_bytes",
        "_task",
        "_waiter",
        "ended",
        "gone",
        "headers",
        "method",
        "path",
        "query",
        "started",
        "status",
    )

    def __init__(
        self,
        connection: _Connection,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        keep_alive: bool,
        chunked_reply: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.started = False
        self.ended = False
        self.gone = False
        self.status = 0
        self._connection = connection
        self._keep_alive = keep_alive
        self._chunked = chunked_reply
        self._continued = False
        self._head: bytes | None = None
        self._parts: list[bytes] = []
        self._pending_bytes = 0
        self._complete = False
        self._body_limit: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def peer(self) -> str:
        """The client's address without its port; empty where there is none."""
        return self._connection.peer

    async def body(self, *, limit_bytes: int | None = None) -> bytes:
        """The whole body. Raises BodyTooLarge, or ClientGone where the rest will never come."""
        limit = self._connection.server.limits.body_bytes if limit_bytes is None else limit_bytes
        self._body_limit = limit
        declared = self.headers.get("content-length")
        if (declared is not None and int(declared) > limit) or self._pending_bytes > limit:
            raise BodyTooLarge(limit)
        while not self._complete:
            await self._more()
            if self._pending_bytes > limit:
                raise BodyTooLarge(limit)
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, however large; the client is held back while pieces are not taken."""
        while True:
            while self._parts:
                parts, self._parts, self._pending_bytes = self._parts, [], 0
                for part in parts:
                    yield part
            if self._complete:
                return
            await self._more()

    async def _more(self) -> None:
        if self.gone:
            raise ClientGone
        if not self._continued and not self.started:
            self._continued = True
            if self.headers.get("expect", "").lower() == "100-continue":
                self._connection.send(_CONTINUE)
        self._connection.read_on()
        self._waiter = self._connection.loop.create_future()
        await self._waiter

    def reply(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """The whole reply at once."""
        if self.started:
            raise RuntimeError("a reply was begun already")
        self.started, self.ended, self.status = True, True, status
        if self.gone:
            return
        length = b"" if status in _WITHOUT_BODY else b"content-length: %d\r\n" % len(body)
        shown = b"" if self.method == "HEAD" or status in _WITHOUT_BODY else body
        data = self._head_of(status, headers, length) + shown
        if self._keep_alive:
            self._connection.send_soon(data)
        else:
            self._connection.send(data)
        self._connection.finished(self)

    def start(self, status: int, headers: Headers) -> None:
        """Begins a reply whose length is not known. The head goes out with the first piece."""
        if self.started:
            raise RuntimeError("a reply was begun already")
        self.started, self.status = True, status
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if not self._chunked:
            self._keep_alive = False
        self._head = self._head_of(status, headers, framing)

    def write(self, data: bytes) -> None:
        """One piece of a reply that was begun."""
        if not data or self.gone or self.ended:
            return
        if self.method == "HEAD":
            return
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        if self._head is not None:
            framed, self._head = self._head + framed, None
        self._connection.send(framed)

    async def drain(self) -> None:
        """Waits while the client is too far behind."""
        if self.gone:
            return
        if self._connection.writing_paused:
            await self._connection.drained()
        elif self._connection.breaking:
            await asyncio.sleep(0)  # else a handler that writes on and on would never be told

    def end(self, data: bytes = b"") -> None:
        """The last piece, and the end of the reply."""
        if self.ended:
            return
        if data:
            self.write(data)
        self.ended = True
        if self.gone:
            return
        last = b"0\r\n\r\n" if self._chunked and self.method != "HEAD" else b""
        if self._head is not None:
            last, self._head = self._head + last, None
        if last:
            self._connection.send(last)
        self._connection.finished(self)

    def abort(self) -> None:
        """Cuts the connection, so that no client takes half a reply for a whole one."""
        self.ended = True
        if not self.gone:
            self._connection.cut()

    def _head_of(self, status: int, headers: Headers, framing: bytes) -> bytes:
        server = self._connection.server
        if server.ending or not self._complete:
            self._keep_alive = False
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status
        close = b"" if self._keep_alive else b"connection: close\r\n"
        return b"".join((line, _lines(headers), server.date_line, framing, close, b"\r\n"))

    # What the connection tells.

    def _took(self, data: bytes) -> bool:
        """Takes a piece of the body in; False where no more should come for now."""
        self._parts.append(data)
        self._pending_bytes += len(data)
        self._wake()
        if self._body_limit is not None:
            return self._pending_bytes <= self._body_limit
        return self._pending_bytes <= _UNREAD_BYTES

    def _completed(self) -> None:
        self._complete = True
        self._wake()

    def _lost(self) -> None:
        self.gone = True
        self._wake()
        if self._task is not None and not self.ended:
            self._task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


Handler = Callable[[Exchange], Awaitable[None]]
OnError = Callable[[Exchange, Exception], None]


def _log_error(exchange: Exchange, error: Exception) -> None:
    log.error("%s %s failed", exchange.method, exchange.path, exc_info=error)


class Server:
    """Listens, and runs ``handler`` once per request.

    A handler that raises, or returns without an end, gives the client a bare 500 or, in mid-stream, a cut
    connection; ``on_error`` is told.
    """

    def __init__(
        self, handler: Handler, limits: Limits | None = None, *, on_error: OnError = _log_error
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.on_error = on_error
        self.ending = False
        self.closed_one = asyncio.Event()
        self.now_s = 0.0
        self.date_line = b""
        self.open: set[_Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._date_s = 0
        shortest = min(
            self.limits.head_s,
            self.limits.body_idle_s,
            self.limits.idle_s,
            self.limits.write_stalled_s,
            self.limits.linger_s,
        )
        self._sweep_s = max(0.005, min(0.5, shortest / 4))

    @property
    def connections(self) -> int:
        return len(self.open)

    @property
    def running(self) -> int:
        """Requests whose handler has not come to its end."""
        return len(self.tasks)

    async def start(
        self, host: str, port: int, *, sock: socket.socket | None = None, backlog: int = 1024
    ) -> tuple[tuple[str, int], ...]:
        """Listens; gives the addresses. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._sweep()
        try:
            if sock is not None:
                self._listening = await loop.create_server(
                    lambda: _Connection(self, loop), sock=sock, backlog=backlog
                )
            else:
                self._listening = await loop.create_server(
                    lambda: _Connection(self, loop), host, port, backlog=backlog
                )
        except BaseException:
            self._stop_sweep()
            raise
        return tuple(bound.getsockname()[:2] for bound in self._listening.sockets)

    async def shutdown(self, grace_s: float) -> None:
        """Takes no more requests; what is being answered may end within ``grace_s``, then it is cancelled.

        Whoever has not taken a reply by then is cut off: no connection is open afterwards.
        """
        until_s = asyncio.get_running_loop().time() + grace_s
        self.ending = True
        if self._listening is not None:
            await stop_listening(self._listening)
        for connection in tuple(self.open):
            connection.close_if_idle()
        if self.tasks:
            _, late = await asyncio.wait(tuple(self.tasks), timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=5.0)
        for connection in tuple(self.open):
            connection.close()
        await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while self.open:
                    self.closed_one.clear()
                    await self.closed_one.wait()
        for connection in tuple(self.open):
            connection.cut()
        await asyncio.sleep(0)
        self._stop_sweep()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.now_s = loop.time()
        second = int(time.time())
        if second != self._date_s:
            self._date_s = second
            self.date_line = f"date: {email.utils.formatdate(second, usegmt=True)}\r\n".encode()
        for connection in tuple(self.open):
            connection.check_time(self.now_s)
        self._sweep_timer = loop.call_later(self._sweep_s, self._sweep)

    def _stop_sweep(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None


class _Connection(asyncio.Protocol):
    """One client connection: parses requests, runs them one after the other."""

    __slots__ = (
        "_body_begun_s",
        "_body_brought",
        "_body_bytes",
        "_closing",
        "_deadline_s",
        "_drain_waiters",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_parser",
        "_passed_over_bytes",
        "_reading",
        "_reading_paused",
        "_refused",
        "_running",
        "_target",
        "_transport",
        "_unsent",
        "_waiting",
        "_write_deadline_s",
        "loop",
        "peer",
        "server",
        "writing_paused",
    )

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self.peer = ""
        self.writing_paused = False
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._unsent = b""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._in_head = False
        self._reading: Exchange | None = None
        self._running: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._reading_paused = False
        self._closing = False
        self._refused = 0
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._deadline_s = 0.0
        self._write_deadline_s = 0.0
        self._body_begun_s = 0.0
        self._body_bytes = 0
        self._body_brought = 0
        self._passed_over_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        server = self.server
        if server.ending or len(server.open) >= server.limits.connections:
            self._transport.write(_refusal(503, server.date_line, retry_after_s=1))
            self._transport.close()
            self._transport = None
            return
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        server.open.add(self)
        self._deadline_s = server.now_s + server.limits.idle_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.server.open.discard(self)
        self.server.closed_one.set()
        self._lose_all()
        self._wake_writers()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._pass_over(data)
            return
        reading, self._body_brought = self._reading, 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade_ignored()
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__ if isinstance(error.__context__, _RefusedHead) else None
            self._refuse(refused.status if refused is not None else 400)
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            same = reading is not None and reading is self._reading
            if self._in_head or (same and not self._body_brought):
                # neither a head nor what follows the chunks may be endless
                self._head_bytes += len(data) - self._body_brought
                if self._head_bytes > self.server.limits.head_bytes:
                    self._refuse(431)

    def pause_writing(self) -> None:
        self.writing_paused = True
        self._write_deadline_s = self.server.now_s + self.server.limits.write_stalled_s

    def resume_writing(self) -> None:
        self.writing_paused = False
        self._write_deadline_s = 0.0
        self._wake_writers()

    # httptools

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._head_bytes = 0
        self._in_head = True
        self._deadline_s = self.server.now_s + self.server.limits.head_s

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after a body is nothing that anybody asks for
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        server = self.server
        limits, given = server.limits, self._headers
        if len(self._target) > limits.head_bytes or len(given) > limits.header_count:
            raise _RefusedHead(431)
        headers = _read(given)
        if sum(map(len, headers)) + sum(map(len, headers.values())) > limits.head_bytes:
            raise _RefusedHead(431)
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _RefusedHead(505)
        if version == "1.1" and (headers.get("host") is None or "," in headers["host"]):
            raise _RefusedHead(400)
        _check_framing(headers)
        path, query = _split_target(self._target)
        exchange = self._reading = Exchange(
            self,
            self._parser.get_method().decode("ascii"),
            path,
            query,
            headers,
            keep_alive=self._parser.should_keep_alive(),
            chunked_reply=version == "1.1",
        )
        self._body_begun_s, self._body_bytes = server.now_s, 0
        self._deadline_s = server.now_s + limits.body_idle_s
        if self._running is None:
            self._run(exchange)
        else:
            self._waiting.append(exchange)
            if len(self._waiting) >= _PIPELINED:
                self._hold_back()

    def on_body(self, data: bytes) -> None:
        exchange = self._reading
        if exchange is None:
            return
        self._head_bytes = 0
        self._body_bytes += len(data)
        self._body_brought += len(data)
        self._deadline_s = self.server.now_s + self.server.limits.body_idle_s
        if not exchange._took(data):
            self._hold_back()

    def on_message_complete(self) -> None:
        exchange, self._reading = self._reading, None
        self._deadline_s = 0.0
        if exchange is not None:
            exchange._completed()
            if exchange.ended:
                self._next()

    # What exchanges ask for

    def send(self, data: bytes) -> None:
        if self._unsent:
            self._send_unsent()
        if self._transport is not None:
            self._transport.write(data)

    def send_soon(self, data: bytes) -> None:
        """At the end of this step of the loop, with what is sent to others then: clients that sleep are woken
        once for all of it, and each waking costs as much as several writes."""
        if not self._unsent:
            self.loop.call_soon(self._send_unsent)
        self._unsent += data

    def _send_unsent(self) -> None:
        data, self._unsent = self._unsent, b""
        if data and self._transport is not None:
            self._transport.write(data)

    @property
    def breaking(self) -> bool:
        """Whether a write found the client gone, or the end was asked for, and nobody was told yet."""
        return self._transport is not None and self._transport.is_closing()

    async def drained(self) -> None:
        waiter = self.loop.create_future()
        self._drain_waiters.append(waiter)
        await waiter

    def finished(self, exchange: Exchange) -> None:
        """The reply is written; the next request may begin."""
        if exchange is not self._running:
            return
        if not exchange._keep_alive or self.server.ending:
            self._running = None
            self._closing = True
            if exchange._complete:
                self.close()
            else:
                self._linger()
        elif exchange._complete:
            self._next()

    def read_on(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._deadline_s = self.server.now_s + self.server.limits.body_idle_s
            self._transport.resume_reading()

    def close(self) -> None:
        self._send_unsent()
        if self._transport is not None:
            self._transport.close()

    def close_if_idle(self) -> None:
        if self._running is None:
            self.close()

    def cut(self) -> None:
        self._send_unsent()
        if self._transport is not None:
            self._transport.abort()

    def check_time(self, now_s: float) -> None:
        """Ends what takes too long."""
        if self._write_deadline_s and now_s > self._write_deadline_s:
            self.cut()
        elif self._deadline_s and not self._reading_paused and now_s > self._deadline_s:
            if self._in_head or self._reading is not None:
                self._refuse(408)
            elif self._running is None:
                self.close()
        elif self._reading is not None and not self._reading_paused:
            limits = self.server.limits
            took_s = now_s - self._body_begun_s
            if took_s > limits.body_idle_s and self._body_bytes < limits.body_bytes_per_s * took_s:
                self._refuse(408)

    # Inside

    def _run(self, exchange: Exchange) -> None:
        self._running = exchange
        task = self.loop.create_task(self._handle(exchange))
        exchange._task = task
        self.server.tasks.add(task)
        task.add_done_callback(self.server.tasks.discard)

    async def _handle(self, exchange: Exchange) -> None:
        try:
            await self.server.handler(exchange)
            if not exchange.ended and not exchange.gone:
                raise RuntimeError("the handler ended without a reply")
        except (asyncio.CancelledError, ClientGone):
            if not exchange.ended:
                exchange.abort()
        except Exception as error:
            self.server.on_error(exchange, error)
            if not exchange.started:
                exchange.reply(500, (("content-type", "application/json"),), b'{"error":"internal error"}')
            elif not exchange.ended:
                exchange.abort()

    def _next(self) -> None:
        self._running = None
        if self._waiting:
            exchange = self._waiting.popleft()
            if len(self._waiting) < _PIPELINED // 2:
                self.read_on()
            self._run(exchange)
            return
        if self._refused:
            self._refuse(self._refused)
            return
        self.read_on()
        if not self._in_head and self._reading is None:
            self._deadline_s = self.server.now_s + self.server.limits.idle_s

    def _hold_back(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _refuse(self, status: int) -> None:
        """A request that cannot be read, or not in time, ends the connection, after the replies before it.

        A handler that waits for the rest of it sees a client that is gone.
        """
        self._closing = True
        running, reading = self._running, self._reading
        if running is None or (running is reading and not running.started):
            self.send(_refusal(status, self.server.date_line))
            self._linger()
        elif running is reading:
            self.close()
        else:
            self._refused = status
            self._in_head, self._reading, self._deadline_s = False, None, 0.0
            if reading is not None:
                self._waiting.remove(reading)

    def _linger(self) -> None:
        """Ends a connection whose client may still be sending, so that it sees the reply.

        Bytes that nobody reads make the system reset a connection that is closed, and a client that is cut
        off while it writes never looks for a reply. So only our side is shut, and what comes is thrown away,
        within limits that no dribbling client can stretch.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._closing = True
        self._in_head = False
        self._lose_all()
        self.read_on()
        self._deadline_s = self.server.now_s + self.server.limits.linger_s
        self._send_unsent()
        transport.write_eof()

    def _pass_over(self, data: bytes) -> None:
        self._passed_over_bytes += len(data)
        if self._passed_over_bytes > self.server.limits.linger_bytes:
            self.close()

    def _lose_all(self) -> None:
        """Nothing more is read for anybody, nor is any reply wanted."""
        for exchange in (self._running, self._reading, *self._waiting):
            if exchange is not None and not exchange.gone:
                exchange._lost()
        self._running = self._reading = None
        self._waiting.clear()

    def _upgrade_ignored(self) -> None:
        """An upgrade may be ignored; what follows in its protocol cannot be read."""
        self._closing = True
        running = self._running
        if running is not None:
            running._keep_alive = False
            running._completed()

    def _wake_writers(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _RefusedHead(Exception):
    """Inside a parser's callback: this head is answered with ``status``, and no more is read."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


def _read(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names in lower case; of a name given more than once all values, but framing must be unambiguous."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1").strip(" \t")
        if name in headers or not value.isprintable():
            value = _checked(headers, name, value)
        headers[name] = value
    return headers


def _checked(before: Mapping[str, str], name: str, value: str) -> str:
    if "\r" in value or "\n" in value or "\0" in value:
        raise _RefusedHead(400)
    if name not in before:
        return value
    if name in ("content-length", "host", "transfer-encoding"):
        raise _RefusedHead(400)
    return f"{before[name]}, {value}"


def _check_framing(headers: Mapping[str, str]) -> None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None and (length is not None or coding.lower() != "chunked"):
        raise _RefusedHead(400)
    if length is not None and not (length.isascii() and length.isdigit()):
        raise _RefusedHead(400)


def _split_target(target: bytes) -> tuple[str, str]:
    if not target.startswith(b"/"):
        if target == b"*":
            return "*", ""
        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError as error:
            raise _RefusedHead(400) from error
        target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.partition(b"?")
    return path.decode("latin-1"), query.decode("latin-1")


_CONTROLS = ("\r", "\n", "\0")
_PLAIN_FORMS = {
    "“": '"',
    "”": '"',
    "’": "'",
    "…": "...",
    "–": "-",
    "—": "-",
    "≈": "~",
    "→": "->",
    "≥": ">=",
}


def _lines(headers: Headers) -> bytes:
    """Headers as they are sent. None can begin another one, and every client reads them alike."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        text = "".join([_without_controls(line[:-2]) + "\r\n" for line in lines])
    if text.isascii():
        return text.encode("ascii")
    for letter, plain in _PLAIN_FORMS.items():
        text = text.replace(letter, plain)
    return text.encode("latin-1", "replace")


def _without_controls(text: str) -> str:
    for control in _CONTROLS:
        text = text.replace(control, " ")
    return text


def _refusal(status: int, date_line: bytes, *, retry_after_s: int | None = None) -> bytes:
    phrase = http.HTTPStatus(status).phrase
    body = b'{"error":"%s"}' % phrase.lower().encode()
    retry = b"" if retry_after_s is None else b"retry-after: %d\r\n" % retry_after_s
    return b"".join(
        (
            _STATUS_LINES[status],
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            retry,
            date_line,
            b"connection: close\r\n\r\n",
            body,
        )
    )
