"""docs/reference/records.md says what is in the file, and its queries run."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
from tests.records.test_records import record

from llm_router.records.store import SCHEMA_VERSION, Store, row_of

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "records.md").read_text(encoding="utf-8")


def file_with_a_record(folder: Path) -> sqlite3.Connection:
    path = folder / "records.sqlite3"
    store = Store(path)
    store.write([row_of(record(status=503)), row_of(record())])
    store.close()
    return sqlite3.connect(path)


def test_every_column_is_told_in_its_order(tmp_path: Path) -> None:
    with closing(file_with_a_record(tmp_path)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(requests)")]
    told = [
        name for cell in re.findall(r"^\| (`.*?`) \|", PAGE, re.M) for name in re.findall(r"`(\w+)`", cell)
    ]
    assert told == columns
    assert f"schema, now {SCHEMA_VERSION};" in PAGE


def test_every_member_of_the_details_is_told() -> None:
    assert {name for name in msgspec.json.decode(record().details()) if f"`{name}`" not in PAGE} == set()


def test_its_queries_run_and_find_something(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sql\n(.*?)^```", PAGE, re.M | re.S)
    queries = [query.strip() for block in blocks for query in block.split(";") if query.strip()]
    assert len(queries) == 4
    with closing(file_with_a_record(tmp_path)) as db:
        found = [db.execute(query).fetchall() for query in queries]
        assert all(found), queries
        (details,) = db.execute("SELECT details FROM requests LIMIT 1").fetchone()
    assert msgspec.json.decode(details)["attempts"][0]["model"] == "phi4"
