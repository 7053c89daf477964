"""The packages `openai` and `ollama` for Node.js against the gateway: their own calls, unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clients.installed import CALLS, Ran, installed, node, ran
from tests.gateway.conftest import Here


async def told(package: str, url: str, cwd: Path) -> Any:
    """What the calls of `calls/PACKAGE.mjs` gave."""
    # A script finds its packages beside itself.
    (cwd / "node_modules").symlink_to(installed("node", "node_modules"))
    script = cwd / f"{package}.mjs"
    script.write_text((CALLS / script.name).read_text(encoding="utf-8"), encoding="utf-8")
    done: Ran = await ran(node(), script, url, cwd=cwd)
    assert done.tried_outside == ()
    return json.loads(done.out)


async def test_openai(weather: Here, tmp_path: Path) -> None:
    found = await told("openai", weather.url, tmp_path)
    chat = found["chat"]
    assert chat["choices"][0]["message"]["content"] == "mistral:7b heard: What's 2+2?"
    assert chat["header"] == chat["model"] == chat["router"]["model"] == "mistral:7b"
    assert chat["router"]["category"] == "simple_chat"

    deltas = [chunk["choices"][0]["delta"] for chunk in found["stream"] if chunk["choices"]]
    assert len(deltas) > 2
    assert "".join(delta.get("content") or "" for delta in deltas) == chat["choices"][0]["message"]["content"]
    assert found["stream"][-1]["usage"] == chat["usage"]

    for choice in (found["tools"], found["streamed_tools"]):
        (call,) = choice["message"]["tool_calls"]
        assert choice["finish_reason"] == "tool_calls"
        assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert found["after_tools"]["choices"][0]["message"]["content"].startswith("gpt-oss:20b heard")

    # The package asks for base64 and unpacks it again.
    first, second = (one["embedding"] for one in found["embeddings"]["data"])
    assert len(first) == len(second) > 100
    assert first != second
    assert found["embeddings"]["model"] == "nomic-embed-text"

    assert found["models"][:3] == ["auto", "auto-fast", "auto-best"]
    assert "mistral:7b" in found["models"]
    assert found["model"]["id"] == "auto"

    assert found["response"] == "mistral:7b heard: What's 2+2?"
    assert found["events"][0] == "response.created"
    assert found["events"].count("response.output_text.delta") > 2
    assert found["events"][-1] == "response.completed"

    assert (found["error"]["kind"], found["error"]["status"]) == ("NotFoundError", 404)
    assert "hint: " in found["error"]["message"]
    sent = weather.asked()
    assert {body["model"] for body in sent} == {"mistral:7b", "gpt-oss:20b"}
    assert sent[3]["messages"][-1]["content"] == "rain"


async def test_ollama(weather: Here, tmp_path: Path) -> None:
    found = await told("ollama", weather.url, tmp_path)
    assert found["version"]["version"]
    chat = found["chat"]
    assert chat["message"]["content"] == "mistral:7b heard: What's 2+2?"
    assert chat["model"] == chat["router"]["model"] == "mistral:7b"
    assert len(found["stream"]) > 2
    assert "".join(part["message"]["content"] for part in found["stream"]) == chat["message"]["content"]
    assert found["stream"][-1]["router"]["category"] == "simple_chat"
    (call,) = found["tools"]["message"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("get_weather", {"city": "Oslo"})

    assert found["generate"]["response"] == "mistral:7b heard: What's 2+2?"
    assert "".join(part["response"] for part in found["generated"]) == found["generate"]["response"]
    assert found["embed"]["model"] == "nomic-embed-text"
    first, second = found["embed"]["embeddings"]
    assert first != second

    assert found["list"][0] == "auto:latest"
    assert "mistral:7b" in found["list"]
    assert {"completion", "tools", "vision"} <= set(found["show"]["capabilities"])
    assert {"mistral:7b", "gpt-oss:20b"} <= set(found["ps"])
    assert (found["error"]["kind"], found["error"]["status"]) == ("ResponseError", 404)
    assert "hint: " in found["error"]["message"]
