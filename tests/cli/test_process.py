"""The command as a real process: imports, exit codes, signals, pipes, files and terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import JSON_TASK, LIMIT_S, Finish, Spawn

from llm_router.providers.embedded_weights import available
from llm_router.testing.fake_ollama import FakeOllama, Fault

HEAVY = ("crewai", "numpy", "aiohttp", "rich", "xllamacpp", "yaml", "msgspec", "asyncio")
COLOUR = re.compile(rb"\x1b\[(?:\d+;)*[349][0-7]m")


def body(text: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}]}).encode()


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['llm-router', *{arguments!r}]\n"
        "from llm_router.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print('modules:', *sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & set(HEAVY)


def test_python_m_calls_itself_llm_router(finish: Finish) -> None:
    done = finish("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, b"llm-router")


def test_exit_codes(fleet_server: FakeOllama, finish: Finish) -> None:
    assert finish("route", "hello").returncode == 0
    assert finish("route", "--requests", "-", stdin=b"no json").returncode == 1
    assert finish("route", "--no-such-option").returncode == 2
    assert finish("route", "hello", env={"OLLAMA_HOST": "127.0.0.1:9"}).returncode == 3


def test_a_file_gets_the_answer_and_nothing_else(
    fleet_server: FakeOllama, spawn: Spawn, folder: Path
) -> None:
    out = folder / "answer.txt"
    with out.open("wb") as file:
        process = spawn("ask", JSON_TASK, stdout=file.fileno())
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert out.read_text(encoding="utf-8") == f"qwen2.5:14b heard: {JSON_TASK}\n"
    assert err.startswith(b"structured_data")


def test_text_outside_ascii_survives_a_terminal_without_utf_8(
    fleet_server: FakeOllama, finish: Finish
) -> None:
    done = finish("ask", "--model", "phi4", "√2 는 무리수", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (
        finish("ask", "-q", "--model", "phi4", "√2 는 무리수").stdout.decode() == "phi4 heard: √2 는 무리수\n"
    )


def test_ctrl_c_in_mid_answer_cancels_the_generation(fleet_server: FakeOllama, spawn: Spawn) -> None:
    fleet_server.fault(Fault.SLOW_TOKENS, model="phi4", after=2)
    process = spawn("ask", "--model", "phi4", "a rather long task")
    assert process.stdout is not None
    begun = process.stdout.read(4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert begun == b"phi4" and out.endswith(b"\n")
    assert err.endswith(b"cancelled\n") and b"Traceback" not in err
    fleet_server.wait_until(lambda server: server.cancelled == 1 and not server.in_flight)


def test_ctrl_c_during_a_load_is_clean_too(fleet_server: FakeOllama, spawn: Spawn) -> None:
    fleet_server.fault(Fault.SLOW_LOAD, model="phi4")
    process = spawn("ask", "--model", "phi4", "hello")
    fleet_server.wait_until(lambda server: server.loading is not None, LIMIT_S)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert b"Traceback" not in err
    fleet_server.wait_until(lambda server: not server.in_flight)


@pytest.mark.skipif("not installed" in available().reason, reason="the embedded engine is not installed")
def test_ctrl_c_while_the_embedded_model_is_fetched_ends_the_download(spawn: Spawn, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        cache = {"LLM_ROUTER_CACHE_DIR": str(tmp_path), "PIP_NO_CACHE_DIR": "1", "PIP_NO_INDEX": "0"}
        process = spawn("ask", "hello", env=cache | {"OLLAMA_HOST": "127.0.0.1:9", "PIP_INDEX_URL": index})
        connection, _ = silent.accept()  # pip is asking, and nobody will ever answer
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        with connection:
            while connection.recv(4096):
                pass
    assert process.returncode == 130
    assert err.endswith(b"cancelled\n") and b"Traceback" not in err
    assert list((tmp_path / "models").iterdir()) == []


def test_sigterm_cancels_the_generation(fleet_server: FakeOllama, spawn: Spawn) -> None:
    fleet_server.fault(Fault.SLOW_TOKENS, model="phi4", after=2)
    process = spawn("ask", "--model", "phi4", "a rather long task")
    assert process.stdout is not None
    process.stdout.read(4)
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 143
    assert b"Traceback" not in err
    fleet_server.wait_until(lambda server: server.cancelled == 1 and not server.in_flight)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_decisions_come_as_the_requests_do_and_a_signal_ends_the_wait(
    fleet_server: FakeOllama, spawn: Spawn, number: signal.Signals, code: int
) -> None:
    process = spawn("route", "--requests", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for _ in range(2):
        process.stdin.write(body(JSON_TASK) + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["answer_model"] == "qwen2.5:14b"
    process.send_signal(number)
    assert process.wait(LIMIT_S) == code
    assert process.stderr is not None and b"Traceback" not in process.stderr.read()


def test_ctrl_c_while_the_task_is_typed(spawn: Spawn, fleet_server: FakeOllama) -> None:
    process = spawn("ask", "-", stdin=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"})
    _wait_for_blocked_read(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_S) == 130
    assert process.stderr is not None and process.stderr.read() == b"cancelled\n"


def _wait_for_blocked_read(pid: int) -> None:
    """Until the process sleeps in a read of its stdin; Linux says so."""
    where = Path(f"/proc/{pid}/wchan")
    if not where.exists():
        pytest.skip("only Linux tells what a process waits for")
    for _ in range(100_000):
        if "pipe" in where.read_text(encoding="ascii"):
            return
        os.sched_yield()
    pytest.skip("this kernel does not tell what a process waits for")


def test_ten_thousand_lines_are_ten_thousand_decisions_in_order(
    fleet_server: FakeOllama, finish: Finish
) -> None:
    names = ("phi4", "gemma2:9b", "mistral:7b")
    lines = [json.dumps({"model": names[i % 3], "prompt": "2+2"}).encode() for i in range(10_000)]
    lines[5_000] = b"{broken"
    done = finish("route", "--requests", "-", stdin=b"\n".join(lines))
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(told)) == (1, 10_000)
    assert told[5_000]["line"] == 5_001
    for index, decision in enumerate(told):
        assert index == 5_000 or decision["answer_model"] == names[index % 3], index
    assert done.stderr.startswith(b"warning: 1 of 10,000 lines are no requests")


def test_a_reader_that_has_enough_ends_the_run_quietly(
    fleet_server: FakeOllama, spawn: Spawn, folder: Path
) -> None:
    file = folder / "requests.jsonl"
    file.write_bytes((body("2+2") + b"\n") * 3_000)
    process = spawn("route", "--requests", str(file))
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["category"]
    process.stdout.close()
    assert process.wait(LIMIT_S) == 0
    assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk to write to")
@pytest.mark.parametrize("arguments", [["models"], ["route", "--json", "hi"], ["ask", "-q", "hi"]])
def test_a_full_disk_is_one_line(fleet_server: FakeOllama, spawn: Spawn, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = spawn(*arguments, stdout=full.fileno())
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert err == b"error: cannot write the output: No space left on device\n"


def on_a_terminal(spawn: Spawn, *arguments: str, env: dict[str, str] | None = None) -> bytes:
    """What the command writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    process = spawn(
        *arguments,
        env={"TERM": "xterm-256color", "COLUMNS": "100", **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    told = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not piece:
            break
        told += piece
    os.close(ours)
    process.wait(LIMIT_S)
    return told


def test_a_terminal_gets_colours_and_its_cursor_back(fleet_server: FakeOllama, spawn: Spawn) -> None:
    told = on_a_terminal(spawn, "ask", JSON_TASK)
    assert COLOUR.search(told)
    assert "─" * 100 in told.decode()
    assert told.rfind(b"\x1b[?25h") > told.rfind(b"\x1b[?25l") >= 0


def test_the_moving_line_is_gone_before_anything_is_said(no_server: str, spawn: Spawn) -> None:
    told = on_a_terminal(spawn, "ask", "hello")
    moving, _, _ = told.partition(b"no answer from ollama")
    assert b"deciding" in moving
    assert b"\x1b[2K" in moving[moving.rfind(b"deciding") :], "the line was not erased"


def test_a_terminal_is_told_what_is_waited_for_and_how_long(fleet_server: FakeOllama, spawn: Spawn) -> None:
    fleet_server.fault(Fault.SLOW_LOAD, model="phi4")
    ours, theirs = pty.openpty()
    process = spawn("ask", "--model", "phi4", "hello", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    while b"loading phi4 on ollama, 1 s (" not in told:
        told += os.read(ours, 65536)
    fleet_server.release()
    while b"phi4 heard: hello" not in told:
        told += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(LIMIT_S) is not None


def test_a_file_is_told_nothing_of_the_wait(fleet_server: FakeOllama, spawn: Spawn) -> None:
    fleet_server.fault(Fault.SLOW_LOAD, model="phi4")
    process = spawn("ask", "--model", "phi4", "hello")
    fleet_server.wait_until(lambda server: server.loading is not None, LIMIT_S)
    fleet_server.release()
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0 and out == b"phi4 heard: hello\n"
    assert b"loading phi4" not in err and b"waiting" not in err


@pytest.mark.parametrize(
    ("arguments", "env"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})]
)
def test_no_colour_means_none(
    fleet_server: FakeOllama, spawn: Spawn, arguments: list[str], env: dict[str, str]
) -> None:
    told = on_a_terminal(spawn, *arguments, "ask", JSON_TASK, env=env)
    told += on_a_terminal(spawn, *arguments, "models", env=env)
    told += on_a_terminal(spawn, *arguments, "ask", "--model", "phi5", "hello", env=env)
    assert b"qwen2.5:14b heard" in told and b"error: unknown model" in told
    assert not COLOUR.search(told)


def test_an_answer_cannot_steer_the_terminal(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOllama(reply=lambda _: "a\x1b]0;owned\x07b\x9bc").in_thread() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        told = on_a_terminal(spawn, "ask", "-q", "--model", "phi4", "hello")
    assert told.strip() == b"a]0;ownedbc"
