"""The first half of the use case: what kind of task it is, what is true of the hosts, who is to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from llm_router import assembly
from llm_router.classify.conversation import in_tool_loop, without_past_pictures
from llm_router.config import Settings
from llm_router.conversations import Conversations
from llm_router.decision import Candidate, Classification, Decision
from llm_router.errors import InvalidRequest, NotInTime
from llm_router.fleet import Fleet
from llm_router.hosts.residency import Residency, Seat
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.hosts.watch import HostWatch
from llm_router.ids import fresh_id
from llm_router.names import is_cloud
from llm_router.policy import World, decide
from llm_router.policy.settings import PolicySettings, preferring
from llm_router.policy.waits import Moment
from llm_router.request import RouteRequest

_MORE_TIME = "look at the hosts with: llm-router doctor; or raise timeouts.total_s"
_MORE_TIME_OF_ITS_OWN = "give it more time: timeout_s, --timeout-s, or the header x-router-timeout-s"

LEAST_LOOK_S = 2.0
"""So long is always waited for the hosts, which is more than for one of which something is known: with the
shortest limit it is still decided, and told who would be late."""


class Deciding:
    """Decides for every front. ``talks`` may be exchanged for those of the router before."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        watch: HostWatch,
        residency: Residency,
        clock_s: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.fleet = fleet
        self.talks = Conversations()
        self._watch = watch
        self._residency = residency
        self._clock_s = clock_s
        self._worlds: dict[PolicySettings, World] = {}
        self._worlds_of: tuple[HostSnapshot, ...] | None = None
        self._cascade = assembly.cascade_of(
            settings, fleet, watch, clock_s, seat=self._seat_of_mission_control
        )

    async def classify(self, request: RouteRequest) -> Classification:
        """Which kind of task this is."""
        return await self._cascade.classify(request)

    async def decided(
        self, request: RouteRequest, category: str | None = None, policy: PolicySettings | None = None
    ) -> tuple[Decision, World]:
        """The decision and the world it was made in, which the rest of the request goes on with."""
        begun_s = self._clock_s()
        self.refuse_cloud(request.model)
        if request.wish is not None:
            category = category or request.wish.category
            if policy is None and request.wish.prefer is not None:
                policy = preferring(self.settings.policy, request.wish.prefer)
        classification = await self._cascade.classify(request) if category is None else _asked_for(category)
        if request.timeout_s is None:
            world = await self.world(policy)
        else:
            world = await self._world_in_time(request, begun_s, policy)
        meant = self.meant(request, classification.category)
        decision = decide(meant, classification, world, self.moment(request))
        elapsed_ms = (self._clock_s() - begun_s) * 1000
        return decision.stamped(fresh_id(), elapsed_ms), world

    def meant(self, request: RouteRequest, category: str) -> RouteRequest:
        """The request without pictures of earlier turns, where a task in words has followed them.

        What a model that was asked for by name gets is never changed.
        """
        if not request.images or request.model is not None:
            return request
        sees = self.fleet.category(category).requires.capability == "vision"
        return request if sees else without_past_pictures(request)

    async def world(self, policy: PolicySettings | None = None) -> World:
        """One World per policy as long as the hosts stay as they are: it keeps what follows from them.

        Its snapshots may be older than the latest look, where that found nothing that a decision depends on.
        """
        hosts = await self._watch.snapshots()
        if self._worlds_of is not hosts:
            if not _alike(hosts, self._worlds_of):
                self._worlds.clear()
            self._worlds_of = hosts
            self._residency.seen(hosts, self._watch.looked_s)
        policy = policy or self.settings.policy
        world = self._worlds.get(policy)
        if world is None:
            world = self._worlds[policy] = World(self.fleet, hosts, policy)
        return world

    async def _world_in_time(
        self, request: RouteRequest, begun_s: float, policy: PolicySettings | None
    ) -> World:
        """Raises NotInTime where hosts of which nothing is known yet are silent until the time is over."""
        left_s = self.time_s(request) - (self._clock_s() - begun_s)
        try:
            async with asyncio.timeout(max(left_s, LEAST_LOOK_S)) as limit:
                return await self.world(policy)
        except TimeoutError:
            if not limit.expired():
                raise
            whole, where, _ = self.limit_told(request)
            raise NotInTime(
                f"the hosts did not tell what they have within {whole} ({where})",
                attempts=(),
                hint="look at the hosts with: llm-router doctor",
            ) from None

    def moment(self, request: RouteRequest) -> Moment:
        before = self.talks.before(request)
        place, sure = (before.place, before.sure) if before is not None else (None, False)
        locked = sure and in_tool_loop(request)
        return Moment(
            self._residency.loads(), place, locked, self.time_s(request), overdue=self._watch.overdue
        )

    def refuse_cloud(self, model: str | None) -> None:
        """Raises InvalidRequest for a name that means a model on the internet, unless that is allowed."""
        if model and is_cloud(model) and not self.settings.policy.allow_cloud:
            raise InvalidRequest(
                f"{model[:80]} would be answered on the internet",
                why="names ending in :cloud leave this machine",
                hint="choose a local model, or set policy.allow_cloud",
            )

    def time_s(self, request: RouteRequest) -> float:
        """How long all of a request may take."""
        total_s, own_s = self.settings.timeouts.total_s, request.timeout_s
        return total_s if own_s is None else min(own_s, total_s)

    def limit_told(self, request: RouteRequest) -> tuple[str, str, str]:
        """How long a request may take, what says so, and what to do where that is not enough."""
        limit_s = self.time_s(request)
        if limit_s == self.settings.timeouts.total_s:
            return f"{limit_s:g} s", "timeouts.total_s", _MORE_TIME
        return f"{limit_s:g} s", "its own timeout_s", _MORE_TIME_OF_ITS_OWN

    async def _seat_of_mission_control(self, candidate: Candidate) -> Seat:
        """It is asked before the hosts are looked at for the task itself: the desk is told first what is in
        memory there, or it would make no room."""
        await self.world()
        return await self._residency.seat(candidate)


def _alike(hosts: Sequence[HostSnapshot], before: Sequence[HostSnapshot] | None) -> bool:
    if before is None or len(hosts) != len(before):
        return False
    return all(now is was or now.alike(was) for now, was in zip(hosts, before, strict=True))


def as_request(request: RouteRequest | str) -> RouteRequest:
    return RouteRequest.from_text(request) if isinstance(request, str) else request


def _asked_for(category: str) -> Classification:
    return Classification(category, confidence=1.0, stage="explicit", probabilities={category: 1.0})
