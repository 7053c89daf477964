"""``models``, ``categories``, ``config`` and ``plot``: what there is, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

from llm_router.config import user_directory
from llm_router.testing.fake_ollama import FLEET_NAMES, FakeModel, FakeOllama, fleet_models


def states(invoke: Invoke) -> dict[str, dict[str, object]]:
    return {model["name"]: model for model in json.loads(invoke("models", "--json").stdout)["models"]}


def test_models_without_a_host_are_unknown_except_those_that_can_never_run(
    no_server: str, invoke: Invoke
) -> None:
    result = invoke("models")
    assert result.exit_code == 0
    assert (
        result.stderr.splitlines()[0] == f"warning: no answer from ollama at {no_server}: connection refused"
    )
    assert result.stderr.count("warning: ") == 1
    told = states(invoke)
    assert len(told) == 19
    assert told["deepseek-v3"]["state"] == "unusable" and "needs 40" in str(told["deepseek-v3"]["why"])
    assert {model["state"] for name, model in told.items() if name != "deepseek-v3"} == {"unknown"}


def test_models_on_a_host_are_installed_resident_or_unusable(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    assert invoke("ask", "-q", "--model", "phi4", "hello").exit_code == 0
    told = states(invoke)
    assert told["phi4"]["state"] == "resident"
    assert told["gemma2:9b"]["state"] == "installed"
    assert told["deepseek-v3"]["state"] == "unusable"
    assert told["llama3.2-vision:90b"]["state"] == "unusable"
    assert "0.33.0" in str(told["llama3.2-vision:90b"]["why"])
    assert {name for name, model in told.items() if not model["commercial"]} == {
        "command-r",
        "command-r-plus",
        "solar",
    }


def test_the_table_of_models_has_a_line_for_each_and_says_why_below(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    result = invoke("models")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["model", "size", "params", "serves", "state"]
    assert sorted(line.split()[0] for line in lines[1:20]) == sorted(FLEET_NAMES)
    assert any(line.startswith("command-r-plus *") for line in lines)
    assert "  unusable  llama3.2-vision:90b: loads only below Ollama 0.30.0, ollama has 0.33.0" in lines
    assert any("deepseek-v3: needs 405 GB" in line for line in lines)
    assert not [line for line in lines if line != line.rstrip()]


@pytest.fixture
def sparse_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    """A host with one model of the fleet and one that the fleet does not list."""
    with FakeOllama((*fleet_models(["phi4"]), FakeModel("own-model:3b"))).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
        yield running


def test_models_that_only_a_host_knows_stand_in_a_group_of_their_own(
    sparse_server: FakeOllama, invoke: Invoke
) -> None:
    lines = invoke("models").stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("Also installed"))
    assert lines[heading + 2].split()[0] == "own-model:3b"
    told = json.loads(invoke("models", "--json").stdout)
    assert [model["name"] for model in told["unlisted"]] == ["own-model:3b"]
    assert told["hosts"][0]["installed"] == 2
    assert told["stand_in"] == {
        "name": "smollm2:135m",
        "available": False,
        "why": "routing.stand_in is never",
    }


def test_what_is_not_installed_says_so(sparse_server: FakeOllama, invoke: Invoke) -> None:
    told = states(invoke)
    assert told["phi4"]["state"] == "installed"
    assert told["mistral:7b"]["state"] == "not_installed"


def test_categories_name_the_choice_the_substitutes_and_who_answers_now(
    sparse_server: FakeOllama, invoke: Invoke
) -> None:
    result = invoke("categories")
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert any(
        line.startswith("efficient_reasoning → phi4 ") and line.endswith("answers now") for line in lines
    )
    assert any(
        line.startswith("max_reasoning → deepseek-r1:70b") and line.endswith("by phi4") for line in lines
    )
    assert any(line.startswith("embeddings → nomic-embed-text") and "nobody" in line for line in lines)
    told = {c["name"]: c for c in json.loads(invoke("categories", "--json").stdout)["categories"]}
    assert len(told) == 18
    assert told["efficient_reasoning"]["choice"] == told["efficient_reasoning"]["answers_now"] == "phi4"
    assert "phi4" in told["max_reasoning"]["substitutes"]
    assert told["embeddings"]["answers_now"] is None


def test_categories_tell_pictures_and_plain_text_apart(sparse_server: FakeOllama, invoke: Invoke) -> None:
    lines = invoke("categories").stdout.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("hybrid_reasoner → ")]
    assert lines[at].endswith("with a picture: nobody can answer now")
    assert "  a short text only: answered now by phi4" in lines[at + 1 : at + 4]
    told = {c["name"]: c for c in json.loads(invoke("categories", "--json").stdout)["categories"]}
    assert told["hybrid_reasoner"]["answers_now"] == "phi4"
    assert told["hybrid_reasoner"]["whole"] == {
        "carrying": "with a picture",
        "answers_now": None,
        "answer_host": None,
        "stand_in": False,
    }
    assert told["max_reasoning"]["whole"] is None


def test_categories_say_once_who_answers_where_it_is_the_same(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    text = invoke("categories").stdout
    assert "with a picture" not in text and "a short text only" not in text


def test_a_category_that_the_classifier_cannot_choose_is_told(
    fleet_server: FakeOllama, invoke: Invoke, folder: Path
) -> None:
    file = folder / "fleet.yaml"
    file.write_text(
        "categories:\n  legal_review:\n    description: Review a contract.\n    examples: [one, two, two]\n"
        "    models: [{model: phi4, quality: 0.9}]\n",
        encoding="utf-8",
    )
    lines = invoke("--fleet", str(file), "categories").stdout.splitlines()
    assert "  never chosen by the built-in classifier: 2 different examples, it needs 5" in lines
    told = {
        category["name"]: (category["classifier"], category["examples"])
        for category in json.loads(invoke("--fleet", str(file), "categories", "--json").stdout)["categories"]
    }
    assert told["legal_review"] == ("unknown", 2)
    assert told["simple_chat"][0] == "trained"
    report = json.loads(invoke("--fleet", str(file), "doctor", "--json").stdout)
    (finding,) = [f for f in report["findings"] if f["code"] == "too_few_examples"]
    assert finding["subject"] == "legal_review"


def test_config_show_says_where_each_value_comes_from(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "config.yaml"
    file.write_text("policy:\n  prefer: score\n", encoding="utf-8")
    monkeypatch.setenv("OLLAMA_HOST", "http://user:secret@spark-1:11434")
    result = invoke("--config", str(file), "config", "show", "--json")
    told = {row["name"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)["settings"]}
    assert told["policy.prefer"] == ("score", f"{file}:2")
    assert told["hosts"][1] == "environment: OLLAMA_HOST"
    assert told["routing.stand_in"] == ("auto", "default")
    shown = invoke("--config", str(file), "config", "show").stdout
    assert "secret" not in result.stdout + shown
    assert any(line.split()[:2] == ["policy.prefer", "score"] for line in shown.splitlines())


def test_a_fleet_of_the_command_line_is_a_flag(invoke: Invoke, folder: Path) -> None:
    file = folder / "fleet.yaml"
    file.write_text("machine:\n  name: mine\n", encoding="utf-8")
    rows = json.loads(invoke("--fleet", str(file), "config", "show", "--json").stdout)["settings"]
    assert next(row for row in rows if row["name"] == "fleet") == {
        "name": "fleet",
        "value": [str(file)],
        "origin": "flag",
    }


def test_config_path_is_the_file_in_force(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = invoke("config", "path")
    assert usual.stdout == f"{user_directory() / 'config.yaml'}\n"
    assert "not there yet" in usual.stderr
    monkeypatch.setenv("LLM_ROUTER_CONFIG", "/elsewhere/config.yaml")
    assert invoke("config", "path").stdout == "/elsewhere/config.yaml\n"
    assert invoke("--config", "mine.yaml", "config", "path").stdout == "mine.yaml\n"


def test_config_path_as_json_says_where_it_is_from(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*before: str) -> object:
        return json.loads(invoke(*before, "config", "path", "--json").stdout)

    usual = str(user_directory() / "config.yaml")
    assert told() == {"path": usual, "exists": False, "origin": "default"}
    there = folder / "config.yaml"
    there.touch()
    monkeypatch.setenv("LLM_ROUTER_CONFIG", str(there))
    assert told() == {"path": str(there), "exists": True, "origin": "environment: LLM_ROUTER_CONFIG"}
    assert told("--config", "mine.yaml") == {"path": "mine.yaml", "exists": False, "origin": "flag"}


def test_config_alone_shows_its_help(invoke: Invoke) -> None:
    result = invoke("config")
    assert result.exit_code == 0 and "Usage: llm-router config" in result.stdout


@pytest.mark.crewai
def test_plot_writes_a_page_and_prints_its_path(invoke: Invoke, folder: Path) -> None:
    pytest.importorskip("crewai")
    out = folder / "flow.html"
    result = invoke("plot", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()) == out
    assert out.stat().st_size > 0
    told = json.loads(invoke("plot", "--json", "--out", str(out.with_suffix(".SVG"))).stdout)
    assert told == {"path": str(out.with_suffix(".SVG")), "format": "svg"}
