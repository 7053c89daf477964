"""Who goes first: quality against waiting, the fleet's choice, the floor, the conversation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulate.conftest import fleet, model
from tests.support.worlds import classified, embedded, host, host_down

from llm_router.decision import Candidate, Decision, Estimate
from llm_router.fleet import Fleet, load_fleet
from llm_router.fleet.schema import Category, Choice
from llm_router.hosts.load import HORIZON_S, HostLoad, ModelLoad
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel
from llm_router.policy import PolicySettings, World, decide
from llm_router.policy.decide import ranked
from llm_router.policy.settings import FAST_BALANCE, preferring
from llm_router.policy.waits import STILL, Moment, Place
from llm_router.request import RouteRequest


def candidate(
    name: str,
    score: float,
    *,
    quality: float = 0.5,
    resident: bool = False,
    memory_gb: float = 10.0,
    host: str = "spark-1",
    stays: bool = False,
    held_up_cost: float = 0.0,
    takes_s: float = 2.0,
) -> Candidate:
    estimate = Estimate(0.0, 1.0, takes_s - 1.0, memory_gb, 100)
    return Candidate(
        name,
        host,
        name,
        quality,
        "",
        resident,
        estimate,
        score,
        4096,
        stays=stays,
        held_up_cost=held_up_cost,
    )


LISTED = ("own", "weak", "cold", "warm")
"""The fleet's order."""


def order(
    *candidates: Candidate,
    selected: str = "own",
    locked: bool = False,
    deadline_s: float | None = None,
    **settings: object,
) -> list[str]:
    told = PolicySettings(**settings)  # type: ignore[arg-type]
    found = ranked(candidates, selected, told, listed=LISTED, locked=locked, deadline_s=deadline_s)
    return [c.model for c in found]


OWN = candidate("own", 0.5)
COLD = candidate("cold", 0.9)
WARM = candidate("warm", 0.6, resident=True)
WEAK = candidate("weak", 0.4, resident=True)


def test_owner_puts_the_fleets_choice_before_all_that_would_have_to_be_loaded() -> None:
    assert order(COLD, OWN) == ["own", "cold"]


def test_owner_lets_what_is_in_memory_and_scores_higher_go_first() -> None:
    assert order(OWN, COLD, WARM, WEAK) == ["warm", "own", "cold", "weak"]


def test_owner_lets_the_score_decide_where_others_would_wait_for_more_than_the_choice_is_better() -> None:
    own = candidate("own", 0.1, quality=0.9, held_up_cost=0.5)
    quick = candidate("quick", 0.4, quality=0.8, held_up_cost=0.39)
    assert order(own, quick) == ["quick", "own"]  # it spares others 0.11, and is 0.1 lower
    little = candidate("little", 0.4, quality=0.8, held_up_cost=0.41)
    assert order(own, little) == ["own", "little"]
    # Who is better as well need only hold up others less at all.
    assert order(own, candidate("better", 0.4, quality=1.0, held_up_cost=0.49)) == ["better", "own"]
    assert order(own, candidate("slow", 0.4, quality=1.0, held_up_cost=0.5)) == ["own", "slow"]
    # A lower score goes before nothing.
    assert order(own, candidate("poor", 0.05, quality=0.8)) == ["own", "poor"]
    assert order(own, quick, prefer="map") == ["own", "quick"]


def test_owner_loads_something_quicker_than_the_choice_while_others_wait_and_the_choice_when_alone() -> None:
    crowd = HostLoad(models={"other:latest": ModelLoad(1, 5.0, 5, 100.0)})
    alone, many = decided(box("other")), decided(box("other"), moment=Moment({"spark-1": crowd}))
    assert of(alone, "small").score > of(alone, "own").score  # whoever waits for the choice waits alone
    assert [c.model for c in alone.chain[:2]] == ["own", "small"]
    # Both write for as long; own's load keeps nobody, for nobody waits for another: the choice still goes.
    assert [c.model for c in many.chain].index("own") < [c.model for c in many.chain].index("small")
    behind = HostLoad(models={"other:latest": ModelLoad(0, 0.0, 5, 200.0)}, loads_waiting=("other:latest",))
    late = decided(box(), moment=Moment({"spark-1": behind}))
    assert of(late, "own").held_up_cost - of(late, "small").held_up_cost == pytest.approx(
        0.7 * math.sqrt(5) * (40 - 10) / 60
    )
    assert late.answer_model == "small"
    assert (
        "small answers instead: own would take about 111 s (load 40 s) while 5 others wait, "
        "small is 0.10 lower in quality and takes about 81 s (load 10 s)"
    ) in late.reasons


