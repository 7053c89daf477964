"""``llm-router pull`` against a real server on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner, Result

from llm_router.cli.app import app
from llm_router.testing.fake_ollama import FakeOllama, fleet_models

Command = Callable[..., Result]


@pytest.fixture
def command() -> Command:
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama(fleet_models(["phi4"])).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


def pulled(server: FakeOllama) -> list[str]:
    return [request.body["model"] for request in server.requests if request.path == "/api/pull"]


def test_named_models_are_pulled_with_their_sizes_and_their_progress(
    server: FakeOllama, command: Command
) -> None:
    result = command("pull", "gemma2:9b", "MISTRAL:7b")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["gemma2:9b  5.4 GB", "mistral:7b  4.4 GB"]
    assert "9.8 GB of its disk" in result.stderr
    assert "gemma2:9b: 50 % of 5.4 GB" in result.stderr
    assert "2 of 2 pulled" in result.stderr
    assert pulled(server) == ["gemma2:9b", "mistral:7b"]


def test_what_is_there_is_not_pulled_again(server: FakeOllama, command: Command) -> None:
    result = command("pull", "phi4:latest")
    assert (result.exit_code, pulled(server)) == (0, [])
    assert "nothing to pull" in result.stderr


def test_an_unknown_name_is_refused_with_the_nearest(server: FakeOllama, command: Command) -> None:
    result = command("pull", "gema2:9b")
    assert (result.exit_code, pulled(server)) == (2, [])
    assert "hint: did you mean 'gemma2:9b'?" in result.stderr


def test_a_dry_run_pulls_nothing_and_tells_all(server: FakeOllama, command: Command) -> None:
    result = command("pull", "--all", "--dry-run")
    assert (result.exit_code, pulled(server)) == (0, [])
    names = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert len(names) == 15, "19 less phi4, apriel, deepseek-v3 and llama3.2-vision:90b"
    assert "phi4" not in names
    assert "skipped  deepseek-v3: needs 405 GB" in result.stderr
    assert "skipped  apriel-1.5-15b-thinker: the public library does not have it" in result.stderr
    assert "skipped  llama3.2-vision:90b: loads only below Ollama 0.30.0" in result.stderr


def test_what_was_pulled_and_what_not_as_json(
    server: FakeOllama, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fleet = tmp_path_factory.mktemp("fleet") / "mine.yaml"
    fleet.write_text("models:\n  gemma2:9b: {pull: 'no-such:9b'}\n")
    asked = ("phi4", "gemma2:9b", "mistral:7b", "deepseek-v3")
    result = command("--fleet", str(fleet), "pull", "--json", *asked)
    told = json.loads(result.stdout)
    assert (result.exit_code, told["host"], told["there"], told["pulled"]) == (
        1,
        "ollama",
        ["phi4"],
        ["mistral:7b"],
    )
    assert [(one["model"], one["name"]) for one in told["wanted"]] == [
        ("gemma2:9b", "no-such:9b"),
        ("mistral:7b", "mistral:7b"),
    ]
    assert [(one["model"], "405 GB" in one["why"]) for one in told["skipped"]] == [("deepseek-v3", True)]
    assert [one["model"] for one in told["failed"]] == ["gemma2:9b"]
    assert told["failed"][0]["error"]["hint"].startswith("the library has no such name")


def test_a_dry_run_as_json_pulled_nothing(server: FakeOllama, command: Command) -> None:
    told = json.loads(command("pull", "--json", "--dry-run", "gemma2:9b").stdout)
    assert (told["pulled"], told["failed"], pulled(server)) == ([], [], [])
    assert told["wanted"] == [{"model": "gemma2:9b", "name": "gemma2:9b", "size_gb": 5.4}]


def test_one_category_is_its_candidates(server: FakeOllama, command: Command) -> None:
    result = command("pull", "--category", "embeddings")
    assert (result.exit_code, pulled(server)) == (0, ["nomic-embed-text"])
    assert command("pull", "--category", "embedings").exit_code == 2


def test_more_than_20_gb_is_not_begun_where_nobody_can_be_asked(server: FakeOllama, command: Command) -> None:
    result = command("pull", "qwen2.5:72b")
    assert (result.exit_code, pulled(server)) == (2, [])
    assert "47 GB are to come" in result.stderr
    assert "--yes" in result.stderr
    assert command("pull", "qwen2.5:72b", "--yes").exit_code == 0
    assert pulled(server) == ["qwen2.5:72b"]


def test_a_model_the_host_could_not_use_needs_force(server: FakeOllama, command: Command) -> None:
    result = command("pull", "deepseek-v3")
    assert (result.exit_code, pulled(server)) == (0, [])
    assert "needs 405 GB" in result.stderr
    assert command("pull", "deepseek-v3", "--force", "--yes").exit_code == 0
    assert pulled(server) == ["deepseek-v3"]


def test_a_failed_pull_is_told_at_the_end_and_the_others_go_on(
    server: FakeOllama, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fleet = tmp_path_factory.mktemp("fleet") / "mine.yaml"
    fleet.write_text("models:\n  gemma2:9b: {pull: 'no-such:9b'}\n")
    result = command("--fleet", str(fleet), "pull", "gemma2:9b", "mistral:7b")
    assert result.exit_code == 1
    assert pulled(server) == ["no-such:9b", "mistral:7b"]
    lines = result.stderr.splitlines()
    assert "no-such:9b: failed" in lines
    assert lines[-3].startswith("error: cannot pull no-such:9b: pull model manifest: file does not exist")
    assert lines[-2].startswith("hint: the library has no such name")
    assert lines[-1].startswith("1 of 2 pulled")


def test_a_download_that_ends_early_is_a_failure(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with _HalfServer() as half:
        monkeypatch.setenv("OLLAMA_HOST", half.url)
        result = command("pull", "gemma2:9b")
    assert result.exit_code == 1
    assert "was not pulled whole: the server ended with: pulling abc" in result.stderr


def test_no_server_is_one_line_and_a_hint(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    result = command("pull", "gemma2:9b")
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 2


def test_a_host_of_another_name_is_refused_with_the_known_ones(server: FakeOllama, command: Command) -> None:
    result = command("pull", "--host", "spark-9", "gemma2:9b")
    assert result.exit_code == 2
    assert "known: ollama" in result.stderr


def test_two_ways_of_choosing_at_once_are_misuse(server: FakeOllama, command: Command) -> None:
    assert command("pull", "gemma2:9b", "--all").exit_code == 2
    assert command("pull", "--all", "--force").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_is_quiet_and_closes_the_connection(tmp_path_factory: pytest.TempPathFactory) -> None:
    with _HalfServer(hold=True) as half:
        environ = {**os.environ, "OLLAMA_HOST": half.url}
        program = "from llm_router.cli.main import main; main()"
        with subprocess.Popen(
            [sys.executable, "-c", program, "pull", "gemma2:9b"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert half.pulling.wait(20)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
        assert half.closed.wait(10), "the server saw the connection close, and stops"
    assert process.returncode == 130
    assert "Traceback" not in error


class _HalfServer:
    """An Ollama whose pull stops in the middle: it ends the stream there, or with ``hold`` stays silent."""

    def __init__(self, *, hold: bool = False) -> None:
        self.pulling = threading.Event()
        self.closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                bodies = {"/api/version": b'{"version": "0.33.0"}'}
                self._send(bodies.get(self.path, b'{"models": []}'))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                line = b'{"status": "pulling abc", "digest": "abc", "total": 100, "completed": 40}\n'
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson")
                self.end_headers()
                self.wfile.write(line)
                self.wfile.flush()
                outer.pulling.set()
                if hold:
                    with contextlib.suppress(ConnectionResetError):
                        self.rfile.read(1)
                    outer.closed.set()

            def _send(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> _HalfServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
