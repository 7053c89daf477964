"""Each rule of Ollama's scheduler against times computed by hand. See conftest for the round numbers."""

from __future__ import annotations

import math

import pytest
from tests.simulate.conftest import MakeBench, fleet, model

from llm_router.fleet.fleet import Fleet
from llm_router.policy import World, decide
from llm_router.request import RouteRequest
from llm_router.simulate.play import classification


def test_a_first_request_waits_for_the_load_then_reads_then_writes(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a")
    assert b.run() == {"one": 12.0}
    assert b.first_s == {"one": 11.0}
    assert (b.box.loads, b.box.loaded_gb) == (1, 10.0)


# ── rule 1: a loaded model is asked past the queue ───────────────────────────────────────────────────────


def test_a_loaded_model_answers_while_another_is_being_loaded(bench: MakeBench) -> None:
    b = bench()
    b.ask("warm", "a")
    b.ask("cold", "c", 20.0)
    b.ask("past", "a", 30.0)
    assert b.run() == {"warm": 12.0, "past": 32.0, "cold": 52.0}


def test_one_slot_answers_one_request_after_the_other(bench: MakeBench) -> None:
    b = bench()
    for name in ("one", "two", "three"):
        b.ask(name, "a")
    assert b.run() == {"one": 12.0, "two": 14.0, "three": 16.0}


def test_slots_of_one_model_write_in_the_same_step_and_share_the_reading(bench: MakeBench) -> None:
    b = bench(num_parallel=2)
    b.ask("one", "a", read=100, write=40)
    b.ask("two", "a", read=100, write=40)
    # Both read at half the speed (2 s instead of 1), then both write as fast as one alone.
    assert b.run() == {"one": 16.0, "two": 16.0}


def test_two_models_that_write_at_a_time_get_half_the_bandwidth_each(bench: MakeBench) -> None:
    b = bench()
    for name in ("a", "b"):
        b.box.preload(name)
    b.ask("one", "a", 100.0, read=100, write=100)
    b.ask("two", "b", 100.0, read=100, write=50)
    # Reading takes 2 s. Then each writes 5 a second: b is done after 10 s, a has 50 left and is alone.
    assert b.run(200.0) == {"two": 112.0, "one": 117.0}


# ── rule 2: one loader, first come first served ──────────────────────────────────────────────────────────


def test_loads_come_one_after_the_other_in_the_order_of_the_requests(bench: MakeBench) -> None:
    b = bench()
    b.ask("c", "c", 0.0)
    b.ask("a", "a", 1.0)
    assert b.run() == {"c": 32.0, "a": 42.0}
    assert b.events("load") == [(0.0, "load", "c"), (30.0, "load", "a")]


def test_a_request_for_the_model_that_is_being_loaded_waits_in_the_queue_too(bench: MakeBench) -> None:
    b = bench()
    b.ask("first", "a", 0.0)
    b.ask("other", "b", 1.0)
    b.ask("again", "a", 2.0)
    # a is there at 10 s, but the loader is with b until 30 s, and "again" stands behind it.
    # From then on the two share compute and bandwidth: 2 s to read, 2 s to write.
    assert b.run() == {"first": 12.0, "other": 34.0, "again": 34.0}


def test_a_request_that_comes_after_the_load_overtakes_those_in_the_queue(bench: MakeBench) -> None:
    b = bench()
    b.ask("first", "a", 0.0)
    b.ask("other", "b", 1.0)
    b.ask("again", "a", 2.0)
    b.ask("later", "a", 12.0)
    assert b.run()["later"] == 14.0
    assert b.done_s["again"] > 30.0


# ── rule 3: when one has to leave ────────────────────────────────────────────────────────────────────────


def test_no_more_models_than_may_be_loaded(bench: MakeBench) -> None:
    b = bench(max_loaded=2)
    for at_s, name in ((0.0, "a"), (20.0, "b"), (60.0, "c")):
        b.ask(name, name, at_s)
    b.run(150.0)
    assert b.events("evict") == [(60.0, "evict", "a")]
    assert set(b.box.resident) == {"b", "c"}


def test_what_takes_80_percent_of_the_free_memory_is_loaded_beside_the_others(bench: MakeBench) -> None:
    b = bench()
    b.ask("f", "f")
    b.ask("d", "d", 60.0)
    b.run(150.0)
    assert set(b.box.resident) == {"f", "d"}
    assert not b.events("evict")


def test_what_takes_more_than_80_percent_of_it_evicts(bench: MakeBench) -> None:
    b = bench()
    b.ask("f", "f")
    b.ask("e", "e", 60.0)  # 41 GB, and 0.8 times 50 GB are free
    b.run(150.0)
    assert b.events("evict") == [(60.0, "evict", "f")]
    assert b.box.resident == ("e",)


def test_as_many_leave_as_it_takes(bench: MakeBench) -> None:
    b = bench()
    for at_s, name in ((0.0, "a"), (20.0, "b"), (60.0, "c"), (120.0, "f")):
        b.ask(name, name, at_s)
    b.run(200.0)
    # 50 GB need 62.5 free. Without a (10) it is 50, without b (20) 70.
    assert b.events("evict") == [(120.0, "evict", "a"), (120.0, "evict", "b")]


# ── rule 4: who leaves ───────────────────────────────────────────────────────────────────────────────────


def test_an_idle_model_leaves_before_a_busy_one_with_a_shorter_keep_alive(bench: MakeBench) -> None:
    b = bench(max_loaded=2)
    b.ask("idle", "b", 0.0, keep_alive_s=1000.0)
    b.ask("busy", "a", 30.0, write=1000, keep_alive_s=5.0)
    b.ask("new", "c", 60.0)
    b.run(100.0)
    assert b.events("evict") == [(60.0, "evict", "b")]


def test_of_idle_models_the_one_with_the_shortest_keep_alive_leaves(bench: MakeBench) -> None:
    b = bench(max_loaded=2)
    b.ask("long", "a", 0.0, keep_alive_s=900.0)
    b.ask("short", "b", 20.0, keep_alive_s=800.0)  # used later, and leaves first: it is no LRU
    b.ask("new", "c", 60.0)
    b.run(100.0)
    assert b.events("evict") == [(60.0, "evict", "b")]


def test_of_equal_keep_alives_the_name_decides(bench: MakeBench) -> None:
    b = bench(max_loaded=2)
    b.ask("b", "b", 0.0)
    b.ask("a", "a", 30.0)
    b.ask("new", "c", 60.0)
    b.run(100.0)
    assert b.events("evict") == [(60.0, "evict", "a")]


def test_kept_for_ever_leaves_last_and_is_no_pin(bench: MakeBench) -> None:
    b = bench(max_loaded=2)
    b.ask("pinned", "a", 0.0, keep_alive_s=math.inf)
    b.ask("b", "b", 20.0)
    b.ask("c", "c", 60.0, keep_alive_s=math.inf)
    b.ask("d", "d", 120.0)
    b.run(200.0)
    assert [name for _, _, name in b.events("evict")] == ["b", "a"]


def test_where_all_are_busy_the_loader_waits_for_one_and_everybody_behind_it_too(bench: MakeBench) -> None:
    b = bench(max_loaded=1)
    b.ask("busy", "a", 0.0, read=100, write=500)  # 10 + 1 + 50 s
    b.ask("new", "b", 20.0)
    b.ask("behind", "c", 21.0)
    assert b.run() == {"busy": 61.0, "new": 83.0, "behind": 83.0 + 32.0}
    assert b.events("evict")[0] == (61.0, "evict", "a")


def test_a_busy_victim_goes_on_taking_requests_and_leaves_when_they_have_ended(bench: MakeBench) -> None:
    b = bench(max_loaded=1)
    b.ask("busy", "a", 0.0, write=500)
    b.ask("new", "b", 20.0)
    b.ask("more", "a", 60.0)
    assert b.run() == {"busy": 61.0, "more": 63.0, "new": 63.0 + 22.0}


def test_a_victim_stays_one_although_room_was_made_otherwise(bench: MakeBench) -> None:
    b = bench(max_loaded=2)
    b.ask("one", "a", 0.0, write=1000, keep_alive_s=50.0)
    b.ask("two", "b", 0.0, write=100, keep_alive_s=60.0)
    b.ask("new", "c", 40.0)
    b.call(41.0, lambda: b.box.unload("b"))
    b.run(400.0)
    left = [event for event in b.box.events if event.what in ("evict", "unload", "expire")]
    assert [(event.what, event.model) for event in left][:2] == [("unload", "b"), ("evict", "a")]


def test_an_own_keep_alive_in_a_request_takes_the_mark_off_a_victim_and_the_loader_hangs(
    bench: MakeBench,
) -> None:
    b = bench(max_loaded=1)
    b.ask("busy", "a", 0.0, write=500)
    b.ask("new", "b", 20.0)
    b.ask("marked off", "a", 30.0, keep_alive_s=100.0)
    done = b.run()
    assert done["marked off"] == 63.0
    assert done["new"] == 63.0 + 100.0 + 22.0  # only the end of that time frees the loader


# ── rules 5 and 6: into an empty box, and when memory is free ────────────────────────────────────────────


def test_the_first_model_is_loaded_whatever_its_size(bench: MakeBench) -> None:
    b = bench()
    b.ask("huge", "huge")
    assert b.run(150.0) == {"huge": 97.0}


def test_memory_is_free_at_once(bench: MakeBench) -> None:
    b = bench()
    b.ask("huge", "huge")
    b.ask("f", "f", 100.0)
    assert b.run(200.0)["f"] == 152.0


# ── rule 7: how long a model stays ───────────────────────────────────────────────────────────────────────


def test_the_time_begins_anew_with_the_end_of_each_request(bench: MakeBench) -> None:
    b = bench(keep_alive_s=300.0)
    b.ask("one", "a", 0.0)
    b.ask("two", "a", 200.0)
    b.run()
    assert b.events("expire") == [(502.0, "expire", "a")]


def test_an_own_time_replaces_the_servers_and_stays(bench: MakeBench) -> None:
    b = bench(keep_alive_s=300.0)
    b.ask("one", "a", 0.0, keep_alive_s=1000.0)
    b.ask("two", "a", 100.0)
    b.run()
    assert b.events("expire") == [(1102.0, "expire", "a")]


def test_no_time_at_all_unloads_after_the_answer(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a", keep_alive_s=0.0)
    b.run()
    assert b.events("unload") == [(12.0, "unload", "a")]


def test_for_ever_is_for_ever(bench: MakeBench) -> None:
    b = bench(keep_alive_s=math.inf)
    b.ask("one", "a")
    b.run(1e9)
    assert b.box.resident == ("a",)


# ── what a client can do ─────────────────────────────────────────────────────────────────────────────────


def test_a_preload_loads_and_answers_nothing(bench: MakeBench) -> None:
    b = bench()
    there_at: list[float] = []
    b.box.preload("a", 50.0, lambda: there_at.append(b.engine.now_s))
    b.run()
    assert there_at == [10.0]
    assert b.events("expire") == [(60.0, "expire", "a")]


def test_an_unload_is_at_once_where_idle_and_after_the_last_request_where_not(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a", 0.0, write=100)
    b.ask("two", "b", 0.0)
    b.call(15.0, lambda: b.box.unload("a"))
    b.call(50.0, lambda: b.box.unload("b"))
    b.call(50.0, lambda: b.box.unload("c"))
    b.run()
    assert b.events("unload") == [(21.0, "unload", "a"), (50.0, "unload", "b")]


def test_a_next_turn_reads_only_what_is_new_to_its_slot(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a", 0.0, read=1000, write=10, conversation="talk")
    b.ask("two", "a", 100.0, read=1210, write=10, conversation="talk")
    assert b.run()["two"] == 103.0  # 200 of 1,210 tokens are new


def test_another_conversation_takes_the_slot_over(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a", 0.0, read=1000, conversation="talk")
    b.ask("other", "a", 50.0, conversation="else")
    b.ask("two", "a", 100.0, read=1200, conversation="talk")
    assert b.run()["two"] == 113.0


def test_what_was_thought_is_no_part_of_the_next_turn(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a", 0.0, read=1000, write=10, think=90, conversation="talk")
    b.ask("two", "a", 100.0, read=1200, write=10, conversation="talk")
    assert b.first_s == {}
    assert b.run() == {"one": 30.0, "two": 103.0}


def test_a_model_that_was_loaded_anew_remembers_nothing(bench: MakeBench) -> None:
    b = bench()
    b.ask("one", "a", 0.0, read=1000, conversation="talk", keep_alive_s=0.0)
    b.ask("two", "a", 100.0, read=1200, conversation="talk")
    assert b.run()["two"] == 100.0 + 10.0 + 12.0 + 1.0


def test_vectors_are_there_when_the_text_was_read(bench: MakeBench) -> None:
    b = bench()
    b.ask("embed", "a", write=0)
    assert b.run() == {"embed": 11.0}
    assert b.first_s == {"embed": 11.0}


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────


def test_memory_over_time(bench: MakeBench) -> None:
    b = bench(keep_alive_s=300.0)
    b.ask("one", "a")
    b.run()
    assert b.box.gb_s == pytest.approx(10.0 * (10 + 2 + 300))  # from the beginning of the load to its end


def test_each_slot_has_its_own_context_and_an_embedder_has_one_slot(bench: MakeBench) -> None:
    kv = {"num_ctx": 4096, "kv_kib_per_token": 1e9 / 4096 / 1024}  # 1 GB
    models = {"chat": model(10, **kv), "embed": model(1, **kv, capabilities=("embedding",))}
    b = bench(fleet(models), num_parallel=4)
    assert b.box.needs_gb("chat") == pytest.approx(14.0)
    assert b.box.needs_gb("embed") == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("num_ctx", "size_gb", "takes_gb"),
    [(4096, 10, 0.0), (8192, 10, 0.75), (65_536, 10, 2.0), (65_536, 70, 0.75), (65_536, 79, 0.0)],
)
def test_long_contexts_are_read_in_larger_steps_where_that_fits(
    bench: MakeBench, num_ctx: int, size_gb: float, takes_gb: float
) -> None:
    b = bench(fleet({"long": model(size_gb, num_ctx=num_ctx, context_length=131_072)}))
    b.box.preload("long")
    b.run(100.0)
    assert b.box.memory_of("long") == pytest.approx(size_gb + takes_gb * 1.073741824)


# ── what the policy sees of it ───────────────────────────────────────────────────────────────────────────


def test_the_policy_decides_on_a_snapshot_of_any_moment(bench: MakeBench, round_fleet: Fleet) -> None:
    b = bench()
    b.ask("one", "a")
    seen = []
    for at_s in (5.0, 11.0, 400.0):
        b.call(at_s, lambda: seen.append((b.engine.now_s, b.box.snapshot())))
    b.run()
    request = RouteRequest.from_text("a task")
    chains = [decide(request, classification("any"), World(round_fleet, (s,))).chain for _, s in seen]
    assert [chain[0].resident for chain in chains] == [False, True, False]
    assert [chain[0].estimate.load_s for chain in chains] == [10.0, 0.0, 10.0]
    assert seen[1][1].resident["a"].size_bytes == 10_000_000_000


def test_a_snapshot_is_the_same_value_as_long_as_nothing_comes_or_goes(bench: MakeBench) -> None:
    b = bench(keep_alive_s=math.inf)
    b.ask("one", "a")
    b.run(20.0)
    before = b.box.snapshot()
    b.ask("two", "a", 30.0)
    b.run(31.0)
    assert b.box.in_use("a") == 1
    assert b.box.snapshot() is before


# ── a box without an accelerator ─────────────────────────────────────────────────────────────────────────


def test_one_processor_loads_and_answers_at_half_the_speed_each(bench: MakeBench) -> None:
    b = bench(one_processor=True)
    b.ask("warm", "a")
    b.ask("cold", "b", 20.0)
    b.ask("past", "a", 30.0)
    # 10 s of the load are left at 30 s. Reading and writing take 2 s each, and as much of the load is done.
    assert b.run() == {"warm": 12.0, "past": 34.0, "cold": 44.0}


def test_one_processor_reads_and_writes_at_half_the_speed_each(bench: MakeBench) -> None:
    b = bench(one_processor=True)
    for name in ("a", "b"):
        b.box.preload(name)
    b.ask("one", "a", 100.0, read=100, write=100)
    b.ask("two", "b", 101.0, read=100, write=10)
    # "two" takes 2 s to read and 2 s to write; "one" has written 20 by then, and writes 80 more alone.
    assert b.run(200.0) == {"two": 105.0, "one": 113.0}
