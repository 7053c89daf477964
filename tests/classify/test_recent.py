"""What keeps Mission Control from being asked too often: kept answers, shared questions, the breaker."""

from __future__ import annotations

import asyncio

import pytest

from llm_router.classify.breaker import Breaker
from llm_router.classify.recent import Flights, Recent


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_answer_used_longest_ago_goes_first() -> None:
    recent: Recent[int] = Recent(2, 100, Clock())
    recent.put(b"a", 1)
    recent.put(b"b", 2)
    assert recent.get(b"a") == 1
    recent.put(b"c", 3)
    assert (recent.get(b"a"), recent.get(b"b"), recent.get(b"c")) == (1, None, 3)


def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    clock = Clock()
    recent: Recent[int] = Recent(2, 100, clock)
    recent.put(b"a", 1)
    clock.now_s = 99.9
    assert recent.get(b"a") == 1
    clock.now_s = 100
    assert recent.get(b"a") is None
    assert len(recent) == 0


def test_no_entries_means_no_memory() -> None:
    recent: Recent[int] = Recent(0, 100, Clock())
    recent.put(b"a", 1)
    assert recent.get(b"a") is None


class Work:
    """Something slow that counts how often it was begun, finished and cancelled."""

    def __init__(self) -> None:
        self.begun = self.finished = self.cancelled = 0
        self.gate = asyncio.Event()
        self.under_way = asyncio.Semaphore(0)

    async def __call__(self) -> int:
        self.begun += 1
        self.under_way.release()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return self.begun


async def test_those_who_ask_the_same_at_once_share_one_answer() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    waiting = [asyncio.create_task(flights.share(b"q", work)) for _ in range(5)]
    other = asyncio.create_task(flights.share(b"another", work))
    await work.under_way.acquire()
    await work.under_way.acquire()
    work.gate.set()
    assert len(set(await asyncio.gather(*waiting))) == 1
    await other
    assert work.begun == 2
    assert await flights.share(b"q", work) == 3  # nothing is kept once it has landed


async def test_it_goes_on_while_one_waits_and_is_cancelled_with_the_last() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    first, second = (asyncio.create_task(flights.share(b"q", work)) for _ in range(2))
    await work.under_way.acquire()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert work.cancelled == 0
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (work.begun, work.finished, work.cancelled) == (1, 0, 1)


def test_after_the_rest_one_caller_tries_and_the_others_wait_for_what_comes_of_it() -> None:
    clock = Clock()
    breaker: Breaker[str] = Breaker(2, 60, clock)
    for _ in range(2):
        assert breaker.refusal("a") == ""
        breaker.admit("a")
        breaker.failed("a")
    assert "resting after 2" in breaker.refusal("a")
    assert breaker.refusal("b") == ""
    clock.now_s = 60
    assert breaker.refusal("a") == ""
    breaker.admit("a")
    assert "tried again" in breaker.refusal("a")
    breaker.failed("a")
    assert "resting after 3" in breaker.refusal("a")
    clock.now_s = 120
    breaker.admit("a")
    breaker.abandoned("a")  # its caller went away: the next one may try
    assert breaker.refusal("a") == ""
    breaker.admit("a")
    breaker.succeeded("a")
    breaker.failed("a")
    assert breaker.refusal("a") == ""  # it counts from the beginning
