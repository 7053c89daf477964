"""Where the cascade should stop and ask: accept against the share of cases that is asked.

    python benchmarks/cascade.py --cases FOLDER --unseen FILE [--ask [--url OLLAMA]]

Caveats first. ``--unseen`` is what ``llm-router train --cases FOLDER --unseen FILE`` writes: the answers of
weights that never saw the source of the case they answer. The shipped weights have seen those cases; a figure
of theirs on them would be worth nothing. Confident answers are many and unsure ones few, so a row tells how
many cases it stands on. A case has one judge and counts as noise; only sums are kept, no case is named.

For every threshold: the share of cases below it, how often the encoder is right on both sides, and what would
be right in all if the stage that is asked below were never right, as good as the encoder there, an oracle, or
right at a given rate. ``default`` would ask nobody and take the safe default there.

``--ask`` puts the cases below ``--ask-below`` to Mission Control, with the encoder's unseen probabilities as
what was known before: its own word, and the pool of both as the setting ``weight`` makes it. The model is the
embedded one, or with ``--url`` the fleet's router on that Ollama. It has all the time it wants here; how
often it would have been too late is told.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import raw_file

from llm_router.classify import odds
from llm_router.classify.mission_control import MissionControl, Target
from llm_router.classify.settings import ClassifySettings, MissionControlSettings
from llm_router.drawing import Anchor, Box, Colour, Group, Line, Shape, Sheet, Text, to_svg, write_whole
from llm_router.fleet import Fleet, load_fleet
from llm_router.learn.outside import Outside, read_folder
from llm_router.providers.embedded import EmbeddedProvider
from llm_router.providers.ollama import OllamaProvider

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "concepts" / "cascade.svg"
THRESHOLDS = tuple(step / 20 for step in range(21))
BANDS = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Borders of confidence; narrower ones would hold too few cases to say anything."""
ASSUMED = (0.5, 0.7, 0.9)
"""How often a stage might be right on what it is asked."""
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
NO_LIMIT_S = 60.0


class UnseenLine(msgspec.Struct, frozen=True):
    """One line of ``--unseen``."""

    id: str
    category: str
    confidence: float
    probabilities: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """What Mission Control made of one case. ``said`` is its own word, ``pooled`` is by weight."""

    said: str
    pooled: Mapping[float, str]
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class Told:
    """A case, what the encoder answered without knowing its source, and what else could be answered."""

    outside: Outside
    unseen: UnseenLine
    default: str
    asked: Asked | None = None

    @property
    def confidence(self) -> float:
        return self.unseen.confidence

    def accepts(self, category: str) -> bool:
        return category in self.outside.case.accept

    @property
    def right(self) -> bool:
        return self.accepts(self.unseen.category)

    def offered(self, fleet: Fleet) -> list[str]:
        """What Mission Control chooses among: the encoder's likeliest, or all where it knows none."""
        before = self.unseen.probabilities
        known = [name for name in fleet.categories if name in before]
        likeliest = sorted(known, key=lambda name: -before[name])[: MissionControlSettings().candidates]
        return likeliest or sorted(self.outside.allowed)


@dataclass(frozen=True, slots=True)
class Questions:
    """The outcome of asking: by case id, and the reasons of those that were not answered."""

    answers: Mapping[str, Asked] = field(default_factory=dict)
    silent: Sequence[str] = ()
    first_ms: float = 0.0


def told_by(cases: Sequence[Outside], unseen: Path, fleet: Fleet) -> list[Told]:
    """The original cases with their unseen answers. Raises SystemExit where the file is about others."""
    decode = msgspec.json.Decoder(UnseenLine).decode
    by_id = {line.id: line for line in map(decode, unseen.read_bytes().splitlines())}
    originals = [one for one in cases if one.case.is_original]
    lacking = sum(one.case.id not in by_id for one in originals)
    if lacking:
        raise SystemExit(f"error: {unseen.name} lacks {lacking} of the {len(originals)} cases")
    return [Told(one, by_id[one.case.id], safe_default(one, fleet)) for one in originals]


def safe_default(one: Outside, fleet: Fleet) -> str:
    """What the cascade takes where no stage can tell."""
    if fleet.default_category in one.allowed:
        return fleet.default_category
    return next(name for name in fleet.categories if name in one.allowed)


