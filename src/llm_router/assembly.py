"""Puts a Router together from settings: which file, which provider, which stages. The only such place."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_router.classify.base import Stage
from llm_router.classify.cascade import Cascade
from llm_router.classify.embedded import EncoderStage
from llm_router.classify.mission_control import MissionControl, Target, Turn
from llm_router.classify.mission_prompt import Prompt, load_prompt
from llm_router.classify.rules import Rules
from llm_router.config import HostSettings, Settings, load_configuration
from llm_router.decision import Candidate
from llm_router.errors import ConfigError, UnknownModel, nearest
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.health import Health
from llm_router.hosts.load import missing_gb
from llm_router.hosts.residency import Seat
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.hosts.watch import HostWatch
from llm_router.names import is_cloud, same_model
from llm_router.policy import World, estimates, gates
from llm_router.policy.decide import case_for
from llm_router.policy.gates import Case
from llm_router.providers.base import Provider
from llm_router.request import RouteRequest

if TYPE_CHECKING:
    from llm_router.classify.encoder import Encoder


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


async def hosts_of(settings: Settings, fleet: Fleet) -> tuple[HostSnapshot, ...]:
    """What is true of every configured host, for who looks once: each is waited for until it has told or its
    time is over. Raises what ``providers_of`` does."""
    providers = providers_of(settings, fleet)
    watch = HostWatch(providers, Health(time.monotonic), time.monotonic, first_patience_s=math.inf)
    try:
        return await watch.snapshots()
    finally:
        await watch.close()
        for provider in providers:
            await provider.close()


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
        parallel=settings.residency.parallel,
        served_names=host.models,
        api_key=key,
        allow_cloud=settings.policy.allow_cloud,
    )


def prompt_of(settings: Settings) -> Prompt | None:
    """Mission Control's own prompt file, where the user named one. Raises ConfigError with file and line."""
    named = settings.classify.mission_control.prompt
    return load_prompt(Path(named).expanduser()) if named else None


def encoder_of(settings: Settings) -> Encoder:
    """The embedded classifier with the weights that the settings name. Raises EncoderFileError."""
    from llm_router.classify.encoder import Encoder

    named = settings.classify.weights
    return Encoder.load(Path(named).expanduser() if named else None)


def kept_gb(settings: Settings, fleet: Fleet) -> dict[str, float]:
    """The models that never leave the memory, with the GB that they take: Mission Control, the embedders and
    ``residency.pins``.

    Raises ConfigError where the fleet has no such pin, or they do not fit the memory of a host together.
    """
    mission_control = settings.classify.mission_control
    named = fleet.find(mission_control.model) if mission_control.enabled and mission_control.model else None
    kept = dict.fromkeys([*([named] if named else []), *fleet.reserved])
    pins = pins_of(settings, fleet)
    parallel = settings.residency.parallel
    found = {tag: fleet.model(tag).memory_gb_for(parallel) for tag in (*kept, *pins)}
    if pins:
        for host in settings.hosts:
            if host.kind == "ollama":
                _check_fit(found, host.memory_gb or fleet.machine.usable_memory_gb, host.name)
    return found


def pins_of(settings: Settings, fleet: Fleet) -> tuple[str, ...]:
    """``residency.pins`` as the fleet spells them. Raises ConfigError where it has no such model."""
    return tuple(_pinned(name, fleet) for name in settings.residency.pins)


def _pinned(name: str, fleet: Fleet) -> str:
    tag = fleet.find(name)
    if tag is None:
        raise ConfigError(
            f"residency.pins names {name!r}",
            why="the fleet does not have it",
            hint=nearest(name, fleet.models) or "list the fleet's names with: llm-router models",
        )
    return tag


def _check_fit(kept_gb: Mapping[str, float], usable_gb: float, host: str) -> None:
    """By Ollama's rule for a further model, the largest loaded first."""
    filled_gb = 0.0
    for gb in sorted(kept_gb.values(), reverse=True):
        if gb > usable_gb or missing_gb(gb, filled_gb, usable_gb) > 0:
            parts = " + ".join(f"{tag} {one:.1f}" for tag, one in kept_gb.items())
            raise ConfigError(
                f"residency.pins: what never leaves needs {sum(kept_gb.values()):.1f} GB together ({parts})",
                why=f"models may fill {usable_gb:.1f} GB of {host}, and beside others Ollama loads one only "
                "where it needs no more than 80 % of what is free",
                hint="take the largest from residency.pins, or correct memory_gb of the host",
            )
        filled_gb += gb


