"""``serve``, ``logs`` and ``keys`` as a person uses them: real processes, real signals, real files."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import LIMIT_S, Finish, Invoke, Spawn

from llm_router.testing.fake_ollama import FakeOllama, Fault

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "What's 2+2?"}]}


@dataclass
class Serving:
    process: subprocess.Popen[bytes]
    port: int

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        try:
            return reply.status, reply.read()
        finally:
            connection.close()

    def end(self, by: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and the rest of stderr."""
        self.process.send_signal(by)
        _, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, err.decode()


@pytest.fixture
def begin(fleet_server: FakeOllama, spawn: Spawn) -> Iterator[Callable[..., Serving]]:
    running: list[Serving] = []

    def start(*arguments: str) -> Serving:
        process = spawn("serve", "--port", "0", *arguments, stderr=subprocess.PIPE)
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        assert "listens on http://127.0.0.1:" in first, first + process.stderr.read().decode()
        serving = Serving(process, int(first.split("127.0.0.1:")[1].split()[0]))
        running.append(serving)
        return serving

    yield start
    for serving in running:
        if serving.process.poll() is None:
            serving.process.kill()
            serving.process.communicate()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_logs_a_line_without_words_and_ends_in_order(
    begin: Callable[..., Serving], by: int
) -> None:
    serving = begin()
    status, told = serving.call("POST", "/v1/chat/completions", CHAT)
    assert status == 200
    assert json.loads(told)["router"]["category"] == "simple_chat"
    code, err = serving.end(by)
    assert code == 0
    assert "200 /v1/chat/completions" in err
    assert "category=simple_chat" in err
    assert "2+2" not in err
    assert err.endswith("stopped\n")


def test_a_stream_under_way_is_finished_before_the_end(
    begin: Callable[..., Serving], fleet_server: FakeOllama
) -> None:
    serving = begin()
    fleet_server.fault(Fault.SLOW_TOKENS, after=1)
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=LIMIT_S)
    connection.request("POST", "/v1/chat/completions", json.dumps(CHAT | {"stream": True}))
    reply = connection.getresponse()
    first = reply.readline()
    serving.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert serving.process.poll() is None
    fleet_server.clear_faults()
    assert b"[DONE]" in first + reply.read()
    connection.close()
    assert serving.process.wait(LIMIT_S) == 0


def test_a_port_that_is_taken_is_one_line_and_a_hint(begin: Callable[..., Serving], finish: Finish) -> None:
    serving = begin()
    done = finish("serve", "--port", str(serving.port))
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith(f"error: cannot listen on 127.0.0.1:{serving.port}: address already in use")
    assert lines[1].startswith("hint: ")


def test_it_refuses_to_be_open_to_the_network_without_keys(finish: Finish) -> None:
    done = finish("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert b"without API keys" in done.stderr
    assert b"llm-router keys add" in done.stderr


def test_keys_are_made_listed_used_and_taken_away(
    begin: Callable[..., Serving], finish: Finish, tmp_path: Path
) -> None:
    made = finish("keys", "add", "ann", "--per-minute", "2")
    key = made.stdout.decode().strip()
    assert made.returncode == 0
    assert key.startswith("lr-")
    assert finish("keys", "add", "ann").returncode == 2
    listed = finish("keys", "list").stdout.decode()
    assert "ann" in listed
    assert key not in listed
    serving = begin()
    assert serving.call("POST", "/v1/chat/completions", CHAT)[0] == 401
    assert serving.call("POST", "/v1/chat/completions", CHAT, authorization=f"Bearer {key}")[0] == 200
    assert finish("keys", "remove", "ann").returncode == 0
    assert finish("keys", "remove", "ann").returncode == 2


def test_the_file_of_keys_holds_what_was_said_and_no_empty_fields(finish: Finish) -> None:
    added = finish("keys", "add", "ann", "--model", "phi4")
    file = Path(added.stderr.decode().partition("kept as a hash in ")[2].partition(";")[0])
    _, *lines = file.read_text().splitlines()
    name, digest, *limits = lines[1:]
    assert (lines[0], name, limits) == ("keys:", "- name: ann", ["  models:", "  - phi4"])
    assert digest.startswith("  hash: sha256:")
    assert json.loads(finish("keys", "list", "--json").stdout)["keys"][0]["categories"] == []


def test_a_change_of_the_fleet_is_taken_while_it_runs(begin: Callable[..., Serving], tmp_path: Path) -> None:
    fleet = tmp_path / "mine.yaml"
    fleet.write_text("categories: {simple_chat: {models: [{model: 'mistral:7b', quality: 0.9}]}}\n")
    serving = begin_with(begin, fleet)
    assert _model(serving) == "mistral:7b"
    fleet.write_text("categories: {simple_chat: {models: [{model: 'gemma2:9b', quality: 0.9}]}}\n")
    serving.process.send_signal(signal.SIGHUP)
    _until(lambda: _model(serving) == "gemma2:9b")
    fleet.write_text("categories: nonsense\n")
    serving.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert _model(serving) == "gemma2:9b"
    _, err = serving.end()
    assert "the ones before stay" in err
    assert "mine.yaml" in err


def begin_with(begin: Callable[..., Serving], fleet: Path) -> Serving:
    import os

    os.environ["LLM_ROUTER_FLEET"] = str(fleet)
    try:
        return begin()
    finally:
        del os.environ["LLM_ROUTER_FLEET"]


def test_logs_show_the_latest_and_one_in_full(begin: Callable[..., Serving], finish: Finish) -> None:
    serving = begin("--log", "off")
    told = json.loads(serving.call("POST", "/v1/chat/completions", CHAT)[1])
    serving.call("POST", "/v1/chat/completions", CHAT | {"model": "no-such:1b"})
    serving.end()
    wanted = told["router"]["decision_id"]
    table = finish("logs").stdout.decode()
    assert wanted[:8] in table
    assert "simple_chat" in table
    errors = finish("logs", "--errors", "--json").stdout.decode().splitlines()
    assert [json.loads(line)["error"] for line in errors] == ["unknown_model"]
    shown = finish("logs", wanted[:8]).stdout.decode()
    assert "mistral:7b on ollama" in shown
    assert "2+2" not in shown
    assert json.loads(finish("logs", wanted, "--json").stdout)["decision"]["decision_id"] == wanted
    assert finish("logs", "--since", "yesterday").returncode == 2
    assert finish("logs", "0" * 12).returncode == 2


def test_without_records_logs_says_how_to_get_some(invoke: Invoke) -> None:
    done = invoke("logs")
    assert done.exit_code == 1
    assert "no records at" in done.stderr
    assert "llm-router serve" in done.stderr


def _model(serving: Serving) -> str:
    return str(json.loads(serving.call("POST", "/v1/chat/completions", CHAT)[1])["router"]["model"])


def _until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)
