"""Where `make test-clients` put the clients, and how they are run: on loopback alone."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

CALLS = Path(__file__).parent / "calls"
LOOPBACK = Path(__file__).parent / "loopback"
CLIENTS = os.environ.get("LLM_ROUTER_TEST_CLIENTS", "")
"""A folder with `litellm` and `aider`, environments for Python, and `node/node_modules`."""

QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "CONTINUE_TELEMETRY_ENABLED": "0",
    "CONTINUE_METRICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program wrote to its outputs, and the hosts beyond loopback that it was kept from."""

    out: str
    err: str
    tried_outside: tuple[str, ...]


def installed(*parts: str) -> Path:
    """The path of a client; skips the test where it was not installed."""
    if not CLIENTS:
        pytest.skip("LLM_ROUTER_TEST_CLIENTS names no folder with clients: make test-clients")
    path = Path(CLIENTS).absolute().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"LLM_ROUTER_TEST_CLIENTS names a folder without {'/'.join(parts)}: make test-clients")
    return path


def node() -> str:
    """The command of Node.js; skips the test where there is none."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    return found


async def ran(*command: str | Path, cwd: Path, **environment: str) -> Ran:
    """Run a program in a folder to its end.

    Raises:
        AssertionError: when it fails, with what it said.
        TimeoutError: when it is still running after two minutes; it is ended then.
    """
    guards = {"PYTHONPATH": str(LOOPBACK), "NODE_OPTIONS": f'--require "{LOOPBACK / "guard.cjs"}"'}
    with NamedTemporaryFile(mode="r", encoding="utf-8") as told:
        environment = {**os.environ, **QUIET, **guards, "TRIED_OUTSIDE": told.name, **environment}
        out, err = await _outputs(command, cwd, environment)
        return Ran(out, err, tuple(sorted(set(told.read().split()))))


async def _outputs(
    command: tuple[str | Path, ...], cwd: Path, environment: dict[str, str]
) -> tuple[str, str]:
    running = await asyncio.create_subprocess_exec(
        *(str(part) for part in command),
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(running.communicate(), 120)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 0, err.decode() + out.decode()
    return out.decode(), err.decode()
