"""Faults of real servers over real HTTP, with the memory managed: everybody gets an answer or one error,
nothing is loaded twice or for nothing, and afterwards nothing is left.

What is concluded comes from the box's own books and from what callers got, never from how long it took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from random import Random

import pytest
from tests.support.days import (
    CHAT_MODELS,
    LARGE,
    LIGHT,
    MIDDLE,
    OTHER,
    SMALL,
    Clock,
    answers_in,
    ask_all,
    box,
    changes,
    check_books,
    check_quiet,
    ends_of,
    loads_of,
    no_pause,
    nothing_left,
    settings_for,
    task,
    told_to_load,
)

from llm_router import answering
from llm_router.answer import Answer
from llm_router.errors import (
    AllAttemptsFailed,
    HostBusy,
    HostTimeout,
    HostUnreachable,
    ModelUnusable,
    NoModelAvailable,
    OutOfMemory,
)
from llm_router.hosts import residency as module
from llm_router.hosts.snapshot import HostSnapshot, ResidentModel
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_ollama import FakeOllama, Fault
from llm_router.testing.raw_http import RawClient

SEEDS = range(6)


@pytest.fixture
def there() -> Iterator[FakeOllama]:
    with box().in_thread() as server:
        yield server


@pytest.fixture
def hangs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load counts as hung after half a second, whatever it loads."""
    monkeypatch.setattr(module, "HUNG_OVERHEAD_S", 0.5)
    monkeypatch.setattr(module, "HUNG_GB_PER_S", 1e9)


def shuffled(seed: int, models: tuple[str, ...], count: int) -> list[str]:
    random = Random(seed)
    return [random.choice(models) for _ in range(count)]


# ── a loader that hangs while everything else is well ────────────────────────────────────────────────────


@pytest.mark.usefixtures("hangs_at_once")
@pytest.mark.parametrize("seed", SEEDS)
async def test_of_two_hosts_one_with_a_wedged_loader_the_other_answers(
    here: FakeOllama, there: FakeOllama, seed: int
) -> None:
    clock = Clock()
    with nothing_left():
        async with Router(settings=settings_for(here, there), clock_s=clock) as router:
            await router.run(task(LIGHT))
            assert here.resident == (LIGHT,)
            here.fault(Fault.WEDGED)
            wanted = shuffled(seed, (SMALL, MIDDLE, LIGHT), 16)
            ends = await ask_all(router, [task(model, f"task {n}") for n, model in enumerate(wanted)])
            answers = answers_in(ends)
            assert len(answers) == 16
            assert {a.host for a in answers if a.model != LIGHT} == {"box1"}
            failed = {type(a.error) for answer in answers for a in answer.attempts if a.error is not None}
            assert failed <= {HostTimeout}
            # Its list of what is in memory is as green as ever: what hung is not tried there again.
            tried = len(told_to_load(here))
            more = await ask_all(router, [task(model, "more") for model in (SMALL, MIDDLE, OTHER)])
            assert {end.host for end in more if isinstance(end, Answer)} == {"box1"}
            assert len(told_to_load(here)) == tried
            here.clear_faults()
            clock.ahead_s += 60.0
            await check_quiet(router, here, there)
    check_books(here)
    check_books(there)
    assert len(loads_of(there)) <= changes(wanted) + 3


@pytest.mark.usefixtures("hangs_at_once")
async def test_behind_a_wedged_loader_what_is_in_memory_goes_on_and_the_host_is_used_again_afterwards(
    here: FakeOllama,
) -> None:
    clock = Clock()
    with nothing_left():
        async with Router(settings=settings_for(here), clock_s=clock) as router:
            await router.run(task(LIGHT))
            here.fault(Fault.WEDGED)
            wanted = [LIGHT, SMALL, LIGHT, MIDDLE, SMALL, LIGHT] * 2
            ends = await ask_all(router, [task(model, f"task {n}") for n, model in enumerate(wanted)])
            assert [type(e) is Answer for e, model in zip(ends, wanted, strict=True) if model == LIGHT] == [
                True
            ] * 6
            assert loads_of(here) == [LIGHT]
            here.clear_faults()
            clock.ahead_s += 60.0
            assert isinstance((await ask_all(router, [task(SMALL)]))[0], Answer)
            await check_quiet(router, here)
    check_books(here)
    assert loads_of(here) == [LIGHT, SMALL]


