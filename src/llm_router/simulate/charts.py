"""Two charts on one sheet: mean latency and loads, over the rate of requests, a line for each policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llm_router.drawing import Box, Colour, Group, Line, Shape, Sheet, Text
from llm_router.simulate.report import Run

PAPER: Colour = (250, 250, 252)
INK: Colour = (28, 32, 43)
GREY: Colour = (105, 112, 130)
GRID: Colour = (222, 225, 233)
COLOURS: Sequence[Colour] = (
    (200, 58, 62),
    (190, 120, 16),
    (146, 104, 190),
    (52, 100, 214),
    (20, 137, 104),
    (60, 150, 190),
)

_MARGIN, _LEFT, _TOP, _BOTTOM = 28.0, 62.0, 96.0, 64.0
_WIDTH, _HEIGHT, _BETWEEN = 400.0, 300.0, 96.0


def chart(runs: Sequence[Run], title: str) -> Sheet:
    """``runs`` are of one or several rates; a policy has the same colour in both charts."""
    policies = list(dict.fromkeys(run.policy for run in runs))
    colours = {policy: COLOURS[index % len(COLOURS)] for index, policy in enumerate(policies)}
    latency = _Panel(_LEFT, "mean latency, s (logarithmic)", runs, lambda run: run.mean_s, log=True)
    loads = _Panel(
        _LEFT + _WIDTH + _BETWEEN,
        "loads per 100 requests",
        runs,
        lambda run: 100 * run.loads / max(run.requests, 1),
        log=False,
    )
    groups = [Group((Text(_MARGIN, 38, title, 17, INK, bold=True),)), Group(tuple(_legend(colours)))]
    for panel in (latency, loads):
        groups.append(Group(tuple(panel.frame())))
        groups += [
            panel.curve([run for run in runs if run.policy == policy], colours[policy]) for policy in policies
        ]
    width = _LEFT + 2 * _WIDTH + _BETWEEN + _MARGIN
    return Sheet(width, _TOP + _HEIGHT + _BOTTOM, PAPER, title, tuple(groups))


def _legend(colours: dict[str, Colour]) -> Iterator[Shape]:
    x = _MARGIN
    for policy, colour in colours.items():
        yield Line(((x, 62), (x + 22, 62)), colour, 2.6)
        yield Text(x + 28, 66, policy, 12, INK)
        x += 56 + 7 * len(policy)


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    log: bool
    marks: tuple[float, ...]

    def share(self, value: float) -> float:
        if self.log:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def _from_zero(values: Sequence[float]) -> _Scale:
    """Up to a round figure, in four or five steps."""
    most = max(values, default=0.0) or 1.0
    unit = 10 ** math.floor(math.log10(most))
    step = next(unit * factor for factor in (0.25, 0.5, 1.0, 2.5) if unit * factor * 5 >= most)
    count = math.ceil(most / step - 1e-9)
    return _Scale(0.0, step * count, False, tuple(step * index for index in range(count + 1)))


def _powers(values: Sequence[float]) -> _Scale:
    """Whole powers of ten around all values."""
    known = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)
    return _Scale(10.0**low, 10.0**high, True, tuple(10.0**power for power in range(low, high + 1)))


class _Panel:
    def __init__(
        self, left: float, up: str, runs: Sequence[Run], value: Callable[[Run], float], *, log: bool
    ) -> None:
        self._left, self._up, self._value = left, up, value
        self._across = _from_zero([run.rate_per_s for run in runs])
        values = [value(run) for run in runs]
        self._upward = _powers(values) if log else _from_zero(values)

    def _at(self, across: float, up: float) -> tuple[float, float]:
        x = self._left + _WIDTH * self._across.share(across)
        return x, _TOP + _HEIGHT * (1 - self._upward.share(up))

    def frame(self) -> Iterator[Shape]:
        bottom, right = _TOP + _HEIGHT, self._left + _WIDTH
        for mark in self._upward.marks:
            _, y = self._at(0, mark)
            yield Line(((self._left, y), (right, y)), GRID, 1)
            yield Text(self._left - 8, y + 4, f"{mark:,.10g}", 11, GREY, "end")
        for mark in self._across.marks:
            x, _ = self._at(mark, self._upward.low)
            yield Line(((x, bottom), (x, bottom + 4)), GREY, 1)
            yield Text(x, bottom + 18, f"{mark:.4g}", 11, GREY, "middle")
        yield Text(self._left + _WIDTH / 2, bottom + 40, "requests per second", 11.5, INK, "middle")
        yield Text(self._left, _TOP - 10, self._up, 11.5, INK)

    def curve(self, runs: Sequence[Run], colour: Colour) -> Group:
        placed = tuple(
            self._at(run.rate_per_s, self._value(run)) for run in sorted(runs, key=lambda run: run.rate_per_s)
        )
        dots = (Box(x - 3, y - 3, 6, 6, colour, colour, 3) for x, y in placed)
        told = ", ".join(f"{run.rate_per_s:g}/s: {self._value(run):,.1f}" for run in runs)
        return Group((Line(placed, colour, 2.2), *dots), f"{runs[0].policy}, {self._up}: {told}")
