"""Virtual time: what is to happen, in order. Nothing ever sleeps."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """Something that is to happen; ``cancel`` makes it not happen."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self._action = None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


class Engine:
    """What falls on the same moment happens in the order in which it was asked for, so that a run with the
    same seed is the same to the last digit."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._numbers = count()
        self._due: list[tuple[float, int, Timer]] = []

    def at(self, when_s: float, action: Callable[[], None]) -> Timer:
        """Calls ``action`` when the time has come; a moment that is past counts as now."""
        timer = Timer(action)
        heapq.heappush(self._due, (max(when_s, self.now_s), next(self._numbers), timer))
        return timer

    def after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        return self.at(self.now_s + delay_s, action)

    def run(self, until_s: float | None = None) -> None:
        """To the end, or to a moment; what is due at that very moment still happens."""
        while self._due and (until_s is None or self._due[0][0] <= until_s):
            self.now_s, _, timer = heapq.heappop(self._due)
            timer.fire()
        if until_s is not None:
            self.now_s = max(self.now_s, until_s)
