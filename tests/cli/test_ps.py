"""``llm-router ps`` without a gateway, what it shows at which width, and the watch that Ctrl-C ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
from rich.console import Console
from tests.cli.conftest import LIMIT_S, Invoke, Spawn

from llm_router.cli.ps import block
from llm_router.hosts.told import (
    HostsTold,
    HostTold,
    LoadingTold,
    LoadsRest,
    LoadWaiting,
    ModelRests,
    ModelUnusable,
    ResidentTold,
    SpeedTold,
)
from llm_router.testing.fake_ollama import FakeOllama

NOW_S = 1_795_608_000.0
"""2026-11-25 12:00 UTC"""


@pytest.fixture(autouse=True)
def no_gateway(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("LLM_ROUTER_SERVE__PORT", "9")


def resident(name: str, size_gb: float | None, **more: Any) -> ResidentTold:
    told: dict[str, Any] = {
        "context_length": 8192,
        "expires_at": None,
        "kept": False,
        "running": 0,
        "waiting": 0,
    }
    return ResidentTold(name=name, size_gb=size_gb, **(told | more))


def spark(**more: Any) -> HostTold:
    told: dict[str, Any] = {
        "name": "spark-1",
        "kind": "ollama",
        "url": "http://spark-1:11434",
        "reachable": True,
        "problem": None,
        "version": "0.33.0",
        "usable_memory_gb": 112.0,
        "age_s": 0.5,
        "resident": (
            resident("gpt-oss:20b", 20.4, expires_at="2026-11-25T13:00:00Z", running=1, waiting=2),
            resident("qwen2.5:14b", 12.2, expires_at="2318-01-01T00:00:00.123456789Z"),
            resident(
                "a-model-with-a-rather-long-name:14b-instruct-q4_K_M", 9.0, expires_at="2026-11-25T12:00:30Z"
            ),
            resident("llama3.2:1b", 1.4, kept=True),
        ),
        "queues_known": True,
        "loading": LoadingTold(model="qwen2.5:72b", left_s=18.2, waiting=3),
        "loads_waiting": (LoadWaiting(model="solar", waiting=1),),
        "demand_per_hour": {"gpt-oss:20b": 42.0, "qwen2.5:14b": 11.5},
        "kept": ("llama3.2:1b",),
    }
    return HostTold(**(told | more))


def shown(*hosts: HostTold, width: int = 80, colour: bool = False, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=file, width=width, force_terminal=colour, highlight=False, markup=False)
    return block(HostsTold(hosts=hosts), console, "the gateway at http://127.0.0.1:11435", now_s=NOW_S)


def test_a_host_at_80_columns() -> None:
    assert (
        shown(spark())
        == """\
Told by the gateway at http://127.0.0.1:11435

