"""What watches the gateway hears of everything once, in its order, and of tasks a moment later."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llm_router.errors import InvalidRequest
from llm_router.gateway.app import Visit
from llm_router.gateway.observers import Observers, Served

VISIT = cast("Visit", SimpleNamespace(begun_s=0.0))


class Heard:
    def __init__(self) -> None:
        self.what: list[object] = []
        self.task = asyncio.Event()

    def served(self, served: Served) -> None:
        self.what.append(served)
        self.task.set()

    def refused(self, visit: Visit, error: object, status: int) -> None:
        self.what.append(status)

    def done(self, visit: Visit) -> None:
        self.what.append("done")


def task() -> Served:
    return Served(VISIT, cast("Any", None), cast("Any", None))


async def test_tasks_are_told_a_moment_later_in_a_row() -> None:
    heard = Heard()
    observers = Observers([heard])
    first, second = task(), task()
    observers.served(first)
    observers.served(second)
    assert heard.what == []
    assert 0 < first.elapsed_s == first.ended_s
    await asyncio.wait_for(heard.task.wait(), 10)
    assert heard.what == [first, second]
    observers.tell()
    assert heard.what == [first, second]
    heard.task.clear()
    observers.served(third := task())
    await asyncio.wait_for(heard.task.wait(), 10)
    assert heard.what == [first, second, third]


async def test_what_comes_after_a_task_is_told_after_it() -> None:
    heard = Heard()
    observers = Observers([heard])
    first, second = task(), task()
    observers.served(first)
    observers.refused(VISIT, InvalidRequest("no"), 400)
    observers.served(second)
    observers.done(VISIT)
    assert heard.what == [first, 400, second, "done"]


async def test_one_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Heard):
        def served(self, served: Served) -> None:
            raise RuntimeError("a defect")

    heard = Heard()
    observers = Observers([Broken(), heard])
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            observers.served(task())
        observers.tell()
    assert len(heard.what) == 2
    assert [record.message for record in caplog.records] == ["Broken failed"]