def test_map_keeps_the_fleets_order_whatever_is_in_memory() -> None:
    assert order(COLD, WARM, OWN, WEAK, prefer="map") == ["own", "weak", "cold", "warm"]
    far = candidate("weak", 0.7, host="spark-2")
    found = ranked([OWN, WEAK, far], "own", PolicySettings(prefer="map"), listed=LISTED)
    assert [c.host for c in found] == ["spark-1", "spark-2", "spark-1"]  # of one model the better place


def test_map_goes_on_as_the_fleet_lists_where_its_choice_may_not_answer() -> None:
    assert [c.model for c in decided(box("other"), prefer="map").chain] == ["own", "small", "other"]
    whole = box("other")
    without = replace(whole, installed={k: v for k, v in whole.installed.items() if k != "own"})
    assert [c.model for c in decided(without, prefer="map", balance=0.1).chain] == ["small", "other"]
    assert [c.model for c in decided(without, prefer="score", balance=0.1).chain] == ["other", "small"]


def test_score_knows_no_choice_of_the_fleet() -> None:
    assert order(OWN, WARM, COLD, WEAK, prefer="score") == ["cold", "warm", "own", "weak"]


def test_where_the_fleets_choice_may_not_answer_the_score_orders_the_rest() -> None:
    assert order(WEAK, COLD, WARM) == ["cold", "warm", "weak"]


def test_owner_takes_the_best_place_of_the_fleets_choice_where_it_has_several() -> None:
    far = candidate("own", 0.7, host="spark-2")
    assert order(OWN, WARM, far) == ["own", "own", "warm"]
    assert [c.host for c in ranked([OWN, WARM, far], "own", PolicySettings())] == [
        "spark-2",
        "spark-1",
        "spark-1",
    ]


@pytest.mark.parametrize("prefer", ["owner", "map", "score"])
def test_a_lock_keeps_who_answered_the_turn_before_whatever_the_score(prefer: str) -> None:
    before = candidate("before", -3.0, stays=True)
    assert order(OWN, WARM, before, locked=True, prefer=prefer)[0] == "before"
    assert order(OWN, WARM, before, prefer=prefer)[-1] == "before"
    assert order(OWN, WARM, locked=True, prefer=prefer)[0] != "before"


@pytest.mark.parametrize("prefer", ["owner", "map", "score"])
def test_who_would_be_late_comes_after_all_who_keep_the_deadline_the_quickest_first(prefer: str) -> None:
    own = candidate("own", 0.9, takes_s=900.0)
    weak = candidate("weak", 0.95, takes_s=100.0)
    slow = candidate("slow", 0.8, takes_s=60.1)
    quick = candidate("quick", 0.1, takes_s=60.0)
    every = own, weak, slow, quick
    assert order(*every, prefer=prefer, deadline_s=60.0) == ["quick", "slow", "weak", "own"]
    assert order(*every, prefer=prefer, deadline_s=20.0) == ["quick", "slow", "weak", "own"]
    assert order(*every, prefer=prefer, deadline_s=900.0) == order(*every, prefer=prefer)
    assert order(*every, prefer=prefer)[0] in ("own", "weak")


def test_the_fleets_choice_says_nothing_about_the_others_where_it_would_be_late() -> None:
    late = candidate("own", 0.5, takes_s=90.0)
    assert order(late, COLD, WARM, prefer="owner", deadline_s=60.0) == ["cold", "warm", "own"]
    elsewhere = candidate("own", 0.3, takes_s=50.0, host="spark-2")
    assert order(late, elsewhere, COLD, WARM, deadline_s=60.0) == ["warm", "own", "cold", "own"]


def test_a_lock_holds_although_the_answer_is_expected_too_late() -> None:
    before = candidate("before", -3.0, stays=True, takes_s=90.0)
    assert order(OWN, WARM, before, locked=True, deadline_s=60.0)[0] == "before"
    assert order(OWN, WARM, before, deadline_s=60.0)[-1] == "before"


