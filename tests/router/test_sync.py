"""The blocking router ends cleanly: nobody is left waiting, and what comes later is told why."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from llm_router.answer import Decided
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import LLMRouterError
from llm_router.sync import SyncRouter
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

CHAT = "What's 2+2?"
WAIT_S = 20.0


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama(fleet_models(("mistral:7b", "llama3.2:1b"))).in_thread() as server:
        yield server


def made(server: FakeOllama) -> SyncRouter:
    hosts = (HostSettings(url=server.url, name="ollama"),)
    return SyncRouter(settings=Settings(hosts=hosts, routing=RoutingSettings(stand_in="never")))


def wedged(server: FakeOllama) -> None:
    server.fault(Fault.WEDGED, model="mistral:7b")


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[Exception]]:
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


def test_closing_ends_the_calls_that_other_threads_wait_for(ollama: FakeOllama) -> None:
    router = made(ollama)
    wedged(ollama)
    thread, raised = in_thread(lambda: router.run(CHAT))
    ollama.wait_until(lambda server: server.wedged)
    closing, closing_raised = in_thread(router.close)
    closing.join(WAIT_S)
    thread.join(WAIT_S)
    assert not closing.is_alive() and not thread.is_alive()
    assert closing_raised == []
    assert [str(error).partition(":")[0] for error in raised] == ["the router is closed"]
    assert isinstance(raised[0], LLMRouterError)


def test_a_closed_router_says_so_to_every_later_call(ollama: FakeOllama) -> None:
    router = made(ollama)
    router.close()
    router.close()
    for call in (router.decide, router.run, router.classify, lambda task: list(router.stream(task))):
        with pytest.raises(LLMRouterError, match="the router is closed") as caught:
            call(CHAT)
        assert caught.value.hint
    gc.collect()  # a coroutine that nobody awaited would warn here


def test_a_stream_that_is_left_after_closing_ends_without_an_error(ollama: FakeOllama) -> None:
    router = made(ollama)
    events = router.stream(CHAT)
    assert isinstance(next(events), Decided)
    router.close()
    events.close()


def test_a_stream_that_goes_on_after_closing_says_so(ollama: FakeOllama) -> None:
    router = made(ollama)
    events = router.stream(CHAT)
    next(events)
    router.close()
    with pytest.raises(LLMRouterError, match="the router is closed"):
        next(events)


def test_two_threads_may_close_at_once(ollama: FakeOllama) -> None:
    router = made(ollama)
    router.decide(CHAT)
    closing = [in_thread(router.close) for _ in range(4)]
    for thread, _ in closing:
        thread.join(WAIT_S)
    assert [(thread.is_alive(), raised) for thread, raised in closing] == [(False, [])] * 4


def test_a_router_that_nobody_holds_any_more_ends_its_thread(ollama: FakeOllama) -> None:
    router = made(ollama)
    router.decide(CHAT)
    thread = next(t for t in threading.enumerate() if t is router._thread)
    del router
    gc.collect()
    thread.join(WAIT_S)
    assert not thread.is_alive()
