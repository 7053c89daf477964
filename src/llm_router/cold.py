"""Answers that wait for a model to be loaded: one who leaves does not end the load that others wait for.

Ollama ends a load when the client that caused it closes its connection, and begins again for the next one who
waits. So the connection of one who left stays open, for nobody, until the first piece comes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping

from llm_router.answer import Chunk

Place = tuple[str, str]
"""(host, the host's name of a model)."""


class ColdStarts:
    """Who waits for the first piece of which model that was not loaded."""

    def __init__(self) -> None:
        self._waiting: Counter[Place] = Counter()
        self._left: dict[asyncio.Task[Chunk | None], asyncio.Task[None]] = {}

    @property
    def waiting(self) -> Mapping[Place, int]:
        """How many answers wait for each model."""
        return {place: count for place, count in self._waiting.items() if count > 0}

    async def chunks(self, place: Place, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
        """The same pieces. Closing it, or cancelling who waits for it, closes ``chunks``: at once, or after
        its first piece where others wait for the same model."""
        first = asyncio.ensure_future(_next(chunks))
        self._waiting[place] += 1
        try:
            piece = await asyncio.shield(first)
        except asyncio.CancelledError:
            if not first.done() and self._waiting[place] > 1:
                self._leave(first, chunks)
                raise
            first.cancel()
            await asyncio.wait([first])
            await chunks.aclose()
            raise
        finally:
            self._waiting[place] -= 1
        try:
            while piece is not None:
                yield piece
                piece = await _next(chunks)
        finally:
            await chunks.aclose()

    def _leave(self, first: asyncio.Task[Chunk | None], chunks: AsyncGenerator[Chunk, None]) -> None:
        async def for_nobody() -> None:
            await asyncio.wait([first])
            await chunks.aclose()

        first.add_done_callback(lambda done: done.cancelled() or done.exception())
        closing = asyncio.ensure_future(for_nobody())
        self._left[first] = closing
        closing.add_done_callback(lambda _: self._left.pop(first, None))

    async def close(self) -> None:
        """Ends what goes on for nobody."""
        closing = tuple(self._left.values())
        for first in tuple(self._left):
            first.cancel()
        if closing:
            await asyncio.wait(closing)


async def _next(chunks: AsyncGenerator[Chunk, None]) -> Chunk | None:
    return await anext(chunks, None)
