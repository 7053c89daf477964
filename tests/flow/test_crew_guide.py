"""The crew of docs/guides/clients.md in a process of its own: it runs as written and calls nobody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_router.testing.fake_ollama import FLEET_NAMES, Answer, FakeOllama, ToolCall, fleet_models

pytestmark = pytest.mark.crewai

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "clients.md").read_text(encoding="utf-8")

WATCHED = """
import json, sys
from pathlib import Path

called = []


def heard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        called.append(str(arguments[1] if event == "socket.connect" else arguments[0]))


sys.addaudithook(heard)
CODE
Path("called.json").write_text(json.dumps(called))
"""


def reply(body: dict[str, Any]) -> Answer | None:
    if body.get("tools") and not any(message["role"] == "tool" for message in body["messages"]):
        return Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
    return None


def test_the_crew_of_the_guide_runs_and_calls_nobody_but_the_fleet(own_home: Path, tmp_path: Path) -> None:
    (code,) = (block for block in re.findall(r"^```py\n(.*?)^```", PAGE, re.M | re.S) if "RoutedLLM" in block)
    variables = {"LLM_ROUTER_ROUTING__STAND_IN": "never", "HOME": str(own_home)}
    models = fleet_models(name for name in FLEET_NAMES if name != "deepseek-v3")
    with FakeOllama(models, version="0.24.0", reply=reply).in_thread() as server:
        done = subprocess.run(
            [sys.executable, "-c", WATCHED.replace("CODE", code)],
            env={k: v for k, v in os.environ.items() if not k.startswith("CREWAI_")}
            | {"OLLAMA_HOST": server.url, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    called = json.loads((tmp_path / "called.json").read_text(encoding="utf-8"))
    assert {address for address in called if "127.0.0.1" not in address} == set()
    assert str(server.port) in "".join(called)
    lines = done.stdout.splitlines()
    assert lines[-2] == "Writer → korean_multilingual → solar"
    assert lines[-1] == "Reporter → agentic_tool_use → gpt-oss:20b"
    assert any(line.startswith("gpt-oss:20b heard") for line in lines)
