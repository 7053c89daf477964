"""A fleet behind a fake Ollama, the command inside this process, and the command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from llm_router.cli.app import app
from llm_router.testing.fake_ollama import FLEET_NAMES, FakeOllama, fleet_models

JSON_TASK = "Generate JSON schema for user profile with name, email, age"
LIMIT_S = 60.0

COLUMNS = "100"
"""Width of everything that is printed in these tests, whatever terminal they run in."""

_OF_THE_TERMINAL = ("LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM")

Invoke = Callable[..., Result]


class Spawn(Protocol):
    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: int = ...,
        stdout: int = ...,
        stderr: int = ...,
    ) -> subprocess.Popen[bytes]: ...


class Finish(Protocol):
    def __call__(
        self, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


@pytest.fixture(autouse=True)
def same_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One width and no wish for colour: a worker of pytest-xdist has another terminal than a shell."""
    for name in _OF_THE_TERMINAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", COLUMNS)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def invoke() -> Invoke:
    """Runs ``llm-router`` with these arguments inside this process."""

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return run


@pytest.fixture
def fleet_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    """A host with every model of the fleet; OLLAMA_HOST names it and nothing stands in for it."""
    with FakeOllama(fleet_models(FLEET_NAMES)).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
        yield running


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nothing listens, named by OLLAMA_HOST; nothing stands in for it."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    return "http://127.0.0.1:9"


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts ``llm-router`` as a process; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "llm_router", *arguments]
        process = subprocess.Popen(
            command, env=os.environ | dict(env or {}), stdin=stdin, stdout=stdout, stderr=stderr
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()


@pytest.fixture
def finish(spawn: Spawn) -> Finish:
    """Runs ``llm-router`` as a process to its end."""

    def run(
        *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        process = spawn(*arguments, env=env, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=LIMIT_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