def test_a_host_that_is_overdue_makes_no_late_answer_go_first() -> None:
    silent, late = candidate("own", 0.9), candidate("own", 0.8, host="spark-2", takes_s=90.0)
    quick = candidate("quick", 0.5, host="spark-2")
    told = PolicySettings(prefer="score")
    found = ranked([silent, late, quick], "own", told, deadline_s=60.0, overdue={"spark-1"})
    assert [(c.model, c.host) for c in found] == [
        ("own", "spark-1"),
        ("quick", "spark-2"),
        ("own", "spark-2"),
    ]


def test_ties_go_to_quality_then_to_less_memory_then_to_the_name_and_the_host() -> None:
    best = candidate("z", 0.5, quality=0.9, memory_gb=50)
    small = candidate("y", 0.5, memory_gb=5)
    first = candidate("b", 0.5, host="spark-1")
    second = candidate("b", 0.5, host="spark-2")
    last = candidate("c", 0.5)
    found = ranked([last, second, first, small, best], "none", PolicySettings())
    assert [(c.model, c.host) for c in found] == [
        ("z", "spark-1"),
        ("y", "spark-1"),
        ("b", "spark-1"),
        ("b", "spark-2"),
        ("c", "spark-1"),
    ]


def test_of_equal_hosts_of_the_choice_the_one_counts_that_holds_up_others_least() -> None:
    """In whatever order they come."""
    better = candidate("a", 1.0, quality=0.0)
    equal = [candidate("own", 0.5, host=f"spark-{n}", quality=0.0, held_up_cost=float(n)) for n in (0, 1)]
    orders = [[*equal, better], [*reversed(equal), better]]
    assert len({tuple(c.model for c in ranked(order, "own", PolicySettings())) for order in orders}) == 1


@given(
    st.lists(
        st.builds(
            candidate,
            st.sampled_from(["own", "a", "b", "c"]),
            st.floats(-2, 2),
            quality=st.floats(0, 1),
            resident=st.booleans(),
            host=st.sampled_from(["spark-1", "spark-2"]),
            stays=st.booleans(),
            held_up_cost=st.floats(0, 2),
            takes_s=st.sampled_from([1.0, 30.0, 60.0, 600.0]),
        ),
        max_size=6,
        unique_by=lambda c: (c.model, c.host),
    ),
    st.sampled_from(["owner", "map", "score"]),
    st.booleans(),
    st.sampled_from([None, 0.5, 30.0, 100.0, 1000.0]),
    st.randoms(use_true_random=False),
)
def test_the_order_depends_on_the_values_alone(
    candidates: list[Candidate], prefer: str, locked: bool, deadline_s: float | None, chance: object
) -> None:
    settings = PolicySettings(prefer=prefer)  # type: ignore[arg-type]
    found = ranked(candidates, "own", settings, locked=locked, deadline_s=deadline_s)
    shuffled = list(candidates)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ranked(shuffled, "own", settings, locked=locked, deadline_s=deadline_s) == found
    assert sorted(map(id, found)) == sorted(map(id, candidates))
    late = [c.is_late(deadline_s) for c in found if not (locked and c.stays)]
    assert late == sorted(late)


# The score itself, with numbers worked out by hand: 10 tokens a second, 400 tokens an answer, 1 GB a second.

SIZES_GB = {"own": 40.0, "small": 10.0, "other": 30.0}


def small_fleet(least_quality: float = 0.0) -> Fleet:
    choices = (
        Choice(model="own", quality=0.9),
        Choice(model="small", quality=0.8),
        Choice(model="other", quality=0.5),
    )
    made = fleet({name: model(size_gb) for name, size_gb in SIZES_GB.items()}, any=choices)
    category = Category(description="any", models=choices, output_tokens=400, least_quality=least_quality)
    return replace(made, categories={"any": category})


def box(*resident: str, name: str = "spark-1") -> HostSnapshot:
    return host(
        *(InstalledModel(one, round(size_gb * 1e9)) for one, size_gb in SIZES_GB.items()),
        name=name,
        resident=[ResidentModel(one, round(SIZES_GB[one] * 1e9), context_length=4096) for one in resident],
        memory_gb=100.0,
    )


