"""One timer for many waits: the time that a whole request may take, watched while its pieces come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """Ends whatever is awaited through it once ``left_s`` is over.

    ``asyncio.timeout`` around each piece of a stream would set and cancel a timer per piece.
    """

    __slots__ = ("_loop", "_timer", "_waiting", "expired")

    def __init__(self, left_s: float) -> None:
        self.expired = False
        self._waiting: asyncio.Task[object] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(max(0.0, left_s), self._expire)

    def __enter__(self) -> Deadline:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    async def next(self, pieces: AsyncIterator[T]) -> T | None:
        """The next piece, None at the end. Raises TimeoutError when the time is over."""
        if self.expired:
            raise TimeoutError
        task = self._waiting = asyncio.current_task(self._loop)
        try:
            return await anext(pieces)
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError:
            if self.expired and task is not None and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def _expire(self) -> None:
        self.expired = True
        if self._waiting is not None:
            self._waiting.cancel()
