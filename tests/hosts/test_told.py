"""What is told of hosts: from snapshots and loads, names as the host has them, nothing invented."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.support.worlds import GB, host, host_down

from llm_router.hosts.load import HostLoad, ModelLoad
from llm_router.hosts.rests import HostRests, Rest
from llm_router.hosts.snapshot import HostSnapshot, ResidentModel
from llm_router.hosts.told import (
    HostsTold,
    LoadingTold,
    LoadsRest,
    LoadWaiting,
    ModelRests,
    ModelUnusable,
    hosts_told,
)
from llm_router.providers.address import masked

PHI = ResidentModel("phi4:latest", 11 * GB, 11 * GB, 8192, "2026-11-25T12:00:00Z")
SMALL = ResidentModel("llama3.2:1b", GB, GB, 4096)


def told(
    *hosts: HostSnapshot,
    loads: dict[str, HostLoad] | None = None,
    rests: dict[str, HostRests] | None = None,
) -> HostsTold:
    return hosts_told(hosts, loads or {}, 1_000.0, usable_gb=112.0, speeds={}, rests=rests or {})


def test_what_is_resident_comes_largest_first_with_what_the_host_said() -> None:
    (found,) = told(host("phi4", "llama3.2:1b", resident=[SMALL, PHI], memory_gb=31)).hosts
    assert [model.name for model in found.resident] == ["phi4:latest", "llama3.2:1b"]
    phi = found.resident[0]
    assert (phi.size_gb, phi.context_length, phi.expires_at) == (11.0, 8192, "2026-11-25T12:00:00Z")
    assert found.resident_gb == 12.0
    assert found.usable_memory_gb == 31


def test_without_queues_of_our_own_who_waits_is_not_known() -> None:
    (found,) = told(host("phi4", resident=[PHI])).hosts
    assert not found.queues_known
    assert (found.resident[0].running, found.resident[0].waiting) == (None, None)
    assert found.loading is None and found.demand_per_hour == {} and found.kept == ()


def test_queues_loads_and_demand_by_the_names_of_the_host() -> None:
    load = HostLoad(
        models={
            "phi4:latest": ModelLoad(1, 3.0, 2, 8.0),
            "qwen2.5:72b": ModelLoad(waiting=3),
            "solar:latest": ModelLoad(waiting=1),
        },
        loading="qwen2.5:72b",
        loading_left_s=22.96,
        loads_waiting=("solar:latest",),
        demand_per_s={"llama3.2:1b": 0.001, "phi4:latest": 0.01, "solar:latest": 1e-9},
        kept=frozenset({"llama3.2:1b"}),
    )
    seen = host("phi4", "llama3.2:1b", "qwen2.5:72b", resident=[PHI, SMALL])
    (found,) = told(seen, loads={"spark-1": load}).hosts
    assert found.queues_known
    phi, small = found.resident
    assert (phi.running, phi.waiting, phi.kept) == (1, 2, False)
    assert (small.running, small.waiting, small.kept) == (0, 0, True)
    assert found.loading == LoadingTold(model="qwen2.5:72b", left_s=23.0, waiting=3)
    assert found.loads_waiting == (LoadWaiting(model="solar", waiting=1),)
    assert list(found.demand_per_hour.items()) == [("phi4:latest", 36.0), ("llama3.2:1b", 3.6)]
    assert found.kept == ("llama3.2:1b",)


def test_a_model_that_answers_before_the_host_tells_of_it_has_no_size_yet() -> None:
    load = HostLoad(models={"phi4:latest": ModelLoad(running=1)})
    (found,) = told(host("phi4"), loads={"spark-1": load}).hosts
    assert [(m.name, m.size_gb, m.running) for m in found.resident] == [("phi4", None, 1)]


def test_a_silent_host_says_why_and_has_no_age() -> None:
    (found,) = told(host_down("spark-2")).hosts
    assert (found.reachable, found.problem, found.age_s) == (False, "connection refused", None)
    assert found.usable_memory_gb == 112.0, "what the fleet's machine has"


def test_age_is_never_negative_and_goes_by_the_wall_clock() -> None:
    for taken_s, age_s in ((997.5, 2.5), (1_005.0, 0.0)):
        (found,) = told(replace(host("phi4"), taken_at_s=taken_s)).hosts
        assert found.age_s == age_s


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://spark-1:11434", "http://spark-1:11434"),
        ("http://me:secret@spark-1:11434/x", "http://***@spark-1:11434/x"),
        ("https://t@o@box", "https://***@box"),
    ],
)
def test_no_password_is_told(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_what_rests_there_and_what_is_of_no_use_says_why_and_how_long() -> None:
    hangs = "loads may hang there: nothing came for 300 s"
    rests = HostRests(Rest(hangs, 24.04), {"phi4:latest": Rest("failed 3 times in a row, last: x", 9.99)})
    seen = replace(
        host("phi4:latest", "llama3.2:1b", "solar"),
        unhealthy={"phi4:latest": "failed 3 times in a row, last: x", "solar:latest": hangs, "gone:1b": "no"},
        unusable={"mllama:latest": "unknown model architecture"},
    )
    one, other = told(seen, replace(host("solar"), name="spark-2"), rests={"spark-1": rests}).hosts
    assert one.loads_rest == LoadsRest(why=hangs, left_s=24.0)
    assert one.resting == (
        ModelRests(model="phi4:latest", why="failed 3 times in a row, last: x", left_s=10.0),
        ModelRests(model="gone:1b", why="no", left_s=None),
    )
    assert one.unusable == (ModelUnusable(model="mllama", why="unknown model architecture"),)
    assert (other.loads_rest, other.resting, other.unusable) == (None, (), ())


def test_it_reads_back_what_it_wrote() -> None:
    one = told(host("phi4", resident=[PHI]), host_down("spark-2"))
    assert msgspec.json.decode(msgspec.json.encode(one), type=HostsTold) == one
