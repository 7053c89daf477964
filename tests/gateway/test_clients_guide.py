"""docs/guides/clients.md: its code runs as written, each piece in a process of its own."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.clients.installed import installed, node, ran
from tests.clients.pages import ADDRESS, blocks
from tests.gateway.conftest import Here

PY = [(heading, code) for heading, code in blocks("py") if "RoutedLLM" not in code]
"""What needs no gateway is tried elsewhere."""


@pytest.mark.parametrize("code", [code for _, code in PY], ids=[heading for heading, _ in PY])
async def test_the_code_for_python_runs(here: Here, tmp_path: Path, code: str) -> None:
    python: str | Path = sys.executable
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.M):
        if module == "litellm":
            python = installed("litellm", "bin", "python")
        elif find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    code = code.replace(ADDRESS, here.url.removeprefix("http://"))
    done = await ran(python, "-W", "ignore", "-c", code, cwd=tmp_path)
    assert "mistral:7b" in done.out
    assert done.tried_outside == ()
    models = {body["model"] for body in here.asked()}
    assert models <= {"mistral:7b", "llama3.2:1b"}
    assert "auto" not in "".join(models)


async def test_the_code_for_node_runs(here: Here, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(installed("node", "node_modules"))
    ((_, code),) = blocks("js")
    script = tmp_path / "script.mjs"
    script.write_text(code.replace(ADDRESS, here.url.removeprefix("http://")), encoding="utf-8")
    done = await ran(node(), script, cwd=tmp_path)
    assert done.out.startswith("mistral:7b says:")
    assert done.out.count("heard: What's 2+2?") == 2
    assert done.tried_outside == ()


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
