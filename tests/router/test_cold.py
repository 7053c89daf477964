"""Who leaves while a model is loaded, and what becomes of the load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from llm_router.answer import Chunk, Delta
from llm_router.cold import ColdStarts
from llm_router.deadline import Deadline

PLACE = ("box", "phi4:latest")


class Load:
    """An answer that begins when it is told to, and knows whether it was closed."""

    def __init__(self) -> None:
        self.begin = asyncio.Event()
        self.closed = False

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        try:
            await self.begin.wait()
            yield Delta("one")
            yield Delta("two")
        finally:
            self.closed = True


async def first_of(cold: ColdStarts, load: Load) -> Chunk:
    async for chunk in cold.chunks(PLACE, load.chunks()):
        return chunk
    raise AssertionError("no chunk")


async def started(cold: ColdStarts, load: Load, waiting: int) -> asyncio.Task[Chunk]:
    task = asyncio.ensure_future(first_of(cold, load))
    while cold.waiting.get(PLACE, 0) < waiting:  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0)
    return task


async def test_one_who_leaves_alone_ends_the_load() -> None:
    cold, load = ColdStarts(), Load()
    task = await started(cold, load, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert load.closed
    assert cold.waiting == {}


async def test_one_who_leaves_others_waiting_does_not() -> None:
    cold, mine, theirs = ColdStarts(), Load(), Load()
    leaving = await started(cold, mine, 1)
    staying = await started(cold, theirs, 2)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not mine.closed
    mine.begin.set()
    theirs.begin.set()
    assert await staying == Delta("one")
    while not mine.closed:  # noqa: ASYNC110 - closed after its first piece, for nobody
        await asyncio.sleep(0)


async def test_closing_ends_what_goes_on_for_nobody() -> None:
    cold, mine, theirs = ColdStarts(), Load(), Load()
    leaving = await started(cold, mine, 1)
    staying = await started(cold, theirs, 2)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await cold.close()
    assert mine.closed
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)
    assert theirs.closed


async def test_all_pieces_come_through_in_order() -> None:
    cold, load = ColdStarts(), Load()
    load.begin.set()
    assert [c async for c in cold.chunks(PLACE, load.chunks())] == [Delta("one"), Delta("two")]
    assert load.closed


async def test_a_deadline_ends_a_wait_and_is_no_cancellation() -> None:
    async def slow() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(30)
        yield 2

    pieces = slow()
    with Deadline(0.05) as deadline:
        assert await deadline.next(pieces) == 1
        with pytest.raises(TimeoutError):
            await deadline.next(pieces)
        with pytest.raises(TimeoutError):
            await deadline.next(pieces)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await pieces.aclose()


async def test_a_deadline_leaves_a_cancellation_what_it_is() -> None:
    async def slow() -> AsyncGenerator[int, None]:
        await asyncio.sleep(30)
        yield 1

    async def wait() -> None:
        with Deadline(30) as deadline:
            await deadline.next(slow())

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
