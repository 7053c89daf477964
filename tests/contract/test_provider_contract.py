"""What every provider promises, whatever answers behind it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from llm_router.answer import Delta, Final
from llm_router.errors import CapabilityMissing, ContextExceeded, ModelNotInstalled
from llm_router.providers.base import EmbedCall
from llm_router.request import ApiKind, Image, JsonObject, Message, RouteRequest, Tool
from llm_router.testing.fake_ollama import Fault

if TYPE_CHECKING:
    from tests.contract.conftest import Subject, Whole

FRANCE = "What is the capital of France?"
STEADY: JsonObject = {"temperature": 0, "seed": 7, "num_predict": 24}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = Tool(
    "weather",
    "the weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


async def test_an_answer_is_pieces_and_then_one_end(subject: Subject) -> None:
    whole = await subject.answer(FRANCE)
    assert whole.text.strip()
    assert len(whole.finals) == 1
    assert isinstance(whole.chunks[-1], Final)
    assert all(not delta.empty for delta in whole.deltas)


async def test_usage_counts_what_was_read_and_written(subject: Subject) -> None:
    short, long = await subject.answer(FRANCE), await subject.answer(FRANCE + " Tell me" * 40)
    assert short.final.usage.prompt_tokens is not None and long.final.usage.prompt_tokens is not None
    assert 5 <= short.final.usage.prompt_tokens <= 60
    assert long.final.usage.prompt_tokens >= short.final.usage.prompt_tokens + 40
    assert short.final.usage.output_tokens is not None
    assert 1 <= short.final.usage.output_tokens <= 25


async def test_num_predict_ends_the_answer(subject: Subject) -> None:
    request = RouteRequest.from_text("Count from one to fifty in words.", options=STEADY | {"num_predict": 3})
    whole = await subject.answer(request)
    assert whole.final.done_reason == "length"
    assert whole.final.usage.output_tokens == 3


async def test_a_stop_text_ends_the_answer_before_it(subject: Subject) -> None:
    free = (await subject.answer(FRANCE)).text
    stop = free.split()[2]
    stopped = await subject.answer(RouteRequest.from_text(FRANCE, options=STEADY | {"stop": [stop]}))
    assert stopped.text == free.partition(stop)[0]
    assert stopped.final.done_reason == "stop"


async def test_temperature_zero_and_a_seed_repeat_an_answer(subject: Subject) -> None:
    assert (await subject.answer(FRANCE)).text == (await subject.answer(FRANCE)).text


async def test_a_schema_holds(subject: Subject) -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {"category": {"type": "string", "enum": ["code", "chat", "math"]}},
        "required": ["category"],
    }
    request = RouteRequest(
        (Message("user", "Which category is: write a Python function? Answer as JSON."),),
        response_format=schema,
        options=STEADY | {"num_predict": 64},
    )
    answer = json.loads((await subject.answer(request)).text)
    assert answer["category"] in ("code", "chat", "math")


async def test_a_system_message_reaches_the_model(subject: Subject) -> None:
    plain = await subject.answer(FRANCE)
    with_system = await subject.answer(
        RouteRequest.from_text(FRANCE, system="You are a terse geographer who likes rivers.", options=STEADY)
    )
    assert with_system.text.strip()
    assert _read(with_system) >= _read(plain) + 6


async def test_every_turn_of_a_conversation_reaches_the_model(subject: Subject) -> None:
    turns = (
        Message("user", "My name is Ada and I live in Lyon."),
        Message("assistant", "Hello Ada. How can I help you today?"),
        Message("user", "Which city do I live in?"),
    )
    whole = await subject.answer(RouteRequest(turns, options=STEADY))
    last_alone = await subject.answer(RouteRequest(turns[-1:], options=STEADY))
    assert whole.text.strip()
    assert _read(whole) >= _read(last_alone) + 15


async def test_a_generate_request_is_answered(subject: Subject) -> None:
    request = RouteRequest((Message("user", FRANCE),), kind=ApiKind.GENERATE, options=STEADY)
    assert (await subject.answer(request)).text.strip()


async def test_logprobs_come_with_their_tokens(subject: Subject) -> None:
    request = RouteRequest.from_text(FRANCE, options=STEADY | {"logprobs": True, "top_logprobs": 2})
    whole = await subject.answer(request)
    items = [item for delta in whole.deltas for item in delta.logprobs]
    assert items
    first = items[0]
    assert isinstance(first, dict)
    assert isinstance(first["token"], str) and isinstance(first["logprob"], float)
    alternatives = first["top_logprobs"]
    assert isinstance(alternatives, list) and len(alternatives) == 2


async def test_thinking_is_kept_apart_from_the_answer(subject: Subject) -> None:
    if subject.thinker is None:
        pytest.skip("no thinking model behind this provider")
    call = subject.call(FRANCE, model=subject.thinker, think="low")
    chunks = [chunk async for chunk in subject.provider.chat(call)]
    thinking = "".join(c.thinking for c in chunks if isinstance(c, Delta))
    text = "".join(c.text for c in chunks if isinstance(c, Delta))
    assert "weighs the question" in thinking
    assert "weighs the question" not in text and text


async def test_a_tool_call_comes_whole_and_once(subject: Subject) -> None:
    if subject.tool_model is None:
        pytest.skip("no model with tools behind this provider")
    request = RouteRequest((Message("user", "Weather in Lyon?"),), tools=(WEATHER,))
    whole = await subject.answer(request, model=subject.tool_model)
    calls = [call for delta in whole.deltas for call in delta.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [("weather", {"city": "text"})]
    assert whole.final.done_reason == "stop"


async def test_the_result_of_a_tool_can_be_sent_back(subject: Subject) -> None:
    if subject.tool_model is None:
        pytest.skip("no model with tools behind this provider")
    asked = Message("user", "Weather in Lyon?")
    first = await subject.answer(RouteRequest((asked,), tools=(WEATHER,)), model=subject.tool_model)
    calls = tuple(call for delta in first.deltas for call in delta.tool_calls)
    turns = (asked, Message("assistant", "", tool_calls=calls), Message("tool", "rain", tool_name="weather"))
    second = await subject.answer(RouteRequest(turns, tools=(WEATHER,)), model=subject.tool_model)
    assert second.text.strip()


async def test_an_unknown_model_is_not_installed(subject: Subject) -> None:
    with pytest.raises(ModelNotInstalled) as caught:
        await subject.answer(FRANCE, model="no-such-model:1b")
    assert caught.value.host == subject.provider.name
    assert caught.value.model == "no-such-model:1b"


async def test_a_prompt_that_is_too_long_is_refused_and_never_cut(subject: Subject) -> None:
    too_long = "river " * 6000
    if subject.cuts_long_prompts:
        whole = await subject.answer(too_long)
        assert _read(whole) < 6000, "the server's own cut must at least show in the usage"
        return
    with pytest.raises(ContextExceeded):
        await subject.answer(too_long)


async def test_tools_for_a_model_without_them_are_refused(subject: Subject) -> None:
    if subject.toolless is None:
        pytest.skip("every model behind this provider has tools")
    with pytest.raises(CapabilityMissing):
        await subject.answer(
            RouteRequest((Message("user", FRANCE),), tools=(WEATHER,)), model=subject.toolless
        )


async def test_an_image_for_a_model_that_cannot_see_is_refused(subject: Subject) -> None:
    if subject.blind is None:
        pytest.skip("every model behind this provider can see")
    image = Image("image/png", PIXEL)
    with pytest.raises(CapabilityMissing):
        await subject.answer(
            RouteRequest((Message("user", "What is this?", (image,)),), options=STEADY), model=subject.blind
        )


async def test_closing_the_iterator_early_cancels_and_leaves_the_provider_usable(subject: Subject) -> None:
    if subject.fake is not None:
        subject.fake.fault(Fault.SLOW_TOKENS, times=1)
    async with aclosing(subject.provider.chat(subject.call("Tell me a long story about a river."))) as chunks:
        first = await anext(chunks)
    assert isinstance(first, Delta)
    if subject.fake is not None:
        await subject.fake.until(lambda fake: fake.cancelled == 1)
    assert (await subject.answer(FRANCE)).text.strip()


async def test_a_cancelled_task_leaves_the_provider_usable(subject: Subject) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        try:
            async for _ in subject.provider.chat(subject.call("Tell me a long story about a river.")):
                begun.set()
        finally:
            begun.set()

    if subject.fake is not None:
        subject.fake.fault(Fault.SLOW_TOKENS, times=1)
    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (await subject.answer(FRANCE)).text.strip()


async def test_requests_at_once_get_their_own_answers(subject: Subject) -> None:
    questions = [FRANCE, "Write the word banana.", "What is two plus two?"]
    alone = [(await subject.answer(question)).text for question in questions]
    together = await asyncio.gather(*(subject.answer(question) for question in questions))
    assert [whole.text for whole in together] == alone


async def test_a_snapshot_tells_what_is_there(subject: Subject) -> None:
    await subject.answer(FRANCE)
    snapshot = await subject.provider.snapshot()
    assert snapshot.reachable and not snapshot.problem
    assert (snapshot.name, snapshot.kind) == (subject.provider.name, subject.provider.kind)
    installed = snapshot.find_installed(subject.model)
    assert installed is not None
    if subject.tells_capabilities:
        assert installed.capabilities is not None and "completion" in installed.capabilities
        assert installed.size_bytes > 0
        assert installed.context_length is not None and installed.context_length >= 1024
    else:
        assert installed.capabilities is None
    if subject.tells_resident:
        resident = snapshot.find_resident(subject.model)
        assert resident is not None and resident.size_bytes > 0


async def test_texts_become_vectors_in_their_order(subject: Subject) -> None:
    if subject.embedder is None:
        pytest.skip("no embedding model behind this provider")
    texts = ("a red apple", "the law of torts", "a green apple")
    together = await subject.provider.embed(EmbedCall(subject.embedder, texts))
    alone = [(await subject.provider.embed(EmbedCall(subject.embedder, (t,)))).vectors[0] for t in texts]
    assert list(together.vectors) == [pytest.approx(vector, abs=1e-4) for vector in alone]
    assert together.prompt_tokens is not None and together.prompt_tokens >= 3


async def test_an_unknown_embedder_is_an_error_of_its_own(subject: Subject) -> None:
    with pytest.raises((ModelNotInstalled, CapabilityMissing)):
        await subject.provider.embed(EmbedCall("no-such-model:1b", ("text",)))


async def test_closing_twice_is_no_error(subject: Subject) -> None:
    await subject.answer(FRANCE)
    await subject.provider.close()
    await subject.provider.close()
    assert (await subject.answer(FRANCE)).text.strip(), "a closed provider opens again when it is used"


def _read(whole: Whole) -> int:
    tokens = whole.final.usage.prompt_tokens
    assert isinstance(tokens, int)
    return tokens
