"""What comes in and when: drawn from a stated mix, or taken from the records of a gateway."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Literal

import msgspec

from llm_router.errors import InvalidRequest
from llm_router.fleet.fleet import Fleet
from llm_router.request import Image, JsonObject, Message, RouteRequest, Tool
from llm_router.simulate.mix import OUTPUT_SPREAD, PAUSE_S, Kind
from llm_router.tokens import TokenEstimate, TokenizerFamily

Arrivals = Literal["poisson", "bursty"]

BURST_SHARE, BURST_FACTOR, BURST_S = 0.15, 4.0, 600.0
"""Bursty: this share of the time new conversations come so many times as often as on average, in bursts of
such a mean length; in between correspondingly less often, so that the average is the same."""


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request. ``difficulty`` (0 to 1, 0.5 on average) says how long models that think do so: their usual
    number of tokens times 0.5 to 1.5. Tasks of one ``conversation`` (empty: of none) follow each other as
    turns, and each one's prompt begins with all that was said before."""

    at_s: float
    category: str
    prompt_tokens: int
    output_tokens: int
    conversation: str = ""
    turn: int = 0
    difficulty: float = 0.5

    def thinking_tokens(self, usual: int) -> int:
        return round(usual * (0.5 + self.difficulty))


class SizedRequest(RouteRequest, frozen=True, dict=True):
    """A request of which only the size is known; its words say nothing."""

    tokens: int = 1

    def estimate(self, family: TokenizerFamily = "large") -> TokenEstimate:
        del family
        return TokenEstimate(self.tokens, self.tokens, self.tokens)


def as_request(task: Task, fleet: Fleet, model: str | None = None) -> SizedRequest:
    """The task as the policy sees it, with the picture or the tool that its category calls for."""
    needs = fleet.category(task.category).requires.capability
    picture = (Image("image/png", ""),) if needs == "vision" else ()
    return SizedRequest(
        messages=(Message("user", task.category, picture),),
        tools=(Tool("a_tool"),) if needs == "tools" else (),
        model=model,
        session_id=task.conversation or None,
        tokens=task.prompt_tokens,
    )


# ── drawn ────────────────────────────────────────────────────────────────────────────────────────────────


def synthetic(
    fleet: Fleet,
    mix: Mapping[str, Kind],
    *,
    rate_per_s: float,
    seed: int,
    hours: float | None = None,
    requests: int | None = None,
    arrivals: Arrivals = "poisson",
) -> tuple[Task, ...]:
    """A trace in order of time: so many ``requests``, or as many as come in so many ``hours``.

    Every draw is from one source with this seed, in the same order at every rate, so that traces of two rates
    have the same conversations, closer together. Raises InvalidRequest where the fleet has none of the mix.
    """
    kinds = {name: kind for name, kind in mix.items() if name in fleet.categories}
    if not kinds:
        raise InvalidRequest(
            "cannot draw a day for this fleet",
            why="it has none of the categories of the stated mix",
            hint="simulate a trace of your own: llm-router simulate TRACE",
        )
    if (hours is None) == (requests is None):
        raise ValueError("say either hours or requests")
    most, until_s = _bounds(rate_per_s, hours, requests)
    random = Random(seed)  # noqa: S311 - a simulation is to be repeatable, not secret
    found: list[Task] = []
    for number, start_s in enumerate(_starts(random, _starts_per_s(kinds, rate_per_s), arrivals)):
        # Follow-ups come later than what begins meanwhile: what counts has begun before the last that counts.
        if start_s >= until_s or (len(found) >= 2 * most and _nth(found, most) <= start_s):
            break
        found += _conversation(random, fleet, kinds, f"c{number}", start_s)
    found.sort(key=lambda task: task.at_s)
    return tuple(task for task in found[:most] if task.at_s < until_s)


def _bounds(rate_per_s: float, hours: float | None, requests: int | None) -> tuple[int, float]:
    if requests is not None:
        return requests, math.inf
    until_s = (hours or 0.0) * 3600
    return max(round(rate_per_s * until_s * 10), 10_000), until_s


def _nth(tasks: Sequence[Task], n: int) -> float:
    return sorted(task.at_s for task in tasks)[n - 1]


def _starts_per_s(kinds: Mapping[str, Kind], rate_per_s: float) -> float:
    shares = sum(kind.share for kind in kinds.values())
    return rate_per_s * sum(kind.share / kind.turns for kind in kinds.values()) / shares


def _starts(random: Random, per_s: float, arrivals: Arrivals) -> Iterator[float]:
    """Moments at which conversations begin, without an end."""
    at_s, bursts, changes_s = 0.0, False, math.inf
    calm_factor = (1 - BURST_SHARE * BURST_FACTOR) / (1 - BURST_SHARE)
    calm_s = BURST_S * (1 - BURST_SHARE) / BURST_SHARE
    factor = 1.0
    if arrivals == "bursty":
        factor, changes_s = calm_factor, random.expovariate(1 / calm_s)
    while True:
        next_s = at_s + random.expovariate(per_s * factor)
        if next_s < changes_s:
            at_s = next_s
            yield at_s
        else:  # without memory: what is left of the wait is drawn anew at the new rate
            at_s, bursts = changes_s, not bursts
            factor = BURST_FACTOR if bursts else calm_factor
            changes_s = at_s + random.expovariate(1 / (BURST_S if bursts else calm_s))


