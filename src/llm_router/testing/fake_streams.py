"""Sending an answer over HTTP, whole or in chunks, and every way of not quite sending it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from aiohttp import web

from llm_router.testing.fake_answers import Generation, Piece
from llm_router.testing.fake_faults import Fault, ScriptedFault, Strike
from llm_router.testing.fake_scheduler import Pace
from llm_router.testing.fake_wire import RefusedError, go_json

GARBAGE = b"<<<not json>>>"
ERROR_TEXT = "an error was encountered while running the model: unexpected EOF"
_JSON = "application/json; charset=utf-8"
_MARK = "\ue000"
_STREAM_FAULTS = (
    Fault.SLOW_TOKENS,
    Fault.GARBAGE_LINE,
    Fault.INVALID_UTF8,
    Fault.HALF_LINE,
    Fault.ERROR_MID_STREAM,
    Fault.DROP_MID_STREAM,
    Fault.NO_DONE,
    Fault.SPLIT_LINES,
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The durations of one request, in seconds."""

    total_s: float
    load_s: float
    prompt_s: float
    eval_s: float


class Dialect(Protocol):
    """How one API writes an answer: the native chat, the native generate, or /v1."""

    @property
    def content_type(self) -> str:
        """Of a streamed answer."""

    def chunk(self, piece: Piece) -> bytes:
        """One piece of a streamed answer, ready to write."""

    def tool_chunk(self, generation: Generation) -> bytes:
        """The tool calls of a streamed answer."""

    def last(self, generation: Generation, metrics: Metrics) -> bytes:
        """What ends a streamed answer."""

    def error(self, text: str) -> bytes:
        """An error in mid-stream."""

    def garbage(self) -> bytes:
        """A line that is no JSON."""

    def whole(self, generation: Generation, metrics: Metrics | None) -> dict[str, Any]:
        """The answer in one object; without metrics it says that it is not done."""


def json_answer(body: Any, status: int = 200) -> web.Response:
    """A JSON response as the real server sends it."""
    return web.Response(body=go_json(body), status=status, headers={"Content-Type": _JSON})


class ConnectionCutError(Exception):
    """The script cut the connection: there is nobody left to answer."""


def cut_connection(request: web.Request) -> NoReturn:
    """Drop the client's connection without a goodbye.

    Raises:
        ConnectionCutError: always.
    """
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionCutError


async def send(
    request: web.Request,
    dialect: Dialect,
    generation: Generation,
    metrics: Metrics,
    *,
    stream: bool,
    strike: Strike,
    pace: Pace,
) -> web.StreamResponse:
    """Send the answer, with whatever the script does to it on the way.

    Raises:
        RefusedError: 500 when an answer that is not streamed fails in the middle.
    """
    faults = {fault: scripted for fault in _STREAM_FAULTS if (scripted := strike(fault)) is not None}
    if pace.real_time:
        await asyncio.sleep(metrics.prompt_s)
    if stream:
        return await _Stream(request, dialect, faults, pace).send(generation, metrics)
    return await _send_whole(request, dialect, generation, metrics, faults)


async def _send_whole(
    request: web.Request,
    dialect: Dialect,
    generation: Generation,
    metrics: Metrics,
    faults: dict[Fault, ScriptedFault],
) -> web.StreamResponse:
    if held := faults.get(Fault.SLOW_TOKENS):
        await held.gate.wait(held.seconds)
    if Fault.ERROR_MID_STREAM in faults:
        raise RefusedError(500, ERROR_TEXT)
    body = go_json(dialect.whole(generation, None if Fault.NO_DONE in faults else metrics))
    if Fault.GARBAGE_LINE in faults:
        body = GARBAGE
    elif Fault.INVALID_UTF8 in faults:
        marked = Generation(
            generation.model, (Piece(_MARK),), (), generation.prompt_tokens, generation.done_reason
        )
        body = go_json(dialect.whole(marked, metrics)).replace(_MARK.encode(), b"\xff\xfe")
    elif Fault.HALF_LINE in faults:
        body = body[: len(body) // 2]
    if Fault.DROP_MID_STREAM in faults:
        await _send_half_and_cut(request, body)
    return web.Response(body=body, headers={"Content-Type": _JSON})


async def _send_half_and_cut(request: web.Request, body: bytes) -> NoReturn:
    response = web.StreamResponse(headers={"Content-Type": _JSON, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await _flush()
    cut_connection(request)


async def _flush() -> None:
    # An abort throws away what the transport still holds; two turns of the loop let it write first.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class _Stream:
    """One streamed answer on its way out."""

    def __init__(
        self, request: web.Request, dialect: Dialect, faults: dict[Fault, ScriptedFault], pace: Pace
    ) -> None:
        self._request = request
        self._dialect = dialect
        self._faults = faults
        self._pace = pace
        self._response = web.StreamResponse(headers={"Content-Type": dialect.content_type})

    async def send(self, generation: Generation, metrics: Metrics) -> web.StreamResponse:
        """Write every line, or as far as the script lets it."""
        lines = [self._dialect.chunk(piece) for piece in generation.pieces]
        if generation.tool_calls:
            lines.append(self._dialect.tool_chunk(generation))
        await self._response.prepare(self._request)
        for index, line in enumerate(lines):
            await self._wait(index)
            if not await self._goes_on(index, len(lines), line):
                return self._response
            await self._write(line)
        last = self._dialect.last(generation, metrics)
        await self._wait(len(lines))
        if Fault.NO_DONE not in self._faults and await self._goes_on(len(lines), len(lines), last):
            await self._write(last)
        return self._response

    async def _wait(self, index: int) -> None:
        held = self._faults.get(Fault.SLOW_TOKENS)
        if held is not None and index >= held.after:
            await held.gate.wait(held.seconds)
        if self._pace.real_time:
            await asyncio.sleep(1 / self._pace.tokens_per_s)

    async def _goes_on(self, index: int, total: int, line: bytes) -> bool:
        due = {fault for fault, scripted in self._faults.items() if min(scripted.after, total) == index}
        if Fault.GARBAGE_LINE in due:
            await self._write(self._dialect.garbage())
        if Fault.INVALID_UTF8 in due:
            await self._write(self._dialect.chunk(Piece(_MARK)).replace(_MARK.encode(), b"\xff\xfe"))
        if Fault.HALF_LINE in due:
            await self._write(line[: len(line) // 2])
            return False
        if Fault.ERROR_MID_STREAM in due:
            await self._write(self._dialect.error(ERROR_TEXT))
            return False
        if Fault.DROP_MID_STREAM in due:
            await _flush()
            cut_connection(self._request)
        return True

    async def _write(self, line: bytes) -> None:
        if Fault.SPLIT_LINES not in self._faults:
            await self._response.write(line)
            return
        # Behind the first byte of the first character that has more than one, else in the middle.
        cut = next((index + 1 for index, byte in enumerate(line) if byte >= 0x80), len(line) // 2)
        await self._response.write(line[:cut])
        await _flush()
        await self._response.write(line[cut:])