@pytest.mark.usefixtures("hangs_at_once")
async def test_behind_a_load_that_hangs_nobody_waits_for_one_that_would_hang_as_well(
    here: FakeOllama, there: FakeOllama
) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here, there)) as router:
            here.fault(Fault.WEDGED)
            requests = [task(model) for model in (SMALL, MIDDLE, LARGE, OTHER, LIGHT)]
            asking = []
            for request in requests:
                found = await router.decide(request)
                chain = tuple(sorted(found.chain, key=lambda candidate: candidate.host))
                decision = found.with_chain(chain)
                asking.append(asyncio.ensure_future(router.run(request, decision=decision)))
            answers = answers_in(await ends_of(asking))
            assert [answer.model for answer in answers] == [request.model for request in requests]
            for answer in answers:
                (hung, _) = answer.attempts
                assert answer.host == "box1"
                assert hung.host == "box0" and isinstance(hung.error, HostTimeout)
            assert len(told_to_load(here)) == 1
            behind = [a.attempts[0].error for a in answers if a.model != told_to_load(here)[0]]
            assert {"a load before it hangs" in str(error) for error in behind} == {True}
            here.clear_faults()
    check_books(there)


# ── a host that goes down and comes back ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", SEEDS)
async def test_of_two_hosts_one_goes_down_in_the_middle_of_the_day_and_comes_back(
    there: FakeOllama, seed: int
) -> None:
    clock = Clock()
    random = Random(seed)
    with ExitStack() as one, nothing_left():
        here = box()
        one.enter_context(here.in_thread())
        async with Router(settings=settings_for(here, there), clock_s=clock) as router:
            await ask_all(router, [task(model) for model in shuffled(seed, (SMALL, LIGHT), 6)])
            here.fault(Fault.SLOW_TOKENS, after=0)
            here.fault(Fault.SLOW_LOAD)
            wanted = shuffled(seed + 100, (SMALL, LIGHT, MIDDLE, LARGE), 12)
            asking = [asyncio.ensure_future(router.run(task(model, "in the middle"))) for model in wanted]
            await here.until(lambda server: server.in_flight > random.randrange(3))
            one.close()
            ends = await ends_of(asking)
            assert len(answers_in(ends)) == 12
            assert {answer.host for answer in answers_in(ends)} == {"box1"}
            down = await ask_all(router, [task(model, "still down") for model in wanted])
            assert {answer.host for answer in answers_in(down)} == {"box1"}
            assert len(answers_in(down)) == 12
            back = box(port=here.port)
            one.enter_context(back.in_thread())
            clock.ahead_s += 60.0
            there.fault(Fault.BUSY)  # so that the one that is back has to answer
            again = await ask_all(router, [task(model, "back") for model in (SMALL, LIGHT, SMALL)])
            assert {answer.host for answer in answers_in(again)} == {"box0"}
            assert len(answers_in(again)) == 3
            there.clear_faults()
            await check_quiet(router, back, there)
    check_books(back)
    check_books(there)
    assert sorted(loads_of(back)) == sorted({SMALL, LIGHT})


async def test_a_host_alone_goes_down_and_comes_back_with_an_empty_memory() -> None:
    clock = Clock()
    with ExitStack() as one, nothing_left():
        here = box()
        one.enter_context(here.in_thread())
        async with Router(settings=settings_for(here), clock_s=clock) as router:
            await ask_all(router, [task(SMALL), task(LIGHT)])
            here.fault(Fault.SLOW_LOAD)
            asking = [asyncio.ensure_future(router.run(task(MIDDLE, f"task {n}"))) for n in range(4)]
            await here.until(lambda server: server.loading == MIDDLE)
            one.close()
            for end in await ends_of(asking):
                assert isinstance(end, AllAttemptsFailed)
                assert {type(a.error) for a in end.attempts} <= {HostUnreachable, HostBusy}
            for end in await ask_all(router, [task(SMALL, "down")]):
                assert isinstance(end, NoModelAvailable | AllAttemptsFailed)
                assert end.hint
            assert router.loads()["box0"].idle
            back = box(port=here.port)
            one.enter_context(back.in_thread())
            clock.ahead_s += 60.0
            ends = await ask_all(router, [task(model, "back") for model in (SMALL, LIGHT, SMALL, MIDDLE)])
            assert len(answers_in(ends)) == 4
            await check_quiet(router, back)
    check_books(back)
    assert sorted(loads_of(back)) == sorted([SMALL, LIGHT, MIDDLE])
    assert back.most_pending == 1


