"""The file: its tables, how a batch is written, what is removed when it grows old or large."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from llm_router.records.record import RequestRecord

SCHEMA_VERSION = 1
MAX_TEXT_CHARS = 65_536
_LARGEST = 2**63 - 1
"""The largest whole number that SQLite has."""
_NS = 1_000_000_000
_PAGES_AT_ONCE = 1000
_PAGE_BYTES = 8192
"""A record has about 2.7 kB. Of SQLite's usual 4096 every one would fill a page and leave a third empty."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    decision_id TEXT,
    at_ns INTEGER NOT NULL,
    key TEXT NOT NULL,
    category TEXT,
    stage TEXT,
    confidence REAL,
    model TEXT NOT NULL,
    host TEXT NOT NULL,
    status INTEGER NOT NULL,
    error TEXT NOT NULL,
    elapsed_ms REAL NOT NULL,
    first_token_ms REAL,
    prompt_tokens INTEGER,
    output_tokens INTEGER,
    task_hash BLOB NOT NULL,
    task_chars INTEGER NOT NULL,
    task TEXT,
    details BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_by_decision ON requests (decision_id);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (at_ns);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
);
"""

_ONE_ROW = f"(NULL{', ?' * 19})"
MOST_AT_ONCE = 100
"""Rows of one statement. While it runs the interpreter is free, so few large ones disturb requests least."""

Row = tuple[object, ...]
_TASK = 15
"""Place of the task's text in a row that is not written yet; its hash stands there in the file."""


class TooNew(Exception):
    """The file was written by a later version of this program."""


def row_of(record: RequestRecord) -> Row:
    """A record as it is written; its words are put together here, and nothing else is kept alive by them."""
    decision = record.decision
    return (
        record.request_id,
        decision.decision_id if decision is not None else None,
        record.at_ns,
        record.key,
        decision.category if decision is not None else None,
        decision.classification.stage if decision is not None else None,
        decision.confidence if decision is not None else None,
        record.model,
        record.host,
        record.status,
        record.error_code,
        record.elapsed_s * 1000,
        None if record.first_token_s is None else record.first_token_s * 1000,
        _count(record.usage.prompt_tokens),
        _count(record.usage.output_tokens),
        record.text,
        record.details(),
    )


def _count(told: int | None) -> int | None:
    """What a host counted; None for what no column holds, which would cost all records of its batch."""
    return told if told is not None and abs(told) <= _LARGEST else None


class Store:
    """An open file of records. Every method may raise ``sqlite3.Error`` or OSError."""

    def __init__(self, path: Path, *, keep_text: bool = False, busy_s: float = 2.0) -> None:
        self.path = path
        self._keep_text = keep_text
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        # The first two are of a new file, before anything is in it; one that is there keeps its own.
        self._db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._pragma("user_version")
        if version > SCHEMA_VERSION:
            raise TooNew(f"its schema is {version}, this program knows {SCHEMA_VERSION}")
        self._db.executescript(f"BEGIN; {_TABLES} COMMIT")  # who reads sees all tables or none
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('hash_key', ?)", (os.urandom(32),))
        (self._hash_key,) = self._db.execute("SELECT value FROM meta WHERE name='hash_key'").fetchone()

    def write(self, rows: Sequence[Row], events: Sequence[tuple[int, str, str]] = ()) -> None:
        """One transaction of rows as ``row_of`` makes them; ``events`` are (wall clock ns, kind, text)."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for first in range(0, len(rows), MOST_AT_ONCE):
                some = [self._hashed(row) for row in rows[first : first + MOST_AT_ONCE]]
                insert = f"INSERT INTO requests VALUES {', '.join([_ONE_ROW] * len(some))}"  # noqa: S608
                self._db.execute(insert, tuple(chain.from_iterable(some)))
            if events:
                self._db.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?)", events)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _hashed(self, row: Row) -> Row:
        task = str(row[_TASK])
        digest = hashlib.blake2b(task.encode("utf-8", "replace"), key=self._hash_key, digest_size=16).digest()
        kept = task[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode() if self._keep_text else None
        return (*row[:_TASK], digest, len(task), kept, row[_TASK + 1])

    def tidy(self, *, max_age_days: float, max_bytes: int) -> int:
        """Removes what is too old, and the oldest tenth where the file is too large; gives how many rows.

        Some of the space that is free, by this or from before, is given back to the file system.
        """
        oldest_ns = time.time_ns() - int(max_age_days * 86_400 * _NS)
        removed = self._db.execute("DELETE FROM requests WHERE at_ns < ?", (oldest_ns,)).rowcount
        self._db.execute("DELETE FROM events WHERE at_ns < ?", (oldest_ns,))
        if self.size_bytes() > max_bytes:
            (count,) = self._db.execute("SELECT count(*) FROM requests").fetchone()
            removed += self._db.execute(
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests ORDER BY id LIMIT ?)",
                (max(1, count // 10),),
            ).rowcount
        if self._pragma("freelist_count"):
            # Not by `execute`, which takes a single step where there are no columns: that is one page.
            self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
        return removed

    def size_bytes(self) -> int:
        """What the rows fill; space that was freed and not given back does not count."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def close(self) -> None:
        self._db.close()
