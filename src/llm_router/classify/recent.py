"""Answers that were given a moment ago, and questions that are on their way: nothing is asked twice."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """At most ``entries`` values, each for ``ttl_s`` seconds; the one used longest ago goes first.

    Keys are digests: no text of a request is kept. May be used from several threads.
    """

    def __init__(self, entries: int, ttl_s: float, clock_s: Callable[[], float]) -> None:
        self._entries = entries
        self._ttl_s = ttl_s
        self._clock_s = clock_s
        self._kept: OrderedDict[bytes, tuple[T, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> T | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            value, until_s = found
            if self._clock_s() >= until_s:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return value

    def put(self, key: bytes, value: T) -> None:
        with self._lock:
            self._kept[key] = value, self._clock_s() + self._ttl_s
            self._kept.move_to_end(key)
            while len(self._kept) > self._entries:
                self._kept.popitem(last=False)


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class Flights(Generic[T]):
    """Callers who want the same thing at the same time share one way to it.

    It goes on while at least one of them waits; when the last is cancelled, so is it. Callers on different
    event loops do not share: one loop cannot wait for another's task.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[asyncio.AbstractEventLoop, bytes], _Flight[T]] = {}

    async def share(self, key: bytes, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What ``begin`` gives, or what its twin that is under way does."""
        place = (asyncio.get_running_loop(), key)
        flight = self._flights.get(place)
        if flight is None or flight.task.done():
            flight = self._flights[place] = _Flight(asyncio.create_task(begin()))
            flight.task.add_done_callback(lambda task: self._landed(place, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._landed(place, flight.task)  # who comes now begins anew
                flight.task.cancel()
                await asyncio.wait([flight.task])  # its connection is closed when the caller goes on

    def _landed(self, place: tuple[asyncio.AbstractEventLoop, bytes], task: asyncio.Task[T]) -> None:
        if place in self._flights and self._flights[place].task is task:
            del self._flights[place]