def cascade_of(
    settings: Settings,
    fleet: Fleet,
    watch: HostWatch,
    clock_s: Callable[[], float],
    *,
    seat: Callable[[Candidate], Awaitable[Seat]],
) -> Cascade:
    """The stages of classification. ``seat`` gives Mission Control its turn at its host. Raises ConfigError
    where Mission Control's settings cannot be used."""
    stages: list[Stage] = [Rules(fleet), EncoderStage(fleet, lambda: encoder_of(settings))]
    mission_control = settings.classify.mission_control
    model = mission_control.model or fleet.router
    if mission_control.enabled and model is not None:
        _refuse_cloud_router(model, settings)
        locate = _locator(model, settings, fleet, watch, seat)
        stages.append(MissionControl(fleet, locate, mission_control, clock_s, prompt=prompt_of(settings)))
    return Cascade(fleet, stages, sure_from=settings.classify.ask_below, clock_s=clock_s)


def _refuse_cloud_router(model: str, settings: Settings) -> None:
    if is_cloud(model) and not settings.policy.allow_cloud:
        raise ConfigError(
            f"classify.mission_control.model names {model}",
            why="it would be asked on the internet, about every task that is unclear",
            hint="name a local model, or set policy.allow_cloud",
        )


def _locator(
    model: str,
    settings: Settings,
    fleet: Fleet,
    watch: HostWatch,
    seat: Callable[[Candidate], Awaitable[Seat]],
) -> Callable[[], Awaitable[Sequence[Target]]]:
    """Finds the hosts that have Mission Control, those where it is resident first.

    The gates are those of a model that answers, and so is the context: asked with any other, the same model
    would be loaded anew each time it changes its role. The embedded model, too weak to judge, is asked only
    where the user named it.
    """
    least = RouteRequest.from_text("a short task")
    tag = fleet.find(model) or model
    if fleet.stand_in is not None and same_model(tag, fleet.stand_in.name):
        tag = fleet.stand_in.name

    async def locate() -> Sequence[Target]:
        world = World(fleet, await watch.snapshots(), settings.policy)
        named = settings.classify.mission_control.model is not None
        hosts = world.hosts if named else world.fleet_hosts
        found = []
        for host in hosts:
            if host.find_installed(tag) is None:
                continue
            try:
                case = case_for(tag, least, None, world, host)
            except UnknownModel:
                continue
            if gates.first_rejection(case) is None:
                asks = _as_candidate(case, host, settings.classify.mission_control.max_prompt_tokens)
                turn = functools.partial(_turn, seat, asks)
                found.append(_target(case, host, watch.provider(host.name), turn))
        return sorted(found, key=lambda target: not target.resident)

    return locate


_ANSWER_TOKENS = 16
"""Mission Control answers with one name in JSON."""


@asynccontextmanager
async def _turn(seat: Callable[[Candidate], Awaitable[Seat]], asks: Candidate) -> AsyncIterator[None]:
    """While inside the model is in memory, and counts as busy."""
    place = await seat(asks)
    try:
        yield
    finally:
        place.leave()


def _as_candidate(case: Case, host: HostSnapshot, prompt_tokens: int) -> Candidate:
    """Mission Control as what it is to its host: one more request for a model."""
    standing = case.standing
    return Candidate(
        standing.tag,
        host.name,
        standing.served_as,
        quality=0.0,
        quality_source="classifies",
        resident=standing.warm,
        estimate=estimates.estimate(
            standing.speed, prompt_tokens=prompt_tokens, answer_tokens=_ANSWER_TOKENS, resident=False
        ),
        score=0.0,
        num_ctx=case.num_ctx if host.kind == "ollama" else None,
        remote=standing.remote,
    )


def _target(case: Case, host: HostSnapshot, provider: Provider, turn: Turn) -> Target:
    resident = host.find_resident(case.standing.tag)
    model = case.standing.model
    think: bool | str = "low" if model.quirks.thinks_always else False
    return Target(
        provider=provider,
        model=host.served_as(case.standing.tag),
        num_ctx=case.num_ctx if host.kind == "ollama" else None,
        resident=resident is not None and resident.context_length in (None, 0, case.num_ctx),
        context_tokens=case.num_ctx,
        tokenizer=model.tokenizer,
        think=think if "thinking" in case.capabilities else None,
        quirks=model.quirks,
        turn=turn,
    )