async def questions(told: Sequence[Told], fleet: Fleet, url: str | None, threads: int | None) -> Questions:
    """Asks Mission Control about every case, one after the other.

    It is asked with weight 1, which gives back its own word; the pools of other weights follow from that.
    """
    settings = MissionControlSettings(
        weight=1.0, timeout_s=NO_LIMIT_S, load_timeout_s=NO_LIMIT_S, failures_until_rest=10**9
    )
    target = target_of(fleet, url, threads)

    async def locate() -> Sequence[Target]:
        return [target]

    async def put(stage: MissionControl, one: Told) -> tuple[dict[str, float], str, float]:
        """Its odds over what was offered, or why it has none, and milliseconds."""
        allowed, before = one.outside.allowed, one.unseen.probabilities
        begun = time.perf_counter()
        verdict = await stage.classify(one.outside.request, allowed, before)
        elapsed_ms = (time.perf_counter() - begun) * 1e3
        if not verdict.probabilities:
            return {}, verdict.note, elapsed_ms
        said = {name: verdict.probabilities[name] for name in one.offered(fleet)}
        return {name: p / sum(said.values()) for name, p in said.items()}, "", elapsed_ms

    answers: dict[str, Asked] = {}
    silent: list[str] = []
    try:
        # The first one starts the engine; whatever it says is thrown away with the stage that remembers it.
        *_, first_ms = await put(MissionControl(fleet, locate, settings, time.monotonic), told[0])
        stage = MissionControl(fleet, locate, settings, time.monotonic)
        for number, one in enumerate(told, 1):
            own, why_not, elapsed_ms = await put(stage, one)
            if own:
                before = one.unseen.probabilities
                pooled = {weight: _likeliest(odds.pooled(before, own, weight)) for weight in WEIGHTS}
                answers[one.outside.case.id] = Asked(_likeliest(own), pooled, elapsed_ms)
            else:
                silent.append(why_not)
            if number % 10 == 0:
                print(f"asked {number} of {len(told)}", file=sys.stderr, flush=True)
    finally:
        await target.provider.close()
    return Questions(answers, silent, first_ms)


def target_of(fleet: Fleet, url: str | None, threads: int | None) -> Target:
    """The model that is asked, as the router would ask it."""
    if url is not None:
        model = fleet.models[fleet.router or ""]
        return Target(
            OllamaProvider("ollama", url),
            fleet.router or "",
            model.planned_num_ctx,
            resident=True,
            context_tokens=model.planned_num_ctx or 4096,
            tokenizer=model.tokenizer,
            think=None,
            quirks=model.quirks,
        )
    stand_in = fleet.stand_in
    if stand_in is None:
        raise SystemExit("error: the fleet has no embedded model to ask; name an Ollama with --url")
    num_ctx = stand_in.model.planned_num_ctx
    provider = EmbeddedProvider(model_name=stand_in.name, num_ctx=num_ctx, threads=threads)
    return Target(
        provider,
        stand_in.name,
        None,
        resident=True,
        context_tokens=num_ctx,
        tokenizer=stand_in.model.tokenizer,
        quirks=stand_in.model.quirks,
    )


def _likeliest(probabilities: Mapping[str, float]) -> str:
    return max(sorted(probabilities), key=lambda name: probabilities[name])


def curve(told: Sequence[Told], asked_below: float) -> list[dict[str, object]]:
    """One row per threshold; measured figures only where every case below it was asked."""
    rows = []
    text = [one for one in told if one.outside.case.is_text_only]
    for threshold in sorted({*THRESHOLDS, ClassifySettings().ask_below}):
        below = [one for one in told if one.confidence < threshold]
        above = [one for one in told if one.confidence >= threshold]
        kept = sum(one.right for one in above)

        def in_all(right_below: float, kept: int = kept) -> float:
            return round((kept + right_below) / len(told), 4)

        there = sum(one.right for one in below)
        row: dict[str, object] = {
            "threshold": threshold,
            "asked": len(below),
            "share": round(len(below) / len(told), 4),
            "share_text_only": _share(text, lambda one, t=threshold: one.confidence < t),  # type: ignore[misc]
            "encoder_above": _share(above, lambda one: one.right),
            "encoder_below": _share(below, lambda one: one.right),
            "default_below": _share(below, lambda one: one.accepts(one.default)),
            "accept_never": in_all(0),
            "accept_as_encoder": in_all(there),
            "accept_oracle": in_all(len(below)),
            "accept_default": in_all(sum(one.accepts(one.default) for one in below)),
            "accept_assumed": {str(rate): in_all(rate * len(below)) for rate in ASSUMED},
        }
        if 0 < threshold <= asked_below:
            row |= _measured(below, in_all)
        rows.append(row)
    return rows


