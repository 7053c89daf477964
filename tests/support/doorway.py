"""A door before a real server: what comes is passed on as it is, unless a test has it held, refused, shut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from llm_router.http1.listening import stop_listening

_ANSWERS = ("/api/chat", "/v1/chat/completions")


class Doorway:
    """``told_to_load`` are the models that somebody who came through it has asked to be loaded, in order."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._shut = AsyncExitStack()
        self._port = 0
        self._loads_pass = asyncio.Event()
        self._loads_pass.set()
        self._refusals = 0
        self._inside = 0
        self.told_to_load: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def hold_loads(self) -> None:
        """From now on loads are taken and not passed on, while everything else is: a loader that hangs."""
        self._loads_pass.clear()

    def pass_loads(self) -> None:
        self._loads_pass.set()

    def refuse(self, times: int) -> None:
        """So many answers are refused with the words of a full queue."""
        self._refusals = times

    async def open(self) -> None:
        """Anew at the same port, where it was shut."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._passed_on)
        session = await self._shut.enter_async_context(aiohttp.ClientSession())
        self._http = session
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._shut.push_async_callback(runner.cleanup)
        protocol = runner.server
        assert protocol is not None
        listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", self._port)
        self._shut.push_async_callback(stop_listening, listening)
        self._port = listening.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Nobody listens any more, and who was inside is cut off."""
        await self._shut.aclose()

    async def until_empty(self) -> None:
        async with asyncio.timeout(30.0):
            while self._inside:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _passed_on(self, request: web.Request) -> web.StreamResponse:
        self._inside += 1
        try:
            return await self._answered(request)
        finally:
            self._inside -= 1

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/api/generate" and _is_load(msgspec.json.decode(body)):
            self.told_to_load.append(msgspec.json.decode(body)["model"])
            await self._loads_pass.wait()
            if request.transport is None or request.transport.is_closing():
                raise web.HTTPRequestTimeout  # its caller has given it up, and nobody reads this
        if request.path in _ANSWERS and self._refusals:
            self._refusals -= 1
            return web.json_response({"error": "server busy, please try again"}, status=503)
        reply = web.StreamResponse()
        async with self._http.request(request.method, self._target + request.path_qs, data=body) as told:
            reply.set_status(told.status)
            reply.content_type = told.content_type
            try:
                await reply.prepare(request)
                async for piece in told.content.iter_any():
                    await reply.write(piece)
                await reply.write_eof()
            except ConnectionError:
                told.close()  # the caller has left: the server is to hear of it
        return reply


def _is_load(body: dict[str, Any]) -> bool:
    return not body.get("prompt") and body.get("keep_alive") != 0


@asynccontextmanager
async def doorway(target: str) -> AsyncIterator[Doorway]:
    here = Doorway(target)
    await here.open()
    try:
        yield here
    finally:
        here.pass_loads()
        await here.shut()
