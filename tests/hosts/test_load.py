"""Who leaves the memory, and what a load of a host comes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.worlds import host

from llm_router.hosts.load import (
    HORIZON_S,
    HostLoad,
    ModelLoad,
    Victim,
    choose_victims,
    missing_gb,
    missing_places,
    victims_of,
    wanted_again,
)
from llm_router.hosts.snapshot import ResidentModel


def victims() -> st.SearchStrategy[list[Victim]]:
    one = st.builds(
        Victim,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        size_gb=st.floats(0.1, 80.0),
        reload_s=st.floats(0.0, 60.0),
        busy_s=st.floats(0.0, 300.0),
    )
    return st.lists(one, max_size=7, unique_by=lambda victim: victim.name)


@given(victims(), st.floats(0.0, 200.0))
def test_enough_leave_and_nobody_for_nothing(candidates: list[Victim], need_gb: float) -> None:
    chosen = choose_victims(candidates, need_gb)
    if chosen is None:
        assert sum(victim.size_gb for victim in candidates) < need_gb + 1e-6
        return
    freed_gb = sum(victim.size_gb for victim in chosen)
    assert set(chosen) <= set(candidates)
    assert freed_gb >= need_gb - 1e-6
    for victim in chosen:
        assert freed_gb - victim.size_gb < need_gb + 1e-6, f"{victim.name} leaves for nothing"


@given(victims(), st.floats(-50.0, 100.0), st.integers(1, 8))
def test_as_many_leave_as_places_are_needed_and_nobody_beyond_that_for_nothing(
    candidates: list[Victim], need_gb: float, places: int
) -> None:
    chosen = choose_victims(candidates, need_gb, places)
    if chosen is None:
        assert sum(victim.size_gb for victim in candidates) < need_gb + 1e-6
        return
    freed_gb = sum(victim.size_gb for victim in chosen)
    assert set(chosen) <= set(candidates) and len(set(chosen)) == len(chosen)
    assert len(chosen) >= min(places, len(candidates))
    assert freed_gb >= need_gb - 1e-6
    if len(chosen) > places:
        for victim in chosen:
            assert freed_gb - victim.size_gb < need_gb + 1e-6, f"{victim.name} leaves for nothing"
    if need_gb <= 0:
        dearest_s = max((victim.reload_s + victim.busy_s for victim in chosen), default=0.0)
        stay = [victim for victim in candidates if victim not in chosen]
        assert all(victim.reload_s + victim.busy_s >= dearest_s for victim in stay)


@given(st.integers(0, 9), st.none() | st.integers(1, 6))
def test_a_place_is_missing_where_the_others_fill_them_all(others: int, most: int | None) -> None:
    missing = missing_places(most, others)
    assert missing >= 0
    assert most is None or missing == 0 or others - missing + 1 == most
    assert most is not None or missing == 0


@given(victims(), st.floats(0.0, 200.0), st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_told_changes_nothing(
    candidates: list[Victim], need_gb: float, chance: st.DrawFn
) -> None:
    shuffled = list(candidates)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose_victims(shuffled, need_gb) == choose_victims(candidates, need_gb)


@given(victims(), st.floats(0.1, 60.0))
def test_where_one_is_enough_and_costs_nothing_no_other_leaves(
    candidates: list[Victim], need_gb: float
) -> None:
    free = Victim("idle and unwanted", size_gb=need_gb, reload_s=0.0)
    wanted = [victim for victim in candidates if victim.reload_s + victim.busy_s > 1.0 and victim.size_gb > 1]
    assert choose_victims([*wanted, free], need_gb) == (free,)


def test_the_cheapest_by_gb_leave_first_and_the_dearest_of_them_stay_where_they_can() -> None:
    small = Victim("small", 10.0, reload_s=1.0)  # 0.1 s per GB
    middle = Victim("middle", 30.0, reload_s=6.0)  # 0.2
    large = Victim("large", 60.0, reload_s=30.0)  # 0.5
    assert choose_victims([large, middle, small], 8.0) == (small,)
    assert choose_victims([large, middle, small], 40.0) == (small, middle)
    # Small and middle are chosen before large; with large there, both are needless, middle is spared first.
    assert choose_victims([large, middle, small], 55.0) == (large,)
    assert choose_victims([large, middle, small], 65.0) == (small, large)
    assert choose_victims([large, middle, small], 101.0) is None
    assert choose_victims([], 0.0) == ()


def test_one_that_works_costs_its_wait() -> None:
    idle = Victim("idle", 10.0, reload_s=5.0)
    busy = Victim("busy", 10.0, reload_s=0.0, busy_s=6.0)
    assert choose_victims([busy, idle], 10.0) == (idle,)


def test_what_must_become_free_follows_ollamas_rule() -> None:
    assert missing_gb(95.0, 0.0, 100.0) == 0.0  # into an empty box
    assert missing_gb(40.0, 50.0, 100.0) == pytest.approx(0.0)  # 40 GB are 80 % of what is free
    assert missing_gb(40.0, 60.0, 100.0) == pytest.approx(10.0)
    assert missing_gb(8.0, 20.0, 100.0) == pytest.approx(-70.0)


def test_victims_are_all_but_those_that_are_kept_with_what_their_leaving_costs() -> None:
    resident = [
        ResidentModel("mistral:7b", 6 * 10**9),
        ResidentModel("PHI4", 10 * 10**9),
        ResidentModel("nomic-embed-text", 10**9),
    ]
    load = HostLoad(
        models={"phi4:latest": ModelLoad(1, 4.0, 2, 16.0)},
        demand_per_s={"mistral:7b": 0.5 / HORIZON_S, "phi4:latest": 30 / HORIZON_S},
        kept=frozenset({"nomic-embed-text:latest"}),
    )
    assert victims_of(host(resident=resident), load, load_s_per_gb=0.5, load_overhead_s=2.0) == (
        Victim("mistral:7b", 6.0, reload_s=2.5, busy_s=0.0),
        Victim("phi4:latest", 10.0, reload_s=7.0, busy_s=20.0),
    )


def test_who_is_wanted_at_least_once_within_the_horizon_is_sure_to_come_back() -> None:
    load = HostLoad(demand_per_s={"a": 0.25 / HORIZON_S, "b": 3 / HORIZON_S})
    assert [wanted_again(load, name) for name in "abc"] == [0.25, 1.0, 0.0]


def test_a_host_is_idle_where_nobody_asks_and_nothing_loads() -> None:
    assert HostLoad().idle
    assert not HostLoad(models={"a": ModelLoad(1, 1.0)}).idle
    assert not HostLoad(loading="a").idle
