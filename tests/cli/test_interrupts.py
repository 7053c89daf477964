"""Ctrl-C inside a coroutine: wherever it strikes, one KeyboardInterrupt comes out and nothing is logged."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Iterator

import pytest

from llm_router.cli.context import interruptible, run, run_reader

Runner = Callable[[Coroutine[None, None, None]], None]


async def _while_deciding() -> None:
    async def decide() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)

    await asyncio.gather(decide(), asyncio.sleep(3600))


async def _while_reading() -> None:
    with interruptible():
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("in_way", [run, run_reader])
@pytest.mark.parametrize("work", [_while_deciding, _while_reading])
def test_ctrl_c_leaves_one_exception_and_no_word(
    work: Callable[[], Coroutine[None, None, None]], in_way: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        in_way(work())
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
    assert signal.getsignal(signal.SIGINT) is before
