"""What the planning step costs: ``decide()`` alone, with everything that goes on at the hosts in its price.

    python benchmarks/planning.py [--rounds 300] [--json FILE]

Caveats first. Wall clock of one process on one thread; other programs show in the p99. Every host has the
whole fleet on disk, three models resident that answer three requests each, a load under way, two that wait
for it, and a demand of every model; what goes on is asked of the desks anew for each decision. Nothing is
remembered from one decision to the next but what follows from fleet, hosts and settings, as in a running
gateway. The requests are classified already.

still     nothing is known to go on: what decisions cost where memory is not looked after
moment    queues, loads, evictions and others' waiting are priced, for each model on each host
follow-up the same within a conversation, which has a place to go on at
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import raw_file

from llm_router.decision import Classification
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.desk import Desk, Ticket
from llm_router.hosts.load import HostLoad
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel
from llm_router.names import canonical
from llm_router.policy import World, decide
from llm_router.policy.waits import STILL, Moment, Place
from llm_router.request import RouteRequest

HOSTS = (1, 2, 4)
BAR_MS = 0.2
RESIDENT = ("gpt-oss:20b", "mistral:7b", "llama3.2:1b")


def box(fleet: Fleet, name: str) -> HostSnapshot:
    return HostSnapshot(
        name=name,
        kind="ollama",
        url=f"http://{name}:11434",
        reachable=True,
        version="0.30.0",
        installed={
            tag: InstalledModel(tag, round(model.size_gb * 1e9), frozenset(model.capabilities))
            for tag, model in fleet.models.items()
        },
        resident={
            tag: ResidentModel(
                tag,
                round(fleet.models[tag].memory_gb * 1e9),
                context_length=fleet.models[tag].planned_num_ctx,
            )
            for tag in RESIDENT
            if tag in fleet.models
        },
        usable_memory_gb=fleet.machine.usable_memory_gb,
    )


def busy(fleet: Fleet) -> Desk:
    """Three models answer and have a queue, one loads, two wait for it, and all were asked for lately."""
    here = Desk(fleet.machine.usable_memory_gb, kept=frozenset(map(canonical, fleet.reserved)))
    numbers = itertools.count()

    def enter(tag: str) -> None:
        memory_gb = min(fleet.models[tag].memory_gb, 50.0)
        here.enter(Ticket(next(numbers), canonical(tag), memory_gb, 20.0, 15.0), 0.0)

    for number, tag in enumerate(fleet.models):  # asked and answered: what is left of it is demand
        enter(tag)
        here.ended(number)
    here.seen({canonical(tag): fleet.models[tag].memory_gb for tag in RESIDENT})
    for tag in RESIDENT * 3:
        enter(tag)
    for tag in [tag for tag in fleet.models if tag not in RESIDENT][:3] * 2:
        enter(tag)
    here.next(0.0)
    return here


def requests(fleet: Fleet) -> Iterator[tuple[RouteRequest, Classification]]:
    """One short and one longer request for every category that is answered in words."""
    for name, category in fleet.categories.items():
        if category.requires.capability in (None, "tools"):
            for text in (f"A short request for {name}.", "A request of some length. " * 60):
                yield RouteRequest.from_text(text), Classification(name, 0.9, "encoder", {name: 0.9})


def measured(fleet: Fleet, hosts: int, rounds: int) -> Iterator[dict[str, object]]:
    names = [f"spark-{number + 1}" for number in range(hosts)]
    world = World(fleet, tuple(box(fleet, name) for name in names))
    desks = {name: busy(fleet) for name in names}

    def now() -> dict[str, HostLoad]:
        return {name: here.load(5.0) for name, here in desks.items()}

    moments = {
        "still": lambda: STILL,
        "moment": lambda: Moment(now()),
        "follow-up": lambda: Moment(now(), Place("gpt-oss:20b", names[-1])),
    }
    asked = list(requests(fleet))
    for name, moment in moments.items():
        timings = _timings(lambda r, c, m=moment: decide(r, c, world, m()), asked, rounds)  # type: ignore[misc]
        yield {
            "hosts": hosts,
            "models": len(fleet.models),
            "what": name,
            "measured": len(timings),
            "p50_ms": round(statistics.median(timings), 4),
            "p99_ms": round(sorted(timings)[int(0.99 * len(timings))], 4),
        }


def _timings(
    step: Callable[[RouteRequest, Classification], object],
    asked: Sequence[tuple[RouteRequest, Classification]],
    rounds: int,
) -> list[float]:
    clock, found = time.perf_counter, []
    for number in range(rounds + 1):
        for request, classification in asked:
            begun = clock()
            step(request, classification)
            if number:
                found.append((clock() - begun) * 1e3)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path, help="where the figures go")
    return parser.parse_args()


def main() -> None:
    wish, fleet, now = arguments(), load_fleet(), datetime.now(UTC)
    rows = [row for hosts in HOSTS for row in measured(fleet, hosts, wish.rounds)]
    print(f"{'hosts':>6} {'what':>10} {'p50 ms':>9} {'p99 ms':>9}")
    for row in rows:
        print(f"{row['hosts']:>6} {row['what']:>10} {row['p50_ms']:>9} {row['p99_ms']:>9}")
    worst = max(float(row["p50_ms"]) for row in rows)  # type: ignore[arg-type]
    print(f"median of the slowest row {worst:.3f} ms, the bar is {BAR_MS} ms")
    raw = {
        **raw_file.about("python benchmarks/planning.py", now),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "rounds": wish.rounds,
        "bar_ms": BAR_MS,
        "rows": rows,
    }
    raw_file.write(raw, "planning", now, wish.json)


if __name__ == "__main__":
    main()
