"""Snapshots of all hosts, taken when they are needed and kept for a moment.

A snapshot is a value with an age: it ranks, and nobody waits long for a newer one. A look that takes its time
goes on beside the requests, which meanwhile are decided with what was known before.
"""

from __future__ import annotations

import asyncio
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from llm_router.hosts.health import Health
from llm_router.hosts.snapshot import HostSnapshot, unreachable
from llm_router.hosts.speeds import ModelSpeeds, SpeedBook
from llm_router.providers.address import masked
from llm_router.providers.base import Provider

PATIENCE_S = 1.0
"""So long is waited for a new look at a host of which something is known. One that is well, or that refuses
the connection, tells within milliseconds; what takes longer is busy or gone, and waiting would not help."""

FIRST_PATIENCE_S = 5.0
"""So long is waited for the first look at a host while another one has answered: it takes longer than the
later ones, because it asks for the details of every model, for which Ollama is given 4 s (0.4 of
``control_s``). While none has there is nothing else to decide with, and it is waited for to its end."""

_SURELY_S = 0.05
"""So long what was told is told again without a look at the ages: many requests come within a moment."""

_NOBODY: frozenset[str] = frozenset()

_Place = tuple[asyncio.AbstractEventLoop, str]
"""Looks in progress are shared within an event loop: one loop cannot wait for another's task."""

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
    """What the last look found. ``silent``: nothing, and that only after all patience. ``forgotten`` is how
    often the host had been forgotten when the look began."""

    snapshot: HostSnapshot
    taken_s: float
    begun_s: float
    silent: bool
    forgotten: int


@dataclass(frozen=True, slots=True)
class _Look:
    """A look under way. ``begun_s`` is on the clock of the event loop, by which it is waited for."""

    task: asyncio.Task[None]
    begun_s: float
    forgotten: int


