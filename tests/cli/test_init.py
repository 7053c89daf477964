"""``llm-router init`` against a real server on loopback: what it writes, and what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_router.cli.app import app
from llm_router.config import load_configuration
from llm_router.fleet import load_fleet
from llm_router.testing.fake_ollama import FakeModel, FakeOllama, Fault

MODELS = (
    FakeModel(
        "qwen3:8b",
        size_bytes=5_200_000_000,
        parameter_size="8.2B",
        architecture="qwen3",
        family="qwen3",
        context_length=40_960,
        capabilities=("completion", "tools", "thinking"),
        layers=36,
        answer="Ulaanbaatar.",
    ),
    FakeModel("llava:7b", size_bytes=4_700_000_000, capabilities=("completion", "vision")),
    FakeModel(
        "nomic-embed-text",
        size_bytes=274_000_000,
        parameter_size="137M",
        architecture="nomic-bert",
        family="nomic-bert",
        context_length=2048,
        capabilities=("embedding",),
    ),
)
Command = Callable[..., Result]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama(MODELS).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


@pytest.fixture
def command() -> Command:
    def call(*arguments: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, list(arguments), input=typed)

    return call


@pytest.fixture
def usual_file(own_home: Path) -> Path:
    from llm_router.config import user_directory

    path = user_directory() / "fleet.yaml"
    assert path.is_relative_to(own_home)
    return path


def test_init_then_ask_works_with_models_the_shipped_fleet_does_not_know(
    server: FakeOllama, command: Command, usual_file: Path
) -> None:
    made = command("init", "--memory-gb", "14")
    assert made.exit_code == 0, made.output
    assert "default_general" in made.stdout
    assert "→ qwen3:8b   then llava:7b" in made.stdout
    assert str(usual_file) in made.stderr
    assert load_configuration().settings.fleet == (str(usual_file),)
    asked = command("ask", "What is the capital of Mongolia?")
    assert (asked.exit_code, "Ulaanbaatar." in asked.output) == (0, True), asked.output


def test_every_category_is_shown_with_the_model_the_file_has(
    server: FakeOllama, command: Command, usual_file: Path
) -> None:
    shown = command("init", "--memory-gb", "14").stdout
    fleet = load_fleet([usual_file])
    assert len(fleet.categories) == 18
    for name in fleet.categories:
        (line,) = [line for line in shown.splitlines() if line.split()[0] == name]
        assert f"→ {fleet.choice_for(name)}" in line


def test_an_existing_file_is_kept_unless_forced(
    server: FakeOllama, command: Command, usual_file: Path
) -> None:
    usual_file.parent.mkdir(parents=True)
    usual_file.write_text("categories: {}\n")
    refused = command("init")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"error: {usual_file} exists")
    assert "hint: replace it with --force" in refused.stderr
    assert usual_file.read_text() == "categories: {}\n"
    assert server.requests == [], "refused before any host is asked"
    assert command("init", "--force").exit_code == 0
    assert "qwen3:8b" in load_fleet([usual_file]).models


def test_a_broken_fleet_file_does_not_keep_init_from_replacing_it(
    server: FakeOllama, command: Command, usual_file: Path
) -> None:
    usual_file.parent.mkdir(parents=True)
    usual_file.write_text("models: [what")
    assert command("init", "--force").exit_code == 0
    assert len(load_fleet([usual_file]).models) == 3


def test_stdout_prints_the_file_and_writes_nothing(
    server: FakeOllama, command: Command, usual_file: Path, tmp_path: Path
) -> None:
    printed = command("init", "--stdout", "--memory-gb", "14")
    (tmp_path / "printed.yaml").write_text(printed.stdout, encoding="utf-8")
    assert set(load_fleet([tmp_path / "printed.yaml"]).models) == {"qwen3:8b", "llava:7b", "nomic-embed-text"}
    assert not usual_file.exists()


def test_json_tells_what_was_written(server: FakeOllama, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "new" / "mine.yaml"
    told = json.loads(command("init", "--json", "--memory-gb", "14", "--output", str(target)).stdout)
    assert told["path"] == str(target)
    assert told["categories"]["default_general"] == ["qwen3:8b", "llava:7b"]
    assert (told["baseline"], told["usable_memory_gb"]) == ("qwen3:8b", 14)
    assert told["memory_source"] == "given with --memory-gb"
    assert [path.name for path in target.parent.iterdir()] == ["mine.yaml"], "nothing is left beside it"


def test_memory_of_this_machine_is_used_for_a_server_on_loopback(
    server: FakeOllama, command: Command, usual_file: Path
) -> None:
    told = json.loads(command("init", "--json").stdout)
    assert "this machine" in told["memory_source"]
    assert load_fleet([usual_file]).machine.usable_memory_gb == told["usable_memory_gb"]


def test_memory_of_the_settings_goes_before_that_of_this_machine(
    server: FakeOllama, command: Command, usual_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLLAMA_HOST")
    usual_file.parent.mkdir(parents=True)
    settings = usual_file.parent / "config.yaml"
    settings.write_text(f"hosts:\n  - {{url: '{server.url}', memory_gb: 33}}\n")
    told = json.loads(command("init", "--json").stdout)
    assert (told["usable_memory_gb"], told["memory_source"]) == (33, "memory_gb of your settings")


def test_other_fleet_files_in_the_settings_are_mentioned(
    server: FakeOllama, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\n")
    monkeypatch.setenv("LLM_ROUTER_FLEET", str(other))
    assert "LLM_ROUTER_FLEET names other fleet files" in command("init", "--memory-gb", "14").stderr


# what goes wrong


def test_no_server_is_one_line_and_a_hint(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    refused = command("init")
    assert refused.exit_code == 1
    error, hint = refused.stderr.strip().splitlines()
    assert error == "error: no model server to look at: ollama at http://127.0.0.1:9: connection refused"
    assert "environment: OLLAMA_HOST" in hint


@pytest.mark.parametrize(("fault", "words"), [(Fault.HTML, "HTML"), (Fault.REDIRECT, "redirects")])
def test_a_proxy_in_place_of_the_server_is_one_line(
    server: FakeOllama, command: Command, fault: Fault, words: str
) -> None:
    server.fault(fault)
    refused = command("init")
    assert (refused.exit_code, len(refused.stderr.strip().splitlines())) == (1, 2)
    assert words in refused.stderr


def test_another_program_on_the_port_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"hello": "there"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{other.server_port}")
            refused = command("init")
        finally:
            other.shutdown()
            thread.join()
    assert refused.exit_code == 1
    assert "not Ollama" in refused.stderr


def test_a_server_without_models_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, usual_file: Path
) -> None:
    with FakeOllama(()).in_thread() as empty:
        monkeypatch.setenv("OLLAMA_HOST", empty.url)
        refused = command("init")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: there is no model to route to: nothing is installed on ollama")
    assert "hint: install one first" in refused.stderr
    assert not usual_file.exists()


def test_a_place_that_cannot_be_written_is_one_line(
    server: FakeOllama, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused = command("init", "--output", str(tmp_path / "file" / "below.yaml"))
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: cannot write")
    assert command("init", "--output", str(tmp_path)).exit_code == 1


def test_stdout_and_json_together_are_misuse(server: FakeOllama, command: Command) -> None:
    assert command("init", "--stdout", "--json").exit_code == 2