def decided(
    *hosts: HostSnapshot,
    moment: Moment = STILL,
    fleet: Fleet | None = None,
    **settings: object,
) -> Decision:
    told = PolicySettings(**settings)  # type: ignore[arg-type]
    world = World(fleet or small_fleet(), hosts, told)
    return decide(RouteRequest.from_text("word " * 78), classified("any"), world, moment)


def of(decision: Decision, name: str, where: str = "spark-1") -> Candidate:
    return next(c for c in decision.chain if (c.model, c.host) == (name, where))


def test_a_decision_for_a_deadline_is_not_that_of_another_although_nothing_goes_on() -> None:
    world = World(small_fleet(), (box(),), PolicySettings())
    request, kind = RouteRequest.from_text("word " * 78), classified("any")
    told = {s: decide(request, kind, world, Moment(deadline_s=s)) for s in (None, 81.0, 80.0, 60.0, 5.0)}
    # own takes 80.96 s, small 50.96 s, other 70.96 s
    assert [told[s].answer_model for s in (None, 81.0, 80.0)] == ["own", "own", "small"]
    assert [c.model for c in told[80.0].chain] == ["small", "other", "own"]
    assert [c.model for c in told[60.0].chain] == ["small", "other", "own"]
    assert [c.model for c in told[5.0].chain] == ["small", "other", "own"]
    assert decide(request, kind, world) == told[None]
    assert (
        "small answers instead: own would take about 81 s (load 40 s), longer than the 80 s that this "
        "request may take, small is 0.10 lower in quality and takes about 51 s (load 10 s)"
    ) in told[80.0].reasons
    assert not told[None].warnings and not told[60.0].warnings
    assert told[5.0].warnings == (
        "small is expected to take about 51 s, longer than the 5 s that this request may take",
    )
    assert (told[80.0].as_json()["deadline_s"], told[None].as_json()["deadline_s"]) == (80.0, None)
    assert told[80.0].stamped("f" * 32, 1.0).deadline_s == 80.0


def test_waiting_counts_against_the_deadline() -> None:
    crowd = HostLoad(models={"small:latest": ModelLoad(1, 30.0, 1, 40.0)})
    request, kind = RouteRequest.from_text("word " * 78), classified("any")
    world = World(small_fleet(), (box("small", "other"),), PolicySettings())
    assert decide(request, kind, world, Moment(deadline_s=90.0)).answer_model == "small"
    assert decide(request, kind, world, Moment({"spark-1": crowd})).answer_model == "own"
    busy = decide(request, kind, world, Moment({"spark-1": crowd}, deadline_s=90.0))
    assert of(busy, "small").estimate.queue_s == 70.0
    assert busy.answer_model == "other"


def slowness(total_s: float) -> float:
    return total_s / (total_s + 60)


def test_the_score_is_quality_less_time_and_memory() -> None:
    decision = decided(box("small"))
    read_s, write_s = 0.96, 40.0  # 96 tokens, 400 tokens
    small = 0.8 - slowness(read_s + write_s) - 0.05 * 10 / 100
    own = 0.9 - slowness(40 + read_s + write_s) - 0.05 * 40 / 100
    assert of(decision, "small").score == pytest.approx(small)
    assert of(decision, "own").score == pytest.approx(own)
    assert decision.answer_model == "small"
    assert decision.selected_model == "own"
    assert (
        "small answers instead: own would take about 81 s (load 40 s), small is 0.10 lower in quality and "
        "takes about 41 s (resident)"
    ) in decision.reasons


def test_queue_crowd_and_regret_enter_the_score() -> None:
    load = HostLoad(
        models={"small:latest": ModelLoad(1, 12.0, 1, 41.0), "other:latest": ModelLoad(1, 5.0)},
        demand_per_s={"other:latest": 0.5 / HORIZON_S, "small:latest": 9 / HORIZON_S},
    )
    decision = decided(box("small", "other"), moment=Moment({"spark-1": load}))
    small = of(decision, "small")
    assert small.estimate.queue_s == pytest.approx(53.0)
    assert small.estimate.decode_s == pytest.approx(80.0)  # other writes at the same time
    held_up_s = math.sqrt(3) * (0.96 + 40)
    assert small.score == pytest.approx(
        0.8 - slowness(53 + 0.96 + 80) - 0.7 * held_up_s / 60 - 0.05 * 10 / 100
    )
    # 40 / 0.8 + 40 - 100 < 0: own fits beside both, nobody leaves.
    own = of(decision, "own")
    assert (own.leaving, own.regret_s, own.held_up) == ((), 0.0, 3)
    assert own.score == pytest.approx(
        0.9 - slowness(40 + 0.96 + 3 * 40) - 0.7 * held_up_s / 60 - 0.05 * 40 / 100
    )