def _measured(below: Sequence[Told], in_all: Callable[[float], float]) -> dict[str, object]:
    """What asking gives; where the stage said nothing the encoder's answer stands, as in the router."""
    weight = MissionControlSettings().weight

    def own(one: Told) -> bool:
        return one.accepts(one.asked.said) if one.asked else one.right

    def pooled(one: Told, by: float = weight) -> bool:
        return one.accepts(one.asked.pooled[by]) if one.asked else one.right

    return {
        "asked_below_own": _share(below, own),
        "asked_below_pooled": _share(below, pooled),
        "accept_own": in_all(sum(map(own, below))),
        "accept_pooled": in_all(sum(map(pooled, below))),
        "pooled_by_weight": {str(w): _share(below, lambda one, w=w: pooled(one, w)) for w in WEIGHTS},  # type: ignore[misc]
    }


def bands(told: Sequence[Told], asked_below: float) -> list[dict[str, object]]:
    """Who is right how often, by the encoder's confidence, where hard evidence has not decided."""
    rows = []
    for low, high in pairwise(BANDS):
        some = [
            one
            for one in told
            if not one.outside.decided and low <= one.confidence < (high if high < 1 else 1.01)
        ]
        if not some:
            continue
        row: dict[str, object] = {
            "from": low,
            "to": high,
            "cases": len(some),
            "confidence": round(statistics.fmean(one.confidence for one in some), 4),
            "encoder": _share(some, lambda one: one.right),
            "encoder_interval": wilson(sum(one.right for one in some), len(some)),
            "default": _share(some, lambda one: one.accepts(one.default)),
            "encoder_only_right": sum(one.right and not one.accepts(one.default) for one in some),
            "default_only_right": sum(one.accepts(one.default) and not one.right for one in some),
        }
        if high <= asked_below:
            row |= _measured(some, lambda right: right) | {"asked": sum(o.asked is not None for o in some)}
            row.pop("accept_own")
            row.pop("accept_pooled")
        rows.append(row)
    return rows


def wilson(right: int, cases: int, z: float = 1.96) -> list[float]:
    """The 95 % interval of a share: honest for few cases, too."""
    share = right / cases
    middle = share + z * z / (2 * cases)
    spread = z * math.sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases))
    whole = 1 + z * z / cases
    return [round((middle - spread) / whole, 3), round((middle + spread) / whole, 3)]


def _share(told: Sequence[Told], good: Callable[[Told], bool]) -> float | None:
    return round(sum(map(good, told)) / len(told), 4) if told else None


def offers(told: Sequence[Told], fleet: Fleet) -> dict[str, object]:
    """How good a stage could be on what it is offered, and how good a blind one would be."""
    good = [[one.accepts(name) for name in one.offered(fleet)] for one in told]
    return {
        "acceptable_offered": round(statistics.fmean(map(any, good)), 4),
        "blind": round(statistics.fmean(map(statistics.fmean, good)), 4),
    }


def costs(found: Questions, limit_s: float) -> dict[str, object]:
    """Milliseconds per question, and how many would have been too late."""
    times = sorted(one.elapsed_ms for one in found.answers.values())
    if not times:
        return {"questions": 0, "silent": len(found.silent), "why": sorted(set(found.silent))}
    return {
        "questions": len(times),
        "silent": len(found.silent),
        "why": sorted(set(found.silent)),
        "first_ms": round(found.first_ms),
        "p50_ms": round(statistics.median(times)),
        "p90_ms": round(times[min(len(times) - 1, int(0.9 * len(times)))]),
        "longest_ms": round(times[-1]),
        "later_than_timeout": sum(one > limit_s * 1000 for one in times),
        "timeout_s": limit_s,
    }


PAPER: Colour = (255, 255, 255)
INK: Colour = (28, 32, 43)
GREY: Colour = (105, 112, 130)
GRID: Colour = (226, 229, 236)
BLUE: Colour = (52, 100, 214)
GREEN: Colour = (20, 137, 104)
RED: Colour = (200, 58, 62)
AMBER: Colour = (190, 120, 16)
VIOLET: Colour = (122, 74, 178)
PINK: Colour = (190, 48, 132)
LEFT, TOP, WIDTH, HEIGHT, RIGHT = 64.0, 64.0, 460.0, 330.0, 226.0
TICK = 0.02
"""Of the axis across."""
Points = Sequence[tuple[float, float]]


