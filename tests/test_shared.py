"""The process's Router for callers that come and go: shared by settings, closed at the end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.fleet import load_fleet
from llm_router.providers import embedded_weights
from llm_router.shared import KEPT, close_shared, shared_router
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

ASK = """
from llm_router.request import RouteRequest
from llm_router.shared import shared_router
print(shared_router().run(RouteRequest.from_text("Hi there!", options={"num_predict": 8})).model)
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    close_shared()


def offline(url: str = "http://127.0.0.1:9", fleet: tuple[str, ...] = ()) -> Settings:
    hosts = (HostSettings(url=url, name="ollama"),)
    return Settings(hosts=hosts, fleet=fleet, routing=RoutingSettings(stand_in="never"))


def test_the_same_settings_give_the_same_router_and_others_another() -> None:
    first = shared_router(settings=offline())
    assert shared_router(settings=offline()) is first
    assert shared_router(settings=offline("http://127.0.0.1:8")) is not first
    assert shared_router(settings=offline(), fleet=load_fleet()) is not first


def test_a_changed_fleet_file_gives_a_new_router(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("models: {mine: {size_gb: 1, params: 1B}}", encoding="utf-8")
    settings = offline(fleet=(str(path),))
    before = shared_router(settings=settings)
    path.write_text("models: {other: {size_gb: 1, params: 1B}}", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    after = shared_router(settings=settings)
    assert "mine" in before.router.fleet.models
    assert "other" in after.router.fleet.models


def test_after_closing_the_next_caller_gets_a_new_one() -> None:
    first = shared_router(settings=offline())
    close_shared()
    close_shared()
    assert shared_router(settings=offline()) is not first


def test_settings_that_nobody_uses_any_more_are_closed_and_those_in_use_are_not() -> None:
    held = shared_router(settings=offline())
    left = weakref.ref(shared_router(settings=offline("http://127.0.0.1:8")))
    for port in range(10, 11 + KEPT):
        shared_router(settings=offline(f"http://127.0.0.1:{port}"))
    gc.collect()
    assert left() is None
    assert shared_router(settings=offline()) is held
    assert held.classify("Hi there!").category


def test_a_router_whose_configuration_changed_is_closed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("models: {mine: {size_gb: 1, params: 1B}}", encoding="utf-8")
    monkeypatch.setenv("LLM_ROUTER_FLEET", str(path))
    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    other = weakref.ref(shared_router(settings=offline()))
    first = weakref.ref(shared_router())
    os.utime(path, ns=(1, 1))
    second = weakref.ref(shared_router())
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:8")
    third = shared_router()
    gc.collect()
    assert (first(), second()) == (None, None)
    assert shared_router() is third and other() is not None


def test_a_call_under_way_ends_before_its_router_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    with FakeOllama(fleet_models(["mistral:7b"])).in_thread() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        server.fault(Fault.SLOW_TOKENS, model="mistral:7b", path="/api/chat", after=1)
        router = shared_router()
        thread = router._thread
        call = router.submit(router.router.run("What's 2+2?"))
        del router
        server.wait_until(lambda s: any(r.path == "/api/chat" for r in s.requests))
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:8")
        shared_router()
        gc.collect()
        assert thread.is_alive() and not call.done()
        server.release()
        assert call.result(60).model == "mistral:7b"
        thread.join(60)
        assert not thread.is_alive()


def test_a_process_that_never_closes_it_ends_without_a_word() -> None:
    with FakeOllama().in_thread() as server:
        told = asked_in_a_process({"OLLAMA_HOST": server.url, "LLM_ROUTER_ROUTING__STAND_IN": "never"})
    assert (told.returncode, told.stdout.strip(), told.stderr) == (0, "mistral:7b", "")


@pytest.mark.embedded
def test_the_embedded_engine_ends_with_its_process_without_a_word() -> None:
    available = embedded_weights.available()
    if not available:
        pytest.skip(available.reason)
    told = asked_in_a_process({"OLLAMA_HOST": "127.0.0.1:9"})
    assert (told.returncode, told.stdout.strip(), told.stderr) == (0, "smollm2:135m", "")


def asked_in_a_process(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ASK],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