spark-1  Ollama 0.33.0 at http://spark-1:11434
  memory    ███████████████░░░░░░░░░░░░░░░░░░░░░░░  43.0 of 112 GB, 69.0 GB free
  loading   qwen2.5:72b, ≈ 18 s left, 3 wait
  then      solar (1 waits)
  demand    gpt-oss:20b 42, qwen2.5:14b 11.5 an hour
  model                               size  context  leaves     running  waiting
  gpt-oss:20b                        20 GB    8,192  in 60 min        1        2
  qwen2.5:14b                        12 GB    8,192  never
  a-model-with-a-rather-long-name:  9.0 GB    8,192  in 30 s
  14b-instruct-q4_K_M
  llama3.2:1b                       1.4 GB    8,192  kept"""
    )


def test_speeds_say_what_was_measured() -> None:
    speed = SpeedTold(
        model="gpt-oss:20b",
        load_gb_per_s=2.26,
        load_samples=1,
        prefill_tokens_per_s=3224.0,
        prefill_samples=0,
        decode_tokens_per_s=8.26,
        decode_samples=12,
    )
    text = shown(spark(speeds=(speed,)), width=120)
    assert (
        "  speeds    gpt-oss:20b writes 8.3 tokens/s (12 measured), reads 3,224 (prior), "
        "loads 2.3 GB/s (1 measured)" in text
    )


def test_what_rests_says_why_and_when_it_is_tried_again() -> None:
    text = shown(
        spark(
            loads_rest=LoadsRest(why="loads may hang there: nothing came for 300 s", left_s=238.4),
            resting=(
                ModelRests(model="phi4", why="failed 3 times in a row, last: no memory", left_s=24.2),
                ModelRests(model="smollm2", why="it could not be fetched", left_s=None),
            ),
            unusable=(ModelUnusable(model="mllama", why="unknown model architecture"),),
        ),
        width=100,
    )
    assert text.endswith(
        """
  resting   loads may hang there: nothing came for 300 s; the next one is tried in 238 s
            phi4 for 24 s more: failed 3 times in a row, last: no memory
            smollm2: it could not be fetched
  unusable  mllama: unknown model architecture"""
    )


@pytest.mark.parametrize("width", [34, 50, 63, 64, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = shown(spark(), spark(name="spark-2", reachable=False, problem="connection refused"), width=width)
    lines = text.splitlines()[1:]
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in text
    for name in ("gpt-oss:20b", "qwen2.5:72b", "solar", "llama3.2:1b"):
        assert name in text
    assert re.sub(r"\s+", "", text).count("connectionrefused") == 1


def test_colour_only_where_it_is_wanted() -> None:
    text = shown(spark(), colour=True)
    assert "\x1b[32m███" in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", text) == shown(spark())


def test_a_terminal_without_block_characters_gets_others() -> None:
    line = next(line for line in shown(spark(), encoding="ascii").splitlines() if "memory" in line)
    assert "#" * 15 + "." * 23 in line


@pytest.mark.parametrize(
    ("size_gb", "told", "filled"),
    [
        (0.05, "0.1 of 112 GB, 112.0 GB free", 1),
        (112.0, "112.0 of 112 GB, 0.0 GB free", 38),
        (120.0, "8.0 GB too much", 32),
    ],
)
def test_the_bar_is_never_empty_by_rounding_and_never_too_long(
    size_gb: float, told: str, filled: int
) -> None:
    text = shown(spark(resident=(resident("x", size_gb),)))
    line = next(line for line in text.splitlines() if "memory" in line)
    assert told in line and line.count("█") >= filled - 6
    assert len(line) <= 80
    if size_gb > 112:
        assert "░" not in line


def test_what_nobody_knows_is_not_shown_as_nothing() -> None:
    model = resident("phi4", None, context_length=None, running=None, waiting=None)
    text = shown(
        spark(resident=(model,), queues_known=False, loading=None, loads_waiting=(), demand_per_hour={})
    )
    assert "running" not in text and "loading" not in text and "demand" not in text
    assert re.search(r"phi4 +\? +\? +\?$", text, re.MULTILINE)


def test_an_old_look_says_how_old_and_control_characters_do_nothing() -> None:
    text = shown(spark(age_s=12.4, name="sp\x1bark", resident=()))
    assert "seen 12 s ago" in text
    assert "\x1b" not in text
    assert "none in memory" in text


def test_without_a_gateway_it_looks_itself_and_says_what_is_missing(
    invoke: Invoke, fleet_server: FakeOllama
) -> None:
    result = invoke("ps")
    assert result.exit_code == 0, result.stderr
    assert "no gateway answers at http://127.0.0.1:9" in result.stderr
    assert "queues are known to a running gateway only" in result.stderr
    assert result.stdout.startswith(
        "Told by the hosts themselves\n\nollama  Ollama 0.33.0 at http://127.0.0.1:"
    )
    assert "none in memory" in result.stdout
    told = json.loads(invoke("ps", "--json").stdout)
    assert [host["queues_known"] for host in told["hosts"]] == [False]


def test_a_host_that_is_down_is_shown_as_such(invoke: Invoke, no_server: str) -> None:
    result = invoke("ps")
    assert result.exit_code == 0
    assert f"ollama  does not answer at {no_server}: connection refused" in result.stdout


def test_a_gateway_that_was_named_and_is_silent_is_an_error(invoke: Invoke, fleet_server: FakeOllama) -> None:
    result = invoke("ps", "--gateway", "127.0.0.1:9")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "llm-router serve" in result.stderr


@pytest.mark.parametrize("address", ["", "ftp://box", "http://", "a b", "box:port", "http://box:99999"])
def test_an_address_that_is_none(invoke: Invoke, address: str) -> None:
    result = invoke("ps", "--gateway", address)
    assert result.exit_code == 2
    assert "as the address of a gateway" in result.stderr


def test_a_port_that_nobody_knows_is_told(
    invoke: Invoke, fleet_server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ROUTER_SERVE__PORT", "0")
    result = invoke("ps")
    assert result.exit_code == 0
    assert "name the gateway with --gateway" in result.stderr


def lines_until(stream: IO[bytes], wanted: int, found: bytes) -> list[bytes]:
    """Everything up to the line with which so many lines have ``found``."""
    lines: list[bytes] = []
    while sum(found in line for line in lines) < wanted:
        line = stream.readline()
        assert line, b"".join(lines)
        lines.append(line)
    return lines


@pytest.mark.parametrize("as_json", [False, True])
def test_a_watch_goes_on_until_ctrl_c_which_is_no_failure(
    spawn: Spawn, fleet_server: FakeOllama, as_json: bool
) -> None:
    process = spawn("ps", "--watch", *(["--json"] if as_json else []))
    assert process.stdout is not None and process.stderr is not None
    begun_s = time.monotonic()
    lines = lines_until(process.stdout, 2, b'{"hosts"' if as_json else b"Told by")
    assert time.monotonic() - begun_s < LIMIT_S
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert err.count(b"no gateway answers") == 1, "told once, not every second"
    assert b"Traceback" not in err and b"cancelled" not in err
    if as_json:
        for line in (*lines, *rest.splitlines()):
            msgspec.json.decode(line, type=HostsTold)
    else:
        assert re.match(rb"\d\d:\d\d:\d\d  Told by", lines[0])


def test_a_watch_ends_with_its_reader(spawn: Spawn, fleet_server: FakeOllama) -> None:
    process = spawn("ps", "--watch", "--json")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=LIMIT_S) == 0
    assert b"Traceback" not in process.stderr.read()


def test_a_watch_on_a_terminal_is_drawn_over_and_leaves_it_in_order(
    spawn: Spawn, fleet_server: FakeOllama
) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = spawn("ps", "--watch", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while seen.count(b"Told by") < 2:
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=LIMIT_S) == 0
    assert b"\x1b[1A\x1b[2K" in seen, "lines are taken back before they are drawn again"
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is shown again"
    assert b"Traceback" not in seen
