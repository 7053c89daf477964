"""``llm-router plan``: for a host or a size, from records or the mix, and which of them is told."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.cli.conftest import Invoke
from tests.cli.test_simulate import record

from llm_router.cli.plan import LEAST_TASKS
from llm_router.records.settings import RecordSettings
from llm_router.records.writer import Recorder
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json.md"


@pytest.fixture(autouse=True)
def nothing_of_a_person(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("LLM_ROUTER_RECORDS__PATH", str(folder / "records.sqlite3"))


def told(invoke: Invoke, *arguments: str) -> dict[str, Any]:
    result = invoke("plan", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def remember(folder: Path, number: int, *, hours_ago: float = 1.0) -> None:
    writer = Recorder(folder / "records.sqlite3", RecordSettings())
    begun_ns = time.time_ns() - int(hours_ago * 3600e9)
    for n in range(number):
        writer.put(replace(record(n), at_ns=begun_ns + n * 20_000_000_000))
    writer.close()


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys(item)}
    return {key for item in value for key in keys(item)} if isinstance(value, list) else set()


def test_every_key_is_documented(invoke: Invoke) -> None:
    page = set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text(encoding="utf-8")))
    found = keys(told(invoke, "--from", "mix", "--memory-gb", "31"))
    assert {"stays", "on_demand", "never_together", "saves", "why"} <= found
    assert found <= page, sorted(found - page)


def test_without_records_it_is_the_mix_and_that_is_told(invoke: Invoke) -> None:
    found = told(invoke, "--memory-gb", "112")
    assert (found["source"], found["host"], found["memory_gb"]) == ("mix", None, 112.0)
    assert "no records at" in found["source_why"]


def test_what_the_host_answers_at_a_time_is_planned_for(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place has a KV cache of its own: gpt-oss:20b needs 14 GB and 6.4 for each."""
    size = ("--from", "mix", "--memory-gb", "112", "--hours", "6")

    def needs_gb(found: dict[str, Any]) -> float:
        named = {m["model"]: m["memory_gb"] for m in (*found["stays"], *found["on_demand"])}
        return float(named["gpt-oss:20b"])

    one, three = told(invoke, *size), told(invoke, *size, "--parallel", "3")
    assert (one["parallel"], three["parallel"]) == (1, 3)
    assert needs_gb(three) - needs_gb(one) == pytest.approx(2 * 6.44, abs=0.2)
    monkeypatch.setenv("LLM_ROUTER_RESIDENCY__PARALLEL", "3")
    assert told(invoke, *size) == three
    title = invoke("plan", *size).stdout.splitlines()[0]
    assert title.endswith(", 3 answers of one at a time")


