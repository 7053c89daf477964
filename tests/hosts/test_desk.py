"""The desk as a state machine: whatever happens in whatever order, these hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_router.hosts.desk import Action, Desk, Load, Start, Ticket, Unload
from llm_router.hosts.load import FREE_SHARE, HORIZON_S

USABLE_GB = 100.0
SIZES_GB = {"kept": 3.0, "a": 10.0, "b": 20.0, "c": 35.0, "d": 50.0, "e": 60.0, "huge": 95.0}
"""Each loads in as many seconds as it has GB."""


def ticket(number: int, model: str, work_s: float = 10.0) -> Ticket:
    return Ticket(number, model, SIZES_GB[model], SIZES_GB[model], work_s)


def desk(**more: object) -> Desk:
    return Desk(USABLE_GB, load_gb_per_s=1.0, load_overhead_s=0.0, **more)  # type: ignore[arg-type]


class Host:
    """Carries out at once what a desk says, but for loads, and notes it."""

    def __init__(self, here: Desk) -> None:
        self.desk = here
        self.told: list[str] = []

    def enter(self, number: int, model: str, now_s: float = 0.0) -> list[str]:
        self.desk.enter(ticket(number, model), now_s)
        return self.act(now_s)

    def loaded(self, model: str, now_s: float = 0.0) -> list[str]:
        self.desk.loaded(model)
        return self.act(now_s)

    def ended(self, number: int, now_s: float = 0.0) -> list[str]:
        self.desk.ended(number)
        return self.act(now_s)

    def act(self, now_s: float = 0.0) -> list[str]:
        """What it says now and what follows from that, in words."""
        told: list[str] = []
        waiting = self.desk.next(now_s)
        while waiting:
            action = waiting.pop(0)
            match action:
                case Start(who):
                    told.append(f"start {who.number}")
                case Load(model):
                    told.append(f"load {model}")
                case Unload(model):
                    told.append(f"unload {model}")
                    self.desk.unloaded(model)
                    waiting += self.desk.next(now_s)
        return told


def test_a_model_that_was_loaded_answers_before_it_leaves_for_the_next() -> None:
    host = Host(desk())
    assert host.enter(1, "d") == ["load d"]
    assert host.enter(2, "e") == []
    assert host.loaded("d") == ["start 1"]
    assert host.ended(1) == ["unload d", "load e"]
    assert host.loaded("e") == ["start 2"]


def test_all_that_wait_for_a_model_start_together_and_the_first_to_come_is_loaded_first() -> None:
    host = Host(desk())
    host.enter(1, "a")
    for number, model in ((2, "b"), (3, "a"), (4, "c"), (5, "b")):
        assert host.enter(number, model) == []
    assert host.loaded("a") == ["start 1", "start 3", "load b"]
    assert host.loaded("b") == ["start 2", "start 5", "load c"]
    assert host.loaded("c") == ["start 4"]


def test_a_model_that_is_to_leave_takes_nobody_in_and_comes_back_for_them() -> None:
    host = Host(desk())
    host.enter(1, "e")
    host.loaded("e")
    assert host.enter(2, "d") == []  # e answers 1
    assert host.desk.leaving == {"e"}
    assert host.enter(3, "e") == []
    assert host.ended(1) == ["unload e", "load d"]
    assert host.loaded("d") == ["start 2"]
    assert host.ended(2) == ["unload d", "load e"]
    assert host.loaded("e") == ["start 3"]


def test_what_leaves_is_told_and_counts_as_a_load_that_waits_where_somebody_wants_it() -> None:
    host = Host(desk())
    host.enter(1, "e")
    host.loaded("e")
    host.enter(2, "d")
    assert host.desk.load(0.0).leaving == {"e"}
    assert host.desk.load(0.0).loads_waiting == ()
    host.enter(3, "e")
    assert host.desk.load(0.0).loads_waiting == ("e",)


def test_memory_that_others_fill_after_the_plan_is_made_is_freed_before_the_load() -> None:
    host = Host(desk())
    host.enter(1, "e")
    host.loaded("e")
    host.enter(2, "d")
    host.desk.seen({"e": 60.0, "foreign": 45.0})
    assert host.ended(1) == ["unload e", "unload foreign", "load d"]


def test_a_model_that_does_not_leave_is_told_to_once_for_a_load() -> None:
    here = desk()
    here.seen({"b": 20.0, "foreign": 45.0})
    here.enter(ticket(1, "e"), 0.0)
    assert here.next(0.0) == [Unload("foreign")]
    here.unloaded("foreign")
    here.seen({"b": 20.0, "foreign": 45.0})  # somebody asks it all the time
    assert here.next(0.0) == [Unload("b")]
    here.unloaded("b")
    here.seen({"foreign": 45.0})
    assert here.next(0.0) == [Load("e", 60.0, 60.0)]


def test_who_waits_for_a_load_does_not_start_because_the_host_shows_the_model_already() -> None:
    here = desk()
    here.enter(ticket(1, "a"), 0.0)
    here.next(0.0)
    here.seen({"a": 10.0})  # Ollama lists a model while it loads
    assert here.next(1.0) == []
    assert [t.number for t in here.load_failed("a")] == [1]


def test_a_plan_that_nobody_waits_for_any_more_is_dropped_and_the_next_one_made() -> None:
    host = Host(desk())
    host.enter(1, "e")
    host.loaded("e")
    host.enter(2, "d")
    host.enter(3, "b")
    assert host.ended(2) == ["load b"]  # fits beside e, which need not leave
    assert host.desk.leaving == frozenset()


def test_nobody_else_leaves_for_a_load_that_nobody_waits_for_any_more() -> None:
    here = desk()
    here.seen({"a": 10.0, "c": 35.0})
    here.enter(ticket(1, "a"), 0.0)
    here.next(0.0)
    here.enter(ticket(2, "huge"), 0.0)
    assert here.next(0.0) == [Unload("c")]  # a works, and is to follow
    here.ended(2)
    assert here.next(0.0) == []
    here.enter(ticket(3, "a"), 0.0)
    assert here.next(0.0) == [Start(ticket(3, "a"))]
    here.ended(1)
    here.ended(3)
    assert here.next(0.0) == []


def test_a_load_that_failed_gives_back_all_who_waited_for_it_and_the_next_one_begins() -> None:
    here = desk()
    for number, model in ((1, "a"), (2, "b"), (3, "a")):
        here.enter(ticket(number, model), 0.0)
    here.next(0.0)
    assert [t.number for t in here.load_failed("a")] == [1, 3]
    assert here.next(1.0) == [Load("b", 20.0, 20.0)]


def test_a_load_that_hangs_gives_back_all_who_wait_for_a_load_and_residents_go_on() -> None:
    host = Host(desk())
    host.desk.seen({"c": 35.0, "b": 20.0})
    host.desk.enter(ticket(1, "a"), 0.0)
    host.act()
    host.enter(2, "e")  # b and c are to leave for it, after a
    host.enter(3, "d")
    host.enter(4, "a")
    assert host.enter(5, "c") == ["start 5"]
    assert [t.number for t in host.desk.load_hung("a")] == [1, 4, 2, 3]
    assert host.act() == [] and host.desk.waiting == 0
    assert host.enter(6, "b") == ["start 6"]
    assert host.enter(7, "a") == ["load a"]  # whether to try again is not the desk's to say


def test_where_the_host_holds_so_many_models_the_cheapest_leaves_for_one_more() -> None:
    host = Host(desk(max_models=3, kept=frozenset({"kept"})))
    host.desk.seen({"kept": 3.0, "a": 10.0, "b": 20.0})
    host.desk.enter(ticket(1, "b"), 0.0)
    assert host.act() == ["start 1"]
    host.ended(1)
    assert host.enter(2, "c") == ["unload a", "load c"]  # b was asked for just now
    assert host.loaded("c") == ["start 2"]
    assert host.desk.load(0.0).max_models == 3


def test_where_those_that_are_kept_fill_the_places_one_more_is_used() -> None:
    host = Host(desk(max_models=1, kept=frozenset({"kept", "b"})))
    host.desk.seen({"kept": 3.0, "b": 20.0})
    assert host.enter(1, "a") == ["load a"]
    assert host.loaded("a") == ["start 1"]
    assert host.enter(2, "c") == []
    assert host.ended(1) == ["unload a", "load c"]


def test_a_copy_that_is_loaded_anew_takes_no_place_of_another() -> None:
    here = desk(max_models=2)
    here.seen({"a": 10.0, "b": 20.0}, frozenset({"a"}))
    here.enter(ticket(1, "a"), 0.0)
    assert here.next(0.0) == [Unload("a")]


@pytest.mark.parametrize(
    ("before", "found", "lasting", "learned"),
    [
        ({"b": 20.0, "c": 35.0}, {"a": 10.0, "c": 35.0}, {"b", "c"}, 2),
        ({"b": 20.0}, {"a": 10.0}, {"b"}, 1),
        ({"b": 20.0, "c": 35.0}, {"a": 10.0, "b": 20.0, "c": 35.0}, {"b", "c"}, None),  # nobody has left
        ({"b": 20.0, "c": 35.0}, {"a": 10.0, "c": 35.0}, {"c"}, None),  # its time was over
        ({"b": 20.0, "c": 35.0}, {"a": 10.0}, {"b", "c"}, None),  # it was out of memory
        ({"b": 20.0, "c": 35.0}, {"a": 40.0, "c": 35.0}, {"b", "c"}, None),  # it takes more than planned
    ],
)
def test_how_many_models_a_host_holds_is_learned_from_its_own_evictions(
    before: dict[str, float], found: dict[str, float], lasting: set[str], learned: int | None
) -> None:
    host = Host(desk())
    host.desk.seen(before)
    assert host.enter(1, "a") == ["load a"]
    host.desk.seen({name: gb for name, gb in before.items() if name in found})  # looked at while it loads
    host.desk.loaded("a", found, lasting)
    host.desk.seen(found)
    assert host.desk.max_models == learned


def test_what_was_learned_of_the_places_gives_way_to_what_is_seen_and_to_what_is_set() -> None:
    host = Host(desk())
    host.desk.seen({"b": 20.0, "c": 35.0})
    host.enter(1, "a")
    host.desk.loaded("a", {"a": 10.0, "c": 35.0}, {"b", "c"})
    assert host.desk.max_models == 2
    host.desk.seen({"a": 10.0, "b": 20.0, "c": 35.0})
    assert host.desk.max_models == 3
    host.desk.forget_most()
    assert host.desk.max_models is None
    told = Host(desk(max_models=5))
    told.desk.seen({"b": 20.0, "c": 35.0})
    told.enter(1, "a")
    told.desk.loaded("a", {"a": 10.0, "c": 35.0}, {"b", "c"})
    assert told.desk.max_models == 5


def test_who_was_told_to_leave_and_leaves_late_teaches_nothing() -> None:
    here = desk()
    here.seen({"b": 20.0, "foreign": 45.0})
    here.enter(ticket(1, "e"), 0.0)
    assert here.next(0.0) == [Unload("foreign")]
    here.unloaded("foreign")
    here.seen({"b": 20.0, "foreign": 45.0})  # another program uses it
    assert here.next(0.0) == [Unload("b")]
    here.unloaded("b")
    here.seen({"foreign": 45.0})
    assert here.next(0.0) == [Load("e", 60.0, 60.0)]
    here.loaded("e", {"e": 60.0}, {"foreign"})
    assert here.max_models is None


def test_requests_beyond_what_the_host_answers_at_once_count_as_waiting() -> None:
    host = Host(desk(parallel=2, kept=frozenset({"kept"})))
    host.desk.seen({"a": 10.0, "b": 20.0, "kept": 3.0})
    for number in range(5):
        assert host.enter(number, "a") == [f"start {number}"]
    assert (host.desk.waiting, host.desk.queued) == (0, 3)
    host.enter(5, "b")
    for number in range(6, 10):
        host.enter(number, "kept")
    assert host.desk.queued == 3
    host.enter(10, "c")
    assert (host.desk.waiting, host.desk.queued) == (1, 4)
    host.ended(0)
    assert host.desk.queued == 3


def test_a_model_in_memory_with_another_context_leaves_before_it_is_loaded_anew() -> None:
    here = desk()
    here.seen({"d": 50.0}, frozenset({"d"}))
    here.enter(ticket(1, "d"), 0.0)
    assert here.next(0.0) == [Unload("d")]
    here.unloaded("d")
    assert here.next(0.0) == [Load("d", 50.0, 50.0)]


def test_who_is_kept_is_loaded_before_all_that_wait() -> None:
    host = Host(desk(kept=frozenset({"kept"})))
    host.enter(1, "a")
    host.enter(2, "e")
    host.enter(3, "d")
    assert host.enter(4, "kept") == []
    assert host.desk.load(0.0).loads_waiting == ("kept", "e", "d")
    assert host.loaded("a") == ["start 1", "load kept"]
    assert host.loaded("kept") == ["start 4", "load e"]


def test_who_is_kept_does_not_wait_until_a_place_for_a_large_one_is_free() -> None:
    host = Host(desk(kept=frozenset({"kept"})))
    host.enter(1, "e")
    host.loaded("e")
    assert host.enter(2, "d") == []  # e answers, and is to leave for it
    assert host.enter(3, "kept") == ["load kept"]
    assert host.loaded("kept") == ["start 3"]
    assert host.ended(1) == ["unload e", "load d"]


def test_room_for_who_is_kept_is_left_while_it_is_away() -> None:
    host = Host(desk(kept=frozenset({"kept"})))
    host.desk.seen({"c": 35.0, "b": 20.0})
    host.desk.owed_gb = {"kept": 3.0}
    assert host.desk.load(0.0).owed_gb == 3.0
    host.enter(1, "a")  # needs 12.5: there would be room for 95, with the one who is kept for 92
    assert host.loaded("a") == ["start 1"]
    host.ended(1)
    host.desk.seen({"c": 35.0, "b": 20.0, "foreign": 31.0})
    assert host.enter(2, "a") == ["unload c", "load a"]  # without it 98.5 of 100 would be filled
    host.desk.seen({"kept": 3.0, "c": 35.0})
    assert host.desk.load(0.0).owed_gb == 0.0


def test_who_is_sent_away_leaves_when_it_is_idle_and_comes_back_for_those_who_want_it() -> None:
    host = Host(desk(kept=frozenset({"kept"})))
    host.enter(1, "a")
    host.loaded("a")
    host.desk.send_away("a")
    assert host.act() == [] and host.desk.leaving == {"a"}
    assert host.enter(2, "a") == []
    assert host.ended(1) == ["unload a", "load a"]
    assert host.loaded("a") == ["start 2"]
    assert host.desk.leaving == frozenset()
    for nobody in ("b", "kept"):
        host.desk.send_away(nobody)
        assert host.act() == []
    host.desk.seen({"kept": 3.0})
    host.desk.send_away("kept")
    assert host.act() == [] and host.desk.leaving == frozenset()


def test_what_goes_on_is_told_with_what_is_left_of_it() -> None:
    host = Host(desk(kept=frozenset({"kept"}), parallel=2))
    host.enter(1, "a", 0.0)
    host.loaded("a", 10.0)
    host.enter(2, "b", 12.0)
    host.enter(3, "b", 13.0)
    host.enter(4, "c", 14.0)
    load = host.desk.load(16.0)
    assert load.of("a").running == 1 and load.of("a").running_s == pytest.approx(4.0)
    assert (load.of("b").waiting, load.of("b").waiting_s) == (2, 20.0)
    assert load.loading == "b" and load.loading_left_s == pytest.approx(16.0)
    assert load.loads_waiting == ("c",)
    assert (load.kept, load.parallel) == (frozenset({"kept"}), 2)
    late = host.desk.load(1000.0)  # longer than expected: a tenth is always left
    assert late.of("a").running_s == pytest.approx(1.0)
    assert late.loading_left_s == pytest.approx(2.0)


def test_a_load_that_has_not_begun_takes_what_those_who_leave_still_do_besides() -> None:
    host = Host(desk())
    host.enter(1, "e", 0.0)
    host.loaded("e", 60.0)
    host.enter(2, "d", 63.0)
    assert host.desk.load(64.0).loading_left_s == pytest.approx(50.0 + 6.0)


def test_demand_is_what_came_lately() -> None:
    here = desk()
    for number in range(9):
        here.enter(ticket(number, "a"), 0.0)
    assert here.load(0.0).demand_per_s["a"] == pytest.approx(9 / HORIZON_S)
    assert here.load(HORIZON_S).demand_per_s["a"] == pytest.approx(9 / HORIZON_S / math.e)
    assert here.load(-5.0).demand_per_s["a"] == pytest.approx(9 / HORIZON_S)  # a clock that went back


class Day(RuleBasedStateMachine):
    """A host that is slow, fails, and is used by others too."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = desk(kept=frozenset({"kept"}))
        self.most: int | None = None
        self.unsure = False
        """Whether another program has sent a model away while one was loaded: that looks like an eviction."""
        self.now_s = 0.0
        self.resident: dict[str, float] = {}
        self.stale: set[str] = set()
        self.entered: dict[int, str] = {}
        self.waiting: dict[int, str] = {}
        self.running: dict[int, str] = {}
        self.settled: set[int] = set()
        self.loading: str | None = None
        self.unloading: set[str] = set()
        self.sent_away: set[str] = set()
        self.told: set[str] = set()
        """Who left for the load that is to come; another program may have brought it back."""
        self.listed: dict[str, float] = {}
        self.told_before: set[str] = set()
        """What was there when the load under way began, and who of them had been told to leave for it."""
        self.before: dict[str, set[str]] = {}
        """Of each model that waits for a load, those that may be loaded before it, each of them once."""

    # What happens

    @initialize(most=st.sampled_from([None, 1, 2, 3]), known=st.booleans())
    def holds(self, most: int | None, known: bool) -> None:
        """So many models the host holds at a time, and whether the desk is told."""
        self.most = most
        self.desk = desk(kept=self.desk.kept, max_models=most if known else None)

    @rule(model=st.sampled_from(sorted(SIZES_GB)), work_s=st.floats(0.1, 100.0))
    def enter(self, model: str, work_s: float) -> None:
        number = len(self.entered)
        if model not in self.waiting.values():
            self.before[model] = {*self.waiting.values(), self.desk.load(self.now_s).loading} - {model}
        self.entered[number] = self.waiting[number] = model
        self.desk.enter(ticket(number, model, work_s), self.now_s)
        self.act()

    @precondition(lambda self: self.running or self.waiting)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted({*self.running, *self.waiting})))
        self.running.pop(number, None)
        if self.waiting.pop(number, None) is not None:
            self.settled.add(number)
        self.desk.ended(number)
        self.act()

    @precondition(lambda self: self.loading)
    @rule(works=st.booleans())
    def load_ends(self, works: bool) -> None:
        assert self.loading is not None
        if works and not self.place_is_made():
            return  # it waits for those that answer
        model, self.loading = self.loading, None
        if works:
            self.resident[model] = SIZES_GB[model]
            self.stale.discard(model)
            lasting = set(self.listed) - self.told_before
            self.desk.loaded(model, self.resident, lasting)
            self.desk.seen(self.resident, frozenset(self.stale))
        else:
            for back in self.desk.load_failed(model):
                assert self.waiting.pop(back.number) == model
                self.settled.add(back.number)
            assert model not in self.waiting.values()
        self.act()

    @precondition(lambda self: self.loading)
    @rule()
    def load_hangs(self) -> None:
        assert self.loading is not None
        model, self.loading = self.loading, None
        for back in self.desk.load_hung(model):
            assert self.waiting.pop(back.number) == back.model
            self.settled.add(back.number)
        ready = set(self.resident) - self.stale - self.sent_away - {model}
        assert set(self.waiting.values()) <= ready, "waits for a load that would hang as well"
        self.act()

    def place_is_made(self) -> bool:
        """Ollama evicts where it holds no more models: idle ones, even those that are kept."""
        while self.most is not None and len(set(self.resident) - {self.loading}) >= self.most:
            idle = set(self.resident) - {self.loading} - set(self.running.values())
            if not idle:
                return False
            self.gone(min(idle))
        return True

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def unload_ends(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(sorted(self.unloading)))
        self.unloading.discard(model)
        self.gone(model)
        self.told.add(model)
        self.desk.unloaded(model)
        self.act()

    @rule(model=st.sampled_from(sorted(SIZES_GB)))
    def somebody_asks_for_it_to_leave(self, model: str) -> None:
        if model in self.resident:
            self.sent_away.add(model)
        self.desk.send_away(model)
        self.act()

    @rule(seconds=st.floats(0.0, 2000.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.act()

    @rule(
        model=st.sampled_from(["a", "c", "e", "foreign", "kept"]),
        what=st.sampled_from(["comes", "comes with another context", "goes"]),
    )
    def others(self, model: str, what: str) -> None:
        """Another program loads a model, or one has left that nobody here asks anything."""
        if what == "goes":
            if model in self.resident and model not in self.running.values():
                self.unsure |= self.loading is not None
                self.gone(model)
        elif self.most is not None and len(self.resident) + bool(self.loading) >= self.most:
            pass  # what Ollama would evict for it is its own affair
        elif model not in self.resident and model != self.loading:
            self.resident[model] = SIZES_GB.get(model, 30.0)
            if what != "comes":
                self.stale.add(model)
        self.desk.seen(self.resident, frozenset(self.stale))
        self.act()

    def gone(self, model: str) -> None:
        self.resident.pop(model, None)
        self.stale.discard(model)

    # What the desk says

    def act(self) -> None:
        for action in self.desk.next(self.now_s):
            self.carry_out(action)

    def carry_out(self, action: Action) -> None:
        match action:
            case Start(who):
                assert self.waiting.pop(who.number) == who.model  # once, and only who waits
                self.settled.add(who.number)
                self.running[who.number] = who.model
                assert who.model in self.resident, "sent to a model that is not there"
                assert who.model not in self.stale, "sent to a model with another context"
                assert who.model not in self.unloading, "sent to a model that leaves"
            case Unload(model):
                assert model not in self.desk.kept or model in self.stale
                assert model not in self.running.values(), "unloaded while it answers"
                assert model not in self.unloading, "told to leave twice"
                assert self.waiting or model in self.sent_away, "nobody waits for its room"
                self.sent_away.discard(model)
                self.unloading.add(model)
            case Load(model, memory_gb):
                assert self.loading is None, "two loads at once"
                assert not self.unloading, "loaded before there is room"
                assert model not in self.resident or model in self.told
                assert model in self.waiting.values(), "loaded for nobody"
                used_gb = sum(gb for other, gb in self.resident.items() if other != model)
                others = set(self.resident) - self.desk.kept - self.told - {model}
                self.listed, self.told_before = dict(self.resident), set(self.told)
                self.told.clear()
                most = self.desk.max_models
                assert not others or most is None or len(set(self.resident) - {model}) < most, "no place"
                assert not others or memory_gb <= FREE_SHARE * (USABLE_GB - used_gb) + 1e-9
                for waits in set(self.waiting.values()) - {model}:
                    if model in self.desk.kept:
                        continue
                    assert waits not in self.desk.kept or waits in self.resident, "who is kept goes first"
                    assert model in self.before[waits], f"{model} was loaded before its turn, {waits} waits"
                    self.before[waits].discard(model)
                self.loading = model

    # What holds

    @invariant()
    def everybody_is_accounted_for(self) -> None:
        assert set(self.entered) == set(self.waiting) | self.settled
        assert not set(self.waiting) & self.settled
        assert self.desk.waiting == len(self.waiting)

    @invariant()
    def whoever_waits_waits_for_something(self) -> None:
        if self.waiting:
            assert self.loading or self.unloading or self.running, "nothing goes on, and somebody waits"

    @invariant()
    def what_is_told_is_so(self) -> None:
        load = self.desk.load(self.now_s)
        assert sum(work.running for work in load.models.values()) == len(self.running)
        assert sum(work.waiting for work in load.models.values()) == len(self.waiting)
        assert self.loading is None or load.loading == self.loading
        assert all(model in self.waiting.values() for model in load.loads_waiting)
        assert all(0 <= rate < math.inf for rate in load.demand_per_s.values())

    @invariant()
    def what_is_learned_is_so(self) -> None:
        assert self.unsure or self.desk.max_models in (None, self.most)

    def teardown(self) -> None:
        """With nothing new, everything comes to an end, and no model is loaded twice for those who wait."""
        loads: list[str] = []
        wanted = set(self.waiting.values())
        for _ in range(1000):
            if self.loading and self.place_is_made():
                loads.append(self.loading)
                self.load_ends(works=True)
            elif self.unloading:
                model = min(self.unloading)
                self.unloading.discard(model)
                self.gone(model)
                self.desk.unloaded(model)
                self.act()
            elif self.running:
                number = min(self.running)
                del self.running[number]
                self.desk.ended(number)
                self.act()
            else:
                break
        assert not self.waiting and not self.running and self.loading is None
        assert len(loads) == len(set(loads)), "a model was loaded twice for the same requests"
        assert set(loads) <= wanted | set(loads[:1])


Day.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestADay = Day.TestCase
