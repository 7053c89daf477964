"""``llm-router route --requests``: many bodies in, as many decisions out, in order, whatever they are."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import JSON_TASK, Invoke

from llm_router.cli.route_many import Lines
from llm_router.testing.fake_ollama import FakeOllama


def openai(text: str) -> str:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]})


def rows(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_each_line_gets_its_decision_in_order(fleet_server: FakeOllama, invoke: Invoke, folder: Path) -> None:
    file = folder / "requests.jsonl"
    bodies = [
        openai(JSON_TASK),
        json.dumps({"model": "auto", "input": "a text to embed"}),
        json.dumps({"model": "phi4", "prompt": "hello"}),
        json.dumps({"model": "gemma2:9b", "messages": [{"role": "user", "content": "hello"}]}),
    ]
    file.write_text("\n".join(bodies), encoding="utf-8")
    result = invoke("route", "--requests", str(file))
    assert result.exit_code == 0, result.output
    answers = [row["answer_model"] for row in rows(result.stdout)]
    assert answers == ["qwen2.5:14b", "nomic-embed-text", "phi4", "gemma2:9b"]
    assert result.stderr.startswith("4 decisions in ")


def test_a_line_decides_as_the_task_alone_does(fleet_server: FakeOllama, invoke: Invoke) -> None:
    (row,) = rows(invoke("route", "--requests", "-", stdin=openai(JSON_TASK)).stdout)
    alone = json.loads(invoke("route", "--json", JSON_TASK).stdout)
    changing = {"decision_id", "elapsed_ms", "stages"}
    assert {k: v for k, v in row.items() if k not in changing} == {
        k: v for k, v in alone.items() if k not in changing
    }


def test_a_bad_line_is_an_error_in_its_place_and_the_run_goes_on(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    lines = [
        openai("hello").encode(),
        b"no json",
        b"",
        b'{"model": "phi5", "prompt": "x"}',
        b'{"prompt": "\xff"}',
        b"[" * 5000,
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"{}",
        b'{"messages": [{"role": "user", "content": ""}]}',
        openai("hello").encode(),
    ]
    result = invoke("route", "--requests", "-", stdin=b"\r\n".join(lines))
    told = rows(result.stdout)
    assert result.exit_code == 1
    assert [row.get("line") for row in told] == [None, 2, 4, 5, 6, 7, 8, 9, None]
    assert all(row["error"]["hint"] for row in told if "error" in row)
    assert told[2]["error"] == {
        "code": "unknown_model",
        "message": "unknown model 'phi5': neither the fleet file nor a reachable host has it",
        "hint": "did you mean 'phi4'?",
    }
    assert result.stderr.count("\n") == 2, "one line and its hint"
    assert result.stderr.startswith("warning: 7 of 9 lines are no requests")
    assert "line 2: " in result.stderr


def test_an_empty_file_is_no_failure(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("route", "--requests", "-", stdin=b"")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_missing_file_is_misuse(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("route", "--requests", "nowhere.jsonl")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: cannot read nowhere.jsonl: No such file or directory",
        "hint: check the path after --requests",
    ]


def test_a_task_beside_a_file_is_misuse(fleet_server: FakeOllama, invoke: Invoke) -> None:
    assert invoke("route", "--requests", "-", "hello").exit_code == 2


class Chunks(io.BytesIO):
    """A stream that gives what the test wants at each read."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self._chunks = list(chunks)

    def read1(self, size: int | None = -1, /) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


def test_lines_are_whole_however_they_arrive() -> None:
    lines = Lines(Chunks(b"on", b"e\ntwo\nth", b"ree\n", b"\nfive"))
    assert list(lines.batches()) == [
        [],
        [(1, b"one"), (2, b"two")],
        [(3, b"three")],
        [(4, b"")],
        [(5, b"five")],
    ]


def test_a_line_beyond_the_limit_is_skipped_and_not_kept() -> None:
    lines = Lines(Chunks(b"x" * 8, b"x" * 8, b"x\nok\n"), max_line_bytes=10)
    assert [line for batch in lines.batches() for line in batch] == [(1, None), (2, b"ok")]