async def test_a_host_that_came_back_unnoticed_is_not_believed_to_hold_what_it_held() -> None:
    with ExitStack() as one, nothing_left():
        here = box()
        one.enter_context(here.in_thread())
        clock = Clock()
        async with Router(settings=settings_for(here), clock_s=clock) as router:
            await ask_all(router, [task(SMALL), task(LIGHT)])
            one.close()
            back = box(port=here.port)
            one.enter_context(back.in_thread())
            clock.ahead_s += 5.0  # the last look is old by now
            ends = await ask_all(router, [task(model, "back") for model in (SMALL, LIGHT) * 3])
            assert len(answers_in(ends)) == 6
            await check_quiet(router, back)
    check_books(back)
    assert told_to_load(back) == loads_of(back)


# ── memory that is not there ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_runs_out_of_memory_while_it_loads_takes_nobody_with_it(
    here: FakeOllama, seed: int
) -> None:
    """Ollama lets go of everything when a load fails so: who waits for those that were there waits for a
    load, as the router has to know before it sends anybody."""
    with nothing_left():
        async with Router(settings=settings_for(here)) as router:
            await ask_all(router, [task(SMALL), task(LIGHT)])
            here.fault(Fault.OOM, model=MIDDLE, times=1, path="/api/generate")
            wanted = [MIDDLE, *shuffled(seed, (SMALL, LIGHT, MIDDLE), 12)]
            asking = [asyncio.ensure_future(router.run(task(m, f"task {n}"))) for n, m in enumerate(wanted)]
            ends = await ends_of(asking)
            for model, end in zip(wanted, ends, strict=True):
                if isinstance(end, AllAttemptsFailed):
                    assert model == MIDDLE
                    assert [type(a.error) for a in end.attempts] == [OutOfMemory]
                else:
                    assert isinstance(end, Answer)
                    assert end.model == model
            await check_quiet(router, here)
            assert len(answers_in(await ask_all(router, [task(MIDDLE)]))) == 1
    assert len(loads_of(here)) <= changes(wanted) + 3


async def test_who_comes_while_a_load_runs_out_of_memory_is_answered_all_the_same(here: FakeOllama) -> None:
    """Ollama lets go of everything then, which a look of a moment ago does not know yet."""
    with nothing_left():
        async with Router(settings=settings_for(here)) as router:
            await ask_all(router, [task(LIGHT)])
            await ask_all(router, [task(SMALL)])
            here.fault(Fault.OOM, model=MIDDLE, times=1)
            here.fault(Fault.SLOW_TOKENS, model=SMALL, after=0, times=1)
            busy = asyncio.ensure_future(router.run(task(SMALL, "busy")))
            await here.until(lambda server: server.in_flight == 1)
            failing = asyncio.ensure_future(router.run(task(MIDDLE)))
            await here.until(lambda server: server.resident == (SMALL,))  # it lets go of all others first
            waiting = [asyncio.ensure_future(router.run(task(m, "next"))) for m in (OTHER, LIGHT, LIGHT)]
            while sum(work.waiting for work in router.loads()["box0"].models.values()) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            here.release()
            ends = await ends_of([busy, failing, *waiting])
            assert [type(end) for end in ends] == [Answer, AllAttemptsFailed, Answer, Answer, Answer]
            await check_quiet(router, here)
    assert loads_of(here).count(LIGHT) == 2, here.loads
    assert loads_of(here).count(OTHER) == 1, here.loads


