"""Puts a Router together from settings: which file, which provider, which stages. The only such place."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from llm_router.classify.base import Stage
from llm_router.classify.cascade import Cascade
from llm_router.classify.embedded import EncoderStage
from llm_router.classify.mission_control import MissionControl, Target
from llm_router.classify.rules import Rules
from llm_router.config import HostSettings, Settings, load_configuration
from llm_router.errors import ConfigError, nearest
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.watch import HostWatch
from llm_router.providers.base import Provider


def settings_of_the_user() -> Settings:
    return load_configuration().settings


def fleet_of(settings: Settings) -> Fleet:
    paths = [Path(path).expanduser() for path in settings.fleet]
    return load_fleet(paths, allow_cloud=settings.policy.allow_cloud)


def providers_of(
    settings: Settings, fleet: Fleet, *, progress: Callable[[str], None] | None = None
) -> tuple[Provider, ...]:
    """One provider per configured host, and the embedded engine where it may stand in.

    ``progress`` is told before the engine's model file is fetched, on another thread. Raises ConfigError
    where a host's ``models`` names a model that the fleet does not have.
    """
    for host in settings.hosts:
        _check_names(host, fleet)
    providers = [_provider(host, settings) for host in settings.hosts]
    if settings.routing.stand_in == "auto" and fleet.stand_in is not None:
        from llm_router.providers.embedded import EmbeddedProvider

        stand_in = fleet.stand_in
        num_ctx = stand_in.model.planned_num_ctx
        providers.append(EmbeddedProvider(model_name=stand_in.name, num_ctx=num_ctx, progress=progress))
    return tuple(providers)


def _check_names(host: HostSettings, fleet: Fleet) -> None:
    for name in host.models:
        if fleet.find(name) is None:
            raise ConfigError(
                f"host {host.name}: models names {name!r}",
                why="the fleet does not have it",
                hint=nearest(name, fleet.models) or "list the fleet's names with: llm-router models",
            )


def _provider(host: HostSettings, settings: Settings) -> Provider:
    key = os.environ.get(host.api_key_env) if host.api_key_env else None
    if host.kind == "openai":
        from llm_router.providers.openai_compat import OpenAICompatProvider

        return OpenAICompatProvider(
            host.name,
            host.url,
            timeouts=settings.timeouts,
            usable_memory_gb=host.memory_gb,
            served_names=host.models,
            api_key=key,
            allow_cloud=settings.policy.allow_cloud,
        )
    from llm_router.providers.ollama import OllamaProvider

    return OllamaProvider(
        host.name,
        host.url,
        timeouts=settings.timeouts,
        usable_memory_gb=host.memory_gb,
        served_names=host.models,
        api_key=key,
        allow_cloud=settings.policy.allow_cloud,
    )


def cascade_of(settings: Settings, fleet: Fleet, watch: HostWatch, clock_s: Callable[[], float]) -> Cascade:
    stages: list[Stage] = [Rules(fleet), EncoderStage(fleet)]
    mission_control = settings.classify.mission_control
    if mission_control.enabled and fleet.router is not None:
        stages.append(MissionControl(fleet, _locator(fleet, watch), mission_control, clock_s))
    return Cascade(fleet, stages, sure_from=settings.classify.ask_below, clock_s=clock_s)


def _locator(fleet: Fleet, watch: HostWatch) -> Callable[[], Awaitable[Target | None]]:
    """Finds the host that has Mission Control, a resident one first."""

    async def locate() -> Target | None:
        name = fleet.router
        if name is None:
            return None
        found = []
        for host in await watch.snapshots():
            if host.kind == "embedded" or not host.reachable or host.find_installed(name) is None:
                continue
            resident = host.find_resident(name) is not None
            num_ctx = fleet.models[name].planned_num_ctx if host.kind == "ollama" else None
            found.append(Target(watch.provider(host.name), host.served_as(name), num_ctx, resident))
        return max(found, key=lambda target: target.resident, default=None)

    return locate
