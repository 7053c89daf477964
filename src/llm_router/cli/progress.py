"""How far a long job is: a bar where a person looks, a line every tenth where a file records it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from llm_router.cli.output import printable, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.text import Text

STEP_PERCENT = 10


class Elapsed:
    """A moving line that tells, whenever it is drawn, how long it has stood there: ``loading phi4, 12 s``."""

    def __init__(self, text: str, more: str = "", *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._text = printable(text)
        self._more = f" ({printable(more)})" if more else ""
        self._clock_s = clock_s
        self._begun_s = clock_s()

    def __rich__(self) -> Text:
        from rich.text import Text

        waited_s = int(self._clock_s() - self._begun_s)
        return Text(f"{self._text}, {waited_s} s{self._more}" if waited_s else f"{self._text}{self._more}")


class Progress(Protocol):
    """Told by a job how far it is, in bytes; ``total_bytes`` is 0 while nobody knows."""

    def began(self, name: str) -> None: ...
    def moved(self, name: str, status: str, done_bytes: int, total_bytes: int) -> None: ...
    def ended(self, name: str) -> None: ...
    def failed(self, name: str) -> None: ...


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """Bars on a terminal, else lines on stderr."""
    if not console.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with RichProgress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def began(self, name: str) -> None:
        self._tasks[name] = self._bars.add_task(printable(name), total=None)

    def moved(self, name: str, status: str, done_bytes: int, total_bytes: int) -> None:
        text = printable(name if status.startswith("pulling") or not status else f"{name}: {status}")
        self._bars.update(
            self._tasks[name], description=text, completed=done_bytes, total=total_bytes or None
        )

    def ended(self, name: str) -> None:
        self._bars.update(self._tasks[name], description=printable(f"{name} ✓"))

    def failed(self, name: str) -> None:
        self._bars.update(self._tasks[name], description=printable(f"{name} ✗"))
        self._bars.stop_task(self._tasks[name])


class _Lines:
    def __init__(self) -> None:
        self._told_percent: dict[str, int] = {}

    def began(self, name: str) -> None:
        say(f"{name}: begun")

    def moved(self, name: str, status: str, done_bytes: int, total_bytes: int) -> None:
        if not total_bytes:
            return
        percent = done_bytes * 100 // total_bytes
        if percent >= self._told_percent.get(name, 0) + STEP_PERCENT:
            self._told_percent[name] = percent
            say(f"{name}: {percent} % of {total_bytes / 1e9:.3g} GB")

    def ended(self, name: str) -> None:
        say(f"{name}: done")

    def failed(self, name: str) -> None:
        say(f"{name}: failed")
