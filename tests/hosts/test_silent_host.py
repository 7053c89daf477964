"""A host that takes connections and never says a word, over real sockets: others answer, nothing is left."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest
from tests.support.days import HANGS_AFTER_S, SMALL, Clock, box, nothing_left, settings_for, task

from llm_router import deciding
from llm_router.config import HostSettings, Settings
from llm_router.errors import NotInTime
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.hosts.watch import HostWatch
from llm_router.providers.base import Timeouts
from llm_router.providers.ollama import OllamaProvider
from llm_router.router import Router
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FakeOllama


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = HostWatch.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "first_patience_s", 0.05)
    monkeypatch.setitem(defaults, "patience_s", 0.05)


@pytest.fixture
def hole() -> Iterator[str]:
    """The address of a server that is stuck: the kernel takes the connections, nobody ever reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def both(here: FakeOllama, hole: str, *, control_s: float) -> Settings:
    settings = settings_for(here)
    silent = HostSettings(url=hole, name="hole", memory_gb=100.0)
    return msgspec.structs.replace(
        settings, hosts=(silent, *settings.hosts), timeouts=Timeouts(control_s=control_s)
    )


async def test_requests_for_a_host_that_is_well_do_not_wait_for_one_that_is_silent(
    here: FakeOllama, hole: str
) -> None:
    with nothing_left():
        async with Router(settings=both(here, hole, control_s=10 * HANGS_AFTER_S)) as router:
            async with asyncio.timeout(HANGS_AFTER_S):
                for _ in range(3):
                    assert (await router.run(task(SMALL))).host == "box0"
            silent, well = await router.hosts()
            assert (silent.reachable, well.reachable) == (False, True)
            assert any("_look" in repr(one) for one in asyncio.all_tasks()), "it is still being looked at"


async def test_a_request_waits_for_a_first_look_no_longer_than_it_may_take(
    hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "LEAST_LOOK_S", 0.1)
    hosts = (HostSettings(url=hole, name="hole", memory_gb=100.0),)
    settings = Settings(hosts=hosts, timeouts=Timeouts(control_s=10 * HANGS_AFTER_S))
    with nothing_left():
        async with Router(settings=settings) as router, asyncio.timeout(HANGS_AFTER_S):
            with pytest.raises(NotInTime, match=r"within 0\.05 s \(its own timeout_s\)") as caught:
                await router.run(msgspec.structs.replace(task(None), timeout_s=0.05))
            assert caught.value.hint


async def test_once_the_look_has_failed_it_is_told_why(here: FakeOllama, hole: str) -> None:
    async with Router(settings=both(here, hole, control_s=0.2)) as router:
        async with asyncio.timeout(HANGS_AFTER_S):
            told = (await router.hosts())[0]
            while "not told yet" in told.problem:
                await asyncio.sleep(0.01)
                told = (await router.hosts())[0]
        assert not told.reachable and "0.2 s" in told.problem


class Quiet(OllamaProvider):
    """Tells what is true of its host while ``open`` is set, and else says nothing."""

    def __init__(self, name: str, server: FakeOllama) -> None:
        super().__init__(name, server.url, usable_memory_gb=100.0)
        self.open = asyncio.Event()
        self.open.set()

    async def snapshot(self) -> HostSnapshot:
        await self.open.wait()
        return await super().snapshot()


async def test_while_one_that_was_well_says_nothing_another_host_is_asked_for_the_same_model(
    here: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine a look may take longer than the other tests wait for it.
    monkeypatch.setitem(HostWatch.__init__.__kwdefaults__ or {}, "first_patience_s", HANGS_AFTER_S)
    monkeypatch.setitem(HostWatch.__init__.__kwdefaults__ or {}, "patience_s", 2.0)
    clock = Clock()
    with box().in_thread() as there:
        hosts = Quiet("box0", here), Quiet("box1", there)
        async with Router(settings=settings_for(here, there), providers=hosts, clock_s=clock) as router:
            assert (await router.run(task(SMALL, "before"))).host == "box0"
            clock.ahead_s += 5
            assert (await router.run(task(SMALL, "it is there now"))).host == "box0"
            hosts[0].open.clear()
            clock.ahead_s += 5
            assert (await router.run(task(SMALL, "after"))).host == "box1"
            assert [host.reachable for host in await router.hosts()] == [True, True]
            only = await router.decide(task(SMALL, "nobody is left out"))
            assert {candidate.host for candidate in only.chain} == {"box0", "box1"}


def test_without_await_it_ends_as_soon(here: FakeOllama, hole: str) -> None:
    before = set(threading.enumerate())
    with SyncRouter(settings=both(here, hole, control_s=10 * HANGS_AFTER_S)) as router:
        assert router.run(task(SMALL)).host == "box0"
    assert "llm-router" not in [thread.name for thread in set(threading.enumerate()) - before]
