"""RoutedLLM as CrewAI calls it: each call is decided by itself, and CrewAI's events tell of it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from tests.flow.conftest import NOBODY, settings_for

from llm_router.errors import (
    AllAttemptsFailed,
    BadReply,
    InvalidRequest,
    LLMRouterError,
    NoModelAvailable,
    UnknownCategory,
    UnknownModel,
)
from llm_router.flow import RoutedLLM
from llm_router.sync import SyncRouter
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_ollama import FLEET_NAMES, Answer, FakeOllama, ToolCall, fleet_models

pytestmark = pytest.mark.crewai

KOREAN = "한국의 전통 명절에 대해 설명해 줘"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALLED = Answer(content="Let me see.", tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def llm(router: SyncRouter) -> RoutedLLM:
    return RoutedLLM(router=router)


@pytest.fixture
def replying() -> Iterator[Any]:
    """A RoutedLLM over a server with these models that answers so."""
    opened: list[Any] = []

    def start(*answers: Any, models: Any = FLEET_NAMES, model: str = "auto", **given: Any) -> Any:
        waiting = list(answers)

        def reply(_: dict[str, Any]) -> Any:
            return waiting.pop(0) if waiting else None

        found = fleet_models(name for name in models if name != "deepseek-v3")
        server = FakeOllama(found, version="0.24.0", reply=reply)
        running = server.in_thread()
        running.__enter__()
        router = SyncRouter(settings=settings_for(server.url))
        opened.append((router, running))
        llm = RoutedLLM(model, router=router, **given)
        return llm, server

    yield start
    for router, running in opened:
        router.close()
        running.__exit__(None, None, None)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """Everything that CrewAI is told of calls and tools, in order."""
    from crewai.events.event_bus import crewai_event_bus
    from crewai.events.types import llm_events, tool_usage_events

    heard: list[Any] = []
    kinds = (
        *(llm_events.LLMCallStartedEvent, llm_events.LLMCallCompletedEvent, llm_events.LLMCallFailedEvent),
        *(llm_events.LLMStreamChunkEvent, llm_events.LLMThinkingChunkEvent),
        *(tool_usage_events.ToolUsageStartedEvent, tool_usage_events.ToolUsageFinishedEvent),
    )
    with crewai_event_bus.scoped_handlers():
        for kind in kinds:

            def hear(source: Any, event: Any) -> None:
                heard.append(event)

            crewai_event_bus.on(kind)(hear)
        yield heard


def told(events: list[Any]) -> list[str]:
    """The kinds of events, once everybody has heard them, in the order in which they were given out."""
    from crewai.events.event_bus import crewai_event_bus

    crewai_event_bus.flush()
    events.sort(key=lambda event: event.emission_sequence)
    return [event.type for event in events]


def asked(server: FakeOllama) -> list[dict[str, Any]]:
    return [request.body for request in server.requests if request.path == "/api/chat"]


class TestACall:
    def test_each_call_goes_to_the_model_that_suits_it(self, llm: RoutedLLM, ollama: FakeOllama) -> None:
        assert llm.last_decision is None
        assert llm.call(KOREAN) == f"solar heard: {KOREAN}"
        assert llm.last_decision is not None
        assert llm.last_decision.category == "korean_multilingual"
        assert llm.call("What's 2+2?").startswith("mistral:7b heard")
        assert llm.last_decision.category == "simple_chat"
        assert llm.last_answer is not None
        assert llm.last_answer.decision is llm.last_decision
        assert [body["model"] for body in asked(ollama)] == ["solar", "mistral:7b"]

    async def test_acall_leaves_the_loop_free(self, llm: RoutedLLM, ollama: FakeOllama) -> None:
        ollama.fault(Fault.SLOW_TOKENS)
        running = asyncio.create_task(llm.acall(KOREAN))
        await ollama.until(lambda server: len(asked(server)) == 1)
        assert not running.done()
        ollama.release()
        assert await running == f"solar heard: {KOREAN}"

    async def test_cancelling_acall_cancels_the_generation(self, llm: RoutedLLM, ollama: FakeOllama) -> None:
        ollama.fault(Fault.SLOW_TOKENS)
        running = asyncio.create_task(llm.acall(KOREAN))
        await ollama.until(lambda server: len(asked(server)) == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await ollama.until(lambda server: server.cancelled == 1)

    async def test_many_at_once_do_not_mix_their_answers(self, llm: RoutedLLM) -> None:
        tasks = [f"Task number {number}" for number in range(8)]
        answers = await asyncio.gather(*(llm.acall(task) for task in tasks))
        assert [answer.partition("heard: ")[2] for answer in answers] == tasks

    async def test_call_works_inside_a_running_loop(self, llm: RoutedLLM) -> None:
        assert llm.call(KOREAN) == f"solar heard: {KOREAN}"

    def test_settings_reach_the_model_under_its_own_names(
        self, router: SyncRouter, ollama: FakeOllama
    ) -> None:
        llm = RoutedLLM(
            "phi4",
            router=router,
            temperature=0.1,
            top_p=0.5,
            max_tokens=9,
            seed=7,
            frequency_penalty=0.3,
            presence_penalty=0.2,
            stop=["END"],
            options={"top_k": 3},
        )
        llm.call("Say something")
        expected = {
            "temperature": 0.1,
            "top_p": 0.5,
            "num_predict": 9,
            "seed": 7,
            "frequency_penalty": 0.3,
            "presence_penalty": 0.2,
            "stop": ["END"],
            "top_k": 3,
        }
        options = asked(ollama)[0]["options"]
        assert {name: options[name] for name in expected} == expected
        assert options["num_ctx"] > 0

    def test_it_ends_before_a_stop_word_even_where_the_server_did_not(self, replying: Any) -> None:
        llm, _ = replying("one\nObservation: two", stop=["\nObservation:"])
        assert llm.call("Count") == "one"

    def test_crewais_stop_words_of_one_call_reach_the_model(self, llm: RoutedLLM, ollama: FakeOllama) -> None:
        from crewai.llms.base_llm import call_stop_override

        with call_stop_override(llm, ["\nObservation:"]):
            llm.call("Count")
        llm.call("Count")
        assert [body["options"].get("stop") for body in asked(ollama)] == [["\nObservation:"], None]

    @pytest.mark.parametrize("name", ["auto:structured_data", "auto-fast", "phi4"])
    def test_virtual_names_and_real_ones_are_understood(self, router: SyncRouter, name: str) -> None:
        llm = RoutedLLM(name, router=router)
        llm.call("Tell me something")
        assert llm.last_decision is not None
        assert llm.last_answer is not None
        if name == "phi4":
            assert llm.last_answer.model == "phi4"
        if ":" in name:
            assert llm.last_decision.category == "structured_data"

    def test_usage_is_counted_as_crewai_counts_it(self, llm: RoutedLLM) -> None:
        llm.call(KOREAN)
        llm.call(KOREAN)
        usage = llm.get_token_usage_summary()
        assert usage.successful_requests == 2
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert usage.prompt_tokens > 0 < usage.completion_tokens

    def test_copies_go_on_with_the_same_router_and_count_for_themselves(self, llm: RoutedLLM) -> None:
        other = copy.deepcopy(llm)
        other.stop.append("END")
        assert other.call(KOREAN) == f"solar heard: {KOREAN}"
        assert llm.stop == []
        assert llm.last_decision is None
        assert llm.get_token_usage_summary().successful_requests == 0

    def test_what_crewai_would_store_never_becomes_a_client_of_a_service(self, llm: RoutedLLM) -> None:
        from crewai import Agent

        with pytest.raises(ValueError, match="Unknown llm_type"):
            Agent(role="r", goal="g", backstory="b", llm=llm.to_config_dict())


class TestTheTask:
    @pytest.fixture
    def task(self) -> Any:
        from crewai import Task

        return Task(description=KOREAN, expected_output="a paragraph")

    def test_its_own_words_tell_what_kind_it_is_and_not_those_around_them(
        self, llm: RoutedLLM, task: Any
    ) -> None:
        around = "Current Task: {}\n\nThis is the expected criteria for your final answer: " + "a text " * 30
        messages: Any = [{"role": "user", "content": around.format(KOREAN)}]
        llm.call(messages, from_task=task)
        assert llm.last_decision is not None
        assert llm.last_decision.category == "korean_multilingual"
        assert llm.last_answer is not None
        assert "expected criteria" in llm.last_answer.text

    def test_in_a_later_turn_too(self, llm: RoutedLLM, task: Any) -> None:
        messages: Any = [
            {"role": "user", "content": f"Current Task: {KOREAN}"},
            {"role": "assistant", "content": "I thought about it."},
            {"role": "user", "content": "Now it's time you MUST give your absolute best final answer."},
        ]
        llm.call(messages, from_task=task)
        assert llm.last_decision is not None
        assert llm.last_decision.category == "korean_multilingual"

    def test_another_question_on_the_way_is_judged_by_itself(self, llm: RoutedLLM, task: Any) -> None:
        llm.call("What's 2+2?", from_task=task)
        assert llm.last_decision is not None
        assert llm.last_decision.category == "simple_chat"


class TestTools:
    def test_without_functions_the_calls_are_given_back_as_crewais_executor_takes_them(
        self, replying: Any
    ) -> None:
        from crewai.utilities.agent_utils import is_tool_call_list

        llm, server = replying(CALLED)
        calls = llm.call("How is the weather in Oslo?", tools=[WEATHER])
        assert is_tool_call_list(calls)
        assert calls[0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
        assert calls[0]["id"]
        assert asked(server)[0]["tools"][0]["function"]["name"] == "get_weather"
        follow_up = [
            {"role": "user", "content": "How is the weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": calls[0]["id"], "name": "get_weather", "content": "rain"},
        ]
        llm.call(follow_up, tools=[WEATHER])
        sent = asked(server)[1]["messages"]
        assert sent[1]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": {"city": "Oslo"}}
        assert sent[2]["content"] == "rain"

    @pytest.mark.parametrize("stream", [False, True])
    def test_with_functions_the_one_that_was_called_gives_the_answer(
        self, replying: Any, events: list[Any], stream: bool
    ) -> None:
        llm, server = replying(CALLED, stream=stream)
        functions = {"get_weather": lambda city: f"rain in {city}"}
        assert llm.call("Weather?", tools=[WEATHER], available_functions=functions) == "rain in Oslo"
        assert len(asked(server)) == 1
        kinds = [kind for kind in told(events) if "chunk" not in kind]
        assert kinds == [
            *("llm_call_started", "tool_usage_started", "tool_usage_finished", "llm_call_completed")
        ]

    def test_where_the_function_fails_what_the_model_said_is_the_answer(self, replying: Any) -> None:
        llm, _ = replying(CALLED)

        def fails(city: str) -> str:
            raise OSError("no line")

        functions = {"get_weather": fails}
        assert llm.call("Weather?", tools=[WEATHER], available_functions=functions) == "Let me see."

    def test_where_that_is_nothing_it_is_one_error(self, replying: Any) -> None:
        llm, _ = replying(Answer(tool_calls=CALLED.tool_calls))
        with pytest.raises(LLMRouterError, match="called get_weather and said nothing else"):
            llm.call("Weather?", tools=[WEATHER], available_functions={"other": str})

    async def test_acall_does_the_same(self, replying: Any) -> None:
        llm, _ = replying(CALLED, CALLED)
        functions = {"get_weather": lambda city: f"rain in {city}"}
        assert await llm.acall("Weather?", tools=[WEATHER], available_functions=functions) == "rain in Oslo"
        assert (await llm.acall("Weather?", tools=[WEATHER]))[0]["function"]["name"] == "get_weather"


class TestForms:
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_response_model_gives_an_instance(self, replying: Any, stream: bool) -> None:
        llm, server = replying('{"name": "Ada", "age": 36}', stream=stream)
        assert llm.call("Who is it?", response_model=Person) == Person(name="Ada", age=36)
        assert asked(server)[0]["format"] == Person.model_json_schema()

    def test_words_around_the_object_do_no_harm(self, replying: Any) -> None:
        llm, _ = replying('Here it is:\n```json\n{"name": "Ada", "age": 36}\n```')
        assert llm.call("Who is it?", response_model=Person) == Person(name="Ada", age=36)

    def test_response_format_of_the_llm_does_the_same(self, replying: Any) -> None:
        llm, _ = replying('{"name": "Ada", "age": 36}', '{"free": 1}', response_format=Person)
        assert llm.call("Who is it?") == Person(name="Ada", age=36)
        llm.response_format = {"type": "json_object"}
        assert llm.call("Say JSON") == '{"free": 1}'

    def test_an_answer_that_is_none_is_one_error(self, replying: Any) -> None:
        llm, _ = replying('{"name": "Ada"}')
        with pytest.raises(BadReply, match="the answer is no Person"):
            llm.call("Who is it?", response_model=Person)


class TestEvents:
    def test_a_call_is_told_from_its_start_to_its_end(self, llm: RoutedLLM, events: list[Any]) -> None:
        llm.call(KOREAN)
        assert told(events) == ["llm_call_started", "llm_call_completed"]
        started, completed = events
        assert started.call_id == completed.call_id
        assert completed.response == f"solar heard: {KOREAN}"
        assert completed.usage["total_tokens"] > 0
        assert completed.finish_reason == "stop"
        assert llm.last_decision is not None
        assert completed.response_id == llm.last_decision.decision_id

    def test_a_stream_tells_every_piece_of_the_answer(self, router: SyncRouter, events: list[Any]) -> None:
        llm = RoutedLLM(router=router, stream=True)
        text = llm.call(KOREAN)
        assert set(told(events)[1:-1]) == {"llm_stream_chunk"}
        chunks = [event.chunk for event in events if event.type == "llm_stream_chunk"]
        assert len(chunks) > 1
        assert "".join(chunks) == text == f"solar heard: {KOREAN}"
        assert len({event.call_id for event in events}) == 1

    async def test_acall_streams_too(self, router: SyncRouter, events: list[Any]) -> None:
        text = await RoutedLLM(router=router, stream=True).acall(KOREAN)
        told(events)
        assert "".join(event.chunk for event in events if event.type == "llm_stream_chunk") == text

    def test_thinking_is_told_apart(self, replying: Any, events: list[Any]) -> None:
        answer = Answer(content="four", thinking="two and two")
        llm, _ = replying(answer, model="gpt-oss:20b", stream=True, think="low")
        assert llm.call("What's 2+2?") == "four"
        told(events)
        thought = [event.chunk for event in events if event.type == "llm_thinking_chunk"]
        assert "".join(thought) == "two and two"

    def test_a_tool_call_is_a_chunk_of_its_own(self, replying: Any, events: list[Any]) -> None:
        llm, _ = replying(CALLED, stream=True)
        calls = llm.call("Weather?", tools=[WEATHER])
        told(events)
        chunks = [event.tool_call for event in events if event.type == "llm_stream_chunk" and event.tool_call]
        assert [(chunk.id, chunk.function.name) for chunk in chunks] == [(calls[0]["id"], "get_weather")]
        assert events[-1].response == calls

    def test_crewais_own_stream_of_a_call(self, llm: RoutedLLM) -> None:
        session = llm.stream_events(KOREAN)
        kinds = [frame.type for frame in session]
        assert "llm_stream_chunk" in kinds
        assert session.result == f"solar heard: {KOREAN}"

    def test_a_failure_is_told_with_the_way_out(self, events: list[Any]) -> None:
        with SyncRouter(settings=settings_for(NOBODY)) as router, pytest.raises(NoModelAvailable):
            RoutedLLM(router=router).call(KOREAN)
        assert told(events) == ["llm_call_started", "llm_call_failed"]
        assert "OLLAMA_HOST" in events[-1].error

    def test_hooks_see_the_call_and_may_change_or_stop_it(self, llm: RoutedLLM, events: list[Any]) -> None:
        from crewai.hooks.llm_hooks import (
            clear_all_llm_call_hooks,
            register_after_llm_call_hook,
            register_before_llm_call_hook,
        )

        def before(context: Any) -> bool | None:
            context.messages.append({"role": "user", "content": "What's 2+2?"})
            return None

        register_before_llm_call_hook(before)
        register_after_llm_call_hook(lambda context: f"{context.response}!")
        try:
            assert llm.call(KOREAN) == "mistral:7b heard: What's 2+2?!"
            register_before_llm_call_hook(lambda context: False)
            with pytest.raises(ValueError, match="blocked"):
                llm.call(KOREAN)
        finally:
            clear_all_llm_call_hooks()
        assert told(events)[-1] == "llm_call_failed"


class TestWhatItSaysOfItself:
    def test_with_the_whole_fleet(self, llm: RoutedLLM) -> None:
        assert llm.supports_function_calling()
        assert llm.supports_multimodal()
        assert llm.supports_stop_words()

    def test_without_a_model_that_sees_or_calls_tools(self, replying: Any) -> None:
        llm, _ = replying(models=("gemma2:9b", "phi4"))
        assert not llm.supports_function_calling()
        assert not llm.supports_multimodal()
        with pytest.raises(NoModelAvailable):
            llm.call([{"role": "user", "content": PICTURE}])

    def test_of_a_model_by_name_it_says_what_that_can(self, router: SyncRouter) -> None:
        llava, gpt = RoutedLLM("llava:13b", router=router), RoutedLLM("gpt-oss:20b", router=router)
        assert (llava.supports_multimodal(), llava.supports_function_calling()) == (True, False)
        assert (gpt.supports_multimodal(), gpt.supports_function_calling()) == (False, True)
        assert llava.get_context_window_size() < gpt.get_context_window_size()

    def test_a_prompt_that_fits_the_window_is_answered_and_one_that_does_not_is_told_so(
        self, replying: Any
    ) -> None:
        from crewai.utilities.exceptions.context_window_exceeding_exception import (
            LLMContextLengthExceededError,
        )

        llm, server = replying(models=("gemma2:9b",))
        window = llm.get_context_window_size()
        fits = next(n for n in range(window, 0, -1) if llm.get_input_tokens_count("word " * n) < window - 20)
        assert not llm.is_context_window_overflowing_threshold([{"role": "user", "content": "word " * fits}])
        assert llm.call("word " * fits)
        assert llm.is_context_window_overflowing_threshold([{"role": "user", "content": "word " * window}])
        with pytest.raises(LLMContextLengthExceededError, match="its context is 8,192") as caught:
            llm.call("word " * window)
        assert isinstance(caught.value.__cause__, NoModelAvailable)
        assert len(asked(server)) == 1

    def test_what_hosts_have_now_counts(self, replying: Any) -> None:
        llm, server = replying(models=("gemma2:9b",))
        assert not llm.supports_function_calling()
        router = llm._router.router
        assert llm._promised is not None
        server.requests.clear()
        assert not llm.supports_function_calling()
        assert server.requests == []  # found once, as long as the hosts stay as they are
        router.look_again("ollama")
        llm.supports_function_calling()
        assert any(request.path == "/api/tags" for request in server.requests)

    def test_without_any_host_it_promises_nothing_and_the_call_says_why(self) -> None:
        with SyncRouter(settings=settings_for(NOBODY)) as router:
            llm = RoutedLLM(router=router)
            assert not llm.supports_function_calling()
            assert not llm.supports_multimodal()
            assert llm.get_context_window_size() == 4096
            with pytest.raises(NoModelAvailable):
                llm.call(KOREAN)

    def test_an_unknown_model_promises_nothing_and_the_call_says_why(self, router: SyncRouter) -> None:
        llm = RoutedLLM("phi5", router=router)
        assert not llm.supports_function_calling()
        with pytest.raises(UnknownModel, match="phi5"):
            llm.call(KOREAN)

    def test_pictures_reach_a_model_that_sees(self, llm: RoutedLLM, ollama: FakeOllama) -> None:
        messages: Any = [{"role": "user", "content": PICTURE}]
        llm.call(messages)
        assert llm.last_decision is not None
        assert llm.last_decision.category in ("max_vision", "fast_vision", "hybrid_reasoner")
        assert asked(ollama)[0]["messages"][0]["images"] == [PNG]

    def test_tokens_are_counted_as_the_router_counts_them(self, llm: RoutedLLM) -> None:
        messages: Any = [{"role": "user", "content": "How is the weather in Oslo?"}]
        plain = llm.get_input_tokens_count(messages)
        assert 0 < plain < llm.get_input_tokens_count(messages, [WEATHER])
        assert llm.get_input_tokens_count("") == 0
        assert llm.get_input_tokens_count("") < llm.get_input_tokens_count("a few words")


class TestFailures:
    def test_a_failed_model_is_followed_by_the_next_in_the_same_call(
        self, llm: RoutedLLM, ollama: FakeOllama
    ) -> None:
        ollama.fault(Fault.RUNNER_DIED, model="solar")
        text = llm.call(KOREAN)
        assert llm.last_answer is not None
        assert [attempt.error is None for attempt in llm.last_answer.attempts] == [False, True]
        assert text.startswith(f"{llm.last_answer.model} heard")
        assert llm.last_answer.model != "solar"

    def test_a_fleet_that_fails_everywhere_raises_every_attempt(
        self, llm: RoutedLLM, ollama: FakeOllama
    ) -> None:
        ollama.fault(Fault.RUNNER_DIED)
        with pytest.raises(AllAttemptsFailed) as caught:
            llm.call(KOREAN)
        assert len(caught.value.attempts) >= 2
        assert llm.last_decision is not None
        assert llm.last_answer is None

    async def test_closing_the_router_ends_acall_with_an_error(
        self, llm: RoutedLLM, ollama: FakeOllama
    ) -> None:
        ollama.fault(Fault.SLOW_TOKENS)
        running = asyncio.create_task(llm.acall(KOREAN))
        await ollama.until(lambda server: len(asked(server)) == 1)
        await asyncio.to_thread(llm._router.close)
        with pytest.raises(LLMRouterError, match="closed"):
            await running

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"temprature": 0.1}, "no option 'temprature'"),
            ({"base_url": "http://127.0.0.1:1"}, "no option 'base_url'"),
            ({"n": 2}, "no option 'n'"),
            ({"model": "auto:embeddings"}, "cannot talk"),
        ],
    )
    def test_what_would_have_no_effect_is_refused(
        self, router: SyncRouter, given: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(InvalidRequest, match=said) as caught:
            RoutedLLM(router=router, **given)
        assert caught.value.hint

    def test_a_category_that_is_none_is_refused(self, router: SyncRouter) -> None:
        with pytest.raises(UnknownCategory, match="structured"):
            RoutedLLM("auto:structured", router=router)
