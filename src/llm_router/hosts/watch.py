"""Snapshots of all hosts, taken when they are needed and kept for a moment."""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from llm_router.hosts.health import Health
from llm_router.hosts.snapshot import HostSnapshot, unreachable
from llm_router.hosts.speeds import ModelSpeeds, SpeedBook
from llm_router.providers.base import Provider

_Look = tuple[asyncio.AbstractEventLoop, str]
"""Looks in progress are shared within an event loop: one loop cannot wait for another's task."""


_SURELY_S = 0.05
"""So long what was told is told again without a look at the ages: many requests come within a moment."""

_Lessons = tuple[Mapping[str, str], Mapping[str, str], Mapping[str, ModelSpeeds]]
"""Models of a host that it cannot load, and models that rest there, each with why; what was measured."""


@dataclass(frozen=True, slots=True)
class _Told:
    """The last answer and what it was made of."""

    seen: tuple[HostSnapshot, ...]
    learned: tuple[_Lessons, ...]
    hosts: tuple[HostSnapshot, ...]
    changes: int


@dataclass(frozen=True, slots=True)
class _Kept:
    snapshot: HostSnapshot
    taken_s: float
    begun_s: float


class HostWatch:
    """One snapshot per provider, at most ``max_age_s`` old; of a host that is down ``max_age_down_s``.

    What ``health`` and ``speeds`` have learned is in them.

    Many requests at once cause one look at each host, not many.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        health: Health,
        clock_s: Callable[[], float],
        *,
        speeds: SpeedBook | None = None,
        max_age_s: float = 2.0,
        max_age_down_s: float = 10.0,
        limit_s: float = 15.0,
    ) -> None:
        self._providers = tuple(providers)
        self._health = health
        self._speeds = speeds if speeds is not None else SpeedBook()
        self._clock_s = clock_s
        self._max_age_s = max_age_s
        self._max_age_down_s = max_age_down_s
        self._limit_s = limit_s
        self._kept: dict[str, _Kept] = {}
        self._looking: dict[_Look, asyncio.Task[HostSnapshot]] = {}
        self._told: _Told | None = None
        self._told_until_s = 0.0

    def provider(self, host: str) -> Provider:
        return next(provider for provider in self._providers if provider.name == host)

    def version(self, host: str) -> str:
        """The version a host last told; empty where it never did."""
        kept = self._kept.get(host)
        return kept.snapshot.version if kept else ""

    @property
    def looked_s(self) -> Mapping[str, float]:
        """When the look at each host began, on the clock, that its snapshot is from."""
        return {host: kept.begun_s for host, kept in self._kept.items()}

    def forget(self, host: str) -> None:
        """The next request looks again: something just happened there."""
        self._kept.pop(host, None)
        self._told_until_s = 0.0

    async def snapshots(self) -> tuple[HostSnapshot, ...]:
        """All hosts, in the order of the configuration, with what was learned from failures and timings.

        The very same tuple as before as long as nothing changed, so that what follows from it can be kept.
        """
        told = self._told
        changes = self._health.changes + self._speeds.changes
        if told is not None and self._clock_s() < self._told_until_s and changes == told.changes:
            return told.hosts
        seen = self._fresh()
        if seen is None:
            seen = tuple(await asyncio.gather(*(self._snapshot(p) for p in self._providers)))
        changes = self._health.changes + self._speeds.changes
        learned = tuple(map(self._learned, seen))
        if told is None or learned != told.learned or not _same_objects(seen, told.seen):
            hosts = tuple(s.with_lessons(*lessons) for s, lessons in zip(seen, learned, strict=True))
            told = _Told(seen, learned, hosts, changes)
        elif told.changes != changes:
            told = replace(told, changes=changes)
        self._told = told
        self._told_until_s = self._clock_s() + min(_SURELY_S, self._max_age_s)
        return told.hosts

    def _learned(self, seen: HostSnapshot) -> _Lessons:
        health = self._health
        return health.unusable(seen.name, seen.version), health.unhealthy(seen), self._speeds.of(seen.name)

    def _fresh(self) -> tuple[HostSnapshot, ...] | None:
        """All of them where every one is fresh: the common case, without touching the event loop."""
        found = [self._kept_fresh(provider.name) for provider in self._providers]
        return tuple(s for s in found if s is not None) if all(found) else None

    def _kept_fresh(self, host: str) -> HostSnapshot | None:
        kept = self._kept.get(host)
        if kept is None:
            return None
        limit_s = self._max_age_s if kept.snapshot.reachable else self._max_age_down_s
        return kept.snapshot if self._clock_s() - kept.taken_s <= limit_s else None

    async def _snapshot(self, provider: Provider) -> HostSnapshot:
        fresh = self._kept_fresh(provider.name)
        if fresh is not None:
            return fresh
        key = (asyncio.get_running_loop(), provider.name)
        task = self._looking.get(key)
        if task is None or task.done():
            task = asyncio.create_task(self._look(provider))
            self._looking[key] = task
            task.add_done_callback(functools.partial(self._looked, key))
        return await asyncio.shield(task)

    def _looked(self, key: _Look, task: asyncio.Task[HostSnapshot]) -> None:
        if self._looking.get(key) is task:
            del self._looking[key]

    async def _look(self, provider: Provider) -> HostSnapshot:
        begun_s = self._clock_s()
        try:
            async with asyncio.timeout(self._limit_s):
                snapshot = await provider.snapshot()
        except TimeoutError:
            url = getattr(provider, "url", "")
            problem = f"it did not tell what is installed within {self._limit_s:g} s"
            snapshot = unreachable(provider.name, provider.kind, url, problem)
        self._kept[provider.name] = _Kept(snapshot, self._clock_s(), begun_s)
        return snapshot


def _same_objects(left: Sequence[HostSnapshot], right: Sequence[HostSnapshot]) -> bool:
    return len(left) == len(right) and all(map(operator.is_, left, right))