# ── other programs on the same host ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", SEEDS)
async def test_others_load_and_unload_behind_its_back(here: FakeOllama, seed: int) -> None:
    random = Random(seed)
    clock = Clock()
    wanted: list[str] = []
    theirs: set[int] = set()
    with nothing_left():
        async with Router(settings=settings_for(here), clock_s=clock) as router, RawClient(here.url) as other:
            for round_number in range(6):
                before = len(here.loads)
                for _ in range(random.randrange(3)):
                    options = random.choice([{}, {"num_ctx": 2048}])
                    if random.random() < 0.6:
                        model = random.choice(CHAT_MODELS)
                        await other.chat(model, keep_alive=random.choice([-1, "5m", "1h"]), options=options)
                    elif here.resident:
                        body = {"model": random.choice(here.resident), "keep_alive": 0}
                        await other.post("/api/generate", body)
                theirs |= set(range(before, len(here.loads)))
                clock.ahead_s += 3.0  # what was seen last is old
                batch = shuffled(seed * 10 + round_number, CHAT_MODELS, 6)
                wanted += batch
                ends = await ask_all(
                    router, [task(one, f"{round_number} {n}") for n, one in enumerate(batch)]
                )
                assert len(answers_in(ends)) == 6, ends
                assert [end.model for end in answers_in(ends)] == batch
            clock.ahead_s += 3.0
            await check_quiet(router, here)
    check_books(here, others=theirs)
    assert theirs or seed
    assert len(told_to_load(here)) <= changes(wanted)


async def test_a_model_that_others_loaded_with_another_context_is_loaded_anew_by_the_desk(
    here: FakeOllama,
) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here)) as router, RawClient(here.url) as other:
            for model in (OTHER, LARGE):
                await other.chat(model, options={"num_ctx": 2048})
            ends = await ask_all(router, [task(OTHER, f"task {n}") for n in range(3)])
            assert len(answers_in(ends)) == 3
    assert [(e.model, e.reason) for e in here.loads[2:]] == [
        (OTHER, "unload"),
        (LARGE, "unload"),
        (OTHER, "load"),
    ]
    assert told_to_load(here) == [OTHER]
    check_books(here)


# ── as many models as Ollama holds ───────────────────────────────────────────────────────────────────────


async def few_places(router: Router, server: FakeOllama) -> None:
    """Five models in turn on a host that holds three, one of which answers slowly."""
    for model in (SMALL, LIGHT, MIDDLE, SMALL, LARGE, LIGHT, MIDDLE):
        (end,) = await ask_all(router, [task(model)])
        assert isinstance(end, Answer), end
    server.fault(Fault.SLOW_TOKENS, model=MIDDLE, after=1, times=1)
    busy = asyncio.ensure_future(router.run(task(MIDDLE, "a long one")))
    await server.until(lambda one: one.in_flight == 1)
    asking = [asyncio.ensure_future(router.run(task(model))) for model in (LARGE, SMALL, LIGHT)]
    await asyncio.wait(asking, timeout=0.3)
    server.release()
    assert len(answers_in(await ends_of([*asking, busy]))) == 4


def evicted(server: FakeOllama) -> list[str]:
    return [event.model for event in server.loads if event.reason == "evict"]


async def test_as_many_models_as_the_settings_say_are_in_memory_and_pins_stay() -> None:
    with box(max_loaded_models=3).in_thread() as server, nothing_left():
        settings = settings_for(server, max_loaded=3, pins=(SMALL,))
        async with Router(settings=settings) as router:
            await few_places(router, server)
            assert router.loads()["box0"].max_models == 3
        assert evicted(server) == []
        assert loads_of(server).count(SMALL) == 1
        check_books(server)


async def test_how_many_models_ollama_holds_is_learned_from_its_first_eviction() -> None:
    clock = Clock()
    with box(max_loaded_models=3).in_thread() as server, nothing_left():
        async with Router(settings=settings_for(server), clock_s=clock) as router:
            for model in (SMALL, LIGHT, MIDDLE):
                await ask_all(router, [task(model)])
            assert router.loads()["box0"].max_models is None
            server.fault(Fault.SLOW_LOAD, model=LARGE, times=1)
            large = asyncio.ensure_future(router.run(task(LARGE)))
            await server.until(lambda one: one.loading == LARGE)
            clock.ahead_s += 5.0
            await router.hosts()  # a look while it loads, which shows that one is gone
            server.release()
            assert (await large).model == LARGE
            assert router.loads()["box0"].max_models == 3
            assert len(evicted(server)) == 1
            await few_places(router, server)
            assert len(evicted(server)) == 1


async def test_where_pins_fill_the_places_every_request_is_answered() -> None:
    with box(max_loaded_models=2).in_thread() as server, nothing_left():
        settings = settings_for(server, max_loaded=2, pins=(SMALL, LIGHT))
        async with Router(settings=settings) as router:
            wanted = [SMALL, LIGHT, MIDDLE, LARGE, MIDDLE, SMALL, LIGHT]
            for _ in range(2):
                ends = await ask_all(router, [task(model) for model in wanted])
                assert [end.model for end in answers_in(ends)] == wanted


