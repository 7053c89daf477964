"""The second half of the use case: who was chosen answers, and where it cannot the next of the chain does.

A request on its way is a ``_Run``, one model that is asked for it a ``_Running``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec

from llm_router import checks
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
from llm_router.classify.conversation import in_tool_loop
from llm_router.cold import ColdStarts
from llm_router.deadline import Deadline
from llm_router.deciding import Deciding, as_request
from llm_router.decision import Candidate, Decision
from llm_router.errors import (
    AllAttemptsFailed,
    BadReply,
    CutShort,
    HostBusy,
    HostTimeout,
    HostUnreachable,
    ModelNotInstalled,
    NoModelAvailable,
    NotInTime,
    ProviderError,
    StreamBroken,
    TimeSpent,
    UnknownModel,
)
from llm_router.hosts.crowd import Crowd, Visit
from llm_router.hosts.health import Health
from llm_router.hosts.residency import NO_SEAT, Residency, Seat
from llm_router.hosts.speeds import NOT_MEASURED, Measured, measured
from llm_router.hosts.watch import HostWatch
from llm_router.policy import World
from llm_router.policy.decide import model_facts
from llm_router.policy.needs import is_embedding_task
from llm_router.policy.waits import Place
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.providers.openai_compat import OpenAICompatProvider
from llm_router.request import ApiKind, Json, RouteRequest, ToolCall

RETRY_PAUSE_S = 0.5
"""Before the one retry of a failure that passes by itself, such as a full queue."""

TIMERS_EARLY_S = 0.005
"""What is left of a request's time below that counts as over: an event loop's timers may fire a moment before
their time (uvloop's count in whole milliseconds), and the router's clock is another one."""

WAITS_MORE_S = 60.0
WAITS_TIMES = 3.0
"""How much longer than was expected a request waits for its turn before the next model is asked instead; how
much longer an answer may well take."""


class Answering:
    """Lets models answer, for every front. ``learn`` is told what was measured: host, its name, sample."""

    def __init__(
        self,
        deciding: Deciding,
        watch: HostWatch,
        residency: Residency,
        health: Health,
        *,
        learn: Callable[[str, str, Measured], None],
        clock_s: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._deciding = deciding
        self._watch = watch
        self._residency = residency
        self._health = health
        self._learn = learn
        self._clock_s = clock_s
        self._pause = pause
        self._crowd = Crowd()
        self._cold = ColdStarts()

    async def close(self) -> None:
        """Ends the loads that nobody waits for any more."""
        await self._cold.close()

    async def run(
        self,
        request: RouteRequest | str,
        *,
        decision: Decision | None = None,
        failed: list[Attempt] | None = None,
    ) -> Answer:
        """As ``Router.run``."""
        request = as_request(request)
        run = await self._begun(request, decision, self._clock_s(), _spent_s(decision))
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
            self._succeeded(request, run, attempt)
            return self._answer(run, attempt)
        raise self._exhausted(run, "no model of the chain gave an answer")

    async def stream(
        self, request: RouteRequest | str, *, decision: Decision | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """As ``Router.stream``."""
        request, begun_s, spent_s = as_request(request), self._clock_s(), _spent_s(decision)
        if decision is None:
            decision = (await self._deciding.decided(request))[0]
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

    async def embed(
        self, request: RouteRequest | str | Sequence[str], *, decision: Decision | None = None
    ) -> EmbeddingAnswer:
        """As ``Router.embed``."""
        request = _as_embedding(request)
        begun_s = self._clock_s()
        run = await self._begun(request, decision, begun_s, _spent_s(decision))
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
                run.decision,
                candidate.model,
                candidate.host,
                attempts,
                prompt_tokens=vectors.prompt_tokens,
                load_s=vectors.load_s,
                elapsed_s=self._clock_s() - begun_s,
            )
        raise self._exhausted(run, "no embedder gave an answer")

    async def _begun(
        self, request: RouteRequest, decision: Decision | None, begun_s: float, spent_s: float
    ) -> _Run:
        """A request that is decided and may be answered. Raises NoModelAvailable."""
        if decision is None:
            decision, world = await self._deciding.decided(request)
        else:
            world = await self._deciding.world()
        if not decision.chain:
            raise nothing_here(decision, world)
        return _Run(self._deciding.meant(request, decision.category), decision, world, begun_s, spent_s)

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
        if not await self._at_once(run, attempt):
            async with aclosing(self._pieces(run, attempt, whole=True)) as coming:
                async for _ in coming:
                    pass

    async def _at_once(self, run: _Run, attempt: _Running) -> bool:
        """The whole answer in one reply, where the host gives it so; False where it must come in pieces."""
        candidate = attempt.candidate
        provider = self._watch.provider(candidate.host)
        if not isinstance(provider, OpenAICompatProvider) or self._wants_vectors(run):
            return False
        visit = self._crowd.enter(candidate.host, candidate.served_as, self._clock_s())
        try:
            limit_s, anew = self._one_reply_s(run, candidate)
            pieces = await provider.whole(self._call(run, candidate), limit_s, anew=anew)
            for piece in pieces or ():
                if isinstance(piece, Final):
                    attempt.final = piece
                    self._measured(attempt, piece.usage, visit)
                else:
                    attempt.take(piece, self._clock_s())
        except HostTimeout:
            if self._left_s(run) > 0:
                raise
            raise self._time_spent(run, attempt) from None
        finally:
            self._leave(candidate.host, visit)
        if pieces is not None:
            self._check_not_empty(run, attempt)
        return pieces is not None

    def _one_reply_s(self, run: _Run, candidate: Candidate) -> tuple[float, bool]:
        """How long an answer may take that comes as one reply, and whether one is to be asked for that might
        be a stream.

        Until its end nothing shows whether the server is still at work. So who is expected to take a good
        part of the time in which an answer has to begin is asked for a stream where that can be; and as long
        as another model is left to ask, all of the reply has that time, or some times what is expected.
        """
        left_s, begins_s = self._left_s(run), self._deciding.settings.timeouts.first_byte_s
        long_s = WAITS_TIMES * candidate.estimate.answering_s
        if not run.locked and run.waiting:
            left_s = min(left_s, max(begins_s, long_s))
        return left_s, long_s <= begins_s

    def _wants_vectors(self, run: _Run) -> bool:
        return is_embedding_task(run.request, self._deciding.fleet.category(run.decision.category))

    async def _pieces(
        self, run: _Run, attempt: _Running, *, whole: bool = False
    ) -> AsyncGenerator[Delta, None]:
        """Asks one candidate. Ends normally only after a whole, non-empty answer.

        With ``whole`` pieces that come together may be one.
        """
        candidate = attempt.candidate
        if self._wants_vectors(run):
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
        if usage.prefill_s is None and usage.decode_s is None:
            return
        candidate = attempt.candidate
        sample = measured(
            prompt_tokens=usage.prompt_tokens,
            prefill_s=usage.prefill_s,
            output_tokens=usage.output_tokens,
            decode_s=usage.decode_s,
            cached=candidate.stays,
        )
        if visit.alone:
            self._learn(candidate.host, candidate.served_as, sample)
            attempt.measured = msgspec.structs.replace(sample, load_s=attempt.measured.load_s)
            return
        work_s = None
        if usage.prefill_s is not None and usage.decode_s is not None:
            work_s = usage.prefill_s + usage.decode_s
        visit.worked(self._clock_s(), work_s, sample)

    def _leave(self, host: str, visit: Visit) -> None:
        for settled in visit.leave(self._clock_s()):
            self._learn(host, settled.model, settled.sample)

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
        """Waits for the model to be in memory, and for its turn. Raises a ProviderError."""
        seat = self._residency.enter(attempt.candidate)
        if seat.waits:
            await self._turn(run, attempt, seat)
        return seat

    async def _turn(self, run: _Run, attempt: _Running, seat: Seat) -> None:
        """What it waits for may take much longer than it seemed when the model was chosen: one that has to
        leave goes on writing, others load in between. As long as another model is left to ask, that has an
        end, except in a loop of tool calls, which no other model is to go on with.
        """
        candidate, left_s = attempt.candidate, self._left_s(run)
        expected_s = candidate.estimate.queue_s + candidate.estimate.load_s
        limit_s = WAITS_MORE_S + WAITS_TIMES * expected_s
        if run.locked or not run.waiting or limit_s >= left_s:
            async with self._limit(run, attempt):
                await seat.wait()
            return
        try:
            async with asyncio.timeout(limit_s) as limit:
                await seat.wait()
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

    def _left_s(self, run: _Run) -> float:
        left_s = self._deciding.time_s(run.request) - run.spent_s - (self._clock_s() - run.begun_s)
        return left_s if left_s > TIMERS_EARLY_S else 0.0

    def _time_spent(self, run: _Run, attempt: _Running) -> ProviderError:
        candidate = attempt.candidate
        whole, where, hint = self._deciding.limit_told(run.request)
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
        whole, where, hint = self._deciding.limit_told(run.request)
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
            timeouts=self._deciding.settings.timeouts,
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
        self.learn_failure(candidate, error, run.world)
        return failed

    def learn_failure(self, candidate: Candidate, error: ProviderError, world: World) -> None:
        version = next((h.version for h in world.hosts if h.name == candidate.host), "")
        self._health.failed(candidate.host, candidate.served_as, error, version=version)

    def _succeeded(self, request: RouteRequest, run: _Run, attempt: _Running) -> None:
        """``request`` is as it came, with all pictures: so the next turn brings it again."""
        candidate = attempt.candidate
        place = Place(candidate.model, candidate.host)
        self._deciding.talks.answered(request, place, "".join(attempt.text), attempt.tool_calls)
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
            checks.context(run.request, candidate.model, self._watch.provider(candidate.host)),
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
        if piece.text:
            self.text.append(piece.text)
        if piece.thinking:
            self.thinking.append(piece.thinking)
        if piece.tool_calls:
            self.tool_calls += piece.tool_calls
        if piece.logprobs:
            self.logprobs += piece.logprobs


def _with_load(told_s: float | None, seat: Seat) -> float | None:
    """What the server says of the request itself, and the load before it that it waited for."""
    return (told_s or 0.0) + seat.load_s if seat.load_s else told_s


def _tells_residency(host: str, world: World) -> bool:
    """Whether a host says what is in its memory. Of many servers only their models are known."""
    return any(h.name == host and (h.kind == "ollama" or h.resident) for h in world.hosts)


def _spent_s(decision: Decision | None) -> float:
    """Deciding is part of a request's time, also where it was done beforehand: Mission Control may take a
    while."""
    return decision.elapsed_ms / 1000 if decision is not None else 0.0


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


def nothing_here(decision: Decision, world: World) -> NoModelAvailable:
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
