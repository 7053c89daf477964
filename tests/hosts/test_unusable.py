"""A model that a version of Ollama cannot load is tried there once, explained, and tried again on another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import AllAttemptsFailed, ModelUnusable, NoModelAvailable, ProviderError
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_models import FakeModel, fleet_models
from llm_router.testing.fake_ollama import FakeOllama

MODEL = "mistral:7b"


def models() -> Iterable[FakeModel]:
    """As the fleet has it, in a file of an architecture that Ollama 0.30 gave up."""
    return [replace(model, architecture="mllama") for model in fleet_models([MODEL])]


def settings_for(url: str, *, manage: bool) -> Settings:
    return Settings(
        hosts=(HostSettings(url=url, name="box", memory_gb=100.0),),
        routing=RoutingSettings(stand_in="never", snapshot_max_age_s=0.0),
        policy=PolicySettings(prefer="map"),
        residency=ResidencySettings(manage=manage),
    )


def asked(server: FakeOllama) -> int:
    return len([r for r in server.requests if r.path in ("/api/chat", "/api/generate")])


@pytest.mark.parametrize("manage", [True, False])
async def test_it_is_tried_once_and_again_on_another_version(manage: bool) -> None:
    task = RouteRequest.from_text("hello there", model=MODEL)
    async with FakeOllama(models(), version="0.33.0") as new:
        port = new.port
        async with Router(settings=settings_for(new.url, manage=manage)) as router:
            with pytest.raises(AllAttemptsFailed) as first:
                await router.run(task)
            assert isinstance(first.value.attempts[-1].error, ModelUnusable)
            times = asked(new)
            for _ in range(3):
                with pytest.raises(NoModelAvailable) as again:
                    await router.run(task)
            assert asked(new) == times
            (refused,) = again.value.rejected
            assert refused.code == "unusable"
            assert "box cannot load it" in refused.why and "unknown model architecture" in refused.why
            found = await router.explain(RouteRequest.from_text("hello there"), MODEL)
            assert any(why.startswith("unusable: box cannot load it") for why in found[1].kept_out)

            await new.__aexit__(None, None, None)
            async with FakeOllama(models(), version="0.24.0", port=port):
                assert (await router.run(task)).model == MODEL


async def test_a_load_that_somebody_asks_for_teaches_it_too() -> None:
    async with (
        FakeOllama(models(), version="0.33.0") as box,
        Router(settings=settings_for(box.url, manage=True)) as router,
    ):
        with pytest.raises(ProviderError, match="architecture"):
            await router.preload(MODEL)
        times = asked(box)
        with pytest.raises(NoModelAvailable, match="cannot load it"):
            await router.preload(MODEL)
        assert asked(box) == times
