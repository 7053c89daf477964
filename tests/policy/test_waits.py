"""What a candidate waits for and whom it holds up, every term with numbers worked out by hand.

Models load in as many seconds as they have GB, read 100 tokens a second and write 10; the box has 100 GB.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulate.conftest import fleet, model
from tests.support.worlds import host

from llm_router.fleet.schema import Choice
from llm_router.hosts.load import HORIZON_S, QUIET, HostLoad, ModelLoad
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel
from llm_router.policy import World
from llm_router.policy.waits import NO_WAIT, STILL, Moment, Scene, Wait, wait_of

SIZES_GB = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 40.0, "e": 60.0, "huge": 95.0}
FLEET = fleet(
    {name: model(size_gb) for name, size_gb in SIZES_GB.items()},
    any=tuple(Choice(model=name, quality=0.8) for name in SIZES_GB),
)
LATEST = {name: f"{name}:latest" for name in SIZES_GB}
"""Hosts' names, in the form in which a HostLoad has them."""


def box(*resident: str, context: int = 4096) -> HostSnapshot:
    installed = [InstalledModel(name, round(size_gb * 1e9)) for name, size_gb in SIZES_GB.items()]
    return host(
        *installed,
        resident=[
            ResidentModel(name, round(SIZES_GB[name] * 1e9), context_length=context) for name in resident
        ],
        memory_gb=100.0,
    )


def waits(name: str, where: HostSnapshot, load: HostLoad = QUIET) -> Wait:
    return wait_of(World(FLEET, (where,)).standing(name, where), Scene(where, load, FLEET.machine))


def working(**models: tuple[int, float, int, float]) -> dict[str, ModelLoad]:
    """By model: running, seconds of that, waiting, seconds of that."""
    return {LATEST[name]: ModelLoad(*numbers) for name, numbers in models.items()}


def demand(**times: float) -> dict[str, float]:
    """So many requests within the horizon."""
    return {LATEST[name]: count / HORIZON_S for name, count in times.items()}


def test_at_a_quiet_empty_host_nothing_waits() -> None:
    assert waits("a", box()) is NO_WAIT
    assert Moment().load("anywhere") is QUIET
    assert STILL.load("anywhere") is QUIET


def test_what_is_in_memory_waits_for_its_own_queue_once_every_place_is_taken() -> None:
    for parallel, queue_s in ((1, 18.0), (2, 9.0), (4, 0.0)):
        load = HostLoad(models=working(a=(2, 13.0, 1, 5.0)), parallel=parallel)
        wait = waits("a", box("a"), load)
        assert wait.queue_s == pytest.approx(queue_s)
        assert (wait.slowed, wait.others, wait.behind_load, wait.regret_s) == (1.0, 3, 0, 0.0)


def test_other_models_that_write_slow_it_and_all_requests_there_are_held_up() -> None:
    load = HostLoad(models=working(a=(1, 4.0, 0, 0.0), b=(2, 9.0, 3, 30.0), c=(0, 0.0, 2, 8.0)))
    wait = waits("a", box("a", "b"), load)
    assert wait.slowed == 2.0  # b writes; c only waits
    assert wait.others == 8
    assert wait.queue_s == pytest.approx(4.0)


def test_a_load_waits_for_the_one_under_way_and_for_those_that_were_there_before() -> None:
    load = HostLoad(
        models=working(b=(0, 0.0, 2, 9.0), c=(0, 0.0, 1, 7.0), d=(0, 0.0, 3, 1.0)),
        loading=LATEST["b"],
        loading_left_s=13.0,
        loads_waiting=(LATEST["c"], LATEST["d"]),
    )
    # 13 s of b are left, then 30 GB of c and 40 GB of d.
    newcomer = waits("a", box(), load)
    assert newcomer.queue_s == pytest.approx(13 + 30 + 40)
    assert newcomer.behind_load == 1 + 3
    assert newcomer.load_s == pytest.approx(10.0)
    assert newcomer.others == 6

    # Whose load waits already waits for those before it and for its own queue, and delays no other load.
    third = waits("d", box(), load)
    assert third.queue_s == pytest.approx(1 + 13 + 30)
    assert (third.behind_load, third.regret_s) == (0, 0.0)
    assert third.load_s == pytest.approx(40.0)
    second = waits("c", box(), load)
    assert second.queue_s == pytest.approx(7 + 13)


def test_what_is_being_loaded_takes_what_is_left_of_its_load_and_not_a_whole_one_besides() -> None:
    load = HostLoad(models=working(b=(0, 0.0, 2, 9.0)), loading=LATEST["b"], loading_left_s=13.0)
    for where in (box(), box("b")):  # Ollama lists a model while it loads
        wait = waits("b", where, load)
        assert wait.load_s == pytest.approx(13.0)
        assert wait.queue_s == pytest.approx(9.0)
        assert (wait.behind_load, wait.regret_s, wait.leaving) == (0, 0.0, ())


