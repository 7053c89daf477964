"""The stated mixed day at many rates: every way of choosing, medians over seeds, and what is claimed of them.

    python benchmarks/simulate_day.py [--requests 4000] [--seeds 1,2,3] [--json FILE]

Caveats first. Nothing is measured here: it is a simulation (docs/concepts/simulation.md), whose speeds and
qualities are the shipped fleet's, published figures and priors. Every run is what this prints, to the last
digit, with the rate and the seed put in:

    llm-router simulate --rates 0.01 --requests 4000 --seed 1 --json

runs      every way of choosing at every rate and seed, as the command tells it, and ``drain``: how long the
          box worked until the last answer, against how long tasks came in; above 1.1 it cannot keep up.
          The map counts as saturated from the rate at which its mean is beyond 2,000 s
variants  ``ours`` with other settings, and on a fleet that thinks less of gpt-oss:20b
others    other days, for what was chosen by looking at the mixed one: bursts, three times as many simple and
          quick tasks, four times as many for the largest models, a box of 64 GB; ``ratio`` is to the oracle
claims    three figures that are often claimed of routing, against always using the largest model, at a rate
          at which nobody waits for another; loads as they are, and loads in no time
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import raw_file

from llm_router.fleet import Fleet, load_fleet
from llm_router.fleet.schema import Category
from llm_router.policy import PolicySettings
from llm_router.simulate.mix import MIXED_DAY, Kind
from llm_router.simulate.ollama_box import BoxSettings
from llm_router.simulate.play import Case, Outcome
from llm_router.simulate.report import run_of
from llm_router.simulate.strategies import POLICIES
from llm_router.simulate.traces import Arrivals, synthetic

RATES = (0.005, 0.01, 0.0125, 0.015, 0.0175, 0.02, 0.03, 0.05, 0.07, 0.1)
VARIANT_RATES = (0.005, 0.01, 0.02, 0.05, 0.1)
SATURATED_MEAN_S = 2_000.0
CANNOT_KEEP_UP = 1.1
ALONE_PER_S, ALONE_REQUESTS = 0.0005, 1000
"""A task in half an hour: what one costs by itself, and every model has left the memory by then."""
SIMPLE = ("simple_chat", "efficient_general")
MANY_CORNERED = "gpt-oss:20b"

Row = dict[str, object]


@dataclass(frozen=True)
class Day:
    """Which day it is, and on which box; ``times`` is how often a kind of task comes, against the mix."""

    times: Mapping[str, float] = field(default_factory=dict)
    arrivals: Arrivals = "poisson"
    memory_gb: float | None = None

    @property
    def mix(self) -> Mapping[str, Kind]:
        shares = {name: kind.share * self.times.get(name, 1.0) for name, kind in MIXED_DAY.items()}
        whole = sum(shares.values())
        return {name: replace(kind, share=shares[name] / whole) for name, kind in MIXED_DAY.items()}


MIXED = Day()
QUICK = ("simple_chat", "efficient_general", "efficient_reasoning")
LARGEST = (
    "max_vision",
    "max_rag",
    "max_quality_general",
    "max_reasoning",
    "max_reasoning_moe",
    "long_context",
)
OTHERS = {
    "bursts": (Day(arrivals="bursty"), (0.01, 0.03)),
    "quick tasks": (Day(dict.fromkeys(QUICK, 3.0)), (0.02, 0.1)),
    "large tasks": (Day(dict.fromkeys(LARGEST, 4.0)), (0.01, 0.02)),
    "64 GB": (Day(memory_gb=64.0), (0.01, 0.05)),
}


def case(
    fleet: Fleet,
    rate: float,
    seed: int,
    requests: int,
    policy: PolicySettings | None = None,
    *,
    day: Day = MIXED,
) -> Case:
    tasks = synthetic(fleet, day.mix, rate_per_s=rate, seed=seed, requests=requests, arrivals=day.arrivals)
    box = BoxSettings(memory_gb=day.memory_gb or fleet.machine.usable_memory_gb)
    return Case(fleet, tasks, box, policy or PolicySettings()).answerable()


def told(name: str, rate: float, seed: int, outcome: Outcome) -> Row:
    ends_s = max(answer.task.at_s + answer.total_s for answer in outcome.answers)
    comes_s = max(answer.task.at_s for answer in outcome.answers)
    share = sum(a.model == MANY_CORNERED for a in outcome.answers) / len(outcome.answers)
    return {
        **msgspec.to_builtins(run_of(name, rate, outcome)),
        "seed": seed,
        "drain": round(ends_s / comes_s, 3),
        "gpt_oss_20b": round(share, 4),
    }


def medians(rows: Sequence[Row]) -> Iterator[Row]:
    """One row for each policy and rate."""
    for key in dict.fromkeys((row["policy"], row["rate_per_s"]) for row in rows):
        same = [row for row in rows if (row["policy"], row["rate_per_s"]) == key]
        yield {
            name: value if isinstance(value, str) else statistics.median(row[name] for row in same)  # type: ignore[type-var]
            for name, value in same[0].items()
            if name != "seed"
        }


def less_of(fleet: Fleet, model: str, quality: float) -> Fleet:
    """The same fleet with a lower opinion of one model, where it is no category's first choice."""

    def lowered(category: Category) -> Category:
        first, *others = category.models
        changed = [
            msgspec.structs.replace(c, quality=max(c.quality - quality, 0.0)) if c.model == model else c
            for c in others
        ]
        return msgspec.structs.replace(category, models=(first, *changed))

    return replace(fleet, categories={name: lowered(c) for name, c in fleet.categories.items()})


