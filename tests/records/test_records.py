"""Records are written beside the requests: never in their way, and nothing is lost in silence."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llm_router.answer import Attempt, Usage
from llm_router.errors import InvalidRequest, OutOfMemory
from llm_router.hosts.speeds import Measured
from llm_router.records.reader import Filter, NoRecords, NothingYet, Records, measured_before
from llm_router.records.record import RequestRecord
from llm_router.records.settings import RecordSettings
from llm_router.records.store import SCHEMA_VERSION, Store, row_of
from llm_router.records.writer import Recorder


def record(number: int = 0, *, text: str = "a task", status: int = 200, key: str = "") -> RequestRecord:
    failed = Attempt("phi4", "box", 0.1, OutOfMemory("phi4: out of memory"))
    return RequestRecord(
        request_id=f"r{number}",
        at_ns=time.time_ns(),
        endpoint="/api/chat",
        key=key,
        asked_model="auto",
        streamed=True,
        text=text,
        messages=1,
        images=0,
        tools=0,
        decision=None,
        attempts=(failed, Attempt("mistral:7b", "box", 1.0)),
        model="mistral:7b",
        host="box",
        status=status,
        error_code="",
        error="",
        gone=False,
        elapsed_s=1.25,
        first_token_s=0.5,
        usage=Usage(prompt_tokens=10, output_tokens=5, load_s=0.2),
        done_reason="stop",
    )


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it never came to hold"
        time.sleep(0.01)


def rows(path: Path, what: str = "*", table: str = "requests") -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        found = db.execute(f"SELECT {what} FROM {table} ORDER BY id").fetchall()
    db.close()
    return found


def test_what_is_put_down_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.sqlite3"
    recorder = Recorder(path, RecordSettings())
    for number in range(1200):
        recorder.put(record(number, status=200 if number % 2 else 503))
    recorder.close()
    assert recorder.problem is None
    with Records(path) as records:
        latest = records.latest(5)
        assert [row["request_id"] for row in latest] == [f"r{n}" for n in range(1195, 1200)]
        assert len(records.latest(5000, Filter(errors=True))) == 600
        assert records.latest(5, Filter(model="other")) == []
        assert latest[-1]["elapsed_ms"] == 1250
        assert latest[-1]["task"] is None
        assert latest[-1]["task_chars"] == 6
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_same_task_has_the_same_hash_here_and_another_elsewhere(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        store.write([row_of(record(text=text)) for text in ("same", "same", "other")])
        store.close()
        hashes.append([row[0] for row in rows(tmp_path / name, "task_hash")])
    assert hashes[0][0] == hashes[0][1] != hashes[0][2]
    assert hashes[0][0] != hashes[1][0]


def test_words_are_kept_only_where_the_settings_say_so(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", RecordSettings(keep_text=True))
    recorder.put(record(text="very secret " * 10_000))
    recorder.close()
    ((kept,),) = rows(tmp_path / "r", "task")
    assert str(kept).startswith("very secret")
    assert len(str(kept)) == 65_536


def test_a_killed_process_loses_a_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    program = (
        "import sys, time, pathlib\n"
        "from llm_router.records.writer import Recorder\n"
        "from llm_router.records.settings import RecordSettings\n"
        "from tests.records.test_records import record\n"
        "recorder = Recorder(pathlib.Path(sys.argv[1]), RecordSettings())\n"
        "n = 0\n"
        "while True:\n"
        "    recorder.put(record(n)); n += 1\n"
        "    print(n, time.monotonic(), flush=True); time.sleep(0.005)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert child.stdout is not None
    put: list[float] = []
    for line in child.stdout:
        put.append(float(line.split()[1]))
        if put[-1] - put[0] > 1.5:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    written = len(rows(path))
    assert written <= len(put) + 50
    older = [at for at in put if at < put[-1] - 1.0]
    assert written >= len(older) > 50
    recorder = Recorder(path, RecordSettings())
    recorder.put(record())
    recorder.close()
    assert len(rows(path)) == written + 1


def test_a_full_queue_drops_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    Store(path).close()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    recorder = Recorder(path, RecordSettings(queue=10))
    begun_s = time.monotonic()
    for number in range(1000):
        recorder.put(record(number))
    assert time.monotonic() - begun_s < 1.0
    problem = recorder.problem
    assert problem is not None
    assert problem.dropped == 990
    lock.execute("ROLLBACK")
    lock.close()
    until(lambda: recorder.waiting == 0)
    recorder.close()
    assert len(rows(path)) == 10
    (event,) = rows(path, "kind, text", "events")
    assert event == ("dropped", "990 records could not be written")


def test_one_that_cannot_be_put_into_words_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    recorder = Recorder(path, RecordSettings())
    good = replace(record(1), attempts=())
    for one in (good, replace(good, error="half a pair: \ud800"), replace(good, request_id="r2")):
        recorder.put(one)
    until(lambda: recorder.waiting == 0)
    problem = recorder.problem
    recorder.close()
    assert [row[0] for row in rows(path, "request_id")] == ["r1", "r2"]
    assert problem is not None
    assert problem.dropped == 1
    assert rows(path, "text", "events") == [("1 records could not be written",)]


def test_a_count_that_no_column_holds_costs_no_record(tmp_path: Path) -> None:
    path = tmp_path / "r"
    recorder = Recorder(path, RecordSettings())
    recorder.put(record(0))
    recorder.put(replace(record(1), usage=Usage(prompt_tokens=2**63, output_tokens=5)))
    recorder.put(record(2))
    recorder.close()
    assert recorder.problem is None
    assert rows(path, "prompt_tokens, output_tokens") == [(10, 5), (None, 5), (10, 5)]


def test_what_waits_to_be_written_keeps_no_failure_alive(tmp_path: Path) -> None:
    class Remembered(OutOfMemory):
        """Errors themselves cannot be referred to weakly."""

    path = tmp_path / "records.sqlite3"
    Store(path).close()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    recorder = Recorder(path, RecordSettings())
    error = Remembered("phi4: out of memory")
    held = weakref.ref(error)
    recorder.put(replace(record(1), attempts=(Attempt("phi4", "box", 0.1, error),)))
    del error
    assert held() is None
    assert recorder.waiting == 1
    lock.execute("ROLLBACK")
    lock.close()
    recorder.close()
    assert len(rows(path)) == 1


def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    path.write_bytes(b"this is no database at all, and never was" * 100)
    recorder = Recorder(path, RecordSettings())
    recorder.put(record(7))
    until(lambda: recorder.waiting == 0)
    recorder.close()
    assert [row[0] for row in rows(path, "request_id")] == ["r7"]
    (aside,) = tmp_path.glob("records.corrupt-*.sqlite3")
    assert aside.read_bytes().startswith(b"this is no database")


def test_a_file_that_is_deleted_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    recorder = Recorder(path, RecordSettings())
    recorder.put(record(1))
    until(lambda: recorder.waiting == 0)
    for part in tmp_path.glob("records.sqlite3*"):
        part.unlink()
    recorder.put(record(2))
    until(lambda: recorder.waiting == 0)
    recorder.close()
    assert [row[0] for row in rows(path, "request_id")] == ["r2"]


def test_a_place_that_cannot_be_written_is_a_problem_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file" / "records.sqlite3", RecordSettings())
    recorder.put(record())
    until(lambda: recorder.problem is not None)
    recorder.close(0.1)


def test_a_full_disk_is_told_and_over_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    program = (
        "import sys, time, pathlib, resource, signal\n"
        "from llm_router.records.writer import Recorder\n"
        "from llm_router.records.settings import RecordSettings\n"
        "from tests.records.test_records import record, until\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "recorder = Recorder(pathlib.Path(sys.argv[1]), RecordSettings())\n"
        "for n in range(3000): recorder.put(record(n))\n"
        "until(lambda: recorder.problem is not None)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "until(lambda: recorder.waiting == 0)\n"
        "recorder.close()\n"
        "assert recorder.problem is None, recorder.problem\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=Path.cwd(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(path)) == 3000


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    recorders = [Recorder(path, RecordSettings()) for _ in range(2)]

    def put(recorder: Recorder) -> None:
        for number in range(500):
            recorder.put(record(number))

    threads = [threading.Thread(target=put, args=(recorder,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for recorder in recorders:
        recorder.close()
    assert len(rows(path)) == 1000


def test_old_and_excess_records_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "r")
    store.write([row_of(record(n)) for n in range(1000)])
    assert store.tidy(max_age_days=1, max_bytes=10**9) == 0
    assert store.tidy(max_age_days=1, max_bytes=1000) == 100
    assert store.tidy(max_age_days=1e-9, max_bytes=10**9) == 900
    store.close()


def test_the_space_of_what_was_removed_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "r"
    store = Store(path)
    store.write([row_of(record(n)) for n in range(1000)])
    full = store.size_bytes()
    assert store.tidy(max_age_days=1e-9, max_bytes=10**9) == 1000
    store.close()  # the last to close a file writes into it what lay beside it
    assert path.stat().st_size < full / 4


def test_what_is_not_given_back_at_once_is_so_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_router.records.store._PAGES_AT_ONCE", 20)
    path = tmp_path / "r"
    store = Store(path)
    store.write([row_of(record(n)) for n in range(1000)])
    full = store.size_bytes()
    assert store.tidy(max_age_days=1e-9, max_bytes=10**9) == 1000
    for _ in range(30):
        assert store.tidy(max_age_days=1e-9, max_bytes=10**9) == 0
    store.close()
    assert path.stat().st_size < full / 4


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    recorder = Recorder(path, RecordSettings())
    recorder.put(record())
    until(lambda: recorder.problem is not None)
    recorder.close(0.1)
    assert rows(path) == []


def test_reading_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoRecords, match="no records at") as caught:
        Records(tmp_path / "none")
    assert "serve" in str(caught.value.hint)
    Store(tmp_path / "r").close()
    with Records(tmp_path / "r") as records:
        assert records.decision("0" * 32) is None
        for strange in ("abc", "' OR 1=1 --", "%%%%%%%%"):
            with pytest.raises(InvalidRequest):
                records.decision(strange)


def test_a_file_that_is_just_being_begun_holds_nothing_yet(tmp_path: Path) -> None:
    """Between its making and its tables it is empty; who looks just then is told no fault."""
    path = tmp_path / "records.sqlite3"
    path.touch()
    with pytest.raises(NothingYet, match="nothing was recorded yet"):
        Records(path)


def test_what_answers_taught_of_speeds_is_read_back_the_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    recorder = Recorder(path, RecordSettings())
    slow = Measured(decode_tokens_per_s=4.0)
    fast = Measured(load_s=3.0, prefill_tokens_per_s=900.0, decode_tokens_per_s=40.0)
    for one in (
        replace(record(1), served_as="mistral:7b", measured=slow),
        record(2),
        replace(record(3, status=499), served_as="mistral:7b", measured=slow),
        replace(record(4), served_as="phi4:latest", measured=fast),
    ):
        recorder.put(one)
    recorder.close()
    with Records(path) as records:
        assert records.measured(100) == [("box", "mistral:7b", slow), ("box", "phi4:latest", fast)]
        assert records.measured(1) == [("box", "phi4:latest", fast)]
    settings = RecordSettings(path=str(path))
    assert len(measured_before(settings)) == 2
    assert measured_before(RecordSettings(path=str(tmp_path / "none"))) == []
    assert measured_before(RecordSettings(path=str(path), enabled=False)) == []


def test_records_of_an_earlier_version_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    recorder = Recorder(path, RecordSettings())
    recorder.put(record())
    recorder.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE requests SET details = '{\"decision\": null}'")
    db.close()
    assert measured_before(RecordSettings(path=str(path))) == []
