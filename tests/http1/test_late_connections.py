"""A client that connects while a server ends: its connection is closed, not forgotten."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from llm_router.http1.server import Exchange, Server
from llm_router.testing.fake_ollama import FakeOllama

Serving = Callable[[], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def ours() -> AsyncIterator[int]:
    async def answer(exchange: Exchange) -> None:
        exchange.reply(200, ())

    server = Server(answer)
    ((_, port),) = await server.start("127.0.0.1", 0)
    yield port
    await server.shutdown(1.0)


@asynccontextmanager
async def fake() -> AsyncIterator[int]:
    async with FakeOllama([]) as server:
        yield urlsplit(server.url).port or 0


@pytest.mark.parametrize("serving", [ours, fake])
def test_no_connection_outlives_the_server(serving: Serving) -> None:
    async def connect_and_end(steps: int, client: socket.socket) -> None:
        async with serving() as port:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            for _ in range(
                steps
            ):  # which of them meets the moment between accepting and telling is asyncio's
                await asyncio.sleep(0)

    for steps in range(8):
        with warnings.catch_warnings(record=True) as told, socket.socket() as client:
            warnings.simplefilter("always")
            asyncio.run(connect_and_end(steps, client))
            gc.collect()
        assert [str(one.message) for one in told if one.category is ResourceWarning] == [], steps
