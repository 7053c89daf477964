"""A real Crew, with agents, tasks and tools of CrewAI's own, whose every call goes through the router."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from tests.flow.conftest import settings_for

from llm_router.flow import RoutedLLM
from llm_router.sync import SyncRouter
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_ollama import FLEET_NAMES, Answer, FakeOllama, ToolCall, fleet_models

pytestmark = [
    pytest.mark.crewai,
    # CrewAI's own, about fields that it reads itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

KOREAN = "한국의 전통 명절에 대해 설명해 줘"
WEATHER = "What is the weather in Oslo?"


class Report(BaseModel):
    city: str
    rain: bool


def reply(body: dict[str, Any]) -> Answer | str | None:
    """Calls the tool that it is offered once; gives a report where one is wanted."""
    if body.get("tools") and not any(message["role"] == "tool" for message in body["messages"]):
        return Answer(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
    return '{"city": "Oslo", "rain": true}' if isinstance(body.get("format"), dict) else None


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    models = fleet_models(name for name in FLEET_NAMES if name != "deepseek-v3")
    with FakeOllama(models, version="0.24.0", reply=reply).in_thread() as server:
        yield server


@pytest.fixture
def routing(server: FakeOllama) -> Iterator[SyncRouter]:
    with SyncRouter(settings=settings_for(server.url)) as router:
        yield router


def agent(llm: RoutedLLM, role: str = "Writer", **more: Any) -> Any:
    from crewai import Agent

    return Agent(role=role, goal="Do the work well", backstory="You are thorough.", llm=llm, **more)


def task(description: str, agent: Any, **more: Any) -> Any:
    from crewai import Task

    return Task(description=description, expected_output="a short answer", agent=agent, **more)


def crew(*tasks: Any, **more: Any) -> Any:
    from crewai import Crew

    return Crew(agents=list(dict.fromkeys(t.agent for t in tasks)), tasks=list(tasks), **more)


def weather_tool(cities: list[str]) -> Any:
    from crewai.tools import tool

    @tool("get_weather")
    def get_weather(city: str) -> str:
        """The weather in a city."""
        cities.append(city)
        return f"rain in {city}"

    return get_weather


def asked(server: FakeOllama) -> list[dict[str, Any]]:
    return [request.body for request in server.requests if request.path == "/api/chat"]


def test_each_task_of_a_crew_is_answered_by_the_model_that_suits_it(
    routing: SyncRouter, server: FakeOllama
) -> None:
    cities: list[str] = []
    writer = agent(RoutedLLM(router=routing))
    reporter = agent(RoutedLLM(router=routing), "Reporter", tools=[weather_tool(cities)])
    result = crew(task(KOREAN, writer), task(WEATHER, reporter)).kickoff()
    first, *second = asked(server)
    assert first["model"] == "solar"
    assert [body["model"] for body in second] == ["gpt-oss:20b"] * 2
    assert cities == ["Oslo"]
    assert second[0]["tools"][0]["function"]["name"] == "get_weather"
    assert [message["role"] for message in second[1]["messages"]][-2:] == ["assistant", "tool"]
    assert second[1]["messages"][-1]["content"] == "rain in Oslo"
    assert result.tasks_output[0].raw.startswith("solar heard")
    assert result.raw.startswith("gpt-oss:20b heard")
    assert result.token_usage.successful_requests == 3
    assert writer.llm.last_decision.category == "korean_multilingual"
    assert reporter.llm.last_decision.category == "agentic_tool_use"


async def test_a_crew_in_an_event_loop_does_the_same(routing: SyncRouter, server: FakeOllama) -> None:
    cities: list[str] = []
    llm = RoutedLLM(router=routing)
    work = crew(task(KOREAN, agent(llm)), task(WEATHER, agent(llm, "Reporter", tools=[weather_tool(cities)])))
    result = await work.akickoff()
    assert [body["model"] for body in asked(server)] == ["solar", "gpt-oss:20b", "gpt-oss:20b"]
    assert cities == ["Oslo"]
    assert result.raw.startswith("gpt-oss:20b heard")


def test_where_no_model_calls_tools_crewai_describes_them_in_the_prompt() -> None:
    cities: list[str] = []

    def by_text(body: dict[str, Any]) -> str:
        heard = body["messages"][-1]["content"] + body["messages"][0]["content"]
        if cities:
            return "Thought: I now know the final answer\nFinal Answer: rain"
        assert "get_weather" in heard
        return 'Thought: I look\nAction: get_weather\nAction Input: {"city": "Oslo"}'

    with (
        FakeOllama(fleet_models(["gemma2:9b"]), reply=by_text).in_thread() as server,
        SyncRouter(settings=settings_for(server.url)) as router,
    ):
        reporter = agent(RoutedLLM(router=router), tools=[weather_tool(cities)])
        result = crew(task("Tell me about the weather in Oslo", reporter)).kickoff()
        assert all("tools" not in body or not body["tools"] for body in asked(server))
    assert cities == ["Oslo"]
    assert result.raw == "rain"


def test_a_task_with_a_form_gives_an_instance(routing: SyncRouter, server: FakeOllama) -> None:
    result = crew(task(WEATHER, agent(RoutedLLM(router=routing)), output_pydantic=Report)).kickoff()
    assert result.pydantic == Report(city="Oslo", rain=True)
    assert any(isinstance(body.get("format"), dict) for body in asked(server))


def test_a_model_that_fails_is_followed_by_the_next_within_the_task(
    routing: SyncRouter, server: FakeOllama
) -> None:
    server.fault(Fault.RUNNER_DIED, model="solar")
    writer = agent(RoutedLLM(router=routing))
    result = crew(task(KOREAN, writer)).kickoff()
    first, *others = [body["model"] for body in asked(server)]
    assert first == "solar"
    assert others[-1] != "solar"
    assert result.raw.startswith(f"{others[-1]} heard")


def test_a_crew_streams_what_the_models_say(routing: SyncRouter) -> None:
    streaming = crew(task(KOREAN, agent(RoutedLLM(router=routing, stream=True))), stream=True).kickoff()
    chunks = [chunk.content for chunk in streaming]
    assert len(chunks) > 1
    assert "".join(chunks).startswith("solar heard")
    assert streaming.result.raw.strip() == "".join(chunks).strip()


def test_copies_of_a_crew_ask_the_same_router(routing: SyncRouter, server: FakeOllama) -> None:
    results = crew(task("Explain {what}", agent(RoutedLLM(router=routing)))).kickoff_for_each(
        inputs=[{"what": "rain"}, {"what": "snow"}]
    )
    assert [("rain" in r.raw, "snow" in r.raw) for r in results] == [(True, False), (False, True)]
    assert len(asked(server)) == 2