def test_who_must_leave_is_charged_and_told() -> None:
    load = HostLoad(demand_per_s={"other:latest": 0.5 / HORIZON_S})
    tight = host(*box().installed.values(), resident=box("other").resident.values(), memory_gb=75.0)
    decision = decided(tight, moment=Moment({"spark-1": load}))
    own = of(decision, "own")  # 40 / 0.8 + 30 - 75 = 5 GB are missing
    assert own.leaving == ("other:latest",)
    assert own.regret_s == pytest.approx(15.0)
    assert own.score == pytest.approx(0.9 - slowness(80.96) - 0.7 * 15 / 60 - 0.05 * 40 / 75)
    assert decision.answer_model == "own"
    assert "not resident on spark-1, load about 40 s, other:latest must leave for it" in decision.reasons
    assert decision.as_json()["leaving"] == ["other:latest"]


def test_a_load_under_way_is_joined_and_counted_once() -> None:
    load = HostLoad(
        models={"own:latest": ModelLoad(0, 0.0, 1, 40.0)}, loading="own:latest", loading_left_s=25.0
    )
    own = of(decided(box(), moment=Moment({"spark-1": load})), "own")
    assert (own.estimate.queue_s, own.estimate.load_s) == (40.0, 25.0)
    assert not own.resident


def test_what_is_about_to_leave_counts_as_not_resident() -> None:
    load = HostLoad(loading="other:latest", loading_left_s=30.0, leaving=frozenset({"small:latest"}))
    small = of(decided(box("small"), moment=Moment({"spark-1": load})), "small")
    assert not small.resident
    assert (small.estimate.queue_s, small.estimate.load_s) == (30.0, 10.0)


@pytest.mark.parametrize(("balance", "impatience"), [(0.5, 1.0), (0.2, 4.0), (0.8, 0.25), (1.0, 0.0)])
def test_balance_weighs_time_against_quality_and_leaves_memory_alone(
    balance: float, impatience: float
) -> None:
    small = of(decided(box("small"), balance=balance), "small")
    assert small.score == pytest.approx(0.8 - impatience * slowness(40.96) - 0.005)


def test_balance_goes_from_the_fastest_to_the_best() -> None:
    assert decided(box("other"), balance=0.02).answer_model == "other"  # in memory, and good for little
    assert decided(box("other"), balance=1.0).answer_model == "own"


def test_fast_and_best_are_the_two_ends() -> None:
    fast = preferring(PolicySettings(), "fast")
    assert (fast.prefer, fast.balance) == ("score", FAST_BALANCE)
    assert preferring(PolicySettings(balance=0.05), "fast").balance == 0.05
    best = preferring(PolicySettings(), "best")
    assert (best.prefer, best.balance, best.memory_weight) == ("score", 1.0, 0.0)


def test_below_the_least_quality_of_the_category_nobody_answers_however_long_it_takes() -> None:
    decision = decided(box("small", "other"), fleet=small_fleet(least_quality=0.85))
    assert [c.model for c in decision.chain] == ["own"]
    assert [(r.model, r.code) for r in decision.rejected] == [("small", "quality"), ("other", "quality")]
    assert decision.rejected[0].why == "its quality 0.80 is below the least of the category, 0.85"
    just = decided(box("small"), fleet=small_fleet(least_quality=0.8))
    assert just.answer_model == "small"


def test_who_is_asked_for_by_name_has_no_floor() -> None:
    world = World(small_fleet(least_quality=0.85), (box(),), PolicySettings())
    asked = decide(RouteRequest.from_text("word", model="other"), classified("any"), world)
    assert asked.answer_model == "other"


