"""``llm-router doctor`` against a real server on loopback, and against none."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llm_router.classify.mission_prompt import PACKAGED
from llm_router.cli.app import app
from llm_router.config import user_directory
from llm_router.testing.fake_ollama import FLEET_NAMES, FakeOllama, Fault, fleet_models

Command = Callable[..., Result]


@pytest.fixture
def command() -> Command:
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama(fleet_models(FLEET_NAMES)).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")


def told(result: Result) -> dict[str, list[dict[str, Any]]]:
    """Findings by code."""
    by_code: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(result.stdout)["findings"]:
        by_code.setdefault(finding["code"], []).append(finding)
    return by_code


def test_a_whole_fleet_is_exit_code_0(server: FakeOllama, command: Command) -> None:
    result = command("doctor", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["ok"], report["problems"]) == (True, 0)
    findings = told(result)
    assert "environment: OLLAMA_HOST" in findings["address"][0]["text"]
    assert "Ollama 0.33.0 with 19 models" in findings["reachable"][0]["text"]
    assert {f["subject"] for f in findings["unusable"]} == {"llama3.2-vision:90b", "deepseek-v3"}
    assert {f["subject"] for f in findings["non_commercial"]} == {"command-r", "command-r-plus", "solar"}


def test_the_report_reads_without_colour(server: FakeOllama, command: Command) -> None:
    text = command("doctor").stdout
    lines = text.splitlines()
    assert "\x1b" not in text
    assert [line for line in lines if line and not line.startswith(" ")][:2] == ["settings", "hosts"]
    assert any(line.startswith("  ✓ ollama is Ollama 0.33.0") for line in lines)
    assert any(line.startswith("  ! solar answers korean_multilingual") for line in lines)
    assert any(line.startswith("    → ") for line in lines)
    assert lines[-1].startswith("no problems, ")
    assert max(len(line) for line in lines) <= 100


def test_no_server_is_exit_code_1_and_the_rest_is_reported(nowhere: None, command: Command) -> None:
    result = command("doctor", "--json")
    assert result.exit_code == 1
    findings = told(result)
    assert findings["unreachable"][0]["severity"] == "problem"
    assert "connection refused" in findings["unreachable"][0]["text"]
    assert {"part_crewai", "part_local", "stand_in", "wrong_language"} <= findings.keys()
    assert "✗ no answer from ollama at http://127.0.0.1:9" in command("doctor").stdout


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.REDIRECT])
def test_a_proxy_in_place_of_the_server_is_told(server: FakeOllama, command: Command, fault: Fault) -> None:
    server.fault(fault)
    result = command("doctor", "--json")
    assert result.exit_code == 1
    assert "11434" in told(result)["not_a_model_server"][0]["fix"]


def test_unknown_and_bad_variables_are_each_told_and_the_rest_still_counts(
    server: FakeOllama, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ROUTER_POLICY__PREFERR", "score")
    monkeypatch.setenv("LLM_ROUTER_POLICY__TIME_WEIGHT", "heavy")
    monkeypatch.setenv("LLM_ROUTER_POLICY__COMMERCIAL_ONLY", "true")
    result = command("doctor", "--json")
    assert result.exit_code == 1
    findings = told(result)
    texts = " ".join(finding["text"] for finding in findings["bad_settings"])
    assert len(findings["bad_settings"]) == 2
    assert ("LLM_ROUTER_POLICY__PREFERR" in texts, "time_weight" in texts) == (True, True)
    assert "reachable" in findings
    assert "commercial_only" in findings, "the good variable still counts"


def test_an_address_that_makes_no_sense_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "ftp://somewhere")
    result = command("doctor", "--json")
    assert result.exit_code == 1
    assert "ftp://somewhere" in told(result)["bad_settings"][0]["text"]


def test_broken_files_are_told_with_their_line(server: FakeOllama, command: Command, own_home: Path) -> None:
    folder = user_directory()
    assert folder.is_relative_to(own_home)
    folder.mkdir(parents=True)
    (folder / "fleet.yaml").write_text("version: 1\nmodells: {}\n")
    result = command("doctor", "--json")
    assert result.exit_code == 1
    findings = told(result)
    assert "fleet.yaml:2" in findings["bad_settings"][0]["text"]
    assert "models" in findings["bad_settings"][0]["fix"]
    assert "reachable" in findings
    (folder / "fleet.yaml").unlink()
    (folder / "config.yaml").write_text("hosts: 7\n")
    findings = told(command("doctor", "--json"))
    assert "config.yaml" in findings["bad_settings"][0]["text"]


def test_files_in_use_are_listed(server: FakeOllama, command: Command, own_home: Path) -> None:
    assert command("init", "--memory-gb", "112").exit_code == 0
    findings = told(command("doctor", "--json"))
    assert findings["file"][0]["subject"].endswith("fleet.yaml")
    assert "found in the user directory" in findings["file"][0]["text"]
    assert "unserved" not in findings


def test_a_model_loaded_by_another_program_with_another_context_is_told(
    server: FakeOllama, command: Command
) -> None:
    body = json.dumps({"model": "phi4", "prompt": "hi", "stream": False, "options": {"num_ctx": 2048}})
    urllib.request.urlopen(f"{server.url}/api/generate", data=body.encode(), timeout=10).close()
    (finding,) = told(command("doctor", "--json"))["context_mismatch"]
    assert ("2,048" in finding["text"], "8,192" in finding["text"]) == (True, True)


def test_a_prompt_of_the_users_is_listed_and_a_broken_one_is_a_problem_with_its_line(
    server: FakeOllama, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = resources.files("llm_router.data").joinpath(PACKAGED).read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(shipped, encoding="utf-8")
    monkeypatch.setenv("LLM_ROUTER_CLASSIFY__MISSION_CONTROL__PROMPT", str(own))
    result = command("doctor", "--json")
    assert result.exit_code == 0
    assert (
        "Mission Control's prompt"
        in next(f for f in told(result)["file"] if f["subject"] == str(own))["text"]
    )
    shown = command("config", "show", "--json").stdout
    assert str(own) in shown
    own.write_text(shipped.replace("{conversation}\n\n", "\n\n"), encoding="utf-8")
    result = command("doctor", "--json")
    assert result.exit_code == 1
    assert f"{own}:" in told(result)["bad_settings"][0]["text"]
    assert "{conversation}" in told(result)["bad_settings"][0]["text"]
    assert command("route", "hello").exit_code == 2
