"""The gateway that the clients are pointed at: the one of the gateway's own tests."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.conftest import HERE, Here, Start, here, start

from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import Answer, FakeOllama, ToolCall

__all__ = ["here", "start"]


def _calls_the_tool_once(body: dict[str, Any]) -> Answer | None:
    if not body.get("tools") or any(message["role"] == "tool" for message in body["messages"]):
        return None
    return Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))


@pytest.fixture
async def weather(start: Start) -> Here:
    """A gateway whose models ask for the weather in Oslo where tools are offered, and then answer."""
    found = await start(fake=FakeOllama(fleet_models(HERE), reply=_calls_the_tool_once))
    assert isinstance(found, Here)
    return found
