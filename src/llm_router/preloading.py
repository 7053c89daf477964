"""Loads before the first request what it would wait for: the acting half of ``hosts/predict.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from llm_router import assembly
from llm_router.errors import LLMRouterError
from llm_router.hosts.predict import Wanted, to_preload
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.policy.decide import World
from llm_router.router import Router

Answers = Mapping[tuple[str, str], int]
"""How many answers a host lately gave by a model of the fleet."""


async def preload_predicted(router: Router, answers: Answers) -> list[tuple[str, str]]:
    """Has each managed host load what it will be asked for, one after the other, while nothing goes on there.

    Gives the hosts and models that were loaded. What cannot be loaded is passed over: a request for it will
    say why.
    """
    tried: set[tuple[str, str]] = set()
    loaded = []
    while (following := await _next(router, answers, tried)) is not None:
        tried.add(following)
        with suppress(LLMRouterError):
            await router.preload(following[1], host=following[0])
            loaded.append(following)
    return loaded


async def _next(router: Router, answers: Answers, tried: set[tuple[str, str]]) -> tuple[str, str] | None:
    world, loads = await router.world(), router.loads()
    for host in world.fleet_hosts:
        load = loads.get(host.name)
        if load is None:
            continue
        wanted = list(_wanted(router, answers, world, host))
        tags = {one.name: tag for one, tag in wanted}
        names = to_preload(
            host,
            load,
            [one for one, _ in wanted],
            host.usable_gb(router.fleet.machine.usable_memory_gb),
            load.max_models,
        )
        for name in names:
            if (host.name, tags[name]) not in tried:
                return host.name, tags[name]
    return None


def _wanted(
    router: Router, answers: Answers, world: World, host: HostSnapshot
) -> Iterator[tuple[Wanted, str]]:
    kept = assembly.kept_gb(router.settings, router.fleet)
    for tag in router.fleet.models:
        count = answers.get((host.name, tag), 0)
        if (tag in kept or count) and host.find_installed(tag) is not None:
            standing = world.standing(tag, host)
            if standing.no_anywhere is None and standing.no_here is None:
                speed = standing.speed
                yield Wanted(standing.name_there, speed.memory_gb, speed.load_s, count, tag in kept), tag


__all__ = ["preload_predicted"]
