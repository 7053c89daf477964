"""Continue's command against the gateway, with the settings of the page: an answer, and a written file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.clients.installed import Ran, installed, node, ran
from tests.clients.pages import ADDRESS, blocks
from tests.gateway.conftest import HERE, Here, Start

from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import Answer, FakeOllama, ToolCall

ITS_MAKERS = {"api.continue.dev", "app.posthog.com"}
"""What it looks up even with telemetry off; it works without an answer."""


async def cn(here: Here, folder: Path, *words: str, provider: str = "ollama") -> Ran:
    """Run it once, without questions."""
    ((_, code),) = blocks("yml", "Continue")
    address = here.url.removeprefix("http://")
    if provider == "openai":
        code = code.replace("provider: ollama", "provider: openai\n    apiKey: none")
        address += "/v1"
    settings = folder / "config.yaml"
    settings.write_text(code.replace(ADDRESS, address), encoding="utf-8")
    command = installed("node", "node_modules", "@continuedev", "cli", "dist", "cn.js")
    return await ran(node(), command, "-p", "--config", settings, *words, cwd=folder)


@pytest.mark.parametrize("provider", ["ollama", "openai"])
async def test_an_answer(here: Here, tmp_path: Path, provider: str) -> None:
    done = await cn(here, tmp_path, "What's 2+2?", provider=provider)
    assert done.out.strip() == "gpt-oss:20b heard: What's 2+2?"
    assert set(done.tried_outside) <= ITS_MAKERS
    (sent,) = here.asked()
    assert sent["model"] == "gpt-oss:20b"
    (record,) = await here.recorded()
    assert record["category"] == "agentic_tool_use"


async def test_a_file_is_written_by_a_tool(start: Start, tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        if any(message["role"] == "tool" for message in body["messages"]):
            return Answer("written")
        arguments = {"filepath": "hello.py", "content": "print('hello')\n"}
        return Answer(tool_calls=(ToolCall("Write", arguments),))

    here = await start(fake=FakeOllama(fleet_models(HERE), reply=reply))
    done = await cn(here, tmp_path, "--auto", "Write hello.py, which prints hello")
    assert done.out.strip() == "written"
    assert (tmp_path / "hello.py").read_text(encoding="utf-8") == "print('hello')\n"
    assert set(done.tried_outside) <= ITS_MAKERS
    first, last = here.asked()
    assert first["model"] == last["model"] == "gpt-oss:20b"
    assert "Write" in {tool["function"]["name"] for tool in first["tools"]}
    assert last["messages"][-1]["role"] == "tool"
