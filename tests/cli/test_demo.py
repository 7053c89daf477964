"""``llm-router demo``: all six routes, real answers, and an honest exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

from llm_router.cli.demo import EXAMPLES, MAX_TOKENS
from llm_router.testing.fake_ollama import FakeOllama, Fault


def test_six_routes_and_two_answers_on_a_whole_fleet(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("demo")
    assert result.exit_code == 0, result.output
    text = result.stdout
    for example in EXAMPLES:
        assert f"“{example.task}”" in text
    for route in ("max_reasoning → deepseek-r1:70b", "max_rag → command-r-plus", "simple_chat → mistral:7b"):
        assert route in text
    assert "max_vision → apriel-1.5-15b-thinker" in text and "llama3.2-vision:90b loads only below" in text
    assert "mistral:7b heard: What's 2+2?\n" in text
    assert "qwen2.5:14b heard: Generate JSON schema" in text
    assert "6 of 6 as the fleet's owner wants them" in text
    assert "by qwen2.5:14b on ollama" in text
    limits = [r.body["options"]["num_predict"] for r in fleet_server.requests if r.path == "/api/chat"]
    assert limits == [MAX_TOKENS, MAX_TOKENS]


def test_nothing_that_answers_is_a_failure(no_server: str, invoke: Invoke) -> None:
    result = invoke("demo")
    assert result.exit_code == 1
    assert "6 of 6 as the fleet's owner wants them" in result.stdout
    assert "none: nothing here could answer" in result.stdout
    assert result.stderr.count("error: no model here can answer") == 2


def test_one_answer_of_two_is_told_and_enough(fleet_server: FakeOllama, invoke: Invoke) -> None:
    fleet_server.fault(Fault.DROP_MID_STREAM, model="qwen2.5:14b", after=1)
    result = invoke("demo")
    assert result.exit_code == 0
    assert "answers   “What's 2+2?” by mistral:7b on ollama" in result.stdout
    assert "error: " in result.stderr


def test_the_demo_as_json_is_one_document_and_talks_on_stderr(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    fleet_server.fault(Fault.DROP_MID_STREAM, model="qwen2.5:14b", after=1)
    result = invoke("demo", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["routed"]) == (0, True, 6)
    assert [route["decision"]["category"] for route in told["routes"]] == [
        route["wanted"] for route in told["routes"]
    ]
    good, broken = told["answers"]
    assert good["answer"]["result"] and good["error"] is None
    assert broken["answer"] is None and broken["error"]["code"] == "stream_broken"
    assert "What happened" in result.stderr


def test_a_fleet_without_the_categories_is_a_failure_that_says_so(
    fleet_server: FakeOllama, invoke: Invoke, folder: Path
) -> None:
    own = folder / "own.yaml"
    own.write_text(
        "extends: none\n"
        "models: {phi4: {size_gb: 9, params: 14B}}\n"
        "categories: {everything: {description: all there is, models: [{model: phi4, quality: 0.5}]}}\n",
        encoding="utf-8",
    )
    result = invoke("--fleet", str(own), "demo")
    assert result.exit_code == 1
    assert "0 of 6 as the fleet's owner wants them" in result.stdout
    assert "the fleet has no category max_vision" in " ".join(result.stdout.split())


@pytest.mark.embedded
def test_without_any_host_the_embedded_model_answers(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    result = invoke("demo")
    assert result.exit_code == 0, result.output
    assert "6 of 6 as the fleet's owner wants them" in result.stdout
    assert "mistral:7b is not reachable here → answered by embedded smollm2:135m\n" in result.stdout
    assert result.stdout.count("by embedded smollm2:135m\n") >= 4
