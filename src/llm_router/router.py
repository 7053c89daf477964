"""The use case, and the page to read first: decide which model answers, let it answer, say what happened.

    request ──▶ cascade (classify/) ──▶ decide (policy/) ──▶ provider (providers/) ──▶ answer
                                          ▲
                              snapshots (hosts/) and the fleet

Every front (terminal, CrewAI Flow, Python) goes through ``Router``; it owns no logic that they repeat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import msgspec

from llm_router import assembly, checks
from llm_router.answer import (
    Answer,
    Attempt,
    Decided,
    Delta,
    EmbeddingAnswer,
    Embeddings,
    Final,
    Finished,
    StreamEvent,
    Switched,
    Usage,
)
from llm_router.classify.cascade import Cascade
from llm_router.classify.conversation import in_tool_loop, without_past_pictures
from llm_router.cold import ColdStarts
from llm_router.config import Settings
from llm_router.conversations import Conversations
from llm_router.deadline import Deadline
from llm_router.decision import Candidate, Classification, Decision
from llm_router.errors import (
    AllAttemptsFailed,
    BadReply,
    CutShort,
    HostBusy,
    HostTimeout,
    HostUnreachable,
    InvalidRequest,
    ModelNotInstalled,
    NoModelAvailable,
    NotInTime,
    ProviderError,
    StreamBroken,
    TimeSpent,
    UnknownModel,
)
from llm_router.fleet import Fleet
from llm_router.hosts.crowd import Crowd, Visit
from llm_router.hosts.health import Health
from llm_router.hosts.load import HostLoad
from llm_router.hosts.residency import NO_SEAT, Residency, Seat
from llm_router.hosts.rests import HostRests
from llm_router.hosts.snapshot import HostKind, HostSnapshot
from llm_router.hosts.speeds import NOT_MEASURED, Measured, SpeedBook, measured
from llm_router.hosts.watch import HostWatch
from llm_router.ids import fresh_id
from llm_router.names import canonical, is_cloud, same_model
from llm_router.policy import World, decide
from llm_router.policy.decide import model_facts
from llm_router.policy.needs import is_embedding_task
from llm_router.policy.settings import PolicySettings, preferring
from llm_router.policy.waits import Moment, Place
from llm_router.policy.why_not import WhyNot, why_not
from llm_router.providers.base import ChatCall, EmbedCall, Provider
from llm_router.providers.ollama import OllamaProvider
from llm_router.providers.openai_compat import OpenAICompatProvider
from llm_router.request import ApiKind, Json, RouteRequest, ToolCall

_MORE_TIME = "look at the hosts with: llm-router doctor; or raise timeouts.total_s"
_MORE_TIME_OF_ITS_OWN = "give it more time: timeout_s, --timeout-s, or the header x-router-timeout-s"

RETRY_PAUSE_S = 0.5
"""Before the one retry of a failure that passes by itself, such as a full queue."""

TIMERS_EARLY_S = 0.005
"""What is left of a request's time below that counts as over: an event loop's timers may fire a moment before
their time (uvloop's count in whole milliseconds), and the router's clock is another one."""

LEAST_LOOK_S = 2.0
"""So long is always waited for the hosts, which is more than for one of which something is known: with the
shortest limit it is still decided, and told who would be late."""

WAITS_MORE_S = 60.0
WAITS_TIMES = 3.0
"""How much longer than was expected a request waits for its turn before the next model is asked instead."""


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
        self._pause = pause
        self._providers = (
            tuple(providers) if providers is not None else assembly.providers_of(settings, self.fleet)
        )
        self._health = Health(
            clock_s, threshold=settings.routing.failures_until_rest, rest_s=settings.routing.rest_s
        )
        self._speeds = SpeedBook()
        self._crowd = Crowd()
        self._watch = HostWatch(
            self._providers,
            self._health,
            clock_s,
            speeds=self._speeds,
            max_age_s=settings.routing.snapshot_max_age_s,
        )
        self._worlds: dict[PolicySettings, World] = {}
        self._worlds_of: tuple[HostSnapshot, ...] | None = None
        self._cold = ColdStarts()
        self._residency = self._made_residency()
        self._talks = Conversations()
        self._cascade: Cascade = assembly.cascade_of(
            settings, self.fleet, self._watch, clock_s, seat=self._seat_of_mission_control
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives back connections and memory. May be called twice."""
        await self._cold.close()
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
        self._talks = before._talks

    def look_again(self, host: str) -> None:
        """What is known of a host is old: something was changed there."""
        self._watch.forget(host)

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The hosts as they are spoken to, in the order of the configuration."""
        return self._providers

    async def world(self) -> World:
        """Everything that a decision depends on beside the request."""
        return await self._world()

    async def hosts(self) -> tuple[HostSnapshot, ...]:
        """What is true of every host now."""
        return await self._watch.snapshots()

    async def classify(self, request: RouteRequest | str) -> Classification:
        """Which kind of task this is. No model but Mission Control is asked, and that only when unsure."""
        return await self._cascade.classify(_as_request(request))

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
        return (await self._decided(_as_request(request), category, policy))[0]

    async def explain(self, request: RouteRequest | str, model: str) -> tuple[Decision, WhyNot]:
        """The decision, and why ``model`` is not the one that answers: what keeps it out, what flips it."""
        request = _as_request(request)
        decision, world = await self._decided(request)
        moment = self._moment(request)  # that of the decision: nothing was waited for in between
        meant = self._meant(request, decision.category)
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
        run = await self._begun(_as_request(request), decision, self._clock_s(), _spent_s(decision))
        failed = failed if failed is not None else []
        while run.waiting and self._left_s(run) > 0:
            attempt = _Running(run.waiting.pop(0), self._clock_s())
            try:
                await self._whole(run, attempt)
            except ProviderError as error:
                switched = await self._after_failure(run, attempt, error, shown=False)
                if switched is not None:
                    failed.append(switched.failed)
                continue
            self._succeeded(_as_request(request), run, attempt)
            return self._answer(run, attempt)
        raise self._exhausted(run, "no model of the chain gave an answer")

    async def stream(
        self, request: RouteRequest | str, *, decision: Decision | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """The same piece by piece: Decided, any Switched, Delta after Delta, Finished.

        Models of the chain are tried in order until one gives its first piece. From then on there is no
        switch: a failure is raised as StreamBroken. Close the iterator early to cancel the generation. All
        of it together may take ``timeouts.total_s``, or the request's own ``timeout_s`` where that is less.
        """
        request, begun_s, spent_s = _as_request(request), self._clock_s(), _spent_s(decision)
        if decision is None:
            decision = (await self._decided(request))[0]
        yield Decided(decision)
        run = await self._begun(request, decision, begun_s, spent_s)
        while run.waiting and self._left_s(run) > 0:
            attempt = _Running(run.waiting.pop(0), self._clock_s())
            try:
                async with aclosing(self._pieces(run, attempt)) as pieces:
                    async for piece in pieces:
                        yield piece
            except ProviderError as error:
                switched = await self._after_failure(run, attempt, error, shown=attempt.begun)
                if switched is not None:
                    yield switched
                continue
            self._succeeded(request, run, attempt)
            yield Finished(self._answer(run, attempt))
            return
        raise self._exhausted(run, "no model of the chain gave an answer")

    async def _begun(
        self, request: RouteRequest, decision: Decision | None, begun_s: float, spent_s: float
    ) -> _Run:
        """A request that is decided and may be answered. Raises NoModelAvailable."""
        if decision is None:
            decision, world = await self._decided(request)
        else:
            world = await self._world()
        if not decision.chain:
            raise _nothing(decision, world)
        return _Run(self._meant(request, decision.category), decision, world, begun_s, spent_s)

    async def _after_failure(
        self, run: _Run, attempt: _Running, error: ProviderError, *, shown: bool
    ) -> Switched | None:
        """Who is asked next, None where nobody is left. Raises the error where another model is no help, and
        where the caller has already been shown the beginning of an answer."""
        failed = self._failed(run, attempt, error)
        if shown:
            raise error
        if isinstance(error, TimeSpent):
            run.waiting.clear()
            return None
        reason = _what_broke(error)
        if not reason.next_may_help:
            raise error
        if not await self._go_on(run, attempt.candidate, reason):
            return None
        following = run.waiting[0]
        return Switched(failed, following.model, following.host)

    async def _whole(self, run: _Run, attempt: _Running) -> None:
        """Asks one candidate for its whole answer."""
        provider = self._watch.provider(attempt.candidate.host)
        pieces = None
        if isinstance(provider, OpenAICompatProvider) and run.request.body is not None:
            try:
                pieces = await provider.whole(self._call(run, attempt.candidate), self._left_s(run))
            except HostTimeout:
                if self._left_s(run) > 0:
                    raise
                raise self._time_spent(run, attempt) from None
        if pieces is None:
            async with aclosing(self._pieces(run, attempt, whole=True)) as coming:
                async for _ in coming:
                    pass
            return
        for piece in pieces:
            if isinstance(piece, Final):
                attempt.final = piece
            else:
                attempt.take(piece, self._clock_s())
        self._check_not_empty(run, attempt)

    async def embed(
        self, request: RouteRequest | str | Sequence[str], *, decision: Decision | None = None
    ) -> EmbeddingAnswer:
        """One vector per text. Raises NoModelAvailable where there is no embedder; asks no chat model.

        With ``decision`` it answers without deciding again.
        """
        request = _as_embedding(request)
        begun_s, spent_s = self._clock_s(), _spent_s(decision)
        if decision is None:
            decision, world = await self._decided(request)
        else:
            world = await self._world()
        if not decision.chain:
            raise _nothing(decision, world)
        run = _Run(request, decision, world, begun_s, spent_s)
        while run.waiting and self._left_s(run) > 0:
            candidate = run.waiting.pop(0)
            attempt = _Running(candidate, self._clock_s())
            try:
                vectors = await self._vectors(run, attempt)
            except ProviderError as error:
                self._failed(run, attempt, error)
                if isinstance(error, TimeSpent):
                    break
                if not error.next_may_help:
                    raise
                await self._go_on(run, candidate, error)
                continue
            self._succeeded(run.request, run, attempt)
            attempts = (*run.attempts, self._done(attempt))
            return EmbeddingAnswer(
                vectors.vectors,
                decision,
                candidate.model,
                candidate.host,
                attempts,
                prompt_tokens=vectors.prompt_tokens,
                load_s=vectors.load_s,
                elapsed_s=self._clock_s() - begun_s,
            )
        raise self._exhausted(run, "no embedder gave an answer")

    async def preload(self, model: str, *, keep_alive: Json = None, host: str | None = None) -> None:
        """Has the model's host load it, or unload it where ``keep_alive`` is 0, as Ollama understands that.
        With ``host`` it is done there and nowhere else.

        Where the router manages the memory of the host, both wait for their turn like any request, and what
        never leaves is not unloaded and keeps its own ``keep_alive``. Servers without such a request are left
        alone. Raises UnknownModel, NoModelAvailable, InvalidRequest for an unload of what never leaves, or a
        ProviderError.
        """
        self.refuse_cloud(model)
        world = await self._world()
        if "completion" in model_facts(model, world).capabilities:
            request = RouteRequest.from_text("a short task", model=model)
        else:
            request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a short text",), model=model)
        decision, world = await self._decided(request)
        candidate = next(
            (c for c in decision.chain if same_model(c.model, model) and host in (None, c.host)), None
        )
        if candidate is None:
            raise _nothing(decision, world)
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
            self._learn_failure(candidate, error, world)
            raise
        if not candidate.resident and not unloads(keep_alive):
            self._health.loaded(candidate.host)
        self._watch.forget(candidate.host)

    async def _decided(
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
            world = await self._world(policy)
        else:
            world = await self._world_in_time(request, begun_s, policy)
        meant = self._meant(request, classification.category)
        decision = decide(meant, classification, world, self._moment(request))
        elapsed_ms = (self._clock_s() - begun_s) * 1000
        return decision.stamped(fresh_id(), elapsed_ms), world

    def _meant(self, request: RouteRequest, category: str) -> RouteRequest:
        """The request without pictures of earlier turns, where a task in words has followed them.

        What a model that was asked for by name gets is never changed.
        """
        if not request.images or request.model is not None:
            return request
        sees = self.fleet.category(category).requires.capability == "vision"
        return request if sees else without_past_pictures(request)

    async def _world(self, policy: PolicySettings | None = None) -> World:
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
        left_s = self._time_s(request) - (self._clock_s() - begun_s)
        try:
            async with asyncio.timeout(max(left_s, LEAST_LOOK_S)) as limit:
                return await self._world(policy)
        except TimeoutError:
            if not limit.expired():
                raise
            whole, where, _ = self._limit_told(request)
            raise NotInTime(
                f"the hosts did not tell what they have within {whole} ({where})",
                attempts=(),
                hint="look at the hosts with: llm-router doctor",
            ) from None

    def _moment(self, request: RouteRequest) -> Moment:
        before = self._talks.before(request)
        place, sure = (before.place, before.sure) if before is not None else (None, False)
        locked = sure and in_tool_loop(request)
        return Moment(
            self._residency.loads(), place, locked, self._time_s(request), overdue=self._watch.overdue
        )

    def refuse_cloud(self, model: str | None) -> None:
        """Raises InvalidRequest for a name that means a model on the internet, unless that is allowed."""
        if model and is_cloud(model) and not self.settings.policy.allow_cloud:
            raise InvalidRequest(
                f"{model[:80]} would be answered on the internet",
                why="names ending in :cloud leave this machine",
                hint="choose a local model, or set policy.allow_cloud",
            )

    async def _pieces(
        self, run: _Run, attempt: _Running, *, whole: bool = False
    ) -> AsyncGenerator[Delta, None]:
        """Asks one candidate. Ends normally only after a whole, non-empty answer.

        With ``whole`` pieces that come together may be one.
        """
        candidate = attempt.candidate
        if is_embedding_task(run.request, self.fleet.category(run.decision.category)):
            vectors = await self._vectors(run, attempt)
            text = msgspec.json.encode(vectors.vectors[0]).decode()
            attempt.take(Delta(text=text), self._clock_s())
            attempt.final = Final(candidate.served_as, "stop")
            yield Delta(text=text)
            return
        provider = self._watch.provider(candidate.host)
        call = self._call(run, candidate, whole=whole)  # before a seat is taken: it may raise
        seat = await self._seat(run, attempt)
        attempt.measured = seat.measured
        visit = self._crowd.enter(candidate.host, candidate.served_as, self._clock_s())
        chunks = provider.chat(call)
        if seat is NO_SEAT and not candidate.resident and provider.kind == "ollama":
            chunks = self._cold.chunks((candidate.host, candidate.served_as), chunks)
        try:
            with Deadline(self._left_s(run)) as deadline:
                while (chunk := await deadline.next(chunks)) is not None:
                    if isinstance(chunk, Final):
                        usage = chunk.usage
                        if seat.load_s:
                            usage = msgspec.structs.replace(usage, load_s=_with_load(usage.load_s, seat))
                            chunk = msgspec.structs.replace(chunk, usage=usage)
                        attempt.final = chunk
                        self._measured(attempt, usage, visit)
                        continue
                    attempt.take(chunk, self._clock_s())
                    yield chunk
        except TimeoutError:
            raise self._time_spent(run, attempt) from None
        finally:
            self._leave(candidate.host, visit)
            seat.leave()
            await chunks.aclose()
        self._check_not_empty(run, attempt)

    def _measured(self, attempt: _Running, usage: Usage, visit: Visit) -> None:
        """Learns from the timings of an answer that had its host to itself; where others were there, as soon
        as that is known."""
        candidate = attempt.candidate
        sample = measured(
            prompt_tokens=usage.prompt_tokens,
            prefill_s=usage.prefill_s,
            output_tokens=usage.output_tokens,
            decode_s=usage.decode_s,
            cached=candidate.stays,
        )
        if visit.alone:
            self.learn(candidate.host, candidate.served_as, sample)
            attempt.measured = msgspec.structs.replace(sample, load_s=attempt.measured.load_s)
            return
        work_s = None
        if usage.prefill_s is not None and usage.decode_s is not None:
            work_s = usage.prefill_s + usage.decode_s
        visit.worked(self._clock_s(), work_s, sample)

    def _leave(self, host: str, visit: Visit) -> None:
        for settled in visit.leave(self._clock_s()):
            self.learn(host, settled.model, settled.sample)

    def _check_not_empty(self, run: _Run, attempt: _Running) -> None:
        if not attempt.begun and not _may_be_empty(run.request, attempt.final):
            candidate = attempt.candidate
            raise BadReply(
                f"{candidate.model}: the answer is empty",
                why="the stream ended without a word",
                host=candidate.host,
                model=candidate.model,
            )

    async def _seat(self, run: _Run, attempt: _Running) -> Seat:
        """Waits for the model to be in memory, and for its turn. Raises a ProviderError.

        What it waits for may take much longer than it seemed when the model was chosen: one that has to leave
        goes on writing, others load in between. As long as another model is left to ask, that has an end,
        except in a loop of tool calls, which no other model is to go on with.
        """
        candidate, left_s = attempt.candidate, self._left_s(run)
        expected_s = candidate.estimate.queue_s + candidate.estimate.load_s
        limit_s = WAITS_MORE_S + WAITS_TIMES * expected_s
        if run.locked or not run.waiting or limit_s >= left_s:
            async with self._limit(run, attempt):
                return await self._residency.seat(candidate)
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await self._residency.seat(candidate)
        except TimeoutError:
            if not limit.expired():
                raise
            raise HostBusy(
                f"{candidate.model}: its turn did not come within {limit_s:.0f} s",
                why=f"about {expected_s:.0f} s were expected when it was chosen",
                hint=f"see what goes on at {candidate.host} with: llm-router ps",
                host=candidate.host,
                model=candidate.model,
            ) from None

    async def _seat_of_mission_control(self, candidate: Candidate) -> Seat:
        """It is asked before the hosts are looked at for the task itself: the desk is told first what is in
        memory there, or it would make no room."""
        await self._world()
        return await self._residency.seat(candidate)

    @asynccontextmanager
    async def _limit(self, run: _Run, attempt: _Running) -> AsyncIterator[None]:
        """Ends what is inside when the time of the request is over."""
        try:
            async with asyncio.timeout(max(0.0, self._left_s(run))) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._time_spent(run, attempt) from None

    def _time_s(self, request: RouteRequest) -> float:
        """How long all of a request may take."""
        total_s, own_s = self.settings.timeouts.total_s, request.timeout_s
        return total_s if own_s is None else min(own_s, total_s)

    def _left_s(self, run: _Run) -> float:
        left_s = self._time_s(run.request) - run.spent_s - (self._clock_s() - run.begun_s)
        return left_s if left_s > TIMERS_EARLY_S else 0.0

    def _limit_told(self, request: RouteRequest) -> tuple[str, str, str]:
        """How long a request may take, what says so, and what to do where that is not enough."""
        limit_s = self._time_s(request)
        if limit_s == self.settings.timeouts.total_s:
            return f"{limit_s:g} s", "timeouts.total_s", _MORE_TIME
        return f"{limit_s:g} s", "its own timeout_s", _MORE_TIME_OF_ITS_OWN

    def _time_spent(self, run: _Run, attempt: _Running) -> ProviderError:
        candidate = attempt.candidate
        whole, where, hint = self._limit_told(run.request)
        if attempt.begun:
            return CutShort(
                f"{candidate.model}: the answer broke off",
                why=f"the request may take {whole} ({where})",
                hint=hint,
                host=candidate.host,
                model=candidate.model,
            )
        return TimeSpent(
            f"{candidate.model} had not begun to answer",
            why=f"the {whole} that the request may take are over ({where})",
            hint=hint,
            host=candidate.host,
            model=candidate.model,
        )

    def _exhausted(self, run: _Run, what: str) -> AllAttemptsFailed:
        if self._left_s(run) > 0:
            return AllAttemptsFailed(what, attempts=run.attempts, hint=_what_to_do(run.attempts))
        whole, where, hint = self._limit_told(run.request)
        return NotInTime(f"{what} within {whole} ({where})", attempts=run.attempts, hint=hint)

    def _call(self, run: _Run, candidate: Candidate, *, whole: bool = False) -> ChatCall:
        try:
            facts = model_facts(candidate.model, run.world)
        except UnknownModel as error:  # its host went away between the decision and now
            raise ModelNotInstalled(
                f"{candidate.model} is gone from {candidate.host}", host=candidate.host, model=candidate.model
            ) from error
        think = run.request.think if candidate.can_think else None
        return ChatCall(
            model=candidate.served_as,
            request=run.request,
            num_ctx=candidate.num_ctx,
            think=think,
            quirks=facts.quirks,
            timeouts=self.settings.timeouts,
            whole=whole,
        )

    async def _vectors(self, run: _Run, attempt: _Running) -> Embeddings:
        candidate, request = attempt.candidate, run.request
        call = EmbedCall(
            candidate.served_as,
            request.inputs or (request.prompt,),
            candidate.num_ctx,
            request.dimensions,
            request if request.inputs else None,
        )
        async with self._limit(run, attempt):
            seat = await self._residency.seat(candidate)
            visit = self._crowd.enter(candidate.host, candidate.served_as, self._clock_s())
            try:
                found = await self._watch.provider(candidate.host).embed(call)
                return replace(found, load_s=_with_load(found.load_s, seat))
            finally:
                self._leave(candidate.host, visit)
                seat.leave()

    def _failed(self, run: _Run, attempt: _Running, error: ProviderError) -> Attempt:
        candidate = attempt.candidate
        failed = self._done(attempt, error)
        run.attempts.append(failed)
        embedded = self._watch.provider(candidate.host).kind == "embedded"
        if isinstance(error, HostUnreachable | ModelNotInstalled) or embedded:
            self._watch.forget(candidate.host)
        if self._left_s(run) <= 0:
            return failed  # how much time was left for it says nothing about the model
        self._learn_failure(candidate, error, run.world)
        return failed

    def _learn_failure(self, candidate: Candidate, error: ProviderError, world: World) -> None:
        version = next((h.version for h in world.hosts if h.name == candidate.host), "")
        self._health.failed(candidate.host, candidate.served_as, error, version=version)

    def _succeeded(self, request: RouteRequest, run: _Run, attempt: _Running) -> None:
        """``request`` is as it came, with all pictures: so the next turn brings it again."""
        candidate = attempt.candidate
        place = Place(candidate.model, candidate.host)
        self._talks.answered(request, place, "".join(attempt.text), attempt.tool_calls)
        self._health.succeeded(candidate.host, candidate.served_as, loaded=not candidate.resident)
        if not candidate.resident and _tells_residency(candidate.host, run.world):
            self._watch.forget(candidate.host)  # it is resident now, and something else may not be

    async def _go_on(self, run: _Run, failed: Candidate, error: ProviderError) -> bool:
        """Whether another try is worth it; leaves in ``run.waiting`` what is.

        Who is expected to take longer than what is left of the time comes last, the quickest first. After a
        failure of the host itself other hosts go first. A host whose answer did not begin in time is not
        asked to load anything more, and one that is busy only after all that need no load there. Where
        nothing is left, a passing failure is retried once; in a loop of tool calls before any other is asked.
        """
        if run.locked and error.retryable and not run.retried:
            run.retried = True
            await self._pause(min(RETRY_PAUSE_S, self._left_s(run)))
            run.waiting.insert(0, failed)
            return True
        run.locked = False
        left_s = self._left_s(run)
        run.waiting.sort(key=lambda candidate: candidate.late_s(left_s))
        if isinstance(error, HostTimeout):
            run.waiting = [c for c in run.waiting if c.host != failed.host or c.resident]
        if isinstance(error, HostBusy):  # what would wait there too comes after what need not
            run.waiting.sort(key=lambda candidate: candidate.host == failed.host and not candidate.resident)
        if error.blames_host:
            run.waiting.sort(key=lambda candidate: candidate.host == failed.host)
        if not run.waiting and error.retryable and not run.retried:
            run.retried = True
            await self._pause(min(RETRY_PAUSE_S, self._left_s(run)))
            run.waiting = [failed]
        return bool(run.waiting)

    def _done(self, attempt: _Running, error: ProviderError | None = None) -> Attempt:
        candidate = attempt.candidate
        return Attempt(candidate.model, candidate.host, self._clock_s() - attempt.begun_s, error)

    def _answer(self, run: _Run, attempt: _Running) -> Answer:
        candidate, now_s = attempt.candidate, self._clock_s()
        final = attempt.final or Final(candidate.served_as, "stop")
        family = model_facts(candidate.model, run.world).tokenizer
        told = (
            checks.other_model(candidate.served_as, final),
            checks.truncation(run.request.estimate(family), final, candidate.num_ctx),
            checks.no_call(run.request.must_call, attempt.tool_calls),
            checks.context(run.request, candidate.model, candidate.host, _kind_of(candidate.host, run.world)),
        )
        return Answer(
            text="".join(attempt.text),
            thinking="".join(attempt.thinking),
            tool_calls=tuple(attempt.tool_calls),
            logprobs=tuple(attempt.logprobs),
            decision=run.decision,
            model=candidate.model,
            host=candidate.host,
            attempts=(*run.attempts, self._done(attempt)),
            done_reason=final.done_reason,
            usage=final.usage,
            warnings=tuple(sentence for sentence in told if sentence),
            first_token_s=None if attempt.first_s is None else attempt.first_s - run.begun_s,
            elapsed_s=now_s - run.begun_s,
            served_as=candidate.served_as,
            raw_end=final.raw_end,
            context=final.context,
            measured=attempt.measured,
        )


@dataclass(slots=True)
class _Run:
    """One request on its way through the chain. ``spent_s`` of its time had gone when it was begun."""

    request: RouteRequest
    decision: Decision
    world: World
    begun_s: float
    spent_s: float
    attempts: list[Attempt] = field(default_factory=list)
    waiting: list[Candidate] = field(init=False)
    retried: bool = False
    locked: bool = field(init=False)
    """As long as the model is asked that has called the tools whose results are to be read."""

    def __post_init__(self) -> None:
        self.waiting = list(self.decision.chain)
        self.locked = self.waiting[0].stays and in_tool_loop(self.request)


@dataclass(slots=True)
class _Running:
    """One candidate being asked, and what it has said so far."""

    candidate: Candidate
    begun_s: float
    first_s: float | None = None
    final: Final | None = None
    measured: Measured = NOT_MEASURED
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)

    @property
    def begun(self) -> bool:
        return self.first_s is not None

    def take(self, piece: Delta, now_s: float) -> None:
        if self.first_s is None and not piece.empty:
            self.first_s = now_s
        self.text.append(piece.text)
        self.thinking.append(piece.thinking)
        self.tool_calls += piece.tool_calls
        self.logprobs += piece.logprobs


def unloads(keep_alive: Json) -> bool:
    """Whether it means, to Ollama, that the model is to leave now."""
    return keep_alive == 0 or (isinstance(keep_alive, str) and keep_alive in _AT_ONCE)


_AT_ONCE = ("0", "0s", "0m", "0h")


def _with_load(told_s: float | None, seat: Seat) -> float | None:
    """What the server says of the request itself, and the load before it that it waited for."""
    return (told_s or 0.0) + seat.load_s if seat.load_s else told_s


def _alike(hosts: Sequence[HostSnapshot], before: Sequence[HostSnapshot] | None) -> bool:
    if before is None or len(hosts) != len(before):
        return False
    return all(now is was or now.alike(was) for now, was in zip(hosts, before, strict=True))


def _kind_of(host: str, world: World) -> HostKind | None:
    return next((h.kind for h in world.hosts if h.name == host), None)


def _tells_residency(host: str, world: World) -> bool:
    """Whether a host says what is in its memory. Of many servers only their models are known."""
    return any(h.name == host and (h.kind == "ollama" or h.resident) for h in world.hosts)


def _as_request(request: RouteRequest | str) -> RouteRequest:
    return RouteRequest.from_text(request) if isinstance(request, str) else request


def _spent_s(decision: Decision | None) -> float:
    """Deciding is part of a request's time, also where it was done beforehand: Mission Control may take a
    while."""
    return decision.elapsed_ms / 1000 if decision is not None else 0.0


def _asked_for(category: str) -> Classification:
    return Classification(category, confidence=1.0, stage="explicit", probabilities={category: 1.0})


def _as_embedding(request: RouteRequest | str | Sequence[str]) -> RouteRequest:
    if isinstance(request, RouteRequest):
        if request.inputs:
            return request
        return RouteRequest(
            kind=ApiKind.EMBEDDING,
            inputs=(request.prompt,),
            model=request.model,
            timeout_s=request.timeout_s,
        )
    return RouteRequest(
        kind=ApiKind.EMBEDDING, inputs=(request,) if isinstance(request, str) else tuple(request)
    )


def _may_be_empty(request: RouteRequest, final: Final | None) -> bool:
    """Whether an answer without a word can be right: a stop sequence at once, or the limit came before one.

    A few tokens may all be such that nothing is shown for them.
    """
    if final is not None and final.done_reason == "length":
        return True
    return bool(request.options.get("stop")) or request.options.get("num_predict") in (0, 1)


def _what_broke(error: ProviderError) -> ProviderError:
    """Of an answer that broke off, the failure itself: what can be done is as if it had come before."""
    cause = error.__cause__
    return cause if isinstance(error, StreamBroken) and isinstance(cause, ProviderError) else error


def _what_to_do(attempts: Sequence[Attempt]) -> str:
    """The hints of the failures, each once; where there is none, where to look."""
    hints = dict.fromkeys(a.error.hint for a in attempts if a.error is not None and a.error.hint)
    return "; or ".join(hints) if hints else "look at the hosts with: llm-router doctor"


def _nothing(decision: Decision, world: World) -> NoModelAvailable:
    return NoModelAvailable(
        f"no model here can answer this {decision.category} task",
        why="; ".join(f"{r.model}: {r.why}" for r in decision.rejected) or "the category has no models",
        hint=_way_out(decision, world),
        rejected=decision.rejected,
    )


def _way_out(decision: Decision, world: World) -> str:
    stand_in = world.fleet.stand_in
    refused = stand_in is not None and any(
        r.model == stand_in.name and r.code in ("host_unreachable", "unhealthy") for r in decision.rejected
    )
    hints = [host.hint for host in world.embedded_hosts if refused and host.hint]
    return "; or let the embedded engine answer: ".join([_way_out_for_hosts(decision, world), *hints])


def _way_out_for_hosts(decision: Decision, world: World) -> str:
    codes = {rejection.code for rejection in decision.rejected}
    if "not_installed" in codes:
        missing = next(r.model for r in decision.rejected if r.code == "not_installed")
        return f"ollama pull {missing}; or see what is missing with: llm-router doctor"
    if "host_unreachable" in codes:
        ways = dict.fromkeys(host.way_out for host in world.fleet_hosts if not host.reachable)
        return "; or ".join(ways) or "see each host with: llm-router doctor"
    return "see each model's reason with: llm-router explain"
