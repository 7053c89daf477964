"""``llm-router simulate``: figures for people and programs, pictures, traces in and out, misuse told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Invoke

from llm_router.answer import Usage
from llm_router.decision import Classification, Decision, Ranking
from llm_router.records.record import RequestRecord
from llm_router.records.settings import RecordSettings
from llm_router.records.writer import Recorder
from llm_router.simulate.strategies import POLICIES

KEYS = [
    "policy",
    "rate_per_s",
    "requests",
    "mean_s",
    "p50_s",
    "p95_s",
    "p99_s",
    "ttft_p95_s",
    "loads",
    "loaded_gb",
    "quality",
    "gb_s",
]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json.md"


@pytest.fixture(autouse=True)
def no_settings_of_a_person(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))


def runs(invoke: Invoke, *arguments: str) -> list[dict[str, Any]]:
    result = invoke("simulate", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert list(told) == ["runs"]
    return list(told["runs"])


def test_json_has_a_run_for_each_rate_and_policy_with_exactly_these_keys(invoke: Invoke) -> None:
    found = runs(invoke, "--rates", "0.01,0.02", "--requests", "60")
    assert [(run["rate_per_s"], run["policy"]) for run in found] == [
        (rate, policy) for rate in (0.01, 0.02) for policy in POLICIES
    ]
    assert all(list(run) == KEYS for run in found)
    assert {run["requests"] for run in found} == {60}
    for run in found:
        assert 0 < run["p50_s"] <= run["p95_s"] <= run["p99_s"]
        assert run["ttft_p95_s"] <= run["p95_s"]
        assert run["loads"] > 0 and run["loaded_gb"] > 0 and run["gb_s"] > 0


def test_the_policies_that_others_count_on_are_there() -> None:
    assert {"always_best", "fixed_map", "oracle"} <= set(POLICIES)


def test_every_key_is_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert {"runs", *KEYS} <= set(re.findall(r"`([a-z0-9_]+)`", page))


def test_the_seed_decides_the_figures(invoke: Invoke) -> None:
    arguments = ("--rates", "0.02", "--requests", "80", "--policies", "fixed_map")
    assert runs(invoke, *arguments) == runs(invoke, *arguments)
    assert runs(invoke, *arguments) != runs(invoke, *arguments, "--seed", "2")


def test_without_a_trace_the_day_goes_past_what_the_map_can_do(invoke: Invoke) -> None:
    found = runs(invoke, "--policies", "fixed_map", "--hours", "12")
    means = [run["mean_s"] for run in found]
    assert len(means) >= 4
    assert means == sorted(means)
    assert means[-1] > 20 * means[0]


def test_a_map_loads_for_about_every_second_request(invoke: Invoke) -> None:
    (run,) = runs(invoke, "--rates", "0.01", "--requests", "4000", "--policies", "fixed_map")
    assert 0.4 < run["loads"] / run["requests"] < 0.7


def test_a_person_gets_a_table(invoke: Invoke) -> None:
    result = invoke("simulate", "--rates", "0.01", "--requests", "30", "--policies", "fixed_map,always_best")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["policy", "rate/s", "tasks"]
    assert [line.split()[0] for line in lines[1:]] == ["fixed_map", "always_best"]
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture(invoke: Invoke, folder: Path, ending: str) -> None:
    if ending == "png":
        pytest.importorskip("PIL")
    out = folder / f"day.{ending}"
    result = invoke(
        "simulate", "--requests", "20", "--rates", "0.01,0.02", "--policies", "fixed_map", "--plot", str(out)
    )
    assert result.exit_code == 0, result.stderr
    assert f"wrote {out}" in result.stderr
    assert out.read_bytes().startswith(b"<svg" if ending == "svg" else b"\x89PNG")


def test_a_written_trace_gives_the_same_figures(invoke: Invoke, folder: Path) -> None:
    path = folder / "day.jsonl"
    drawn = runs(invoke, "--rates", "0.02", "--requests", "50", "--write-trace", str(path))
    read = runs(invoke, str(path))
    for one, other in zip(drawn, read, strict=True):
        one.pop("rate_per_s"), other.pop("rate_per_s")  # of a trace it is what really came
        assert one == other


def test_a_trace_at_other_rates(invoke: Invoke, folder: Path) -> None:
    path = folder / "day.jsonl"
    runs(invoke, "--rates", "0.02", "--requests", "50", "--policies", "fixed_map", "--write-trace", str(path))
    found = runs(invoke, str(path), "--rates", "0.005,0.05", "--policies", "fixed_map")
    assert [run["rate_per_s"] for run in found] == [0.005, 0.05]
    assert found[0]["mean_s"] < found[1]["mean_s"]


def decision(category: str) -> Decision:
    kind = Classification(category, 1.0, "explicit", {category: 1.0})
    return Decision(kind, "qwen2.5:14b", Ranking(), (), "14B", 9.0, 500, decision_id="ab" * 16)


def test_the_records_of_a_gateway_are_a_trace(invoke: Invoke, folder: Path) -> None:
    path = folder / "records.sqlite3"
    writer = Recorder(path, RecordSettings())
    for number in range(20):
        writer.put(record(number))
    writer.close()
    (run,) = runs(invoke, str(path), "--policies", "fixed_map")
    assert run["requests"] == 20
    assert run["rate_per_s"] == 0.1


def record(number: int) -> RequestRecord:
    return RequestRecord(
        request_id=f"r{number}",
        at_ns=1_800_000_000_000_000_000 + number * 10_000_000_000,
        endpoint="/v1/chat/completions",
        key="",
        asked_model="auto",
        streamed=False,
        text="words",
        messages=1,
        images=0,
        tools=0,
        decision=decision("structured_data"),
        attempts=(),
        model="qwen2.5:14b",
        host="box",
        status=200,
        error_code="",
        error="",
        gone=False,
        elapsed_s=1.0,
        first_token_s=0.5,
        usage=Usage(prompt_tokens=200, output_tokens=100),
        done_reason="stop",
    )


def test_what_no_model_may_take_is_left_out_and_told(invoke: Invoke, folder: Path) -> None:
    path = folder / "day.jsonl"
    line = '{{"at_s": {0}, "category": "simple_chat", "prompt_tokens": {1}, "output_tokens": 10}}\n'
    path.write_text(line.format(0, 40) + line.format(9, 900_000), encoding="utf-8")
    result = invoke("simulate", str(path), "--policies", "fixed_map", "--json")
    assert json.loads(result.stdout)["runs"][0]["requests"] == 1
    assert "1 of 2 tasks left out" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--policies", "fixed_mapp"), "did you mean 'fixed_map'"),
        (("--policies", ","), "policies are"),
        (("--rates", "fast"), "no rate such as 0.01"),
        (("--rates", "0"), "no rate such as 0.01"),
        (("--hours", "1", "--requests", "5"), "leave one of them out"),
        (("--rates", "0.0001", "--hours", "0.01"), "give more --hours"),
        (("--plot", "day.gif"), "use one of .svg, .png"),
        (("no-such-file",), "cannot read no-such-file"),
        (("--parallel", "0"), "--parallel"),
    ],
)
def test_misuse_is_told_in_a_line_and_a_hint(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(folder)
    result = invoke("simulate", *arguments)
    assert result.exit_code == 2, result.stderr
    assert told in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.stderr


def test_hours_say_nothing_of_a_trace(invoke: Invoke, folder: Path) -> None:
    path = folder / "day.jsonl"
    path.write_text(
        '{"at_s": 0, "category": "simple_chat", "prompt_tokens": 40, "output_tokens": 10}\n', encoding="utf-8"
    )
    result = invoke("simulate", str(path), "--hours", "1")
    assert result.exit_code == 2
    assert "tasks that are drawn" in result.stderr


def test_nothing_can_take_anything_on_a_tiny_box(invoke: Invoke, folder: Path) -> None:
    path = folder / "day.jsonl"
    path.write_text(
        '{"at_s": 0, "category": "long_context", "prompt_tokens": 20000, "output_tokens": 10}\n',
        encoding="utf-8",
    )
    result = invoke("simulate", str(path), "--memory-gb", "2")
    assert result.exit_code == 2
    assert "no model of the fleet may take any" in result.stderr


def test_a_damaged_file_of_records_is_told(invoke: Invoke, folder: Path) -> None:
    path = folder / "records.sqlite3"
    path.write_bytes(b"SQLite format 3\0" + b"x" * 200)
    result = invoke("simulate", str(path))
    assert result.exit_code != 0
    assert "cannot read the records" in result.stderr