def test_a_floor_above_all_leaves_nobody_and_says_so() -> None:
    decision = decided(box("small"), fleet=small_fleet(least_quality=0.95))
    assert decision.chain == ()
    assert {r.code for r in decision.rejected} == {"quality"}


def test_who_answered_the_turn_before_has_a_lead_and_reads_less() -> None:
    before = Moment(before=Place("small", "spark-1"))
    small = of(decided(box("small"), moment=before), "small")
    assert small.stays
    assert small.estimate.prefill_s == pytest.approx(0.2 * 0.96)
    assert small.score == pytest.approx(0.8 - slowness(0.2 * 0.96 + 40) - 0.005 + 0.03)
    elsewhere = of(decided(box("small"), box("small", name="spark-2"), moment=before), "small", "spark-2")
    assert not elsewhere.stays
    # Its memory of the conversation went with it when it left.
    gone = of(decided(box(), moment=before), "small")
    assert gone.stays and gone.estimate.prefill_s == pytest.approx(0.96)


def test_a_locked_conversation_goes_on_where_it_was_even_if_that_must_be_loaded() -> None:
    before = Place("other", "spark-1")
    free = decided(box("small"), moment=Moment(before=before))
    assert free.answer_model == "small"
    locked = decided(box("small"), moment=Moment(before=before, locked=True))
    assert locked.answer_model == "other"
    assert [c.model for c in locked.chain[1:]] == ["small", "own"]


def test_of_two_hosts_the_one_that_has_less_to_do_answers() -> None:
    busy = HostLoad(models={"small:latest": ModelLoad(1, 20.0)})
    decision = decided(box("small"), box("small", name="spark-2"), moment=Moment({"spark-1": busy}))
    assert (decision.chain[0].model, decision.chain[0].host) == ("small", "spark-2")


def test_of_the_hosts_of_a_model_one_that_has_not_told_for_long_comes_last_and_models_stay_in_order() -> None:
    hosts = box("small"), box("other", name="spark-2")
    calm = decided(*hosts)
    odd = decided(*hosts, moment=Moment(overdue=frozenset({"spark-1"})))
    assert [c.model for c in odd.chain] == [c.model for c in calm.chain]
    assert sorted(map(repr, odd.chain)) == sorted(map(repr, calm.chain)), "nobody is left out"
    assert calm.chain[0].host == "spark-1"
    for name in {c.model for c in odd.chain}:
        assert [c.host for c in odd.chain if c.model == name] == ["spark-2", "spark-1"]
    assert decided(*hosts, moment=Moment(overdue=frozenset({"spark-1", "spark-2"}))).chain == calm.chain


def test_a_model_that_does_not_fit_beside_what_is_kept_comes_after_all_others() -> None:
    kept = HostLoad(kept=frozenset({"other:latest"}))
    tight = host(*box().installed.values(), resident=box("other").resident.values(), memory_gb=75.0)
    decision = decided(tight, moment=Moment({"spark-1": kept}), prefer="score")
    # 40 GB are more than 80 % of the 45 beside it.
    assert [c.model for c in decision.chain][-1] == "own"
    assert of(decision, "own").score == pytest.approx(0.9 - slowness(80.96) - 0.05 * 40 / 75 - 1.0)


def test_the_stand_in_waits_for_nothing() -> None:
    shipped = load_fleet()
    world = World(replace(small_fleet(), stand_in=shipped.stand_in), (host_down(), embedded()))
    busy = Moment({"embedded": HostLoad(models={"x": ModelLoad(3, 60.0)})})
    decision = decide(RouteRequest.from_text("hello"), classified("any"), world, busy)
    assert decision.answer is not None and decision.answer.stand_in
    assert (decision.answer.estimate.queue_s, decision.answer.held_up) == (0.0, 0)


def test_four_who_wait_cost_twice_what_one_does_and_no_crowd_is_so_large_that_it_stops_counting() -> None:
    def cost(waiting: int) -> float:
        load = HostLoad(models={"other:latest": ModelLoad(0, 0.0, waiting, 9.0)})
        return of(decided(box("small"), moment=Moment({"spark-1": load})), "small").held_up_cost

    assert cost(1) == pytest.approx(0.7 * (0.96 + 40) / 60)
    assert cost(4) == pytest.approx(2 * cost(1))
    assert cost(400) == pytest.approx(20 * cost(1))