async def test_a_host_that_was_started_anew_may_hold_more() -> None:
    clock = Clock()
    with ExitStack() as first, nothing_left():
        server = box(max_loaded_models=2)
        first.enter_context(server.in_thread())
        async with Router(settings=settings_for(server), clock_s=clock) as router:
            for model in (SMALL, LIGHT, MIDDLE):
                await ask_all(router, [task(model)])
            assert router.loads()["box0"].max_models == 2
            first.close()
            with box(port=server.port).in_thread() as again:
                clock.ahead_s += 60.0
                for model in (SMALL, LIGHT, MIDDLE):
                    await ask_all(router, [task(model)])
                assert router.loads()["box0"].max_models is None
                assert len(again.resident) == 3


# ── kept models that others loaded ───────────────────────────────────────────────────────────────────────


async def test_a_pin_that_others_loaded_for_a_while_is_told_once_to_stay(here: FakeOllama) -> None:
    clock = Clock()
    with nothing_left():
        async with (
            Router(settings=settings_for(here, pins=(SMALL,)), clock_s=clock) as router,
            RawClient(here.url) as other,
        ):
            decision = await router.decide(task(SMALL))
            await other.chat(SMALL, options={"num_ctx": decision.chain[0].num_ctx}, keep_alive="5m")
            clock.ahead_s += 5.0
            here.fault(Fault.SLOW_LOAD, model=LIGHT, times=1)
            light = asyncio.ensure_future(router.run(task(LIGHT)))
            await here.until(lambda server: server.loading == LIGHT)
            clock.ahead_s += 5.0
            await ask_all(router, [task(SMALL)])
            assert told_to_load(here) == [LIGHT]  # not while one is loaded
            here.release()
            await light
            for _ in range(3):
                clock.ahead_s += 5.0
                await ask_all(router, [task(SMALL)])
            await here.until(lambda server: told_to_load(server) == [LIGHT, SMALL])
            clock.ahead_s += 5.0
            (host,) = await router.hosts()
            assert host.resident[SMALL].for_ever
            clock.ahead_s += 5.0
            await ask_all(router, [task(SMALL)])
            await check_quiet(router, here)
    assert told_to_load(here) == [LIGHT, SMALL]
    assert loads_of(here) == [SMALL, LIGHT]
    check_books(here)


# ── more than a host can answer ──────────────────────────────────────────────────────────────────────────


async def test_requests_for_what_is_in_memory_are_refused_beyond_the_bound(here: FakeOllama) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here, max_waiting=4), pause=no_pause) as router:
            await router.run(task(SMALL))
            here.fault(Fault.SLOW_TOKENS, model=SMALL, after=0)
            asking = [asyncio.ensure_future(router.run(task(SMALL, f"task {n}"))) for n in range(20)]
            refused, busy = await asyncio.wait(asking, return_when=asyncio.ALL_COMPLETED, timeout=1.0)
            assert (len(refused), len(busy)) == (15, 5)  # one is answered, four wait for their turn
            assert here.in_flight == 5
            here.clear_faults()
            here.release()
            ends = await ends_of(asking)
            assert len(answers_in(ends)) == 5
            for end in ends:
                if isinstance(end, AllAttemptsFailed):
                    assert {type(attempt.error) for attempt in end.attempts} == {HostBusy}
                    assert "4 requests wait there" in str(end)
            await check_quiet(router, here)
    assert loads_of(here) == [SMALL]


async def test_who_is_kept_is_never_refused_and_keeps_nobody_out(here: FakeOllama) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here, max_waiting=1, pins=(SMALL,))) as router:
            await router.run(task(SMALL))
            await router.run(task(LIGHT))
            here.fault(Fault.SLOW_TOKENS, model=SMALL, after=0)
            asking = [asyncio.ensure_future(router.run(task(SMALL, f"task {n}"))) for n in range(6)]
            await here.until(lambda server: server.in_flight == 6)
            assert (await router.run(task(LIGHT))).model == LIGHT
            here.clear_faults()
            here.release()
            assert len(answers_in(await ends_of(asking))) == 6


