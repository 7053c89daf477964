"""Snapshots are shared, age, and carry what was learned from failures."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from llm_router.answer import Embeddings
from llm_router.errors import (
    BadReply,
    ContextExceeded,
    HostBusy,
    HostTimeout,
    ModelUnusable,
    OutOfMemory,
    RequestRejected,
)
from llm_router.hosts.health import Health
from llm_router.hosts.snapshot import HostKind, HostSnapshot, InstalledModel, ResidentModel, unreachable
from llm_router.hosts.watch import HostWatch
from llm_router.providers.base import EmbedCall

SNAPSHOT = HostSnapshot(
    "a",
    "ollama",
    "http://x",
    reachable=True,
    installed={n: InstalledModel(n) for n in ("phi4", "mistral:7b")},
)


class Host:
    """A provider whose state the test sets, and that counts how often it is looked at."""

    kind: HostKind = "ollama"

    def __init__(self, name: str = "spark-1") -> None:
        self.name = name
        self.looks = 0
        self.up = True
        self.silent = False
        self.broken = False
        self.under_way = 0
        self.over = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def snapshot(self) -> HostSnapshot:
        self.looks += 1
        if self.silent:
            raise TimeoutError
        self.under_way += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.under_way -= 1
            self.over.set()
        if self.broken:
            raise ValueError("a defect of this provider")
        if not self.up:
            return unreachable(self.name, self.kind, "http://x", "connection refused")
        return HostSnapshot(self.name, self.kind, "http://x", reachable=True, version="0.24.0")

    def chat(self, call: object) -> object:
        raise AssertionError("nobody asks for an answer here")

    async def embed(self, call: EmbedCall) -> Embeddings:
        raise AssertionError("nobody asks for vectors here")

    async def close(self) -> None:
        return None


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def watch(host: Host, clock: Clock) -> HostWatch:
    return HostWatch([host], Health(clock), clock, max_age_s=2, max_age_down_s=10, limit_s=0.05)  # type: ignore[list-item]


async def test_a_snapshot_is_taken_once_and_again_when_it_is_old(
    watch: HostWatch, host: Host, clock: Clock
) -> None:
    await watch.snapshots()
    clock.now_s = 1.9
    await watch.snapshots()
    assert host.looks == 1
    clock.now_s = 2.1
    await watch.snapshots()
    assert host.looks == 2


async def test_many_at_once_cause_one_look(watch: HostWatch, host: Host) -> None:
    await asyncio.gather(*(watch.snapshots() for _ in range(20)))
    assert host.looks == 1


async def test_a_host_that_is_down_is_looked_at_less_often(
    watch: HostWatch, host: Host, clock: Clock
) -> None:
    host.up = False
    assert not (await watch.snapshots())[0].reachable
    clock.now_s = 5
    await watch.snapshots()
    assert host.looks == 1
    clock.now_s = 11
    host.up = True
    assert (await watch.snapshots())[0].reachable


async def test_forgetting_a_host_makes_the_next_request_look_again(watch: HostWatch, host: Host) -> None:
    await watch.snapshots()
    watch.forget("spark-1")
    await watch.snapshots()
    assert host.looks == 2


async def test_a_host_that_never_answers_is_a_host_that_is_down(watch: HostWatch, host: Host) -> None:
    host.gate = asyncio.Event()
    snapshot = (await watch.snapshots())[0]
    assert not snapshot.reachable
    assert "within 0.05 s" in snapshot.problem


# ── looks that take their time ───────────────────────────────────────────────────────────────────────────

NO_END_S = 1e6
"""A patience, or a limit, that no test lives to see."""
GUARD_S = 20.0
"""A guard against a test that never ends; nothing is concluded from how long anything takes."""


class Two:
    """A host that is well and one that the test makes silent, and their watch."""

    def __init__(self, clock: Clock, **patience: float) -> None:
        self.well, self.odd = Host("well"), Host("odd")
        hosts = [self.well, self.odd]
        self.watch = HostWatch(hosts, Health(clock), clock, limit_s=NO_END_S, **patience)  # type: ignore[arg-type]

    async def reachable(self) -> list[bool]:
        async with asyncio.timeout(GUARD_S):
            return [host.reachable for host in await self.watch.snapshots()]

    async def looked(self) -> None:
        """Lets the look at the odd host come to its end."""
        assert self.odd.gate is not None
        self.odd.gate.set()
        await self.odd.over.wait()
        await asyncio.sleep(0)
        self.odd.gate = None


async def test_nobody_waits_for_a_host_that_was_silent_when_it_was_last_looked_at(clock: Clock) -> None:
    two = Two(clock, patience_s=NO_END_S)
    two.odd.silent = True
    assert await two.reachable() == [True, False]
    clock.now_s = 11
    two.odd.silent, two.odd.gate = False, asyncio.Event()
    for _ in range(5):
        assert await two.reachable() == [True, False]
    assert (two.well.looks, two.odd.looks) == (2, 2), "one look at a time"
    await asyncio.sleep(0)
    assert two.odd.under_way == 1
    await two.looked()
    assert await two.reachable() == [True, True], "it is back with the end of the look"
    assert two.odd.looks == 2


async def test_a_host_that_refuses_is_waited_for_because_it_says_so_at_once(clock: Clock) -> None:
    two = Two(clock, patience_s=NO_END_S)
    two.odd.up = False
    assert await two.reachable() == [True, False]
    clock.now_s, two.odd.up = 11, True
    assert await two.reachable() == [True, True]


async def test_a_host_that_becomes_silent_counts_by_what_was_known_until_the_look_has_failed(
    clock: Clock,
) -> None:
    two = Two(clock, patience_s=0.01)
    before = await two.watch.snapshots()
    clock.now_s = 3
    two.odd.gate, two.odd.up = asyncio.Event(), False
    assert await two.reachable() == [True, True]
    assert (await two.watch.snapshots())[1].alike(before[1])
    assert two.watch.overdue == {"odd"}
    assert two.odd.looks == 2
    await two.looked()
    assert await two.reachable() == [True, False]
    assert not two.watch.overdue, "then it is known to be down"


async def test_the_first_look_holds_back_what_others_have_told_for_a_moment_only(clock: Clock) -> None:
    two = Two(clock, first_patience_s=0.01)
    two.odd.gate = asyncio.Event()
    first = await two.watch.snapshots()
    assert [host.reachable for host in first] == [True, False]
    assert "not told yet" in first[1].problem
    assert await two.watch.snapshots() is first, "what follows from it is worked out once"
    await two.looked()
    assert await two.reachable() == [True, True]
    assert two.odd.looks == 1


async def test_where_no_host_has_answered_the_first_look_is_waited_for(clock: Clock) -> None:
    two = Two(clock, first_patience_s=0.01)
    two.well.up, two.odd.gate = False, asyncio.Event()
    asking = asyncio.create_task(two.reachable())
    await asyncio.wait([asking], timeout=0.1)
    assert not asking.done()
    await two.looked()
    assert await asking == [False, True]


async def test_a_host_alone_that_was_silent_gets_a_moment_to_be_back(clock: Clock, host: Host) -> None:
    watch = HostWatch([host], Health(clock), clock, limit_s=NO_END_S)  # type: ignore[list-item]
    host.silent = True
    assert not (await watch.snapshots())[0].reachable
    clock.now_s, host.silent = 11, False
    assert (await watch.snapshots())[0].reachable, "there is nothing else to decide with"


async def test_what_happened_during_a_look_needs_another_one(clock: Clock) -> None:
    two = Two(clock, patience_s=0.01)
    await two.reachable()
    clock.now_s, two.odd.gate = 3, asyncio.Event()
    await two.reachable()
    two.watch.forget("odd")
    asking = asyncio.create_task(two.reachable())
    await asyncio.sleep(0)
    assert two.odd.looks == 2, "one look at a time"
    await two.looked()
    assert await asking == [True, True]
    await two.reachable()
    assert two.odd.looks == 3


async def test_what_goes_wrong_in_a_look_that_nobody_waits_for_is_not_lost(clock: Clock) -> None:
    two = Two(clock, patience_s=0.01)
    await two.reachable()
    clock.now_s, two.odd.gate, two.odd.broken = 3, asyncio.Event(), True
    assert await two.reachable() == [True, True]
    await two.looked()
    two.odd.broken = False
    clock.now_s = 6
    with pytest.raises(ValueError, match="a defect"):
        await two.watch.snapshots()
    assert await two.reachable() == [True, True], "the next one looks again"


async def test_it_ends_the_looks_under_way(clock: Clock) -> None:
    two = Two(clock, first_patience_s=0.01)
    two.odd.gate = asyncio.Event()
    before = asyncio.all_tasks()
    await two.reachable()
    assert two.odd.under_way == 1
    await two.watch.close()
    assert two.odd.under_way == 0 and asyncio.all_tasks() == before
    await two.watch.close()
    clock.now_s, two.odd.gate = 1, None
    assert await two.reachable() == [True, True], "it can be used again"
    await two.watch.close()


async def test_who_goes_away_ends_no_look_for_the_others(clock: Clock) -> None:
    two = Two(clock)
    two.well.up, two.odd.gate = False, asyncio.Event()
    one, other = asyncio.create_task(two.reachable()), asyncio.create_task(two.reachable())
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    await two.looked()
    assert await other == [False, True] and two.odd.looks == 1


async def test_snapshots_carry_what_failed(host: Host, clock: Clock) -> None:
    health = Health(clock, threshold=2, rest_s=30)
    watch = HostWatch([host], health, clock)  # type: ignore[list-item]
    for _ in range(2):
        health.failed("spark-1", "phi4", OutOfMemory("out of memory"))
    health.failed(
        "spark-1", "mllama", ModelUnusable("no", why="unknown model architecture"), version="0.24.0"
    )
    snapshot = (await watch.snapshots())[0]
    assert "2 times" in snapshot.unhealthy["phi4:latest"]
    assert snapshot.unusable == {"mllama:latest": "unknown model architecture"}


async def test_the_answer_is_the_very_same_until_something_changes(host: Host, clock: Clock) -> None:
    health = Health(clock, threshold=1, rest_s=1)
    watch = HostWatch([host], health, clock)  # type: ignore[list-item]
    first = await watch.snapshots()
    assert await watch.snapshots() is first
    health.failed("spark-1", "phi4", BadReply("nothing"))
    resting = await watch.snapshots()
    assert resting[0].unhealthy and await watch.snapshots() is resting
    clock.now_s += 1.5  # the rest is over and the look is not old yet
    assert not (await watch.snapshots())[0].unhealthy
    clock.now_s += 1
    assert await watch.snapshots() is not first


def test_one_success_clears_a_model_and_another_host_is_not_blamed(clock: Clock) -> None:
    health = Health(clock, threshold=2)
    health.failed("a", "phi4", OutOfMemory("x"))
    health.succeeded("a", "phi4:latest")
    health.failed("a", "phi4", OutOfMemory("x"))
    assert not health.unhealthy(SNAPSHOT)
    health.failed("a", "PHI4", OutOfMemory("x"))
    assert health.unhealthy(SNAPSHOT) and not health.unhealthy(replace(SNAPSHOT, name="b"))


def test_after_the_rest_one_more_failure_closes_it_off_anew(clock: Clock) -> None:
    health = Health(clock, threshold=2, rest_s=30)
    for _ in range(2):
        health.failed("a", "phi4", OutOfMemory("x"))
    clock.now_s = 31
    assert not health.unhealthy(SNAPSHOT)
    health.failed("a", "phi4", OutOfMemory("x"))
    assert health.unhealthy(SNAPSHOT)


def test_a_request_that_was_refused_for_itself_blames_no_model(clock: Clock) -> None:
    health = Health(clock, threshold=1)
    health.failed("a", "phi4", RequestRejected("bad format"))
    assert not health.unhealthy(SNAPSHOT)


def test_a_callers_own_mistake_makes_no_model_rest_for_the_others(clock: Clock) -> None:
    health = Health(clock, threshold=1)
    for error in (ContextExceeded("too long"), HostBusy("full"), RequestRejected("no")):
        health.failed("a", "phi4", error)
    assert not health.unhealthy(SNAPSHOT)


def test_an_answer_that_never_began_rests_everything_that_would_have_to_be_loaded(clock: Clock) -> None:
    health = Health(clock, rest_s=30)
    warm = replace(SNAPSHOT, resident={"phi4": ResidentModel("phi4")})
    health.failed("a", "mistral:7b", HostTimeout("silent", why="nothing came for 300 s"))
    assert set(health.unhealthy(warm)) == {"mistral:7b"}
    assert "300 s" in health.unhealthy(warm)["mistral:7b"]
    clock.now_s = 31
    assert not health.unhealthy(warm)


def hang(health: Health, host: str = "a", model: str = "mistral:7b") -> None:
    health.failed(host, model, HostTimeout("not loaded", why="5 GB take no longer than 46 s"))


def rests_s(health: Health, host: str = "a") -> float:
    loads = health.rests(host).loads
    return loads.left_s if loads is not None else 0.0


def test_a_loader_that_hangs_again_rests_twice_as_long_and_begins_anew_after_a_load(clock: Clock) -> None:
    health = Health(clock, rest_s=30)
    told = []
    for _ in range(7):
        hang(health)
        told.append(rests_s(health))
        clock.now_s += told[-1]
        assert not health.unhealthy(SNAPSHOT), "then somebody tries it"
        clock.now_s += 46
    assert told == [30, 60, 120, 240, 480, 600, 600]
    health.succeeded("a", "phi4")
    hang(health)
    assert rests_s(health) == 600, "an answer of what is in memory says nothing of the loader"
    health.succeeded("a", "mistral:7b", loaded=True)
    assert rests_s(health) == 0 and not health.unhealthy(SNAPSHOT)
    hang(health)
    assert rests_s(health) == 30
    health.loaded("a")
    assert rests_s(health) == 0


def test_many_that_hang_at_once_are_one_hang(clock: Clock) -> None:
    health = Health(clock, rest_s=30)
    for _ in range(5):
        hang(health)
        clock.now_s += 1
    assert rests_s(health) == 29
    assert rests_s(health, "b") == 0


def test_a_hang_many_times_over_rests_no_longer_than_what_is_longest(clock: Clock) -> None:
    for rest_s, longest_s in ((30.0, 600.0), (900.0, 900.0), (0.0, 0.0)):
        health = Health(clock, rest_s=rest_s)
        for _ in range(1100):
            hang(health)
            clock.now_s += rests_s(health)
        hang(health)
        assert rests_s(health) == longest_s


def test_a_model_that_fails_again_after_its_rest_rests_twice_as_long(clock: Clock) -> None:
    health = Health(clock, threshold=2, rest_s=30)
    for _ in range(2):
        health.failed("a", "phi4", OutOfMemory("x"))
    assert health.rests("a").models["phi4:latest"].left_s == 30
    health.failed("a", "phi4", OutOfMemory("it was under way before"))
    assert health.rests("a").models["phi4:latest"].left_s == 30
    clock.now_s = 31
    assert not health.rests("a").models
    health.failed("a", "phi4", OutOfMemory("x"))
    rest = health.rests("a").models["phi4:latest"]
    assert rest.left_s == 60 and rest.why == "failed 4 times in a row, last: x"
    health.succeeded("a", "phi4")
    for _ in range(2):
        health.failed("a", "phi4", OutOfMemory("x"))
    assert health.rests("a").models["phi4:latest"].left_s == 30


def test_an_unloadable_model_is_forgotten_with_a_new_version(clock: Clock) -> None:
    health = Health(clock)
    health.failed("a", "m", ModelUnusable("x", why="arch"), version="0.30.0")
    assert health.unusable("a", "0.30.0") and not health.unusable("a", "0.31.0")


def test_a_snapshot_finds_models_by_any_spelling_and_by_the_hosts_own_name() -> None:
    snapshot = HostSnapshot(
        "vllm",
        "openai",
        "http://x",
        reachable=True,
        installed={
            "Qwen/Qwen2.5-72B": InstalledModel("Qwen/Qwen2.5-72B"),
            "phi4:latest": InstalledModel("phi4:latest"),
        },
        resident={"phi4:latest": ResidentModel("phi4:latest")},
        served_names={"qwen2.5:72b": "Qwen/Qwen2.5-72B"},
    )
    assert snapshot.find_installed("qwen2.5:72b") is not None
    assert snapshot.find_installed("phi4") is not None
    assert snapshot.find_resident("Phi4") is not None
    assert snapshot.find_installed("mistral:7b") is None


def test_a_load_that_failed_once_counts_once_however_many_waited_for_it(clock: Clock) -> None:
    health = Health(clock, threshold=2)
    failure = OutOfMemory("out of memory")
    for error in (failure.repeated(), failure.repeated().repeated(), failure):
        health.failed("a", "phi4", error)
    snapshot = HostSnapshot(name="a", kind="ollama", url="http://a", reachable=True)
    assert health.unhealthy(snapshot) == {}
    health.failed("a", "phi4", OutOfMemory("out of memory again").repeated())
    assert "2 times" in health.unhealthy(snapshot)["phi4:latest"]
