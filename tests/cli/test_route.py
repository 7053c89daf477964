"""``llm-router route`` and ``explain``: the decision without the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import JSON_TASK, Invoke

from llm_router.hosts.speeds import Measured
from llm_router.records import reader
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FakeOllama

CHANGING = {"decision_id", "elapsed_ms", "stages"}
INFERENCE = {"/api/chat", "/api/generate", "/api/embed"}


def test_the_block_goes_to_stdout_and_no_model_is_asked(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("route", JSON_TASK)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("structured_data → qwen2.5:14b ")
    assert [line[:10].strip() for line in lines[1:] if line[2] != " "] == ["why", "next", "saves"]
    assert not [r.path for r in fleet_server.requests if r.path in INFERENCE]


def test_the_terminal_and_python_decide_the_same(fleet_server: FakeOllama, invoke: Invoke) -> None:
    with SyncRouter() as router:
        in_python = router.decide(JSON_TASK).as_json()
    in_terminal = json.loads(invoke("route", "--json", JSON_TASK).stdout)
    explained = json.loads(invoke("explain", "--json", JSON_TASK).stdout)
    for told in (in_terminal, explained):
        assert {k: v for k, v in told.items() if k not in CHANGING} == {
            k: v for k, v in in_python.items() if k not in CHANGING
        }


def test_ask_and_route_read_their_task_the_same_way(
    fleet_server: FakeOllama, invoke: Invoke, folder: Path
) -> None:
    notes = folder / "notes.md"
    notes.write_text("one\ntwo", encoding="utf-8")
    task = ["--file", str(notes), "--max-tokens", "9", "--system", "Be brief", "Turn this into JSON"]
    routed = json.loads(invoke("route", "--json", *task).stdout)
    asked = json.loads(invoke("ask", "--json", *task).stdout)
    for key in ("category", "selected_model", "answer_model", "request_tokens", "num_ctx", "rejected"):
        assert routed[key] == asked[key], key


def test_the_time_of_a_task_is_an_option_of_every_command_that_decides(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    task = ["--json", "--timeout-s", "40.5", JSON_TASK]
    assert [json.loads(invoke(name, *task).stdout)["deadline_s"] for name in ("route", "explain", "ask")] == [
        40.5,
        40.5,
        40.5,
    ]
    hurried = invoke("route", "--timeout-s", "0.001", JSON_TASK)
    assert "longer than the 0.001 s that this request may take" in " ".join(hurried.stdout.split())
    late = invoke("ask", "--timeout-s", "0.001", JSON_TASK)
    assert late.exit_code != 0
    assert "its own timeout_s" in late.stderr
    for wrong in ("0", "nan", "inf"):
        assert invoke("route", "--timeout-s", wrong, JSON_TASK).exit_code == 2


def test_nothing_that_can_answer_is_exit_code_3(no_server: str, invoke: Invoke) -> None:
    result = invoke("route", JSON_TASK)
    assert result.exit_code == 3
    assert "nothing here can answer" in result.stdout
    as_json = invoke("route", "--json", JSON_TASK)
    assert as_json.exit_code == 3
    assert json.loads(as_json.stdout)["answer_model"] is None


def test_an_unknown_model_is_misuse_with_the_nearest_name(fleet_server: FakeOllama, invoke: Invoke) -> None:
    for command in (["route"], ["ask"], ["explain"]):
        result = invoke(*command, "--model", "phi5", "hello")
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1] == "hint: did you mean 'phi4'?"


def test_a_cloud_model_is_refused(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("ask", "--model", "gpt-oss:120b-cloud", "hello")
    assert result.exit_code == 2
    assert "would be answered on the internet" in result.stderr


def test_explain_shows_every_stage_candidate_and_probability(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    text = invoke("explain", JSON_TASK).stdout
    lines = text.splitlines()
    for heading in ("Stages", "Probabilities", "Candidates, best first"):
        assert heading in lines
    assert any(line.startswith("  encoder ") for line in lines)
    assert any(line.startswith("  structured_data ") and "█" in line for line in lines)
    assert any("1. qwen2.5:14b" in line for line in lines)
    assert lines[-1].strip().startswith("Seconds are the fleet's figures")


def test_explain_says_which_seconds_rest_on_what_was_measured(
    fleet_server: FakeOllama, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of a gateway before it tell."""
    told = [("ollama", "qwen2.5:14b", Measured(load_s=5.0, decode_tokens_per_s=20.0))] * 3
    monkeypatch.setattr(reader, "measured_before", lambda _: told)
    text = " ".join(invoke("explain", JSON_TASK).stdout.split())
    assert "Seconds measured: qwen2.5:14b on ollama (loaded 3 times, read 0, written 3)" in text


def test_why_not_says_what_kept_it_out_and_what_would_flip_it(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    text = invoke("explain", JSON_TASK, "--why-not", "gpt-oss:20b").stdout
    assert "Why not gpt-oss:20b" in text
    assert "  kept out  " in text and "  it takes  " in text and "gpt-oss:20b would answer" in text
    told = json.loads(invoke("explain", JSON_TASK, "--why-not", "gpt-oss:20b", "--json").stdout)
    assert told["category"] == "structured_data"
    assert told["why_not"]["flips"]


def test_why_not_the_model_that_answers_has_a_short_answer(fleet_server: FakeOllama, invoke: Invoke) -> None:
    text = invoke("explain", JSON_TASK, "--why-not", "qwen2.5:14b").stdout
    assert text.splitlines()[-1] == "qwen2.5:14b is the model that answers."


@pytest.mark.parametrize("name", ["phi5", "gpt-oss:21b"])
def test_why_not_an_unknown_model_is_misuse(fleet_server: FakeOllama, invoke: Invoke, name: str) -> None:
    result = invoke("explain", JSON_TASK, "--why-not", name)
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