async def test_a_model_that_others_keep_busy_delays_a_load_and_ends_nothing(here: FakeOllama) -> None:
    with nothing_left():
        async with (
            Router(settings=settings_for(here, unload_s=0.2)) as router,
            RawClient(here.url) as other,
        ):
            here.fault(Fault.SLOW_TOKENS, model=LARGE, after=0, times=1)
            theirs = asyncio.ensure_future(other.chat(LARGE, options={"num_ctx": 8192}))
            await here.until(lambda server: LARGE in server.resident)
            asking = [asyncio.ensure_future(router.run(task(OTHER, f"task {n}"))) for n in range(3)]
            await here.until(lambda server: told_to_load(server) == [OTHER])
            here.release()
            assert (await theirs)["done"]
            assert len(answers_in(await ends_of(asking))) == 3
            await check_quiet(router, here)
    assert loads_of(here) == [LARGE, OTHER]


async def test_who_waits_much_longer_than_expected_for_a_busy_model_to_leave_is_answered_by_another(
    here: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "WAITS_MORE_S", 0.3)
    monkeypatch.setattr(answering, "WAITS_TIMES", 0.0)
    with nothing_left():
        async with Router(settings=settings_for(here)) as router:
            here.fault(Fault.SLOW_TOKENS, model=OTHER, after=0, times=1)
            long = asyncio.ensure_future(router.run(task(OTHER, "a long one")))
            await here.until(lambda server: OTHER in server.resident and server.in_flight > 0)
            request = RouteRequest.from_text("And a short one.")
            decision = await router.decide(request, category="max_quality_general")
            assert [c.model for c in decision.chain[:2]] == [LARGE, OTHER]
            assert decision.chain[0].leaving == ("llama3.1:70b",)
            short = asyncio.ensure_future(router.run(request, decision=decision))
            await here.until(lambda server: sum(r.path == "/api/chat" for r in server.requests) == 2)
            here.release()
            answer = await short
            assert answer.model == OTHER  # behind the one that is busy, and nothing was loaded
            (failed, _) = answer.attempts
            assert failed.model == LARGE and isinstance(failed.error, HostBusy)
            assert "its turn did not come within" in str(failed.error) and failed.error.hint
            assert (await long).model == OTHER
            assert loads_of(here) == [OTHER]
            # Where no other model is left it waits as long as the request may take.
            here.fault(Fault.SLOW_TOKENS, model=OTHER, after=0, times=1)
            long = asyncio.ensure_future(router.run(task(OTHER, "a long one")))
            await here.until(lambda server: server.in_flight > 0)
            only = asyncio.ensure_future(router.run(task(LARGE, "only this one")))
            await asyncio.wait([only], timeout=0.6)
            assert not only.done()
            here.release()
            assert {(await long).model, (await only).model} == {OTHER, LARGE}
            await check_quiet(router, here)
    check_books(here)
    assert loads_of(here) == [OTHER, LARGE]


@pytest.mark.usefixtures("hangs_at_once")
async def test_a_loader_that_others_have_blocked_for_good_is_an_error_and_no_endless_wait(
    here: FakeOllama,
) -> None:
    """Their request brings a ``keep_alive`` to a model on its way out and takes the mark off: Ollama's loader
    then waits for something that never happens."""
    with nothing_left():
        async with (
            Router(settings=settings_for(here, unload_s=0.1)) as router,
            RawClient(here.url) as other,
        ):
            here.fault(Fault.SLOW_TOKENS, model=LARGE, after=0, times=2)
            theirs = [asyncio.ensure_future(other.chat(LARGE, keep_alive=-1))]
            await here.until(lambda server: LARGE in server.resident)
            asking = asyncio.ensure_future(router.run(task(OTHER)))
            await here.until(lambda server: told_to_load(server) == [OTHER])
            theirs.append(asyncio.ensure_future(other.chat(LARGE, keep_alive=-1)))
            (end,) = await ends_of([asking])
            assert isinstance(end, Answer | AllAttemptsFailed)
            if isinstance(end, AllAttemptsFailed):
                assert {type(a.error) for a in end.attempts} == {HostTimeout}
            here.release()
            assert all(answer["done"] for answer in await asyncio.gather(*theirs))
            assert router.loads()["box0"].idle