class HostWatch:
    """One snapshot per provider, as a rule at most ``max_age_s`` old; of a host that is down
    ``max_age_down_s``. What ``health`` and ``speeds`` have learned is in them.

    Many requests at once cause one look at each host, not many. A look is waited for at most ``patience_s``
    (the first one at a host ``first_patience_s``, unless no host has answered yet), counted from its
    beginning, and ends after ``limit_s``; until then the snapshot before it holds. A host that was silent
    when last looked at is not waited for while another one is known to answer. ``close`` ends what is still
    under way.
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
        patience_s: float = PATIENCE_S,
        first_patience_s: float = FIRST_PATIENCE_S,
    ) -> None:
        self._providers = tuple(providers)
        self._by_name = {provider.name: provider for provider in reversed(self._providers)}
        self._health = health
        self._speeds = speeds if speeds is not None else SpeedBook()
        self._clock_s = clock_s
        self._max_age_s = max_age_s
        self._max_age_down_s = max_age_down_s
        self._limit_s = limit_s
        self._patience_s = patience_s
        self._first_patience_s = first_patience_s
        self._kept: dict[str, _Kept] = {}
        self._forgotten: dict[str, int] = {}
        self._looking: dict[_Place, _Look] = {}
        self._unknown = {
            p.name: unreachable(p.name, p.kind, _address(p), "it has not told yet what is installed")
            for p in self._providers
        }
        self._told: _Told | None = None
        self._told_until_s = 0.0

    def provider(self, host: str) -> Provider:
        return self._by_name[host]

    def version(self, host: str) -> str:
        """The version a host last told; empty where it never did."""
        kept = self._kept.get(host)
        return kept.snapshot.version if kept else ""

    @property
    def looked_s(self) -> Mapping[str, float]:
        """When the look at each host began, on the clock, that its snapshot is from."""
        return {host: kept.begun_s for host, kept in self._kept.items()}

    @property
    def overdue(self) -> frozenset[str]:
        """Hosts that answered the last look and have not answered the one under way, with all patience."""
        if not self._looking:
            return _NOBODY
        loop = asyncio.get_running_loop()
        long_ago_s = loop.time() - self._patience_s
        return frozenset(
            host
            for (where, host), look in self._looking.items()
            if where is loop and look.begun_s <= long_ago_s and not look.task.done()
            if (kept := self._kept.get(host)) is not None and kept.snapshot.reachable
        )

    def forget(self, host: str) -> None:
        """The next request looks again, whatever the age: something just happened there."""
        self._forgotten[host] = self._forgotten.get(host, 0) + 1
        self._told_until_s = 0.0

    async def close(self) -> None:
        """Ends the looks that are under way on this event loop."""
        loop = asyncio.get_running_loop()
        tasks = [self._looking.pop(place).task for place in list(self._looking) if place[0] is loop]
        pending = [task for task in tasks if not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)

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
            await self._look_around()
            seen = tuple(map(self._known, self._providers))
        told = self._told
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
        if kept is None or kept.forgotten != self._forgotten.get(host, 0):
            return None
        limit_s = self._max_age_s if kept.snapshot.reachable else self._max_age_down_s
        return kept.snapshot if self._clock_s() - kept.taken_s <= limit_s else None

    def _known(self, provider: Provider) -> HostSnapshot:
        kept = self._kept.get(provider.name)
        return kept.snapshot if kept is not None else self._unknown[provider.name]

    async def _look_around(self) -> None:
        """Has every host looked at whose snapshot is too old, and waits for that as long as it is worth it.

        Raises what went wrong in a look that is no matter of the host, once for each who waited for it, or
        else for the next who asks.
        """
        loop = asyncio.get_running_loop()
        forgotten = dict(self._forgotten)
        looks = {p.name: self._look_at(p) for p in self._providers if self._kept_fresh(p.name) is None}
        while True:
            for host, look in looks.items():
                if look.task.done():
                    self._end(host, look)
                    if look.forgotten < forgotten.get(host, 0):  # it saw what was before that
                        looks[host] = self._look_at(self.provider(host))
            until_s = {
                look.task: look.begun_s + self._patience_with(host)
                for host, look in looks.items()
                if not look.task.done()
            }
            now_s = loop.time()
            waited_for = [task for task, until in until_s.items() if until > now_s]
            if not waited_for:
                return
            longest_s = min(until_s[task] for task in waited_for) - now_s
            timeout_s = longest_s if math.isfinite(longest_s) else None
            await asyncio.wait(waited_for, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    def _patience_with(self, host: str) -> float:
        """How long after its beginning a look is waited for, by what is known of this host and the others."""
        answers = any(k.snapshot.reachable and k.snapshot.kind != "embedded" for k in self._kept.values())
        kept = self._kept.get(host)
        if kept is None:
            return self._first_patience_s if answers else math.inf
        return 0.0 if kept.silent and answers else self._patience_s

    def _look_at(self, provider: Provider) -> _Look:
        """The look under way, or a new one."""
        loop = asyncio.get_running_loop()
        place = loop, provider.name
        look = self._looking.get(place)
        if look is not None and look.task.done():
            self._end(provider.name, look)
            look = None
        if look is None:
            forgotten = self._forgotten.get(provider.name, 0)
            task = loop.create_task(self._look(provider, forgotten))
            look = self._looking[place] = _Look(task, loop.time(), forgotten)
        return look

    def _end(self, host: str, look: _Look) -> None:
        """Of a look that is done. Raises what it raised."""
        place = asyncio.get_running_loop(), host
        if self._looking.get(place) is look:
            del self._looking[place]
        if not look.task.cancelled():
            look.task.result()

    async def _look(self, provider: Provider, forgotten: int) -> None:
        loop = asyncio.get_running_loop()
        begun_s, loop_begun_s = self._clock_s(), loop.time()
        try:
            async with asyncio.timeout(self._limit_s):
                snapshot = await provider.snapshot()
            silent = not snapshot.reachable and loop.time() - loop_begun_s > self._patience_s
        except TimeoutError:
            problem = f"it did not tell what is installed within {self._limit_s:g} s"
            snapshot = unreachable(provider.name, provider.kind, _address(provider), problem)
            silent = True
        self._kept[provider.name] = _Kept(snapshot, self._clock_s(), begun_s, silent, forgotten)
        self._told_until_s = 0.0


def _address(provider: Provider) -> str:
    """For people: without a user and a password; empty where it has none."""
    return masked(getattr(provider, "url", ""))


def _same_objects(left: Sequence[HostSnapshot], right: Sequence[HostSnapshot]) -> bool:
    return len(left) == len(right) and all(map(operator.is_, left, right))
