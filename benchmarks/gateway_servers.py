"""Which HTTP server: ours, uvicorn (alone, under Starlette), aiohttp.web, Granian, Hypercorn, one handler.

    python benchmarks/gateway_servers.py [--rounds 3] [--seconds 3] [--only ours,uvicorn] [--json FILE]

The handler takes the whole body and sends it back with eight headers, as one JSON reply, or where the body
asks for a stream as 64 events, each written by itself. Nothing is decided, recorded or logged: what is
measured is the server and the way into the handler. Each server has one process, one worker and, where it can
choose, uvloop and httptools. What is not installed is left out with a note.

Caveats first. Load and server share the machine's processors, so a busy machine shows in all of it; processor
time per request moves least. Each round starts every server anew, in an order that rotates. Medians of the
rounds are shown; differences under 30 % mean nothing.

c1           one connection: milliseconds, p50 and p99
c32          32 connections: requests/s, and processor time of the server per request
events/s     16 streams without a pause
idle         memory of a server that has just started
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import raw_file

from gateway import (
    HERE,
    Broken,
    Load,
    Target,
    awake,
    cpu_s,
    free_port,
    process,
    prompts,
    resident_mb,
)

EVENTS = 64
HEADERS = (
    ("content-type", "application/json"),
    *((f"x-router-{name}", f"a value of {name}") for name in ("model", "category", "confidence", "reason")),
    *((f"x-router-{name}", "0123456789abcdef0123456789abcdef") for name in ("decision-id", "request-id")),
    ("x-router-fallback", "none"),
)
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS]
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'
_ASKS_FOR_A_STREAM = b'"stream": true'

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


# ----------------------------------------------------------------------------------------------------
# The same handler for each


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """For uvicorn, Granian and Hypercorn."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    streams = _ASKS_FOR_A_STREAM in body
    length = [] if streams else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": [*RAW_HEADERS, *length]})
    if not streams:
        await send({"type": "http.response.body", "body": body})
        return
    for _ in range(EVENTS):
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def handle(request: Request) -> Response:
        body = await request.body()
        if _ASKS_FOR_A_STREAM not in body:
            return Response(body, headers=dict(HEADERS))

        async def events() -> Any:
            for _ in range(EVENTS):
                yield EVENT

        return StreamingResponse(events(), headers=dict(HEADERS))

    return Starlette(routes=[Route("/{path:path}", handle, methods=["GET", "POST"])])


async def _ours(port: int) -> None:
    from llm_router.http1.server import Exchange, Server

    async def handle(exchange: Exchange) -> None:
        body = await exchange.body()
        if _ASKS_FOR_A_STREAM not in body:
            exchange.reply(200, HEADERS, body)
            return
        exchange.start(200, HEADERS)
        for _ in range(EVENTS):
            exchange.write(EVENT)
            await exchange.drain()
        exchange.end()

    await Server(handle).start("127.0.0.1", port)
    await asyncio.Event().wait()


async def _aiohttp(port: int) -> None:
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if _ASKS_FOR_A_STREAM not in body:
            return web.Response(body=body, headers=dict(HEADERS))
        reply = web.StreamResponse(headers=dict(HEADERS))
        await reply.prepare(request)
        for _ in range(EVENTS):
            await reply.write(EVENT)
        await reply.write_eof()
        return reply

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def _uvicorn(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error"
    )


def serve(name: str, port: int) -> None:
    """One of the servers that are started from within; never returns."""
    import uvloop

    if name == "ours":
        uvloop.run(_ours(port))
    elif name == "aiohttp":
        uvloop.run(_aiohttp(port))
    else:
        _uvicorn(starlette_app() if name == "starlette" else asgi, port)


# ----------------------------------------------------------------------------------------------------
# Rounds


def targets() -> tuple[list[Target], dict[str, str], list[str]]:
    """What is measured, the versions of what it is made of, and a note for what is not here."""
    here = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    module = [sys.executable, "-m"]
    granian = [*module, "granian", "--interface", "asgi", "--workers", "1", "--loop", "uvloop", "--no-log"]
    hypercorn = [*module, "hypercorn", "--worker-class", "uvloop", "--workers", "1", "--log-level", "ERROR"]
    app = f"{Path(__file__).stem}:asgi"
    wanted: dict[str, tuple[Sequence[str], Callable[[int], Sequence[str]]]] = {
        "ours, http1/server.py": ((), lambda port: [*here, "ours", str(port)]),
        "uvicorn, raw ASGI": (("uvicorn",), lambda port: [*here, "uvicorn", str(port)]),
        "uvicorn + Starlette": (("uvicorn", "starlette"), lambda port: [*here, "starlette", str(port)]),
        "aiohttp.web": (("aiohttp",), lambda port: [*here, "aiohttp", str(port)]),
        "Granian, ASGI": (("granian",), lambda port: [*granian, "--port", str(port), app]),
        "Hypercorn, ASGI": (("hypercorn",), lambda port: [*hypercorn, "--bind", f"127.0.0.1:{port}", app]),
    }
    found, notes = [], []
    versions = {name: importlib.metadata.version(name) for name in ("uvloop", "httptools")}
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    for name, (packages, command) in wanted.items():
        try:
            versions |= {package: importlib.metadata.version(package) for package in packages}
        except importlib.metadata.PackageNotFoundError as error:
            notes.append(f"{name} is left out: {error.name} is not installed")
            continue
        found.append(Target(name, command, environment={"PYTHONPATH": paths}))
    return found, versions, notes