def test_how_many_models_the_host_holds_is_planned_for(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ("--from", "mix", "--memory-gb", "112", "--hours", "6")
    free = told(invoke, *size)
    assert free["max_loaded"] is None and len(free["stays"]) > 2
    monkeypatch.setenv("LLM_ROUTER_RESIDENCY__MAX_LOADED", "3")
    found = told(invoke, *size)
    assert found["max_loaded"] == 3
    assert len(found["stays"]) <= (2 if found["on_demand"] else 3)
    assert found["saves"]["plan"]["loads"] > free["saves"]["plan"]["loads"]
    assert invoke("plan", *size).stdout.splitlines()[0].endswith(" for models, 3 at a time")


def test_pins_are_part_of_the_plan(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    size = ("--from", "mix", "--hours", "6", "--memory-gb")
    monkeypatch.setenv("LLM_ROUTER_RESIDENCY__PINS", '["llama3.1:70b"]')
    found = told(invoke, *size, "112")
    assert [m["model"] for m in found["stays"] if m["pinned"]] == ["llama3.1:70b"]
    large = {"qwen2.5:72b", "deepseek-r1:70b", "command-r-plus"}  # 48 GB and more, and 47 are left
    assert not large & {m["model"] for m in found["on_demand"]}
    small = invoke("plan", *size, "67")
    assert small.exit_code == 0
    assert re.search(r"\d+ of \d+ tasks left out: no model may take them beside what is pinned", small.stderr)
    assert "pinned (residency.pins): 64 GB" in small.stdout
    none = invoke("plan", *size, "60")
    assert none.exit_code == 2 and "residency.pins do not fit 60 GB" in none.stderr


def test_a_pin_that_nobody_knows_is_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ROUTER_RESIDENCY__PINS", '["llama3.1:71b"]')
    result = invoke("plan", "--from", "mix", "--memory-gb", "112")
    assert result.exit_code == 2
    assert "residency.pins names 'llama3.1:71b'" in result.stderr and "llama3.1:70b" in result.stderr


def test_a_few_records_are_too_few_and_counted(invoke: Invoke, folder: Path) -> None:
    remember(folder, LEAST_TASKS - 1)
    found = told(invoke, "--memory-gb", "112")
    assert found["source"] == "mix"
    assert f"{LEAST_TASKS - 1} answered tasks, and {LEAST_TASKS} are needed" in found["source_why"]
    result = invoke("plan", "--memory-gb", "112", "--from", "records")
    assert result.exit_code == 2
    assert "no plan from the records" in result.stderr and "--from mix" in result.stderr


def test_records_of_the_hours_asked_for(invoke: Invoke, folder: Path) -> None:
    remember(folder, LEAST_TASKS, hours_ago=30)
    assert told(invoke, "--memory-gb", "112")["source"] == "mix"
    found = told(invoke, "--memory-gb", "112", "--hours", "48")
    assert (found["source"], found["tasks"]) == ("records", LEAST_TASKS)
    assert found["rate_per_s"] == pytest.approx(0.05, rel=1e-3)
    assert told(invoke, "--memory-gb", "112", "--hours", "48", "--from", "mix")["source"] == "mix"


def test_a_host_is_planned_for_with_what_it_has(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ("mistral:7b", "gemma2:9b", "qwen2.5:14b", "nomic-embed-text")
    with FakeOllama(fleet_models(here)).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        found = told(invoke, "--from", "mix")
    assert found["host"] == "ollama"
    named = {m["model"] for part in ("stays", "on_demand", "not_needed") for m in found[part]}
    assert named <= set(here)
    assert {m["model"] for m in found["stays"]} >= {"nomic-embed-text"}


def test_no_host_is_told_and_the_fleet_is_planned(invoke: Invoke, no_server: str) -> None:
    result = invoke("plan", "--from", "mix", "--hours", "6")
    assert result.exit_code == 0
    assert "no host to plan for (ollama: connection refused)" in result.stderr
    assert result.stdout.startswith("Plan for a box: 112 GB for models")


def test_an_unknown_host_is_misuse_with_the_known_ones(invoke: Invoke, no_server: str) -> None:
    result = invoke("plan", "--host", "spark-9")
    assert result.exit_code != 0
    assert "no Ollama host 'spark-9'" in result.stderr and "hosts: ollama" in result.stderr


@pytest.mark.parametrize("columns", ["40", "80", "100"])
def test_a_person_gets_sentences_in_the_width_there_is(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = invoke("plan", "--from", "mix", "--memory-gb", "31")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    labels = [line[2:10].strip() for line in lines if line.startswith("  ") and line[2] != " "]
    told = [label for label in labels if label != "unused"]  # only where some model has nothing to do
    assert told == ["fleet", "traffic", "stays", "on call", "apart", "saves"]
    assert all(len(line) <= int(columns) and line == line.rstrip() for line in lines)
    assert "\x1b" not in result.stdout


def test_tasks_that_nobody_may_take_are_told(invoke: Invoke) -> None:
    result = invoke("plan", "--from", "mix", "--memory-gb", "1", "--json")
    found = json.loads(result.stdout)
    assert f"{840 - found['tasks']} of 840 tasks left out: no model may take them" in result.stderr
    assert [m["model"] for m in found["stays"]] == ["nomic-embed-text"], "Mission Control has no room either"
