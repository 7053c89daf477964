"""The CrewAI Flow: one call to the Router per step, and none of the traps of a shared Flow."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.flow.conftest import MEDIUM_TEXT, NOBODY, settings_for

from llm_router.errors import AllAttemptsFailed, InvalidRequest, NoModelAvailable, UnknownModel
from llm_router.flow import DynamicModelFlow
from llm_router.request import ApiKind, RouteRequest
from llm_router.sync import SyncRouter
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_ollama import FakeOllama

pytestmark = pytest.mark.crewai

TASK = "What's 2+2?"
KOREAN = "한국의 전통 명절에 대해 설명해 줘"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PROMISED = {
    *("task_description", "category", "selected_model", "answer_model", "model_params", "model_size_gb"),
    *("confidence", "routing_reasoning", "reasons", "result", "attempts", "fallback", "rejected", "stage"),
}


def answered(server: FakeOllama) -> list[str]:
    return [request.body["model"] for request in server.requests if request.path == "/api/chat"]


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """A decision without what differs between two runs of the same request: its id and its times."""
    names = (
        "category selected_model answer_model answer_host confidence stage model_params model_size_gb "
        "routing_reasoning reasons probabilities planned rejected num_ctx saves request_tokens fallback"
    )
    return {name: result[name] for name in names.split()}


def test_the_result_tells_what_was_decided_and_what_was_answered(flow: DynamicModelFlow) -> None:
    result = flow.kickoff(task_description=KOREAN)
    assert set(result) >= PROMISED
    assert result["category"] == "korean_multilingual"
    assert result["selected_model"] == result["answer_model"] == "solar"
    assert result["model_size_gb"] == 6.1
    assert result["result"] == f"solar heard: {KOREAN}"
    assert result["task_description"] == KOREAN
    assert [attempt["ok"] for attempt in result["attempts"]] == [True]


def test_a_kickoff_classifies_once_and_asks_one_model(flow: DynamicModelFlow, ollama: FakeOllama) -> None:
    flow.kickoff(task_description=KOREAN)
    assert answered(ollama) == ["solar"]


def test_crewais_own_way_to_pass_inputs_gives_the_same_result(flow: DynamicModelFlow) -> None:
    by_name = flow.kickoff(task_description=KOREAN)
    by_inputs = flow.kickoff(inputs={"task_description": KOREAN, "id": "run-7"})
    assert comparable(by_name).keys() == comparable(by_inputs).keys()
    assert by_name["result"] == by_inputs["result"]
    assert flow.state.id == "run-7"


async def test_both_asynchronous_kickoffs_take_the_task_by_name(flow: DynamicModelFlow) -> None:
    first = await flow.kickoff_async(task_description=KOREAN)
    second = await flow.akickoff(task_description=KOREAN)
    third = await flow.akickoff({"task_description": KOREAN})
    assert first["result"] == second["result"] == third["result"]


def test_images_tools_and_messages_reach_the_classification_and_the_model(
    flow: DynamicModelFlow, ollama: FakeOllama
) -> None:
    tools = flow.kickoff(task_description="Is it sunny?", tools=[TOOL])
    assert (tools["category"], tools["stage"]) == ("agentic_tool_use", "rules")
    picture = flow.kickoff(task_description="What is this?", images=[f"data:image/png;base64,{PNG}"])
    assert picture["category"] in ("max_vision", "fast_vision", "hybrid_reasoner")
    earlier = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "안녕하세요"}]
    chat = flow.kickoff(task_description=KOREAN, messages=earlier, session_id="s1")
    assert chat["category"] == "korean_multilingual"
    bodies = [request.body for request in ollama.requests if request.path == "/api/chat"]
    assert bodies[0]["tools"][0]["function"]["name"] == "weather"
    assert bodies[1]["messages"][-1]["images"] == [PNG]
    assert [message["content"] for message in bodies[2]["messages"]] == ["안녕", "안녕하세요", KOREAN]


def test_a_model_asked_for_by_name_answers(flow: DynamicModelFlow) -> None:
    assert flow.kickoff(task_description=TASK, model="phi4")["answer_model"] == "phi4"
    with pytest.raises(UnknownModel, match="phi5"):
        flow.kickoff(task_description=TASK, model="phi5")


def test_an_embedding_request_gets_a_vector(flow: DynamicModelFlow) -> None:
    request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a text",))
    result = flow.kickoff(request=request)
    assert result["category"] == "embeddings"
    assert result["result"].startswith("[")


@pytest.mark.parametrize(
    "inputs",
    [{"task_descripton": TASK}, {"prompt": TASK}, {}, {"task_description": 4}, {"images": ["no.png"]}],
)
def test_inputs_that_cannot_be_meant_are_refused_before_anything_runs(
    flow: DynamicModelFlow, ollama: FakeOllama, inputs: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        flow.kickoff(inputs)
    assert answered(ollama) == []


def test_a_misspelt_input_is_told_with_the_one_that_was_meant(flow: DynamicModelFlow) -> None:
    with pytest.raises(InvalidRequest) as caught:
        flow.kickoff({"task_descripton": TASK})
    assert caught.value.hint == "did you mean 'task_description'?"


async def test_concurrent_kickoffs_of_one_instance_do_not_mix_their_results(flow: DynamicModelFlow) -> None:
    tasks = [f"Task number {number}" for number in range(8)]
    results = await asyncio.gather(*(flow.kickoff_async(task_description=task) for task in tasks))
    assert [result["task_description"] for result in results] == tasks
    assert all(
        result["result"].endswith(f"heard: {task}") for result, task in zip(results, tasks, strict=True)
    )


def test_kickoffs_of_one_instance_from_several_threads_do_not_mix_either(flow: DynamicModelFlow) -> None:
    tasks = [f"Task number {number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda task: flow.kickoff(task_description=task), tasks))
    assert [result["task_description"] for result in results] == tasks


async def test_a_blocking_kickoff_works_inside_a_running_loop(flow: DynamicModelFlow) -> None:
    assert flow.kickoff(task_description=KOREAN)["answer_model"] == "solar"


async def test_an_asynchronous_kickoff_leaves_the_loop_free(
    flow: DynamicModelFlow, ollama: FakeOllama
) -> None:
    ollama.fault(Fault.SLOW_TOKENS)
    running = asyncio.create_task(flow.kickoff_async(task_description=KOREAN))
    await ollama.until(lambda server: answered(server) == ["solar"])
    assert not running.done()
    ollama.release()
    assert (await running)["answer_model"] == "solar"


async def test_cancelling_a_kickoff_cancels_the_generation(
    flow: DynamicModelFlow, ollama: FakeOllama
) -> None:
    ollama.fault(Fault.SLOW_TOKENS)
    running = asyncio.create_task(flow.kickoff_async(task_description=KOREAN))
    await ollama.until(lambda server: answered(server) == ["solar"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await ollama.until(lambda server: server.cancelled == 1)


@pytest.mark.parametrize(
    "request_",
    [RouteRequest.from_text(KOREAN), RouteRequest.from_text(TASK), RouteRequest.from_text(MEDIUM_TEXT)],
)
def test_the_flow_decides_as_the_router_does(
    router: SyncRouter, flow: DynamicModelFlow, request_: RouteRequest
) -> None:
    decision = router.decide(request_).as_json()
    result = flow.kickoff(request=request_)
    assert comparable(result) == comparable(decision)


def test_the_answer_carries_the_decision_that_was_made_first(router: SyncRouter) -> None:
    seen: list[str] = []

    class Watched(DynamicModelFlow):
        def route_by_category(self) -> str:
            assert self._decision is not None
            seen.append(self._decision.decision_id)
            return super().route_by_category()

    assert [Watched(router).kickoff(task_description=KOREAN)["decision_id"]] == seen


def test_the_state_is_that_of_the_run_that_ended_last(flow: DynamicModelFlow) -> None:
    assert flow.state.category == ""
    flow.kickoff(task_description=KOREAN)
    assert flow.state.category == "korean_multilingual"
    assert flow.state.task_description == KOREAN


def test_without_any_host_the_routers_error_comes_out_as_it_is() -> None:
    with SyncRouter(settings=settings_for(NOBODY)) as router, pytest.raises(NoModelAvailable) as caught:
        DynamicModelFlow(router).kickoff(task_description=KOREAN)
    assert "solar" in {rejection.model for rejection in caught.value.rejected}
    assert "OLLAMA_HOST" in (caught.value.hint or "")


def test_a_fleet_that_fails_everywhere_raises_every_attempt(
    flow: DynamicModelFlow, ollama: FakeOllama
) -> None:
    ollama.fault(Fault.RUNNER_DIED)
    with pytest.raises(AllAttemptsFailed) as caught:
        flow.kickoff(task_description=KOREAN)
    assert len(caught.value.attempts) >= 2


def test_a_failed_attempt_falls_back_inside_the_same_kickoff(
    flow: DynamicModelFlow, ollama: FakeOllama
) -> None:
    ollama.fault(Fault.RUNNER_DIED, model="solar")
    result = flow.kickoff(task_description=KOREAN)
    assert result["selected_model"] == "solar"
    assert result["answer_model"] != "solar"
    assert [attempt["ok"] for attempt in result["attempts"]] == [False, True]


def test_no_memory_is_made_and_a_wrong_option_is_refused(router: SyncRouter, flow: DynamicModelFlow) -> None:
    assert flow.memory is None
    with pytest.raises(InvalidRequest, match="no option 'traceing'"):
        DynamicModelFlow(router, traceing=True)


def test_what_this_flow_cannot_resume_from_is_refused(flow: DynamicModelFlow) -> None:
    with pytest.raises(InvalidRequest, match="restore_from_state_id"):
        flow.kickoff({"task_description": TASK}, restore_from_state_id="x")


def test_crewais_event_stream_ends_with_the_result(flow: DynamicModelFlow) -> None:
    session = flow.stream_events({"task_description": KOREAN})
    for _ in session:
        pass
    assert session.result["answer_model"] == "solar"
