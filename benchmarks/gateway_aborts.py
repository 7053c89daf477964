"""Ten thousand clients that go away: what is left of them in the gateway. Fails where anything is.

    python benchmarks/gateway_aborts.py [--clients 10000] [--at-once 64] [--kind openai] [--json FILE]

The gateway runs here, with everything on, before the model server of ``gateway.py``; the clients are another
process. Each goes away in one of five phases, taken in turn; one of them resets its connection and the next
one ends it:

in the head     after half of the request's head
in the body     after the head and half of the body
sent            right after the whole request, while it is decided or asked
waiting         with the request sent, before the first event has come (the server takes 40 ms to it)
in mid-stream   after the first event of twenty

Before that every text is decided once, so that what is kept of words is there. Afterwards there must be no
connection, no request under way, no task that was not there before, one written record for each task that was
begun and none dropped; no more objects than after the first tenth, and no more memory, but for what is
tolerated. Not a measurement of speed: a busy machine only makes it take longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import socket
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import raw_file

from gateway import (
    CHAT,
    build_upstream,
    fleet_tags,
    free_port,
    get,
    process,
    prompts,
    resident_mb,
    upstream_replies,
)
from llm_router.classify.settings import ClassifySettings, MissionControlSettings
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.gateway.app import Visit
from llm_router.gateway.observers import Served
from llm_router.gateway.serving import Serving
from llm_router.records.settings import RecordSettings
from llm_router.serve_settings import ServeSettings

PHASES = ("in the head", "in the body", "sent", "waiting", "in mid-stream")
EVENTS, DELAY_MS = 20, 40
WAIT_S = 0.01
PARTS = 10
MEMORY_MB = 12.0
"""For what is no object of Python: the pages that SQLite keeps, and the allocator's own slack."""
OBJECTS = 500
"""For what was under way at the first look, of some 45,000."""
SETTLE_S = 30.0


# ----------------------------------------------------------------------------------------------------
# The clients, in a process of their own


_RESET = struct.pack("ii", 1, 0)
"""A socket that lingers for no time is reset by closing it."""


