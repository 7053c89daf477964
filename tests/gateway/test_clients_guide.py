"""docs/guides/clients.md: its code runs as written, each piece in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.gateway.conftest import Here

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "clients.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:11435"
PACKAGES = os.environ.get("LLM_ROUTER_TEST_NODE_MODULES", "")
"""A folder ``node_modules`` that has ``openai`` and ``ollama``."""


def blocks(language: str) -> list[tuple[str, str]]:
    """(heading, code) of every block of a language, but what needs no gateway."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        for code in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            if "RoutedLLM" not in code:
                found.append((heading, code))
    return found


async def said(here: Here, *command: str, **environment: str) -> str:
    """What a program says that is to find the gateway at the address of the page."""
    running = await asyncio.create_subprocess_exec(
        *(part.replace(ADDRESS, here.url.removeprefix("http://")) for part in command),
        env={**os.environ, "CREWAI_DISABLE_TELEMETRY": "true", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 0, err.decode()
    return out.decode()


PY = blocks("py")


@pytest.mark.parametrize("code", [code for _, code in PY], ids=[heading for heading, _ in PY])
async def test_the_code_for_python_runs(here: Here, code: str) -> None:
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.M):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    out = await said(here, sys.executable, "-W", "ignore", "-c", code)
    assert "mistral:7b" in out
    models = {body["model"] for body in here.asked()}
    assert models <= {"mistral:7b", "llama3.2:1b"}
    assert "auto" not in "".join(models)


async def test_the_code_for_node_runs(here: Here, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (Path(PACKAGES) / "ollama").is_dir() or not PACKAGES:
        pytest.skip("LLM_ROUTER_TEST_NODE_MODULES names no folder with openai and ollama, or node is missing")
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    ((_, code),) = blocks("js")
    script = tmp_path / "script.mjs"
    script.write_text(code.replace(ADDRESS, here.url.removeprefix("http://")), encoding="utf-8")
    out = await said(here, node, str(script))
    assert out.startswith("mistral:7b says:")
    assert out.count("heard: What's 2+2?") == 2


async def test_what_the_ollama_command_sends_to_run_a_model(here: Here) -> None:
    async with here.http.head(here.url + "/") as reply:
        assert reply.status == 200
    status, shown, _ = await here.post("/api/show", {"model": "auto"})
    assert (status, "completion" in shown["capabilities"]) == (200, True)
    status, loaded, _ = await here.post("/api/generate", {"model": "auto", "stream": True})
    assert (status, loaded["done"]) == (200, True)
    body = {"model": "auto", "messages": [{"role": "user", "content": "What's 2+2?"}], "options": {}}
    status, lines, _ = await here.post("/api/chat", body)
    assert status == 200
    assert lines.count("\n") > 2
    assert '"model":"mistral:7b"' in lines
    status, told, _ = await here.get("/api/tags")
    assert told["models"][0]["name"] == "auto:latest"


def test_every_client_that_is_named_as_tried_has_its_code_here() -> None:
    told = {heading for heading, _ in (*PY, *blocks("js"))}
    assert told >= {"OpenAI SDK", "Anthropic SDK", "`ollama` for Python", "LangChain", "LiteLLM", "CrewAI"}
    assert "Node.js" in told
