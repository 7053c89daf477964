"""LiteLLM against the gateway, over both wires that it can be pointed with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.clients.installed import CALLS, installed, ran
from tests.gateway.conftest import Here


@pytest.mark.parametrize("wire", ["openai", "ollama_chat"])
async def test_litellm(weather: Here, tmp_path: Path, wire: str) -> None:
    python = installed("litellm", "bin", "python")
    done = await ran(python, "-W", "ignore", CALLS / "litellm_calls.py", wire, weather.url, cwd=tmp_path)
    assert done.tried_outside == ()
    found = json.loads(done.out)

    chat = found["chat"]
    assert chat["choices"][0]["message"]["content"] == "mistral:7b heard: What's 2+2?"
    assert chat["usage"]["total_tokens"] > 0
    if wire == "openai":
        assert chat["model"] == chat["router"]["model"] == "mistral:7b"
    else:
        assert chat["model"] == "ollama_chat/auto"

    deltas = [chunk["choices"][0]["delta"] for chunk in found["stream"] if chunk["choices"]]
    assert len(deltas) > 2
    assert "".join(delta["content"] or "" for delta in deltas) == chat["choices"][0]["message"]["content"]
    assert {chunk["model"] for chunk in found["stream"]} == {"auto"}

    (call,) = found["tools"]["message"]["tool_calls"]
    assert found["tools"]["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    after = found["after_tools"]["choices"][0]["message"]
    assert after["content"].startswith("gpt-oss:20b heard")
    assert after["reasoning_content"]

    first, second = (one["embedding"] for one in found["embedding"]["data"])
    assert len(first) == len(second) > 100
    assert first != second

    assert found["error"]["kind"] == "NotFoundError"
    assert "hint: " in found["error"]["message"]
    assert {body["model"] for body in weather.asked()} == {"mistral:7b", "gpt-oss:20b"}
    assert weather.asked()[-1]["messages"][-1]["content"] == "rain"