async def client(port: int, phase: str, text: str, *, reset: bool) -> str:
    """Goes away in its phase; says how far it came."""
    body = json.dumps(
        {"model": "auto", "stream": True, "messages": [{"role": "user", "content": text}]}
    ).encode()
    head = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n" % CHAT.encode()
    head += b"content-length: %d\r\n\r\n" % len(body)
    cut = {"in the head": len(head) // 2, "in the body": len(head) + len(body) // 2}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    came = "as planned"
    try:
        writer.write((head + body)[: cut.get(phase, len(head) + len(body))])
        if phase == "waiting":
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    came = "answered too early" if await reader.read(1) else "cut"
        elif phase == "in mid-stream":
            got = b""
            while b"data: " not in got and (piece := await reader.read(65536)):
                got += piece
            came = "as planned" if got.startswith(b"HTTP/1.1 200") else f"no stream: {got[:80]!r}"
        else:
            await asyncio.sleep(0)
    finally:
        writer.transport.abort()
    return f"{phase}: {came}"


async def clients(port: int, first: int, count: int, at_once: int) -> dict[str, int]:
    texts = prompts()
    random.Random(first).shuffle(texts)
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> str:
        async with gate:
            phase, text = PHASES[number % len(PHASES)], texts[number % len(texts)]
            return await client(port, phase, text, reset=number // len(PHASES) % 2 == 0)

    return dict(Counter(await asyncio.gather(*[one(n) for n in range(first, first + count)])))


# ----------------------------------------------------------------------------------------------------
# The gateway, here


class Counting:
    """An ``Observer`` that knows how many tasks were begun and have ended."""

    def __init__(self) -> None:
        self.tasks = 0
        self.gone = 0

    def served(self, served: Served) -> None:
        self.tasks += 1
        self.gone += served.gone

    def refused(self, visit: Visit, error: Exception, status: int) -> None:
        """Nothing: a refused request is no task."""

    def done(self, visit: Visit) -> None:
        """Nothing: it was no task."""


async def settled(serving: Serving) -> float:
    """Seconds until nothing was under way, at most ``SETTLE_S``."""
    begun_s = time.perf_counter()
    recorder = serving.recorder
    assert recorder is not None
    while time.perf_counter() - begun_s < SETTLE_S:
        if not (serving.server.connections or serving.server.running or recorder.waiting):
            break
        await asyncio.sleep(0.05)
    return time.perf_counter() - begun_s


async def measured(wish: argparse.Namespace, upstream: int, folder: Path) -> dict[str, Any]:
    records = folder / "records.sqlite3"
    settings = Settings(
        hosts=(HostSettings(url=f"http://127.0.0.1:{upstream}", name="upstream", kind=wish.kind),),
        routing=RoutingSettings(stand_in="never"),
        serve=ServeSettings(port=0, log="off"),
        records=RecordSettings(path=str(records)),
        classify=ClassifySettings(mission_control=MissionControlSettings(enabled=False)),
    )
    counting = Counting()
    serving = Serving(settings, more=[counting])
    _, port = await serving.start()
    for text in prompts():
        await serving.gateway.router.decide(text)
    await settled(serving)
    before = asyncio.all_tasks()
    memory_mb, objects, came = [], [], Counter[str]()
    part = max(len(PHASES), wish.clients // PARTS)
    settle_s = 0.0
    for first in range(0, wish.clients, part):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__),
            *("--act", str(port), str(first), str(min(part, wish.clients - first)), str(wish.at_once)),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await child.communicate()
        if child.returncode:
            sys.exit("error: the clients failed")
        came.update(json.loads(told))
        settle_s = max(settle_s, await settled(serving))
        gc.collect()
        objects.append(len(gc.get_objects()))
        memory_mb.append(resident_mb(os.getpid()))
        print(f"{first + part:6} clients: {memory_mb[-1]:.0f} MB", file=sys.stderr)
    recorder = serving.recorder
    assert recorder is not None
    left = {
        "connections": serving.server.connections,
        "requests": serving.server.running + serving.gateway.running,
        "tasks": len(asyncio.all_tasks() - before),
        "records_waiting": recorder.waiting,
        "records_dropped": recorder.problem.dropped if recorder.problem is not None else 0,
    }
    answers = await asyncio.to_thread(get, port, "/ready")
    await serving.close()
    with sqlite3.connect(records) as db:
        (written,) = db.execute("SELECT count(*) FROM requests").fetchone()
    db.close()
    return {
        "clients": dict(came),
        "tasks_begun": counting.tasks,
        "of_them_gone": counting.gone,
        "records_written": written,
        "left": left,
        "still_answers": answers,
        "settle_s": round(settle_s, 2),
        "memory_mb": memory_mb,
        "objects": objects,
    }


def faults(told: dict[str, Any]) -> list[str]:
    """What must not be, in words."""
    found = [f"{count} {what.replace('_', ' ')} left" for what, count in told["left"].items() if count]
    if told["records_written"] != told["tasks_begun"]:
        found.append(f"{told['tasks_begun']} tasks were begun, {told['records_written']} are recorded")
    if told["still_answers"] != 200:
        found.append("the gateway does not answer any more")
    memory_mb = told["memory_mb"]
    if memory_mb[-1] - memory_mb[0] > MEMORY_MB:
        found.append(f"memory grew from {memory_mb[0]:.0f} to {memory_mb[-1]:.0f} MB")
    objects = told["objects"]
    if objects[-1] - objects[0] > OBJECTS:
        found.append(f"from {objects[0]:,} to {objects[-1]:,} objects")
    for phase in PHASES:
        planned = told["clients"].get(f"{phase}: as planned", 0)
        if not planned:
            found.append(f"no client went away {phase}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--kind", choices=("openai", "ollama"), default="openai", help="of the model server")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    parser.add_argument("--act", type=int, nargs=4, help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.act:
        json.dump(asyncio.run(clients(*wish.act)), sys.stdout)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    now, upstream = datetime.now(UTC), free_port()
    with tempfile.TemporaryDirectory(prefix="bench-aborts-") as name:
        folder = Path(name)
        command = [str(build_upstream(folder)), str(upstream), *upstream_replies(fleet_tags())]
        with process(command, upstream, "/health", environment={}, log=folder / "upstream.log"):
            if get(upstream, f"/set?events={EVENTS}&delay_us={DELAY_MS * 1000}") != 200:
                sys.exit("error: the model server does not answer")
            told = asyncio.run(measured(wish, upstream, folder))
    command = f"python benchmarks/gateway_aborts.py --clients {wish.clients} --kind {wish.kind}"
    about = raw_file.about(command, now)
    wrong = faults(told)
    print(json.dumps(told, indent=1))
    if wish.json:
        wish.json.write_text(json.dumps(about | told | {"faults": wrong}, indent=1) + "\n", encoding="utf-8")
    for fault in wrong:
        print(f"fault: {fault}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
