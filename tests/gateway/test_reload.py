"""Settings, fleet and keys read again while requests are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import ConfigError
from llm_router.gateway.keys import hash_of
from llm_router.gateway.serving import Serving
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.records.settings import RecordSettings
from llm_router.request import Message, RouteRequest
from llm_router.serve_settings import ServeSettings
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

FLEET = "categories: {{simple_chat: {{models: [{{model: '{model}', quality: 0.9}}]}}}}\n"


@dataclass
class Running:
    serving: Serving
    fleet: Path
    keys: Path
    fails: list[Exception] = field(default_factory=list)

    async def model(self) -> str | None:
        return (await self.serving.gateway.router.decide("What's 2+2?")).answer_model

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.01)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    fleet, keys = tmp_path / "fleet.yaml", tmp_path / "keys.yaml"
    fleet.write_text(FLEET.format(model="mistral:7b"))
    keys.write_text(f"keys:\n- {{name: ann, hash: '{hash_of('k')}'}}\n")
    async with FakeOllama(fleet_models(["mistral:7b", "gemma2:9b"])) as ollama:
        settings = Settings(
            hosts=(HostSettings(url=ollama.url, name="ollama"),),
            fleet=(str(fleet),),
            routing=RoutingSettings(stand_in="never"),
            serve=ServeSettings(port=0, log="off", keys=str(keys)),
            records=RecordSettings(enabled=False),
        )
        fails: list[Exception] = []

        def load() -> Settings:
            if fails:
                raise fails[-1]
            return settings

        serving = Serving(settings, load=load, files=(fleet, keys), look_every_s=0.02)
        await serving.start()
        yield Running(serving, fleet, keys, fails)
        await serving.close()


async def test_a_changed_file_is_seen(running: Running) -> None:
    before = running.serving.gateway.router
    assert await running.model() == "mistral:7b"
    running.fleet.write_text(FLEET.format(model="gemma2:9b"))
    await running.until(lambda: running.serving.gateway.router is not before)
    assert await running.model() == "gemma2:9b"


async def test_a_bad_file_changes_nothing_and_the_next_good_one_does(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    before = running.serving.gateway.router
    running.fleet.write_text("categories: nonsense\n")
    await running.until(lambda: "the ones before stay" in caplog.text)
    assert "fleet.yaml" in caplog.text
    assert running.serving.gateway.router is before
    running.fleet.write_text(FLEET.format(model="gemma2:9b"))
    await running.until(lambda: running.serving.gateway.router is not before)


@pytest.mark.parametrize("error", [ConfigError("x"), PermissionError("x"), RecursionError("x")])
async def test_whatever_goes_wrong_the_files_are_looked_at_again(
    running: Running, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    before = running.serving.gateway.router
    running.fails.append(error)
    assert not await running.serving.reload()
    running.fleet.write_text(FLEET.format(model="gemma2:9b") + "# seen, and failed\n")
    await running.until(lambda: caplog.text.count("the ones before stay") >= 2)
    assert running.serving.gateway.router is before
    running.fails.clear()
    running.fleet.write_text(FLEET.format(model="gemma2:9b"))
    await running.until(lambda: running.serving.gateway.router is not before)


async def test_a_file_of_keys_that_is_gone_opens_nothing(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.keys.unlink()
    await running.until(lambda: "the ones before stay" in caplog.text)
    assert running.serving.gateway.keys.required
    assert running.serving.gateway.keys.caller({"x-api-key": "k"}).name == "ann"


async def test_keys_in_the_usual_place_that_are_gone_open_nothing(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody names that file; without it a gateway on loopback would ask for no key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nowhere"))
    settings = running.serving.settings
    plain = msgspec.structs.replace(settings, serve=msgspec.structs.replace(settings.serve, keys=None))
    running.serving._load = lambda: plain
    assert not await running.serving.reload()
    assert running.serving.gateway.keys.required


async def test_new_keys_count_at_once(running: Running) -> None:
    before = running.serving.gateway.keys
    running.keys.write_text(f"keys:\n- {{name: bob, hash: '{hash_of('other')}'}}\n")
    await running.until(lambda: running.serving.gateway.keys is not before)
    assert running.serving.gateway.keys.caller({"x-api-key": "other"}).name == "bob"


async def test_how_often_hosts_are_looked_at_follows_the_settings(running: Running) -> None:
    serving = running.serving
    before = serving._polling
    assert before is not None and not before.done()
    for every_s, looks in ((0.0, False), (30.0, True)):
        residency = ResidencySettings(look_every_s=every_s)
        settings = msgspec.structs.replace(serving.settings, residency=residency)
        serving._load = lambda settings=settings: settings
        assert await serving.reload()
        assert (serving._polling is not None) is looks
    await asyncio.wait([before])
    assert before.cancelled()


async def test_a_conversation_stays_where_it_was(running: Running) -> None:
    task = Message("user", "What's 2+2?")
    before = running.serving.gateway.router
    answer = await before.run(RouteRequest(messages=(task,)))
    assert await running.serving.reload()
    after = running.serving.gateway.router
    assert after is not before
    turns = (task, Message("assistant", answer.text), Message("user", "And 3+3?"))
    assert (await after.decide(RouteRequest(messages=turns))).chain[0].stays


async def test_two_at_once_end_with_one_router(running: Running) -> None:
    first = running.serving.gateway.router
    done = await asyncio.gather(*(running.serving.reload() for _ in range(4)))
    assert done == [True] * 4
    assert running.serving.gateway.router is not first
    assert await running.model() == "mistral:7b"
