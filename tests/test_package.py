"""Importing costs little and loads nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_router.compiled import ARITHMETIC

ROOT = Path(__file__).parent.parent

HEAVY = {
    "crewai",
    "numpy",
    "aiohttp",
    "xllamacpp",
    "rich",
    "pydantic",
    "uvicorn",
    "starlette",
}


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import llm_router",
        "from llm_router import load_fleet; load_fleet()",
        "from llm_router import Router, SyncRouter, RouteRequest, Settings",
        "import model_configs, router_flow",
    ],
)
def test_importing_loads_neither_crewai_nor_numpy_nor_a_server(code: str) -> None:
    assert not HEAVY & loaded_by(code)


@pytest.mark.skipif(not ARITHMETIC.is_compiled(), reason="this installation is in Python alone")
@pytest.mark.parametrize(
    "task", ["What's 2+2?", "Summarize teh followng mail in thre sentences", "서울의 날씨는 어때?"]
)
def test_what_is_compiled_decides_without_numpy(task: str) -> None:
    code = f"""
from llm_router.classify.encoder import Encoder
encoder = Encoder.load()
reading = encoder.read({task!r})
encoder.telling(reading, encoder.judge(reading).category)
"""
    assert "numpy" not in loaded_by(code)


def locked(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line and not line.startswith(" ")}


def test_only_the_tests_need_an_http_server_of_others() -> None:
    for name in ("core", "demo", "serve"):
        assert {"click", "httptools", "msgspec"} <= locked(name)
        assert "aiohttp" not in locked(name), name
    assert "aiohttp" in locked("dev")


@pytest.fixture
def without_aiohttp(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that has no such module."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['aiohttp'] = None\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def run(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=60)


def test_the_doubles_say_what_they_need(without_aiohttp: dict[str, str]) -> None:
    code = """
import llm_router, llm_router.cli.app, llm_router.gateway.serving
from llm_router.errors import MissingExtra
try:
    import llm_router.testing.fake_ollama
except MissingExtra as error:
    print(error, error.hint, sep="\\n")
"""
    done = run("-c", code, env=without_aiohttp)
    assert done.stdout.splitlines() == [
        "llm_router.testing needs the optional part [testing]: the module 'aiohttp' is not installed",
        "pip install 'crewai-llm-router[testing]'",
    ]


def test_the_fake_server_as_a_command_says_so_without_a_traceback(without_aiohttp: dict[str, str]) -> None:
    done = run("-m", "llm_router.testing.fake_ollama", env=without_aiohttp)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: llm_router.testing needs the optional part [testing]: the module 'aiohttp' is not installed",
        "hint: pip install 'crewai-llm-router[testing]'",
    ]


def test_every_public_name_exists() -> None:
    import llm_router

    assert all(getattr(llm_router, name) is not None for name in llm_router.__all__)
    with pytest.raises(AttributeError):
        _ = llm_router.nothing_of_that_name
