"""The documented lines in a process of their own: they run as written, say nothing else and call nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_router.testing.fake_ollama import FakeOllama

pytestmark = pytest.mark.crewai

SCRIPT = '''
import json, os, sys
from pathlib import Path

seen = {"switches": None, "called": []}


class Watch:
    """Notes the environment at the moment when CrewAI is first looked for."""

    def find_spec(self, name, path=None, target=None):
        if name == "crewai" and seen["switches"] is None:
            seen["switches"] = {k: v for k, v in os.environ.items() if k.startswith("CREWAI_")}
        return None


def heard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        seen["called"].append(str(address))


sys.meta_path.insert(0, Watch())
sys.addaudithook(heard)

from model_configs import MODELS, ROUTING_CATEGORIES, OLLAMA_BASE_URL, get_all_active_models
for name, config in get_all_active_models().items():
    print(f"{name}: {config['size_gb']} GB | {config['params']}")
assert "crewai" not in sys.modules

from router_flow import run_router
result = run_router("Analyze this sales chart and extract trends")
print(result['category'], result['selected_model'], result['result'], result.get('confidence', 'N/A'), result['routing_reasoning'])

from router_flow import DynamicModelFlow
flow = DynamicModelFlow()
result = flow.kickoff(task_description="Prove that √2 is irrational")
print(result['category'], result['selected_model'], result['model_params'], result['model_size_gb'], result['routing_reasoning'])

os.environ["OLLAMA_HOST"] = "127.0.0.1:9"
try:
    run_router("Nobody hears this")
except Exception as error:
    seen["error"] = type(error).__name__
Path("seen.json").write_text(json.dumps(seen))
'''  # noqa: E501 - the lines are the documented ones


@pytest.fixture
def run(ollama: FakeOllama, own_home: Path, tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], Any]:
    variables = {
        "OLLAMA_HOST": ollama.url,
        "LLM_ROUTER_ROUTING__STAND_IN": "never",
        "CREWAI_DISABLE_VERSION_CHECK": "false",
        "HOME": str(own_home),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={k: v for k, v in os.environ.items() if not k.startswith("CREWAI_")} | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done, json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))


def test_the_documented_lines_run_quietly_and_privately(
    run: tuple[subprocess.CompletedProcess[str], Any], ollama: FakeOllama, own_home: Path
) -> None:
    done, seen = run
    lines = done.stdout.splitlines()
    assert len(lines) == 19 + 2
    assert lines[0] == "llama3.2-vision:90b: 54 GB | 90B"
    assert lines[-2].startswith(
        "max_vision llama3.2-vision:90b llama3.2-vision:90b heard: Analyze this sales"
    )
    assert lines[-1].startswith(
        "max_reasoning deepseek-r1:70b 70B 42.0 max_reasoning, decided by the encoder"
    )
    assert done.stderr == ""
    assert seen["switches"] == {
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_TRACKING": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "CREWAI_DISABLE_VERSION_CHECK": "false",
    }
    assert seen["error"] == "NoModelAvailable"
    assert {address for address in seen["called"] if "127.0.0.1" not in address} == set()
    assert str(ollama.port) in "".join(seen["called"])
    for path in own_home.rglob("*"):
        assert not path.is_file() or b"irrational" not in path.read_bytes()


def test_the_users_own_switch_leaves_crewais_telemetry_alone() -> None:
    from llm_router.flow import switch_off_telemetry

    asked_for = {"LLM_ROUTER_CREWAI_TELEMETRY": "1"}
    switch_off_telemetry(asked_for)
    assert asked_for == {"LLM_ROUTER_CREWAI_TELEMETRY": "1"}
    usual: dict[str, str] = {"CREWAI_TRACING_ENABLED": "true"}
    switch_off_telemetry(usual)
    assert usual["CREWAI_DISABLE_TELEMETRY"] == "true"
    assert usual["CREWAI_TRACING_ENABLED"] == "true"