def variants(fleet: Fleet) -> Iterator[tuple[str, Fleet, PolicySettings]]:
    yield "prefer map", fleet, PolicySettings(prefer="map")
    yield "prefer score", fleet, PolicySettings(prefer="score")
    yield "balance 0.3", fleet, PolicySettings(balance=0.3)
    yield "balance 0.7", fleet, PolicySettings(balance=0.7)
    yield "crowd 0", fleet, PolicySettings(crowd_weight=0.0)
    yield "gpt-oss:20b 0.1 lower", less_of(fleet, MANY_CORNERED, 0.1), PolicySettings()
    yield "gpt-oss:20b 0.2 lower", less_of(fleet, MANY_CORNERED, 0.2), PolicySettings()


def other_days(fleet: Fleet, seeds: Sequence[int], requests: int) -> Iterator[Row]:
    """Per day, rate and seed: everybody but who always takes the largest, and ``ours`` by score alone."""
    by_score = PolicySettings(prefer="score")
    for name, (day, rates) in OTHERS.items():
        for rate, seed in itertools.product(rates, seeds):
            played = case(fleet, rate, seed, requests, day=day)
            rows = {policy: POLICIES[policy](played) for policy in ("fixed_map", "ours", "oracle")}
            rows["ours, prefer score"] = POLICIES["ours"](replace(played, policy=by_score))
            for policy, outcome in rows.items():
                yield {
                    "day": name,
                    **told(policy, rate, seed, outcome),
                    "ratio": round(outcome.mean_s / rows["oracle"].mean_s, 3),
                    "quality_ratio": round(outcome.quality / rows["fixed_map"].quality, 4),
                }


# ── what is claimed ──────────────────────────────────────────────────────────────────────────────────────


def claims(fleet: Fleet, seed: int) -> Iterator[Row]:
    """One task at a time: seconds, GB of who answers, GB·s and seconds of the box."""
    free = msgspec.structs.replace(fleet.machine, load_gb_per_s=1e9, load_overhead_s=0.0)
    for loads, one in (("as they are", fleet), ("in no time", replace(fleet, machine=free))):
        played = case(one, ALONE_PER_S, seed, ALONE_REQUESTS)
        for name in ("always_best", "fixed_map", "ours"):
            outcome = POLICIES[name](played)
            yield {"policy": name, "loads": loads, "seed": seed, **_costs(one, outcome)}


def _costs(fleet: Fleet, outcome: Outcome) -> Row:
    def gb(model: str) -> float:
        return fleet.models[model].memory_gb

    answers = outcome.answers
    simple = [answer for answer in answers if answer.task.category in SIMPLE]
    ends_s = max(answer.task.at_s + answer.total_s for answer in answers)
    return {
        "mean_s": round(outcome.mean_s, 2),
        "simple_mean_s": round(statistics.fmean(a.total_s for a in simple), 2),
        "simple_gb": round(statistics.fmean(gb(a.model) for a in simple), 1),
        "answering_gb": round(statistics.fmean(gb(a.model) for a in answers), 1),
        "answering_gb_s": round(statistics.fmean(gb(a.model) * a.total_s for a in answers), 1),
        "held_gb": round(outcome.gb_s / ends_s, 1),
        "loads_each": round(outcome.loads / len(answers), 3),
        "quality": round(outcome.quality / len(answers), 4),
    }


# ── what it has to reach ─────────────────────────────────────────────────────────────────────────────────