# ── a queue that is full ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_a_full_queue_at_the_load_or_at_the_answer_is_gone_around(here: FakeOllama, path: str) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here), pause=no_pause) as router:
            await router.decide("hello there")
            here.fault(Fault.BUSY, model=SMALL, path=path, times=1)
            ends = await ask_all(router, [task(SMALL, f"task {n}") for n in range(4)])
            assert len(answers_in(ends)) == 4, ends
            failed = [a.error for end in answers_in(ends) for a in end.attempts if a.error is not None]
            assert {type(error) for error in failed} == {HostBusy}
            await check_quiet(router, here)
    check_books(here)
    assert loads_of(here).count(SMALL) <= 1


async def test_a_queue_that_stays_full_is_one_error_for_each_with_what_to_do(here: FakeOllama) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here), pause=no_pause) as router:
            here.fault(Fault.BUSY)
            for end in await ask_all(router, [task(SMALL, f"task {n}") for n in range(6)]):
                assert isinstance(end, AllAttemptsFailed)
                assert {type(a.error) for a in end.attempts} == {HostBusy}
            assert router.loads()["box0"].idle
            here.clear_faults()
            assert len(answers_in(await ask_all(router, [task(SMALL)]))) == 1
    check_books(here)


# ── callers who do not wait ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", SEEDS)
async def test_ten_of_twenty_leave_during_a_slow_load_and_the_others_are_answered_by_it(
    here: FakeOllama, seed: int
) -> None:
    with nothing_left():
        async with Router(settings=settings_for(here)) as router:
            here.fault(Fault.SLOW_LOAD, model=SMALL, times=1)
            asking = [asyncio.ensure_future(router.run(task(SMALL, f"task {n}"))) for n in range(20)]
            await here.until(lambda server: server.loading == SMALL)
            while sum(work.waiting for work in router.loads()["box0"].models.values()) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0)
            for leaving in Random(seed).sample(asking, 10):
                leaving.cancel()
            here.release()
            ends = await ends_of(asking)
            assert len(answers_in(ends)) == 10
            assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 10
            await check_quiet(router, here)
    check_books(here)
    assert told_to_load(here) == loads_of(here) == [SMALL]


# ── a model that this version cannot load ────────────────────────────────────────────────────────────────


async def test_what_a_version_cannot_load_is_learned_once_and_tried_again_with_the_next_version() -> None:
    clock = Clock()
    with ExitStack() as one, nothing_left():
        here = box(version="0.24.0")
        one.enter_context(here.in_thread())
        async with Router(settings=settings_for(here), clock_s=clock) as router:
            await router.decide("hello there")
            here.fault(Fault.UNKNOWN_ARCHITECTURE, model=SMALL)
            ends = await ask_all(router, [task(None, "What's 2+2?") for _ in range(5)])
            assert len(answers_in(ends)) == 5
            assert {type(end.attempts[0].error) for end in answers_in(ends)} == {ModelUnusable}
            for minutes in (1, 60, 600):
                clock.ahead_s += 60.0 * minutes
                (end,) = await ask_all(router, [task(None, "What's 2+2?")])
                assert isinstance(end, Answer)
                assert len(end.attempts) == 1
            rejected = {r.model: r for r in (await router.decide("What's 2+2?")).rejected}
            assert "architecture" in rejected[SMALL].why
            assert told_to_load(here).count(SMALL) == 1
            one.close()
            newer = box(version="0.25.0", port=here.port)
            one.enter_context(newer.in_thread())
            clock.ahead_s += 60.0
            (end,) = await ask_all(router, [task(None, "What's 2+2?")])
            assert isinstance(end, Answer)
            assert end.model == SMALL
            await check_quiet(router, newer)
    check_books(newer)


