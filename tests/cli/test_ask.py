"""``llm-router ask`` against a host that speaks real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import JSON_TASK, Invoke

from llm_router.testing.fake_ollama import Answer, FakeOllama, Fault, fleet_models

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def chat_bodies(server: FakeOllama, model: str) -> list[dict[str, object]]:
    return [r.body for r in server.requests if r.path == "/api/chat" and r.body["model"] == model]


def test_stdout_holds_the_answer_and_stderr_everything_about_it(
    fleet_server: FakeOllama, invoke: Invoke
) -> None:
    result = invoke("ask", JSON_TASK)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"qwen2.5:14b heard: {JSON_TASK}\n"
    lines = result.stderr.splitlines()
    assert lines[0].startswith("structured_data → qwen2.5:14b ")
    assert lines[-1].startswith("qwen2.5:14b on ollama · ") and "tokens/s" in lines[-1]


def test_quiet_leaves_the_answer_alone(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("ask", "--quiet", JSON_TASK)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("qwen2.5:14b heard")


def test_words_without_quotes_are_one_task(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("ask", "-q", "--model", "phi4", "say", "it", "twice")
    assert result.stdout == "phi4 heard: say it twice\n"


def test_json_is_the_whole_answer_as_one_object(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("ask", "--json", JSON_TASK)
    answer = json.loads(result.stdout)
    assert answer["answer_model"] == "qwen2.5:14b"
    assert answer["result"].startswith("qwen2.5:14b heard")
    assert answer["attempts"][-1]["ok"] is True


def test_options_reach_the_model(fleet_server: FakeOllama, invoke: Invoke) -> None:
    arguments = ["--system", "Be brief", "--max-tokens", "7", "--temperature", "0", "--model", "mistral:7b"]
    assert invoke("ask", *arguments, "hello").exit_code == 0
    (body,) = chat_bodies(fleet_server, "mistral:7b")
    assert body["options"]["num_predict"] == 7  # type: ignore[index]
    assert body["options"]["temperature"] == 0  # type: ignore[index]
    assert body["messages"][0] == {"role": "system", "content": "Be brief"}  # type: ignore[index]


def test_thinking_is_shown_on_stderr_only_where_asked_for(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    reply = Answer("4", thinking="two and two")
    with FakeOllama(fleet_models(["deepseek-r1:70b"]), reply=lambda _: reply).in_thread() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        shown = invoke("ask", "--think", "--show-thinking", "--model", "deepseek-r1:70b", "2+2")
        hidden = invoke("ask", "--think", "--model", "deepseek-r1:70b", "2+2")
    assert "two and two" in shown.stderr and shown.stdout == "4\n"
    assert "two and two" not in hidden.stderr and hidden.stdout == "4\n"


@pytest.mark.parametrize(("flag", "sent"), [("--think", True), ("--no-think", False)])
def test_think_reaches_a_model_that_can_think(
    fleet_server: FakeOllama, invoke: Invoke, flag: str, sent: bool
) -> None:
    invoke("ask", flag, "--model", "deepseek-r1:70b", "2+2")
    (body,) = chat_bodies(fleet_server, "deepseek-r1:70b")
    assert body["think"] is sent


def test_a_picture_goes_along(fleet_server: FakeOllama, invoke: Invoke, folder: Path) -> None:
    picture = folder / "chart.png"
    picture.write_bytes(PNG)
    result = invoke("ask", "--json", "--image", str(picture), "Which quarter was best?")
    answer = json.loads(result.stdout)
    (body,) = chat_bodies(fleet_server, answer["answer_model"])
    assert body["messages"][-1]["images"]  # type: ignore[index]


def test_a_text_file_goes_along_with_its_name(fleet_server: FakeOllama, invoke: Invoke, folder: Path) -> None:
    report = folder / "report.txt"
    report.write_text("수익이 늘었다", encoding="utf-8")
    result = invoke("ask", "-q", "--model", "phi4", "--file", str(report), "Summarise this")
    assert result.stdout == "phi4 heard: Summarise this\n\nFile report.txt:\n수익이 늘었다\n"


@pytest.mark.parametrize("task", ["Summarise this in three sentences", ""])
def test_the_name_of_a_file_sways_no_category(
    task: str, no_server: str, invoke: Invoke, folder: Path
) -> None:
    text = "The crew checked the valves and wrote down the pressure. " * 6
    decided = []
    for name in (
        "report.txt",
        "weather_api_tools.json",
        "prove_theorem.txt",
        "korean_translation.md",
        "요약.md",
    ):
        (folder / name).write_text(text, encoding="utf-8")
        given = ["--file", str(folder / name), *([task] if task else [])]
        told = json.loads(invoke("route", "--json", *given).stdout)
        decided.append((told["category"], told["confidence"], told["evidence"]))
    assert decided == decided[:1] * len(decided)


def test_mission_control_is_told_no_name_of_a_file(
    fleet_server: FakeOllama, invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ROUTER_CLASSIFY__ASK_BELOW", "1.0")
    (folder / "prove_theorem.txt").write_text("Valve 3 leaks.", encoding="utf-8")
    invoke("ask", "-q", "--file", str(folder / "prove_theorem.txt"), "Summarise this")
    bodies = [str(r.body) for r in fleet_server.requests if r.path == "/api/chat"]
    asked = [body for body in bodies if "'format':" in body]
    assert asked and all("Valve 3 leaks." in body and "prove_theorem" not in body for body in asked)
    assert "File prove_theorem.txt" in bodies[-1]


def test_a_pipe_without_text_is_the_task(fleet_server: FakeOllama, invoke: Invoke) -> None:
    assert invoke("ask", "-q", "--model", "phi4", stdin="from a pipe").stdout == "phi4 heard: from a pipe\n"


def test_a_dash_puts_the_pipe_after_the_words(fleet_server: FakeOllama, invoke: Invoke) -> None:
    result = invoke("ask", "-q", "--model", "phi4", "Review this", "-", stdin="+ line")
    assert result.stdout == "phi4 heard: Review this\n\n+ line\n"


def test_a_switch_of_models_is_told_when_it_happens(fleet_server: FakeOllama, invoke: Invoke) -> None:
    fleet_server.fault(Fault.OOM, model="qwen2.5:14b")
    result = invoke("ask", JSON_TASK)
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "qwen2.5:14b on ollama failed" in told[0] and "→ asking " in told[0]
    assert not result.stdout.startswith("qwen2.5:14b")


def test_a_warning_about_the_answer_is_told_even_when_quiet(fleet_server: FakeOllama, invoke: Invoke) -> None:
    fleet_server.fault(Fault.WRONG_MODEL)
    result = invoke("ask", "-q", "--model", "phi4", "hello")
    assert result.stderr.startswith("warning: ")
    assert "answered although phi4 was asked" in result.stderr


def test_a_broken_stream_keeps_what_came_and_fails(fleet_server: FakeOllama, invoke: Invoke) -> None:
    fleet_server.fault(Fault.DROP_MID_STREAM, model="phi4", after=2)
    result = invoke("ask", "--model", "phi4", "a rather long task to answer")
    assert result.exit_code == 1
    assert result.stdout and result.stdout.endswith("\n")
    assert "error: " in result.stderr and "Traceback" not in result.stderr


def test_a_host_that_was_named_and_is_down_is_one_warning_and_exit_code_3(
    no_server: str, invoke: Invoke
) -> None:
    result = invoke("ask", "hello")
    lines = result.stderr.splitlines()
    assert result.exit_code == 3
    assert lines[0] == f"warning: no answer from ollama at {no_server}: connection refused"
    assert lines[1].startswith("hint: the address is from environment: OLLAMA_HOST")
    assert sum(line.startswith("warning: ") for line in lines) == 1
    assert sum(line.startswith("error: ") for line in lines) == 1


def test_the_usual_address_is_no_reason_for_a_warning(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    result = invoke("route", "--json", "hello")
    assert "warning:" not in result.stderr


def test_a_page_of_a_proxy_is_told_as_such(fleet_server: FakeOllama, invoke: Invoke) -> None:
    fleet_server.fault(Fault.HTML)
    result = invoke("ask", "hello")
    assert result.exit_code == 3
    assert "web page" in result.stderr or "HTML" in result.stderr
    assert "<html>" not in result.stderr


@pytest.mark.embedded
def test_the_embedded_model_stands_in_with_the_true_reason(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    with FakeOllama(()).in_thread() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        result = invoke("ask", "--max-tokens", "8", JSON_TASK)
        quiet = invoke("ask", "-q", "--max-tokens", "8", JSON_TASK)
    sentence = "qwen2.5:14b is not installed here → answered by embedded smollm2:135m"
    assert result.exit_code == 0 and result.stdout.strip()
    assert f"  here      {sentence}" in result.stderr.splitlines()
    assert quiet.stderr.splitlines() == [sentence]
