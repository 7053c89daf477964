"""Starts and stops the embedded engine's process."""

from __future__ import annotations

import importlib.util
import json
import secrets
import selectors
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from llm_router.errors import HostTimeout, MissingExtra, RunnerFailed

STOP_LIMIT_S = 3.0

_SCRIPT = Path(__file__).with_name("embedded_main.py")


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: the model file, the name it answers to, its context in tokens, threads.

    ``output_tokens`` ends answers for which the caller set no limit. ``chat_template`` is the name of one of
    llama.cpp's own, or empty for the one in the file.
    """

    weights: Path
    alias: str
    num_ctx: int
    output_tokens: int
    threads: int
    chat_template: str = ""


class EngineProcess:
    """llama.cpp's server in a process of its own, on a random loopback port that only ``key`` opens."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._process = process
        self._finalizer = weakref.finalize(self, _stop, process)

    def __repr__(self) -> str:
        return f"EngineProcess({self.url!r})"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends the process, by force if it does not go. May be called twice."""
        self._finalizer()


def start(order: Order, limit_s: float) -> EngineProcess:
    """Blocks until the model is loaded. Raises MissingExtra, RunnerFailed or HostTimeout."""
    key = secrets.token_urlsafe(24)
    command = [sys.executable, "-I", "-S", str(_SCRIPT)]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    # A session of its own: Ctrl-C in a terminal must not end the engine before the answer that is under way.
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, start_new_session=True)
    try:
        _give(process, order, key)
        url = _told_address(process, limit_s)
    except RunnerFailed as error:
        error.hint = f"if this goes on, remove {order.weights} and let it be fetched again"
        _kill(process)
        raise
    except BaseException:
        _kill(process)
        raise
    return EngineProcess(process, url, key)


def _give(process: subprocess.Popen[bytes], order: Order, key: str) -> None:
    line = {
        "import_from": engine_folder(),
        "weights": str(order.weights),
        "alias": order.alias,
        "num_ctx": order.num_ctx,
        "output_tokens": order.output_tokens,
        "chat_template": order.chat_template,
        "threads": order.threads,
        "key": key,
    }
    stdin = cast("IO[bytes]", process.stdin)
    try:
        stdin.write(json.dumps(line).encode() + b"\n")
        stdin.flush()
    except OSError as error:
        raise _failed("its process ended at once") from error


def engine_folder() -> str:
    """Where the engine's package lies. Raises MissingExtra where it is not installed."""
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise MissingExtra.needed("local", "the embedded engine", "xllamacpp")
    return str(Path(spec.origin).parent.parent)


def _told_address(process: subprocess.Popen[bytes], limit_s: float) -> str:
    stdout = cast("IO[bytes]", process.stdout)
    deadline_s = time.monotonic() + limit_s
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline_s - time.monotonic())):
            raise HostTimeout(
                "the embedded engine did not start",
                why=f"it was not ready after {limit_s:.3g} s",
                host="embedded",
            )
    line = stdout.readline()
    if not line:
        code = process.wait(STOP_LIMIT_S)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise _failed(f"its process ended while it loaded the model ({how})")
    said = json.loads(line)
    if "url" not in said:
        raise _failed(str(said.get("problem")))
    return str(said["url"])


def _failed(why: str) -> RunnerFailed:
    return RunnerFailed("the embedded engine did not start", why=why, host="embedded")


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                continue
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
