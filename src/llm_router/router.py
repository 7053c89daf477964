"""The use case, and the page to read first: decide which model answers, let it answer, say what happened.

    request ──▶ cascade (classify/) ──▶ decide (policy/) ──▶ provider (providers/) ──▶ answer
                                          ▲
                              snapshots (hosts/) and the fleet

Every front (terminal, CrewAI Flow, Python) goes through ``Router``; it owns no logic that they repeat. The
halves of its work are ``deciding`` and ``answering``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from llm_router import assembly
from llm_router.answer import Answer, Attempt, EmbeddingAnswer, StreamEvent
from llm_router.answering import Answering, nothing_here
from llm_router.config import Settings
from llm_router.deciding import Deciding, as_request
from llm_router.decision import Classification, Decision
from llm_router.errors import InvalidRequest, ProviderError
from llm_router.fleet import Fleet
from llm_router.hosts.health import Health
from llm_router.hosts.load import HostLoad
from llm_router.hosts.residency import NO_SEAT, Residency
from llm_router.hosts.rests import HostRests
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.hosts.speeds import Measured, SpeedBook
from llm_router.hosts.watch import HostWatch
from llm_router.names import canonical, same_model
from llm_router.policy import World
from llm_router.policy.decide import model_facts
from llm_router.policy.settings import PolicySettings
from llm_router.policy.why_not import WhyNot, why_not
from llm_router.providers.base import Provider
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import ApiKind, Json, RouteRequest


class Router:
    """One door in front of all models. Async first; ``SyncRouter`` is the same without ``await``.

        async with Router() as router:
            answer = await router.run("What's 2+2?")
            print(answer.model, answer.text)

    Without arguments it reads the user's settings and fleet as the command line does. ``providers`` replaces
    the configured hosts (tests, embedding in a program). Nothing is opened before the first request.
    """

    def __init__(
        self,
        fleet: Fleet | None = None,
        *,
        settings: Settings | None = None,
        providers: Sequence[Provider] | None = None,
        clock_s: Callable[[], float] = time.perf_counter,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        settings = settings if settings is not None else assembly.settings_of_the_user()
        self.settings = settings
        self.fleet = fleet if fleet is not None else assembly.fleet_of(settings)
        self._clock_s = clock_s
        self._providers = (
            tuple(providers) if providers is not None else assembly.providers_of(settings, self.fleet)
        )
        self._health = Health(
            clock_s, threshold=settings.routing.failures_until_rest, rest_s=settings.routing.rest_s
        )
        self._speeds = SpeedBook()
        self._watch = HostWatch(
            self._providers,
            self._health,
            clock_s,
            speeds=self._speeds,
            max_age_s=settings.routing.snapshot_max_age_s,
        )
        self._residency = self._made_residency()
        self._deciding = Deciding(settings, self.fleet, self._watch, self._residency, clock_s)
        self._answering = Answering(
            self._deciding,
            self._watch,
            self._residency,
            self._health,
            learn=self.learn,
            clock_s=clock_s,
            pause=pause,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives back connections and memory. May be called twice."""
        await self._answering.close()
        await self._residency.close()
        await self._watch.close()
        for provider in self._providers:
            await provider.close()

    def _made_residency(self) -> Residency:
        managed = [p for p in self._providers if isinstance(p, OllamaProvider)]
        return Residency(
            managed if self.settings.residency.manage else (),
            self.settings.residency,
            machine=self.fleet.machine,
            kept_gb=assembly.kept_gb(self.settings, self.fleet),
            clock_s=self._clock_s,
            changed=self._watch.forget,
            measured=self._speeds.note,
        )

    def loads(self) -> Mapping[str, HostLoad]:
        """What goes on at each host whose memory the router manages: who is answered, waits, is loaded."""
        return self._residency.loads()

    def rests(self) -> Mapping[str, HostRests]:
        """What is left alone at each host after failures, and for how long."""
        return {provider.name: self._health.rests(provider.name) for provider in self._providers}

    @property
    def busy(self) -> bool:
        """Whether anything goes on at a host whose memory the router manages."""
        return any(not load.idle or load.leaving for load in self.loads().values())

    def learn(self, host: str, model: str, sample: Measured) -> None:
        """Takes in what was measured before, such as by the process before this one. ``model`` is the host's
        own name for it."""
        self._speeds.note(host, canonical(model), sample)

    def remember(self, samples: Iterable[tuple[str, str, Measured]]) -> None:
        """As ``learn``, for each host, model and sample in turn, the oldest first."""
        for host, model, sample in samples:
            self.learn(host, model, sample)

    def take_over(self, before: Router) -> None:
        """Goes on with the conversations of the router whose place it takes: they stay where they are.

        Both know from then on what either answers.
        """
        self._deciding.talks = before._deciding.talks

    def look_again(self, host: str) -> None:
        """What is known of a host is old: something was changed there."""
        self._watch.forget(host)

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The hosts as they are spoken to, in the order of the configuration."""
        return self._providers

    async def world(self) -> World:
        """Everything that a decision depends on beside the request."""
        return await self._deciding.world()

    async def hosts(self) -> tuple[HostSnapshot, ...]:
        """What is true of every host now."""
        return await self._watch.snapshots()

    async def classify(self, request: RouteRequest | str) -> Classification:
        """Which kind of task this is. No model but Mission Control is asked, and that only when unsure."""
        return await self._deciding.classify(as_request(request))

    async def decide(
        self,
        request: RouteRequest | str,
        *,
        category: str | None = None,
        policy: PolicySettings | None = None,
    ) -> Decision:
        """The decision without running it. An empty ``chain`` means that nothing here can answer.

        With ``category`` the kind of task is taken from the caller and not classified; with ``policy`` it is
        decided by these settings and not by ``settings.policy``. Raises UnknownModel or UnknownCategory for a
        name that nobody knows, NotInTime where all of its ``timeout_s`` went into looking for a host.
        """
        return (await self._deciding.decided(as_request(request), category, policy))[0]

    async def explain(self, request: RouteRequest | str, model: str) -> tuple[Decision, WhyNot]:
        """The decision, and why ``model`` is not the one that answers: what keeps it out, what flips it."""
        request = as_request(request)
        decision, world = await self._deciding.decided(request)
        moment = self._deciding.moment(request)  # that of the decision: nothing was waited for in between
        meant = self._deciding.meant(request, decision.category)
        return decision, why_not(model, meant, decision, world, moment)

    async def run(
        self,
        request: RouteRequest | str,
        *,
        decision: Decision | None = None,
        failed: list[Attempt] | None = None,
    ) -> Answer:
        """Decides and answers. Raises NoModelAvailable or AllAttemptsFailed, or a ProviderError that no other
        model would help with. An answer that breaks off is thrown away and the next model is asked.

        With ``decision`` (what ``decide`` gave for this request) it answers without deciding again. Every
        attempt after which another model was asked is added to ``failed``, whatever the end.
        """
        return await self._answering.run(request, decision=decision, failed=failed)

    def stream(
        self, request: RouteRequest | str, *, decision: Decision | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """The same piece by piece: Decided, any Switched, Delta after Delta, Finished.

        Models of the chain are tried in order until one gives its first piece. From then on there is no
        switch: a failure is raised as StreamBroken. Close the iterator early to cancel the generation. All
        of it together may take ``timeouts.total_s``, or the request's own ``timeout_s`` where that is less.
        """
        return self._answering.stream(request, decision=decision)

    async def embed(
        self, request: RouteRequest | str | Sequence[str], *, decision: Decision | None = None
    ) -> EmbeddingAnswer:
        """One vector per text. Raises NoModelAvailable where there is no embedder; asks no chat model but one
        that is named.

        With ``decision`` it answers without deciding again.
        """
        return await self._answering.embed(request, decision=decision)

    async def preload(self, model: str, *, keep_alive: Json = None, host: str | None = None) -> None:
        """Has the model's host load it, or unload it where ``keep_alive`` is 0, as Ollama understands that.
        With ``host`` it is done there and nowhere else.

        Where the router manages the memory of the host, both wait for their turn like any request, and what
        never leaves is not unloaded and keeps its own ``keep_alive``. Servers without such a request are left
        alone. Raises UnknownModel, NoModelAvailable, InvalidRequest for an unload of what never leaves, or a
        ProviderError.
        """
        self._deciding.refuse_cloud(model)
        world = await self._deciding.world()
        if "completion" in model_facts(model, world).capabilities:
            request = RouteRequest.from_text("a short task", model=model)
        else:
            request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a short text",), model=model)
        decision, world = await self._deciding.decided(request)
        candidate = next(
            (c for c in decision.chain if same_model(c.model, model) and host in (None, c.host)), None
        )
        if candidate is None:
            raise nothing_here(decision, world)
        provider = self._watch.provider(candidate.host)
        if not isinstance(provider, OllamaProvider):
            return
        kept = self._residency.keeps(candidate.host, candidate.served_as)
        if unloads(keep_alive):
            if kept:
                raise InvalidRequest(
                    f"{candidate.model} stays in memory",
                    why="Mission Control, embedders and residency.pins never leave it",
                    hint="take it from residency.pins, or set residency.manage: false",
                )
            if await self._residency.unload(candidate.host, candidate.served_as):
                return
        try:
            seat = await self._residency.seat(candidate)
            try:
                if seat is NO_SEAT or (keep_alive is not None and not kept):
                    await provider.preload(
                        candidate.served_as, num_ctx=candidate.num_ctx, keep_alive=keep_alive
                    )
            finally:
                seat.leave()
        except ProviderError as error:
            self._answering.learn_failure(candidate, error, world)
            raise
        if not candidate.resident and not unloads(keep_alive):
            self._health.loaded(candidate.host)
        self._watch.forget(candidate.host)

    def refuse_cloud(self, model: str | None) -> None:
        """Raises InvalidRequest for a name that means a model on the internet, unless that is allowed."""
        self._deciding.refuse_cloud(model)


def unloads(keep_alive: Json) -> bool:
    """Whether it means, to Ollama, that the model is to leave now."""
    return keep_alive == 0 or (isinstance(keep_alive, str) and keep_alive in _AT_ONCE)


_AT_ONCE = ("0", "0s", "0m", "0h")
