"""Stage 3, Mission Control: a small language model is asked, where the encoder is not sure.

Its answer is bound to the category names by a JSON schema and read together with its logprobs, so that a
word said in doubt weighs less than a certain one. It chooses among the encoder's likeliest categories, has a
hard limit of time, is left alone after repeated failures, and is asked the same question once. What it says
about its reasons would not be believed (models of this size give reasons that do not match what they
decided), so it is not asked for any.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from llm_router.answer import Delta
from llm_router.classify import odds
from llm_router.classify.base import Verdict
from llm_router.classify.breaker import Breaker
from llm_router.classify.mission_prompt import TOP_LOGPROBS, Prompt, load_prompt, question
from llm_router.classify.recent import Flights, Recent
from llm_router.classify.settings import MissionControlSettings
from llm_router.decision import Evidence, StageName
from llm_router.errors import BadReply, ContextExceeded, ProviderError
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Quirks
from llm_router.providers.base import ChatCall, Provider, Timeouts
from llm_router.request import Json, RouteRequest
from llm_router.tokens import TokenizerFamily

_MOST_CHARACTERS = 4096
"""A server that passes over both limit and schema is not listened to for longer than this."""

_THINKING_TOKENS = 512
"""For a model that cannot be told not to think."""

HURRIED_SHARE = 0.25
"""Of the time that a request gives itself, what asking may take: the rest is for the answer. A judgement."""

_REFUSALS_OF_A_FIELD = (400, 422, 501)

Turn = Callable[[], AbstractAsyncContextManager[None]]

_Key = tuple[str, str]
"""(host, the model's name there)"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where Mission Control lives right now, and how to speak to it.

    ``num_ctx`` is what to send, in tokens: the model's one context size, or None where the server fixed it.
    ``context_tokens`` is how much it reads. ``think`` is None where the model cannot think anyway. It
    is asked within its ``turn`` at the host, which may have to load it first.
    """

    provider: Provider
    model: str
    num_ctx: int | None
    resident: bool
    context_tokens: int = 4096
    tokenizer: TokenizerFamily = "large"
    think: bool | str | None = None
    quirks: Quirks = field(default_factory=Quirks)
    turn: Turn = nullcontext

    @property
    def key(self) -> _Key:
        return self.provider.name, self.model


Locate = Callable[[], Awaitable[Sequence[Target]]]


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    category: str


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What the model said; ``shares`` is None where the server told no logprobs that can be used."""

    said: str
    shares: tuple[odds.Share, ...] | None


@dataclass(frozen=True, slots=True)
class _Silence:
    why: str


class MissionControl:
    """``locate`` tells which hosts have the model, best first. ``clock_s`` is handed in.

    ``prompt`` is the template to use; None means the packaged one.
    """

    name: StageName = "mission_control"

    def __init__(
        self,
        fleet: Fleet,
        locate: Locate,
        settings: MissionControlSettings,
        clock_s: Callable[[], float],
        *,
        prompt: Prompt | None = None,
    ) -> None:
        self._fleet = fleet
        self._locate = locate
        self._settings = settings
        self._prompt = prompt
        self._breaker: Breaker[_Key] = Breaker(settings.failures_until_rest, settings.rest_s, clock_s)
        self._recent: Recent[_Opinion] = Recent(settings.cache_entries, settings.cache_ttl_s, clock_s)
        self._flights: Flights[_Opinion | _Silence] = Flights()
        self._tell_no_logprobs: set[_Key] = set()

    def prepare(self) -> None:
        """Nothing to load: the model lives on a host, and is asked only when it is needed."""

    async def classify(
        self, request: RouteRequest, allowed: frozenset[str], before: Mapping[str, float]
    ) -> Verdict:
        if request.model is not None:
            return Verdict(note="not asked: the model is already chosen by name")
        candidates = self._candidates(allowed, before)
        if len(candidates) < 2:
            return Verdict(note="not asked: only one category is possible")
        begun_s = asyncio.get_running_loop().time()
        own_s = math.inf if request.timeout_s is None else HURRIED_SHARE * request.timeout_s
        try:
            async with asyncio.timeout(min(self._settings.timeout_s, own_s)):
                targets = await self._locate()
        except TimeoutError:
            return Verdict(note="not asked: the hosts did not tell in time what they have")
        target, why_not = self._admitted(targets)
        if target is None:
            return Verdict(note=why_not)
        loads = not target.resident and target.num_ctx is not None  # else what it has in memory is not told
        if loads and own_s < self._settings.load_timeout_s:
            # Who gives a load up has it done again by the next one.
            return Verdict(note=f"not asked: it must be loaded first, and the request {_may_take(request)}")
        asked = self._question(target, request, candidates)
        key = _digest(target, asked)
        known = self._recent.get(key)
        if known is not None:
            return self._verdict(known, candidates, allowed, before, f"{target.model} said before")
        try:
            async with asyncio.timeout_at(begun_s + own_s if own_s < math.inf else None) as limit:
                told = await self._flights.share(
                    key, lambda: self._asked(target, asked, candidates, key, begun_s)
                )
        except TimeoutError:
            if not limit.expired():
                raise
            return Verdict(note=f"not waited for any longer: the request {_may_take(request)}")
        if isinstance(told, _Silence):
            return Verdict(note=told.why)
        return self._verdict(told, candidates, allowed, before, f"{target.model} says")

    def _candidates(self, allowed: frozenset[str], before: Mapping[str, float]) -> tuple[str, ...]:
        """Those that the encoder finds likeliest, and those that it does not know."""
        possible = [name for name in self._fleet.categories if name in allowed]
        ranked = sorted((name for name in possible if name in before), key=lambda name: -before[name])
        unknown = [name for name in possible if name not in before]
        return (*ranked[: self._settings.candidates], *unknown)

    def _admitted(self, targets: Sequence[Target]) -> tuple[Target | None, str]:
        """The first that is not resting, else why none is."""
        why_not = "Mission Control is not installed on a reachable host"
        for target in targets:
            why_not = self._breaker.refusal(target.key)
            if not why_not:
                return target, ""
        return None, why_not

    def _question(self, target: Target, request: RouteRequest, candidates: Sequence[str]) -> RouteRequest:
        if self._prompt is None:
            self._prompt = load_prompt()
        return question(
            self._prompt,
            self._fleet,
            request,
            candidates,
            examples=self._settings.examples,
            limit_tokens=min(self._settings.max_prompt_tokens, target.context_tokens),
            tokenizer=target.tokenizer,
        )

    async def _asked(
        self, target: Target, asked: RouteRequest, candidates: Sequence[str], key: bytes, begun_s: float
    ) -> _Opinion | _Silence:
        """Asks, within what is left of the time, and remembers how it went."""
        why_not = self._breaker.refusal(target.key)  # of many who came at once another may be trying it now
        if why_not:
            return _Silence(why_not)
        self._breaker.admit(target.key)
        limit_s = self._settings.timeout_s if target.resident else self._settings.load_timeout_s
        try:
            async with asyncio.timeout_at(begun_s + limit_s):
                text, logprobs = await self._told(target, asked)
            said = msgspec.json.decode(text, type=_Answer).category
        except TimeoutError:
            return self._failed(target, f"no answer within {limit_s:g} s")
        except ProviderError as error:
            return self._failed(target, str(error))
        except (msgspec.MsgspecError, UnicodeError):
            return self._failed(target, "its answer was not the JSON that was asked for")
        except asyncio.CancelledError:
            self._breaker.abandoned(target.key)
            raise
        if said not in candidates:
            return self._failed(target, "it named a category that was not offered")
        self._breaker.succeeded(target.key)
        opinion = _Opinion(said, odds.shares(text, logprobs, candidates))
        self._recent.put(key, opinion)
        return opinion

    def _failed(self, target: Target, why: str) -> _Silence:
        self._breaker.failed(target.key)
        return _Silence(f"Mission Control failed: {why}")

    async def _told(self, target: Target, asked: RouteRequest) -> tuple[str, list[Json]]:
        """Text and logprobs. A server that refuses to tell logprobs is asked without them from then on."""
        if target.key in self._tell_no_logprobs:
            return await self._read(target, asked)
        wanted = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        try:
            return await self._read(target, replace(asked, options={**asked.options, **wanted}))
        except ProviderError as error:
            if error.status not in _REFUSALS_OF_A_FIELD or isinstance(error, ContextExceeded):
                raise
        told = await self._read(target, asked)
        self._tell_no_logprobs.add(target.key)
        return told

    async def _read(self, target: Target, asked: RouteRequest) -> tuple[str, list[Json]]:
        if isinstance(target.think, str):
            room = (asked.output_limit_tokens or 0) + _THINKING_TOKENS
            asked = replace(asked, options={**asked.options, "num_predict": room})
        call = ChatCall(
            model=target.model,
            request=asked,
            num_ctx=target.num_ctx,
            think=target.think,
            quirks=target.quirks,
            timeouts=Timeouts(),
        )
        text = ""
        logprobs: list[Json] = []
        async with target.turn(), aclosing(target.provider.chat(call)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Delta):
                    text += chunk.text
                    logprobs += chunk.logprobs
                    if len(text) > _MOST_CHARACTERS:
                        raise BadReply(f"{target.model}: the answer does not end")
        return text, logprobs

    def _verdict(
        self,
        opinion: _Opinion,
        candidates: Sequence[str],
        allowed: frozenset[str],
        before: Mapping[str, float],
        who: str,
    ) -> Verdict:
        known = _known(allowed, before)
        told = f"{who} {opinion.said}"
        if opinion.shares is None:
            probabilities = _leaned(known, candidates, opinion.said, self._settings.weight)
        else:
            said = odds.spread(opinion.shares, known)
            probabilities = odds.pooled(known, said, self._settings.weight)
            told += f" with {said[opinion.said]:.2f} among {len(candidates)}"
        if not known:
            probabilities = dict.fromkeys(sorted(allowed), 0.0) | probabilities
        return Verdict(probabilities=probabilities, evidence=(Evidence("mission_control", told),))


def _may_take(request: RouteRequest) -> str:
    return f"may take {request.timeout_s:g} s in all"


def _known(allowed: frozenset[str], before: Mapping[str, float]) -> dict[str, float]:
    """What the encoder thinks of every category; one that it does not know is as likely as the average."""
    if not before:
        return {}
    raw = {name: before.get(name, 1 / len(allowed)) for name in sorted(allowed)}
    whole = sum(raw.values())
    return {name: p / whole for name, p in raw.items()} if whole > 0 else {}


def _leaned(
    before: Mapping[str, float], candidates: Sequence[str], said: str, weight: float
) -> dict[str, float]:
    """Where nothing tells how sure it was: its word weighs ``weight``, what was known keeps the rest."""
    if before:
        probabilities = {name: (1 - weight) * p for name, p in before.items()}
        probabilities[said] += weight
        return probabilities
    return dict.fromkeys(candidates, (1 - weight) / (len(candidates) - 1)) | {said: weight}


def _digest(target: Target, asked: RouteRequest) -> bytes:
    """What was asked of whom. The same model on another host would say the same."""
    words = [(message.role, message.text) for message in asked.messages]
    told = [target.model, words, asked.response_format]
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=16).digest()
