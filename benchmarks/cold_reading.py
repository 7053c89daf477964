"""What reading and judging a text costs, in a row of others and after a pause: with the arithmetic compiled
and in Python alone, with the memory as it was filled and moved onto huge pages.

    python benchmarks/cold_reading.py [--texts 200] [--pause-ms 64] [--json FILE]

Caveats first. One thread; texts are English ones of 20 to 400 characters from ``training/``, each read once
per row. While it sleeps, loops of idle priority keep the processors awake, so what is measured is memory that
has left the caches and not a processor that wakes up. How much that is depends on the machine, and on a
virtual one on its neighbours. Rows of one run compare; 0 MB moved means that the system has no huge pages.

in a row      no pause: all that a text needs is in the caches
after a pause the work alone, not the pause
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import raw_file

from gateway import awake, prompts
from llm_router.classify.encoder import Encoder
from llm_router.classify.weights import read_weights
from llm_router.compiled import ARITHMETIC
from llm_router.huge_pages import collapse


def microseconds(encoder: Encoder, texts: Sequence[str], pause_s: float) -> dict[str, float]:
    found = []
    for text in texts:
        if pause_s:
            time.sleep(pause_s)
        begun = time.perf_counter()
        reading = encoder.read(text)
        encoder.telling(reading, encoder.judge(reading).category)
        found.append((time.perf_counter() - begun) * 1e6)
    found.sort()
    return {
        "p50_us": round(statistics.median(found), 1),
        "p90_us": round(found[int(0.9 * len(found))], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--pause-ms", type=float, default=64.0)
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    wish, now = parser.parse_args(), datetime.now(UTC)
    weights = read_weights(resources.files("llm_router").joinpath("data", "encoder.npz").read_bytes())
    encoders = {"in Python": Encoder(weights, compiled=False)}
    if ARITHMETIC.is_compiled():
        encoders["compiled"] = Encoder(weights, compiled=True)
    texts, rows, moved_mb = prompts()[: 2 * wish.texts], [], 0.0
    with awake():
        for memory in ("as filled", "on huge pages"):
            if memory == "on huge pages":
                moved_mb = collapse() / 1e6
            for arithmetic, encoder in encoders.items():
                microseconds(encoder, texts, 0.0)
                for what, pause_s in (("in a row", 0.0), ("after a pause", wish.pause_ms / 1e3)):
                    told = microseconds(encoder, texts[: wish.texts], pause_s)
                    rows.append({"arithmetic": arithmetic, "memory": memory, "what": what, **told})
                    print(
                        f"{arithmetic:>10} {memory:>14} {what:>14} "
                        f"p50 {told['p50_us']:8.1f} us   p90 {told['p90_us']:8.1f} us"
                    )
    print(f"{moved_mb:.0f} MB were moved")
    raw = {
        **raw_file.about("python benchmarks/cold_reading.py", now),
        "texts": wish.texts,
        "pause_ms": wish.pause_ms,
        "moved_mb": round(moved_mb, 1),
        "rows": rows,
    }
    raw_file.write(raw, "cold-reading", now, wish.json)


if __name__ == "__main__":
    main()