def picture(rows: Sequence[Mapping[str, object]], asked_below: float, model: str) -> Sheet:
    """Accept in all against the share asked, as far as cases were asked (or half of all)."""
    last = asked_below or 0.85
    shown = [row for row in rows if _number(row, "threshold") <= last + 1e-9]
    most = max(_number(row, "share") for row in shown)
    across_to = max(TICK, math.ceil(most / TICK - 1e-9) * TICK)
    low = math.floor(min(_number(row, "accept_never") for row in shown) * 20) / 20

    def at(share: float, accept: float) -> tuple[float, float]:
        return LEFT + WIDTH * share / across_to, TOP + HEIGHT * (1 - (accept - low) / (1 - low))

    lines: list[tuple[str, Points, Colour, bool]] = [
        ("an oracle", _points(shown, "accept_oracle"), GREEN, True),
        ("the encoder alone", _points(shown, "accept_as_encoder"), INK, False),
        ("a stage right in 70 %", [(_number(r, "share"), _assumed(r, "0.7")) for r in shown], VIOLET, True),
        ("a stage right in half", [(_number(r, "share"), _assumed(r, "0.5")) for r in shown], BLUE, True),
        ("the safe default", _points(shown, "accept_default"), AMBER, False),
        ("never right", _points(shown, "accept_never"), RED, True),
    ]
    if asked_below:
        first = (0.0, _number(shown[0], "accept_as_encoder"))
        known = [row for row in shown if "accept_own" in row]
        lines.insert(5, (f"{model}, its word", [first, *_points(known, "accept_own")], GREY, False))
        lines.insert(5, (f"{model}, pooled", [first, *_points(known, "accept_pooled")], PINK, False))
    shapes: list[Shape] = [*_frame(at, across_to, low)]
    for _, points, colour, dashed in lines:
        shapes.append(Line(tuple(at(*point) for point in sorted(points)), colour, 2.2, dashed))
    shapes += _names(lines, at)
    title = "What asking below a threshold would give"
    shapes.append(Text(LEFT, 28, title, 16, INK, bold=True))
    shapes.append(
        Text(LEFT, 47, "bold: the threshold; asked are the cases that the encoder is less sure of", 12, GREY)
    )
    shapes += _marks(shown, at, low)
    sheet_width, sheet_height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + 84
    return Sheet(sheet_width, sheet_height, PAPER, title, (Group(tuple(shapes)),))


def _frame(at: Callable[[float, float], tuple[float, float]], across_to: float, low: float) -> list[Shape]:
    shapes: list[Shape] = []
    for step in range(round((1 - low) * 20) + 1):
        accept = low + step / 20
        x, y = at(0, accept)
        shapes.append(Line(((x, y), (x + WIDTH, y)), GRID, 1))
        shapes.append(Text(x - 8, y + 4, f"{accept:.2f}", 12, GREY, "end"))
    for step in range(round(across_to / TICK) + 1):
        x, y = at(step * TICK, low)
        shapes.append(Line(((x, y), (x, y + 5)), GREY, 1))
        shapes.append(Text(x, y + 20, f"{step * TICK:.0%}", 12, GREY, "middle"))
    x, y = at(across_to / 2, low)
    shapes.append(Text(x, y + 68, "share of the cases that is asked", 13, INK, "middle"))
    shapes.append(Text(18, TOP + HEIGHT / 2, "acceptable answers in all", 13, INK, "middle", upright=True))
    return shapes


def _marks(
    rows: Sequence[Mapping[str, object]], at: Callable[[float, float], tuple[float, float]], low: float
) -> list[Shape]:
    """Thresholds under the axis, as far as they do not run into each other."""
    shapes: list[Shape] = []
    free = -math.inf
    for row in reversed(rows):
        x, y = at(_number(row, "share"), low)
        if shapes and x > free - 30:
            continue
        free = x
        shapes.append(Box(x - 3, y - 3, 6, 6, INK, PAPER, 3))
        shapes.append(Text(x, y + 40, f"{_number(row, 'threshold'):g}", 12, INK, "middle", bold=True))
    return shapes