def one_round(target: Target, load: Load, folder: Path, seconds: float) -> dict[str, Any]:
    port = free_port()
    with process(
        target.command(port), port, "/", environment=target.environment, log=folder / "server.log"
    ) as (
        running,
        _,
    ):
        time.sleep(0.5)
        told: dict[str, Any] = {"idle_mb": resident_mb(running.pid)}
        load.run(port, target, 8, 1)
        with awake():
            told["c1"] = load.run(port, target, 1, seconds)
        before = cpu_s(running.pid)
        told["c32"] = load.run(port, target, 32, seconds)
        told["c32"]["cpu_us"] = (cpu_s(running.pid) - before) / told["c32"]["requests"] * 1e6
        before = cpu_s(running.pid)
        told["events"] = load.run(port, target, 16, seconds, stream=True)
        events = told["events"]["requests"] * EVENTS
        told["events"]["events_per_s"] = events / told["events"]["seconds"]
        told["events"]["cpu_us_per_event"] = (cpu_s(running.pid) - before) / events * 1e6
    return told


FIGURES: Mapping[str, tuple[str, str, Callable[[Mapping[str, Any]], float]]] = {
    "c1_p50_ms": ("c1 p50 ms", "{:.3f}", lambda r: r["c1"]["p50_ms"]),
    "c1_p99_ms": ("c1 p99 ms", "{:.3f}", lambda r: r["c1"]["p99_ms"]),
    "requests_per_s": ("req/s c32", "{:,.0f}", lambda r: r["c32"]["requests_per_s"]),
    "cpu_us_per_request": ("CPU us", "{:.0f}", lambda r: r["c32"]["cpu_us"]),
    "events_per_s": ("events/s", "{:,.0f}", lambda r: r["events"]["events_per_s"]),
    "cpu_us_per_event": ("CPU us/event", "{:.1f}", lambda r: r["events"]["cpu_us_per_event"]),
    "idle_mb": ("idle MB", "{:.0f}", lambda r: r["idle_mb"]),
}


def show(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    width = max(map(len, rows), default=10)
    print(" " * width + "".join(f"{head:>14}" for head, _, _ in FIGURES.values()))
    for name, row in rows.items():
        cells = [form.format(row[key][0]) for key, (_, form, _) in FIGURES.items()]
        print(f"{name:<{width}}" + "".join(f"{cell:>14}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--only", help="parts of names, with commas between")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.serve:
        serve(wish.serve[0], int(wish.serve[1]))
        return
    now, load_average = datetime.now(UTC), os.getloadavg()[0]
    found, versions, notes = targets()
    if wish.only:
        words = [word.strip().lower() for word in wish.only.split(",")]
        found = [target for target in found if any(word in target.name.lower() for word in words)]
    rounds: dict[str, list[dict[str, Any]]] = {target.name: [] for target in found}
    with tempfile.TemporaryDirectory(prefix="bench-servers-") as name:
        load = Load(Path(name), prompts())
        for number in range(wish.rounds):
            turn = number % max(1, len(found))
            for target in found[turn:] + found[:turn]:
                print(f"round {number + 1} of {wish.rounds}: {target.name}", file=sys.stderr)
                try:
                    rounds[target.name].append(one_round(target, load, Path(name), wish.seconds))
                except (Broken, OSError) as error:
                    notes.append(f"{target.name} failed: {error}")
    rows = {
        name: {
            key: [round(v, 4) for v in (statistics.median(values), min(values), max(values))]
            for key, (_, _, read) in FIGURES.items()
            if (values := [read(one) for one in some])
        }
        for name, some in rounds.items()
        if some
    }
    show(rows)
    for note in notes:
        print(note, file=sys.stderr)
    told = {
        **raw_file.about("python benchmarks/gateway_servers.py", now),
        "rounds": wish.rounds,
        "seconds": wish.seconds,
        "load_average_before": load_average,
        "load": load.tool,
        "versions": versions,
        "rows": rows,
        "raw": rounds,
        "notes": notes,
    }
    raw_file.write(told, "gateway-servers", now, wish.json, indent=1)


if __name__ == "__main__":
    main()
