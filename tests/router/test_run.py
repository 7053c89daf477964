"""The Router end to end over real HTTP: decide, answer, fall back, and stop honestly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from llm_router.answer import Attempt, Decided, Delta, Finished, StreamEvent, Switched
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import (
    AllAttemptsFailed,
    InvalidRequest,
    NoModelAvailable,
    RequestRejected,
    StreamBroken,
    UnknownModel,
)
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.sync import SyncRouter
from llm_router.testing.fake_answers import Answer as Said
from llm_router.testing.fake_answers import Token
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

HERE = ("mistral:7b", "gemma2:9b", "llama3.2:1b", "qwen2.5:14b", "nomic-embed-text", "gpt-oss:20b")
CHAT = "What's 2+2?"


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(fleet_models(HERE)) as server:
        yield server


def settings_for(server: FakeOllama) -> Settings:
    return Settings(
        hosts=(HostSettings(url=server.url, name="ollama"),),
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(prefer="map"),
    )


@pytest.fixture
async def router(ollama: FakeOllama) -> AsyncIterator[Router]:
    async with Router(settings=settings_for(ollama)) as router:
        yield router


def asked(server: FakeOllama, path: str = "/api/chat") -> list[str]:
    """Models that were asked to answer, Mission Control left out."""
    return [r.body["model"] for r in server.requests if r.path == path and "format" not in r.body]


async def events(router: Router, request: RouteRequest | str) -> list[StreamEvent]:
    async with aclosing(router.stream(request)) as stream:
        return [event async for event in stream]


async def test_a_task_is_decided_and_answered_by_the_fleets_choice(router: Router) -> None:
    answer = await router.run(CHAT)
    assert answer.decision.category == "simple_chat"
    assert answer.model == "mistral:7b"
    assert answer.text
    assert [attempt.error for attempt in answer.attempts] == [None]
    assert answer.usage.output_tokens


async def test_a_stream_begins_with_the_decision_and_ends_with_the_whole_answer(router: Router) -> None:
    told = await events(router, CHAT)
    assert isinstance(told[0], Decided)
    assert isinstance(told[-1], Finished)
    pieces = [event for event in told if isinstance(event, Delta)]
    assert len(pieces) >= 2
    assert "".join(piece.text for piece in pieces) == told[-1].answer.text


async def test_every_call_carries_the_models_one_context_size_and_no_keep_alive(
    router: Router, ollama: FakeOllama
) -> None:
    await router.run(CHAT)
    await router.run(RouteRequest.from_text(CHAT, options={"num_ctx": 512, "temperature": 0.1}))
    bodies = [r.body for r in ollama.requests if r.path == "/api/chat" and "format" not in r.body]
    planned = router.fleet.models["mistral:7b"].planned_num_ctx
    assert [body["options"]["num_ctx"] for body in bodies] == [planned, planned]
    assert bodies[1]["options"]["temperature"] == 0.1
    assert not any("keep_alive" in body for body in bodies)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.OOM,
        Fault.BUSY,
        Fault.NOT_FOUND,
        Fault.UNKNOWN_ARCHITECTURE,
        Fault.RUNNER_DIED,
        Fault.DROP_BEFORE_FIRST_BYTE,
        Fault.HTML,
        Fault.EMPTY_ANSWER,
    ],
)
async def test_a_failure_before_the_first_byte_moves_to_the_next_of_the_chain(
    router: Router, ollama: FakeOllama, fault: Fault
) -> None:
    decision = await router.decide(CHAT)
    assert len(decision.chain) >= 2
    ollama.fault(fault, model="mistral:7b", path=None if fault is Fault.UNKNOWN_ARCHITECTURE else "/api/chat")
    told = await events(router, CHAT)
    switched = [event for event in told if isinstance(event, Switched)]
    assert switched[0].failed.model == "mistral:7b"
    assert switched[0].failed.error is not None
    assert isinstance(told[-1], Finished)
    answer = told[-1].answer
    assert answer.model == decision.chain[1].model == switched[0].next_model
    assert [a.model for a in answer.attempts] == ["mistral:7b", answer.model]


@pytest.mark.parametrize(
    "fault", [Fault.DROP_MID_STREAM, Fault.ERROR_MID_STREAM, Fault.GARBAGE_LINE, Fault.NO_DONE]
)
async def test_after_the_first_byte_there_is_no_switch_of_model(
    router: Router, ollama: FakeOllama, fault: Fault
) -> None:
    ollama.fault(fault, model="mistral:7b", path="/api/chat")
    seen: list[StreamEvent] = []
    with pytest.raises(StreamBroken) as caught:
        async with aclosing(router.stream(CHAT)) as stream:
            async for event in stream:
                seen.append(event)
    assert any(isinstance(event, Delta) for event in seen)
    assert not any(isinstance(event, Switched) for event in seen)
    assert asked(ollama) == ["mistral:7b"]
    assert caught.value.model == "mistral:7b"


@pytest.mark.parametrize(
    "fault", [Fault.DROP_MID_STREAM, Fault.ERROR_MID_STREAM, Fault.GARBAGE_LINE, Fault.NO_DONE]
)
async def test_where_nobody_has_seen_the_beginning_another_model_answers_after_one_that_broke_off(
    router: Router, ollama: FakeOllama, fault: Fault
) -> None:
    chain = (await router.decide(CHAT)).chain
    ollama.fault(fault, model="mistral:7b", path="/api/chat")
    failed: list[Attempt] = []
    answer = await router.run(CHAT, failed=failed)
    assert answer.model == chain[1].model
    assert [(a.model, type(a.error)) for a in failed] == [("mistral:7b", StreamBroken)]
    assert [a.model for a in answer.attempts] == ["mistral:7b", answer.model]
    ollama.clear_faults()
    alone = RouteRequest.from_text(CHAT, model=answer.model)
    assert answer.text == (await router.run(alone)).text  # nothing of the first one

    ollama.fault(fault, path="/api/chat")
    with pytest.raises(AllAttemptsFailed) as caught:
        await router.run(alone)
    assert {type(a.error) for a in caught.value.attempts} == {StreamBroken}


@pytest.mark.parametrize(
    ("limit", "right"), [({"num_predict": 3}, True), ({}, False), ({"num_predict": 50}, False)]
)
async def test_an_empty_answer_is_right_where_a_limit_came_before_the_first_word(
    limit: dict[str, int], right: bool
) -> None:
    silent = Said("", tokens=(Token("", -0.1),) * 5)  # such as the bytes of one character, or a form's start
    async with (
        FakeOllama(fleet_models(HERE), reply=lambda body: silent) as server,
        Router(settings=settings_for(server)) as router,
    ):
        request = RouteRequest.from_text("Say something", model="mistral:7b", options=dict(limit))
        if right:
            answer = await router.run(request)
            assert (answer.text, answer.done_reason) == ("", "length")
        else:
            with pytest.raises(AllAttemptsFailed, match="empty"):
                await router.run(request)


async def test_an_exhausted_chain_raises_once_with_every_attempt(router: Router, ollama: FakeOllama) -> None:
    decision = await router.decide(CHAT)
    ollama.fault(Fault.OOM, path="/api/chat")
    with pytest.raises(AllAttemptsFailed) as caught:
        await router.run(CHAT)
    assert [a.model for a in caught.value.attempts] == [c.model for c in decision.chain]
    assert all(a.error is not None and a.error.code == "out_of_memory" for a in caught.value.attempts)
    assert asked(ollama) == [c.model for c in decision.chain]
    assert caught.value.exit_code == 3


async def test_a_model_that_this_server_cannot_load_is_learned_once(
    router: Router, ollama: FakeOllama
) -> None:
    ollama.fault(Fault.UNKNOWN_ARCHITECTURE, model="mistral:7b")
    await router.run(CHAT)
    decision = await router.decide(CHAT)
    rejection = next(r for r in decision.rejected if r.model == "mistral:7b")
    assert rejection.code == "unusable"
    await router.run(CHAT)
    assert asked(ollama, "/api/generate").count("mistral:7b") == 1
    assert "mistral:7b" not in asked(ollama)


async def test_a_model_that_fails_three_times_rests_and_comes_back(ollama: FakeOllama) -> None:
    now = [1000.0]
    async with Router(settings=settings_for(ollama), clock_s=lambda: now[0]) as router:
        ollama.fault(Fault.OOM, model="mistral:7b", path="/api/chat")
        for _ in range(3):
            await router.run(CHAT)
        resting = await router.decide(CHAT)
        assert next(r for r in resting.rejected if r.model == "mistral:7b").code == "unhealthy"
        ollama.clear_faults()
        now[0] += 31
        assert (await router.run(CHAT)).model == "mistral:7b"


async def test_a_request_that_every_model_would_refuse_is_not_passed_around(
    router: Router, ollama: FakeOllama
) -> None:
    request = RouteRequest.from_text(CHAT, options={"logprobs": True, "top_logprobs": 99})
    with pytest.raises(RequestRejected):
        await router.run(request)
    assert asked(ollama) == ["mistral:7b"]


async def test_no_host_and_no_stand_in_is_one_error_with_a_way_out() -> None:
    settings = Settings(
        hosts=(HostSettings(url="http://127.0.0.1:9", name="ollama"),),
        routing=RoutingSettings(stand_in="never"),
    )
    async with Router(settings=settings) as router:
        decision = await router.decide(CHAT)
        assert decision.selected_model == "mistral:7b"
        assert decision.answer_model is None
        with pytest.raises(NoModelAvailable) as caught:
            await router.run(CHAT)
    assert "connection refused" in str(caught.value)
    assert "OLLAMA_HOST" in (caught.value.hint or "")
    assert caught.value.exit_code == 3


async def test_a_named_model_is_honoured_and_an_unknown_one_refused(
    router: Router, ollama: FakeOllama
) -> None:
    answer = await router.run(RouteRequest.from_text(CHAT, model="qwen2.5:14b"))
    assert answer.model == "qwen2.5:14b"
    for name in ("auto", "auto:latest", "", "AUTO"):
        assert (await router.decide(RouteRequest.from_text(CHAT, model=name))).answer_model == "mistral:7b"
    with pytest.raises(UnknownModel):
        await router.run(RouteRequest.from_text(CHAT, model="mistrall"))
    with pytest.raises(InvalidRequest, match="internet"):
        await router.run(RouteRequest.from_text(CHAT, model="gpt-oss:120b-cloud"))


async def test_texts_are_embedded_by_the_embedder_and_never_by_a_chat_model(
    router: Router, ollama: FakeOllama
) -> None:
    answer = await router.embed(["one text", "another"])
    assert answer.model == "nomic-embed-text"
    assert len(answer.vectors) == 2
    assert {*asked(ollama, "/api/embed")} == {"nomic-embed-text"}
    assert not asked(ollama)
    ollama.fault(Fault.OOM, path="/api/embed")
    with pytest.raises(AllAttemptsFailed):
        await router.embed("again")
    assert asked(ollama) == []


async def test_leaving_a_stream_early_cancels_the_generation(router: Router, ollama: FakeOllama) -> None:
    ollama.fault(Fault.SLOW_TOKENS, model="mistral:7b")
    async with aclosing(router.stream(CHAT)) as stream:
        async for event in stream:
            if isinstance(event, Delta):
                break
    await ollama.until(lambda server: server.cancelled >= 1)
    ollama.clear_faults()
    assert (await router.run(CHAT)).text


async def test_another_model_answering_is_told(router: Router, ollama: FakeOllama) -> None:
    ollama.fault(Fault.WRONG_MODEL, model="mistral:7b", path="/api/chat")
    answer = await router.run(CHAT)
    assert any("answered although mistral:7b was asked" in warning for warning in answer.warnings)


async def test_a_prompt_that_the_server_cut_is_told(router: Router, ollama: FakeOllama) -> None:
    ollama.fault(Fault.TRUNCATE, model="mistral:7b", path="/api/chat")
    request = RouteRequest.from_text("Hello there. " * 4500, model="mistral:7b")
    answer = await router.run(request)
    assert any(warning.startswith("truncated:") for warning in answer.warnings)


async def test_many_requests_at_once_each_get_their_own_answer(router: Router) -> None:
    import asyncio

    answers = await asyncio.gather(*(router.run(f"What's {n}+{n}?") for n in range(12)))
    assert len({answer.decision.decision_id for answer in answers}) == 12
    assert all(answer.text for answer in answers)


def test_the_blocking_router_gives_the_same_decision_and_answer() -> None:
    with (
        FakeOllama(fleet_models(HERE)).in_thread() as server,
        SyncRouter(settings=settings_for(server)) as router,
    ):
        answer = router.run(CHAT)
        told = list(router.stream(CHAT))
        assert isinstance(told[-1], Finished)
        assert told[-1].answer.text == answer.text
        assert router.decide(CHAT).answer_model == answer.model


async def test_the_blocking_router_works_inside_a_running_loop(ollama: FakeOllama) -> None:
    import asyncio

    def blocking() -> str:
        with SyncRouter(settings=settings_for(ollama)) as router:
            return router.run(CHAT).model

    assert await asyncio.to_thread(blocking) == "mistral:7b"
