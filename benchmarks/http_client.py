"""Which HTTP client: CPU per call and per streamed line of ours, aiohttp, httpx2 and httpx, side by side.

    python benchmarks/http_client.py [--calls 1000] [--rounds 5] [--json FILE]

Caveats first. The server is a raw asyncio loop in another process on loopback and costs the same for each
client; only the client process's own CPU time is counted (``time.process_time``). Rounds are interleaved, the
median of the rounds is shown. Numbers belong to the machine they were taken on; their ratio is the point.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

LINES = 100
LINE = (
    json.dumps({"model": "m", "message": {"role": "assistant", "content": "word "}, "done": False}).encode()
    + b"\n"
)
BODY = {"model": "m", "messages": [{"role": "user", "content": "What's 2+2? " * 8}], "stream": True}


def serve(port: Connection) -> None:
    """Answers ``POST /one`` with one small JSON and ``POST /many`` with a chunked stream of lines."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if b"/many" in head.split(b"\r\n", 1)[0]:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n")
                    writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
                    for _ in range(LINES):
                        writer.write(b"%x\r\n%s\r\n" % (len(LINE), LINE))
                        await writer.drain()
                    writer.write(b"0\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                    writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(LINE), LINE))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


Round = Callable[[str, int], Awaitable[tuple[float, float]]]


async def with_aiohttp(url: str, calls: int) -> tuple[float, float]:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def one() -> None:
            async with session.post(f"{url}/one", json=BODY) as response:
                await response.json()

        async def many() -> None:
            async with session.post(f"{url}/many", json=BODY) as response:
                async for line in response.content:
                    json.loads(line)

        return await timed(one, calls), await timed(many, calls // 20)


async def with_our_own(url: str, calls: int) -> tuple[float, float]:
    from llm_router.http1.client import Pool

    pool, head = Pool(url, connect_s=5.0), {"content-type": "application/json"}
    body = json.dumps(BODY).encode()

    async def pieces(path: str) -> bytes:
        response = await pool.request("POST", path, json.dumps(BODY).encode(), head, limit_s=30.0)
        found = b""
        while piece := await response.readany(30.0):
            found += piece
        response.release()
        return found

    async def one() -> None:
        json.loads(await pieces("/one"))

    async def many() -> None:
        response = await pool.request("POST", "/many", body, head, limit_s=30.0)
        rest = b""
        while piece := await response.readany(30.0):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                json.loads(line)
        response.release()

    try:
        return await timed(one, calls), await timed(many, calls // 20)
    finally:
        await pool.close()


def with_httpx_like(name: str) -> Round:
    async def run(url: str, calls: int) -> tuple[float, float]:
        httpx = importlib.import_module(name)

        async with httpx.AsyncClient() as client:

            async def one() -> None:
                (await client.post(f"{url}/one", json=BODY)).json()

            async def many() -> None:
                async with client.stream("POST", f"{url}/many", json=BODY) as response:
                    async for line in response.aiter_lines():
                        json.loads(line)

            return await timed(one, calls), await timed(many, calls // 20)

    return run


async def timed(call: Callable[[], Awaitable[None]], times: int) -> float:
    """CPU seconds of this process per call, after a warm-up."""
    for _ in range(3):
        await call()
    begun = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - begun) / times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clients: dict[str, Round] = {"ours": with_our_own, "aiohttp": with_aiohttp}
    clients |= {n: with_httpx_like(n) for n in ("httpx2", "httpx") if importlib.util.find_spec(n)}
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}"
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for _ in range(options.rounds):
        for name, run in clients.items():
            seen[name].append(asyncio.run(run(url, options.calls)))  # type: ignore[arg-type]
    server.terminate()
    rows = {
        name: {
            "cpu_ms_per_call": round(statistics.median(r[0] for r in rounds) * 1e3, 3),
            "cpu_us_per_line": round(statistics.median(r[1] for r in rounds) * 1e6 / LINES, 2),
        }
        for name, rounds in seen.items()
    }
    for name, row in rows.items():
        print(
            f"{name:8} {row['cpu_ms_per_call']:7.3f} ms per call   {row['cpu_us_per_line']:7.2f} µs per line"
        )
    if options.json:
        about = {"python": sys.version.split()[0], "machine": platform.machine(), "calls": options.calls}
        options.json.write_text(json.dumps({"about": about, "median": rows, "raw": seen}, indent=1) + "\n")


if __name__ == "__main__":
    main()