# ── clocks that jump ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ahead_s", [-30_000.0, 30_000.0])
async def test_nothing_depends_on_the_wall_clock(ahead_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's, which is set back and forward in the middle of the day, nor the host's."""
    real_s, jumped_s = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real_s() + jumped_s)
    wanted = [SMALL, LARGE, OTHER, SMALL, LARGE, LIGHT]
    books: list[list[tuple[str, str]]] = []
    for jumps, host_ahead_s in ((False, 0.0), (True, ahead_s)):
        jumped_s = 0.0
        with box(clock_ahead_s=host_ahead_s).in_thread() as here, nothing_left():
            async with Router(settings=settings_for(here)) as router:
                for number, model in enumerate(wanted):
                    if jumps:
                        jumped_s = ahead_s * (number % 3 - 1)
                    (end,) = await ask_all(router, [task(model)])
                    assert isinstance(end, Answer)
                    assert end.model == model
                    assert end.elapsed_s >= 0.0
                    assert all(attempt.elapsed_s >= 0.0 for attempt in end.attempts)
                await check_quiet(router, here)
            check_books(here)
            books.append([(event.model, event.reason) for event in here.loads])
    assert books[0] == books[1]


# ── a whole day of it ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(12))
async def test_a_day_on_which_everything_happens(seed: int) -> None:
    """Shuffled tasks and vectors, callers who leave, loads that fail, runners that die, full queues.

    No model rests for that: whichever faults met the same one, it is asked again in the end.
    """
    random = Random(seed)
    prefer = random.choice(["map", "owner", "score"])
    once = (Fault.OOM, Fault.BUSY, Fault.RUNNER_DIED, Fault.DROP_BEFORE_FIRST_BYTE, Fault.EMPTY_ANSWER)
    with box().in_thread() as here, box((SMALL, LIGHT, OTHER)).in_thread() as there, nothing_left():
        settings = settings_for(here, there, prefer=prefer, failures_until_rest=60)
        async with Router(settings=settings, pause=no_pause) as router:
            asking: list[asyncio.Task[Answer]] = []
            for number in range(60):
                server = random.choice([here, there])
                match random.choices(["ask", "leave", "fault", "hold", "release"], [10, 2, 2, 1, 2])[0]:
                    case "ask":
                        model = random.choice([*CHAT_MODELS, None, None])
                        asking.append(asyncio.ensure_future(router.run(task(model, f"task {number}"))))
                    case "leave" if asking:
                        random.choice(asking).cancel()
                    case "fault":
                        path = random.choice(["/api/chat", "/api/generate"])
                        server.fault(random.choice(once), path=path, times=1)
                    case "hold":
                        server.fault(random.choice([Fault.SLOW_LOAD, Fault.SLOW_TOKENS]), times=1)
                    case "release":
                        server.release()
                for _ in range(random.randrange(20)):
                    await asyncio.sleep(0)
            here.release()
            there.release()
            ends = await ends_of(asking)
            assert len(answers_in(ends)) >= len(ends) // 3
            here.clear_faults()
            there.clear_faults()
            vectors = await router.embed(["one", "two"])
            assert len(vectors.vectors) == 2
            await check_quiet(router, here, there)
    for server in (here, there):
        assert len(loads_of(server)) <= len(asking) + 1


# ── lists of what is in memory that say something else than was asked for ────────────────────────────────


class Listed(OllamaProvider):
    """Of this model the host's list says something else: it is there under another name (Ollama takes two
    names of the same weights for one model), or with another context than it was asked for."""

    name_told = LIGHT
    num_ctx_told: int | None = None

    async def resident(self) -> list[ResidentModel]:
        return [self._told(model) for model in await super().resident()]

    async def snapshot(self) -> HostSnapshot:
        snapshot = await super().snapshot()
        told = [self._told(model) for model in snapshot.resident.values()]
        return replace(snapshot, resident={model.name: model for model in told})

    def _told(self, model: ResidentModel) -> ResidentModel:
        if model.name != LIGHT:
            return model
        context = self.num_ctx_told or model.context_length
        return replace(model, name=self.name_told, context_length=context)


@pytest.mark.parametrize(("name", "num_ctx"), [("my-copy:latest", None), (LIGHT, 2048)])
async def test_what_was_loaded_is_not_loaded_again_whatever_the_list_calls_it(
    here: FakeOllama, name: str, num_ctx: int | None
) -> None:
    provider = Listed("box0", here.url, usable_memory_gb=100.0)
    provider.name_told, provider.num_ctx_told = name, num_ctx
    with nothing_left():
        async with Router(settings=settings_for(here), providers=[provider]) as router:
            for _ in range(3):
                ends = await ask_all(router, [task(LIGHT, f"task {n}") for n in range(4)])
                assert len(answers_in(ends)) == 4
            ends = await ask_all(router, [task(SMALL), task(LIGHT)])
            assert len(answers_in(ends)) == 2
    assert here.loads[0].model == LIGHT
    assert loads_of(here) == [LIGHT, SMALL]
