"""Every wrong input is one clear line, one hint and the right exit code."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

from llm_router.cli.ending import ending
from llm_router.testing.fake_ollama import FakeOllama

PNG = b"\x89PNG\r\n\x1a\n"


def told(stderr: str) -> tuple[str, str]:
    """The error and the hint of a command that said nothing else."""
    error, hint = stderr.splitlines()
    assert error.startswith("error: ") and hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_task(invoke: Invoke, text: str) -> None:
    result = invoke("ask", text)
    assert result.exit_code == 2
    assert told(result.stderr) == ("nothing to do: the task is empty", "say what you want done")


@pytest.mark.parametrize("option", ["--file", "--image"])
def test_a_missing_file(invoke: Invoke, option: str) -> None:
    result = invoke("ask", option, "nowhere.x", "hello")
    assert result.exit_code == 2
    assert told(result.stderr)[0] == "cannot read nowhere.x: No such file or directory"


def test_a_folder_in_place_of_a_file(invoke: Invoke, folder: Path) -> None:
    assert "Is a directory" in told(invoke("ask", "--file", str(folder), "hello").stderr)[0]


def test_a_picture_of_50_mb(invoke: Invoke, folder: Path) -> None:
    picture = folder / "big.png"
    with picture.open("wb") as file:
        file.write(PNG)
        file.truncate(50 * 1024 * 1024)
    result = invoke("ask", "--image", str(picture), "hello")
    assert result.exit_code == 2
    assert "it has 52 MB, the limit is 21 MB" in told(result.stderr)[0]


def test_an_empty_picture(invoke: Invoke, folder: Path) -> None:
    picture = folder / "empty.png"
    picture.touch()
    error, hint = told(invoke("ask", "--image", str(picture), "hello").stderr)
    assert (
        error == f"cannot use {picture}: it is empty" and hint == "check that the picture was written whole"
    )


@pytest.mark.crewai
def test_a_folder_in_place_of_a_drawing(invoke: Invoke, folder: Path) -> None:
    result = invoke("plot", "--out", str(folder))
    assert result.exit_code == 2
    assert told(result.stderr) == (f"cannot write {folder}: it is a directory", "name a file in it")


def test_lines_that_are_no_requests_are_told_with_where_to_look(
    fleet_server: FakeOllama, invoke: Invoke, folder: Path
) -> None:
    file = folder / "requests.jsonl"
    file.write_bytes(b'{"prompt": "hi"}\nnot json\n\xff\xfe\n')
    result = invoke("route", "--requests", str(file))
    warning, hint = result.stderr.splitlines()
    assert result.exit_code == 1
    assert warning.startswith("warning: 2 of 3 lines are no requests")
    assert hint == "hint: each of them has its error in its place in the output"


RESET = b"reset"
"""Stands for a server that breaks the connection off, as one does that waits for a secure greeting."""

COMMANDS_THAT_NEED_A_HOST = {
    "models": (["models"], 0),
    "categories": (["categories"], 0),
    "init": (["init"], 1),
    "pull": (["pull", "phi4"], 1),
    "ask": (["ask", "-q", "What's 2+2?"], 3),
}


@pytest.mark.parametrize("command", COMMANDS_THAT_NEED_A_HOST)
@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("{url}/wrong/path", "check address and port, and a proxy in between"),
        ("https://{place}", "give the address with http:// where the server has no certificate"),
        ("http://127.0.0.1:9", "start it with: ollama serve; or set OLLAMA_HOST to its address"),
    ],
)
def test_the_hint_about_a_host_fits_what_is_found_there(
    fleet_server: FakeOllama,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    address: str,
    hint: str,
) -> None:
    place = fleet_server.url.removeprefix("http://")
    monkeypatch.setenv("OLLAMA_HOST", address.format(url=fleet_server.url, place=place))
    arguments, exit_code = COMMANDS_THAT_NEED_A_HOST[command]
    result = invoke(*arguments)
    assert result.exit_code == exit_code
    assert result.stderr.splitlines()[-1].startswith(f"hint: {hint}")


@pytest.mark.parametrize("command", ["init", "ask"])
@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (b"", "check address and port, and give it with https://"),
        (RESET, "check address and port, and give it with https://"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "check address and port, and give it with https://"),
        (
            b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"
            b"Client sent an HTTP request to an HTTPS server.\n",
            "check address and port, and give it with https://",
        ),
        (
            b'HTTP/1.0 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n{"error": "no key"}',
            "check its key and allowed hosts",
        ),
    ],
    ids=["closed", "reset", "a TLS alert", "told in words", "no key"],
)
def test_the_hint_fits_a_server_that_wants_a_secure_connection_or_a_key(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: str, reply: bytes, hint: str
) -> None:
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if reply == RESET:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.request.recv(1)
                self.request.close()
                return
            self.request.recv(65536)
            self.request.sendall(reply)

    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{other.server_address[1]}")
            arguments, exit_code = COMMANDS_THAT_NEED_A_HOST[command]
            result = invoke(*arguments)
        finally:
            other.shutdown()
            thread.join()
    assert result.exit_code == exit_code
    assert result.stderr.splitlines()[-1].startswith(f"hint: {hint}")


def test_a_text_in_place_of_a_picture(invoke: Invoke, folder: Path) -> None:
    text = folder / "a.txt"
    text.write_text("hello", encoding="utf-8")
    error, hint = told(invoke("ask", "--image", str(text), "hello").stderr)
    assert "it is not a PNG" in error and hint == "for text files use --file"


def test_a_picture_in_place_of_a_text(invoke: Invoke, folder: Path) -> None:
    picture = folder / "a.png"
    picture.write_bytes(PNG + b"\0\0")
    error, hint = told(invoke("ask", "--file", str(picture), "hello").stderr)
    assert "it is not a text file" in error and hint == "for pictures use --image"


@pytest.mark.parametrize("command", ["ask", "route", "explain"])
@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("words", [(), ("Summarise this",)])
def test_an_empty_file_is_no_task_and_belongs_to_none(
    invoke: Invoke, folder: Path, command: str, data: bytes, words: tuple[str, ...]
) -> None:
    file = folder / "empty.txt"
    file.write_bytes(data)
    result = invoke(command, "--file", str(file), *words)
    assert result.exit_code == 2 and not result.stdout
    assert told(result.stderr) == (
        "cannot use empty.txt: it is empty",
        "check that the file was written whole, or leave it out",
    )


def test_a_text_that_is_not_utf_8_names_the_line(invoke: Invoke, folder: Path) -> None:
    text = folder / "latin1.txt"
    text.write_bytes("first\nd\xe9j\xe0 vu\n".encode("latin-1"))
    assert "line 2 is not UTF-8 (byte 0xe9)" in told(invoke("ask", "--file", str(text), "hello").stderr)[0]


def test_a_pipe_that_is_not_utf_8(invoke: Invoke) -> None:
    assert "cannot use stdin: line 1 is not UTF-8" in told(invoke("ask", stdin=b"\xff\xfe").stderr)[0]


def test_a_text_that_is_too_large(invoke: Invoke, folder: Path) -> None:
    text = folder / "large.txt"
    with text.open("wb") as file:
        file.truncate(9 * 1024 * 1024)
    assert "it has more than 8 MB of text" in told(invoke("ask", "--file", str(text), "hello").stderr)[0]


def test_an_argument_that_is_not_utf_8(invoke: Invoke) -> None:
    assert told(invoke("ask", "caf\udce9").stderr)[0] == "cannot use the text: it is not UTF-8"


@pytest.mark.parametrize("option", ["--config", "--fleet"])
def test_a_file_that_is_not_yaml(invoke: Invoke, folder: Path, option: str) -> None:
    file = folder / "bad.yaml"
    file.write_text("a: [1\nb: 2\n", encoding="utf-8")
    result = invoke(option, str(file), "route", "hello")
    assert result.exit_code == 2
    assert told(result.stderr)[0].startswith(f"{file}:2: not valid YAML")


@pytest.mark.parametrize("option", ["--config", "--fleet"])
def test_a_settings_or_fleet_file_that_is_not_there(invoke: Invoke, option: str) -> None:
    result = invoke(option, "nowhere.yaml", "models")
    assert result.exit_code == 2
    assert told(result.stderr)[0] == "nowhere.yaml: cannot read the file: No such file or directory"


def test_a_misspelt_setting_has_file_line_and_the_nearest_name(invoke: Invoke, folder: Path) -> None:
    file = folder / "config.yaml"
    file.write_text("routing:\n  stand_inn: never\n", encoding="utf-8")
    error, hint = told(invoke("--config", str(file), "config", "show").stderr)
    assert error == f"{file}:2: unknown key 'stand_inn' in routing"
    assert hint == "did you mean 'stand_in'?"


def test_a_wrong_address(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://localhost:notaport")
    result = invoke("models")
    assert result.exit_code == 2
    assert "http://localhost:notaport" in told(result.stderr)[0]


def test_something_that_is_not_ollama_behind_the_port(
    fleet_server: FakeOllama, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"{fleet_server.url}/wrong/path")
    result = invoke("ask", "hello")
    assert result.exit_code in (2, 3)
    assert "Traceback" not in result.stderr and result.stderr.count("error: ") == 1


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["rout"], "no such command 'rout'", "did you mean 'route'?"),
        (["frobnicate"], "no such command 'frobnicate'", "see: llm-router --help"),
        (["ask", "--modle", "x"], "no such option '--modle'", "did you mean '--model'?"),
        (
            ["ask", "--config", "x"],
            "no such option '--config'",
            "--config goes before the command: llm-router --config FILE ask …",
        ),
        (
            ["route", "--no-color"],
            "no such option '--no-color'",
            "--no-color goes before the command: llm-router --no-color route …",
        ),
        (["ask", "-5"], "no such option '-5'", 'if it belongs to the text: llm-router ask -- "-5 …"'),
        (["ask", "--model"], "option '--model' requires an argument", "see: llm-router ask --help"),
        (
            ["ask", "--max-tokens", "0", "x"],
            "invalid value for '--max-tokens': 0 is not in the range x>=1",
            "see: llm-router ask --help",
        ),
        (
            ["ask", "--temperature", "hot", "x"],
            "invalid value for '--temperature': 'hot' is not a number",
            "see: llm-router ask --help",
        ),
        (["config", "shwo"], "no such command 'shwo'", "did you mean 'show'?"),
        (["models", "extra"], "got unexpected extra argument (extra)", "see: llm-router models --help"),
    ],
)
def test_a_wrong_command_line(invoke: Invoke, arguments: list[str], error: str, hint: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert told(result.stderr) == (error, hint)
    assert result.stdout == ""


def test_a_mistake_of_ours_is_one_line_and_a_way_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(RuntimeError("two\nlines")) == 1
    error, hint = told(capsys.readouterr().err)
    assert error == "internal: RuntimeError: two"
    assert "LLM_ROUTER_DEBUG=1" in hint


def test_debug_shows_where_a_mistake_of_ours_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ROUTER_DEBUG", "1")
    assert ending(RuntimeError("boom")) == 1
    assert "RuntimeError: boom\nerror: internal: " in capsys.readouterr().err
