"""``python test_router.py``: what it asks, what it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import test_router

from llm_router.fleet import load_fleet
from llm_router.learn.leaks import texts_of
from llm_router.testing.fake_ollama import FakeOllama


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "test_results.json"


def test_every_category_has_at_least_four_cases_and_no_task_is_asked_twice() -> None:
    suite = test_router.load_suite()
    assert set(suite.cases) == set(load_fleet().categories)
    assert min(len(cases) for cases in suite.cases.values()) >= 4
    asked = [case.task for cases in (suite.routes, *suite.cases.values()) for case in cases]
    assert len(set(asked)) == len(asked)


def test_the_cases_bring_pictures_tools_schemas_long_texts_and_embedding_calls() -> None:
    cases = [case for listed in test_router.load_suite().cases.values() for case in listed]
    assert {word for case in cases for word in case.evidence} >= {"image", "tools", "schema", "embed"}
    assert max(case.request().estimate().tokens for case in cases) > 16_384


def test_no_acceptance_task_is_part_of_the_training_data() -> None:
    suite = test_router.load_suite()
    tasks = {case.task for cases in (suite.routes, *suite.cases.values()) for case in cases}
    tasks -= {case.task for case in suite.routes}
    training = Path(test_router.__file__).parent / "training"
    trained = {place.text for place in texts_of(training)}
    assert len(trained) > 1000
    assert tasks & trained == set()


def test_the_six_promised_routes_hold_without_any_host(
    nobody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test_router.main(["quick"]) == 0
    results = json.loads(nobody.read_text(encoding="utf-8"))
    assert results["summary"] == {"passed": 6, "failed": 0, "total": 6}
    assert [case["selected_model"] for case in results["cases"]] == [
        "llama3.2-vision:90b",
        "deepseek-r1:70b",
        "mistral:7b",
        "qwen2.5:14b",
        "command-r-plus",
        "gpt-oss:20b",
    ]
    assert [answer["status"] for answer in results["answers"]] == ["skipped"]
    assert "answers: 1 skipped" in capsys.readouterr().out


def test_the_smoke_test_asks_a_host_that_is_there(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOllama().in_thread() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert test_router.main(["quick"]) == 0
    results = json.loads(nobody.read_text(encoding="utf-8"))
    (answer,) = results["answers"]
    assert (answer["status"], answer["model"], answer["host"]) == ("ok", "mistral:7b", "ollama")
    assert results["hosts"][0]["models"] == 6


def test_a_route_that_fails_is_shown_and_ends_with_one(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = nobody.parent / "fleet.yaml"
    fleet.write_text(
        "extends: none\nmodels: {only: {size_gb: 1, params: 1B}}\n"
        "categories: {everything: {description: d, models: [{model: only, quality: 1}]}}",
        encoding="utf-8",
    )
    monkeypatch.setenv("LLM_ROUTER_FLEET", str(fleet))
    assert test_router.main(["quick"]) == 1
    assert json.loads(nobody.read_text(encoding="utf-8"))["summary"]["failed"] == 6
    assert "FAIL" in capsys.readouterr().out


def test_misuse_and_broken_settings_are_one_line_on_stderr(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test_router.main(["quikc"]) == 2
    monkeypatch.setenv("LLM_ROUTER_CONFIG", str(nobody.parent / "missing.yaml"))
    assert test_router.main([]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[0] == "usage: python test_router.py [quick]"
    assert told.err.splitlines()[1].startswith("error: ")
