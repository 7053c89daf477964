"""Reading the records: the latest, one decision, or what is new."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.hosts.speeds import Measured
from llm_router.records.settings import RecordSettings
from llm_router.request import JsonObject

LEAST_ID_CHARS = 6
REMEMBERED = 2000
"""Records that are read for what they tell of speeds: enough for every model that is in use."""

_NS = 1_000_000_000
_COLUMNS = (
    "id, request_id, decision_id, at_ns, key, category, stage, confidence, model, host, status, error, "
    "elapsed_ms, first_token_ms, prompt_tokens, output_tokens, task_chars, task"
)


class NoRecords(LLMRouterError):
    """There is no file of records, or it cannot be read."""

    code = "no_records"
    http_status = 404


class NothingYet(NoRecords):
    """Nothing was recorded so far; what writes may just be beginning the file."""


class _Timed(msgspec.Struct):
    """Of the details, what ``measured`` needs."""

    served_as: str = ""
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted; None means all."""

    category: str | None = None
    model: str | None = None
    key: str | None = None
    errors: bool = False
    since_s: float | None = None


def records_path(settings: RecordSettings) -> Path:
    """Where the records are."""
    if settings.path is not None:
        return Path(settings.path).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_dir("llm-router", appauthor=False)) / "records.sqlite3"


class Records:
    """An open file of records, for reading. Raises NoRecords, and NothingYet where nobody has written any."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise _nothing_yet(path)
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0, check_same_thread=False
            )
            self._db.row_factory = sqlite3.Row
            begun = self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
            if begun:
                self._db.execute("SELECT id FROM requests LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        if not begun:
            self._db.close()
            raise _nothing_yet(path)
        self._path = path

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def latest(self, limit: int, wanted: Filter | None = None, *, after_id: int = 0) -> list[JsonObject]:
        """The last ``limit`` records, the oldest of them first, without their details."""
        conditions, values = _conditions(wanted or Filter(), after_id)
        query = f"SELECT {_COLUMNS} FROM requests{conditions} ORDER BY id DESC LIMIT ?"  # noqa: S608
        rows = self._all(query, (*values, limit))
        return [dict(row) for row in reversed(rows)]

    def measured(self, limit: int) -> list[tuple[str, str, Measured]]:
        """What the last ``limit`` answers told of the speed of their models, the oldest first: the host, its
        own name of the model, and the samples."""
        query = "SELECT host, details FROM requests WHERE status = 200 ORDER BY id DESC LIMIT ?"
        found = []
        for row in reversed(self._all(query, (limit,))):
            try:
                told = msgspec.json.decode(row["details"], type=_Timed)
            except msgspec.MsgspecError:
                continue
            if told.measured is not None and told.served_as:
                found.append((str(row["host"]), told.served_as, told.measured))
        return found

    def answers(self, since_s: float) -> dict[tuple[str, str], int]:
        """How many answers each host gave by each model since then (wall clock)."""
        query = "SELECT host, model, count(*) AS n FROM requests WHERE status=200 AND at_ns>=? GROUP BY 1, 2"
        rows = self._all(query, (int(since_s * _NS),))
        return {(str(row["host"]), str(row["model"])): int(row["n"]) for row in rows}

    def decision(self, decision_id: str) -> JsonObject | None:
        """Everything about one decision, by its id or the beginning of it; None where there is none.

        Raises InvalidRequest where the beginning is too short or fits several.
        """
        wanted = decision_id.lower().strip()
        if len(wanted) < LEAST_ID_CHARS or not wanted.isalnum():
            raise InvalidRequest(
                f"cannot look up {decision_id[:60]!r}",
                why=f"the beginning of a decision's id has {LEAST_ID_CHARS} letters and digits or more",
                hint="see the ids with: llm-router logs",
            )
        query = f"SELECT {_COLUMNS}, details FROM requests WHERE decision_id >= ? AND decision_id < ? LIMIT 2"  # noqa: S608
        rows = self._all(query, (wanted, wanted + "g"))
        if not rows:
            return None
        if len(rows) > 1 and rows[0]["decision_id"] != rows[1]["decision_id"]:
            raise InvalidRequest(
                f"{decision_id!r} is the beginning of several ids", why="", hint="give more of it"
            )
        row: dict[str, Any] = dict(rows[-1])
        details = msgspec.json.decode(row.pop("details"))
        return {**row, **details}

    def follow(self, wanted: Filter, *, every_s: float = 0.5) -> Iterator[JsonObject]:
        """New records as they come, without an end."""
        last = max((int(str(row["id"])) for row in self.latest(1)), default=0)
        while True:
            for row in self.latest(1000, wanted, after_id=last):
                last = int(str(row["id"]))
                yield row
            time.sleep(every_s)

    def _all(self, query: str, values: tuple[object, ...]) -> list[sqlite3.Row]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(self._path, error) from error


def measured_before(settings: RecordSettings) -> list[tuple[str, str, Measured]]:
    """What the latest records tell of the speed of hosts, as ``Router.learn`` takes it; nothing where there
    are none."""
    if not settings.enabled:
        return []
    try:
        with Records(records_path(settings)) as records:
            return records.measured(REMEMBERED)
    except NoRecords:
        return []


def answers_before(settings: RecordSettings, hours: float = 24.0) -> dict[tuple[str, str], int]:
    """How many answers each host gave by each model in the last hours; nothing where there are no records."""
    if not settings.enabled:
        return {}
    try:
        with Records(records_path(settings)) as records:
            return records.answers(time.time() - hours * 3600)
    except NoRecords:
        return {}


def _conditions(wanted: Filter, after_id: int) -> tuple[str, tuple[object, ...]]:
    tests: Mapping[str, object] = {
        "category = ?": wanted.category,
        "model = ?": wanted.model,
        "key = ?": wanted.key,
        "at_ns >= ?": None if wanted.since_s is None else int(wanted.since_s * _NS),
        "id > ?": after_id or None,
    }
    used = {test: value for test, value in tests.items() if value is not None}
    parts = [*used, *(["status >= 400"] if wanted.errors else [])]
    return (" WHERE " + " AND ".join(parts) if parts else ""), tuple(used.values())


def _nothing_yet(path: Path) -> NothingYet:
    return NothingYet(
        f"no records at {path}",
        why="nothing was recorded yet",
        hint="records are written by: llm-router serve",
    )


def _unreadable(path: Path, error: sqlite3.Error) -> NoRecords:
    return NoRecords(
        f"cannot read the records at {path}", why=str(error), hint="see whether another program damaged it"
    )
