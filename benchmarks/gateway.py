"""What the gateway adds to a request, beside other gateways and the floor, before one fast model server.

    make bench-gateway                          ours and the floor; peers where their environments are named
    python benchmarks/gateway.py [--rounds 3] [--seconds 4] [--only ours,floor] [--json FILE]
        [--litellm VENV] [--portkey FOLDER]     or BENCH_LITELLM, BENCH_PORTKEY
        [--beside CHECKOUT]                     another version of ours, told as "earlier"

Caveats first. Everything runs on one machine: load, gateway and model server share its processors, so a busy
machine shows in all of it, most of all in the p99. Each round starts every gateway anew, one after the other
in an order that rotates, and measures the model server alone just before it: *added* is the difference of the
two. Medians of the rounds are shown; differences under 30 % mean nothing.

Ours has everything on: classification, policy, records, metrics, headers, a log line per request into a file.
Prompts are English texts of 20 to 400 characters from ``training/``, taken in turn, so that nothing that
remembers decisions would help. The floor is the least that Python can do: uvloop and httptools, the body
parsed and its model replaced, bytes passed on. While single requests are timed, idle-priority loops keep the
processors awake, as sleeping virtual ones take longer to wake than a request takes.

c1           one connection: milliseconds added, p50 and p99
c32          32 connections: requests/s, and processor time of the gateway per request
first        one stream (32 events, 2 ms apart): milliseconds added until its first event
event        milliseconds added between the writing of an event and its arrival, p50
events/s     16 streams of 64 events without a pause
slow         300 streams at once, 20 events 250 ms apart: how many were whole, memory before, at most, after
idle, ready  memory and seconds of a gateway that has just started; ready: its health or ready page says 200
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import raw_file

HERE = Path(__file__).resolve().parent
TRAINING = HERE.parent / "training"
CHAT = "/v1/chat/completions"
LEAST_CHARACTERS, MOST_CHARACTERS = 20, 400
ANSWER_EVENTS, ANSWER_WORDS = 64, 100
SLOW_STREAMS, SLOW_EVENTS, SLOW_DELAY_S = 300, 20, 0.25
START_LIMIT_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SENT = re.compile(rb" t(\d{6,})\"")
_DONE = b"data: [DONE]"

LOAD_SCRIPT = """
local bodies, at = {}, 0
for line in io.lines(os.getenv("BENCH_BODIES")) do bodies[#bodies + 1] = line end
local head = {["content-type"] = "application/json"}
for name, value in string.gmatch(os.getenv("BENCH_HEADERS") or "", "([^:\\n]+): ([^\\n]+)") do
  head[name] = value
end
function init() math.randomseed(tonumber(os.getenv("BENCH_SEED"))); at = math.random(#bodies) end
function request()
  at = at % #bodies + 1
  return wrk.format("POST", nil, head, bodies[at])
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('JSON {"requests": %d, "seconds": %f, "errors": %d', summary.requests,
    summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout))
  for _, share in pairs({50, 90, 99}) do
    io.write(string.format(', "p%d_ms": %f', share, latency:percentile(share) / 1e3))
  end
  io.write("}\\n")
end
"""


@dataclass(frozen=True)
class Target:
    """One gateway: how it is started and how it is called. ``note`` says why it is left out."""

    name: str
    command: Callable[[int], Sequence[str]]
    model: str = "auto"
    ready: str = "/health"
    headers: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    slow_streams: bool = False
    log: Path | None = None


class Broken(Exception):
    """A target that does not do what is asked of it; the argument says what."""


# ----------------------------------------------------------------------------------------------------
# Processes


def tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_s(pid: int) -> float:
    ticks = 0
    for one in tree(pid):
        try:
            values = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(values[11]) + int(values[12])
    return ticks / _TICKS


def resident_mb(pid: int) -> float:
    pages = 0
    for one in tree(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> int:
    """The status, 0 where nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as there:
            there.sendall(b"GET %b HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n" % path.encode())
            head = there.recv(4096)
    except OSError:
        return 0
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0


@contextmanager
def process(
    command: Sequence[str], port: int, path: str, *, environment: Mapping[str, str], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A server that is stopped at the end, and the seconds from its command to a 200 at ``path``."""
    begun = time.perf_counter()
    with log.open("ab") as told:
        running = subprocess.Popen(
            command,
            stdout=told,
            stderr=told,
            stdin=subprocess.DEVNULL,
            env=os.environ | dict(environment),
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        while get(port, path) != 200:
            if running.poll() is not None or time.perf_counter() - begun > START_LIMIT_S:
                raise Broken(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        yield running, time.perf_counter() - begun
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(running.pid, number)  # its own session, begun above
                running.wait(10)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def awake() -> Iterator[None]:
    """Loops of idle priority, one per processor: they give way to everything and keep it from sleeping."""
    spin = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    spinners = [subprocess.Popen([sys.executable, "-S", "-c", spin]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


# ----------------------------------------------------------------------------------------------------
# Load


def prompts() -> list[str]:
    found: dict[str, None] = {}
    for path in sorted(TRAINING.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            text = case.get("text")
            plain = isinstance(text, str) and text.isascii() and not case.get("picture")
            plain = plain and case.get("category") != "embeddings"
            if plain and LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
                found[text] = None
    texts = list(found)
    random.Random(7).shuffle(texts)
    return texts


class Load:
    """Sends requests to a port; files and scripts for that lie in ``folder``."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._folder = folder
        self._texts = texts
        self._bodies: dict[tuple[str, bool], Path] = {}
        self._script = folder / "load.lua"
        self._script.write_text(LOAD_SCRIPT)
        self._seed = 0
        self.tool = "wrk" if shutil.which("wrk") else "own client"

    def bodies(self, model: str, *, stream: bool) -> list[bytes]:
        extra = {"stream": True} if stream else {}
        return [
            json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **extra}).encode()
            for text in self._texts
        ]

    def _file(self, model: str, *, stream: bool) -> Path:
        key = model, stream
        if key not in self._bodies:
            path = self._folder / f"bodies-{len(self._bodies)}.jsonl"
            path.write_bytes(b"\n".join(self.bodies(model, stream=stream)) + b"\n")
            self._bodies[key] = path
        return self._bodies[key]

    def run(
        self, port: int, target: Target, connections: int, seconds: float, *, stream: bool = False
    ) -> dict[str, float]:
        self._seed += 1
        if self.tool == "wrk":
            told = self._wrk(port, target, connections, seconds, stream=stream)
        else:
            bodies = self.bodies(target.model, stream=stream)
            random.Random(self._seed).shuffle(bodies)
            told = asyncio.run(_own_load(port, bodies, target.headers, connections, seconds))
        if told["errors"]:
            raise Broken(f"{told['errors']} of {told['requests']} requests failed")
        return told | {"requests_per_s": told["requests"] / told["seconds"]}

    def _wrk(
        self, port: int, target: Target, connections: int, seconds: float, *, stream: bool
    ) -> dict[str, float]:
        environment = os.environ | {
            "BENCH_BODIES": str(self._file(target.model, stream=stream)),
            "BENCH_HEADERS": "\n".join(f"{k}: {v}" for k, v in target.headers.items()),
            "BENCH_SEED": str(self._seed),
        }
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["-s", str(self._script), f"http://127.0.0.1:{port}{CHAT}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        line = next(line for line in done.stdout.splitlines() if line.startswith("JSON "))
        found: dict[str, float] = json.loads(line[5:])
        return found


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it was answered."""

    def __init__(self, requests: Iterator[bytes], until_s: float, ended: asyncio.Future[None]) -> None:
        import httptools

        self._make = lambda: httptools.HttpResponseParser(self)
        self._parser = self._make()
        self._requests, self._until_s, self._ended = requests, until_s, ended
        self.times_s: list[float] = []
        self.errors = 0
        self._begun_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        self._begun_s = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now_s = time.perf_counter()
        self.times_s.append(now_s - self._begun_s)
        self.errors += self._parser.get_status_code() != 200
        self._parser = self._make()
        if now_s < self._until_s:
            asyncio.get_running_loop().call_soon(self._ask)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += exc is not None
        if not self._ended.done():
            self._ended.set_result(None)


async def _own_load(
    port: int, bodies: Sequence[bytes], headers: Mapping[str, str], connections: int, seconds: float
) -> dict[str, float]:
    def requests() -> Iterator[bytes]:
        while True:
            yield from (_request(body, headers) for body in bodies)

    loop, all_requests = asyncio.get_running_loop(), requests()
    begun_s = time.perf_counter()
    ends = [loop.create_future() for _ in range(connections)]
    clients = []
    for end in ends:
        made = _Client(all_requests, begun_s + seconds, end)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(made)
    await asyncio.gather(*ends)
    times = sorted(t for client in clients for t in client.times_s)
    return {
        "requests": len(times),
        "seconds": time.perf_counter() - begun_s,
        "errors": sum(client.errors for client in clients),
        **{f"p{share}_ms": _share(times, share) * 1e3 for share in (50, 90, 99)},
    }


def _request(body: bytes, headers: Mapping[str, str]) -> bytes:
    own = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    head = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n%b" % (
        CHAT.encode(),
        own,
    )
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def _share(ordered: Sequence[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def streams_one_by_one(
    port: int, bodies: Sequence[bytes], headers: Mapping[str, str], events: int
) -> dict[str, float]:
    """Milliseconds to the first event, and from the writing of each event to its arrival."""
    first_ms: list[float] = []
    delays_ms: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as there:
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for body in bodies:
            request = _request(body, headers)
            got, seen, looked = bytearray(), 0, 0
            begun = time.monotonic_ns()
            there.sendall(request)
            while not got.endswith(b"\r\n0\r\n\r\n"):
                data = there.recv(65536)
                now = time.monotonic_ns()
                if not data:
                    raise Broken(f"a stream broke off: {bytes(got[-200:])!r}")
                got += data
                for found in _SENT.finditer(got, looked):
                    looked = found.end()
                    delays_ms.append((now - int(found[1])) / 1e6)
                    if not seen:
                        first_ms.append((now - begun) / 1e6)
                    seen += 1
            if seen != events or _DONE not in got:
                raise Broken(f"{seen} of {events} events: {bytes(got[:300])!r}")
    first_ms.sort()
    delays_ms.sort()
    return {
        "streams": len(first_ms),
        "first_p50_ms": _share(first_ms, 50),
        "first_p99_ms": _share(first_ms, 99),
        "event_p50_ms": _share(delays_ms, 50),
        "event_p99_ms": _share(delays_ms, 99),
    }


async def _slow_stream(port: int, request: bytes) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        got = b""
        while not got.endswith(b"\r\n0\r\n\r\n"):
            data = await reader.read(65536)
            if not data:
                return False
            got += data
        return len(_SENT.findall(got)) == SLOW_EVENTS and _DONE in got
    finally:
        writer.close()


async def _slow_streams(
    port: int, bodies: Sequence[bytes], headers: Mapping[str, str], pid: int
) -> dict[str, float]:
    before, most = resident_mb(pid), 0.0
    begun_s = time.perf_counter()
    tasks = [
        asyncio.create_task(_slow_stream(port, _request(body, headers))) for body in bodies[:SLOW_STREAMS]
    ]
    waiting: set[asyncio.Task[bool]] = set(tasks)
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=0.25)
        most = max(most, resident_mb(pid))
    whole = sum(task.result() for task in tasks if task.exception() is None)
    took_s = time.perf_counter() - begun_s
    await asyncio.sleep(1.0)
    return {
        "streams": len(tasks),
        "whole": whole,
        "seconds": round(took_s, 2),
        "before_mb": before,
        "most_mb": most,
        "after_mb": resident_mb(pid),
    }


# ----------------------------------------------------------------------------------------------------
# Targets


def fleet_tags() -> list[str]:
    from llm_router.fleet import load_fleet

    return list(load_fleet().models)


def upstream_replies(tags: Sequence[str]) -> list[str]:
    """What a host is asked before it is used, as an OpenAI-compatible server and as Ollama say it."""
    installed = [
        {
            "name": tag,
            "model": tag,
            "size": 1_000_000_000,
            "digest": f"{n:064x}",
            "details": {"family": "mock"},
        }
        for n, tag in enumerate(tags)
    ]
    replies: dict[str, Any] = {
        "/v1/models": {"object": "list", "data": [{"id": tag, "object": "model"} for tag in tags]},
        "/api/version": {"version": "0.30.0"},
        "/api/tags": {"models": installed},
        "/api/ps": {
            "models": [{"name": tag, "size": 1_000_000_000, "size_vram": 1_000_000_000} for tag in tags]
        },
        "/api/show": {
            "details": {"family": "mock"},
            "model_info": {"general.architecture": "mock", "mock.context_length": 131072},
        },
        "/v1/embeddings": {"data": [{"index": 0, "embedding": [0.5] * 8}], "usage": {"prompt_tokens": 9}},
        "/api/embed": {"embeddings": [[0.5] * 8], "prompt_eval_count": 9},
        "/health": {"status": "ok"},
    }
    return [f"{path}={json.dumps(body)}" for path, body in replies.items()]


def ours(kind: str, upstream: int, folder: Path, checkout: Path | None = None) -> Target:
    """This version, or the one of another checkout, which runs with the packages of this one."""
    name = f"llm-router, {'OpenAI-compatible' if kind == 'openai' else 'Ollama'} upstream"
    if checkout is not None:
        name, folder = f"earlier {name}", folder / "earlier"
        folder.mkdir(exist_ok=True)
    settings = {
        "hosts": [{"url": f"http://127.0.0.1:{upstream}", "name": "upstream", "kind": kind}],
        "routing": {"stand_in": "never"},
        "classify": {"mission_control": {"enabled": False}},
        "records": {"path": str(folder / f"records-{kind}.sqlite3")},
    }
    path = folder / f"ours-{kind}.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    program = [sys.executable, "-m", "llm_router"]
    return Target(
        name,
        lambda port: [*program, "--config", str(path), "serve", "--port", str(port), "--log", "json"],
        ready="/ready",
        environment={
            **dict.fromkeys(("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"), str(folder)),
            "PYTHONPATH": str((checkout or HERE.parent).resolve() / "src"),
        },
        slow_streams=True,
        log=folder / f"ours-{kind}.log",
    )


def floor(upstream: int) -> Target:
    return Target(
        "floor: uvloop + httptools",
        lambda port: [sys.executable, str(HERE / "gateway.py"), "--floor", str(port), str(upstream)],
        slow_streams=True,
    )


def litellm(home: Path, upstream: int, folder: Path) -> list[Target]:
    base = f"http://127.0.0.1:{upstream}"
    openai = {"api_base": f"{base}/v1", "api_key": "none"}
    router = {
        "tiers": dict.fromkeys(("SIMPLE", "MEDIUM"), "small")
        | dict.fromkeys(("COMPLEX", "REASONING"), "large")
    }
    models = [
        {"model_name": "small", "litellm_params": {"model": "openai/mistral:7b", **openai}},
        {"model_name": "large", "litellm_params": {"model": "openai/phi4", **openai}},
        {"model_name": "native", "litellm_params": {"model": "ollama_chat/mistral:7b", "api_base": base}},
        {
            "model_name": "routed",
            "litellm_params": {
                "model": "auto_router/complexity_router",
                "complexity_router_config": router,
                "complexity_router_default_model": "small",
            },
        },
    ]
    path = folder / "litellm.yaml"
    settings = {"drop_params": True, "set_verbose": False}
    path.write_text(json.dumps({"model_list": models, "litellm_settings": settings}))
    offline = (
        "LITELLM_LOCAL_MODEL_COST_MAP",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS",
        "LITELLM_LOCAL_BLOG_POSTS",
    )
    environment = dict.fromkeys(offline, "True") | {"LITELLM_MASTER_KEY": "sk-bench", "NO_DOCS": "True"}
    command = [
        str(home / "bin" / "litellm"),
        "--host",
        "127.0.0.1",
        "--config",
        str(path),
        "--num_workers",
        "1",
    ]
    wanted = {"one model": "small", "its complexity router": "routed", "Ollama upstream": "native"}
    return [
        Target(
            f"LiteLLM, {what}",
            lambda port: [*command, "--port", str(port)],
            model=model,
            ready="/health/liveliness",
            headers={"authorization": "Bearer sk-bench"},
            environment=environment,
        )
        for what, model in wanted.items()
    ]


def portkey(home: Path, upstream: int) -> Target:
    script = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return Target(
        "Portkey, one model",
        lambda port: ["node", str(script), f"--port={port}", "--headless"],
        model="mistral:7b",
        ready="/",
        headers={
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
            "authorization": "Bearer none",
        },
    )


def targets(wish: argparse.Namespace, upstream: int, folder: Path) -> tuple[list[Target], list[str]]:
    """What is measured, and a note for each peer that is not here."""
    found = [floor(upstream), ours("openai", upstream, folder), ours("ollama", upstream, folder)]
    if wish.beside:
        found += [ours(kind, upstream, folder, wish.beside) for kind in ("openai", "ollama")]
    notes = []
    if wish.portkey and (wish.portkey / "node_modules").is_dir() and shutil.which("node"):
        found.append(portkey(wish.portkey.resolve(), upstream))
    else:
        notes.append(
            "Portkey is not here: npm install @portkey-ai/gateway in a folder, then --portkey FOLDER"
        )
    if wish.litellm and (wish.litellm / "bin" / "litellm").is_file():
        found += litellm(wish.litellm.resolve(), upstream, folder)
    else:
        notes.append("LiteLLM is not here: pip install 'litellm[proxy]' in a venv, then --litellm VENV")
    if wish.only:
        words = [word.strip().lower() for word in wish.only.split(",")]
        names = {"ours": "llm-router"}
        found = [t for t in found if any(names.get(word, word) in t.name.lower() for word in words)]
    return found, notes


# ----------------------------------------------------------------------------------------------------
# The floor


def serve_floor(port: int, upstream: int) -> None:  # noqa: C901 - one small program
    """The least a proxy in Python does: parse the body, replace the model, pass bytes on."""
    import httptools
    import msgspec
    import uvloop

    idle: list[Any] = []

    class Upstream(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.client, self.open = transport, None, True

        def ask(self, client: Any, body: bytes) -> None:
            self.client, self.parser = client, httptools.HttpResponseParser(self)
            self.transport.write(_request(body, {}))

        def data_received(self, data: bytes) -> None:
            self.client.transport.write(data)
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            idle.append(self)

        def connection_lost(self, exc: Exception | None) -> None:
            self.open = False
            if self.client is not None:
                self.client.transport.close()

    class Client(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.parser = transport, httptools.HttpRequestParser(self)
            self.parts: list[bytes] = []

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, data: bytes) -> None:
            self.parts.append(data)

        def on_message_complete(self) -> None:
            if not self.parts:
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                return
            fields = msgspec.json.decode(b"".join(self.parts))
            self.parts.clear()
            fields["model"] = "mistral:7b"
            body = msgspec.json.encode(fields)
            while idle:
                kept = idle.pop()
                if kept.open:
                    kept.ask(self, body)
                    return
            self.connecting = asyncio.ensure_future(self.connect(body))

        async def connect(self, body: bytes) -> None:
            _, made = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", upstream)
            made.ask(self, body)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    uvloop.run(main())


# ----------------------------------------------------------------------------------------------------
# Rounds


class Bench:
    def __init__(self, wish: argparse.Namespace, upstream: int, load: Load, folder: Path) -> None:
        self._wish = wish
        self._upstream = upstream
        self._load = load
        self._folder = folder
        self._alone = Target("the model server alone", lambda port: [], model="mistral:7b")

    def set(self, *, events: int, delay_us: int) -> None:
        if get(self._upstream, f"/set?events={events}&delay_us={delay_us}") != 200:
            raise Broken("the model server does not answer")

    def round(self, target: Target) -> dict[str, Any]:
        port = free_port()
        log = target.log or self._folder / f"{re.sub(r'[^a-z]+', '-', target.name.lower())}.log"
        with process(target.command(port), port, target.ready, environment=target.environment, log=log) as (
            running,
            ready_s,
        ):
            time.sleep(1.0)
            told: dict[str, Any] = {"ready_s": ready_s, "idle_mb": resident_mb(running.pid)}
            self._load.run(port, target, 8, 2)
            told |= self._singly(port, target)
            told |= self._together(port, target, running.pid)
            told["after_load_mb"] = resident_mb(running.pid)
            if target.slow_streams:
                self.set(events=SLOW_EVENTS, delay_us=int(SLOW_DELAY_S * 1e6))
                bodies = self._load.bodies(target.model, stream=True)
                told["slow"] = asyncio.run(_slow_streams(port, bodies, target.headers, running.pid))
        return told

    def _singly(self, port: int, target: Target) -> dict[str, Any]:
        seconds, told = self._wish.seconds, {}
        with awake():
            self.set(events=ANSWER_EVENTS, delay_us=0)
            told["alone_c1"] = self._load.run(self._upstream, self._alone, 1, 2)
            told["c1"] = self._load.run(port, target, 1, seconds)
            self.set(events=32, delay_us=2000)
            plain = self._load.bodies(self._alone.model, stream=True)
            wanted = self._load.bodies(target.model, stream=True)
            told["alone_stream"] = streams_one_by_one(self._upstream, plain[:20], {}, 32)
            told["stream"] = streams_one_by_one(port, wanted[: self._wish.streams], target.headers, 32)
        return told

    def _together(self, port: int, target: Target, pid: int) -> dict[str, Any]:
        self.set(events=ANSWER_EVENTS, delay_us=0)
        told: dict[str, Any] = {"alone_c32": self._load.run(self._upstream, self._alone, 32, 1)}
        before = cpu_s(pid)
        told["c32"] = self._load.run(port, target, 32, self._wish.seconds + 1)
        told["c32"]["cpu_ms"] = (cpu_s(pid) - before) / told["c32"]["requests"] * 1e3
        before = cpu_s(pid)
        told["events"] = self._load.run(port, target, 16, max(2, self._wish.seconds - 1), stream=True)
        events = told["events"]["requests"] * ANSWER_EVENTS
        told["events"]["events_per_s"] = events / told["events"]["seconds"]
        told["events"]["cpu_us_per_event"] = (cpu_s(pid) - before) / events * 1e6
        return told


FIGURES: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "added_p50_ms": lambda r: r["c1"]["p50_ms"] - r["alone_c1"]["p50_ms"],
    "added_p99_ms": lambda r: r["c1"]["p99_ms"] - r["alone_c1"]["p99_ms"],
    "requests_per_s": lambda r: r["c32"]["requests_per_s"],
    "cpu_ms_per_request": lambda r: r["c32"]["cpu_ms"],
    "c32_p50_ms": lambda r: r["c32"]["p50_ms"],
    "c32_p99_ms": lambda r: r["c32"]["p99_ms"],
    "first_added_p50_ms": lambda r: r["stream"]["first_p50_ms"] - r["alone_stream"]["first_p50_ms"],
    "event_added_p50_ms": lambda r: r["stream"]["event_p50_ms"] - r["alone_stream"]["event_p50_ms"],
    "event_added_p99_ms": lambda r: r["stream"]["event_p99_ms"] - r["alone_stream"]["event_p99_ms"],
    "events_per_s": lambda r: r["events"]["events_per_s"],
    "idle_mb": lambda r: r["idle_mb"],
    "after_load_mb": lambda r: r["after_load_mb"],
    "ready_s": lambda r: r["ready_s"],
    "slow_whole": lambda r: r["slow"]["whole"],
    "slow_before_mb": lambda r: r["slow"]["before_mb"],
    "slow_most_mb": lambda r: r["slow"]["most_mb"],
    "slow_after_mb": lambda r: r["slow"]["after_mb"],
    "alone_c1_p50_ms": lambda r: r["alone_c1"]["p50_ms"],
    "alone_requests_per_s": lambda r: r["alone_c32"]["requests_per_s"],
}


def medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Median, lowest and highest of each figure over the rounds."""
    told = {}
    for name, read in FIGURES.items():
        values = [read(one) for one in rounds if not name.startswith("slow") or "slow" in one]
        if values:
            told[name] = [round(v, 4) for v in (statistics.median(values), min(values), max(values))]
    return told


COLUMNS = (
    ("c1 p50", "added_p50_ms", "{:.2f}"),
    ("c1 p99", "added_p99_ms", "{:.2f}"),
    ("req/s c32", "requests_per_s", "{:,.0f}"),
    ("CPU ms", "cpu_ms_per_request", "{:.2f}"),
    ("first ms", "first_added_p50_ms", "{:.2f}"),
    ("event ms", "event_added_p50_ms", "{:.3f}"),
    ("events/s", "events_per_s", "{:,.0f}"),
    ("idle MB", "idle_mb", "{:.0f}"),
    ("ready s", "ready_s", "{:.2f}"),
)


def show(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    width = max(map(len, rows), default=10)
    print(" " * width + "".join(f"{head:>11}" for head, _, _ in COLUMNS))
    for name, row in rows.items():
        cells = [form.format(row[key][0]) if key in row else "-" for _, key, form in COLUMNS]
        print(f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
    for name, row in rows.items():
        if "slow_whole" in row:
            memory = " → ".join(f"{row[f'slow_{when}_mb'][0]:.0f}" for when in ("before", "most", "after"))
            print(f"{name}: {row['slow_whole'][1]:.0f} of {SLOW_STREAMS} slow streams whole, {memory} MB")


def build_upstream(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("error: the model server of this benchmark is written in C\nhint: install gcc")
    program = folder / "gateway_upstream"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "gateway_upstream.c"], check=True)
    return program


def arguments() -> argparse.Namespace:
    def folder_of(name: str) -> Path | None:
        return Path(os.environ[name]) if os.environ.get(name) else None

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement under load")
    parser.add_argument("--streams", type=int, default=60, help="that are timed one by one")
    parser.add_argument("--only", help="parts of names, with commas between: ours, floor, litellm, portkey")
    parser.add_argument("--litellm", type=Path, default=folder_of("BENCH_LITELLM"), help="its environment")
    parser.add_argument(
        "--portkey", type=Path, default=folder_of("BENCH_PORTKEY"), help="folder of node_modules"
    )
    parser.add_argument("--beside", type=Path, help="a checkout of another version of ours")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    parser.add_argument("--floor", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(wish: argparse.Namespace, folder: Path) -> dict[str, Any]:
    upstream = free_port()
    command = [str(build_upstream(folder)), str(upstream), *upstream_replies(fleet_tags())]
    texts = prompts()
    load = Load(folder, texts)
    found, notes = targets(wish, upstream, folder)
    rounds: dict[str, list[dict[str, Any]]] = {target.name: [] for target in found}
    broken: dict[str, str] = {}
    with ExitStack() as stack:
        stack.enter_context(
            process(command, upstream, "/health", environment={}, log=folder / "upstream.log")
        )
        bench = Bench(wish, upstream, load, folder)
        for number in range(wish.rounds):
            turn = number % max(1, len(found))
            for target in found[turn:] + found[:turn]:
                print(f"round {number + 1} of {wish.rounds}: {target.name}", file=sys.stderr)
                try:
                    rounds[target.name].append(bench.round(target))
                except (Broken, OSError, subprocess.SubprocessError) as error:
                    broken[target.name] = str(error)
                    print(f"  failed: {error}", file=sys.stderr)
    for note in notes:
        print(note, file=sys.stderr)
    return {
        "prompts": len(texts),
        "load": load.tool,
        "rows": {name: medians(some) for name, some in rounds.items() if some},
        "raw": rounds,
        "failed": broken,
        "notes": notes,
    }


def main() -> None:
    wish = arguments()
    if wish.floor:
        serve_floor(*wish.floor)
        return
    now, load_average = datetime.now(UTC), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as folder:
        told = measured(wish, Path(folder))
    show(told["rows"])
    about = {
        **raw_file.about("python benchmarks/gateway.py", now),
        "rounds": wish.rounds,
        "seconds": wish.seconds,
        "load_average_before": load_average,
    }
    raw_file.write(about | told, "gateway", now, wish.json, indent=1)


if __name__ == "__main__":
    main()
