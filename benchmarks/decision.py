"""What one decision costs: parse → classify → decide, request by request, on one thread.

    python benchmarks/decision.py [--cases FILE.jsonl] [--hosts fleet|none] [--rounds 3] [--json FILE]

Caveats first. It runs on uvloop, as ``serve`` does. Nothing is asked of a model: Mission Control is off, and
the host is a snapshot that stands still (``fleet``: one that has every model; ``none``: one that refuses
connections). What is timed is the wall clock of one process, so other programs show in the p99 and a busy
machine in all of it; quote the machine with the figures. Requests are all different, each is measured once
per round, and the first round is thrown away. ``--cases`` takes one request body per line instead of the
built-in ones.

parse      body (JSON bytes) → RouteRequest
tokens     the token estimate of the whole request
classify   the cascade: rules, embedded classifier
decide     everything else: hosts, gates, scores, reasons
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import raw_file
import uvloop
from first_decision import made_router, resident_mb

from llm_router.bodies import request_from_json

BUCKETS = (100, 300, 1_000, 2_000, 20_000, 100_000)
"""Upper ends, in characters of all texts of a request."""
USUAL_CHARACTERS = 2_000
"""Requests up to here are also told together."""
PER_BUCKET = (200, 200, 200, 200, 40, 20)
STAGES = ("parse", "tokens", "classify", "decide", "total")

SENTENCES = (
    "Write a friendly reminder for the team that the kitchen is closed on Friday.",
    "Why does the second query return duplicate rows although I grouped by the customer?",
    "Prove that the sum of two odd integers is even, step by step.",
    "def mean(values):\n    return sum(values) / len(values)",
    "Translate the following paragraph into plain English for a reader of twelve years.",
    "이 문서의 핵심 내용을 세 문장으로 요약하고 담당자를 표로 정리해 주세요.",
    "The pump was inspected on 14 May 2021; pressure 3.2 bar, temperature 61 °C, no leaks found.",
    '{"order": 1881, "items": [{"sku": "A-12", "count": 3}], "paid": true}',
    "SELECT shop, SUM(revenue) FROM sales WHERE day >= '2024-01-01' GROUP BY shop;",
    "회의는 다음 주 화요일 오후 두 시로 옮겼고, 자료는 금요일까지 보내기로 했습니다.",
    "What would change if the deposit were paid monthly instead of once a year?",
    "Keep the answer under 120 words, name the sources, and avoid jargon.",
)


@dataclass(frozen=True, slots=True)
class Timing:
    """One request, in milliseconds."""

    characters: int
    parse: float
    tokens: float
    classify: float
    decide: float

    @property
    def total(self) -> float:
        return self.parse + self.tokens + self.classify + self.decide


def built_in() -> Iterator[bytes]:
    """Requests of every size and of both APIs, all of them different and the same in every run."""
    chance = random.Random(20)
    lowest = 20
    for highest, count in zip(BUCKETS, PER_BUCKET, strict=True):
        for index in range(count):
            yield json.dumps(_body(_text(chance, chance.randint(lowest, highest)), index)).encode()
        lowest = highest + 1


def _text(chance: random.Random, characters: int) -> str:
    parts, size = [f"Case {chance.randrange(10**6)}."], 12
    while size < characters:
        parts.append(chance.choice(SENTENCES))
        size += len(parts[-1]) + 1
    return " ".join(parts)[:characters]


def _body(text: str, index: int) -> dict[str, object]:
    match index % 5:
        case 0:
            return {"model": "auto", "messages": [{"role": "user", "content": text}]}
        case 1:
            half = len(text) // 2
            messages = [
                ("system", "You are a careful assistant."),
                ("user", text[:half]),
                ("user", text[half:]),
            ]
            return {
                "messages": [{"role": role, "content": said or "Go on."} for role, said in messages],
                "temperature": 0.2,
                "max_tokens": 300 + index,
            }
        case 2:
            return {"prompt": text, "options": {"temperature": 0}, "stream": False}
        case 3:
            parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
            tool = {"name": "weather", "description": "Weather of a city", "parameters": parameters}
            return {
                "messages": [{"role": "user", "content": text}],
                "tools": [{"type": "function", "function": tool}],
            }
        case _:
            return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}


async def measured(bodies: Sequence[bytes], hosts: str, rounds: int) -> list[Timing]:
    clock = time.perf_counter
    timings: list[Timing] = []
    async with made_router(hosts) as router:
        for number in range(rounds + 1):
            for body in bodies:
                begun = clock()
                request = request_from_json(body)
                parsed = clock()
                request.estimate()
                counted = clock()
                decision = await router.decide(request)
                ended = clock()
                if number == 0:
                    continue
                classify_ms = decision.classification.elapsed_ms
                timings.append(
                    Timing(
                        characters=sum(map(len, request.texts)),
                        parse=(parsed - begun) * 1e3,
                        tokens=(counted - parsed) * 1e3,
                        classify=classify_ms,
                        decide=(ended - counted) * 1e3 - classify_ms,
                    )
                )
    return timings


def summary(timings: Sequence[Timing]) -> list[dict[str, object]]:
    """p50 of each stage and p50 and p99 of the whole, in milliseconds, by size of the request."""
    rows, lowest = [], 0
    for highest in (*BUCKETS, sys.maxsize):
        some = [t for t in timings if lowest <= t.characters <= highest]
        name = f"up to {highest:,}" if highest in BUCKETS else f"over {lowest - 1:,}"
        lowest = highest + 1
        if some:
            rows.append({"characters": name, **_figures(some)})
    rows.append({"characters": "all", **_figures(timings)})
    usual = [t for t in timings if t.characters <= USUAL_CHARACTERS]
    if usual:
        rows.append({"characters": f"all up to {USUAL_CHARACTERS:,}", **_figures(usual)})
    return rows


def _figures(timings: Sequence[Timing]) -> dict[str, object]:
    told: dict[str, object] = {"measured": len(timings)}
    for stage in STAGES:
        told[f"{stage}_p50_ms"] = round(statistics.median(getattr(t, stage) for t in timings), 4)
    outside = [t.total - t.classify for t in timings]
    told["outside_classify_p50_ms"] = round(statistics.median(outside), 4)
    told["outside_classify_p99_ms"] = round(_percentile(outside, 0.99), 4)
    told["total_p99_ms"] = round(_percentile([t.total for t in timings], 0.99), 4)
    return told


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ready_times(hosts: str, starts: int) -> dict[str, object]:
    """Fresh processes: seconds from their start to their first decision, and the memory they then fill.

    They may keep compiled bytecode, as an installed package has it, whatever the environment says.
    """
    command = [sys.executable, str(Path(__file__).with_name("first_decision.py")), hosts]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds, memory = [], []
    for _ in range(starts + 1):  # the first one compiles bytecode and fills the disk cache
        begun = time.perf_counter()
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        seconds.append(time.perf_counter() - begun)
        memory.append(json.loads(said))
    return {
        "starts": starts,
        "ready_s": round(statistics.median(seconds[1:]), 3),
        "first_start_s": round(seconds[0], 3),
        "resident_mb": statistics.median(memory[1:]),
    }


def show(rows: Sequence[dict[str, object]], start: dict[str, object], memory_mb: float | None) -> None:
    print(
        f"{'characters':>18} {'n':>6}" + "".join(f"{name:>10}" for name in (*STAGES, "total p99", "outside"))
    )
    for row in rows:
        figures = [row[f"{stage}_p50_ms"] for stage in STAGES]
        figures += [row["total_p99_ms"], row["outside_classify_p50_ms"]]
        print(
            f"{row['characters']:>18} {row['measured']:>6}" + "".join(f"{value:>10.3f}" for value in figures)
        )  # type: ignore[str-bytes-safe]
    print("milliseconds, p50 where nothing else is said; outside = total without classify")
    print(f"a fresh process made its first decision after {start['ready_s']} s", end=" ")
    print(f"and then filled {start['resident_mb']} MB; this one fills {memory_mb} MB after all of them")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=Path, help="one request body per line; default: built-in ones")
    parser.add_argument("--hosts", choices=("fleet", "none"), default="fleet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--starts", type=int, default=5, help="fresh processes for the time to the first decision"
    )
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    return parser.parse_args()


def main() -> None:
    wish = arguments()
    if wish.cases is None:
        bodies = list(built_in())
    else:
        bodies = [line for line in wish.cases.read_bytes().splitlines() if line.strip()]
    start = ready_times(wish.hosts, wish.starts)
    timings = uvloop.run(measured(bodies, wish.hosts, wish.rounds))
    rows, memory_mb, now = summary(timings), resident_mb(), datetime.now(UTC)
    show(rows, start, memory_mb)
    raw = {
        **raw_file.about("python benchmarks/decision.py", now),
        "cases": "built-in" if wish.cases is None else wish.cases.name,
        "requests": len(bodies),
        "rounds": wish.rounds,
        "hosts": wish.hosts,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "start": start,
        "resident_mb_after_all": memory_mb,
        "rows": rows,
        "timings": [  # characters, then milliseconds of each stage
            [t.characters, *(round(getattr(t, stage), 4) for stage in STAGES[:-1])] for t in timings
        ],
    }
    raw_file.write(raw, "decision", now, wish.json)


if __name__ == "__main__":
    main()
