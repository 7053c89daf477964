"""Several hosts, and hosts that misbehave in ways that concern more than one model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from msgspec import json, structs

from llm_router.bodies import request_from_json
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import (
    AllAttemptsFailed,
    HostBusy,
    HostTimeout,
    NoModelAvailable,
    StreamBroken,
    TimeSpent,
)
from llm_router.policy.settings import PolicySettings
from llm_router.providers.base import Timeouts
from llm_router.request import ApiKind, RouteRequest, SentBody
from llm_router.router import Router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

CHAT = "What's 2+2?"
NAMED = RouteRequest.from_text(CHAT, model="mistral:7b")
AS_VECTOR = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a text",))


def settings_for(*hosts: HostSettings, first_byte_s: float = 60, total_s: float = 600) -> Settings:
    return Settings(
        hosts=hosts,
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(prefer="map"),
        timeouts=Timeouts(first_byte_s=first_byte_s, total_s=total_s),
    )


@pytest.fixture
async def one() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(
        fleet_models(["mistral:7b", "gemma2:9b", "qwen2.5:14b", "nomic-embed-text"])
    ) as server:
        yield server


@pytest.fixture
async def two() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(fleet_models(["mistral:7b", "gemma2:9b"])) as server:
        yield server


def asked(server: FakeOllama) -> list[str]:
    return [r.body["model"] for r in server.requests if r.path == "/api/chat"]


async def test_a_host_that_died_after_the_snapshot_is_not_asked_for_its_other_models(
    one: FakeOllama, two: FakeOllama
) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), HostSettings(url=two.url, name="two"))
    async with Router(settings=settings) as router:
        decision = await router.decide(CHAT)
        assert [c.host for c in decision.chain][:2] == ["one", "two"]
        one.fault(Fault.DROP_BEFORE_FIRST_BYTE, path="/api/chat")
        answer = await router.run(CHAT, decision=decision)
    assert (answer.host, answer.model) == ("two", "mistral:7b")
    assert asked(one) == ["mistral:7b"]


async def test_a_loader_that_hangs_costs_one_wait_and_resident_models_go_on(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), first_byte_s=0.3)
    async with Router(settings=settings) as router:
        await router.run(RouteRequest.from_text(CHAT, model="gemma2:9b"))
        one.fault(Fault.WEDGED, model="mistral:7b")
        answer = await router.run(CHAT)
        assert answer.model == "gemma2:9b"
        assert [a.model for a in answer.attempts] == ["mistral:7b", "gemma2:9b"]
        later = await router.decide(CHAT)
        assert later.answer_model == "gemma2:9b"
        assert {r.code for r in later.rejected if r.model in ("mistral:7b", "qwen2.5:14b")} == {"unhealthy"}
        one.clear_faults()


async def test_a_loader_that_hangs_is_not_asked_to_load_the_rest_of_the_chain(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), first_byte_s=0.3)
    async with Router(settings=settings) as router:
        one.fault(Fault.WEDGED, model="mistral:7b")
        with pytest.raises(AllAttemptsFailed) as caught:
            await router.run(CHAT)
        assert [a.model for a in caught.value.attempts] == ["mistral:7b"]
        with pytest.raises(NoModelAvailable, match="loads may hang"):
            await router.run(CHAT)
        one.clear_faults()


def body_of_a_caller(text: str) -> RouteRequest:
    """One that goes to a server of its wire as it is, and wants a short answer in one piece."""
    data = json.encode({"messages": [{"role": "user", "content": text}], "max_tokens": 1})
    sent = SentBody("/v1/chat/completions", data, stream=False, known=frozenset({"max_tokens"}))
    return request_from_json(data, sent=sent, kind=ApiKind.CHAT)


@pytest.mark.parametrize("as_sent", [False, True])
async def test_a_server_that_says_nothing_is_given_up_for_a_whole_answer_too(
    one: FakeOllama, *, as_sent: bool
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        models = b'{"data":[{"id":"served"}]}'
        while (head := await reader.read(65536)).startswith(b"GET "):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(models), models))
        told.append(head)
        await reader.read()
        writer.close()

    told: list[bytes] = []
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hung = HostSettings(
            url=f"http://127.0.0.1:{port}", name="hung", kind="openai", models={"mistral:7b": "served"}
        )
        settings = settings_for(hung, HostSettings(url=one.url, name="one"), first_byte_s=0.3, total_s=5.0)
        async with Router(settings=settings) as router:
            await router.run(RouteRequest.from_text(CHAT, model="gemma2:9b"))
            answer = await router.run(body_of_a_caller(CHAT) if as_sent else CHAT)
    assert told
    assert [attempt.host for attempt in answer.attempts] == ["hung", "one"]
    assert isinstance(answer.attempts[0].error, HostTimeout)


async def test_the_chain_ends_when_the_time_of_the_request_is_over(one: FakeOllama, two: FakeOllama) -> None:
    hosts = HostSettings(url=one.url, name="one"), HostSettings(url=two.url, name="two")
    async with Router(settings=settings_for(*hosts, first_byte_s=0.8, total_s=1.2)) as router:
        decision = await router.decide(NAMED)
        for server in (one, two):
            server.fault(Fault.WEDGED)
        with pytest.raises(AllAttemptsFailed, match=r"within 1\.2 s \(timeouts\.total_s\)") as caught:
            await router.run(NAMED, decision=decision)
        first, second = caught.value.attempts
        assert (first.host, second.host) == ("one", "two")
        assert isinstance(first.error, HostTimeout) and isinstance(second.error, TimeSpent)
        assert f"mistral:7b on one ({first.elapsed_s:.1f} s)" in str(caught.value)
        assert f"mistral:7b on two ({second.elapsed_s:.1f} s)" in str(caught.value)
        assert "timeouts.total_s" in (caught.value.hint or "")
        (_, other) = await router.hosts()
        assert not other.unhealthy, "it was given too little time to be blamed"
        for server in (one, two):
            server.clear_faults()


async def test_no_model_is_asked_once_the_time_is_over(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), total_s=1.0)
    async with Router(settings=settings) as router:
        decision = await router.decide(CHAT)
        one.fault(Fault.SLOW_LOAD, model="mistral:7b")
        with pytest.raises(AllAttemptsFailed) as caught:
            await router.run(CHAT, decision=decision)
        assert [a.model for a in caught.value.attempts] == ["mistral:7b"]
        assert asked(one) == []
        assert len(decision.chain) > 1


async def test_an_answer_that_goes_on_for_too_long_is_broken_off(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), total_s=1.0)
    async with Router(settings=settings) as router:
        decision = await router.decide(NAMED)
        one.fault(Fault.SLOW_TOKENS, model="mistral:7b", after=1)
        with pytest.raises(StreamBroken, match=r"timeouts\.total_s") as caught:
            await router.run(NAMED, decision=decision)
        assert caught.value.hint
        assert not (await router.hosts())[0].unhealthy
    await one.until(lambda server: server.cancelled == 1)


async def test_a_request_may_have_less_time_than_the_settings_give(one: FakeOllama) -> None:
    hurried = structs.replace(NAMED, timeout_s=0.5)
    async with Router(settings=settings_for(HostSettings(url=one.url, name="one"))) as router:
        decision = await router.decide(hurried)
        assert decision.deadline_s == 0.5
        one.fault(Fault.SLOW_TOKENS, model="mistral:7b", after=1)
        with pytest.raises(StreamBroken, match=r"may take 0\.5 s \(its own timeout_s\)") as caught:
            await router.run(hurried, decision=decision)
        assert "x-router-timeout-s" in (caught.value.hint or "")
        one.clear_faults()
        one.fault(Fault.SLOW_LOAD)
        with pytest.raises(AllAttemptsFailed, match=r"within 0\.5 s \(its own timeout_s\)") as spent:
            await router.run(structs.replace(RouteRequest.from_text(CHAT, model="gemma2:9b"), timeout_s=0.5))
        (attempt,) = spent.value.attempts
        assert isinstance(attempt.error, TimeSpent)
        with pytest.raises(AllAttemptsFailed, match=r"within 0\.5 s"):
            await router.embed(structs.replace(RouteRequest.from_text("a text"), timeout_s=0.5))
        one.clear_faults()
        assert not (await router.hosts())[0].unhealthy


async def test_no_request_has_more_time_than_the_settings_give(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), total_s=1.0)
    async with Router(settings=settings) as router:
        patient = structs.replace(NAMED, timeout_s=3600.0)
        assert (await router.decide(patient)).deadline_s == 1.0
        one.fault(Fault.SLOW_LOAD, model="mistral:7b")
        with pytest.raises(AllAttemptsFailed, match=r"within 1 s \(timeouts\.total_s\)"):
            await router.run(patient)


async def test_a_request_that_is_pressed_for_time_goes_to_who_keeps_it(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"))
    async with Router(settings=settings) as router:
        calm = await router.decide(CHAT)
        limit_s = calm.chain[0].estimate.total_s - 0.1
        await router.run(RouteRequest.from_text(CHAT, model="gemma2:9b"))
        pressed = await router.decide(structs.replace(RouteRequest.from_text(CHAT), timeout_s=limit_s))
        assert calm.answer_model == "mistral:7b"
        assert pressed.answer_model == "gemma2:9b"
        assert any("that this request may take" in reason for reason in pressed.reasons)
        _, why = await router.explain(
            structs.replace(RouteRequest.from_text(CHAT), timeout_s=limit_s), "mistral:7b"
        )
        assert "longer than the" in why.kept_out[-1]


async def test_what_deciding_took_is_part_of_the_time_of_a_request(one: FakeOllama) -> None:
    async with Router(settings=settings_for(HostSettings(url=one.url, name="one"), total_s=600)) as router:
        decision = await router.decide(NAMED)
        late = decision.stamped(decision.decision_id, 600_000.0)
        with pytest.raises(AllAttemptsFailed, match=r"within 600 s"):
            await router.run(NAMED, decision=late)
        with pytest.raises(AllAttemptsFailed, match=r"within 600 s"):
            await router.embed("a text", decision=(await router.decide(AS_VECTOR)).stamped("", 600_000.0))
    assert asked(one) == []


async def test_after_a_failure_who_keeps_what_is_left_of_the_time_goes_first(one: FakeOllama) -> None:
    async with Router(settings=settings_for(HostSettings(url=one.url, name="one"), total_s=600)) as router:
        await router.run(RouteRequest.from_text(CHAT, model="qwen2.5:14b"))
        decision = await router.decide(CHAT)
        first, second, third = decision.chain
        slow_s, quick_s = second.estimate.total_s, third.estimate.total_s
        assert quick_s < slow_s - 1, "the last is in memory, the one before is not"
        one.fault(Fault.OOM, model=first.model)
        in_no_hurry = await router.run(CHAT, decision=decision)
        assert in_no_hurry.model == second.model
        spent_ms = (600 - (slow_s + quick_s) / 2) * 1000
        answer = await router.run(CHAT, decision=decision.stamped(decision.decision_id, spent_ms))
        assert [a.model for a in answer.attempts] == [first.model, third.model]
        one.clear_faults()


async def test_vectors_are_waited_for_no_longer_than_an_answer(one: FakeOllama) -> None:
    settings = settings_for(HostSettings(url=one.url, name="one"), total_s=1.0)
    async with Router(settings=settings) as router:
        await router.decide(NAMED)
        one.fault(Fault.SLOW_LOAD, model="nomic-embed-text")
        with pytest.raises(AllAttemptsFailed, match=r"within 1 s"):
            await router.embed("a text")


async def test_a_full_queue_is_tried_once_more_where_nothing_else_is_left(one: FakeOllama) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with Router(settings=settings_for(HostSettings(url=one.url, name="one")), pause=pause) as router:
        one.fault(Fault.BUSY, model="mistral:7b", path="/api/chat", times=1)
        answer = await router.run(NAMED)
        assert [a.error is None for a in answer.attempts] == [False, True]
        one.fault(Fault.BUSY, model="mistral:7b", path="/api/chat")
        with pytest.raises(AllAttemptsFailed) as caught:
            await router.run(NAMED)
    assert [type(a.error) for a in caught.value.attempts] == [HostBusy, HostBusy]
    assert len(pauses) == 2


async def test_a_mapped_name_is_asked_for_and_rests_under_that_name(one: FakeOllama) -> None:
    host = HostSettings(url=one.url, name="one", models={"mixtral:8x7b": "qwen2.5:14b"})
    async with Router(settings=settings_for(host)) as router:
        request = RouteRequest.from_text(CHAT, model="mixtral:8x7b")
        answer = await router.run(request)
        assert (answer.model, asked(one)) == ("mixtral:8x7b", ["qwen2.5:14b"])
        one.fault(Fault.OOM, model="qwen2.5:14b", path="/api/chat")
        for _ in range(3):
            with pytest.raises(AllAttemptsFailed):
                await router.run(request)
        with pytest.raises(NoModelAvailable, match="failed 3 times"):
            await router.run(request)


async def test_a_model_that_was_deleted_meanwhile_is_told_as_missing_and_not_as_failing(
    one: FakeOllama,
) -> None:
    async with Router(settings=settings_for(HostSettings(url=one.url, name="one"))) as router:
        decision = await router.decide(CHAT)
        one.fault(Fault.NOT_FOUND, model="mistral:7b", path="/api/chat")
        for _ in range(4):
            await router.run(CHAT, decision=decision)
        one.clear_faults()
        assert (await router.decide(CHAT)).answer_model == "mistral:7b"


async def test_who_finds_the_host_of_its_model_gone_leaves_no_seat_behind() -> None:
    (known,) = fleet_models(["mistral:7b"])
    own = replace(known, name="own:1b")
    request = RouteRequest.from_text(CHAT, model=own.name)
    async with FakeOllama([own]) as server:
        router = Router(settings=settings_for(HostSettings(url=server.url, name="one")))
        await router.run(request)
        decision = await router.decide(request)
    async with router:
        router.look_again("one")
        with pytest.raises(AllAttemptsFailed, match="gone from one"):
            await router.run(request, decision=decision)
        assert router.loads()["one"].idle


async def test_a_wordless_answer_is_right_where_the_caller_asked_for_one(one: FakeOllama) -> None:
    async with Router(settings=settings_for(HostSettings(url=one.url, name="one"))) as router:
        one.fault(Fault.EMPTY_ANSWER, model="mistral:7b", path="/api/chat")
        stopped = RouteRequest.from_text(CHAT, model="mistral:7b", options={"stop": ["2"]})
        answer = await router.run(stopped)
    assert (answer.text, len(answer.attempts)) == ("", 1)


async def test_hundreds_of_texts_are_embedded_in_one_call(one: FakeOllama) -> None:
    async with Router(settings=settings_for(HostSettings(url=one.url, name="one"))) as router:
        answer = await router.embed(["a passage of a few words " * 10] * 100)
    assert len(answer.vectors) == 100


async def test_a_warm_model_is_asked_without_looking_at_the_host_again(one: FakeOllama) -> None:
    now = [0.0]
    settings = settings_for(HostSettings(url=one.url, name="one"))
    async with Router(settings=settings, clock_s=lambda: now[0]) as router:
        await router.run(NAMED)
        await router.run(NAMED)
        looks = sum(1 for r in one.requests if r.path == "/api/ps")
        await asyncio.gather(*(router.run(NAMED) for _ in range(5)))
        assert sum(1 for r in one.requests if r.path == "/api/ps") == looks
