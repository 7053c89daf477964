"""Looks at the hosts that nobody asked for: often while something goes on, seldom while nothing does."""

from __future__ import annotations

from llm_router.hosts.poll import Poller


def looks(poller: Poller, first_s: int, last_s: int, *, busy: bool) -> list[int]:
    """The seconds at which it looks, asked every second."""
    return [second for second in range(first_s, last_s) if poller.due(busy=busy, now_s=second)]


def test_while_something_goes_on_it_looks_as_often_as_it_is_told() -> None:
    assert looks(Poller(2.0), 0, 11, busy=True) == [0, 2, 4, 6, 8, 10]


def test_while_nothing_does_the_pauses_grow_to_a_minute() -> None:
    assert looks(Poller(2.0), 0, 300, busy=False) == [0, 4, 12, 28, 60, 120, 180, 240]


def test_the_next_thing_that_goes_on_ends_a_long_pause() -> None:
    poller = Poller(2.0)
    assert looks(poller, 0, 130, busy=False)[-1] == 120
    assert looks(poller, 130, 135, busy=True) == [130, 132, 134]
    assert looks(poller, 135, 160, busy=False) == [136, 140, 148]


def test_pauses_longer_than_a_minute_stay_as_long_as_they_are() -> None:
    assert looks(Poller(100.0), 0, 401, busy=False) == [0, 100, 200, 300, 400]
