"""Who is being answered at each host, so that it is known which answers had it to themselves.

A host that answers one request of a model after the other makes those that come meanwhile wait, and its
timings leave that out: so an answer may have been alone while it was worked on, although others were there.
Every answer says how long it was worked on up to its end. Once all who were there have ended, it shows
whether any were worked on at the same time, as they are where a host answers several of a model together.
Values and arithmetic only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from llm_router.hosts.speeds import NOT_MEASURED, Measured

SHARED = 0.1
"""An answer that shared the host for no more of its time counts as alone: where two halve the speed, that is
an error of 5 %."""

MOST_KEPT = 256
"""Answers whose times are kept to compare with. Where more than that wait for one that takes long, nothing is
learned from any of them."""


class Crowd:
    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    def enter(self, host: str, model: str, now_s: float) -> Visit:
        """A request of ``model`` goes to the host."""
        there = self._hosts.get(host)
        if there is None:
            there = self._hosts[host] = _Host()
        return there.enter(model, now_s)


class Visit:
    """One request at a host; ``alone`` as long as no other one of this process was there with it."""

    __slots__ = ("_begun_s", "_ended_s", "_entered_s", "_host", "_lost", "alone", "model", "sample")

    def __init__(self, host: _Host, model: str, now_s: float, *, alone: bool) -> None:
        self._host = host
        self._entered_s = self._begun_s = now_s
        self._ended_s = math.inf
        self._lost = False
        self.model = model
        self.alone = alone
        self.sample = NOT_MEASURED

    def worked(self, now_s: float, work_s: float | None, sample: Measured) -> None:
        """The answer ended now, after so long of work; None where the host does not tell that."""
        self._ended_s = now_s
        if work_s is not None:
            self._begun_s = max(self._entered_s, now_s - work_s)
            self.sample = sample

    def leave(self, now_s: float) -> list[Visit]:
        """Who of those that were not alone is now known to have been so while their answers were worked on.

        A second time it is nobody.
        """
        return self._host.left(self, now_s)

    def _shared_s(self, other: Visit) -> float:
        """How long the other one held this one up, or may have: another model may have been loaded first."""
        begun_s = other._begun_s if other.model == self.model else other._entered_s
        return min(self._ended_s, other._ended_s) - max(self._begun_s, begun_s)

    def _was_alone(self, others: Iterable[Visit]) -> bool:
        left_s = SHARED * (self._ended_s - self._begun_s)
        for other in others:
            if other is not self:
                left_s -= max(0.0, self._shared_s(other))
                if left_s < 0.0:
                    return False
        return True


class _Host:
    """``there`` in the order in which they came, the others in that in which they left; ``ended`` as long as
    they matter to somebody."""

    def __init__(self) -> None:
        self._there: dict[Visit, None] = {}
        self._ended: deque[Visit] = deque()
        self._unsure: deque[Visit] = deque()

    def enter(self, model: str, now_s: float) -> Visit:
        visit = Visit(self, model, now_s, alone=not self._there)
        if len(self._there) == 1:
            next(iter(self._there)).alone = False
        self._there[visit] = None
        return visit

    def left(self, visit: Visit, now_s: float) -> list[Visit]:
        if visit not in self._there:
            return []
        del self._there[visit]
        if visit.alone:
            return []
        visit._ended_s = min(visit._ended_s, now_s)
        self._ended.append(visit)
        if not (visit.sample.empty or visit._lost):
            self._unsure.append(visit)
        if len(self._ended) > MOST_KEPT:
            self._forget()
        return self._settled()

    def _settled(self) -> list[Visit]:
        oldest_s = next(iter(self._there))._entered_s if self._there else math.inf
        found: list[Visit] = []
        while self._unsure and self._unsure[0]._ended_s <= oldest_s:
            visit = self._unsure.popleft()
            if visit._was_alone(self._ended):
                found.append(visit)
        from_s = min([oldest_s, *[visit._begun_s for visit in self._unsure]])
        while self._ended and self._ended[0]._ended_s <= from_s:
            self._ended.popleft()
        return found

    def _forget(self) -> None:
        """Who was there with those that are forgotten can not be compared with them."""
        self._ended.clear()
        self._unsure.clear()
        for visit in self._there:
            visit._lost = True