def bars(rows: Sequence[Row]) -> Iterator[Row]:
    """Ratios of medians, with the bar each is held against."""
    found = {(str(row["policy"]), float(row["rate_per_s"])): row for row in rows}  # type: ignore[arg-type]
    rates = sorted({rate for _, rate in found})

    def value(policy: str, rate: float, key: str) -> float:
        return float(found[policy, rate][key])  # type: ignore[arg-type]

    def ratio(key: str, rate: float, other: str = "fixed_map") -> float:
        return value("ours", rate, key) / value(other, rate, key)

    saturated = next(r for r in rates if value("fixed_map", r, "mean_s") > SATURATED_MEAN_S)
    too_many = next(r for r in rates if value("fixed_map", r, "drain") > CANNOT_KEEP_UP)
    yield _bar("mean at 0.01/s against the fixed map", ratio("mean_s", 0.01), most=0.6)
    yield _bar("loads at 0.01/s against the fixed map", ratio("loads", 0.01), most=0.35)
    yield _bar(f"mean at {saturated:g}/s, where the map is saturated", ratio("mean_s", saturated), most=0.1)
    yield _bar(f"mean at {too_many:g}/s, where the map cannot keep up", ratio("mean_s", too_many), most=0.1)
    for rate in rates:
        if rate <= saturated:
            limit_s = value("fixed_map", rate, "p95_s")
            reached = max(r for r in rates if value("ours", r, "p95_s") <= limit_s)
            what = f"rate with no higher p95 than the map's at {rate:g}/s ({limit_s:,.0f} s)"
            yield _bar(what, reached / rate, least=2.0)
    for rate in rates:
        yield _bar(f"quality at {rate:g}/s against the fixed map", ratio("quality", rate), least=0.97)
    for rate in rates:
        yield _bar(f"mean at {rate:g}/s against the oracle", ratio("mean_s", rate, "oracle"), most=1.5)


def _bar(what: str, value: float, *, most: float | None = None, least: float | None = None) -> Row:
    holds = (most is None or value <= most) and (least is None or value >= least)
    return {"what": what, "value": round(value, 4), "most": most, "least": least, "holds": holds}


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────


def show(title: str, rows: Iterable[Mapping[str, object]], keys: Sequence[str]) -> None:
    print(f"\n{title}\n" + " ".join(f"{key:>14}" for key in keys))
    for row in rows:
        print(" ".join(_cell(row[key]) for key in keys))


def _cell(value: object) -> str:
    return f"{value:>14,.4g}" if isinstance(value, float) else f"{value!s:>14}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--seeds", default="1,2,3", help="of the drawn days")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    return parser.parse_args()


def main() -> None:
    wish, fleet, begun = arguments(), load_fleet(), time.perf_counter()
    seeds = [int(seed) for seed in wish.seeds.split(",")]
    runs: list[Row] = []
    varied: list[Row] = []
    for rate in RATES:
        for seed in seeds:
            played = case(fleet, rate, seed, wish.requests)
            runs += [told(name, rate, seed, policy(played)) for name, policy in POLICIES.items()]
    for name, other, settings in variants(fleet):
        for rate in VARIANT_RATES:
            for seed in seeds:
                played = case(other, rate, seed, wish.requests, settings)
                varied.append(told(name, rate, seed, POLICIES["ours"](played)))
    elsewhere = list(other_days(fleet, seeds, wish.requests))
    claimed = [row for seed in seeds for row in claims(fleet, seed)]
    rows, changed = list(medians(runs)), list(medians(varied))
    alone = [
        next(medians([{**row, "rate_per_s": ALONE_PER_S} for row in claimed if _same(row, first)]))
        for first in claimed
        if first["seed"] == seeds[0]
    ]
    others = [row for name in OTHERS for row in medians([row for row in elsewhere if row["day"] == name])]
    held = list(bars(rows))
    told_of = ("rate_per_s", "policy", "mean_s", "p50_s", "p95_s", "loads", "quality", "drain", "gpt_oss_20b")
    show("medians over seeds", rows, told_of)
    show("ours otherwise", changed, told_of)
    told_of_days = ("day", "rate_per_s", "policy", "mean_s", "p95_s", "loads", "quality_ratio", "ratio")
    show("other days", others, told_of_days)
    show("alone", alone, ("loads", "policy", "mean_s", "simple_gb", "answering_gb_s", "held_gb", "quality"))
    for bar in held:
        print(f"{'holds' if bar['holds'] else 'FAILS':>6}  {bar['value']:>9}  {bar['what']}")
    now = datetime.now(UTC)
    raw = {
        **raw_file.about("python benchmarks/simulate_day.py", now),
        "took_s": round(time.perf_counter() - begun, 1),
        "requests": wish.requests,
        "seeds": seeds,
        "medians": rows,
        "bars": held,
        "claims": alone,
        "variants": changed,
        "others": others,
        "runs": runs,
    }
    raw_file.write(raw, "simulate", now, wish.json)


def _same(row: Row, other: Row) -> bool:
    return (row["policy"], row["loads"]) == (other["policy"], other["loads"])


if __name__ == "__main__":
    main()
