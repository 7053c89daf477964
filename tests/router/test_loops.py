"""A loop of tool calls stays with the model that has called: beside other conversations, after a failure."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from tests.support.days import LARGE, OTHER, box, no_pause, settings_for, task

from llm_router import answering
from llm_router.answer import Answer, Finished, Switched
from llm_router.errors import HostBusy, StreamBroken
from llm_router.request import Image, Message, RouteRequest, Tool
from llm_router.router import Router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_ollama import FakeOllama

CALLS, ALSO = "gpt-oss:20b", "qwen2.5:14b"
TOOL = Tool("get_weather", "Tells the weather", {"type": "object", "properties": {}})
PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 16).decode())
ASKED = Message("user", "What is the weather like in Paris? Use the tool")
RESULT = Message("tool", "sunny", tool_name=TOOL.name)
NOTE = Message("user", "Remember: short answers only")


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with box((CALLS, ALSO, "mistral:7b"), call_tools=True) as server:
        yield server


@pytest.fixture
async def router(ollama: FakeOllama) -> AsyncIterator[Router]:
    async with Router(settings=settings_for(ollama, prefer="owner"), pause=no_pause) as router:
        yield router


def talk(*messages: Message, session_id: str | None = None) -> RouteRequest:
    return RouteRequest(messages=messages, tools=(TOOL,), session_id=session_id)


async def called(router: Router, server: FakeOllama, session_id: str | None = None) -> Message:
    """The first answer of a loop, by the second choice because the first is busy; then the first is there."""
    server.fault(Fault.BUSY, model=CALLS, times=1)
    answer = await router.run(talk(ASKED, session_id=session_id))
    assert answer.model == ALSO and answer.tool_calls
    await router.run(task(CALLS))
    return said(answer)


def said(answer: Answer) -> Message:
    return Message("assistant", answer.text, tool_calls=answer.tool_calls)


async def chosen(router: Router, request: RouteRequest) -> str:
    return (await router.decide(request)).chain[0].model


async def test_a_note_behind_the_results_does_not_end_a_loop_and_an_answer_does(
    router: Router, ollama: FakeOllama
) -> None:
    call = await called(router, ollama)
    assert await chosen(router, talk(ASKED, call, RESULT)) == ALSO
    assert await chosen(router, talk(ASKED, call, RESULT, NOTE)) == ALSO
    answered = Message("assistant", "It is sunny there.")
    assert await chosen(router, talk(ASKED, call, RESULT, answered, ASKED)) == CALLS


@pytest.mark.parametrize("session_id", [None, "a-person"])
async def test_another_conversation_of_the_same_person_takes_no_loop_away(
    router: Router, ollama: FakeOllama, session_id: str | None
) -> None:
    call = await called(router, ollama, session_id)
    other = Message("user", "Something else: list my files with the tool")
    answer = await router.run(talk(other, session_id=session_id))
    assert answer.model == CALLS
    assert await chosen(router, talk(other, said(answer), RESULT, session_id=session_id)) == CALLS
    assert await chosen(router, talk(ASKED, call, RESULT, session_id=session_id)) == ALSO


async def test_where_only_the_session_is_known_a_loop_is_not_locked(
    router: Router, ollama: FakeOllama
) -> None:
    call = await called(router, ollama, "a-person")
    cut = talk(Message("user", "an opening that nobody has seen"), call, RESULT, session_id="a-person")
    decision = await router.decide(cut)
    assert decision.chain[0].model == CALLS
    assert [c.model for c in decision.chain if c.stays] == [ALSO]


async def test_a_picture_that_is_left_out_for_the_model_is_part_of_the_conversation(
    router: Router, ollama: FakeOllama
) -> None:
    before = Message("user", "", images=(PNG,)), Message("assistant", "A map of France.")
    ollama.fault(Fault.BUSY, model=CALLS, times=1)
    answer = await router.run(talk(*before, ASKED))
    assert answer.model == ALSO
    asked = [request.body["messages"] for request in ollama.requests if request.path == "/api/chat"]
    assert len(asked[-1]) == 3 and "images" not in asked[-1][0]
    await router.run(task(CALLS))
    assert await chosen(router, talk(*before, ASKED, said(answer), RESULT)) == ALSO


async def test_a_runner_that_dies_in_the_midst_is_asked_once_more_before_another_goes_on(
    router: Router, ollama: FakeOllama
) -> None:
    loop = talk(ASKED, await called(router, ollama), RESULT)
    ollama.fault(Fault.ERROR_MID_STREAM, model=ALSO, times=1)
    answer = await router.run(loop)
    assert [(a.model, type(a.error)) for a in answer.attempts] == [(ALSO, StreamBroken), (ALSO, type(None))]


async def test_a_busy_model_is_asked_once_more_before_another_goes_on_with_its_loop(
    router: Router, ollama: FakeOllama
) -> None:
    loop = talk(ASKED, await called(router, ollama), RESULT)
    ollama.fault(Fault.BUSY, model=ALSO, times=1)
    answer = await router.run(loop)
    assert [(a.model, type(a.error)) for a in answer.attempts] == [(ALSO, HostBusy), (ALSO, type(None))]
    ollama.fault(Fault.BUSY, model=ALSO, times=1)
    async with aclosing(router.stream(loop)) as stream:
        told = [event async for event in stream]
    assert [event.next_model for event in told if isinstance(event, Switched)] == [ALSO]
    assert isinstance(told[-1], Finished) and told[-1].answer.model == ALSO


async def test_a_loop_goes_on_elsewhere_where_its_model_stays_busy(
    router: Router, ollama: FakeOllama
) -> None:
    loop = talk(ASKED, await called(router, ollama), RESULT)
    ollama.fault(Fault.BUSY, model=ALSO, times=2)
    answer = await router.run(loop)
    assert [a.model for a in answer.attempts] == [ALSO, ALSO, CALLS]


async def test_outside_of_a_loop_the_next_model_answers_at_once(router: Router, ollama: FakeOllama) -> None:
    loop = (ASKED, await called(router, ollama), RESULT)
    await router.run(talk(*loop))
    turn = talk(*loop, Message("assistant", "It is sunny."), NOTE)
    first, second = (await router.decide(turn)).chain[:2]
    ollama.fault(Fault.BUSY, model=first.model, times=1)
    assert [a.model for a in (await router.run(turn)).attempts] == [first.model, second.model]


async def test_a_loop_waits_for_its_turn_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "WAITS_MORE_S", 0.2)
    monkeypatch.setattr(answering, "WAITS_TIMES", 0.0)
    begin = Message("user", "Summarize the reports.")
    async with box((LARGE, OTHER)) as server, Router(settings=settings_for(server)) as router:
        first = RouteRequest(messages=(begin,))
        by_large = await router.decide(first, category="max_quality_general")
        assert by_large.chain[0].model == LARGE
        call = said(await router.run(first, decision=by_large))
        await router.run(task(OTHER))  # LARGE has left for it
        server.fault(Fault.SLOW_TOKENS, model=OTHER, after=0, times=1)
        long = asyncio.ensure_future(router.run(task(OTHER, "a long one")))
        await server.until(lambda box: box.in_flight > 0)
        loop = RouteRequest(messages=(begin, call, RESULT))
        decision = await router.decide(loop, category="max_quality_general")
        assert [c.model for c in decision.chain] == [LARGE, OTHER]
        going_on = asyncio.ensure_future(router.run(loop, decision=decision))
        await asyncio.wait([going_on], timeout=0.5)
        assert not going_on.done()
        server.release()
        assert (await long).model == OTHER
        assert [a.model for a in (await going_on).attempts] == [LARGE]