def test_what_is_on_its_way_out_has_to_be_loaded_again_after_all_others() -> None:
    load = HostLoad(
        models=working(e=(1, 6.0, 0, 0.0), d=(0, 0.0, 1, 5.0), c=(0, 0.0, 1, 5.0)),
        loading=LATEST["d"],
        loading_left_s=46.0,
        loads_waiting=(LATEST["c"],),
        leaving=frozenset({LATEST["e"]}),
    )
    wait = waits("e", box("e"), load)
    assert wait.queue_s == pytest.approx(6 + 46 + 30)
    assert wait.load_s == pytest.approx(60.0)


def test_who_must_leave_is_what_it_takes_to_bring_them_back_as_far_as_they_are_wanted() -> None:
    # e takes 60 GB of memory; Ollama wants 60 / 0.8 = 75 GB free, 100 - 30 - 10 = 60 are: 15 are missing.
    load = HostLoad(demand_per_s=demand(a=0.5, c=0.25))
    wait = waits("e", box("a", "c"), load)
    assert wait.leaving == (LATEST["c"],)
    assert wait.regret_s == pytest.approx(0.25 * 30)
    assert wait.queue_s == 0.0
    # 35 GB are missing, which takes c and one more: 0.25 * 20 for b is less than 0.6 * 10 for a. What is
    # wanted seven times is certain to be wanted, and no more than that.
    load = HostLoad(demand_per_s=demand(a=0.6, b=0.25, c=7.0))
    wait = waits("e", box("a", "b", "c"), load)
    assert set(wait.leaving) == {LATEST["b"], LATEST["c"]}
    assert wait.regret_s == pytest.approx(0.25 * 20 + 30)


def test_a_victim_that_works_is_waited_for() -> None:
    load = HostLoad(models=working(c=(1, 8.0, 1, 4.0)))
    wait = waits("e", box("c"), load)  # 75 + 30 - 100 = 5 GB are missing
    assert wait.leaving == (LATEST["c"],)
    assert wait.queue_s == pytest.approx(12.0)
    assert wait.regret_s == 0.0  # nobody asked for it lately but those that are there
    assert wait.slowed == 2.0


def test_nobody_leaves_where_there_is_room() -> None:
    wait = waits("b", box("a", "c"), HostLoad(demand_per_s=demand(a=5, c=5)))
    assert (wait.leaving, wait.regret_s, wait.fits) == ((), 0.0, True)


def test_where_the_host_holds_no_more_models_the_one_that_is_missed_least_leaves() -> None:
    asked = demand(a=0.25, c=0.125)  # a takes 10 s to load again, c 30 s
    wait = waits("b", box("a", "c"), HostLoad(demand_per_s=asked, max_models=2))
    assert (wait.leaving, wait.fits) == ((LATEST["a"],), True)
    assert wait.regret_s == pytest.approx(0.25 * 10)
    assert waits("b", box("a", "c"), HostLoad(demand_per_s=asked, max_models=3)).leaving == ()
    kept = HostLoad(max_models=2, kept=frozenset({LATEST["a"], LATEST["c"]}))
    assert (waits("b", box("a", "c"), kept).leaving, waits("b", box("a", "c"), kept).fits) == ((), True)


def test_the_own_copy_with_another_context_gives_its_room_and_is_no_victim() -> None:
    where = box("d", "c", context=8192)
    # d is loaded otherwise: its 40 GB leave by themselves, and 40 / 0.8 = 50 GB fit beside c.
    wait = waits("d", where, HostLoad(demand_per_s=demand(d=5, c=5)))
    assert (wait.leaving, wait.regret_s) == ((), 0.0)
    assert wait.load_s == pytest.approx(40.0)


def test_kept_models_never_leave_and_what_does_not_fit_beside_them_is_said_not_to() -> None:
    kept = frozenset({LATEST["a"]})
    wait = waits("e", box("a", "c"), HostLoad(kept=kept, demand_per_s=demand(c=1)))
    assert wait.leaving == (LATEST["c"],)
    assert wait.fits
    # huge: 95 GB beside 10 are too much. e beside c kept: 60 GB are more than 0.8 * 70 = 56, so that Ollama
    # would evict c for it.
    wait = waits("huge", box("a", "c"), HostLoad(kept=kept))
    assert (wait.leaving, wait.fits) == ((LATEST["c"],), False)
    wait = waits("e", box("c"), HostLoad(kept=frozenset({LATEST["c"]})))
    assert (wait.leaving, wait.fits) == ((), False)
    # Where nothing is kept even huge fits, into an empty box.
    wait = waits("huge", box("a", "c"))
    assert set(wait.leaving) == {LATEST["a"], LATEST["c"]}
    assert wait.fits


def test_servers_that_load_nothing_and_models_elsewhere_wait_for_nothing() -> None:
    busy = HostLoad(models=working(a=(3, 50.0, 3, 50.0)), loading=LATEST["b"], loading_left_s=20.0)
    assert waits("a", replace(box("a"), kind="openai"), busy) is NO_WAIT
    remote = host(InstalledModel("a", remote_host="https://example.com"), memory_gb=100.0)
    assert waits("a", remote, busy) is NO_WAIT