def _conversation(
    random: Random, fleet: Fleet, kinds: Mapping[str, Kind], name: str, start_s: float
) -> Iterator[Task]:
    weights = [kind.share / kind.turns for kind in kinds.values()]
    category = random.choices(list(kinds), weights)[0]
    kind = kinds[category]
    turns = _turns(random, kind.turns)
    at_s, prompt = start_s, _length(random, kind.prompt_tokens, kind.spread, kind.most_tokens)
    for turn in range(turns):
        output = _answer(random, fleet.categories[category].output_tokens)
        if turn and prompt > kind.most_tokens:
            return
        yield Task(
            at_s=at_s,
            category=category,
            prompt_tokens=prompt,
            output_tokens=output,
            conversation=name,
            turn=turn,
            difficulty=random.random(),
        )
        prompt += output + _length(random, kind.more_tokens, kind.spread, kind.most_tokens)
        at_s += random.expovariate(1 / PAUSE_S)


def _turns(random: Random, mean: float) -> int:
    """Geometric: after each turn the conversation goes on with the same chance."""
    turns = 1
    while random.random() < 1 - 1 / mean:
        turns += 1
    return turns


def _length(random: Random, median: float, spread: float, most: int) -> int:
    return min(max(round(random.lognormvariate(math.log(median), spread)), 1), most)


def _answer(random: Random, mean: int) -> int:
    if not mean:
        return 0
    log_median = math.log(mean) - OUTPUT_SPREAD**2 / 2
    return max(round(random.lognormvariate(log_median, OUTPUT_SPREAD)), 1)


# ── taken from elsewhere ─────────────────────────────────────────────────────────────────────────────────


def from_records(rows: Iterable[JsonObject], fleet: Fleet) -> tuple[Task, ...]:
    """The answered tasks of a gateway's records whose category the fleet knows, the first of them at 0 s.

    Records count what a model thought with what it answered, so its usual thinking is taken off. They do not
    say which tasks belong to one conversation: each is one of its own.
    """
    found = []
    for row in rows:
        category, prompt, output = row.get("category"), row.get("prompt_tokens"), row.get("output_tokens")
        at_ns = row.get("at_ns")
        answered = row.get("status") == 200 and isinstance(prompt, int) and prompt > 0
        if not answered or not isinstance(at_ns, int) or not isinstance(prompt, int):
            continue
        if isinstance(category, str) and category in fleet.categories:
            written = output if isinstance(output, int) else 0
            answer = _without_thinking(written, str(row.get("model") or ""), fleet)
            found.append((at_ns, category, prompt, answer))
    found.sort()
    return tuple(
        Task(at_s=(at_ns - found[0][0]) / 1e9, category=category, prompt_tokens=prompt, output_tokens=output)
        for at_ns, category, prompt, output in found
    )


def _without_thinking(written: int, model: str, fleet: Fleet) -> int:
    tag = fleet.find(model)
    thinking = fleet.models[tag].thinking_tokens if tag is not None else 0
    return max(written - thinking, min(written, 1))


def parsed(data: bytes, fleet: Fleet) -> tuple[Task, ...]:
    """A trace as text: one task per line as JSON, with the keys of ``Task``.

    Raises InvalidRequest with the number of a line that is none, or whose category the fleet does not know.
    """
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            task = msgspec.json.decode(line, type=Task)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(
                f"cannot read line {number} of the trace", why=str(error), hint=_LINE_HINT
            ) from error
        _check(task, number, fleet)
        found.append(task)
    if not found:
        raise InvalidRequest("the trace is empty", why="it has no line with a task", hint=_LINE_HINT)
    found.sort(key=lambda task: task.at_s)
    return tuple(found)


_LINE_HINT = 'a line is {"at_s": 0.0, "category": "simple_chat", "prompt_tokens": 40, "output_tokens": 80}'


def _check(task: Task, number: int, fleet: Fleet) -> None:
    fleet.category(task.category)
    sound = task.at_s >= 0 and math.isfinite(task.at_s) and 0 <= task.difficulty <= 1
    if not sound or task.prompt_tokens < 1 or task.output_tokens < 0:
        raise InvalidRequest(
            f"cannot use line {number} of the trace",
            why="times and answers are 0 or more, prompts 1 token or more, a difficulty is from 0 to 1",
            hint=_LINE_HINT,
        )


def written(tasks: Iterable[Task]) -> bytes:
    """The same as text, for ``parsed``."""
    return b"".join(msgspec.json.encode(task) + b"\n" for task in tasks)


def at_rate(tasks: Sequence[Task], rate_per_s: float) -> tuple[Task, ...]:
    """The same tasks, closer together or farther apart, so that so many come per second on average."""
    factor = rate_of(tasks) / rate_per_s
    return tuple(msgspec.structs.replace(task, at_s=task.at_s * factor) for task in tasks)


def rate_of(tasks: Sequence[Task]) -> float:
    """Tasks per second from the first to the last; 1 where all come at once."""
    span_s = tasks[-1].at_s - tasks[0].at_s if len(tasks) > 1 else 0.0
    return (len(tasks) - 1) / span_s if span_s > 0 else 1.0