def _names(
    lines: Sequence[tuple[str, Points, Colour, bool]], at: Callable[[float, float], tuple[float, float]]
) -> list[Shape]:
    """The name of each line at its right end, moved apart where they would lie on each other."""
    ends = sorted(((at(*max(points))[1], name, colour) for name, points, colour, _ in lines))
    shapes: list[Shape] = []
    lowest = -math.inf
    side: Anchor = "start"
    for y, name, colour in ends:
        lowest = max(y, lowest + 17)
        shapes.append(Text(LEFT + WIDTH + 10, lowest + 4, name, 12.5, colour, side, bold=True))
    return shapes


def _points(rows: Sequence[Mapping[str, object]], key: str) -> Points:
    return [(_number(row, "share"), _number(row, key)) for row in rows]


def _number(row: Mapping[str, object], key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)


def _assumed(row: Mapping[str, object], rate: str) -> float:
    value = row["accept_assumed"]
    assert isinstance(value, dict)
    return float(value[rate])


def show(rows: Sequence[Mapping[str, object]], found: Sequence[Mapping[str, object]]) -> None:
    keys = ("threshold", "asked", "share", "share_text_only", "encoder_above", "encoder_below")
    more = ("default_below", "accept_never", "accept_as_encoder", "accept_oracle", "accept_default")
    last = ("asked_below_own", "asked_below_pooled", "accept_own", "accept_pooled")
    for table, names in ((rows, (*keys, *more, *last)), (found, tuple(found[-1]) + last[:2])):
        print("\n" + " | ".join(names))
        for row in table:
            print(" | ".join(_cell(row.get(name)) for name in names))
    print("\npooled by weight, by band:")
    for row in found:
        if "pooled_by_weight" in row:
            print(row["from"], row["to"], row["pooled_by_weight"])


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=Path, required=True, help="folder of labelled cases")
    parser.add_argument("--unseen", type=Path, required=True, help="unseen answers, from llm-router train")
    parser.add_argument("--ask", action="store_true", help="ask Mission Control about the unsure ones")
    parser.add_argument("--ask-below", type=float, default=0.85, help="with --ask, below this confidence")
    parser.add_argument("--url", help="with --ask, the fleet's router on this Ollama, not the embedded model")
    parser.add_argument(
        "--threads", type=int, help="of the embedded engine; as in the router where not given"
    )
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    parser.add_argument("--svg", type=Path, default=PICTURE, help="where the picture goes")
    return parser.parse_args()


def main() -> None:
    wish = arguments()
    fleet = load_fleet()
    told = told_by(read_folder(wish.cases, fleet), wish.unseen, fleet)
    asked_below = wish.ask_below if wish.ask else 0.0
    unsure = [one for one in told if one.confidence < asked_below]
    found = asyncio.run(questions(unsure, fleet, wish.url, wish.threads)) if unsure else Questions()
    answered = [
        Told(one.outside, one.unseen, one.default, found.answers.get(one.outside.case.id)) for one in told
    ]
    rows, by_band, now = curve(answered, asked_below), bands(answered, asked_below), datetime.now(UTC)
    show(rows, by_band)
    options = ["--ask"] * wish.ask + [f"--threads {wish.threads}"] * bool(wish.threads)
    command = " ".join(["python benchmarks/cascade.py --cases FOLDER --unseen FILE", *options])
    raw: dict[str, object] = {
        **raw_file.about(command, now),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cases": len(told),
        "text_only": sum(one.outside.case.is_text_only for one in told),
        "decided_by_hard_evidence": sum(bool(one.outside.decided) for one in told),
        "lowest_confidence": min(one.confidence for one in told),
        "rows": rows,
        "bands": by_band,
    }
    model = ""
    if wish.ask:
        settings = MissionControlSettings()
        stand_in = fleet.stand_in.name if fleet.stand_in else ""
        model = (fleet.router or "") if wish.url else stand_in
        raw["asked"] = {
            "model": model,
            "threads": wish.threads,
            "asked_below": asked_below,
            "candidates": settings.candidates,
            "weight": settings.weight,
            **offers(unsure, fleet),
            **costs(found, settings.timeout_s),
        }
        print(raw["asked"])
    raw_file.write(raw, "cascade", now, wish.json, indent=1)
    write_whole(wish.svg, to_svg(picture(rows, asked_below, model)).encode())
    print(f"picture: {wish.svg}", file=sys.stderr)


if __name__ == "__main__":
    main()
