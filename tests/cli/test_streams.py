"""Closed streams and terminals with few characters end a command as plainly as any other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llm_router.cli.progress import Elapsed

ROUTE = [sys.executable, "-m", "llm_router", "route"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_lacks_a_character_still_gets_the_decision(encoding: str) -> None:
    env = os.environ | {"PYTHONIOENCODING": encoding, "OLLAMA_HOST": "127.0.0.1:9"}
    done = subprocess.run([*ROUTE, "hello"], capture_output=True, env=env, timeout=60, check=False)
    assert b"internal" not in done.stderr
    assert b"simple_chat" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_internal_error(closed: str) -> None:
    env = os.environ | {"OLLAMA_HOST": "127.0.0.1:9"}
    script = f'exec "$0" -m llm_router route - {closed}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable],
        capture_output=True,
        input=b"hi",
        env=env,
        timeout=60,
        check=False,
    )
    assert b"internal" not in done.stderr
    assert done.returncode in (0, 2, 3)


def test_a_moving_line_counts_the_seconds() -> None:
    now_s = 100.0
    line = Elapsed("loading [phi4]\x1b", "≈ 19 s expected", clock_s=lambda: now_s)
    assert line.__rich__().plain == "loading [phi4] (≈ 19 s expected)"
    now_s = 112.9
    assert line.__rich__().plain == "loading [phi4], 12 s (≈ 19 s expected)"
