"""Which answers had a host to themselves: known at once, or as soon as all who were there have ended."""

from __future__ import annotations

import pytest

from llm_router.hosts.crowd import MOST_KEPT, Crowd, Visit
from llm_router.hosts.speeds import Measured

SAMPLE = Measured(decode_tokens_per_s=20.0)


def ends(visit: Visit, now_s: float, work_s: float | None) -> list[Visit]:
    visit.worked(now_s, work_s, SAMPLE)
    return visit.leave(now_s)


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def test_who_was_there_at_the_same_time_was_not_alone(crowd: Crowd) -> None:
    first = crowd.enter("box", "a", 0.0)
    elsewhere = crowd.enter("other", "a", 0.0)
    assert first.alone and elsewhere.alone
    second = crowd.enter("box", "a", 0.0)
    assert not first.alone and not second.alone
    for visit in (first, second, second):
        assert visit.leave(1.0) == []
    assert crowd.enter("box", "a", 2.0).alone and not first.alone


def test_answers_one_after_the_other_were_alone_while_they_were_worked_on(crowd: Crowd) -> None:
    visits = [crowd.enter("box", "a", 0.0) for _ in range(3)]
    assert ends(visits[0], 10.0, 9.9) == []
    assert ends(visits[1], 20.0, 9.8) == []
    assert ends(visits[2], 30.0, 9.9) == visits


def test_it_is_known_of_each_as_soon_as_all_who_were_there_have_ended(crowd: Crowd) -> None:
    """A host that is never empty teaches, too."""
    waiting = [crowd.enter("box", "a", 0.0), crowd.enter("box", "a", 0.0)]
    known = []
    for turn in range(1, 50):
        known += ends(waiting.pop(0), 10.0 * turn, 9.9)
        waiting.append(crowd.enter("box", "a", 10.0 * turn))
    assert len(known) == 48


@pytest.mark.parametrize("work_s", [(10.0, 10.0), (10.0, 1.2), (1.2, 10.0)])
def test_answers_worked_on_together_were_not(crowd: Crowd, work_s: tuple[float, float]) -> None:
    first, second = crowd.enter("box", "a", 0.0), crowd.enter("box", "a", 0.0)
    assert ends(first, 10.0, work_s[0]) == []
    assert second not in ends(second, 10.1, work_s[1])


def test_a_tenth_of_the_time_together_is_nothing(crowd: Crowd) -> None:
    first, second = crowd.enter("box", "a", 0.0), crowd.enter("box", "a", 0.0)
    ends(first, 10.0, 10.0)
    assert ends(second, 19.5, 10.0) == [first, second]
    first, second = crowd.enter("box", "a", 20.0), crowd.enter("box", "a", 20.0)
    ends(first, 30.0, 10.0)
    assert ends(second, 38.5, 10.0) == []


def test_another_model_counts_from_its_coming_to_its_end(crowd: Crowd) -> None:
    """It may have been loaded before it was worked on, which takes bandwidth, too."""
    first = crowd.enter("box", "a", 0.0)
    other = crowd.enter("box", "b", 5.0)
    assert ends(first, 10.0, 10.0) == []
    assert ends(other, 20.0, 9.0) == [other]
    first, second = crowd.enter("box", "a", 20.0), crowd.enter("box", "a", 20.0)
    ends(first, 30.0, 9.9)
    other = crowd.enter("box", "b", 30.0)
    assert ends(other, 35.0, 1.0) == []
    assert ends(second, 40.0, 9.9) == [first]


@pytest.mark.parametrize("told", [True, False])
def test_who_does_not_say_how_long_it_was_worked_on_may_have_been_all_the_time(
    crowd: Crowd, told: bool
) -> None:
    first, second = crowd.enter("box", "a", 0.0), crowd.enter("box", "a", 0.0)
    ends(first, 10.0, 9.9)
    if told:
        assert ends(second, 20.0, None) == []
    else:  # it failed, or its caller left
        assert second.leave(20.0) == []


def test_behind_a_long_one_what_can_not_be_kept_teaches_nothing(crowd: Crowd) -> None:
    long = crowd.enter("box", "a", 0.0)
    beside = crowd.enter("box", "a", 0.0)
    known: list[Visit] = []
    for turn in range(1, MOST_KEPT + 2):
        following = crowd.enter("box", "a", float(turn))
        known += ends(beside, turn + 0.5, 0.4)
        beside = following
    last = crowd.enter("box", "a", 1000.0)
    known += ends(long, 1000.0, 0.2)
    known += ends(beside, 1001.0, 0.5)
    assert known == []
    assert ends(last, 1002.0, 0.5) == [last]
