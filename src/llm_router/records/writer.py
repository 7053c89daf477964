"""Writes records beside the requests: putting one down never waits, never fails, loses nothing in silence.

A bounded queue and one thread. Whatever happens to the file (disk full, locked, deleted, damaged), requests
go on; what could not be written is counted, told by ``problem``, and noted in the file as soon as possible.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from llm_router.records.record import RequestRecord
from llm_router.records.settings import RecordSettings
from llm_router.records.store import Row, Store, TooNew, row_of

log = logging.getLogger("llm_router.records")

WRITE_EVERY_S = 0.25
"""A killed process loses what it put down in this time and while one batch is written."""

_MOST_AT_ONCE = 500
_TIDY_EVERY_S = 600.0
_TRY_AGAIN_S = 1.0
_TOLD_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the records: the last error, and how many were dropped since the start."""

    why: str
    dropped: int


class Recorder:
    """``put`` from any thread, ``close`` once."""

    def __init__(self, path: Path, settings: RecordSettings) -> None:
        self.path = path
        self._settings = settings
        self._queue: deque[Row] = deque()
        self._dropped = 0
        self._untold = 0
        self._why = ""
        self._told_s = -_TOLD_EVERY_S
        self._ending = threading.Event()
        self._store: Store | None = None
        self._tidied_s = 0.0
        self._thread = threading.Thread(target=self._run, name="llm-router records", daemon=True)
        self._thread.start()

    def put(self, record: RequestRecord) -> None:
        """Takes a record; drops it where too many wait already.

        It is put into words at once: later, what it is made of would have left the processor's caches, and
        until then it would keep alive all that was at hand when it was made.
        """
        if len(self._queue) >= self._settings.queue:
            self._drop(1, "records come faster than they can be written")
            return
        try:
            self._queue.append(row_of(record))
        except (TypeError, ValueError) as error:
            self._drop(1, f"a record cannot be put into words: {error}")

    @property
    def problem(self) -> Problem | None:
        """None while everything is written."""
        return Problem(self._why, self._dropped) if self._why or self._dropped else None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def close(self, limit_s: float = 5.0) -> None:
        """Writes what waits, as far as that is possible in this time."""
        self._ending.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while not self._ending.wait(WRITE_EVERY_S):
            self._write_all()
        self._write_all(last=True)
        if self._store is not None:
            self._store.close()

    def _write_all(self, *, last: bool = False) -> None:
        try:
            store = self._store or self._opened()
            while self._queue or self._untold:
                self._write_some(store)
            if not last and time.monotonic() - self._tidied_s > _TIDY_EVERY_S:
                self._tidied_s = time.monotonic()
                store.tidy(
                    max_age_days=self._settings.max_age_days, max_bytes=int(self._settings.max_mb * 1e6)
                )
            self._why = ""
        except (sqlite3.Error, OSError, TooNew) as error:
            self._failed(error)
            self._ending.wait(_TRY_AGAIN_S)
        except Exception as error:
            log.exception("records cannot be written")
            self._failed(error)
            lost = len(self._queue)
            self._queue.clear()
            self._drop(lost, self._why)
            self._ending.wait(_TRY_AGAIN_S)

    def _opened(self) -> Store:
        store = self._store = Store(self.path, keep_text=self._settings.keep_text)
        return store

    def _write_some(self, store: Store) -> None:
        queue = self._queue  # others append meanwhile, this thread alone takes away
        rows = [queue[place] for place in range(min(len(queue), _MOST_AT_ONCE))]
        untold = self._untold
        events = [(time.time_ns(), "dropped", f"{untold} records could not be written")] if untold else []
        if not self.path.exists():
            raise FileNotFoundError("the file of records was deleted")
        store.write(rows, events)
        self._untold -= untold
        for _ in rows:
            queue.popleft()

    def _failed(self, error: Exception) -> None:
        self._why = str(error) or type(error).__name__
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except sqlite3.Error:
                log.debug("the file of records does not close", exc_info=True)
        if isinstance(error, sqlite3.DatabaseError) and _is_damaged(error):
            self._move_aside()
        self._tell(f"records cannot be written to {self.path}: {self._why}")

    def _move_aside(self) -> None:
        aside = self.path.with_name(f"{self.path.stem}.corrupt-{time.time_ns()}{self.path.suffix}")
        try:
            self.path.rename(aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError as error:
            self._why = f"{self._why}; {error}"
        else:
            log.warning("the file of records was damaged; it is now %s and a new one begins", aside)

    def _drop(self, count: int, why: str) -> None:
        self._dropped += count
        self._untold += count
        self._tell(f"{self._dropped} records dropped: {self._why or why}")

    def _tell(self, text: str) -> None:
        """One line a minute at most: a full disk must not fill the log too."""
        now_s = time.monotonic()
        if now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            log.warning(text)


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    text = str(error).lower()
    return "malformed" in text or "not a database" in text or "corrupt" in text
