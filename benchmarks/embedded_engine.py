"""Why the embedded engine has a process of its own, and how many threads it gets.

    python benchmarks/embedded_engine.py [--json FILE]

Caveats first. Needs the extra [local] and fetches the 93 MB model file once. Two things are measured: the
longest pause of another Python thread while the engine starts, in this process and in its own; and the answer
speed for one and two threads, alone and beside as many busy programs as there are processors. Median of three
runs. Numbers belong to the machine they were taken on and to whatever else it was doing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from llm_router.answer import Final
from llm_router.providers import embedded_main, embedded_process, embedded_weights
from llm_router.providers.base import ChatCall
from llm_router.providers.embedded import EmbeddedProvider
from llm_router.request import RouteRequest

RUNS = 3
TOKENS = 48


def longest_pause_s(start: Callable[[], object]) -> float:
    """While ``start`` runs, another thread looks at the clock as often as it may."""
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(time.perf_counter())

    thread = threading.Thread(target=watch)
    thread.start()
    before = time.perf_counter()
    started = start()
    after = time.perf_counter()
    done.set()
    thread.join()
    del started
    moments = [before, *(moment for moment in seen if before < moment < after), after]
    return max(late - early for early, late in pairwise(moments))


def in_this_process(weights: Path) -> object:
    order = {"weights": str(weights), "alias": "m", "num_ctx": 2048, "output_tokens": 16, "threads": 1}
    return embedded_main.started(order | {"chat_template": "chatml", "key": "none"})


def in_its_own(weights: Path) -> object:
    order = embedded_process.Order(weights, "m", num_ctx=2048, output_tokens=16, threads=1)
    return embedded_process.start(order, 60.0)


async def tokens_per_s(threads: int) -> float:
    provider = EmbeddedProvider(num_ctx=2048, threads=threads)
    options = {"temperature": 0, "seed": 1, "num_predict": TOKENS}
    request = RouteRequest.from_text("Write a story about a river.", options=options)
    speeds = []
    for _ in range(RUNS):
        async for chunk in provider.chat(ChatCall(provider.model_name, request)):
            if isinstance(chunk, Final):
                speeds.append(chunk.usage.tokens_per_s or 0.0)
    await provider.close()
    return statistics.median(speeds)


def spin() -> None:
    while True:
        pass


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    programs = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]
    for program in programs:
        program.start()
    try:
        yield
    finally:
        for program in programs:
            program.terminate()
            program.join()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    weights = embedded_weights.ensure(print)
    processors = os.cpu_count() or 1
    result: dict[str, object] = {"machine": platform.machine(), "processors": processors}
    for name, start in (("pause_in_process_s", in_this_process), ("pause_own_process_s", in_its_own)):
        pauses = [longest_pause_s(partial(start, weights)) for _ in range(RUNS)]
        result[name] = round(statistics.median(pauses), 4)
    for others in (0, processors):
        for threads in (1, 2):
            with busy_programs(others):
                speed = asyncio.run(tokens_per_s(threads))
            result[f"tokens_per_s_threads_{threads}_beside_{others}"] = round(speed, 1)
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
