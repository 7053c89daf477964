"""An upload goes through as it comes, also to a host that has it already and does not read it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.gateway.serving import Serving
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.records.settings import RecordSettings
from llm_router.serve_settings import ServeSettings

DIGEST = "sha256:" + "0" * 64
PIECE = b"x" * 65_536
PIECES = 400


async def _knows_the_blob(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As Ollama does with a blob that it has: it answers at once and reads nothing of the body."""
    with suppress(ConnectionError):
        head = await reader.readuntil(b"\r\n\r\n")
        told = msgspec.json.encode({"version": "0.24.0", "models": []})
        told = b"" if head.startswith(b"POST") else told
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(told), told))
        writer.write_eof()
        while await reader.read(1 << 20):
            pass
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_blob_that_is_there_already_is_no_broken_connection() -> None:
    ollama = await asyncio.start_server(_knows_the_blob, "127.0.0.1", 0)
    address = ollama.sockets[0].getsockname()
    serving = Serving(
        Settings(
            hosts=(HostSettings(url=f"http://127.0.0.1:{address[1]}", name="ollama"),),
            routing=RoutingSettings(stand_in="never"),
            residency=ResidencySettings(manage=False, preload="off"),
            serve=ServeSettings(port=0, log="off"),
            records=RecordSettings(enabled=False),
        )
    )
    host, port = await serving.start()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nhost: {host}:{port}\r\n".encode())
        writer.write(b"content-length: %d\r\n\r\n" % (len(PIECE) * PIECES))
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
        assert (await reader.readline()).split()[1] == b"200"
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await serving.close()
        ollama.close()
        await ollama.wait_closed()
